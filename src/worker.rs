//! Control threads: named, joined, and never gone unnoticed.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    thread::{self, JoinHandle},
};

use crossbeam_channel::Sender;

use crate::report::Failure;

/// What a control thread that ended tells `main`.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) name: &'static str,
    pub(crate) outcome: Result<(), Failure>,
}

/// A running control thread. Dropping it waits for the thread's end, so its
/// stop signal must be given before.
#[derive(Debug)]
pub(crate) struct Worker {
    handle: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts `body` on a thread called `name` (at most 15 bytes: longer names
    /// are cut by the kernel, and logs and `ps -T` would not agree). When it
    /// returns or panics, `ended` is told.
    pub(crate) fn spawn(
        name: &'static str,
        ended: Sender<Ended>,
        body: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    ) -> io::Result<Worker> {
        debug_assert!(name.len() <= 15, "thread name {name} is too long");
        let handle = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let outcome = panic::catch_unwind(AssertUnwindSafe(body))
                .unwrap_or_else(|_| Err(Failure::Running(format!("thread {name} panicked"))));
            // Nobody listens any more when the process is already ending.
            let _ = ended.send(Ended { name, outcome });
        })?;
        Ok(Worker { handle: Some(handle) })
    }

    /// Lets the thread end with the process instead of waiting for it: only
    /// for one that may sit in a blocked etcd poll, which holds nothing that
    /// needs releasing and cannot be interrupted.
    pub(crate) fn detach(mut self) {
        self.handle = None;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            // A panic was caught and told through `ended` already.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_control_thread_is_told_as_a_failure() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let worker = Worker::spawn("doomed", sender, || panic!("on purpose")).unwrap();
        let ended = receiver.recv().unwrap();
        assert_eq!(ended.name, "doomed");
        assert_eq!(ended.outcome, Err(Failure::Running("thread doomed panicked".into())));
        drop(worker);
    }
}
