//! The thread that tries whether what should be registered can be connected to.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::core::Probe;
use crate::{connect, stop::Stop};

/// For one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A new address is checked often at first, so that a container that listens a
/// moment after its start is registered without delay.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Checks the addresses it was last given, one after the other.
#[derive(Debug)]
pub(crate) struct Checker {
    /// Between two checks of an address that has passed one.
    pub(super) interval: Duration,
    pub(super) targets: Receiver<Vec<Probe>>,
    pub(super) results: Sender<(Probe, bool)>,
}

#[derive(Debug)]
struct Target {
    probe: Probe,
    due: Instant,
    pause: Duration,
}

impl Checker {
    pub(crate) fn run(self, stop: &Stop) {
        let mut targets: Vec<Target> = Vec::new();
        loop {
            let now = Instant::now();
            let due = targets.iter().map(|target| target.due).min();
            let patience = due.map_or(self.interval, |due| due.saturating_duration_since(now));
            match self.targets.recv_timeout(patience) {
                Ok(probes) => replace(&mut targets, probes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for target in &mut targets {
                if stop.is_asked() {
                    return;
                }
                if target.due > Instant::now() {
                    continue;
                }
                let is_reachable = connect::to(&target.probe.address, CONNECT_TIMEOUT).is_ok();
                let next = if is_reachable { self.interval } else { target.pause * 2 };
                target.pause = next.min(self.interval);
                target.due = Instant::now() + target.pause;
                if self.results.send((target.probe.clone(), is_reachable)).is_err() {
                    return;
                }
            }
        }
    }
}

/// Keeps the state of what stays; what is new is due at once.
fn replace(targets: &mut Vec<Target>, probes: Vec<Probe>) {
    targets.retain(|target| probes.contains(&target.probe));
    for probe in probes {
        if !targets.iter().any(|target| target.probe == probe) {
            targets.push(Target { probe, due: Instant::now(), pause: FIRST_PAUSE });
        }
    }
}
