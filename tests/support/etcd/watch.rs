//! Everything that changes in etcd, as etcd tells it.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::Client;
use crate::support::{DEADLINE, eventually_some, unique};

/// One change of the store, as etcd told it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// In v2's words; v3 has only `set` and `delete`.
    pub(crate) action: String,
    pub(crate) key: String,
    /// Of a write: what was written.
    pub(crate) value: Option<String>,
    /// When the test heard of it.
    pub(crate) at: Instant,
}

/// What waiting for a change came to.
pub(crate) enum Poll {
    /// In their order, and where to go on.
    Changes(Vec<Change>, u64),
    /// History no longer has what was asked for, but begins at, or after, this.
    Cleared(u64),
}

/// A thread that polls etcd and keeps every change it hears of.
pub(crate) struct Watch {
    changes: Arc<Mutex<Vec<Change>>>,
    current: Arc<Mutex<Option<TcpStream>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(client: Client, directory: String, mut next: u64) -> Watch {
        let changes = Arc::new(Mutex::new(Vec::new()));
        let current = Arc::new(Mutex::new(None));
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (changes, current, stopped) = (changes.clone(), current.clone(), stopped.clone());
            move || {
                let poll = |next| {
                    // Also bounds how late a stop is seen that came between two polls.
                    let stream = client.connect(Duration::from_secs(5))?;
                    *current.lock().unwrap() = Some(stream.try_clone()?);
                    client.api.words().poll(&client, stream, &directory, next)
                };
                while !stopped.load(Ordering::SeqCst) {
                    match poll(next) {
                        Ok(Poll::Changes(new, go_on)) => {
                            changes.lock().unwrap().extend(new);
                            next = go_on;
                        }
                        Ok(Poll::Cleared(_)) => panic!("poll of {directory} from {next}: cleared"),
                        Err(_) => thread::sleep(Duration::from_millis(20)),
                    }
                }
            }
        });
        Watch { changes, current, stopped, thread: Some(thread) }
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.changes.lock().unwrap().clone()
    }

    /// Waits for a change of `key` and says when it was heard of.
    #[track_caller]
    pub(crate) fn wait_for(&self, actions: &[&str], key: &str) -> Instant {
        eventually_some(DEADLINE, &format!("{actions:?} of {key}"), || {
            let changes = self.changes.lock().unwrap();
            let mut matching = changes
                .iter()
                .filter(|change| actions.contains(&change.action.as_str()) && change.key == key);
            matching.next().map(|change| change.at)
        })
    }

    /// Every change until now as "action key": a mark is written below the
    /// directory and waited for, so nothing before it can be missing.
    pub(crate) fn so_far(&self, etcd: &Client, directory: &str) -> Vec<String> {
        let mark = format!("{directory}/mark-{}", unique());
        etcd.put(&mark, "");
        self.wait_for(&["set"], &mark);
        let changes = self.changes();
        let before = changes.iter().take_while(|change| change.key != mark);
        before.map(|change| format!("{} {}", change.action, change.key)).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(stream) = &*self.current.lock().unwrap() {
            drop(stream.shutdown(Shutdown::Both));
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
