//! Keeps etcd equal to what Docker runs.
//!
//! The `registrar` thread takes in what the threads beside it report (Docker's
//! events, looks at containers, checks), lets the core decide, and does to
//! etcd what the core says. It never waits for Docker, so that a Docker that
//! hangs cannot cost an entry its refresh.

mod all;
mod check;
mod core;
mod docker_watch;
mod explain;
mod following;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod host_ip;
mod interface;
mod metadata;
mod one;
mod orphans;
mod overview;
mod pace;
mod remarks;
mod running;
mod wanted;
mod withdrawal;

use std::{
    collections::HashSet,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, select};
use log::{Level, info, log, warn};

use self::{
    check::Checker,
    core::{Action, Core, Input, Outcome, Probe},
    docker_watch::{EventWatcher, LookRequests, Looker, Report, Scope},
    following::Following,
    orphans::Orphans,
    remarks::Remarks,
    running::Seen,
    wanted::{Judged, Verdict},
};
use crate::{
    docker::{self, Port},
    etcd::{self, Found, Store},
    outage::Outage,
    pulse::Pulse,
    report::{self, Failure},
    stop::Stop,
};

pub(crate) use all::{Reach, Rules};
pub(crate) use explain::explain;
pub(crate) use host_ip::{Ambient, HostIp};
pub(crate) use interface::reachable_addresses;
pub(crate) use one::One;
pub(crate) use overview::{Overview, Questions};
pub(crate) use wanted::{Source, Target};
pub(crate) use withdrawal::WITHDRAWAL;

/// Reports that may wait for the registrar, which may wait for etcd.
const WAITING_REPORTS: usize = 1024;

/// Docker fills in a port a moment after the start it announces: it is asked again
/// soon, then ever more rarely.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(50);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(5);

/// How the entry is kept.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) target: Target,
    pub(crate) ttl: Duration,
    /// Registered only while a TCP connect to the address succeeds.
    pub(crate) has_check: bool,
}

impl Config {
    /// With the address that `--interface` has now.
    ///
    /// # Errors
    /// There is no such interface, or it has no address.
    pub(crate) fn on_interface(mut self) -> Result<Config, Failure> {
        let host_ip = match &mut self.target.source {
            Source::Container { one, .. } => Some(&mut one.host_ip),
            Source::Host { rules: Rules { reach: Reach::Published(host_ip), .. }, .. } => {
                Some(host_ip)
            }
            Source::Fixed { .. } | Source::Host { .. } => None,
        };
        if let Some(host_ip) = host_ip {
            *host_ip = mem::take(host_ip).on_interface()?;
        }
        Ok(self)
    }
}

/// The threads of a registrar, to be started by its role.
#[derive(Debug)]
pub(crate) struct Threads {
    pub(crate) registrar: Registrar,
    /// Absent for a fixed address.
    pub(crate) docker: Option<(EventWatcher, Looker)>,
    pub(crate) checker: Option<Checker>,
    pub(crate) questions: Questions,
}

