//! Judges every container of a host, by registrator's rules. Pure.
//!
//! Source: gliderlabs/registrator, "Services" and "Run Reference"; what it writes to etcd.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use wildmatch::WildMatch;

use super::{
    host_ip::HostIp,
    metadata::Metadata,
    wanted::{Judged, Target, Verdict, Wanted, instance_name},
};
use crate::{
    address::HostPort,
    docker::{Binding, Container, Port, Protocol},
    report,
    service::{Format, Invalid, MAX_VALUE_BYTES, Registration, ServiceName},
};

/// What is registered of a host's containers.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Only containers that ask for it by a name.
    pub(crate) explicit: bool,
    /// The services that may be registered; none means all.
    pub(crate) allowed: Vec<WildMatch>,
    pub(crate) reach: Reach,
}

/// At which address a container is reached.
#[derive(Debug, Clone)]
pub(crate) enum Reach {
    /// At its published ports.
    Published(HostIp),
    /// At its own address, in this network or in the one it was started in.
    Internal { network: Option<String> },
}

/// One port that may be registered.
#[derive(Debug)]
struct Candidate<'a> {
    container: &'a Container,
    port: Port,
    /// Where the port is published.
    bindings: &'a [Binding],
    /// Whether the container has several such ports.
    is_one_of_many: bool,
    host_name: &'a str,
}

impl Rules {
    /// Judges every port of `containers`, which run on the host called `host_name`.
    pub(super) fn judge(
        &self,
        target: &Target,
        containers: &[Container],
        host_name: &str,
    ) -> Vec<Judged> {
        // Who started last gets a key that several ask for.
        let mut containers: Vec<&Container> = containers.iter().collect();
        containers.sort_by_cached_key(|container| {
            (Reverse(container.state.started_ns()), container.name().to_owned())
        });
        let mut owners: HashMap<String, String> = HashMap::new();
        let mut judged = Vec::new();
        for container in containers {
            for (port, mut verdict) in self.judge_container(target, container, host_name) {
                if let Verdict::Present { wanted, .. } = &verdict {
                    let taken = wanted.iter().find_map(|w| Some((&w.key, owners.get(&w.key)?)));
                    if let Some((key, owner)) = taken {
                        verdict = Verdict::Mistake(format!(
                            "container {} asks for {key}, which is container {owner}'s",
                            shown(container)
                        ));
                    } else {
                        let owned = wanted.iter().map(|w| w.key.clone());
                        owners.extend(owned.map(|key| (key, shown(container))));
                    }
                }
                judged.push(Judged { container: container.name().to_owned(), port, verdict });
            }
        }
        judged.sort_by(|a, b| (&a.container, a.port).cmp(&(&b.container, b.port)));
        judged
    }

    fn judge_container(
        &self,
        target: &Target,
        container: &Container,
        host_name: &str,
    ) -> Vec<(Option<Port>, Verdict)> {
        let name = shown(container);
        if let Some(obstacle) = container.state.obstacle() {
            return vec![(None, Verdict::Absent(format!("container {name} {obstacle}")))];
        }
        // Without a network of its own, what it listens on is its host's.
        let everywhere: BTreeMap<Port, [Binding; 1]> = match container.is_on_the_hosts_network() {
            true => container.ports().into_keys().map(|port| (port, [at_the_host(port)])).collect(),
            false => BTreeMap::new(),
        };
        let mut ports = container.ports();
        for (port, binding) in &everywhere {
            ports.insert(*port, binding);
        }
        let is_usable = |bindings: &[Binding]| match &self.reach {
            Reach::Published(_) => !bindings.is_empty(),
            Reach::Internal { .. } => true,
        };
        let usable = ports.values().filter(|bindings| is_usable(bindings)).count();
        if ports.is_empty() {
            let why = format!("container {name} neither publishes nor exposes a port");
            return vec![(None, Verdict::Absent(why))];
        }
        let judge = |(port, bindings): (Port, &[Binding])| {
            if !is_usable(bindings) {
                let why = format!("container {name} exposes {port} and does not publish it");
                return (Some(port), Verdict::Absent(why));
            }
            let is_one_of_many = usable > 1;
            let candidate = Candidate { container, port, bindings, is_one_of_many, host_name };
            (Some(port), self.judge_port(target, &candidate).unwrap_or_else(|verdict| verdict))
        };
        ports.into_iter().map(judge).collect()
    }

    /// The verdict, which is `Err` where it was reached before everything was looked at.
    fn judge_port(&self, target: &Target, candidate: &Candidate<'_>) -> Result<Verdict, Verdict> {
        let Candidate { container, port, .. } = candidate;
        let name = shown(container);
        let formats = formats_for(*port, &target.formats);
        if formats.is_empty() {
            let why = format!("container {name}: {port} is written by --format registrator alone");
            return Err(Verdict::Absent(why));
        }
        let metadata = Metadata::of(container, port.number);
        if let Some(word) = metadata.ignore() {
            let why = format!("container {name}: {port} is left out by {word}");
            return Err(Verdict::Absent(why));
        }
        let (service, why_service) = self.service(candidate, &metadata)?;
        let (address, why_address) = self.address(candidate)?;

        let mistake = |why: String| Verdict::Mistake(format!("container {name}: {port}: {why}"));
        let instance = match metadata.instance() {
            Some(word) => word.value.to_owned(),
            None => format!("{}:{}:{}", candidate.host_name, container.name(), port.number),
        };
        let instance = instance_name(&instance).map_err(mistake)?;
        // As registrator marks UDP, unless it is told the whole name.
        let is_marked = port.protocol == Protocol::Udp && metadata.instance().is_none();
        let attributes = metadata.attributes().map_err(mistake)?;
        let registration = Registration { address, attributes };
        let write = |&format: &Format| {
            let mut entry = target.entry(format, &service, &instance, &registration);
            entry.is_tcp = port.protocol == Protocol::Tcp;
            if is_marked {
                entry.key.push_str(":udp");
            }
            entry.of(container)
        };
        let wanted: Vec<Wanted> = formats.iter().map(write).collect();
        if let Some(long) = wanted.iter().find(|wanted| wanted.value.len() > MAX_VALUE_BYTES) {
            let (bytes, key) = (long.value.len(), &long.key);
            return Err(mistake(format!(
                "its attributes make {key} a value of {bytes} bytes, allowed are {MAX_VALUE_BYTES}"
            )));
        }
        let rule = format!("{why_service}; {why_address}");
        Ok(Verdict::Present { wanted, rule })
    }

