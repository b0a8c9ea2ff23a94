//! What the long-running roles share: threads that end together, listeners, the
//! end in order.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, never, select, tick};
use log::{info, warn};

use super::{
    Serving,
    health::Health,
    observe::{Carrier, Role},
};
use crate::{
    admin::{self, Admin},
    limits::{self, Limit},
    notify::{Notifier, Supervisor},
    poller::Followed,
    pulse::Pulse,
    report::{self, Failure},
    signals::StopRequests,
    stop::{self, Stop, StopGuard},
    traffic::{
        Acceptor, AcceptorHandle, Bound, Inherited, Listen, OwnListeners, Pool, Resources, Sweeper,
    },
    worker::{Ended, Worker},
};

/// The control threads of a role.
#[derive(Debug)]
pub(super) struct Daemon {
    // The order is load-bearing: the guard drops before the workers are joined.
    guard: StopGuard,
    joined: Vec<Worker>,
    stop: Stop,
    ended: Receiver<Ended>,
    ended_in: Sender<Ended>,
    requests: StopRequests,
    notifier: Notifier,
    pulses: Vec<Pulse>,
}

impl Daemon {
    /// Catches signals from here on.
    pub(super) fn new(supervisor: &Supervisor) -> Result<Self, Failure> {
        let requests = StopRequests::catch().map_err(no_signals)?;
        Ok(Daemon::with(requests, supervisor))
    }

    /// For a role that catches signals itself.
    pub(super) fn with(requests: StopRequests, supervisor: &Supervisor) -> Self {
        let (guard, stop) = stop::pair();
        let (ended_in, ended) = crossbeam_channel::unbounded();
        let (notifier, pulses) = (Notifier::new(supervisor), Vec::new());
        Daemon { guard, joined: Vec::new(), stop, ended, ended_in, requests, notifier, pulses }
    }

    /// Starts a control thread that is joined at the end. Its end is the end of
    /// the process.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&Stop) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let worker = self.worker(name, body)?;
        self.joined.push(worker);
        Ok(())
    }

    /// Starts a control thread that may sit in a request to etcd or Docker. It
    /// holds nothing that needs releasing, and stopping never waits for either,
    /// so the process ends under it.
    pub(super) fn spawn_unjoined(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&Stop) + Send + 'static,
    ) -> Result<(), Failure> {
        let worker = self.worker(name, |stop| {
            body(stop);
            Ok(())
        })?;
        worker.detach();
        Ok(())
    }

    fn worker(
        &self,
        name: &'static str,
        body: impl FnOnce(&Stop) -> Result<(), Failure> + Send + 'static,
    ) -> Result<Worker, Failure> {
        let stop = self.stop.clone();
        Worker::spawn(name, self.ended_in.clone(), move || body(&stop))
            .map_err(|error| Failure::Running(format!("no thread for {name}: {error}")))
    }

    /// Starts telling how this process is.
    pub(super) fn tell(&mut self, admin: &Admin, source: &admin::Source) -> Result<(), Failure> {
        for _ in 0..admin::THREADS {
            let admin = admin
                .another()
                .map_err(|error| Failure::Running(format!("--admin: no descriptor: {error}")))?;
            let source = Arc::clone(source);
            self.spawn_unjoined("admin", move |stop| admin.run(&source, stop))?;
        }
        info!("admin: listening on {}", admin.address());
        Ok(())
    }

    /// What the status of this process, which is `name`, has in any case.
    pub(super) fn role(&self, name: &'static str) -> Role {
        Role { name, started: Instant::now(), stop: self.stop.clone() }
    }

    /// For the control thread `name`, which the watchdog is to look after.
    pub(super) fn pulse(&mut self, name: String) -> Pulse {
        let pulse = Pulse::new(name);
        self.pulses.push(pulse.clone());
        pulse
    }

    /// Says that we are ready, and waits for a request to stop or the end of a control
    /// thread, whichever is first. The latter is a failure: none of them ends by itself.
    ///
    /// Meanwhile systemd is told the `status` when it changes, and its watchdog is fed
    /// while no thread with a pulse is late and all `acceptors` accept.
    pub(super) fn wait(
        &mut self,
        acceptors: &[AcceptorHandle],
        status: impl Fn() -> Option<String>,
    ) -> Result<(), Failure> {
        let requests = self.requests.receiver().clone();
        self.wait_for(&requests, acceptors, status)?;
        info!("asked to stop");
        Ok(())
    }

    /// The same for something else that ends a role.
    pub(super) fn wait_for<T>(
        &mut self,
        end: &Receiver<T>,
        acceptors: &[AcceptorHandle],
        status: impl Fn() -> Option<String>,
    ) -> Result<T, Failure> {
        let mut health = Health::new(self.pulses.clone(), acceptors);
        let ticks = self.notifier.interval().map_or_else(never, tick);
        self.notifier.working(&status().unwrap_or_default());
        loop {
            select! {
                recv(end) -> end => {
                    return end.map_err(|_| Failure::Running("thread signals ended".to_owned()));
                }
                recv(self.ended) -> ended => return match ended {
                    Ok(Ended { name, outcome: Ok(()) }) => Err(self.failure_behind(name)),
                    Ok(Ended { outcome: Err(failure), .. }) => Err(failure),
                    Err(_) => unreachable!("this struct holds a sender"),
                },
                recv(ticks) -> _ => {
                    if let Some(status) = status() {
                        self.notifier.working(&status);
                    }
                    let makes_progress = self.notifier.has_watchdog() && health.look();
                    if makes_progress && self.notifier.is_watchdog_hungry() {
                        self.notifier.feed_watchdog();
                    }
                }
            }
        }
    }

    /// Why the thread called `name` ended, which did so in order: because one it works
    /// for has gone, whose own reason may come a moment later.
    fn failure_behind(&self, name: &str) -> Failure {
        /// Between the end of what a thread held and the word of its end.
        const MOMENT: Duration = Duration::from_secs(1);
        while let Ok(ended) = self.ended.recv_timeout(MOMENT) {
            if let Err(failure) = ended.outcome {
                return failure;
            }
        }
        Failure::Running(format!("thread {name} ended"))
    }

    /// Asks all threads to stop, and gives the one called `name` until `patience`
    /// has passed, or a second request to stop has come.
    pub(super) fn stop_and_wait_for(mut self, name: &str, patience: Duration) {
        let shown = report::duration(patience);
        self.notifier.stopping(&format!("waits up to {shown} for {name}"));
        let deadline = Instant::now() + patience;
        drop(self.guard);
        loop {
            select! {
                recv(self.ended) -> ended => match ended {
                    Ok(ended) if ended.name == name => break,
                    Ok(_) => {}
                    Err(_) => break,
                },
                recv(self.requests.receiver()) -> _ => break,
                default(deadline.saturating_duration_since(Instant::now())) => {
                    warn!("{name} did not end within {shown}");
                    break;
                }
            }
        }
        self.joined.into_iter().for_each(Worker::detach);
    }
}

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
        Ok(Frontend { serving, resources, bound, pools, acceptors: Vec::new(), admin })
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
        daemon.spawn_unjoined("sweeper", move |stop| sweeper.run(stop))?;
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

pub(super) fn no_signals(error: io::Error) -> Failure {
    Failure::Running(format!("signals cannot be caught: {error}"))
}
