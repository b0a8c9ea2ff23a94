//! The stop signal: held by one owner, seen by every worker.

use std::{convert::Infallible, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

/// Makes the one guard of a role and the view its workers share.
pub(crate) fn pair() -> (StopGuard, Stop) {
    let (sender, receiver) = crossbeam_channel::bounded(0);
    (StopGuard { _sender: sender }, Stop { receiver })
}

/// Held by whoever may stop the workers. Dropping it, even during a panic,
/// stops every one of them.
#[derive(Debug)]
pub(crate) struct StopGuard {
    _sender: Sender<Infallible>, // Nothing can be sent; only the hang-up matters.
}

/// Each worker's view of the stop signal. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    receiver: Receiver<Infallible>,
}

impl Stop {
    /// Sleeps for `pause`. Returns `true` at once if asked to stop meanwhile.
    pub(crate) fn wait(&self, pause: Duration) -> bool {
        match self.receiver.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
            Ok(never) => match never {},
        }
    }

    /// Whether the guard is gone.
    pub(crate) fn is_asked(&self) -> bool {
        match self.receiver.try_recv() {
            Err(TryRecvError::Empty) => false,
            Err(TryRecvError::Disconnected) => true,
            Ok(never) => match never {},
        }
    }

    /// For `select!`: becomes ready, with an error, when the guard is gone.
    pub(crate) fn asked(&self) -> &Receiver<Infallible> {
        &self.receiver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_ends_at_once_when_the_guard_is_dropped() {
        let (guard, stop) = pair();
        assert!(!stop.wait(Duration::from_millis(1)));
        assert!(!stop.is_asked());
        drop(guard);
        // An hour: the test would hang if the hang-up were not seen.
        assert!(stop.wait(Duration::from_secs(3600)));
        assert!(stop.is_asked());
    }
}
