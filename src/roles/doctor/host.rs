//! What this host itself gives: an address, and room for connections.

use super::finding::Finding;
use crate::{
    address::Host,
    limits::{self, Limit},
    registrar::{self, Ambient, HostIp},
};

/// Addresses of this host that are proposed.
const MOST_PROPOSALS: usize = 4;

/// The address `register` takes for a port that is published on every interface.
pub(super) fn address(host_ip: HostIp) -> Finding {
    const CHECK: &str = "host address";
    let host_ip = match host_ip.on_interface() {
        Ok(host_ip) => host_ip,
        Err(failure) => return Finding::fail(CHECK, failure.to_string(), advice()),
    };
    match (host_ip.everywhere(), host_ip.ambient) {
        (Some(ip), _) if ip.is_loopback() => {
            let rule = host_ip.rule(&Host::from(ip));
            Finding::warn(CHECK, format!("{ip}, which no other host can reach: {rule}"), advice())
        }
        (Some(ip), _) => Finding::ok(CHECK, format!("{ip}: {}", host_ip.rule(&Host::from(ip)))),
        (None, Some(Ambient { ip, variable })) => {
            let finding = format!("{variable} says {ip}, which no other host can reach");
            Finding::warn(CHECK, finding, advice())
        }
        (None, None) => {
            Finding::warn(CHECK, "not known for ports published on every interface", advice())
        }
    }
}

fn advice() -> String {
    // What Docker makes for itself leads into this host only.
    let is_dockers = |name: &str| ["docker", "br-", "veth"].iter().any(|own| name.starts_with(own));
    let mut proposals: Vec<String> = registrar::reachable_addresses()
        .into_iter()
        .filter(|(interface, _)| !is_dockers(interface))
        .map(|(interface, ip)| format!("{ip} ({interface})"))
        .collect();
    proposals.truncate(MOST_PROPOSALS);
    let has = match proposals.is_empty() {
        true => String::new(),
        false => format!("; here is {}", proposals.join(", ")),
    };
    format!("give register --host-ip IP or --interface NAME, or set HOST_IP{has}")
}

/// Whether the limits of this process allow as many connections as are `wanted`.
pub(super) fn connections(wanted: usize) -> Finding {
    const CHECK: &str = "connections";
    let Limit { what, connections, raised_by, needed, .. } = limits::tightest(wanted, 1);
    let advice = format!(
        "for all of them raise it to {needed} or more ({raised_by}), or lower --max-connections"
    );
    match connections {
        0 => Finding::fail(CHECK, format!("{what} allow none"), advice),
        allowed if allowed < wanted as u64 => {
            let finding = format!("{what} allow only {allowed} at a time, not {wanted}");
            Finding::warn(CHECK, finding, advice)
        }
        u64::MAX => Finding::ok(CHECK, format!("{wanted} at a time; nothing limits them")),
        allowed => {
            let finding = format!("{wanted} at a time; {what}, the tightest, allow {allowed}");
            Finding::ok(CHECK, finding)
        }
    }
}
