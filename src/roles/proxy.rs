//! `proxy`: to whatever is registered now.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Registry, Serving,
    daemon::Daemon,
    frontend::{Frontend, Listener},
};
use crate::{
    poller::{Followed, Poller},
    report::Failure,
    service::ServiceName,
    traffic::{Inherited, Listen, Pool},
};

/// What `proxy` is asked to do.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) routes: Vec<Route>,
    pub(crate) registry: Registry,
    pub(crate) serving: Serving,
}

/// One service and where its clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) service: ServiceName,
    pub(crate) listen: Listen,
}

impl Proxy {
    pub(super) fn run(self, inherited: Inherited) -> Result<(), Failure> {
        let mut daemon = Daemon::new(&self.serving.supervisor)?;
        let (mut frontend, followed) = self.frontend(&mut daemon, inherited)?;
        frontend.observe(&mut daemon, "proxy", Some(Arc::clone(&followed)))?;
        frontend.start(&mut daemon)?;
        let outcome = daemon.wait(frontend.acceptors(), || followed.status());
        frontend.drain(daemon);
        outcome
    }

    /// Binds a listener for each route that has none of the `inherited`, and starts following
    /// the services.
    pub(super) fn frontend(
        self,
        daemon: &mut Daemon,
        inherited: Inherited,
    ) -> Result<(Frontend, Arc<Followed>), Failure> {
        let balance = self.serving.balance;
        // A service with several listeners has one pool and one poller.
        let mut pools: BTreeMap<ServiceName, Arc<Pool>> = BTreeMap::new();
        let mut listeners = Vec::new();
        for Route { service, listen } in self.routes {
            let pool = pools
                .entry(service)
                .or_insert_with_key(|service| Arc::new(Pool::new(service.to_string(), balance)));
            listeners.push(Listener { listen, pool: Arc::clone(pool) });
        }
        let frontend = Frontend::bind(self.serving, listeners, inherited)?;
        let store = self.registry.store()?;
        let all = pools.values().cloned().collect();
        let followed = Arc::new(Followed::new(store, self.registry.prefix, all));
        for (service, pool) in pools {
            let followed = Arc::clone(&followed);
            let pulse = daemon.pulse(format!("poller of {service}"));
            daemon.spawn_unjoined("poller", move |stop| {
                Poller::new(&followed, &service, &pool, &pulse).run(stop);
            })?;
        }
        Ok((frontend, followed))
    }
}
