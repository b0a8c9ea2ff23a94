use std::{
    collections::HashSet,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread::ThreadId,
};

use crossbeam_channel::{Receiver, Sender};
use proptest::prelude::*;

use super::*;

struct Closure(Box<dyn FnOnce() + Send>);

impl Job for Closure {
    fn run(self) {
        (self.0)();
    }
}

fn job(body: impl FnOnce() + Send + 'static) -> Closure {
    Closure(Box::new(body))
}

fn wait_until_parked(crew: &Crew<Closure>, count: usize) {
    while crew.parked().len() != count {
        thread::yield_now();
    }
}

#[test]
fn jobs_at_the_same_time_have_threads_of_their_own() {
    let crew = Arc::new(Crew::new());
    let barrier = Arc::new(Barrier::new(9));
    for _ in 0..8 {
        let barrier = Arc::clone(&barrier);
        let body = move || {
            barrier.wait();
        };
        assert!(crew.run(job(body)));
    }
    barrier.wait(); // Hangs unless all eight run at once.
}

#[test]
fn a_panic_costs_no_more_than_its_thread() {
    let crew = Arc::new(Crew::new());
    assert!(crew.run(job(|| panic!("on purpose"))));
    let (sender, receiver) = crossbeam_channel::unbounded();
    assert!(crew.run(job(move || sender.send(()).unwrap())));
    receiver.recv().unwrap();
}

#[test]
fn of_a_crowd_only_those_kept_stay_parked() {
    let crew = Arc::new(Crew { parking: Duration::from_millis(20), ..Crew::new() });
    let barrier = Arc::new(Barrier::new(8));
    for _ in 0..8 {
        let barrier = Arc::clone(&barrier);
        let body = move || {
            barrier.wait();
        };
        assert!(crew.run(job(body)));
    }
    wait_until_parked(&crew, KEPT);
    thread::park_timeout(Duration::from_millis(100));
    assert_eq!(crew.parked().len(), KEPT);
}

/// Threads leave at the very moment when jobs come: no job may be lost, or run twice.
#[test]
fn every_job_is_run_once_while_threads_come_and_go() {
    const JOBS: usize = 2000;
    let crew = Arc::new(Crew { parking: Duration::from_micros(50), ..Crew::new() });
    let runs: Arc<Vec<AtomicUsize>> =
        Arc::new((0..4 * JOBS).map(|_| AtomicUsize::new(0)).collect());
    let (sender, receiver) = crossbeam_channel::unbounded();
    thread::scope(|scope| {
        for producer in 0..4 {
            let (crew, runs, sender) = (Arc::clone(&crew), Arc::clone(&runs), sender.clone());
            scope.spawn(move || {
                for n in 0..JOBS {
                    let (runs, sender) = (Arc::clone(&runs), sender.clone());
                    let body = move || {
                        runs[producer * JOBS + n].fetch_add(1, Ordering::SeqCst);
                        sender.send(()).unwrap();
                    };
                    assert!(crew.run(job(body)));
                    if n % 16 == 0 {
                        thread::park_timeout(Duration::from_micros(60));
                    }
                }
            });
        }
        for done in 0..4 * JOBS {
            let waited = receiver.recv_timeout(Duration::from_secs(10));
            assert!(waited.is_ok(), "only {done} jobs were run");
        }
    });
    assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1));
}

/// What the crew must be like: a stack of parked threads.
#[derive(Default)]
struct Model {
    known: HashSet<ThreadId>,
    parked: Vec<ThreadId>,
    /// Jobs that run: their thread, and what ends them.
    running: Vec<(ThreadId, Sender<()>)>,
}

impl Model {
    fn begin(
        &mut self,
        crew: &Arc<Crew<Closure>>,
        started: &(Sender<ThreadId>, Receiver<ThreadId>),
    ) {
        let (end, ended) = crossbeam_channel::bounded(0);
        let has_started = started.0.clone();
        let body = move || {
            has_started.send(thread::current().id()).unwrap();
            let _ = ended.recv();
        };
        assert!(crew.run(job(body)));
        let thread = started.1.recv().unwrap();
        match self.parked.pop() {
            Some(newest) => assert_eq!(thread, newest, "the newest of the parked ones"),
            None => assert!(self.known.insert(thread), "a new thread, for none is parked"),
        }
        self.running.push((thread, end));
    }

    fn end(&mut self, crew: &Crew<Closure>, which: usize) {
        if !self.running.is_empty() {
            let (thread, end) = self.running.remove(which % self.running.len());
            drop(end);
            self.parked.push(thread);
            wait_until_parked(crew, self.parked.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// `None` begins a job, a number ends one of those that run.
    #[test]
    fn a_job_goes_to_the_thread_that_parked_last(
        steps in prop::collection::vec(prop::option::of(0..8_usize), 1..60),
    ) {
        let crew = Arc::new(Crew::new());
        let started = crossbeam_channel::unbounded();
        let mut model = Model::default();
        for step in steps {
            match step {
                None => model.begin(&crew, &started),
                Some(which) => model.end(&crew, which),
            }
        }
    }
}
