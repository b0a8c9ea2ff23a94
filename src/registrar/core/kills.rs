//! Signals that were sent to containers: who got its stop signal is not used any more.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::registrar::wanted::{Life, Wanted};

/// A container that survives its stop signal is back after this long, or after
/// its stop timeout if that is longer.
pub(super) const SURVIVAL: Duration = Duration::from_secs(30);

pub(super) const SIGKILL: i32 = 9;

/// By container and signal. What container it is, and which signal stops it, may be known
/// only later: it is kept whether or not it means anything now.
#[derive(Debug, Default)]
pub(super) struct Kills(BTreeMap<(String, Option<i32>), Kill>);

#[derive(Debug)]
struct Kill {
    /// When it was sent, in nanoseconds of Docker's clock.
    at_ns: Option<i64>,
    /// The run of the container that was known when it was heard of.
    life: Option<Life>,
    heard: Instant,
}

impl Kills {
    pub(super) fn note(
        &mut self,
        container: &str,
        signal: Option<i32>,
        at_ns: Option<i64>,
        life: Option<Life>,
        heard: Instant,
    ) {
        self.0.insert((container.to_owned(), signal), Kill { at_ns, life, heard });
    }

    /// Until when `wanted` is out because of one of them.
    pub(super) fn out_until(&self, wanted: &Wanted, now: Instant) -> Option<Instant> {
        let container = &wanted.life.container;
        let of_container = (container.clone(), None)..=(container.clone(), Some(i32::MAX));
        let kills = self.0.range(of_container);
        let stops = kills.filter(|((_, signal), kill)| {
            // Podman's events may lack the signal. Other signals ask for something else.
            let is_stop = signal.is_none_or(|s| s == wanted.stop_signal || s == SIGKILL);
            is_stop && kill.is_of(wanted)
        });
        let until = |kill: &Kill| kill.heard + SURVIVAL.max(wanted.stop_timeout);
        stops.map(|(_, kill)| until(kill)).filter(|until| *until > now).max()
    }

    /// Forgets those that mean nothing any more for anything that is `wanted`.
    pub(super) fn forget_old(&mut self, wanted: &[Wanted], now: Instant) {
        let longest = wanted.iter().map(|wanted| wanted.stop_timeout).max().unwrap_or_default();
        let longest = longest.max(SURVIVAL);
        self.0.retain(|_, kill| now < kill.heard + longest);
    }
}

impl Kill {
    /// Whether it was sent to this run of the container, and not to the one before, of which
    /// it may be a late word.
    fn is_of(&self, wanted: &Wanted) -> bool {
        match (self.at_ns, wanted.started_ns) {
            (Some(at_ns), Some(started_ns)) => at_ns >= started_ns,
            _ => self.life.as_ref() == Some(&wanted.life),
        }
    }
}
