//! What to do with etcd, decided without doing it: `step` takes what happened
//! and the time, and gives back what is to be done.
//!
//! Wanted (what Docker runs) is held against the entries (what was written).
//! Each entry has one status and one moment when it is due; everything else
//! follows from the two.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use log::Level;

use super::wanted::{Life, Wanted};
use crate::{address::HostPort, backoff::Backoff, report, service::Instance};

/// How long entries are kept and refreshed while Docker gives no valid answer.
const DOCKER_SILENCE: Duration = Duration::from_secs(5 * 60);

/// Between two writes against a foreign value that names our own host: two
/// registrars of one container must not fight at full speed.
const REWRITE_GAP: Duration = Duration::from_secs(10);

/// A container that survives its stop signal is back after this long, or after
/// its stop timeout if that is longer.
const SURVIVAL: Duration = Duration::from_secs(30);

/// So many checks in a row must fail before an entry is taken out.
const FAILED_CHECKS: u32 = 2;

const SIGKILL: i32 = 9;

/// What happened.
#[derive(Debug, Clone)]
pub(super) enum Input {
    /// Everything that should be registered, as Docker says now.
    Wanted(Vec<Wanted>),
    /// Docker was asked and gave no valid answer.
    DockerSilent,
    /// Docker says that a signal was sent to a container, and when, in nanoseconds
    /// of its clock.
    Killed {
        container: String,
        signal: Option<i32>,
        at_ns: Option<i64>,
    },
    Checked {
        probe: Probe,
        is_reachable: bool,
    },
    /// What became of an action on `key`.
    Outcome {
        key: String,
        outcome: Outcome,
    },
    /// Time has passed.
    Tick,
}

/// What is to be checked: one address, for one run of its container. A container
/// that starts again on the same port has yet to show that it listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Probe {
    pub(super) address: HostPort,
    life: Life,
}

impl Probe {
    pub(super) fn of(wanted: &Wanted) -> Self {
        Probe { address: wanted.address.clone(), life: wanted.life.clone() }
    }
}

/// What etcd answered to a put, a refresh or a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// The key does not exist.
    Missing,
    /// The key holds somebody else's value.
    Foreign(String),
    /// No usable answer; it may have been done or not.
    Failed,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask Docker, and say so by `Input::Wanted` or `Input::DockerSilent`.
    Look,
    Put {
        key: String,
        value: String,
    },
    Refresh {
        key: String,
        value: String,
    },
    Remove {
        key: String,
        value: String,
    },
    Say(Level, String),
}

/// What is known of one key.
#[derive(Debug)]
struct Entry {
    wanted: Wanted,
    status: Status,
    /// When the next action on it is to be taken.
    due: Instant,
    /// The values of ours that etcd may hold: more than one after writes whose
    /// outcome is not known.
    stored: Vec<String>,
    /// When it was written, or tried to be.
    put: Option<Instant>,
    /// When etcd last said that it holds our value.
    confirmed: Instant,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// To be put when due.
    Unwritten,
    /// Vanished from etcd: to be put once Docker has been asked.
    Lost,
    /// Holds our value: to be refreshed when due.
    Written,
    /// Holds somebody else's value: looked at when due, and left alone.
    Foreign,
    /// To be removed when due.
    Leaving,
}

/// The registrar's state.
#[derive(Debug)]
pub(super) struct Core {
    refresh_interval: Duration,
    ttl: Duration,
    has_checks: bool,
    wanted: Vec<Wanted>,
    entries: BTreeMap<String, Entry>,
    /// Containers that got their stop signal, and until when they are out.
    leaving: HashMap<String, (Life, Instant)>,
    checks: HashMap<Probe, Check>,
    docker_silent_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Check {
    is_up: bool,
    failures: u32,
}

impl Core {
    /// Entries live for `ttl` and are refreshed every third of it; with
    /// `has_checks` only what passes its checks is registered.
    pub(super) fn new(ttl: Duration, has_checks: bool) -> Self {
        Core {
            refresh_interval: ttl / 3,
            ttl,
            has_checks,
            wanted: Vec::new(),
            entries: BTreeMap::new(),
            leaving: HashMap::new(),
            checks: HashMap::new(),
            docker_silent_since: None,
        }
    }

    /// Takes note of `input` and says what is to be done at `now`.
    pub(super) fn step(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Wanted(wanted) => self.note_wanted(wanted, now),
            Input::DockerSilent => self.note_silence(now, &mut actions),
            Input::Killed { container, signal, at_ns } => {
                self.note_kill(&container, signal, at_ns, now);
            }
            Input::Checked { probe, is_reachable } => {
                self.note_check(probe, is_reachable, &mut actions);
            }
            Input::Outcome { key, outcome } => self.note_outcome(&key, outcome, now, &mut actions),
            Input::Tick => {}
        }
        self.reconcile(now);
        self.take_due_actions(now, &mut actions);
        actions
    }

