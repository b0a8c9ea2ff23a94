//! SIGTERM and SIGINT as values on a channel.

use std::{io, thread};

use crossbeam_channel::{Receiver, Sender};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Requests to stop, one for each SIGTERM or SIGINT received.
#[derive(Debug)]
pub(crate) struct StopRequests {
    requests: Receiver<()>,
}

impl StopRequests {
    /// Installs the handlers and starts the `signals` thread, which lasts as
    /// long as the process: a signal may come at any moment of its life.
    ///
    /// A PID 1 without a handler ignores SIGTERM and SIGINT (kill(2), "The only
    /// signals that can be sent to process ID 1 ... are those for which init
    /// has explicitly installed signal handlers"). SIGHUP is caught to be
    /// ignored: a closed terminal must not end a proxy.
    pub(crate) fn catch() -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        // More requests than this change nothing.
        let (sender, requests): (Sender<()>, _) = crossbeam_channel::bounded(8);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                match signal {
                    SIGHUP => log::info!("SIGHUP changes nothing"),
                    // A full channel has more requests than anybody reads.
                    _ => drop(sender.try_send(())),
                }
            }
        })?;
        Ok(StopRequests { requests })
    }

    /// Requests that somebody else catches.
    pub(crate) fn of(requests: Receiver<()>) -> Self {
        StopRequests { requests }
    }

    /// For `select!`: ready when the process is asked to stop.
    pub(crate) fn receiver(&self) -> &Receiver<()> {
        &self.requests
    }
}
