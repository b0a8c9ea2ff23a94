//! How a running ambassador is, as `/status` tells it and `ambassador status` reads it.

use serde::{Deserialize, Serialize};

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
    pub(crate) instances: Vec<Instance>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) address: String,
    pub(crate) weight: u64,
    /// Connections to it that are open.
    pub(crate) open: usize,
    /// For how long it is still tried last, because it could not be reached.
    pub(crate) ejected_s: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) key: String,
    pub(crate) value: String,
    /// `registered`, `to be written`, `lost`, `taken over` or `leaving`.
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
}
