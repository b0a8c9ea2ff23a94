//! The two threads that ask Docker, so that the registrar never waits for it:
//! one follows events, one looks at containers.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, select};
use log::debug;

use super::running::{Running, Seen, Subject};
use crate::{
    backoff::Backoff,
    docker::{self, Client, Event},
    report,
    stop::Stop,
};

/// Docker is looked at this often, whatever its events say or fail to say.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(15);

/// A stream that lasted so long was a working one.
const STREAM_LIFE: Duration = Duration::from_secs(5);

/// What the two threads tell the registrar.
#[derive(Debug)]
pub(super) enum Report {
    /// What Docker calls its host.
    HostName(String),
    /// The containers that were asked about, as far as there are any.
    Looked(Result<Seen, String>),
    Killed {
        container: String,
        signal: Option<i32>,
        at_ns: Option<i64>,
    },
    /// Events are followed from now on.
    Subscribed,
    /// Events are not followed any more, or not yet.
    Unsubscribed(String),
}

/// Which containers are looked at.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// The one of this name.
    Named(String),
    /// Everything that runs on the host.
    Host,
}

/// Asks for looks; requests that come while one waits are one.
#[derive(Debug, Clone)]
pub(super) struct LookRequests {
    wake: Sender<()>,
    subject: Arc<Mutex<Subject>>,
}

impl LookRequests {
    /// At everything, whatever was seen before.
    pub(super) fn ask(&self) {
        locked(&self.subject).everything = true;
        self.wake();
    }

    /// At what is not known yet, or is listed otherwise than before.
    pub(super) fn ask_again(&self) {
        self.wake();
    }

    /// At the container whose id is `id`.
    fn ask_about(&self, id: &str) {
        locked(&self.subject).containers.insert(id.to_owned());
        self.wake();
    }

    fn wake(&self) {
        match self.wake.try_send(()) {
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

/// What the looker takes the requests from.
#[derive(Debug)]
pub(super) struct LookRequested {
    woken: Receiver<()>,
    subject: Arc<Mutex<Subject>>,
}

impl LookRequested {
    /// What was asked for since the last time; nothing in particular if nothing was.
    fn take(&self) -> Subject {
        mem::take(&mut *locked(&self.subject))
    }
}

fn locked(subject: &Mutex<Subject>) -> MutexGuard<'_, Subject> {
    subject.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn look_requests() -> (LookRequests, LookRequested) {
    let (wake, woken) = crossbeam_channel::bounded(1);
    let subject = Arc::<Mutex<Subject>>::default();
    (LookRequests { wake, subject: Arc::clone(&subject) }, LookRequested { woken, subject })
}

/// The thread that looks at containers: when asked, and every 15 s.
#[derive(Debug)]
pub(crate) struct Looker {
    pub(super) address: docker::Address,
    pub(super) counts: Arc<docker::Counts>,
    pub(super) scope: Scope,
    /// Asked for once, before the first look.
    pub(super) needs_host_name: bool,
    pub(super) requests: LookRequested,
    pub(super) reports: Sender<Report>,
}

impl Looker {
    pub(crate) fn run(mut self, stop: &Stop) {
        let mut client = Client::counted(self.address.clone(), Arc::clone(&self.counts));
        let mut running = Running::default();
        let mut backoff = Backoff::for_requests();
        loop {
            let looked = self.look(&mut client, &mut running);
            let pause = match (&looked, &self.scope) {
                (Ok(_), Scope::Named(_)) => LOOK_INTERVAL,
                (Ok(_), Scope::Host) => running.until_listing(),
                (Err(_), _) => backoff.next(),
            };
            if looked.is_ok() {
                backoff.reset();
            }
            let looked = looked.map_err(|error| report::chain(&error));
            if self.reports.send(Report::Looked(looked)).is_err() {
                return;
            }
            select! {
                recv(self.requests.woken) -> _ => {}
                recv(stop.asked()) -> _ => return,
                default(pause) => {}
            }
        }
    }

    fn look(&mut self, client: &mut Client, running: &mut Running) -> Result<Seen, docker::Error> {
        if self.needs_host_name {
            // Without a registrar the process is ending.
            let _ = self.reports.send(Report::HostName(client.host_name()?));
            self.needs_host_name = false;
        }
        let subject = self.requests.take();
        match &self.scope {
            Scope::Named(name) => {
                let containers = client.container(name)?.into_iter().collect();
                Ok(Seen { containers, is_whole: true })
            }
            Scope::Host => running.look(client, &subject),
        }
    }
}

/// The thread that follows Docker's events.
#[derive(Debug)]
pub(crate) struct EventWatcher {
    pub(super) address: docker::Address,
    pub(super) counts: Arc<docker::Counts>,
    pub(super) scope: Scope,
    pub(super) looks: LookRequests,
    pub(super) reports: Sender<Report>,
}

impl EventWatcher {
    pub(crate) fn run(self, stop: &Stop) {
        let client = Client::counted(self.address.clone(), Arc::clone(&self.counts));
        let mut backoff = Backoff::for_requests();
        loop {
            let problem = match client.events() {
                Ok(events) => {
                    let subscribed = Instant::now();
                    // Subscribe, then look: what happens in between is not missed.
                    let _ = self.reports.send(Report::Subscribed);
                    self.looks.ask();
                    let ended = events.follow(|event| self.note(&event));
                    // A stream that ends at once must not be asked for in a loop.
                    if subscribed.elapsed() >= STREAM_LIFE {
                        backoff.reset();
                    }
                    ended.map_or_else(|e| report::chain(&e), |()| "Docker ended it".to_owned())
                }
                Err(error) => report::chain(&error),
            };
            debug!("the events stream: {problem}");
            if self.reports.send(Report::Unsubscribed(problem)).is_err() {
                return;
            }
            // What ended the stream may have changed everything.
            self.looks.ask();
            if stop.wait(backoff.next()) {
                return;
            }
        }
    }

    fn note(&self, event: &Event) {
        let id = event.container();
        // By name, because the id changes when the container is made anew, and by
        // its old name, because a rename takes the name away.
        let is_ours = match &self.scope {
            Scope::Named(name) => event.names().any(|of_event| of_event == name),
            Scope::Host => !id.is_empty(),
        };
        if !is_ours {
            return;
        }
        let name = event.names().next().unwrap_or(id);
        debug!("Docker says {} of {name}", event.action);
        if event.action == "kill" {
            let (container, signal, at_ns) = (id.to_owned(), event.signal(), event.time_nano);
            // Without a registrar the process is ending.
            let _ = self.reports.send(Report::Killed { container, signal, at_ns });
        }
        // An inspection may show a later state than the event: only it is believed.
        self.looks.ask_about(id);
    }
}
