//! Says that something is out of reach once, not once per attempt.

use std::time::{Duration, Instant};

use crate::counters::{Asked, Requests};

/// One party that may be out of reach (etcd, Docker), as its log lines see it.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    last: Instant,
    said: Instant,
    /// What was said.
    text: String,
}

/// How a party can be reached, for whoever asks from outside.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Where it is asked.
    pub(crate) address: String,
    /// Whether it ever has.
    pub(crate) has_answered: bool,
    /// For how long it has been out of reach, and why.
    pub(crate) silence: Option<(Duration, String)>,
    /// How long ago it last said something.
    pub(crate) since_answer: Option<Duration>,
    pub(crate) requests: Vec<Asked>,
}

/// While an outage lasts, it is repeated this often: rarely enough not to
/// drown the log, often enough that its tail shows what is wrong.
const REPEAT: Duration = Duration::from_secs(60);

/// Another reason is said earlier, and yet not at once: the reasons of several
/// members may take turns.
const REPEAT_CHANGED: Duration = Duration::from_secs(10);

/// For `ended_for`, where successes and failures come in turns, as at a limit of
/// descriptors or threads: without a failure for so long, it is over.
pub(crate) const QUIET: Duration = Duration::from_secs(10);

impl Outage {
    /// Notes an attempt that failed for the reason `text`. Returns how long the
    /// outage has lasted if a warning is due: on the first failure, once a minute
    /// after it, and when the reason is another one.
    pub(crate) fn failed(&mut self, now: Instant, text: &str) -> Option<Duration> {
        let Some(state) = &mut self.state else {
            self.state = Some(State { since: now, last: now, said: now, text: text.to_owned() });
            return Some(Duration::ZERO);
        };
        state.last = now;
        let silence = now.duration_since(state.said);
        if silence < REPEAT && (state.text == text || silence < REPEAT_CHANGED) {
            return None;
        }
        state.said = now;
        state.text = text.to_owned();
        Some(now.duration_since(state.since))
    }

    /// What was said of it, while it lasts.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.state.as_ref().map(|state| &*state.text)
    }

    /// How the party at `address` does, which `has_answered` before or not, and was asked
    /// `requests`.
    pub(crate) fn reach(&self, address: String, has_answered: bool, requests: &Requests) -> Reach {
        let silence = self.state.as_ref().map(|state| (state.since.elapsed(), state.text.clone()));
        let (since_answer, requests) = (requests.since_answer(), requests.read());
        Reach { address, has_answered, silence, since_answer, requests }
    }

    /// Notes a success. Returns how long the outage lasted if it ends one.
    pub(crate) fn ended(&mut self, now: Instant) -> Option<Duration> {
        self.ended_for(now, Duration::ZERO)
    }

    /// The same where successes and failures come in turns: only a success `quiet`
    /// after the last failure ends the outage.
    pub(crate) fn ended_for(&mut self, now: Instant, quiet: Duration) -> Option<Duration> {
        let state = self.state.take_if(|state| now.duration_since(state.last) >= quiet)?;
        Some(now.duration_since(state.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_when_it_starts_then_once_a_minute_and_when_it_ends() {
        let mut outage = Outage::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(outage.ended(start), None);
        let said: Vec<u64> =
            (0..130).filter(|&s| outage.failed(at(s), "refused").is_some()).collect();
        assert_eq!(said, [0, 60, 120]);
        assert_eq!(outage.ended(at(131)), Some(Duration::from_secs(131)));
        assert_eq!(outage.ended(at(132)), None);
        assert_eq!(outage.failed(at(133), "refused"), Some(Duration::ZERO));
    }

    #[test]
    fn another_reason_is_said_though_not_at_once() {
        let mut outage = Outage::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let reason = |s| if s < 20 && s % 2 == 0 { "refused" } else { "silent" };
        let said: Vec<u64> =
            (0..60).filter(|&s| outage.failed(at(s), reason(s)).is_some()).collect();
        assert_eq!(said, [0, 11]);
    }

    #[test]
    fn a_success_among_failures_ends_nothing() {
        let mut outage = Outage::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let quiet = Duration::from_secs(5);
        outage.failed(at(0), "full");
        assert_eq!(outage.ended_for(at(1), quiet), None);
        assert_eq!(outage.failed(at(2), "full"), None);
        assert_eq!(outage.ended_for(at(7), quiet), Some(Duration::from_secs(7)));
    }
}
