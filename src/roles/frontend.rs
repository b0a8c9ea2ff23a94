//! Everything that carries clients in one process: listeners, limits, the drain.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use log::{info, warn};

use super::{Serving, daemon::Daemon, observe::Carrier};
use crate::{
    admin::Admin,
    limits::{self, Limit},
    notify::Notifier,
    poller::Followed,
    report::{self, Failure},
    signals::StopRequests,
    stop::{self, StopGuard},
    traffic::{
        Acceptor, AcceptorHandle, Bound, Inherited, Listen, OwnListeners, Pool, Resources, Sweeper,
    },
};

/// A listener that is to be served, and what its clients get.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) listen: Listen,
    pub(super) pool: Arc<Pool>,
}

/// Everything that carries clients in one process.
#[derive(Debug)]
pub(super) struct Frontend {
    serving: Serving,
    resources: Resources,
    bound: Vec<(Bound, Arc<Pool>)>,
    pools: Vec<Arc<Pool>>,
    acceptors: Vec<AcceptorHandle>,
    /// The sweeper stops with the process: what is open in the drain needs it, too.
    sweeping: Option<StopGuard>,
    admin: Option<Admin>,
}

impl Drop for Frontend {
    /// Wakes what waits, on every way out: the acceptors are joined after this.
    fn drop(&mut self) {
        self.close();
    }
}

impl Frontend {
    /// Binds every listener that is not among the `inherited`, so that a mistake shows
    /// before anything runs.
    pub(super) fn bind(
        serving: Serving,
        listeners: Vec<Listener>,
        mut inherited: Inherited,
    ) -> Result<Self, Failure> {
        let mut bound = Vec::new();
        for Listener { listen, pool } in listeners {
            let listener = inherited
                .take_or_bind(listen)
                .map_err(|error| not_bound(&listen, pool.name(), &error))?;
            bound.push((listener, pool));
        }
        inherited.refuse_rest()?;
        let admin = serving.admin.map(bind_admin).transpose()?;
        let resources = resources(serving.max_connections, bound.len())?;
        let pools = bound.iter().map(|(_, pool)| Arc::clone(pool)).collect();
        let acceptors = Vec::new();
        Ok(Frontend { serving, resources, bound, pools, acceptors, sweeping: None, admin })
    }

    /// The addresses that must not be dialled.
    pub(super) fn own_listeners(&self) -> OwnListeners {
        OwnListeners::new(self.addresses())
    }