    /// When `step` must be called again, at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        let entries = self.entries.values().filter(|entry| entry.status != Status::Lost);
        let returns = self.leaving.values().map(|(_, until)| *until);
        entries.map(|entry| entry.due).chain(returns).min()
    }

    /// What must be checked.
    pub(super) fn probes(&self) -> Vec<Probe> {
        let mut probes: Vec<Probe> = Vec::new();
        for probe in self.wanted.iter().map(Probe::of) {
            // Several entries may stand for one address.
            if !probes.contains(&probe) {
                probes.push(probe);
            }
        }
        probes
    }

    /// Keys that may hold a value of ours, with every such value.
    pub(super) fn owned(&self) -> Vec<(String, String)> {
        let of_entry = |(key, entry): (&String, &Entry)| -> Vec<(String, String)> {
            entry.stored.iter().map(|value| (key.clone(), value.clone())).collect()
        };
        self.entries.iter().flat_map(of_entry).collect()
    }

    fn note_wanted(&mut self, wanted: Vec<Wanted>, now: Instant) {
        self.docker_silent_since = None;
        self.checks.retain(|probe, _| wanted.iter().any(|w| Probe::of(w) == *probe));
        self.wanted = wanted;
        self.write_lost_entries(now);
    }

    fn note_silence(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let since = *self.docker_silent_since.get_or_insert(now);
        self.write_lost_entries(now);
        if now.duration_since(since) >= DOCKER_SILENCE && !self.wanted.is_empty() {
            let silence = report::duration(DOCKER_SILENCE);
            let text = format!("Docker gave no valid answer for {silence}: entries are taken out");
            actions.push(Action::Say(Level::Warn, text));
            self.wanted.clear();
        }
    }

    /// Docker has been asked, so what etcd lost may be written again.
    fn write_lost_entries(&mut self, now: Instant) {
        for entry in self.entries.values_mut().filter(|entry| entry.status == Status::Lost) {
            entry.status = Status::Unwritten;
            entry.due = now;
        }
    }

    fn note_kill(
        &mut self,
        container: &str,
        signal: Option<i32>,
        at_ns: Option<i64>,
        now: Instant,
    ) {
        let Some(wanted) = self.wanted.iter().find(|w| w.life.container == container) else {
            return;
        };
        // A late word of the run before: a look has shown the present one already.
        if at_ns.zip(wanted.started_ns).is_some_and(|(at_ns, started_ns)| at_ns < started_ns) {
            return;
        }
        // Podman's events may lack the signal. Other signals ask for something else.
        if signal.is_none_or(|signal| signal == wanted.stop_signal || signal == SIGKILL) {
            let until = now + SURVIVAL.max(wanted.stop_timeout);
            self.leaving.insert(container.to_owned(), (wanted.life.clone(), until));
        }
    }

    fn note_check(&mut self, probe: Probe, is_reachable: bool, actions: &mut Vec<Action>) {
        if !self.wanted.iter().any(|wanted| Probe::of(wanted) == probe) {
            return; // It was replaced while the check was under way.
        }
        let address = probe.address.clone();
        let check = self.checks.entry(probe).or_default();
        if is_reachable {
            check.failures = 0;
            check.is_up = true;
            return;
        }
        check.failures += 1;
        if check.failures == FAILED_CHECKS {
            let fate = if check.is_up { "taken out" } else { "not registered" };
            check.is_up = false;
            let text = format!(
                "{address} failed {FAILED_CHECKS} checks in a row: {fate} until it takes connections"
            );
            actions.push(Action::Say(Level::Warn, text));
        }
    }

    fn note_outcome(
        &mut self,
        key: &str,
        outcome: Outcome,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        match (entry.status, outcome) {
            (_, Outcome::Failed) => {
                let is_expired = now.duration_since(entry.confirmed) > self.ttl;
                if entry.status == Status::Leaving && is_expired {
                    self.entries.remove(key);
                    return;
                }
                entry.due = now + entry.backoff.next().min(self.refresh_interval);
                return;
            }
            // Not this one of our values: another, or somebody else's.
            (Status::Leaving, Outcome::Foreign(_)) => {
                entry.stored.pop();
                entry.due = now;
                if entry.stored.is_empty() {
                    self.entries.remove(key);
                    return;
                }
            }
            (Status::Leaving, Outcome::Done | Outcome::Missing) => {
                actions.push(Action::Say(Level::Info, format!("{key} removed")));
                self.entries.remove(key);
                return;
            }
            (Status::Unwritten, _) => {
                let (address, ttl) = (&entry.wanted.address, report::duration(self.ttl));
                let text = format!("{key} registered at {address} for {ttl} at a time");
                actions.push(Action::Say(Level::Info, text));
                entry.confirm(now, self.refresh_interval);
            }
            (Status::Written | Status::Foreign, Outcome::Done) => {
                entry.confirm(now, self.refresh_interval);
            }
            (Status::Written | Status::Foreign, Outcome::Missing) => {
                // It expired while this process or etcd stood still, or was deleted.
                // The world may have changed meanwhile, so Docker is asked first.
                entry.status = Status::Lost;
                if entry.wanted.life.is_fixed() {
                    entry.status = Status::Unwritten;
                    entry.due = now;
                } else {
                    actions.push(Action::Look);
                }
            }
            (Status::Written | Status::Foreign, Outcome::Foreign(value)) => {
                entry.meet_foreign(&value, now, self.refresh_interval, actions);
            }
            // Nothing is done to it before Docker has been asked.
            (Status::Lost, _) => {}
        }
        entry.backoff.reset();
    }

    /// Gives every key that is wanted now an entry to be written, and every other
    /// entry an end.
    fn reconcile(&mut self, now: Instant) {
        self.leaving.retain(|_, (_, until)| *until > now);
        for index in 0..self.wanted.len() {
            let wanted = &self.wanted[index];
            if !self.is_up(wanted) {
                continue;
            }
            match self.entries.get_mut(&wanted.key) {
                Some(entry)
                    if entry.status != Status::Leaving
                        && entry.wanted.value == wanted.value
                        && entry.wanted.life == wanted.life => {}
                // Who starts writes, whatever is there.
                Some(entry) => {
                    entry.wanted = wanted.clone();
                    entry.status = Status::Unwritten;
                    entry.due = now;
                    entry.backoff.reset();
                }
                None => {
                    self.entries.insert(wanted.key.clone(), Entry::new(wanted.clone(), now));
                }
            }
        }
        let up: Vec<&str> =
            self.wanted.iter().filter(|w| self.is_up(w)).map(|w| w.key.as_str()).collect();
        self.entries.retain(|key, entry| {
            if up.contains(&key.as_str()) {
                return true;
            }
            if entry.status != Status::Leaving && entry.may_be_ours() {
                entry.status = Status::Leaving;
                entry.due = now;
                entry.backoff.reset();
            }
            entry.status == Status::Leaving
        });
    }

    /// Whether what is wanted can be used now.
    fn is_up(&self, wanted: &Wanted) -> bool {
        let has_left =
            self.leaving.get(&wanted.life.container).is_some_and(|(life, _)| *life == wanted.life);
        let is_reachable =
            !self.has_checks || self.checks.get(&Probe::of(wanted)).is_some_and(|c| c.is_up);
        !has_left && is_reachable
    }

    fn take_due_actions(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for (key, entry) in &mut self.entries {
            if entry.due > now {
                continue;
            }
            let (key, value) = (key.clone(), entry.wanted.value.clone());
            actions.push(match entry.status {
                Status::Lost => continue,
                Status::Unwritten => {
                    entry.put = Some(now);
                    entry.stored.retain(|stored| *stored != value);
                    entry.stored.push(value.clone());
                    Action::Put { key, value }
                }
                Status::Written | Status::Foreign => Action::Refresh { key, value },
                Status::Leaving => {
                    let value = entry.stored.last().unwrap_or(&value).clone();
                    Action::Remove { key, value }
                }
            });
            // Until its outcome is known; then it is set anew.
            entry.due = now + self.refresh_interval;
        }
    }
}

