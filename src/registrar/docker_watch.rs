//! The two threads that ask Docker, so that the registrar never waits for it:
//! one follows events, one looks at the container.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, select};
use log::debug;

use crate::{
    backoff::Backoff,
    docker::{self, Client, Container, Event},
    report,
    stop::Stop,
};

/// Docker is looked at this often, whatever its events say or fail to say.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

/// A stream that lasted so long was a working one.
const STREAM_LIFE: Duration = Duration::from_secs(5);

/// What the two threads tell the registrar.
#[derive(Debug)]
pub(super) enum Report {
    /// What Docker calls its host.
    HostName(String),
    Looked(Result<Option<Container>, String>),
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

/// Asks for a look; requests that come while one waits are one.
#[derive(Debug, Clone)]
pub(super) struct LookRequests(Sender<()>);

impl LookRequests {
    pub(super) fn ask(&self) {
        match self.0.try_send(()) {
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

pub(super) fn look_requests() -> (LookRequests, Receiver<()>) {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    (LookRequests(sender), receiver)
}

/// The thread that looks at the container: when asked, and every 15 s.
#[derive(Debug)]
pub(crate) struct Looker {
    pub(super) address: docker::Address,
    pub(super) container: String,
    /// Asked for once, before the first look.
    pub(super) needs_host_name: bool,
    pub(super) requests: Receiver<()>,
    pub(super) reports: Sender<Report>,
}

impl Looker {
    pub(crate) fn run(mut self, stop: &Stop) {
        let mut client = Client::new(self.address.clone());
        let mut backoff = Backoff::for_requests();
        loop {
            let looked = self.look(&mut client);
            let pause = match looked {
                Ok(_) => {
                    backoff.reset();
                    LOOK_INTERVAL
                }
                Err(_) => backoff.next(),
            };
            let looked = looked.map_err(|error| report::chain(&error));
            if self.reports.send(Report::Looked(looked)).is_err() {
                return;
            }
            select! {
                recv(self.requests) -> _ => {}
                recv(stop.asked()) -> _ => return,
                default(pause) => {}
            }
        }
    }
}

impl Looker {
    fn look(&mut self, client: &mut Client) -> Result<Option<Container>, docker::Error> {
        if self.needs_host_name {
            // Without a registrar the process is ending.
            let _ = self.reports.send(Report::HostName(client.host_name()?));
            self.needs_host_name = false;
        }
        client.container(&self.container)
    }
}

/// The thread that follows Docker's events.
#[derive(Debug)]
pub(crate) struct EventWatcher {
    pub(super) address: docker::Address,
    pub(super) container: String,
    pub(super) looks: LookRequests,
    pub(super) reports: Sender<Report>,
}

impl EventWatcher {
    pub(crate) fn run(self, stop: &Stop) {
        let client = Client::new(self.address.clone());
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
        // By name, because the id changes when the container is made anew, and by
        // its old name, because a rename takes the name away.
        if !event.names().any(|name| name == self.container) {
            return;
        }
        debug!("Docker says {} of {}", event.action, self.container);
        if event.action == "kill" {
            let container = event.container().to_owned();
            let (signal, at_ns) = (event.signal(), event.time_nano);
            // Without a registrar the process is ending.
            let _ = self.reports.send(Report::Killed { container, signal, at_ns });
        }
        // An inspection may show a later state than the event: only it is believed.
        self.looks.ask();
    }
}
