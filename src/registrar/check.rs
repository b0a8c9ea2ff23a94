//! The thread that tries whether what should be registered can be connected to.

use std::{
    io,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::{address::HostPort, connect, stop::Stop};

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
    pub(super) targets: Receiver<Vec<HostPort>>,
    pub(super) results: Sender<(HostPort, bool)>,
}

#[derive(Debug)]
struct Target {
    address: HostPort,
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
                Ok(addresses) => replace(&mut targets, addresses),
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
                let is_reachable = can_connect(&target.address).is_ok();
                let next = if is_reachable { self.interval } else { target.pause * 2 };
                target.pause = next.min(self.interval);
                target.due = Instant::now() + target.pause;
                if self.results.send((target.address.clone(), is_reachable)).is_err() {
                    return;
                }
            }
        }
    }
}

/// Keeps the state of addresses that stay; new ones are due at once.
fn replace(targets: &mut Vec<Target>, addresses: Vec<HostPort>) {
    targets.retain(|target| addresses.contains(&target.address));
    for address in addresses {
        if !targets.iter().any(|target| target.address == address) {
            targets.push(Target { address, due: Instant::now(), pause: FIRST_PAUSE });
        }
    }
}

fn can_connect(address: &HostPort) -> io::Result<()> {
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for address in connect::resolve(address)? {
        outcome = connect::tcp(address, CONNECT_TIMEOUT).map(drop);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
