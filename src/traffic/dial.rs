//! Finds an upstream for one client: the next address when one fails, again and
//! again until the client has waited long enough.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use super::{
    Settings,
    copy::{Link, Target},
    pool::{News, Pool},
    sockets::{self, State},
    tally::{DialFailure, Unserved},
};
use crate::{address::HostPort, connect, report};
use log::{info, warn};

/// The pauses between two rounds through all addresses: a restarted server is
/// registered a moment before it listens, so the first come quickly.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(250);

/// The addresses this process itself listens on: dialling one would be a loop.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnListeners(Vec<SocketAddr>);

impl OwnListeners {
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        OwnListeners(addresses)
    }

    /// Whether `target` is one of them. A loop through a published port of a
    /// container looks like any other host and cannot be seen.
    pub(crate) fn contains(&self, target: SocketAddr) -> bool {
        let ip = target.ip().to_canonical();
        let is_everywhere = |own: IpAddr| match own {
            IpAddr::V4(own) => own.is_unspecified() && ip.is_ipv4(),
            IpAddr::V6(own) => own.is_unspecified(),
        };
        self.0.iter().any(|own| {
            own.port() == target.port()
                && (own.ip() == ip || is_everywhere(own.ip()) && is_local(ip))
        })
    }
}

/// Whether `ip` is an address of this host: then it is also what this host would
/// send from. (What can be bound says nothing where net.ipv4.ip_nonlocal_bind is on.)
fn is_local(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, 9))?; // Sends nothing: it only asks for the route.
        Ok::<_, io::Error>(socket.local_addr()?.ip())
    };
    ip.is_loopback() || source().is_ok_and(|source| source == ip)
}

/// An upstream that took a client.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) stream: TcpStream,
    pub(super) target: Target,
}

/// Connects to an upstream of `pool`.
pub(super) fn dial(
    pool: &Pool,
    settings: &Settings,
    own: &OwnListeners,
    link: &Link,
) -> Result<Dialled, Unserved> {
    let deadline = Instant::now() + settings.wait;
    let mut pause = RETRY_MIN;
    // Of the last attempt, in whichever round.
    let mut problem = None;
    loop {
        let snapshot = pool.snapshot();
        let candidates = pool.candidates(&snapshot, link.peer.ip().to_canonical());
        problem = problem.filter(|_| !candidates.is_empty());
        let mut round = Round { pool, settings, own, link, tried: Vec::new(), problem };
        for target in candidates {
            let left = deadline.saturating_duration_since(Instant::now());
            // Each attempt may take its whole timeout, and the world may change
            // meanwhile. Without a wait there is one round, and all of it is made; on a
            // busy machine a short wait may be over before the first attempt, which is
            // made all the same.
            if !settings.wait.is_zero()
                && round.problem.is_some()
                && (left.is_zero() || pool.news(snapshot.generation) != News::Nothing)
            {
                break;
            }
            if let Some(dialled) = round.try_target(&target) {
                return Ok(dialled);
            }
        }
        problem = round.problem;
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        // What failed may have left the pool meanwhile: no word of it then.
        match pool.news(snapshot.generation) {
            News::Closed => return Err(Unserved::Ending),
            News::Changed if !left.is_zero() => continue,
            News::Changed | News::Nothing => {}
        }
        note_outage(pool, settings, now, problem.as_ref());
        if left.is_zero() {
            return Err(Unserved::InVain);
        }
        match pool.wait_for_news(snapshot.generation, pause.min(left)) {
            News::Changed => pause = RETRY_MIN,
            News::Nothing => pause = (pause * 2).min(RETRY_MAX),
            News::Closed => return Err(Unserved::Ending),
        }
        if sockets::state(&link.client.stream) != State::Open {
            return Err(Unserved::GaveUp);
        }
    }
}

/// Says that nothing can be reached, if that is due. A frame of its own, as `note_recovery`.
#[cold]
#[inline(never)]
fn note_outage(pool: &Pool, settings: &Settings, now: Instant, problem: Option<&Problem>) {
    let unknown = Problem { text: "no instance is known".to_owned(), is_ours: false };
    let Problem { text, is_ours } = problem.unwrap_or(&unknown);
    let Some(lasted) = pool.outage_lasts(now, text, *is_ours) else { return };
    let (name, lasting) = (pool.name(), report::lasting(lasted));
    let fate = if settings.wait.is_zero() {
        "reset".to_owned()
    } else {
        format!("held for {}", report::duration(settings.wait))
    };
    warn!("{name}: nothing can be reached{lasting}: {text}; clients are {fate}");
}