impl Entry {
    fn new(wanted: Wanted, now: Instant) -> Self {
        Entry {
            wanted,
            status: Status::Unwritten,
            due: now,
            stored: Vec::new(),
            put: None,
            confirmed: now,
            backoff: Backoff::for_requests(),
        }
    }

    fn confirm(&mut self, now: Instant, refresh_interval: Duration) {
        self.status = Status::Written;
        self.stored = vec![self.wanted.value.clone()];
        self.confirmed = now;
        self.due = now + refresh_interval;
    }

    /// Whether etcd may hold our value under this key.
    fn may_be_ours(&self) -> bool {
        !self.stored.is_empty()
    }

    fn meet_foreign(
        &mut self,
        value: &str,
        now: Instant,
        refresh_interval: Duration,
        actions: &mut Vec<Action>,
    ) {
        let host = value.parse::<Instance>().map(|instance| instance.address.host);
        if host.is_ok_and(|host| host == self.wanted.address.host) {
            // Left over from an earlier life on this host, or a second registrar.
            self.status = Status::Unwritten;
            self.due = self.put.map_or(now, |put| (put + REWRITE_GAP).max(now));
            return;
        }
        if self.status != Status::Foreign {
            self.status = Status::Foreign;
            self.stored.clear();
            let (key, value) = (&self.wanted.key, report::excerpt(value));
            let text = format!(
                "{key} was taken over by another registrar ({value}): left alone until it \
                 vanishes or our container starts again"
            );
            actions.push(Action::Say(Level::Warn, text));
        }
        self.due = now + refresh_interval;
    }
}

#[cfg(test)]
mod tests;
