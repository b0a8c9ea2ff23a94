//! Says that something is out of reach once, not once per attempt.

use std::time::{Duration, Instant};

/// One party that may be out of reach (etcd, Docker), as its log lines see it.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    said: Instant,
}

/// While an outage lasts, it is repeated this often: rarely enough not to
/// drown the log, often enough that its tail shows what is wrong.
const REPEAT: Duration = Duration::from_secs(60);

impl Outage {
    /// Notes a failed attempt. Returns how long the outage has lasted if a
    /// warning is due: on the first failure and once a minute after it.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<Duration> {
        match &mut self.state {
            None => {
                self.state = Some(State { since: now, said: now });
                Some(Duration::ZERO)
            }
            Some(state) if now.duration_since(state.said) >= REPEAT => {
                state.said = now;
                Some(now.duration_since(state.since))
            }
            Some(_) => None,
        }
    }

    /// Notes a success. Returns how long the outage lasted if it ends one.
    pub(crate) fn ended(&mut self, now: Instant) -> Option<Duration> {
        let state = self.state.take()?;
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
        let said: Vec<u64> = (0..130).filter(|&s| outage.failed(at(s)).is_some()).collect();
        assert_eq!(said, [0, 60, 120]);
        assert_eq!(outage.ended(at(131)), Some(Duration::from_secs(131)));
        assert_eq!(outage.ended(at(132)), None);
        assert_eq!(outage.failed(at(133)), Some(Duration::ZERO));
    }
}
