//! The threads that carry connections: parked when idle, spawned when none is.
//!
//! Spawning is most of the cost of a short connection, so a thread that is done
//! waits for the next one to carry; so that a burst of connections leaves no
//! crowd behind, most of the waiting ones end after a while.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use log::{info, warn};

use crate::outage::{Outage, QUIET};

/// The stack of a thread: its largest frames are a log line and a name lookup.
/// Only pages that are touched cost memory.
const STACK_BYTES: usize = 64 * 1024;

/// How long a thread that is not needed stays parked.
const PARKING: Duration = Duration::from_secs(5);

/// So often a thread gives others the CPU before it sleeps: under load its next job is
/// handed over meanwhile, without the cost of a sleep and a wake-up.
const YIELDS: u32 = 4;

/// So many stay parked for ever: one connection's worth.
const KEPT: usize = 2;

/// What a thread of the crew does.
pub(super) trait Job: Send + 'static {
    fn run(self);
}

/// Hands jobs to parked threads.
#[derive(Debug)]
pub(super) struct Crew<J> {
    /// How long a thread stays parked before it looks whether it is needed.
    parking: Duration,
    /// The one that parked last stands last, and is the first to work again: what it
    /// touches is still in the caches, and those that are not needed grow old.
    parked: Mutex<Vec<Arc<Berth<J>>>>,
    /// Since when no thread can be made.
    shortage: Mutex<Outage>,
}

/// Where one thread waits.
#[derive(Debug)]
struct Berth<J> {
    job: Mutex<Option<J>>,
    has_job: Condvar,
}

impl<J: Job> Crew<J> {
    pub(super) fn new() -> Self {
        Crew { parking: PARKING, parked: Mutex::default(), shortage: Mutex::default() }
    }

    fn parked(&self) -> MutexGuard<'_, Vec<Arc<Berth<J>>>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `job` run at once, on a thread of its own. Returns false if no thread is
    /// parked and none can be made, which the log is told of; `job` is dropped unrun.
    #[must_use]
    pub(super) fn run(self: &Arc<Self>, job: J) -> bool {
        let newest = self.parked().pop();
        if let Some(berth) = newest {
            berth.hand_over(job);
            return true;
        }
        let crew = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name("parked".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || crew.work(job));
        let mut shortage = self.shortage.lock().unwrap_or_else(PoisonError::into_inner);
        match spawned {
            Ok(_) => {
                if shortage.ended_for(Instant::now(), QUIET).is_some() {
                    info!("there are threads for new connections again");
                }
                true
            }
            Err(error) => {
                if shortage.failed(Instant::now(), &error.to_string()).is_some() {
                    warn!("no thread for a new connection, it is reset: {error}");
                }
                false
            }
        }
    }

    /// The life of a thread: a job, a while parked, the next job.
    fn work(&self, first: J) {
        first.run();
        let berth = Arc::new(Berth { job: Mutex::new(None), has_job: Condvar::new() });
        while let Some(job) = self.park(&berth) {
            job.run();
        }
    }

    /// The next job; `None` when enough others are parked.
    fn park(&self, berth: &Arc<Berth<J>>) -> Option<J> {
        self.parked().push(Arc::clone(berth));
        loop {
            if let Some(job) = berth.wait(self.parking) {
                return Some(job);
            }
            let mut parked = self.parked();
            // A berth that is not in the list any more is about to get a job.
            let place = parked.iter().position(|other| Arc::ptr_eq(other, berth));
            if let Some(place) = place.filter(|_| parked.len() > KEPT) {
                parked.remove(place);
                return None;
            }
        }
    }
}

impl<J> Berth<J> {
    fn job(&self) -> MutexGuard<'_, Option<J>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_over(&self, job: J) {
        *self.job() = Some(job);
        self.has_job.notify_one();
    }

    fn wait(&self, patience: Duration) -> Option<J> {
        for _ in 0..YIELDS {
            if let Some(job) = self.job().take() {
                return Some(job);
            }
            thread::yield_now();
        }
        let waited = self.has_job.wait_timeout_while(self.job(), patience, |job| job.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

#[cfg(test)]
mod tests;
