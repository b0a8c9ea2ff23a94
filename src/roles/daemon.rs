//! What the long-running roles share: threads that end together.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, never, select, tick};
use log::{info, warn};

use super::{health::Health, observe::Role};
use crate::{
    admin::{self, Admin},
    notify::{Notifier, Supervisor},
    pulse::Pulse,
    report::{self, Failure},
    signals::StopRequests,
    stop::{self, Stop, StopGuard},
    traffic::AcceptorHandle,
    worker::{Ended, Worker},
};

/// The control threads of a role.
#[derive(Debug)]
pub(super) struct Daemon {
    // The order is load-bearing: the guard drops before the workers are joined.
    pub(super) guard: StopGuard,
    pub(super) joined: Vec<Worker>,
    stop: Stop,
    ended: Receiver<Ended>,
    ended_in: Sender<Ended>,
    pub(super) requests: StopRequests,
    pub(super) notifier: Notifier,
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

pub(super) fn no_signals(error: io::Error) -> Failure {
    Failure::Running(format!("signals cannot be caught: {error}"))
}
