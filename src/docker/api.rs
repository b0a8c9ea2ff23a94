//! What is read of Docker's answers, and no more: newer engines drop fields.
//!
//! Source: Docker Engine API 1.41 to 1.51, "Inspect a container", "Monitor events".

use std::{collections::BTreeMap, fmt, net::IpAddr, num::NonZeroU16};

use serde::{Deserialize, Deserializer};

use super::{signal, timestamp::unix_ns};
use crate::address::port_number;

/// Lists what runs, which includes what is paused or restarting.
pub(super) const LIST_PATH: &str = "/containers/json";

/// Lists what has ended, too.
pub(super) const LIST_ALL_PATH: &str = "/containers/json?all=true";

/// One container, as inspected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Container {
    pub(crate) id: String,
    /// With a leading slash.
    pub(super) name: String,
    pub(crate) state: State,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    host_config: HostConfig,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    pub(crate) running: bool,
    #[serde(default)]
    pub(crate) paused: bool,
    #[serde(default)]
    pub(crate) restarting: bool,
    /// When the container was started last: another value is another life.
    #[serde(default)]
    pub(crate) started_at: String,
    /// Of a container whose image or command line has a HEALTHCHECK.
    #[serde(default)]
    health: Option<Health>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    /// `none`, `starting`, `healthy` or `unhealthy`.
    #[serde(default)]
    status: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    stop_signal: Option<String>,
    stop_timeout: Option<i64>,
    /// As it was named when the container was made.
    image: String,
    #[serde(deserialize_with = "service_labels")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "service_variables")]
    env: BTreeMap<String, String>,
    exposed_ports: Option<BTreeMap<String, Nothing>>,
}

/// An object that is always empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Nothing {}

/// Registrator's words in labels and variables begin so. Nothing else of them is kept: they
/// hold other programs' secrets.
const SERVICE_WORD: &str = "SERVICE_";

fn service_labels<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let labels: Option<BTreeMap<String, String>> = Deserialize::deserialize(deserializer)?;
    let labels = labels.into_iter().flatten();
    Ok(labels.filter(|(name, _)| name.starts_with(SERVICE_WORD)).collect())
}

fn service_variables<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let variables: Option<Vec<String>> = Deserialize::deserialize(deserializer)?;
    let pairs = variables.iter().flatten().filter_map(|variable| variable.split_once('='));
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Ok(pairs.filter(|(name, _)| name.starts_with(SERVICE_WORD)).map(owned).collect())
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
    networks: Option<BTreeMap<String, Network>>,
}

/// A network a container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Network {
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
}

/// A port of a container, by number and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Port {
    pub(crate) number: NonZeroU16,
    pub(crate) protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Port {
    /// `6379/tcp`; `None` of protocols that are not relayed by anything of ours.
    fn parse(text: &str) -> Option<Self> {
        let (number, protocol) = text.split_once('/')?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        Some(Port { number: port_number(number).ok()?, protocol })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{}/{protocol}", self.number)
    }
}

/// One address of the host at which a port is published.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Binding {
    #[serde(default)]
    pub(crate) host_ip: String,
    /// Empty for a moment after a start.
    #[serde(default)]
    pub(crate) host_port: String,
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host_ip, self.host_port)
    }
}

/// SIGTERM's number: what `docker stop` sends unless the image says otherwise.
const SIGTERM: i32 = 15;

/// Longer stop timeouts count as this: a day is for ever.
const MAX_STOP_TIMEOUT_S: u64 = 24 * 60 * 60;

/// Docker's own default between the stop signal and SIGKILL, in seconds.
const DEFAULT_STOP_TIMEOUT_S: u64 = 10;

impl State {
    /// `started_at` in nanoseconds since 1970.
    pub(crate) fn started_ns(&self) -> Option<i64> {
        unix_ns(&self.started_at)
    }

    /// What keeps the container from being used, if anything does.
    ///
    /// After a crash of Docker an exited container keeps its old ports, and one in a crash
    /// loop counts as running.
    pub(crate) fn obstacle(&self) -> Option<&'static str> {
        if self.restarting {
            return Some("is restarting");
        }
        if !self.running {
            return Some("is not running");
        }
        if self.paused {
            return Some("is paused");
        }
        match self.health.as_ref().map(|health| health.status.as_str()) {
            None | Some("" | "none" | "healthy") => None,
            Some("starting") => Some("has not passed its health check yet"),
            Some(_) => Some("is unhealthy"),
        }
    }
}

impl Container {
    /// Without Docker's slash, which Podman leaves out.
    pub(crate) fn name(&self) -> &str {
        self.name.strip_prefix('/').unwrap_or(&self.name)
    }

    pub(crate) fn image(&self) -> &str {
        &self.config.image
    }

    /// Labels and variables that begin with `SERVICE_`.
    pub(crate) fn labels(&self) -> &BTreeMap<String, String> {
        &self.config.labels
    }

    pub(crate) fn variables(&self) -> &BTreeMap<String, String> {
        &self.config.env
    }

    /// Whether it has no network of its own, so that its ports are its host's.
    pub(crate) fn is_on_the_hosts_network(&self) -> bool {
        self.host_config.network_mode == "host"
    }

