//! What was written to etcd, by its own word.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::http::{self, Answer};

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
    let mut writes = Vec::new();
    let mut next = 1;
    for member in members.iter().cycle() {
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        // A store that was wiped counts from the start again; one that answers for its
        // whole cluster is not merely behind.
        match ask(*member, "/v2/keys/?quorum=true").map(|answer| index(&answer)) {
            Ok(Some(index)) if index + 1 < next => next = 1,
            Ok(Some(_)) => {}
            _ => continue,
        }
        // Until this member has nothing new, or nothing to say.
        while let Ok(answer) = ask(*member, &format!("/v2/keys/services/?{WAIT}{next}")) {
            if answer.status != 200 {
                // The history is shorter than what was missed.
                next = index(&answer).map_or(next, |index| index + 1);
                break;
            }
            let event = answer.json();
            let node = &event["node"];
            next = node["modifiedIndex"].as_u64().unwrap() + 1;
            if let ("set", Some(value)) =
                (event["action"].as_str().unwrap(), node["value"].as_str())
            {
                let (key, value) = (node["key"].as_str().unwrap().to_owned(), value.to_owned());
                writes.push(Write { at: Instant::now(), key, value });
            }
        }
    }
    writes
}

const WAIT: &str = "wait=true&recursive=true&waitIndex=";

fn index(answer: &Answer) -> Option<u64> {
    answer.header("X-Etcd-Index")?.parse().ok()
}

fn ask(member: SocketAddr, target: &str) -> io::Result<Answer> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let stream = TcpStream::connect_timeout(&member, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    http::ask(stream, "GET", target, None)
}