/// A frame of its own, so that a thread that waits for its client has touched none as large.
#[cold]
#[inline(never)]
fn note_recovery(pool: &Pool, lasted: Duration) {
    info!("{}: reachable again after {}", pool.name(), report::duration(lasted));
}

/// One pass through all addresses.
struct Round<'a> {
    pool: &'a Pool,
    settings: &'a Settings,
    own: &'a OwnListeners,
    link: &'a Link,
    /// Several names may stand for one address.
    tried: Vec<SocketAddr>,
    problem: Option<Problem>,
}

/// Why an attempt failed.
struct Problem {
    text: String,
    /// For want of something on our own side.
    is_ours: bool,
}

impl Round<'_> {
    fn try_target(&mut self, target: &HostPort) -> Option<Dialled> {
        let addresses = match connect::resolve(target) {
            Ok(addresses) => addresses,
            Err(error) => {
                self.failed(target, DialFailure::Unresolved, &error);
                return None;
            }
        };
        for address in addresses {
            if self.tried.contains(&address) {
                continue;
            }
            self.tried.push(address);
            if self.own.contains(address) {
                let own = io::Error::other("this is our own listener");
                self.failed(target, DialFailure::OwnListener, &own);
                continue;
            }
            let started = Instant::now();
            match self.connect(address) {
                Ok(stream) => {
                    let connected = Instant::now();
                    let (tally, outage) = self.pool.opened(target);
                    tally.dials.observe(connected - started);
                    if let Some(lasted) = outage {
                        note_recovery(self.pool, lasted);
                    }
                    let target = Target { address: target.clone(), tally, connected };
                    return Some(Dialled { stream, target });
                }
                Err(error) => self.failed(target, DialFailure::of(&error), &error),
            }
        }
        None
    }

    fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = sockets::dial(address, self.settings.connect_timeout)?;
        if let Some(header) = self.settings.send_proxy {
            let listener = self.link.client.stream.local_addr()?;
            // It always fits: nothing else was written to this socket.
            stream.write_all(&header.bytes(self.link.peer, listener))?;
        }
        Ok(stream)
    }

    #[cold]
    #[inline(never)]
    fn failed(&mut self, target: &HostPort, failure: DialFailure, error: &io::Error) {
        let (problem, period) = (error.to_string(), self.settings.eject);
        if self.pool.failed(target, failure, &problem, period) {
            let period = report::duration(period);
            warn!("{}: {target} is tried last, for {period} at a time: {error}", self.pool.name());
        }
        let is_ours = failure == DialFailure::OwnLimits;
        self.problem = Some(Problem { text: format!("{target}: {error}"), is_ours });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_known_by_each_of_them() {
        let own = OwnListeners::new(vec!["[::]:6379".parse().unwrap()]);
        for address in ["127.0.0.1:6379", "127.1.2.3:6379"] {
            assert!(own.contains(address.parse().unwrap()), "{address}");
        }
        // 192.0.2.0/24 is set aside for documentation (RFC 5737) and on no host.
        for address in ["127.0.0.1:6380", "192.0.2.1:6379"] {
            assert!(!own.contains(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_listener_on_every_ipv4_address_is_none_on_ipv6() {
        let own = OwnListeners::new(vec!["0.0.0.0:6379".parse().unwrap()]);
        assert!(own.contains("127.0.0.1:6379".parse().unwrap()));
        assert!(own.contains("[::ffff:127.0.0.1]:6379".parse().unwrap()));
        assert!(!own.contains("[::1]:6379".parse().unwrap()));
    }

    #[test]
    fn a_listener_on_one_address_is_known_by_that_one_only() {
        let own = OwnListeners::new(vec!["127.0.0.1:6379".parse().unwrap()]);
        assert!(own.contains("127.0.0.1:6379".parse().unwrap()));
        assert!(!own.contains("127.0.0.2:6379".parse().unwrap()));
    }
}
