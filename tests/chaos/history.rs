//! What really was, and when: which server ran where, and what was broken.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A span of time; without an end it lasts until now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Instant,
    pub(super) until: Option<Instant>,
}

impl Span {
    pub(super) fn starting(from: Instant) -> Span {
        Span { from, until: None }
    }

    fn contains(&self, at: Instant) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// One run of one container: one server, at one address.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) service: &'static str,
    pub(super) container: &'static str,
    /// What the server says it is. A container that starts again says the same.
    pub(super) id: String,
    pub(super) address: SocketAddr,
    /// Until it is asked to stop, or dies.
    pub(super) life: Span,
    /// When it surely was dead.
    pub(super) dead: Option<Instant>,
    /// When it was not to be found under its container's name, or paused.
    pub(super) away: Vec<Span>,
}

impl Run {
    /// Whether it was one of its service's instances at some time in the span.
    fn was_one_between(&self, from: Instant, until: Instant) -> bool {
        let is_one = |at| self.life.contains(at) && !self.away.iter().any(|away| away.contains(at));
        let changes = self.away.iter().flat_map(|away| [Some(away.from), away.until]).flatten();
        let changes = changes.chain([self.life.from, from, until]);
        changes.filter(|at| (from..=until).contains(at)).any(is_one)
    }

    /// Whether it was one of its service's instances throughout.
    pub(super) fn was_there(&self, from: Instant, until: Instant) -> bool {
        let is_alive = self.life.contains(from) && self.life.contains(until);
        let was_away = |away: &Span| away.from < until && away.until.is_none_or(|end| end > from);
        is_alive && !self.away.iter().any(was_away)
    }

    /// Since when, at `at`, it is no longer an instance of its service.
    fn gone_since(&self, at: Instant) -> Option<Instant> {
        let ended = self.life.until.filter(|until| *until <= at);
        ended.or_else(|| self.away.iter().find(|away| away.contains(at)).map(|away| away.from))
    }

    /// Whether it may have died in the span, give or take a moment.
    pub(super) fn ended_between(&self, from: Instant, until: Instant) -> bool {
        let was_asked = self.life.until.is_some_and(|asked| asked <= until + MOMENT);
        was_asked && self.dead.is_none_or(|dead| dead + MOMENT >= from)
    }
}

/// Between what a test does and its note of it.
const MOMENT: Duration = Duration::from_millis(100);

/// Whom a fault troubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Etcd,
    ProxyLinks,
    RegistrarLinks,
    Host(usize),
    Registrar(&'static str),
    Container(&'static str),
}

/// A span of time in which something was broken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub(super) scope: Scope,
    pub(super) span: Span,
}

/// Everything that really was.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) runs: Vec<Run>,
    pub(super) troubles: Vec<Trouble>,
}

impl History {
    /// The run of the server that called itself `id` at `at`.
    pub(super) fn run(&self, id: &str, at: Instant) -> Option<&Run> {
        self.runs.iter().rfind(|run| run.id == id && run.life.from <= at)
    }

    /// The run whose end explains why somebody who looks for `service` at `at` may still
    /// reach `found`: the last of that service at the same address, if it is over.
    pub(super) fn predecessor(&self, service: &str, found: &Run, at: Instant) -> Option<&Run> {
        let at_address = |run: &&Run| run.service == service && run.address == found.address;
        let over = self.runs.iter().filter(at_address).filter(|run| run.gone_since(at).is_some());
        over.max_by_key(|run| run.gone_since(at))
    }

    /// The last run of a container that began at `address` before `at`.
    pub(super) fn run_at(&self, container: &str, address: &str, at: Instant) -> Option<&Run> {
        let is_it = |run: &&Run| {
            run.container == container && run.life.from <= at && run.address.to_string() == address
        };
        self.runs.iter().rfind(is_it)
    }

    /// How long before `at` the run was gone, not counting times of trouble in `scopes`.
    /// `None` if it was an instance of its service at some time between `at` and `until`.
    pub(super) fn gone_for(
        &self,
        run: &Run,
        at: Instant,
        until: Instant,
        scopes: &[Scope],
    ) -> Option<Duration> {
        if run.was_one_between(at, until) {
            return None;
        }
        let since = run.gone_since(at)?;
        Some(self.calm(since, at, scopes).iter().map(|(from, until)| *until - *from).sum())
    }

    /// The longest time between `from` and `until` without trouble in `scopes`.
    pub(super) fn longest_calm(&self, from: Instant, until: Instant, scopes: &[Scope]) -> Duration {
        let spans = self.calm(from, until, scopes);
        spans.iter().map(|(from, until)| *until - *from).max().unwrap_or_default()
    }

    /// Since when there was no trouble in `scopes`, at `at`; `None` while there is.
    pub(super) fn calm_since(&self, at: Instant, scopes: &[Scope]) -> Option<Instant> {
        let began = self.runs.first()?.life.from;
        self.calm(began, at, scopes).last().filter(|(_, until)| *until == at).map(|(from, _)| *from)
    }

    /// The spans between `from` and `until` without trouble in `scopes`.
    fn calm(&self, from: Instant, until: Instant, scopes: &[Scope]) -> Vec<(Instant, Instant)> {
        let mut troubles: Vec<Span> = self
            .troubles
            .iter()
            .filter(|trouble| scopes.contains(&trouble.scope))
            .map(|trouble| trouble.span)
            .collect();
        troubles.sort_by_key(|span| span.from);
        let mut calm = Vec::new();
        let mut at = from;
        for span in troubles {
            if span.from >= until {
                break;
            }
            if span.from > at {
                calm.push((at, span.from));
            }
            at = at.max(span.until.unwrap_or(until));
        }
        if at < until {
            calm.push((at, until));
        }
        calm
    }
}
