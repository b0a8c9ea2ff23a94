//! Keeps etcd equal to what Docker runs.
//!
//! The `registrar` thread takes in what the threads beside it report (Docker's
//! events, looks at the container, checks), lets the core decide, and does to
//! etcd what the core says. It never waits for Docker, so that a Docker that
//! hangs cannot cost an entry its refresh.

mod check;
mod core;
mod docker_watch;
mod explain;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod wanted;

use std::{
    collections::VecDeque,
    mem,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, select};
use log::{debug, info, log, warn};

use self::{
    check::Checker,
    core::{Action, Core, Input, Outcome, Probe},
    docker_watch::{EventWatcher, LookRequests, Looker, Report},
    wanted::{Verdict, Wanted},
};
use crate::{
    etcd::{self, Store},
    outage::Outage,
    report::{self, Failure},
    stop::Stop,
};

pub(crate) use explain::explain;
pub(crate) use wanted::{HostIp, Source, Target};

/// Reports that may wait for the registrar, which may wait for etcd.
const WAITING_REPORTS: usize = 1024;

/// Docker fills in a port a moment after the start it announces: it is asked again
/// soon, then ever more rarely.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(50);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(5);

/// Events that are not followed for so long, while Docker answers, are worth a
/// warning: a Docker that comes back answers a moment before it is subscribed to.
const EVENTS_GRACE: Duration = Duration::from_secs(5);

/// How long taking out our entries may hold up the end of the process.
pub(crate) const WITHDRAWAL: Duration = Duration::from_secs(2);

/// What is left of it for saying what could not be taken out.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How the entry is kept.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) target: Target,
    pub(crate) ttl: Duration,
    /// Registered only while a TCP connect to the address succeeds.
    pub(crate) has_check: bool,
}

/// The threads of a registrar, to be started by its role.
#[derive(Debug)]
pub(crate) struct Threads {
    pub(crate) registrar: Registrar,
    /// Absent for a fixed address.
    pub(crate) docker: Option<(EventWatcher, Looker)>,
    pub(crate) checker: Option<Checker>,
}

/// Puts the threads together; nothing runs yet.
pub(crate) fn threads(config: Config, store: Store) -> Threads {
    let (reports_in, reports) = crossbeam_channel::bounded(WAITING_REPORTS);
    let (looks, requests) = docker_watch::look_requests();
    let docker = match &config.target.source {
        Source::Fixed(_) => None,
        Source::Container { name, docker, .. } => {
            let (address, container) = (docker.clone(), name.clone());
            let watcher = EventWatcher {
                address: address.clone(),
                container: container.clone(),
                looks: looks.clone(),
                reports: reports_in.clone(),
            };
            let needs_host_name = config.target.names_the_host();
            let looker =
                Looker { address, container, needs_host_name, requests, reports: reports_in };
            Some((watcher, looker))
        }
    };
    let (targets, targets_out) = crossbeam_channel::unbounded();
    let (results_in, results) = crossbeam_channel::bounded(WAITING_REPORTS);
    let interval = config.ttl / 3;
    let checker =
        config.has_check.then_some(Checker { interval, targets: targets_out, results: results_in });
    let registrar = Registrar {
        core: Core::new(config.ttl, config.has_check),
        target: config.target,
        ttl_s: config.ttl.as_secs(),
        store,
        reports,
        looks,
        check_targets: targets,
        check_results: results,
        checked: Vec::new(),
        look_due: None,
        look_pause: LOOK_AGAIN_MIN,
        host_name: String::new(),
        verdict: None,
        mistake: None,
        is_introduced: false,
        etcd_outage: Outage::default(),
        docker_outage: Outage::default(),
        events_outage: None,
    };
    Threads { registrar, docker, checker }
}

/// Docker answers, but its events cannot be followed.
#[derive(Debug)]
struct EventsOutage {
    since: Instant,
    problem: String,
    is_said: bool,
    /// When they were subscribed to again. A stream that ends at once mends nothing.
    mended: Option<Instant>,
}

impl EventsOutage {
    fn is_over(&self) -> bool {
        self.mended.is_some_and(|mended| mended.elapsed() > EVENTS_GRACE)
    }
}

/// The thread that decides and writes.
#[derive(Debug)]
pub(crate) struct Registrar {
    core: Core,
    target: Target,
    ttl_s: u64,
    store: Store,
    reports: Receiver<Report>,
    looks: LookRequests,
    check_targets: Sender<Vec<Probe>>,
    check_results: Receiver<(Probe, bool)>,
    /// What the checker was given.
    checked: Vec<Probe>,
    /// When Docker is to be asked again, besides the looker's own rhythm.
    look_due: Option<Instant>,
    /// How long to wait with that while a port is not there yet.
    look_pause: Duration,
    /// What Docker calls its host; empty if it was not asked for.
    host_name: String,
    /// What the last look said: repeated in the log only when it changes.
    verdict: Option<Verdict>,
    /// The mistake that was warned about last.
    mistake: Option<String>,
    /// Whether it was said how etcd is talked to.
    is_introduced: bool,
    etcd_outage: Outage,
    docker_outage: Outage,
    events_outage: Option<EventsOutage>,
}

