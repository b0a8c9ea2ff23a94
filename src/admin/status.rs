//! How a running ambassador is, as `/status` tells it and `ambassador status` reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::counters::{Asked, Durations};

/// Everything there is to know, as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    /// `forward`, `register`, `proxy` or `exec`.
    pub(crate) role: String,
    pub(crate) uptime_s: u64,
    /// Whether it does its work; `/readyz` says the same.
    pub(crate) ready: bool,
    /// Why it does not.
    pub(crate) reason: Option<String>,
    pub(crate) draining: bool,
    /// `null` where /proc does not tell.
    pub(crate) process: Option<Process>,
    pub(crate) listeners: Vec<Listener>,
    /// Of clients; a registrar has none.
    pub(crate) connections: Option<Connections>,
    pub(crate) services: Vec<Service>,
    /// What is kept in etcd.
    pub(crate) registrations: Vec<Registration>,
    pub(crate) etcd: Option<Party>,
    pub(crate) docker: Option<Party>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listener {
    /// The service, or the upstreams.
    pub(crate) name: String,
    pub(crate) address: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connections {
    pub(crate) open: usize,
    /// At most so many at a time.
    pub(crate) max: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// For how long these are only the last known instances, because etcd is silent.
    pub(crate) stale_s: Option<u64>,
    /// Clients that have no instance yet.
    pub(crate) held: usize,
    /// Clients that were reset without one, by reason.
    pub(crate) unserved: BTreeMap<String, u64>,
    /// How long clients waited for one.
    pub(crate) waits: Durations,
    pub(crate) instances: Vec<Instance>,
}

/// What is dialled. What was counted of one that left is told for five minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) address: String,
    /// Its key in etcd, or its link variable.
    pub(crate) origin: Option<String>,
    /// `null` once it has left, and of the other name of a linked address.
    pub(crate) weight: Option<u64>,
    /// For how long it has been known.
    pub(crate) age_s: u64,
    /// For how long it has not been registered any more.
    pub(crate) left_s: Option<u64>,
    /// Connections to it that are open.
    pub(crate) open: usize,
    /// For how long it is still tried last, because it could not be reached.
    pub(crate) ejected_s: Option<u64>,
    /// Why it could not, if it has not been since.
    pub(crate) problem: Option<String>,
    /// Connections to it there were, and those that ended in a reset.
    pub(crate) served: u64,
    pub(crate) reset: u64,
    /// Attempts to connect that failed, by reason.
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) ejections: u64,
    /// From clients, and to them.
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    /// How long it took to connect, and from the client's first byte (or the connect, where
    /// the upstream speaks first) to the upstream's first byte.
    pub(crate) dials: Durations,
    pub(crate) first_bytes: Durations,
}

impl Instance {
    /// Whether new clients may get it.
    pub(crate) fn is_registered(&self) -> bool {
        self.weight.is_some()
    }
}

/// How a registration may be.
pub(crate) const REGISTRATION_STATES: [&str; 5] =
    ["registered", "to be written", "lost", "taken over", "leaving"];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) key: String,
    pub(crate) value: String,
    /// One of `REGISTRATION_STATES`.
    pub(crate) state: String,
}

/// etcd, or Docker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Party {
    /// Where it is asked.
    pub(crate) address: String,
    /// Whether the last question was answered; `null` before there was one.
    pub(crate) answers: Option<bool>,
    /// For how long it has been silent.
    pub(crate) silent_s: Option<u64>,
    /// What is wrong.
    pub(crate) problem: Option<String>,
    /// How long ago it last answered: at most 15 s while all is well.
    pub(crate) since_answer_s: Option<f64>,
    pub(crate) requests: Vec<Asked>,
    /// Of Docker.
    pub(crate) events: Option<u64>,
}

#[cfg(test)]
impl Status {
    /// Of a proxy that has lost etcd, one instance and all of another service.
    pub(crate) fn in_an_incident() -> Self {
        let counts = |counts: [(&str, u64); 1]| counts.map(|(k, v)| (k.to_owned(), v)).into();
        let durations = |count| Durations { count, sum_s: 0.5, buckets: vec![(0.1, 2), (1.0, 1)] };
        let instance = |address: &str, weight, open, ejected_s: Option<u64>| Instance {
            address: address.to_owned(),
            origin: Some(format!("/services/redis-A/{address}")),
            weight,
            age_s: 185,
            left_s: weight.is_none().then_some(60),
            open,
            ejected_s,
            problem: ejected_s.map(|_| "Connection refused (os error 111)".to_owned()),
            served: 10,
            reset: 1,
            failures: counts([("refused", 4)]),
            ejections: u64::from(ejected_s.is_some()),
            bytes_up: 1000,
            bytes_down: 2000,
            dials: durations(4),
            first_bytes: durations(3),
        };
        let service = |name: &str, stale_s, held, instances| Service {
            name: name.to_owned(),
            stale_s,
            held,
            unserved: counts([("waited_in_vain", 7)]),
            waits: durations(3),
            instances,
        };
        Status {
            version: "0.1.0".to_owned(),
            role: "proxy".to_owned(),
            uptime_s: 185,
            ready: false,
            reason: Some("web has no instance".to_owned()),
            draining: false,
            process: Some(Process {
                threads: 12,
                open_descriptors: 20,
                resident_bytes: 4_000_000,
                cpu_s: 1.5,
            }),
            listeners: vec![Listener {
                name: "redis-A".to_owned(),
                address: "[::]:6379".to_owned(),
            }],
            connections: Some(Connections { open: 5, max: 2048 }),
            services: vec![
                service(
                    "redis-A",
                    Some(42),
                    0,
                    vec![
                        instance("10.1.0.1:49155", Some(1), 3, None),
                        instance("10.1.0.2:49156", Some(1), 0, Some(8)),
                        instance("10.1.0.3:49157", None, 1, None),
                    ],
                ),
                service("web", None, 1, Vec::new()),
            ],
            registrations: Vec::new(),
            etcd: Some(Party {
                address: "http://10.1.0.9:2379".to_owned(),
                answers: Some(false),
                silent_s: Some(42),
                problem: Some("no answer from etcd at http://10.1.0.9:2379".to_owned()),
                since_answer_s: Some(42.5),
                requests: vec![Asked { kind: "list".to_owned(), answered: 3, failed: 2 }],
                events: None,
            }),
            docker: None,
        }
    }
}
