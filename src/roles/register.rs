//! `register`: keeps a container's published address in etcd.

use std::net::SocketAddr;

use log::warn;

use super::{Registry, daemon::Daemon, frontend};
use crate::{
    notify::Supervisor,
    registrar::{self, Config, Threads, WITHDRAWAL},
    report::{self, Failure},
};

/// What `register` is asked to do.
#[derive(Debug)]
pub(crate) struct Register {
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    /// Only say what would be registered.
    pub(crate) explain: bool,
    pub(crate) supervisor: Supervisor,
    /// Where it is told how the process is.
    pub(crate) admin: Option<SocketAddr>,
}

impl Register {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.config.on_interface()?;
        if self.explain {
            return report::print(&format!("{}\n", registrar::explain(&config)?));
        }
        let store = self.registry.store()?;
        let Threads { registrar, docker, checker, questions } = registrar::threads(config, store);
        let mut daemon = Daemon::new(&self.supervisor)?;
        let admin = self.admin.map(frontend::bind_admin).transpose()?;
        let pulse = daemon.pulse("registrar".to_owned());
        let registrars = pulse.clone();
        daemon.spawn("registrar", move |stop| registrar.run(stop, &registrars))?;
        if let Some((events, looker)) = docker {
            daemon.spawn_unjoined("docker-events", move |stop| events.run(stop))?;
            daemon.spawn_unjoined("docker", move |stop| looker.run(stop))?;
        }
        if let Some(checker) = checker {
            daemon.spawn_unjoined("check", move |stop| checker.run(stop))?;
        }
        if let Some(admin) = admin {
            daemon.tell(&admin, &daemon.role("register").registering(questions))?;
            // A stdout that takes no line is no reason not to register.
            if let Err(failure) = report::print(&frontend::listening("admin", admin.address())) {
                warn!("{failure}");
            }
        }
        let outcome = daemon.wait(&[], || Some(pulse.said()));
        if outcome.is_ok() {
            daemon.stop_and_wait_for("registrar", WITHDRAWAL);
        }
        outcome
    }
}
