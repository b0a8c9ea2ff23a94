//! Whether the control threads make progress, for systemd's watchdog.
//!
//! Progress is, for a thread with a pulse, to come round when it said it would; for an
//! acceptor, that no client waits whom it could accept. A thread that waits for its
//! work, however long, makes all the progress there is to make.

use std::time::Instant;

use log::{error, info};

use crate::{
    pulse::{GRACE, Pulse},
    traffic::AcceptorHandle,
};

#[derive(Debug)]
pub(super) struct Health<'a> {
    pulses: Vec<Pulse>,
    acceptors: Vec<Seen<'a>>,
    is_stuck: bool,
}

/// An acceptor, and what was seen of it: that a client waits, after how many, since when.
#[derive(Debug)]
struct Seen<'a> {
    acceptor: &'a AcceptorHandle,
    waits_after: Option<(u64, Instant)>,
}

impl<'a> Health<'a> {
    pub(super) fn new(pulses: Vec<Pulse>, acceptors: &'a [AcceptorHandle]) -> Self {
        let seen = |acceptor| Seen { acceptor, waits_after: None };
        Health { pulses, acceptors: acceptors.iter().map(seen).collect(), is_stuck: false }
    }

    /// Whether all of them make progress.
    pub(super) fn look(&mut self) -> bool {
        // All are looked at: what was seen of each must be of the same age.
        let stuck = self.acceptors.iter_mut().filter_map(Seen::look).last();
        let late = || self.pulses.iter().find_map(Pulse::late).map(str::to_owned);
        let stuck = stuck.or_else(late);
        match &stuck {
            Some(name) if !self.is_stuck => {
                error!("{name} is stuck, systemd's watchdog is not fed while it is");
            }
            None if self.is_stuck => info!("no thread is stuck any more"),
            _ => {}
        }
        self.is_stuck = stuck.is_some();
        !self.is_stuck
    }
}

impl Seen<'_> {
    /// Which acceptor is stuck, if this one is.
    fn look(&mut self) -> Option<String> {
        let now = Instant::now();
        self.waits_after = self.acceptor.waits_after().map(|count| match self.waits_after {
            Some((before, since)) if before == count => (count, since),
            _ => (count, now),
        });
        let is_stuck = self.waits_after.is_some_and(|(_, since)| now - since > GRACE);
        is_stuck.then(|| format!("acceptor of {}", self.acceptor.name()))
    }
}