/// Puts the threads together; nothing runs yet.
pub(crate) fn threads(config: Config, store: Store) -> Threads {
    let (reports_in, reports) = crossbeam_channel::bounded(WAITING_REPORTS);
    let (looks, requests) = docker_watch::look_requests();
    let (scope, level_of_absence) = match &config.target.source {
        Source::Container { one, .. } => (Scope::Named(one.container.clone()), Level::Info),
        // Most containers of a host are nobody's business.
        Source::Fixed { .. } | Source::Host { .. } => (Scope::Host, Level::Debug),
    };
    let docker_counts = Arc::<docker::Counts>::default();
    let docker = config.target.docker().map(|docker| {
        let watcher = EventWatcher {
            address: docker.clone(),
            counts: Arc::clone(&docker_counts),
            scope: scope.clone(),
            looks: looks.clone(),
            reports: reports_in.clone(),
        };
        let (address, needs_host_name) = (docker.clone(), config.target.names_the_host());
        let counts = Arc::clone(&docker_counts);
        let reports = reports_in;
        let looker = Looker { address, counts, scope, needs_host_name, requests, reports };
        (watcher, looker)
    });
    let (targets, targets_out) = crossbeam_channel::unbounded();
    let (results_in, results) = crossbeam_channel::bounded(WAITING_REPORTS);
    let interval = config.ttl / 3;
    let checker =
        config.has_check.then_some(Checker { interval, targets: targets_out, results: results_in });
    let (questions, asked) = Questions::new();
    let registrar = Registrar {
        asked,
        has_reconciled: false,
        core: Core::new(config.ttl, config.has_check),
        orphans: Orphans::of(&config.target),
        remarks: Remarks::new(level_of_absence),
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
        has_looked: false,
        awaited: HashSet::new(),
        is_introduced: false,
        etcd_outage: Outage::default(),
        docker_outage: Outage::default(),
        docker_counts,
        events: Following::default(),
    };
    Threads { registrar, docker, checker, questions }
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
    has_looked: bool,
    /// Whether everything that was wanted was written, once.
    has_reconciled: bool,
    asked: Receiver<Sender<Overview>>,
    /// Ports of containers that Docker has not filled in yet.
    awaited: HashSet<(String, Option<Port>)>,
    remarks: Remarks,
    /// What an earlier life of this registrar may have left behind.
    orphans: Orphans,
    /// Whether it was said how etcd is talked to.
    is_introduced: bool,
    etcd_outage: Outage,
    docker_outage: Outage,
    docker_counts: Arc<docker::Counts>,
    events: Following,
}

impl Registrar {
    /// Registers until asked to stop, then takes out what it registered.
    ///
    /// # Errors
    /// Wrong usage, when the first look finds an address no other host can reach.
    pub(crate) fn run(mut self, stop: &Stop, pulse: &Pulse) -> Result<(), Failure> {
        if let Some(wanted) = self.target.fixed() {
            self.core.note(Input::Wanted(wanted), Instant::now());
            self.hand_over_probes();
        }
        loop {
            let now = Instant::now();
            if self.look_due.is_some_and(|due| due <= now) {
                self.look_due = None;
                self.looks.ask_again();
            }
            pulse.within(etcd::REQUEST_DEADLINE);
            let has_acted = self.act();
            if !has_acted {
                pulse.say(self.status());
                self.has_reconciled |= self.is_reconciled();
            }
            // Between two requests to etcd everything is heard that has happened, because
            // it may be more urgent. Without anything due, a report is all there is to
            // wait for.
            let hour = now + Duration::from_secs(3600);
            let due = [self.core.due(), self.look_due, self.orphans.due()];
            let due = due.into_iter().flatten().min().unwrap_or(hour);
            let patience = match has_acted {
                true => Duration::ZERO,
                false => due.saturating_duration_since(Instant::now()),
            };
            pulse.within(patience);
            if self.hear(patience, stop)? {
                break;
            }
        }
        withdrawal::withdraw(&self.store, self.core.owned());
        Ok(())
    }

    /// Whether everything that should be registered has been written.
    fn is_reconciled(&self) -> bool {
        let is_known = self.has_looked || self.target.docker().is_none();
        is_known && self.core.entries().all(|(.., status)| status != core::Status::Unwritten)
    }

    fn overview(&self) -> Overview {
        let entries = self.core.entries().map(|(key, value, status)| {
            (key.to_owned(), value.to_owned(), overview::in_words(status))
        });
        let docker::Counts { requests, events } = &*self.docker_counts;
        let docker = self.target.docker().map(|docker| {
            let reach = self.docker_outage.reach(docker.to_string(), self.has_looked, requests);
            (reach, events.get())
        });
        let member = self.store.member().to_string();
        Overview {
            has_reconciled: self.has_reconciled,
            entries: entries.collect(),
            etcd: self.etcd_outage.reach(member, self.is_introduced, self.store.requests()),
            docker,
        }
    }