    /// The service's name, and why it is that.
    fn service(
        &self,
        candidate: &Candidate<'_>,
        metadata: &Metadata<'_>,
    ) -> Result<(ServiceName, String), Verdict> {
        let Candidate { container, port, .. } = candidate;
        let name = shown(container);
        let said = metadata.service();
        let absent = |why: String| Verdict::Absent(format!("container {name}: {port}: {why}"));
        let mistake = |why: String| Verdict::Mistake(format!("container {name}: {port}: {why}"));
        let (base, why) = match said {
            Some(word) => (word.value, format!("service by {word}")),
            None if self.explicit => {
                return Err(absent("no SERVICE_NAME, which --explicit asks for".to_owned()));
            }
            None => {
                let image = container.image();
                let why = format!("service by image {}", report::excerpt(image));
                match base_name(image) {
                    Some(base) => (base, why),
                    None => {
                        let image = report::excerpt(image);
                        return Err(mistake(format!(
                            "image '{image}' has no name; SERVICE_NAME says which service it is"
                        )));
                    }
                }
            }
        };
        let service = match candidate.is_one_of_many && !metadata.is_named_by_port() {
            true => format!("{base}-{}", port.number),
            false => base.to_owned(),
        };
        let service: ServiceName = service.parse().map_err(|problem: Invalid| {
            let service = report::excerpt(&service);
            mistake(format!("{why}: service '{service}': {problem}"))
        })?;
        let text = service.to_string();
        if !self.allowed.is_empty() && !self.allowed.iter().any(|glob| glob.matches(&text)) {
            let refused = format!("{why}: --allow-service does not allow {text}");
            // A name that was asked for is worth a warning, that of an image is not.
            return Err(if said.is_some() { mistake(refused) } else { absent(refused) });
        }
        Ok((service, why))
    }

    /// Where the port is reached, and why there.
    fn address(&self, candidate: &Candidate<'_>) -> Result<(HostPort, String), Verdict> {
        let Candidate { container, port, bindings, .. } = candidate;
        let name = shown(container);
        match &self.reach {
            // Whoever chose the host's address did not have each of its ports in mind.
            Reach::Published(host_ip) if host_ip.misses(bindings) => {
                Err(Verdict::Mistake(format!(
                    "container {name} publishes {port} on loopback alone, which --host-ip is not"
                )))
            }
            Reach::Published(host_ip) => match host_ip.address_of(bindings) {
                Ok(Some(address)) => {
                    let rule = host_ip.rule(&address.host);
                    Ok((address, rule))
                }
                Ok(None) => Err(Verdict::NotYet),
                Err(problem) => Err(Verdict::Unreachable(format!(
                    "container {name} publishes {port} {problem}"
                ))),
            },
            Reach::Internal { network } => {
                let addresses = container.addresses();
                let is_wanted = |name: &str| network.as_ref().is_none_or(|wanted| wanted == name);
                let found = addresses.iter().find(|(name, _)| is_wanted(name));
                match (found, network) {
                    (Some(&(network, ip)), _) => {
                        let address = HostPort { host: IpAddr::into(ip), port: port.number };
                        Ok((address, format!("the address in network {network}")))
                    }
                    (None, Some(network)) => Err(Verdict::Absent(format!(
                        "container {name} has no address in network {network}"
                    ))),
                    (None, None) => {
                        Err(Verdict::Absent(format!("container {name} has no address of its own")))
                    }
                }
            }
        }
    }
}

/// A container's name as it may be shown: whoever answers as Docker may say anything.
fn shown(container: &Container) -> String {
    report::excerpt(container.name())
}

/// Only registrator's format has UDP ports: nobody who reads the others expects them.
fn formats_for(port: Port, formats: &[Format]) -> Vec<Format> {
    let is_written =
        |format: &Format| port.protocol == Protocol::Tcp || *format == Format::Registrator;
    formats.iter().copied().filter(is_written).collect()
}

/// A port of a container that shares its host's network.
fn at_the_host(port: Port) -> Binding {
    Binding { host_ip: String::new(), host_port: port.number.to_string() }
}

/// `redis` of `registry:5000/library/redis:7@sha256:…`. An image that is only known by its
/// digest has none.
fn base_name(image: &str) -> Option<&str> {
    let name = image.split('@').next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    (!name.is_empty() && !image.starts_with("sha256:")).then_some(name)
}

#[cfg(test)]
mod tests;
