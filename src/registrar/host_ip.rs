//! The address other hosts reach a published port at. Pure.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
};

use crate::{
    address::{Host, HostPort, port_number},
    docker::Binding,
    report,
};

/// What the operator says of the address other hosts reach this host at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostIp {
    /// `--host-ip`: used whatever is published.
    pub(crate) chosen: Option<IpAddr>,
    /// `--interface`: whose address is chosen.
    pub(crate) interface: Option<String>,
    /// Used for ports published everywhere.
    pub(crate) ambient: Option<Ambient>,
}

/// The address of this host, as its environment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ambient {
    pub(crate) ip: IpAddr,
    /// `HOST_IP` or `COREOS_PRIVATE_IPV4`.
    pub(crate) variable: &'static str,
}

impl HostIp {
    /// The rule by which `address` was taken, for a reader.
    pub(crate) fn rule(&self, host: &Host) -> String {
        let is = |ip: IpAddr| Host::from(ip) == *host;
        match (self.chosen, &self.interface, self.ambient) {
            (Some(ip), Some(_), _) if is(ip) => "the host is the address of --interface".to_owned(),
            (Some(ip), None, _) if is(ip) => "the host is what --host-ip says".to_owned(),
            (_, _, Some(Ambient { ip, variable })) if is(ip) => {
                format!("the host is what {variable} says")
            }
            _ => "the host is the published address".to_owned(),
        }
    }

    /// The address of a port that is published on every interface; `None` if nobody says it.
    pub(crate) fn everywhere(&self) -> Option<IpAddr> {
        let ambient = self.ambient.map(|ambient| ambient.ip);
        self.chosen.or(ambient.filter(|ip| !ip.is_unspecified() && !ip.is_loopback()))
    }

    /// Whether `bindings` are of loopback alone, and another address was chosen.
    pub(super) fn misses(&self, bindings: &[Binding]) -> bool {
        let ips: Vec<IpAddr> =
            bindings.iter().filter_map(|binding| binding.host_ip.parse().ok()).collect();
        let is_loopback = |ip: &IpAddr| ip.to_canonical().is_loopback();
        let is_private = ips.len() == bindings.len() && ips.iter().all(is_loopback);
        is_private && self.chosen.is_some_and(|chosen| !chosen.is_loopback())
    }