impl Registrar {
    /// Registers until asked to stop, then takes out what it registered.
    ///
    /// # Errors
    /// Wrong usage, when the first look finds an address no other host can reach.
    pub(crate) fn run(mut self, stop: &Stop) -> Result<(), Failure> {
        let mut input = self.target.fixed().map(Input::Wanted);
        loop {
            if let Some(input) = input.take() {
                self.act_on(input, stop);
            }
            let now = Instant::now();
            if self.look_due.is_some_and(|due| due <= now) {
                self.look_due = None;
                self.looks.ask();
            }
            // Without anything due, the next report is all there is to wait for.
            let hour = now + Duration::from_secs(3600);
            let due = self.core.due().into_iter().chain(self.look_due).min().unwrap_or(hour);
            let patience = due.saturating_duration_since(now);
            input = select! {
                recv(stop.asked()) -> _ => break,
                recv(self.reports) -> report => match report {
                    Ok(report) => self.note(report)?,
                    // The threads beside this one end only with the process. A fixed
                    // address has none.
                    Err(_) => {
                        self.reports = crossbeam_channel::never();
                        None
                    }
                },
                recv(self.check_results) -> result => match result {
                    Ok((probe, is_reachable)) => Some(Input::Checked { probe, is_reachable }),
                    Err(_) => {
                        self.check_results = crossbeam_channel::never();
                        None
                    }
                },
                default(patience) => Some(Input::Tick),
            };
        }
        self.withdraw();
        Ok(())
    }

    /// Turns a report into an input of the core, and says what is new.
    fn note(&mut self, report: Report) -> Result<Option<Input>, Failure> {
        match report {
            Report::Killed { container, signal, at_ns } => {
                Ok(Some(Input::Killed { container, signal, at_ns }))
            }
            Report::Subscribed => {
                if let Some(outage) = &mut self.events_outage {
                    outage.mended = Some(Instant::now());
                }
                Ok(None)
            }
            Report::Unsubscribed(problem) => {
                let (since, is_said) = match self.events_outage.take() {
                    Some(outage) if !outage.is_over() => (outage.since, outage.is_said),
                    _ => (Instant::now(), false),
                };
                self.events_outage = Some(EventsOutage { since, problem, is_said, mended: None });
                Ok(None)
            }
            Report::HostName(name) => {
                self.host_name = name;
                Ok(None)
            }
            Report::Looked(Err(problem)) => {
                if let Some(lasted) = self.docker_outage.failed(Instant::now(), &problem) {
                    let lasting = report::lasting(lasted);
                    warn!("{problem}{lasting}; entries are kept for 5 minutes; trying on");
                }
                Ok(Some(Input::DockerSilent))
            }
            Report::Looked(Ok(container)) => {
                if let Some(lasted) = self.docker_outage.ended(Instant::now()) {
                    info!("Docker answers again after {}", report::duration(lasted));
                }
                self.note_events();
                let Source::Container { name, port, host_ip, .. } = &self.target.source else {
                    return Ok(None);
                };
                let host = &self.host_name;
                let verdict = self.target.judge(name, *port, host_ip, container.as_ref(), host);
                self.note_verdict(verdict).map(Some)
            }
        }
    }

    /// Says once that events cannot be followed, while Docker answers otherwise.
    fn note_events(&mut self) {
        let Some(outage) = &mut self.events_outage else { return };
        if outage.is_over() {
            if outage.is_said {
                info!("Docker's events are followed again");
            }
            self.events_outage = None;
        } else if !outage.is_said && outage.since.elapsed() > EVENTS_GRACE {
            outage.is_said = true;
            let problem = &outage.problem;
            warn!("Docker's events cannot be followed, it is asked instead: {problem}");
        }
    }

