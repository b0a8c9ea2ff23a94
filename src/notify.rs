//! Tells systemd how we are, where a unit of `Type=notify` asks for it.
//!
//! Source: sd_notify(3): a datagram of lines; sd_watchdog_enabled(3).

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::{Duration, Instant},
};

use log::warn;

use crate::report;

/// How often what is said of us may change: often enough for people.
const STATUS_GAP: Duration = Duration::from_secs(1);

/// Who wants to be told, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Supervisor {
    /// `NOTIFY_SOCKET`.
    pub(crate) socket: Option<String>,
    /// `WATCHDOG_USEC`, if `WATCHDOG_PID` means us: who says nothing for so long is killed.
    pub(crate) watchdog: Option<Duration>,
}

/// Never blocks, and never fails: what cannot be sent now is sent at the next call, and
/// that systemd cannot be told is no reason not to serve.
#[derive(Debug)]
pub(crate) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    is_ready_told: bool,
    fed: Option<Instant>,
    /// What was said last.
    status: String,
    has_warned: bool,
}

impl Notifier {
    pub(crate) fn new(Supervisor { socket, watchdog }: &Supervisor) -> Self {
        let mut notifier = Notifier {
            to: None,
            watchdog: *watchdog,
            is_ready_told: false,
            fed: None,
            status: String::new(),
            has_warned: false,
        };
        if let Some(socket) = socket {
            match open(socket) {
                Ok(to) => notifier.to = Some(to),
                Err(error) => notifier.warn(&error),
            }
        }
        notifier
    }

    /// How often somebody should look whether there is something to tell. `None` if
    /// nobody is told anything.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.to.as_ref()?;
        // Half of it is the rhythm; a late look must not make it a whole one.
        Some(self.watchdog.map_or(STATUS_GAP, |watchdog| STATUS_GAP.min(watchdog / 8)))
    }

    /// Says what we are doing, and before all else that we are ready.
    pub(crate) fn working(&mut self, status: &str) {
        let status = report::excerpt(status);
        if !self.is_ready_told {
            self.is_ready_told = self.send(&format!("READY=1\nSTATUS={status}"));
        } else if status == self.status || !self.send(&format!("STATUS={status}")) {
            return;
        }
        self.status = status;
    }

    /// Says that we end because we were asked to, or because we must.
    pub(crate) fn stopping(&mut self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    pub(crate) fn has_watchdog(&self) -> bool {
        self.watchdog.is_some()
    }

    /// Whether half the time is over after which we count as stuck.
    pub(crate) fn is_watchdog_hungry(&self) -> bool {
        match self.watchdog {
            Some(watchdog) => self.fed.is_none_or(|fed| fed.elapsed() >= watchdog / 2),
            None => false,
        }
    }

    /// Says that we are not stuck.
    pub(crate) fn feed_watchdog(&mut self) {
        if self.send("WATCHDOG=1") {
            self.fed = Some(Instant::now());
        }
    }

    /// Whether it was sent.
    fn send(&mut self, lines: &str) -> bool {
        let Some((socket, address)) = &self.to else { return false };
        match socket.send_to_addr(lines.as_bytes(), address) {
            Ok(_) => true,
            Err(error) => {
                self.warn(&error);
                false
            }
        }
    }

    fn warn(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.has_warned, true) {
            warn!("systemd cannot be told how we are, we serve all the same: {error}");
        }
    }
}

/// A leading `@` stands for the NUL byte of an abstract address.
fn open(socket: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn systemd(name: &str) -> (UnixDatagram, Supervisor) {
        let name = format!("ambassador-test-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let watchdog = Some(Duration::from_secs(60));
        (socket, Supervisor { socket: Some(format!("@{name}")), watchdog })
    }

    fn told(systemd: &UnixDatagram) -> Option<String> {
        let mut datagram = [0; 256];
        let length = systemd.recv(&mut datagram).ok()?;
        Some(String::from_utf8(datagram[..length].to_vec()).unwrap())
    }

    #[test]
    fn readiness_comes_first_and_a_status_only_when_it_changes() {
        let (systemd, supervisor) = systemd("status");
        let mut notifier = Notifier::new(&supervisor);
        for status in ["one", "one", "two\nREADY=0", "two\nREADY=0"] {
            notifier.working(status);
        }
        assert_eq!(told(&systemd).unwrap(), "READY=1\nSTATUS=one");
        assert_eq!(told(&systemd).unwrap(), "STATUS=two\\nREADY=0");
        assert_eq!(told(&systemd), None);
    }

    #[test]
    fn the_watchdog_is_fed_at_half_its_time() {
        let (systemd, supervisor) = systemd("watchdog");
        let mut notifier = Notifier::new(&supervisor);
        assert!(notifier.is_watchdog_hungry());
        notifier.feed_watchdog();
        assert_eq!(told(&systemd).unwrap(), "WATCHDOG=1");
        assert!(!notifier.is_watchdog_hungry());
        notifier.fed = Instant::now().checked_sub(Duration::from_secs(30));
        assert!(notifier.is_watchdog_hungry());
    }

    #[test]
    fn a_systemd_that_reads_nothing_blocks_nobody_and_is_told_later() {
        let (systemd, supervisor) = systemd("full");
        let mut other = Notifier::new(&supervisor);
        while other.send("STATUS=more") {}
        let mut notifier = Notifier::new(&supervisor);
        notifier.working("one");
        notifier.feed_watchdog();
        assert!(notifier.is_watchdog_hungry());
        while told(&systemd).is_some() {}
        notifier.working("one");
        assert_eq!(told(&systemd).unwrap(), "READY=1\nSTATUS=one");
    }
}
