//! Numbers that only grow, for whoever asks how this process does.
//!
//! They are kept whether or not anybody asks: an addition costs less than to find out.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Counts something.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The longest times that the buckets of a histogram take, in seconds: from a connection
/// on one host to the longest that a client is held by default. What takes longer is in
/// none of them.
const BOUNDS_S: [f64; 11] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Counts how long something takes.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BOUNDS_S.len()],
    longer: Counter,
    sum_ns: Counter,
}

/// What a histogram has counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Durations {
    pub(crate) count: u64,
    pub(crate) sum_s: f64,
    /// How many took at most so many seconds, and longer than those of the bucket before.
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS_S.iter().position(|bound| seconds <= *bound);
        bucket.map_or(&self.longer, |bucket| &self.buckets[bucket]).add(1);
        self.sum_ns.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn read(&self) -> Durations {
        let counts = self.buckets.iter().map(Counter::get);
        let buckets: Vec<(f64, u64)> = BOUNDS_S.into_iter().zip(counts).collect();
        Durations {
            count: buckets.iter().map(|(_, count)| count).sum::<u64>() + self.longer.get(),
            buckets,
            sum_s: Duration::from_nanos(self.sum_ns.get()).as_secs_f64(),
        }
    }
}

/// Counts requests to one party by their kinds.
#[derive(Debug)]
pub(crate) struct Requests {
    kinds: Vec<(&'static str, Counter, Counter)>,
    answered: Mutex<Option<Instant>>,
}

/// What became of the requests of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) kind: String,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
}

impl Requests {
    pub(crate) fn new<const N: usize>(kinds: [&'static str; N]) -> Self {
        let kinds = kinds.map(|kind| (kind, Counter::default(), Counter::default()));
        Requests { kinds: kinds.into(), answered: Mutex::default() }
    }

    /// Notes one of `kind`, which is among those that were named. An answer is a sign of life.
    pub(crate) fn note(&self, kind: &'static str, is_answered: bool) {
        self.count(kind, is_answered);
        if is_answered {
            self.note_answer();
        }
    }

    /// The same of one that is no failure when nothing is said.
    pub(crate) fn count(&self, kind: &'static str, is_answered: bool) {
        for (_, answered, failed) in self.kinds.iter().filter(|(known, ..)| *known == kind) {
            if is_answered { answered } else { failed }.add(1);
        }
    }

    /// Notes that the party has just said something.
    pub(crate) fn note_answer(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long ago it did.
    pub(crate) fn since_answer(&self) -> Option<Duration> {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.map(|answered| answered.elapsed())
    }

    pub(crate) fn read(&self) -> Vec<Asked> {
        let asked = |(kind, answered, failed): &(&str, Counter, Counter)| Asked {
            kind: (*kind).to_owned(),
            answered: answered.get(),
            failed: failed.get(),
        };
        self.kinds.iter().map(asked).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_first_bucket_that_takes_it() {
        let histogram = Histogram::default();
        for took in [0, 100, 101, 1_000_000, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(took));
        }
        let Durations { count, sum_s, buckets } = histogram.read();
        assert_eq!((count, sum_s), (6, 21.000_202));
        let taken = buckets.into_iter().filter(|(_, count)| *count > 0);
        let taken: Vec<(f64, u64)> = taken.collect();
        assert_eq!(taken, [(0.0001, 2), (0.0005, 1), (1.0, 1), (10.0, 1)]);
    }
}
