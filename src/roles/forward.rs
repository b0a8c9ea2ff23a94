//! `forward`: to fixed addresses.

use std::{num::NonZeroU16, sync::Arc};

use super::{
    Serving,
    daemon::Daemon,
    frontend::{Frontend, Listener},
};
use crate::{
    address::{Host, HostPort},
    report::Failure,
    traffic::{Balance, Inherited, Listen, Pool, Upstream},
};

/// What `forward` is asked to do.
#[derive(Debug)]
pub(crate) enum Forward {
    /// One listener, balanced over upstreams that were named.
    To { listen: Listen, upstreams: Vec<HostPort>, serving: Serving },
    /// One listener for each port of the link variables.
    Links { ports: Vec<LinkedPort>, serving: Serving },
}

/// A port of link variables and everything that is linked at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkedPort {
    pub(crate) port: NonZeroU16,
    pub(crate) upstreams: Vec<Upstream>,
}

impl Forward {
    pub(super) fn run(self, inherited: Inherited) -> Result<(), Failure> {
        let (serving, listeners) = match self {
            Forward::To { listen, upstreams, serving } => {
                let upstreams = upstreams.into_iter().map(Upstream::new).collect();
                let listener = listener(listen, upstreams, serving.balance);
                (serving, vec![listener])
            }
            Forward::Links { ports, serving } => {
                let listeners = ports.into_iter().map(|LinkedPort { port, upstreams }| {
                    listener(Listen::Any(port.get()), upstreams, serving.balance)
                });
                let listeners = listeners.collect();
                (serving, listeners)
            }
        };
        let mut daemon = Daemon::new(&serving.supervisor)?;
        let pools: Vec<Arc<Pool>> = listeners.iter().map(|l| Arc::clone(&l.pool)).collect();
        let mut frontend = Frontend::bind(serving, listeners, inherited)?;
        for pool in &pools {
            refuse_loops(&frontend, pool)?;
        }
        frontend.observe(&mut daemon, "forward", None)?;
        frontend.start(&mut daemon)?;
        let names: Vec<&str> = pools.iter().map(|pool| pool.name()).collect();
        let status = format!("forwards to {}", names.join("; "));
        let outcome = daemon.wait(frontend.acceptors(), || Some(status.clone()));
        frontend.drain(daemon);
        outcome
    }
}

/// A pool that never changes, named after what is in it.
fn listener(listen: Listen, upstreams: Vec<Upstream>, balance: Balance) -> Listener {
    let names: Vec<String> = upstreams.iter().map(|u| u.address.to_string()).collect();
    let pool = Arc::new(Pool::new(names.join(","), balance));
    pool.publish(upstreams);
    Listener { listen, pool }
}

/// A proxy skips its own listener, because the registry may name it for a moment;
/// here it is a mistake that stays.
fn refuse_loops(frontend: &Frontend, pool: &Pool) -> Result<(), Failure> {
    let own = frontend.own_listeners();
    for address in pool.addresses() {
        if let Host::Ip(ip) = address.host
            && own.contains((ip, address.port.get()).into())
        {
            return Err(Failure::Usage(format!(
                "upstream {address} is the address this process itself listens on"
            )));
        }
    }
    Ok(())
}
