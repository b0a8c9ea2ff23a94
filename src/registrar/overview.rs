//! How a registrar does, for whoever asks from outside.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::core::Status;
use crate::outage::Reach;

/// Longer than any request to etcd: it answers between two of them.
const PATIENCE: Duration = Duration::from_secs(4);

/// What the registrar knows.
#[derive(Debug)]
pub(crate) struct Overview {
    /// Whether etcd has held everything that Docker runs, once.
    pub(crate) has_reconciled: bool,
    /// Keys, values, and how they do, in words.
    pub(crate) entries: Vec<(String, String, &'static str)>,
    pub(crate) etcd: Reach,
    /// And how many events came from it. Absent for a fixed address.
    pub(crate) docker: Option<(Reach, u64)>,
}

/// Asks the registrar.
#[derive(Debug, Clone)]
pub(crate) struct Questions(Sender<Sender<Overview>>);

impl Questions {
    pub(super) fn new() -> (Self, Receiver<Sender<Overview>>) {
        // More questions than there are threads to ask do not come.
        let (sender, receiver) = crossbeam_channel::bounded(16);
        (Questions(sender), receiver)
    }

    /// `None` if it does not answer.
    pub(crate) fn ask(&self) -> Option<Overview> {
        let (answer, answered) = crossbeam_channel::bounded(1);
        self.0.try_send(answer).ok()?;
        answered.recv_timeout(PATIENCE).ok()
    }
}

/// For people.
pub(super) fn in_words(status: Status) -> &'static str {
    match status {
        Status::Unwritten => "to be written",
        Status::Lost => "lost",
        Status::Written => "registered",
        Status::Foreign => "taken over",
        Status::Leaving => "leaving",
    }
}
