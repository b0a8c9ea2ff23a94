//! Which addresses can be connected to: all are tried at the same time, within bounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;

use crate::{address::HostPort, connect, worker::Worker};

/// For one attempt to connect: the default of the proxy's `--connect-timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// For all that one target takes: a name is looked up first, and may have several
/// addresses, each of which has `CONNECT_TIMEOUT`.
const PATIENCE: Duration = Duration::from_secs(3);

/// So many targets at a time: a registry full of hosts that are down takes a second for
/// each 32 of them, and this process few threads and descriptors.
const AT_A_TIME: usize = 32;

/// How long the connect took, or in a few words why nobody was reached.
pub(super) type Outcome = Result<Duration, String>;

/// Connects to each of `targets`, sends nothing, and closes the connection.
pub(super) fn try_all(targets: BTreeSet<HostPort>) -> BTreeMap<HostPort, Outcome> {
    let (reports_in, reports) = crossbeam_channel::unbounded();
    let mut targets = targets.into_iter();
    // Each with the moment when it is given up.
    let mut tried: BTreeMap<HostPort, (Instant, Worker)> = BTreeMap::new();
    let mut outcomes = BTreeMap::new();
    loop {
        for target in targets.by_ref().take(AT_A_TIME - tried.len()) {
            match start(target.clone(), reports_in.clone()) {
                Ok(worker) => drop(tried.insert(target, (Instant::now() + PATIENCE, worker))),
                // Without a thread it is done here.
                Err(_) => drop(outcomes.insert(target.clone(), dial(&target))),
            }
        }
        let Some(due) = tried.values().map(|(due, _)| *due).min() else { return outcomes };
        match reports.recv_deadline(due) {
            // One that was given up may still report.
            Ok((target, outcome)) => {
                if tried.remove(&target).is_some() {
                    outcomes.insert(target, outcome);
                }
            }
            Err(_) => {
                let now = Instant::now();
                for (target, (_, worker)) in tried.extract_if(.., |_, (due, _)| *due <= now) {
                    // A lookup cannot be interrupted.
                    worker.detach();
                    outcomes.insert(target, Err("timed out".to_owned()));
                }
            }
        }
    }
}

fn start(target: HostPort, reports: Sender<(HostPort, Outcome)>) -> io::Result<Worker> {
    // That a thread panicked shows in its target, which is given up.
    let (ended, _) = crossbeam_channel::bounded(0);
    Worker::spawn("check", ended, move || {
        let outcome = dial(&target);
        // Nobody listens any more when it was given up.
        let _ = reports.send((target, outcome));
        Ok(())
    })
}

/// As the proxy does it: the first address behind the name that takes it.
fn dial(target: &HostPort) -> Outcome {
    let addresses = connect::resolve(target).map_err(|error| in_short(&error))?;
    let mut problem = "the name has no address".to_owned();
    for address in addresses {
        let started = Instant::now();
        match connect::tcp(address, CONNECT_TIMEOUT) {
            Ok(_closed) => return Ok(started.elapsed()),
            Err(error) => problem = in_short(&error),
        }
    }
    Err(problem)
}

/// The words of the system alone, for a column of a table: without its number of the
/// error, and without std's words before those of the resolver.
fn in_short(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let text = text.rsplit(": ").next().unwrap_or_default();
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_told_in_the_systems_own_words() {
        let of_the_resolver = "failed to lookup address information: Name or service not known";
        for (error, words) in [
            (io::Error::from_raw_os_error(111), "connection refused"),
            (io::Error::from_raw_os_error(113), "no route to host"),
            (io::ErrorKind::TimedOut.into(), "timed out"),
            (io::Error::other(of_the_resolver), "name or service not known"),
        ] {
            assert_eq!(in_short(&error), words);
        }
    }
}
