//! What to do with etcd, decided without doing it: `note` takes what happened, and
//! `next` gives back the one thing that is to be done first.
//!
//! Wanted (what Docker runs) is held against the entries (what was written).
//! Each entry has one status and one moment when it is due; everything else
//! follows from the two. One thing at a time, because what happens while etcd is asked
//! may change what is to be done then.

mod entry;
mod kills;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use log::Level;

use self::entry::Entry;
pub(super) use self::entry::Status;
use self::kills::Kills;
use super::{
    pace::Pace,
    wanted::{Life, Wanted},
};
use crate::{address::HostPort, backoff::Backoff, report};

/// How long entries are kept and refreshed while Docker gives no valid answer.
pub(super) const DOCKER_SILENCE: Duration = Duration::from_secs(5 * 60);

/// So many checks in a row must fail before an entry is taken out.
const FAILED_CHECKS: u32 = 2;

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
    /// Keys, and what each should hold.
    Refresh(Vec<(String, String)>),
    Remove {
        key: String,
        value: String,
    },
    Say(Level, String),
}

/// The registrar's state.
#[derive(Debug)]
pub(super) struct Core {
    refresh_interval: Duration,
    ttl: Duration,
    has_checks: bool,
    wanted: Vec<Wanted>,
    entries: BTreeMap<String, Entry>,
    kills: Kills,
    /// When the first container that got its stop signal is used again.
    returns: Option<Instant>,
    checks: HashMap<Probe, Check>,
    docker_silent_since: Option<Instant>,
    /// To be done before anything else.
    first: VecDeque<Action>,
    pace: Pace,
    /// etcd is not asked before, because it failed a moment ago.
    paused_until: Option<Instant>,
    pauses: Backoff,
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
            kills: Kills::default(),
            returns: None,
            checks: HashMap::new(),
            docker_silent_since: None,
            first: VecDeque::new(),
            pace: Pace::new(),
            paused_until: None,
            pauses: Backoff::for_requests(),
        }
    }

    /// Takes note of what happened.
    pub(super) fn note(&mut self, input: Input, now: Instant) {
        match input {
            Input::Wanted(wanted) => self.note_wanted(wanted, now),
            Input::DockerSilent => self.note_silence(now),
            Input::Killed { container, signal, at_ns } => {
                self.note_kill(&container, signal, at_ns, now);
            }
            Input::Checked { probe, is_reachable } => self.note_check(probe, is_reachable),
            // What is wanted stays the same, and a host may have hundreds of entries.
            Input::Outcome { key, outcome } => return self.note_outcome(&key, outcome, now),
            Input::Tick if self.returns.is_none_or(|at| at > now) => return,
            Input::Tick => {}
        }
        self.reconcile(now);
    }

    /// What is to be done first, if anything is due. Its outcome must be noted before the
    /// next call. A refresh has up to `most` entries.
    pub(super) fn next(&mut self, now: Instant, most: usize) -> Option<Action> {
        if let Some(action) = self.first.pop_front() {
            return Some(action);
        }
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        let may_write = self.pace.allows(now);
        let is_due = |(_, entry): &(&String, &Entry)| match entry.status {
            Status::Lost => false,
            Status::Unwritten => entry.due <= now && may_write,
            Status::Written | Status::Foreign | Status::Leaving => entry.due <= now,
        };
        // What leaves goes first: clients must not be sent there any more.
        let first = self
            .entries
            .iter()
            .filter(is_due)
            .min_by_key(|(_, entry)| (entry.status != Status::Leaving, entry.due))?;
        let (key, status) = (first.0.clone(), first.1.status);
        if status.is_refreshed() {
            return Some(Action::Refresh(self.refresh(now, most)));
        }
        let entry = self.entries.get_mut(&key).expect("it was found above");
        // Until its outcome is known; then it is set anew.
        entry.due = now + self.refresh_interval;
        let value = entry.wanted.value.clone();
        Some(if status == Status::Leaving {
            let value = entry.stored.last().unwrap_or(&value).clone();
            Action::Remove { key, value }
        } else {
            self.pace.take();
            entry.put = Some(now);
            entry.stored.retain(|stored| *stored != value);
            entry.stored.push(value.clone());
            Action::Put { key, value }
        })
    }

    /// Up to `most` entries that are due for a refresh, or soon will be: the fewer requests,
    /// the better, where one request can be for many.
    fn refresh(&mut self, now: Instant, most: usize) -> Vec<(String, String)> {
        let soon = now + self.refresh_interval / 2;
        let mut due: Vec<(&String, &mut Entry)> = self
            .entries
            .iter_mut()
            .filter(|(_, entry)| entry.status.is_refreshed() && entry.due <= soon)
            .collect();
        due.sort_by_key(|(_, entry)| entry.due);
        let refresh = |(key, entry): (&String, &mut Entry)| {
            entry.due = now + self.refresh_interval;
            (key.clone(), entry.wanted.value.clone())
        };
        due.into_iter().take(most).map(refresh).collect()
    }

    /// When `next` may have something new to say.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = |entry: &Entry| match entry.status {
            Status::Lost => None,
            Status::Unwritten => Some(entry.due.max(self.pace.next())),
            Status::Written | Status::Foreign | Status::Leaving => Some(entry.due),
        };
        let entries = self.entries.values().filter_map(due).min();
        let entries = entries.map(|due| self.paused_until.map_or(due, |until| due.max(until)));
        entries.into_iter().chain(self.returns).min()
    }

    /// What must be checked; several entries may stand for one address.
    pub(super) fn probes(&self) -> Vec<Probe> {
        let mut known = HashSet::new();
        let probes = self.wanted.iter().filter(|wanted| wanted.is_tcp).map(Probe::of);
        probes.filter(|probe| known.insert(probe.clone())).collect()
    }

    /// Every key, the value it is to hold, and how it does.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &str, Status)> {
        let entries = self.entries.iter();
        entries.map(|(key, entry)| (key.as_str(), entry.wanted.value.as_str(), entry.status))
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
        self.wanted = wanted;
        let probes: HashSet<Probe> = self.probes().into_iter().collect();
        self.checks.retain(|probe, _| probes.contains(probe));
        self.write_lost_entries(now);
    }

    fn note_silence(&mut self, now: Instant) {
        let since = *self.docker_silent_since.get_or_insert(now);
        self.write_lost_entries(now);
        if now.duration_since(since) >= DOCKER_SILENCE && !self.wanted.is_empty() {
            let silence = report::duration(DOCKER_SILENCE);
            let text = format!("Docker gave no valid answer for {silence}: entries are taken out");
            self.say(Level::Warn, text);
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
        let known = self.wanted.iter().find(|wanted| wanted.life.container == container);
        let life = known.map(|wanted| wanted.life.clone());
        self.kills.note(container, signal, at_ns, life, now);
    }

    fn note_check(&mut self, probe: Probe, is_reachable: bool) {
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
            self.say(Level::Warn, text);
        }
    }

    fn say(&mut self, level: Level, text: String) {
        self.first.push_back(Action::Say(level, text));
    }

    fn note_outcome(&mut self, key: &str, outcome: Outcome, now: Instant) {
        if outcome != Outcome::Failed {
            self.paused_until = None;
            self.pauses.reset();
        } else if self.paused_until.is_none_or(|until| until <= now) {
            self.paused_until = Some(now + self.pauses.next());
        }
        let Some(entry) = self.entries.get_mut(key) else { return };
        match (entry.status, outcome) {
            (_, Outcome::Failed) => {
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
                self.entries.remove(key);
                self.say(Level::Info, format!("{key} removed"));
                return;
            }
            (Status::Unwritten, _) => {
                let (address, ttl) = (&entry.wanted.address, report::duration(self.ttl));
                let text = format!("{key} registered at {address} for {ttl} at a time");
                entry.confirm(now, self.refresh_interval);
                entry.backoff.reset();
                self.say(Level::Info, text);
                return;
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
                    self.first.push_back(Action::Look);
                }
            }
            (Status::Written | Status::Foreign, Outcome::Foreign(value)) => {
                let warning = entry.meet_foreign(&value, now, self.refresh_interval);
                self.first.extend(warning.map(|text| Action::Say(Level::Warn, text)));
            }
            // Nothing is done to it before Docker has been asked.
            (Status::Lost, _) => {}
        }
        entry.backoff.reset();
    }

    /// Gives every key that is wanted now an entry to be written, and every other
    /// entry an end.
    fn reconcile(&mut self, now: Instant) {
        self.kills.forget_old(&self.wanted, now);
        self.returns = self.wanted.iter().filter_map(|w| self.kills.out_until(w, now)).min();
        for index in 0..self.wanted.len() {
            let wanted = &self.wanted[index];
            if !self.is_up(wanted, now) {
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
        let up: HashSet<&str> =
            self.wanted.iter().filter(|w| self.is_up(w, now)).map(|w| w.key.as_str()).collect();
        self.entries.retain(|key, entry| {
            if up.contains(key.as_str()) {
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
    fn is_up(&self, wanted: &Wanted, now: Instant) -> bool {
        let is_reachable = !self.has_checks
            || !wanted.is_tcp
            || self.checks.get(&Probe::of(wanted)).is_some_and(|check| check.is_up);
        is_reachable && self.kills.out_until(wanted, now).is_none()
    }
}

#[cfg(test)]
mod tests;
