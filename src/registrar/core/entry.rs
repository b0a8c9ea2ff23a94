//! One key, and what is known of it.

use std::time::{Duration, Instant};

use crate::{backoff::Backoff, registrar::wanted::Wanted, report, service::Instance};

/// Between two writes against a foreign value that names our own host: two
/// registrars of one container must not fight at full speed.
const REWRITE_GAP: Duration = Duration::from_secs(10);

/// What is known of one key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) wanted: Wanted,
    pub(super) status: Status,
    /// When the next action on it is to be taken.
    pub(super) due: Instant,
    /// The values of ours that etcd may hold: more than one after writes whose
    /// outcome is not known.
    pub(super) stored: Vec<String>,
    /// When it was written, or tried to be.
    pub(super) put: Option<Instant>,
    /// When etcd last said that it holds our value.
    pub(super) confirmed: Instant,
    pub(super) backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registrar) enum Status {
    /// To be put when due.
    Unwritten,
    /// Vanished from etcd: to be put once Docker has been asked.
    Lost,
    /// Holds our value: to be refreshed when due.
    Written,
    /// Holds somebody else's value: looked at when due, and left alone.
    Foreign,
    /// To be removed when due.
    Leaving,
}

impl Status {
    /// Whether etcd is to be asked whether it still holds our value.
    pub(super) fn is_refreshed(self) -> bool {
        matches!(self, Status::Written | Status::Foreign)
    }
}

impl Entry {
    pub(super) fn new(wanted: Wanted, now: Instant) -> Self {
        Entry {
            wanted,
            status: Status::Unwritten,
            due: now,
            stored: Vec::new(),
            put: None,
            confirmed: now,
            backoff: Backoff::for_requests(),
        }
    }

    pub(super) fn confirm(&mut self, now: Instant, refresh_interval: Duration) {
        self.status = Status::Written;
        self.stored = vec![self.wanted.value.clone()];
        self.confirmed = now;
        self.due = now + refresh_interval;
    }

    /// Whether etcd may hold our value under this key.
    pub(super) fn may_be_ours(&self) -> bool {
        !self.stored.is_empty()
    }

    /// Leaves `value` alone if it is another host's; what is to be said of it, if it is news.
    pub(super) fn meet_foreign(
        &mut self,
        value: &str,
        now: Instant,
        refresh_interval: Duration,
    ) -> Option<String> {
        let host = value.parse::<Instance>().map(|instance| instance.address.host);
        if host.is_ok_and(|host| host == self.wanted.address.host) {
            // Left over from an earlier life on this host, or a second registrar.
            self.status = Status::Unwritten;
            self.due = self.put.map_or(now, |put| (put + REWRITE_GAP).max(now));
            return None;
        }
        self.due = now + refresh_interval;
        if self.status == Status::Foreign {
            return None;
        }
        self.status = Status::Foreign;
        self.stored.clear();
        let (key, value) = (&self.wanted.key, report::excerpt(value));
        Some(format!(
            "{key} was taken over by another registrar ({value}): left alone until it vanishes \
             or our container starts again"
        ))
    }
}
