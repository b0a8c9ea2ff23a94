//! What must hold of an entry, whatever Docker says of its container.

use std::{collections::HashSet, net::IpAddr, num::NonZeroU16, str};

use super::{
    all::{Reach, Rules},
    host_ip::{Ambient, HostIp},
    one::One,
    wanted::{Source, Target, Verdict},
};
use crate::{
    address::Host,
    docker::{self, Container},
    property::{assert_is_an_excerpt, assert_is_one_line, first_line},
    service::{Format, Instance},
};

/// An entry has an address that others can reach and reads back as it, and where there is
/// none the reason is one line. The first line of the input is what `--host-ip` and
/// `HOST_IP` say, the rest Docker's inspection.
pub fn verdict(data: &[u8]) {
    let (steering, inspection) = first_line(data);
    let Ok(container) = serde_json::from_slice::<Container>(inspection) else { return };
    let steering = String::from_utf8_lossy(steering);
    let (chosen, ambient) = steering.split_once(' ').unwrap_or((&steering, ""));
    // As the command line takes them.
    let ip = |text: &str| {
        let ip = text.parse::<IpAddr>().ok()?.to_canonical();
        (!ip.is_unspecified()).then_some(ip)
    };
    let ambient = ip(ambient).map(|ip| Ambient { ip, variable: "HOST_IP" });
    let host_ip = HostIp { chosen: ip(chosen), interface: None, ambient };
    let port = NonZeroU16::new(6379).expect("not 0");
    let one = One {
        container: "redis".to_owned(),
        port,
        service: "redis-A".parse().expect("a valid name"),
        instance: None,
        attributes: Vec::new(),
        host_ip: host_ip.clone(),
    };
    let target = Target {
        prefix: "/services".parse().expect("a valid prefix"),
        formats: vec![Format::Ambassador],
        source: Source::Container { one: one.clone(), docker: docker::Address::default() },
    };

    match one.judge(&target, Some(&container), "").verdict {
        Verdict::Present { wanted, .. } => {
            let [wanted] = &wanted[..] else { panic!("one format, {} entries", wanted.len()) };
            let instance = wanted.value.parse::<Instance>().expect("what is written is read");
            assert_eq!(instance.address, wanted.address);
            match host_ip.chosen {
                Some(ip) => assert_eq!(wanted.address.host, Host::from(ip)),
                None => assert!(!wanted.address.host.is_loopback(), "{}", wanted.address),
            }
            let published = container.bindings(port.get()).unwrap_or_default();
            let port = wanted.address.port.to_string();
            assert!(published.iter().any(|binding| binding.host_port == port), "{port}");
            assert!(container.state.running && !container.state.paused);
        }
        Verdict::Absent(why) | Verdict::Mistake(why) | Verdict::Unreachable(why) => {
            assert_is_an_excerpt(&why);
        }
        Verdict::NotYet => {}
    }
}

/// Every container of a host gets entries with keys of one service and one instance each, no
/// key is given twice, and every reason is one line. The first line of the input says with
/// `i` that containers are reached at their own addresses, with `e` that they have to ask; each
/// other line is an inspection.
pub fn host(data: &[u8]) {
    let (steering, inspections) = first_line(data);
    let lines = inspections.split(|&byte| byte == b'\n');
    let containers: Vec<Container> =
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let chosen = Some(IpAddr::from([10, 1, 0, 1]));
    let reach = match steering.contains(&b'i') {
        true => Reach::Internal { network: None },
        false => Reach::Published(HostIp { chosen, ..HostIp::default() }),
    };
    let rules = Rules { explicit: steering.contains(&b'e'), allowed: Vec::new(), reach };
    let target = Target {
        prefix: "/services".parse().expect("a valid prefix"),
        formats: vec![Format::Registrator, Format::Skydns],
        source: Source::Host { rules, docker: docker::Address::default() },
    };
    let mut keys = HashSet::new();
    for judged in target.judge(&containers, "core-01") {
        match judged.verdict {
            Verdict::Present { wanted, rule } => {
                assert_is_one_line(&rule);
                for wanted in wanted {
                    let depth = if wanted.key.starts_with("/skydns/") { 5 } else { 3 };
                    assert_eq!(wanted.key.matches('/').count(), depth, "{}", wanted.key);
                    let parts = wanted.key.split('/').skip(1);
                    let is_plain = |part: &str| !part.is_empty() && !part.starts_with(['.', '_']);
                    assert!(parts.into_iter().all(is_plain), "{}", wanted.key);
                    let instance =
                        wanted.value.parse::<Instance>().expect("what is written is read");
                    assert_eq!(instance.address, wanted.address);
                    assert!(keys.insert(wanted.key.clone()), "{} is given twice", wanted.key);
                }
            }
            Verdict::Absent(why) | Verdict::Mistake(why) | Verdict::Unreachable(why) => {
                assert_is_one_line(&why);
                assert!(why.len() < 8 * 1024, "{why}");
            }
            Verdict::NotYet => {}
        }
    }
}