    /// The TCP and UDP ports that it exposes or publishes, with the addresses they are
    /// published at.
    pub(crate) fn ports(&self) -> BTreeMap<Port, &[Binding]> {
        let exposed = self.config.exposed_ports.iter().flatten();
        let mut ports: BTreeMap<Port, &[Binding]> =
            exposed.filter_map(|(port, _)| Some((Port::parse(port)?, &[][..]))).collect();
        for (port, bindings) in self.network_settings.ports.iter().flatten() {
            if let Some(port) = Port::parse(port) {
                ports.insert(port, bindings.as_deref().unwrap_or_default());
            }
        }
        ports
    }

    /// The networks it has an address in, and that address: IPv4 before IPv6. The network it
    /// was started in comes first.
    pub(crate) fn addresses(&self) -> Vec<(&str, IpAddr)> {
        let networks = self.network_settings.networks.iter().flatten();
        let mut addresses: Vec<(&str, IpAddr)> = networks
            .filter_map(|(name, network)| {
                let texts = [&network.ip_address, &network.global_ipv6_address];
                let address = texts.into_iter().find_map(|text| text.parse().ok())?;
                Some((name.as_str(), address))
            })
            .collect();
        let first = match self.host_config.network_mode.as_str() {
            "default" => "bridge",
            mode => mode,
        };
        addresses.sort_by_key(|(name, _)| *name != first);
        addresses
    }

    /// Whether Docker has filled in all of its ports, which takes it a moment.
    pub(crate) fn is_settled(&self) -> bool {
        let bindings = self.ports().into_values().flatten();
        !bindings.into_iter().any(|binding| binding.host_port.is_empty())
    }

    /// The bindings of TCP port `port`: `None` if the container does not expose
    /// it, an empty list if it is exposed but not published.
    pub(crate) fn bindings(&self, port: u16) -> Option<&[Binding]> {
        let ports = self.network_settings.ports.as_ref()?;
        Some(ports.get(&format!("{port}/tcp"))?.as_deref().unwrap_or_default())
    }

    /// The published TCP ports of the container, as `6379/tcp`.
    pub(crate) fn published_ports(&self) -> Vec<&str> {
        let ports = self.network_settings.ports.iter().flatten();
        let published = ports.filter(|(port, bindings)| {
            port.ends_with("/tcp") && bindings.as_ref().is_some_and(|list| !list.is_empty())
        });
        published.map(|(port, _)| port.as_str()).collect()
    }

    /// The number of the signal that asks this container to stop.
    pub(crate) fn stop_signal(&self) -> i32 {
        let name = self.config.stop_signal.as_deref().unwrap_or_default();
        signal::number(name).unwrap_or(SIGTERM)
    }

    /// Seconds between the stop signal and SIGKILL.
    pub(crate) fn stop_timeout_s(&self) -> u64 {
        // -1 waits for ever.
        let seconds = self.config.stop_timeout.and_then(|seconds| seconds.try_into().ok());
        seconds.unwrap_or(DEFAULT_STOP_TIMEOUT_S).min(MAX_STOP_TIMEOUT_S)
    }
}

/// The daemon's host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    pub(super) name: String,
}

/// The text of an error: Docker's `{"message": …}`, or whatever stands there.
pub(super) fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    match serde_json::from_slice(body) {
        Ok(Message { message }) => message,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// Whether a 404 is about the container. Another one (a socket proxy's, a path
/// nobody serves) says nothing about it.
pub(super) fn says_no_such_container(body: &[u8]) -> bool {
    message(body).to_ascii_lowercase().contains("no such container")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dockers_own_404_means_that_the_container_is_gone() {
        assert!(says_no_such_container(br#"{"message":"No such container: redis"}"#));
        let podman = br#"{"cause":"no such container","message":"no container with name or ID \"r\" found: no such container","response":404}"#;
        assert!(says_no_such_container(podman));
        assert!(!says_no_such_container(br#"{"message":"page not found"}"#));
        assert!(!says_no_such_container(b"<html>404 Not Found</html>"));
    }

    #[test]
    fn fields_that_newer_engines_dropped_are_not_missed() {
        let container: Container = serde_json::from_str(
            r#"{"Id":"ab","Name":"/redis","State":{"Running":true,"StartedAt":"t"},
                "Config":{"StopSignal":"SIGINT","StopTimeout":1},
                "NetworkSettings":{"Ports":{"6379/tcp":[{"HostIp":"10.0.0.1","HostPort":"49155"}],
                "80/tcp":null,"53/udp":[{"HostIp":"0.0.0.0","HostPort":"1"}]}}}"#,
        )
        .unwrap();
        assert_eq!((container.stop_signal(), container.stop_timeout_s()), (2, 1));
        assert_eq!(container.published_ports(), ["6379/tcp"]);
        assert_eq!(container.bindings(6379).unwrap()[0].host_port, "49155");
        assert_eq!(container.bindings(80), Some(&[][..]));
        assert_eq!(container.bindings(53), None);
        let ports: Vec<String> = container.ports().keys().map(Port::to_string).collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "6379/tcp"]);
    }
}
