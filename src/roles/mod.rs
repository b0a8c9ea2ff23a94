//! The commands: each file wires one of them together.

mod daemon;
mod doctor;
mod env;
mod exec;
mod forward;
mod frontend;
mod health;
mod list;
mod observe;
mod proxy;
mod reachable;
mod register;
mod status;
mod table;

use std::{net::SocketAddr, time::Duration};

use crate::{etcd, notify::Supervisor, report::Failure, service::Prefix, traffic};

pub(crate) use doctor::Doctor;
pub(crate) use env::Env;
pub(crate) use exec::{Alias, Exec};
pub(crate) use forward::{Forward, LinkedPort};
pub(crate) use list::List;
pub(crate) use proxy::{Proxy, Route};
pub(crate) use register::Register;
pub(crate) use status::ShowStatus;

pub(crate) use crate::traffic::Inherited;

/// What the process was called to do.
#[derive(Debug)]
pub(crate) enum Role {
    Forward(Forward),
    Register(Register),
    Proxy(Proxy),
    List(List),
    Env(Env),
    Status(ShowStatus),
    Exec(Exec),
    Doctor(Doctor),
}

/// Where the registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registry {
    pub(crate) members: Vec<etcd::Member>,
    /// `None` lets the server decide.
    pub(crate) api: Option<etcd::Api>,
    pub(crate) access: etcd::Access,
    pub(crate) prefix: Prefix,
}

/// How a process serves and ends.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub(crate) settings: traffic::Settings,
    pub(crate) balance: traffic::Balance,
    pub(crate) max_connections: usize,
    pub(crate) on_remove: traffic::OnRemove,
    pub(crate) idle_timeout: Option<Duration>,
    /// Where it is told how the process is.
    pub(crate) admin: Option<SocketAddr>,
    /// How long open connections may go on after a request to stop.
    pub(crate) drain: Duration,
    pub(crate) supervisor: Supervisor,
}

impl Registry {
    /// # Errors
    /// Wrong usage, when a certificate or a password cannot be read.
    pub(crate) fn store(&self) -> Result<etcd::Store, Failure> {
        etcd::Store::new(self.members.clone(), self.api, self.access.clone())
            .map_err(|unusable| Failure::Usage(unusable.to_string()))
    }
}

impl Role {
    /// Does it, until it is done or asked to stop. Returns the exit code.
    pub(crate) fn run(self, inherited: Inherited) -> Result<u8, Failure> {
        match self {
            Role::Forward(forward) => forward.run(inherited),
            Role::Proxy(proxy) => proxy.run(inherited),
            // It has no listener.
            Role::Register(register) => inherited.refuse_rest().and_then(|()| register.run()),
            Role::List(list) => list.run(),
            Role::Env(env) => env.run(),
            Role::Status(status) => status.run(),
            Role::Exec(exec) => return exec.run(inherited),
            Role::Doctor(doctor) => return doctor.run(),
        }?;
        Ok(0)
    }
}