    /// The addresses of the listeners, in the order in which they were asked for.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|(bound, _)| bound.address).collect()
    }

    /// Starts telling how this process is, which is `name`, if that was asked for.
    pub(super) fn observe(
        &self,
        daemon: &mut Daemon,
        name: &'static str,
        followed: Option<Arc<Followed>>,
    ) -> Result<(), Failure> {
        let Some(admin) = &self.admin else { return Ok(()) };
        let listeners = self.bound.iter().map(|(b, pool)| (pool.name().to_owned(), b.address));
        let carrier = Carrier {
            listeners: listeners.collect(),
            pools: self.pools.clone(),
            connections: Arc::clone(&self.resources.connections),
            followed,
        };
        daemon.tell(admin, &daemon.role(name).carrying(carrier))
    }

    /// Starts accepting and says so, on stdout and to systemd.
    pub(super) fn start(&mut self, daemon: &mut Daemon) -> Result<(), Failure> {
        let mut lines = self.accept(daemon)?;
        if let Some(admin) = &self.admin {
            lines.push_str(&listening("admin", admin.address()));
        }
        // A stdout that takes no line is no reason not to serve.
        if let Err(failure) = report::print(&lines) {
            warn!("{failure}");
        }
        Ok(())
    }

    /// Starts accepting. Returns a line for each listener.
    pub(super) fn accept(&mut self, daemon: &mut Daemon) -> Result<String, Failure> {
        let own = self.own_listeners();
        let mut lines = String::new();
        for (bound, pool) in self.bound.drain(..) {
            lines.push_str(&listening(pool.name(), bound.address));
            info!("{}: listening on {}", pool.name(), bound.address);
            let settings = self.serving.settings.clone();
            let resources = self.resources.clone();
            let acceptor = Acceptor::new(bound, pool, settings, own.clone(), resources);
            self.acceptors.push(acceptor.handle());
            daemon.spawn("acceptor", move |stop| {
                acceptor.run(stop);
                Ok(())
            })?;
        }
        let sweeper = Sweeper::new(
            Arc::clone(&self.resources.connections),
            self.serving.on_remove,
            self.serving.idle_timeout,
            self.serving.settings.connect_timeout,
        );
        let (guard, stop) = stop::pair();
        self.sweeping = Some(guard);
        daemon.spawn_unjoined("sweeper", move |_| sweeper.run(&stop))?;
        Ok(lines)
    }

    /// Those that were started.
    pub(super) fn acceptors(&self) -> &[AcceptorHandle] {
        &self.acceptors
    }

    /// Ends in order: no new client, a reset for those that wait for an instance,
    /// and `drain` for the others, unless a second request to stop comes.
    pub(super) fn drain(&self, daemon: Daemon) {
        let Daemon { guard, joined, requests, mut notifier, .. } = daemon;
        notifier.stopping("stopping");
        drop(guard);
        self.close();
        drop(joined);
        let drain = self.serving.drain;
        let count = self.resources.connections.count();
        if count > 0 {
            let drain = report::duration(drain);
            let waiting = format!("waiting up to {drain} for {count} open connections to end");
            info!("{waiting}");
            notifier.working(&waiting);
        }
        self.wait_until_none(Instant::now() + drain, &requests, &mut notifier);
        let count = self.resources.connections.count();
        if count > 0 {
            warn!("{count} open connections are reset");
        }
        // What the process leaves open, the kernel closes: as a reset from now on.
        self.resources.connections.reset_all();
    }

    /// Takes in no client any more, and resets those that wait for an instance.
    fn close(&self) {
        self.resources.connections.close();
        self.acceptors.iter().for_each(AcceptorHandle::close);
        self.pools.iter().for_each(|pool| pool.close());
    }

    fn wait_until_none(&self, deadline: Instant, requests: &StopRequests, notifier: &mut Notifier) {
        /// How often a second request to stop is looked for.
        const LOOK: Duration = Duration::from_millis(50);
        loop {
            if notifier.is_watchdog_hungry() {
                notifier.feed_watchdog();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.resources.connections.wait_until_none(left.min(LOOK))
                || left.is_zero()
                || requests.receiver().try_recv().is_ok()
            {
                return;
            }
        }
    }
}

/// For as many connections as were asked for, or fewer where a limit of the process
/// would be hit first.
fn resources(max_connections: usize, listeners: usize) -> Result<Resources, Failure> {
    let Limit { what, connections, pipes, .. } = limits::tightest(max_connections, listeners);
    let connections = match usize::try_from(connections) {
        Ok(0) => return Err(Failure::Usage(format!("a limit of {what} allows no connection"))),
        Ok(allowed) if allowed < max_connections => {
            warn!(
                "at most {allowed} connections at a time, not {max_connections}: {what} allow no more"
            );
            allowed
        }
        _ => max_connections,
    };
    Ok(Resources::new(connections, pipes))
}

/// Binds where it is told how the process is.
pub(super) fn bind_admin(address: SocketAddr) -> Result<Admin, Failure> {
    Admin::bind(address).map_err(|error| {
        let error = match error.kind() {
            // The images all ask for the same port.
            io::ErrorKind::AddrInUse => {
                io::Error::new(error.kind(), format!("{error}; --admin takes another port"))
            }
            _ => error,
        };
        not_bound(&address, "admin", &error)
    })
}

/// The line of a listener on stdout.
pub(super) fn listening(name: &str, address: SocketAddr) -> String {
    format!("listening {name} {address}\n")
}

fn not_bound(listen: &dyn fmt::Display, name: &str, error: &io::Error) -> Failure {
    let text = format!("cannot listen on {listen} for {name}: {error}");
    match error.kind() {
        // Another process may give the port back; these never mend themselves.
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::PermissionDenied => Failure::Usage(text),
        _ => Failure::Running(text),
    }
}