    /// The address other hosts reach a port at that is published at `bindings`;
    /// `None` while Docker does not say the port yet.
    ///
    /// The order of bindings is Docker's and differs between versions, so it
    /// decides nothing: IPv4 goes before IPv6, and lower addresses before higher.
    pub(super) fn address_of(&self, bindings: &[Binding]) -> Result<Option<HostPort>, String> {
        let mut published: Vec<(IpAddr, NonZeroU16)> = Vec::new();
        for Binding { host_ip, host_port } in bindings {
            if host_port.is_empty() || host_port == "0" {
                continue;
            }
            let ip = match host_ip.as_str() {
                "" => Ok(Ipv4Addr::UNSPECIFIED.into()),
                text => text.parse::<IpAddr>().map(|ip| ip.to_canonical()),
            };
            match (ip, port_number(host_port)) {
                (Ok(ip), Ok(port)) => published.push((ip, port)),
                _ => {
                    let address = report::excerpt(&format!("{host_ip}:{host_port}"));
                    return Err(format!("at {address}, which is no address"));
                }
            }
        }
        published.sort_unstable();
        let everywhere = |ip: &IpAddr| ip.is_unspecified();
        let at = |ip: IpAddr, port| Ok(Some(HostPort { host: ip.into(), port }));
        let Some(&(first_ip, first_port)) = published.first() else { return Ok(None) };

        if let Some(ip) = self.chosen {
            // The binding that serves this address, or the first: then the operator
            // knows of a way (NAT) that Docker does not.
            let same = published.iter().find(|(published, _)| *published == ip);
            let family = published.iter().find(|(published, _)| {
                everywhere(published) && published.is_ipv4() == ip.is_ipv4()
            });
            let port = same.or(family).map_or(first_port, |(_, port)| *port);
            return at(ip, port);
        }
        let own = published.iter().find(|(ip, _)| !everywhere(ip) && !ip.is_loopback());
        if let Some(&(ip, port)) = own {
            return at(ip, port);
        }
        let mut wildcards = published.iter().filter(|(ip, _)| everywhere(ip)).peekable();
        if wildcards.peek().is_none() {
            return Err(format!(
                "on {first_ip}, which only this host can reach; publish it on this host's \
                 address, or set --host-ip"
            ));
        }
        match self.everywhere() {
            Some(ip) => {
                let family = |(bound, _): &&(IpAddr, NonZeroU16)| bound.is_ipv4() == ip.is_ipv4();
                let port = wildcards.find(family).map_or(first_port, |(_, port)| *port);
                at(ip, port)
            }
            None => Err(format!(
                "on every address ({first_ip}), and which of them other hosts can reach is not \
                 known; set --host-ip (or HOST_IP)"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(text: &str) -> Vec<Binding> {
        text.split_whitespace()
            .map(|binding| {
                let (ip, port) = binding.rsplit_once('/').unwrap();
                Binding { host_ip: ip.to_owned(), host_port: port.to_owned() }
            })
            .collect()
    }

    fn address(published: &str, chosen: &str, ambient: &str) -> Result<Option<String>, String> {
        let ambient = ambient.parse().ok().map(|ip| Ambient { ip, variable: "HOST_IP" });
        let host_ip = HostIp { chosen: chosen.parse().ok(), interface: None, ambient };
        let address = host_ip.address_of(&bindings(published))?;
        Ok(address.map(|address| address.to_string()))
    }

    #[test]
    fn the_published_address_is_taken_when_others_can_reach_it() {
        for published in
            ["10.1.0.1/49155", "127.0.0.1/1 10.1.0.1/49155", "0.0.0.0/2 10.1.0.1/49155"]
        {
            assert_eq!(address(published, "", "10.9.9.9"), Ok(Some("10.1.0.1:49155".into())));
        }
        assert_eq!(address("fd00::1/80", "", ""), Ok(Some("[fd00::1]:80".into())));
    }

    #[test]
    fn a_port_published_everywhere_needs_the_hosts_address() {
        for published in ["0.0.0.0/80", "/80", "0.0.0.0/80 ::/81", "::/81 0.0.0.0/80"] {
            assert_eq!(address(published, "", "10.1.0.1"), Ok(Some("10.1.0.1:80".into())));
            assert_eq!(address(published, "10.1.0.2", ""), Ok(Some("10.1.0.2:80".into())));
            for ambient in ["", "0.0.0.0", "127.0.0.1"] {
                assert!(address(published, "", ambient).unwrap_err().contains("--host-ip"));
            }
        }
        assert_eq!(address("0.0.0.0/80 ::/81", "", "fd00::1"), Ok(Some("[fd00::1]:81".into())));
    }

    #[test]
    fn loopback_is_registered_only_when_the_operator_says_so() {
        for ambient in ["", "10.1.0.1"] {
            assert!(address("127.0.0.1/80", "", ambient).unwrap_err().contains("127.0.0.1"));
            // The same address, written as IPv6.
            assert!(address("::ffff:127.0.0.1/80", "", ambient).is_err());
        }
        assert_eq!(address("127.0.0.1/80", "127.0.0.1", ""), Ok(Some("127.0.0.1:80".into())));
    }

    #[test]
    fn a_chosen_address_takes_the_port_that_serves_it() {
        let published = "127.0.0.1/17001 0.0.0.0/17002 ::/17003";
        assert_eq!(address(published, "127.0.0.1", ""), Ok(Some("127.0.0.1:17001".into())));
        assert_eq!(address(published, "10.1.0.1", ""), Ok(Some("10.1.0.1:17002".into())));
        assert_eq!(address(published, "fd00::1", ""), Ok(Some("[fd00::1]:17003".into())));
    }

    #[test]
    fn a_port_that_is_not_there_yet_is_no_mistake() {
        assert_eq!(address("0.0.0.0/", "", ""), Ok(None));
        assert_eq!(address("10.1.0.1/0", "", ""), Ok(None));
        assert!(address("10.1.0.1/70000", "", "").is_err());
        assert!(address("nonsense/80", "", "").is_err());
        let long = "nonsense".repeat(1000);
        assert!(address(&format!("{long}/80"), "", "").unwrap_err().len() < 300);
    }
}
