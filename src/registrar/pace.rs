//! How fast new values may be written: every one wakes whoever follows its service.

use std::time::{Duration, Instant};

/// Between two writes, in the long run: 50 a second.
const INTERVAL: Duration = Duration::from_millis(20);

/// So many may follow each other at once after a quiet time, so that a host that starts
/// with hundreds of containers has them registered in a second or two.
const BURST: u32 = 1000;

/// A bucket of tokens, one a write: full at first, and filled again at a steady rate.
#[derive(Debug)]
pub(super) struct Pace {
    tokens: u32,
    /// When the last token came in.
    filled: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Pace { tokens: BURST, filled: Instant::now() }
    }

    /// Whether one more write may be made at `now`.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_nanos();
        let came = u32::try_from(passed / INTERVAL.as_nanos()).unwrap_or(u32::MAX);
        if came >= BURST - self.tokens {
            self.tokens = BURST;
            self.filled = now.max(self.filled);
        } else {
            self.tokens += came;
            self.filled += INTERVAL * came;
        }
        self.tokens > 0
    }

    /// One is made.
    pub(super) fn take(&mut self) {
        self.tokens = self.tokens.saturating_sub(1);
    }

    /// When the next one may be made.
    pub(super) fn next(&self) -> Instant {
        if self.tokens > 0 { self.filled } else { self.filled + INTERVAL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_come_in_one_burst_and_then_50_a_second() {
        let mut pace = Pace::new();
        let start = Instant::now();
        let mut made = 0;
        for millisecond in 0..10_000 {
            let now = start + Duration::from_millis(millisecond);
            while pace.allows(now) {
                pace.take();
                made += 1;
            }
            assert!(pace.next() > now && pace.next() <= now + INTERVAL);
        }
        assert!((1000 + 499..=1000 + 501).contains(&made), "{made}");
        // A quiet hour fills it, and not beyond.
        let later = start + Duration::from_secs(3600);
        let mut burst = 0;
        while pace.allows(later) {
            pace.take();
            burst += 1;
        }
        assert_eq!(burst, 1000);
    }
}
