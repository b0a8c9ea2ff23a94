//! Growing pauses after failures.

use std::time::Duration;

/// Full-jitter exponential backoff: each pause is drawn evenly from
/// `FLOOR..=ceiling`, and the ceiling doubles from `min` up to `max`.
///
/// Full jitter, because after an etcd restart all clients fail at the same
/// moment and must not come back as one herd.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

/// No pause is shorter: a drawn zero would be a busy loop.
const FLOOR: Duration = Duration::from_millis(10);

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Backoff { min, max, ceiling: min }
    }

    /// Between attempts to reach etcd or Docker: 100 ms, doubling to 2 s.
    pub(crate) fn for_requests() -> Self {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(2))
    }

    /// The pause to take after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(self.max);
        FLOOR.max(ceiling.mul_f64(fastrand::f64()))
    }

    /// To be called on success: the next pause is drawn from `min` again.
    pub(crate) fn reset(&mut self) {
        self.ceiling = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_between_the_floor_and_a_ceiling_that_doubles() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(min, max);
        for round in 0..100 {
            let ceiling = min.saturating_mul(1 << round.min(20)).min(max);
            let pause = backoff.next();
            assert!(pause >= FLOOR && pause <= ceiling, "round {round}: {pause:?}");
        }
        let longest = (0..100).map(|_| backoff.next()).max();
        assert!(longest.is_some_and(|pause| pause > max / 2), "{longest:?}");
        backoff.reset();
        assert!(backoff.next() <= min);
    }
}
