//! The data path: accepts, dials, copies. Knows nothing of etcd or Docker.

mod acceptor;
mod balance;
mod connection;
mod connections;
mod copy;
mod crew;
mod dial;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod inherited;
mod listener;
mod pipes;
mod pool;
mod proxy_header;
mod sockets;
mod sweeper;
mod tally;

use std::{sync::Arc, time::Duration};

use self::{connection::Task, crew::Crew, pipes::Pipes};

pub(crate) use acceptor::{Acceptor, AcceptorHandle};
pub(crate) use balance::Balance;
pub(crate) use connections::Connections;
pub(crate) use dial::OwnListeners;
pub(crate) use inherited::Inherited;
pub(crate) use pool::{Known, Pool, Upstream};
pub(crate) use proxy_header::ProxyHeader;
pub(crate) use sockets::{Bound, Listen};
pub(crate) use sweeper::{OnRemove, Sweeper};

/// How clients are served; the same for all listeners of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// For one attempt to connect to one address.
    pub(crate) connect_timeout: Duration,
    /// How long a client is held while nothing can be reached.
    pub(crate) wait: Duration,
    /// How long an address that failed is tried last.
    pub(crate) eject: Duration,
    /// What an upstream is told of its client.
    pub(crate) send_proxy: Option<ProxyHeader>,
}

/// What the listeners of a process share.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    pub(crate) connections: Arc<Connections>,
    crew: Arc<Crew<Task>>,
    pipes: Arc<Pipes>,
}

impl Resources {
    /// For at most `max_connections` at the same time, of which `max_pipes` can be
    /// spliced through a pipe.
    pub(crate) fn new(max_connections: usize, max_pipes: usize) -> Self {
        Resources {
            connections: Arc::new(Connections::new(max_connections)),
            crew: Arc::new(Crew::new()),
            pipes: Arc::new(Pipes::new(max_pipes)),
        }
    }
}
