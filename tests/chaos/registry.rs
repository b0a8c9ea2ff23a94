//! What was written to etcd, by its own word.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::etcd::{Client, Poll};

/// One value that was written, and when the test heard of it.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) at: Instant,
    pub(super) key: String,
    pub(super) value: String,
}

/// Follows the history of etcd through all faults of its members. What is written right
/// after etcd was wiped may be missed; nothing else is.
pub(super) struct Recorder {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Write>>,
}

impl Recorder {
    pub(super) fn start(members: Vec<SocketAddr>) -> Recorder {
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stopped = stopped.clone();
            move || record(&members, &stopped)
        });
        Recorder { stopped, thread }
    }

    pub(super) fn stop(self) -> Vec<Write> {
        self.stopped.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

fn record(members: &[SocketAddr], stopped: &AtomicBool) -> Vec<Write> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let mut writes = Vec::new();
    let mut next = 1;
    for member in members.iter().map(|member| Client::of(*member)).cycle() {
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        // A store that was wiped counts from the start again; one that answers for its
        // whole cluster is not merely behind.
        match member.position(PATIENCE) {
            Ok(position) if position + 1 < next => next = 1,
            Ok(_) => {}
            Err(_) => continue,
        }
        // Until this member has nothing new, or nothing to say.
        while let Ok(poll) = member.poll(PATIENCE, "/services", next) {
            match poll {
                Poll::Changes(changes, go_on) => {
                    let sets = changes.into_iter().filter(|change| change.action == "set");
                    writes.extend(sets.filter_map(|change| {
                        Some(Write { at: change.at, key: change.key, value: change.value? })
                    }));
                    next = go_on;
                }
                // The history is shorter than what was missed.
                Poll::Cleared(now) => {
                    next = now + 1;
                    break;
                }
            }
        }
    }
    writes
}
