//! What is counted of clients and of the addresses that are dialled for them.

use std::{
    fmt, io,
    sync::atomic::{AtomicUsize, Ordering},
};

use rustix::io::Errno;

use crate::{
    connect,
    counters::{Counter, Histogram},
};

/// Of one address.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    open: AtomicUsize,
    /// Connections that were dialled.
    pub(crate) served: Counter,
    /// Those of them that ended in a reset.
    pub(crate) reset: Counter,
    /// How often it came to be tried last.
    pub(crate) ejections: Counter,
    /// From clients, and to them.
    pub(crate) bytes_up: Counter,
    pub(crate) bytes_down: Counter,
    failures: [Counter; DialFailure::ALL.len()],
    /// To connect to it.
    pub(crate) dials: Histogram,
    /// From the client's first byte, or from the connect where the upstream speaks first,
    /// to the upstream's first byte.
    pub(crate) first_bytes: Histogram,
}

impl Tally {
    pub(super) fn opened(&self) {
        self.served.add(1);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self, is_reset: bool) {
        if is_reset {
            self.reset.add(1);
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self, failure: DialFailure) {
        self.failures[failure as usize].add(1);
    }

    /// How often it could not be dialled, for each reason there was.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DialFailure::ALL.into_iter().map(|it| (it.name(), self.failures[it as usize].get()))
    }
}

/// Of the clients of one service.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    held: AtomicUsize,
    /// Until there was an upstream.
    pub(crate) waits: Histogram,
    unserved: [Counter; Unserved::ALL.len()],
}

impl Clients {
    pub(super) fn came(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends what `came` began.
    pub(super) fn went_on(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many have no upstream yet.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn unserved_for(&self, reason: Unserved) {
        self.unserved[reason as usize].add(1);
    }

    /// How many were reset without an upstream, for each reason there is.
    pub(crate) fn unserved(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Unserved::ALL.into_iter().map(|it| (it.name(), self.unserved[it as usize].get()))
    }
}

/// Why an address could not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DialFailure {
    Refused,
    TimedOut,
    Unreachable,
    /// Its name has no address.
    Unresolved,
    /// It is our own listener.
    OwnListener,
    /// For want of something on our own side, which says nothing about the upstream.
    OwnLimits,
    Other,
}

impl DialFailure {
    const ALL: [DialFailure; 7] = [
        DialFailure::Refused,
        DialFailure::TimedOut,
        DialFailure::Unreachable,
        DialFailure::Unresolved,
        DialFailure::OwnListener,
        DialFailure::OwnLimits,
        DialFailure::Other,
    ];

    /// Of an attempt to connect.
    pub(super) fn of(error: &io::Error) -> Self {
        let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
        match error.kind() {
            _ if connect::is_one_of(error, &ours) => DialFailure::OwnLimits,
            io::ErrorKind::ConnectionRefused => DialFailure::Refused,
            io::ErrorKind::TimedOut => DialFailure::TimedOut,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                DialFailure::Unreachable
            }
            _ => DialFailure::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            DialFailure::Refused => "refused",
            DialFailure::TimedOut => "timed_out",
            DialFailure::Unreachable => "unreachable",
            DialFailure::Unresolved => "unresolved",
            DialFailure::OwnListener => "own_listener",
            DialFailure::OwnLimits => "own_limits",
            DialFailure::Other => "other",
        }
    }
}

/// Why a client got no upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unserved {
    /// There was none for as long as clients are held.
    InVain,
    /// The client gave up.
    GaveUp,
    /// The process is ending.
    Ending,
    /// No thread could be made to serve it.
    NoThread,
}

impl Unserved {
    const ALL: [Unserved; 4] =
        [Unserved::InVain, Unserved::GaveUp, Unserved::Ending, Unserved::NoThread];

    fn name(self) -> &'static str {
        match self {
            Unserved::InVain => "waited_in_vain",
            Unserved::GaveUp => "gave_up",
            Unserved::Ending => "ending",
            Unserved::NoThread => "no_thread",
        }
    }
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unserved::InVain => "it waited in vain",
            Unserved::GaveUp => "it gave up",
            Unserved::Ending => "the process is ending",
            Unserved::NoThread => "there is no thread for it",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_for_itself() {
        let (tally, clients) = (Tally::default(), Clients::default());
        for (count, failure) in DialFailure::ALL.into_iter().enumerate() {
            (0..count).for_each(|_| tally.failed(failure));
            assert_eq!(tally.failures().nth(count), Some((failure.name(), count as u64)));
        }
        for (count, reason) in Unserved::ALL.into_iter().enumerate() {
            (0..count).for_each(|_| clients.unserved_for(reason));
            assert_eq!(clients.unserved().nth(count), Some((reason.name(), count as u64)));
        }
    }

    #[test]
    fn failures_are_told_apart_by_whose_they_are() {
        let of = |errno: Errno| DialFailure::of(&io::Error::from(errno));
        for (errno, failure) in [
            (Errno::CONNREFUSED, DialFailure::Refused),
            (Errno::TIMEDOUT, DialFailure::TimedOut),
            (Errno::HOSTUNREACH, DialFailure::Unreachable),
            (Errno::NETUNREACH, DialFailure::Unreachable),
            (Errno::MFILE, DialFailure::OwnLimits),
            (Errno::ADDRNOTAVAIL, DialFailure::OwnLimits),
            (Errno::ACCESS, DialFailure::Other),
        ] {
            assert_eq!(of(errno), failure, "{errno}");
        }
    }
}
