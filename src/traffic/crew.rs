//! The threads that carry connections: parked when idle, spawned when none is.
//!
//! Spawning is most of the cost of a short connection, so a thread that is done
//! waits for the next one to carry; so that a burst of connections leaves no
//! crowd behind, most of the waiting ones end after a while.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use crate::logging;

/// The stack of a thread: its largest frames are a log line and a name lookup.
/// Only pages that are touched cost memory.
const STACK_BYTES: usize = 64 * 1024;

/// How long a thread stays parked before it looks whether it is needed.
const PARKING: Duration = Duration::from_secs(5);

/// So many stay parked for ever: one connection's worth.
const KEPT: usize = 2;

/// What a thread is to do, and its name meanwhile.
struct Job {
    name: String,
    body: Box<dyn FnOnce() + Send>,
}

/// Hands jobs to parked threads.
#[derive(Debug)]
pub(super) struct Crew {
    // Without capacity: a job is taken by a thread that waits for it, or not at all.
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    parked: AtomicUsize,
}

impl Crew {
    pub(super) fn new() -> Self {
        let (jobs, waiting) = crossbeam_channel::bounded(0);
        Crew { jobs, waiting, parked: AtomicUsize::new(0) }
    }

    /// Has `body` run at once, on a thread called `name`.
    ///
    /// # Errors
    /// No thread is parked and none can be made; `body` is dropped unrun.
    pub(super) fn run(
        self: &Arc<Self>,
        name: String,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let job = match self.jobs.try_send(Job { name, body: Box::new(body) }) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => job,
        };
        let crew = Arc::clone(self);
        thread::Builder::new()
            .name("parked".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || crew.work(job))
            .map(drop)
    }

    /// The life of a thread: a job, a while parked, the next job.
    fn work(&self, first: Job) {
        let mut next = Some(first);
        while let Some(Job { name, body }) = next {
            logging::name_thread(&name);
            body();
            logging::name_thread("parked");
            next = self.park();
        }
    }

    /// The next job; `None` when enough others are parked.
    fn park(&self) -> Option<Job> {
        self.parked.fetch_add(1, Ordering::Relaxed);
        loop {
            match self.waiting.recv_timeout(PARKING) {
                Ok(job) => {
                    self.parked.fetch_sub(1, Ordering::Relaxed);
                    return Some(job);
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    let one_less = |parked| (parked > KEPT).then(|| parked - 1);
                    let order = Ordering::Relaxed;
                    if self.parked.fetch_update(order, order, one_less).is_ok() {
                        return None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_thread_is_used_again() {
        let crew = Arc::new(Crew::new());
        let (sender, receiver) = crossbeam_channel::unbounded();
        let mut threads = std::collections::HashSet::new();
        for _ in 0..100 {
            let sender = sender.clone();
            crew.run("job".to_owned(), move || {
                sender.send(thread::current().id()).unwrap();
            })
            .unwrap();
            threads.insert(receiver.recv().unwrap());
            // The thread parks a moment after its job has answered.
            while crew.parked.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            thread::yield_now();
        }
        assert!(threads.len() < 50, "{} threads for 100 jobs, one at a time", threads.len());
    }

    #[test]
    fn jobs_at_the_same_time_have_threads_of_their_own() {
        let crew = Arc::new(Crew::new());
        let barrier = Arc::new(std::sync::Barrier::new(9));
        for _ in 0..8 {
            let barrier = Arc::clone(&barrier);
            let body = move || {
                barrier.wait();
            };
            crew.run("job".to_owned(), body).unwrap();
        }
        barrier.wait(); // Hangs unless all eight run at once.
    }

    #[test]
    fn a_panic_costs_no_more_than_its_thread() {
        let crew = Arc::new(Crew::new());
        crew.run("job".to_owned(), || panic!("on purpose")).unwrap();
        let (sender, receiver) = crossbeam_channel::unbounded();
        crew.run("job".to_owned(), move || sender.send(()).unwrap()).unwrap();
        receiver.recv().unwrap();
    }
}
