//! Clients that come one after the other for as long as something lasts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::read_all;

/// Clients that come at a steady pace, whether those before them were served or not.
pub(crate) struct Visitors {
    visits: Arc<Mutex<Visits>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
pub(crate) struct Visits {
    /// What was heard, in the order in which it was.
    pub(crate) greetings: Vec<String>,
    /// What else became of them.
    pub(crate) failures: Vec<String>,
}

impl Visitors {
    /// So many a second connect to `address` and listen until it ends the connection.
    pub(crate) fn start(address: SocketAddr, a_second: u32) -> Visitors {
        let visits = Arc::new(Mutex::new(Visits::default()));
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (visits, stopped) = (visits.clone(), stopped.clone());
            move || {
                let start = Instant::now();
                thread::scope(|scope| {
                    for count in 1.. {
                        scope.spawn(|| visit(address, start, &visits));
                        let due = start + Duration::from_secs(1) * count / a_second;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        if stopped.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                });
            }
        });
        Visitors { visits, stopped, thread: Some(thread) }
    }

    /// How many were greeted so far.
    pub(crate) fn greeted(&self) -> usize {
        self.visits.lock().unwrap().greetings.len()
    }

    /// What became of all of them: those that are still there are waited for.
    pub(crate) fn finish(mut self) -> Visits {
        self.stop();
        std::mem::take(&mut *self.visits.lock().unwrap())
    }

    fn stop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.stop();
    }
}

fn visit(address: SocketAddr, start: Instant, visits: &Mutex<Visits>) {
    let came = start.elapsed();
    let heard = read_all(address);
    let mut visits = visits.lock().unwrap();
    match heard {
        Ok(greeting) if !greeting.is_empty() => visits.greetings.push(greeting),
        other => {
            let left = start.elapsed();
            visits.failures.push(format!("came after {came:?}, left after {left:?}: {other:?}"));
        }
    }
}
