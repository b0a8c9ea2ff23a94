//! The data path: accepts, dials, copies. Knows nothing of etcd or Docker.

mod acceptor;
mod connection;
mod connections;
mod copy;
mod dial;
mod pool;
mod sockets;

use std::time::Duration;

pub(crate) use acceptor::{Acceptor, AcceptorCloser};
pub(crate) use connections::Connections;
pub(crate) use dial::OwnListeners;
pub(crate) use pool::{Pool, Upstream};
pub(crate) use sockets::{Bound, Listen, bind};

/// How clients are served; the same for all listeners of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// For one attempt to connect to one address.
    pub(crate) connect_timeout: Duration,
    /// How long a client is held while nothing can be reached.
    pub(crate) wait: Duration,
    /// How long an address that failed is tried last.
    pub(crate) eject: Duration,
}