    /// One line for people.
    fn status(&self) -> String {
        let mut keys: Vec<_> = self.core.owned().into_iter().map(|(key, _)| key).collect();
        keys.dedup();
        let kept = match &keys[..] {
            [] => "no entry".to_owned(),
            [key] => key.clone(),
            keys => format!("{} entries", keys.len()),
        };
        match self.etcd_outage.reason() {
            Some(reason) => format!("keeps {kept}; {reason}"),
            None => format!("keeps {kept}"),
        }
    }

    /// Takes in all reports that are there, or the first that comes within `patience`, and
    /// the time that has passed. `true` once asked to stop.
    fn hear(&mut self, mut patience: Duration, stop: &Stop) -> Result<bool, Failure> {
        loop {
            let input = select! {
                recv(stop.asked()) -> _ => return Ok(true),
                recv(self.reports) -> report => match report {
                    Ok(report) => self.note(report)?,
                    // The threads beside this one end only with the process. A fixed
                    // address has none.
                    Err(_) => {
                        self.reports = crossbeam_channel::never();
                        continue;
                    }
                },
                recv(self.check_results) -> result => match result {
                    Ok((probe, is_reachable)) => Some(Input::Checked { probe, is_reachable }),
                    Err(_) => {
                        self.check_results = crossbeam_channel::never();
                        continue;
                    }
                },
                recv(self.asked) -> question => {
                    // Who asked may have gone. With the last of them there are no more.
                    match question {
                        Ok(answer) => drop(answer.try_send(self.overview())),
                        Err(_) => self.asked = crossbeam_channel::never(),
                    }
                    None
                },
                default(patience) => {
                    self.core.note(Input::Tick, Instant::now());
                    return Ok(false);
                }
            };
            if let Some(input) = input {
                self.core.note(input, Instant::now());
                self.hand_over_probes();
            }
            patience = Duration::ZERO;
        }
    }

