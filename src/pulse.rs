//! What a control thread lets `main` know: by when it comes round again, and what it
//! is about.
//!
//! A thread that waits on purpose says for how long it will at most. One that is late
//! is stuck, whatever it is stuck in: `main` need not know what it does.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How late a thread may be: it has to get the CPU on a busy machine.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// One thread's word. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    /// What `due_ms` is counted from.
    start: Instant,
    due_ms: AtomicU64,
    line: Mutex<String>,
}

impl Pulse {
    /// For the thread `name`, which is about to start.
    pub(crate) fn new(name: String) -> Self {
        let (start, due_ms) = (Instant::now(), AtomicU64::default());
        let pulse = Pulse(Arc::new(Inner { name, start, due_ms, line: Mutex::default() }));
        pulse.within(Duration::ZERO);
        pulse
    }

    /// Promises to call this again within `longest`.
    pub(crate) fn within(&self, longest: Duration) {
        let due = self.0.start.elapsed() + longest + GRACE;
        self.0.due_ms.store(due.as_millis() as u64, Ordering::Relaxed);
    }

    /// Who broke the promise; `None` if it was kept so far.
    pub(crate) fn late(&self) -> Option<&str> {
        let due = Duration::from_millis(self.0.due_ms.load(Ordering::Relaxed));
        (self.0.start.elapsed() > due).then_some(&*self.0.name)
    }

    /// Says what the thread is about, for people.
    pub(crate) fn say(&self, line: String) {
        *self.0.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    /// What was said last.
    pub(crate) fn said(&self) -> String {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_late_once_its_promise_and_some_grace_are_over() {
        let past = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let pulse = |start| {
            let inner =
                Inner { name: "it".to_owned(), start, due_ms: 3000.into(), line: Mutex::default() };
            Pulse(Arc::new(inner))
        };
        assert_eq!(pulse(past(2)).late(), None);
        let late = pulse(past(4));
        assert_eq!(late.late(), Some("it"));
        late.within(Duration::ZERO);
        assert_eq!(late.late(), None);
        assert_eq!(Pulse::new("new".to_owned()).late(), None);
    }
}