    fn note_verdict(&mut self, verdict: Verdict) -> Result<Input, Failure> {
        let is_first = self.verdict.is_none();
        let is_news = self.verdict.as_ref() != Some(&verdict);
        let wanted: Vec<Wanted> = match &verdict {
            Verdict::Present(wanted) => {
                self.mistake = None;
                wanted.clone()
            }
            Verdict::Absent(why) => {
                if is_news {
                    info!("not registered: {why}");
                }
                Vec::new()
            }
            Verdict::Unpublished(why) => {
                self.warn_of_mistake(why);
                Vec::new()
            }
            Verdict::NotYet => {
                if is_news {
                    self.look_pause = LOOK_AGAIN_MIN;
                }
                self.look_due = Some(Instant::now() + self.look_pause);
                let pause = (self.look_pause * 2).min(LOOK_AGAIN_MAX);
                if pause == LOOK_AGAIN_MAX && self.look_pause < LOOK_AGAIN_MAX {
                    warn!("not registered: Docker says that the port is published, and not where");
                }
                self.look_pause = pause;
                Vec::new()
            }
            // A mistake in a new unit must be seen by whoever starts it; later on,
            // the next container under this name may be right again.
            Verdict::Unreachable(why) if is_first => return Err(Failure::Usage(why.clone())),
            Verdict::Unreachable(why) => {
                self.warn_of_mistake(why);
                Vec::new()
            }
        };
        self.verdict = Some(verdict);
        Ok(Input::Wanted(wanted))
    }

    /// Once, and not again when the container was merely paused in between.
    fn warn_of_mistake(&mut self, why: &str) {
        if self.mistake.as_deref() != Some(why) {
            warn!("not registered: {why}");
            self.mistake = Some(why.to_owned());
        }
    }

    /// Lets the core decide on `input`, and on the outcome of everything it asks for.
    fn act_on(&mut self, input: Input, stop: &Stop) {
        let mut actions = VecDeque::from(self.core.step(input, Instant::now()));
        while let Some(action) = actions.pop_front() {
            if stop.is_asked() {
                return;
            }
            let (key, outcome) = match action {
                Action::Look => {
                    self.looks.ask();
                    continue;
                }
                Action::Say(level, text) => {
                    log!(level, "{text}");
                    continue;
                }
                Action::Put { key, value } => {
                    let put = self.store.put(&key, &value, self.ttl_s);
                    (key, self.outcome(put))
                }
                Action::Refresh { key, value } => {
                    let refreshed = self.store.refresh(&key, &value, self.ttl_s);
                    let outcome = match self.outcome(refreshed) {
                        Outcome::Foreign(_) => self.foreign_value(&key),
                        outcome => outcome,
                    };
                    (key, outcome)
                }
                Action::Remove { key, value } => {
                    let removed = self.store.remove_if(&key, &value);
                    (key, self.outcome(removed))
                }
            };
            actions.extend(self.core.step(Input::Outcome { key, outcome }, Instant::now()));
        }
        let probes = self.core.probes();
        if probes != self.checked {
            // Without a checker nobody takes them.
            let _ = self.check_targets.send(probes.clone());
            self.checked = probes;
        }
    }

    /// What a call to etcd came to; an outage is said once.
    fn outcome(&mut self, result: Result<(), etcd::Error>) -> Outcome {
        let (outcome, failure) = match result {
            Ok(()) => (Outcome::Done, None),
            Err(etcd::Error::NoSuchKey { .. }) => (Outcome::Missing, None),
            Err(etcd::Error::CompareFailed { .. }) => (Outcome::Foreign(String::new()), None),
            Err(error) => (Outcome::Failed, Some(error)),
        };
        let now = Instant::now();
        match failure {
            None => {
                if !mem::replace(&mut self.is_introduced, true) {
                    info!("{}", self.store.introduction());
                }
                if let Some(lasted) = self.etcd_outage.ended(now) {
                    let (member, lasted) = (self.store.member(), report::duration(lasted));
                    info!("etcd at {member} answers again after {lasted}");
                }
            }
            Some(error) => {
                let error = report::chain(&error);
                if let Some(lasted) = self.etcd_outage.failed(now, &error) {
                    let lasting = report::lasting(lasted);
                    warn!("{error}{lasting}; entries expire if this lasts; trying on");
                }
            }
        }
        outcome
    }

    fn foreign_value(&mut self, key: &str) -> Outcome {
        match self.store.get(key) {
            Ok(Some(value)) => Outcome::Foreign(value),
            Ok(None) => Outcome::Missing,
            Err(error) => self.outcome(Err(error)),
        }
    }

    /// Best effort: what fails here expires with its TTL.
    fn withdraw(&mut self) {
        let deadline = Instant::now() + WITHDRAWAL - LAST_WORDS;
        for (key, value) in self.core.owned() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.store.remove_if_within(&key, &value, left) {
                Ok(()) => info!("{key} removed"),
                Err(
                    error @ (etcd::Error::NoSuchKey { .. } | etcd::Error::CompareFailed { .. }),
                ) => {
                    debug!("{}", report::chain(&error));
                }
                Err(error) => {
                    warn!("{}; {key} stays until its TTL ends", report::chain(&error));
                }
            }
        }
    }
}