    /// Turns a report into an input of the core, and says what is new.
    fn note(&mut self, report: Report) -> Result<Option<Input>, Failure> {
        match report {
            Report::Killed { container, signal, at_ns } => {
                Ok(Some(Input::Killed { container, signal, at_ns }))
            }
            Report::Subscribed => {
                self.events.subscribed();
                Ok(None)
            }
            Report::Unsubscribed(problem) => {
                self.events.ended(problem);
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
            Report::Looked(Ok(seen)) => {
                if let Some(lasted) = self.docker_outage.ended(Instant::now()) {
                    info!("Docker answers again after {}", report::duration(lasted));
                }
                self.events.docker_answers();
                self.note_seen(&seen).map(Some)
            }
        }
    }

    fn note_seen(&mut self, Seen { containers, is_whole }: &Seen) -> Result<Input, Failure> {
        let judged = self.target.judge(containers, &self.host_name);
        let is_first = !mem::replace(&mut self.has_looked, true);
        // A mistake in a new unit must be seen by whoever starts it; later on, the next
        // container under this name may be right again.
        if is_first
            && let Source::Container { .. } = self.target.source
            && let [Judged { verdict: Verdict::Unreachable(why), .. }] = &judged[..]
        {
            return Err(Failure::Usage(why.clone()));
        }
        self.remarks.note(&judged);
        self.await_ports(&judged);
        if *is_whole {
            self.orphans.note(containers, &self.host_name);
        }
        let wanted = |judged: Judged| match judged.verdict {
            Verdict::Present { wanted, .. } => wanted,
            _ => Vec::new(),
        };
        Ok(Input::Wanted(judged.into_iter().flat_map(wanted).collect()))
    }

    /// Has Docker asked again for what it has not said yet.
    fn await_ports(&mut self, judged: &[Judged]) {
        let is_awaited = |judged: &&Judged| judged.verdict == Verdict::NotYet;
        let awaited: HashSet<(String, Option<Port>)> =
            judged.iter().filter(is_awaited).map(|j| (j.container.clone(), j.port)).collect();
        if !awaited.is_subset(&self.awaited) {
            self.look_pause = LOOK_AGAIN_MIN;
        }
        if !awaited.is_empty() {
            self.look_due = Some(Instant::now() + self.look_pause);
            let pause = (self.look_pause * 2).min(LOOK_AGAIN_MAX);
            if pause == LOOK_AGAIN_MAX && self.look_pause < LOOK_AGAIN_MAX {
                let names: Vec<&str> = awaited.iter().map(|(name, _)| name.as_str()).collect();
                let names = report::excerpt(&names.join(", "));
                warn!(
                    "not registered: Docker says that the port of {names} is published, and not \
                     where"
                );
            }
            self.look_pause = pause;
        }
        self.awaited = awaited;
    }

    /// Tells the checker what there is to be checked, if that has changed.
    fn hand_over_probes(&mut self) {
        let probes = self.core.probes();
        if probes != self.checked {
            // Without a checker nobody takes them.
            let _ = self.check_targets.send(probes.clone());
            self.checked = probes;
        }
    }

    /// Does the one thing that the core wants to be done first. `false` if it wants nothing.
    fn act(&mut self) -> bool {
        let now = Instant::now();
        let Some(action) = self.core.next(now, self.store.refreshed_at_once()) else {
            return self.sweep(now);
        };
        match action {
            Action::Look => self.looks.ask(),
            Action::Say(level, text) => log!(level, "{text}"),
            Action::Put { key, value } => {
                let put = self.store.put(&key, &value, self.ttl_s).map(|()| Outcome::Done);
                self.note_outcome(key, put);
            }
            Action::Remove { key, value } => {
                let removed = match self.store.remove_if(&key, &value) {
                    Ok(()) => Ok(Outcome::Done),
                    Err(etcd::Error::NoSuchKey { .. }) => Ok(Outcome::Missing),
                    Err(etcd::Error::CompareFailed { .. }) => Ok(Outcome::Foreign(String::new())),
                    Err(error) => Err(error),
                };
                self.note_outcome(key, removed);
            }
            Action::Refresh(entries) => match self.store.refresh(&entries, self.ttl_s) {
                Ok(found) => {
                    for ((key, _), found) in entries.into_iter().zip(found) {
                        self.note_outcome(key, Ok(found.into()));
                    }
                }
                Err(error) => {
                    self.note_failure(&error);
                    for (key, _) in entries {
                        let outcome = Outcome::Failed;
                        self.core.note(Input::Outcome { key, outcome }, Instant::now());
                    }
                }
            },
        }
        true
    }

    fn note_outcome(&mut self, key: String, result: Result<Outcome, etcd::Error>) {
        let outcome = match result {
            Ok(outcome) => {
                self.note_answer();
                outcome
            }
            Err(error) => {
                self.note_failure(&error);
                Outcome::Failed
            }
        };
        self.core.note(Input::Outcome { key, outcome }, Instant::now());
    }

    /// An outage is said once; so is its end.
    fn note_answer(&mut self) {
        if !mem::replace(&mut self.is_introduced, true) {
            info!("{}", self.store.introduction());
        }
        if let Some(lasted) = self.etcd_outage.ended(Instant::now()) {
            let (member, lasted) = (self.store.member(), report::duration(lasted));
            info!("etcd at {member} answers again after {lasted}");
        }
    }

    fn note_failure(&mut self, error: &etcd::Error) {
        let error = report::chain(error);
        if let Some(lasted) = self.etcd_outage.failed(Instant::now(), &error) {
            let lasting = report::lasting(lasted);
            warn!("{error}{lasting}; entries expire if this lasts; trying on");
        }
    }

    /// Takes out one thing that an earlier life left behind. `false` if there is nothing.
    fn sweep(&mut self, now: Instant) -> bool {
        match self.orphans.sweep_one(&self.store, now) {
            Ok(has_swept) => has_swept,
            Err(error) => {
                self.note_failure(&error);
                false
            }
        }
    }
}

impl From<Found> for Outcome {
    fn from(found: Found) -> Self {
        match found {
            Found::Ours => Outcome::Done,
            Found::Nothing => Outcome::Missing,
            Found::Foreign(value) => Outcome::Foreign(value),
        }
    }
}
