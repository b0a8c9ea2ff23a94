//! Listening sockets, and the options every connection has.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    str::FromStr,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec},
    io::Errno,
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::connect::{self, KEEPALIVE};

/// Clients that may wait to be accepted: std's 128 make a burst of connections
/// wait for seconds. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long a write may be stuck before its thread looks whether the connection is
/// still wanted: a thread that writes cannot be woken without sending a FIN. A splice
/// that has moved anything returns as a success first, so up to three of these pass.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_millis(500);

/// Where to listen, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    /// On every interface, IPv4 and IPv6.
    Any(u16),
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = &'static str;

    /// `PORT`, `ADDR:PORT` or `[V6]:PORT`; port 0 picks a free one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_port = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if is_port(text) {
            return text.parse().map(Listen::Any).map_err(|_| "a port is at most 65535");
        }
        match text.rsplit_once(':') {
            Some((_, port)) if is_port(port) => text.parse().map(Listen::At).map_err(|_| {
                "expected PORT, ADDR:PORT or [V6]:PORT with an IP address and a port up to 65535"
            }),
            _ => Err("expected PORT, ADDR:PORT or [V6]:PORT, for example 6379 or 127.0.0.1:6379"),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Any(port) => write!(f, "port {port}"),
            Listen::At(address) => address.fmt(f),
        }
    }
}

/// A listening socket and the address it really has.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(super) listener: TcpListener,
    pub(crate) address: SocketAddr,
    /// Only for a socket that another process has too: an eventfd to wake by who waits
    /// for its clients.
    pub(super) closed: Option<OwnedFd>,
}

/// Binds and listens, so that clients can connect before anything else is ready.
pub(crate) fn bind(listen: Listen) -> io::Result<Bound> {
    let listener = match listen {
        Listen::At(address) => listen_at(address)?,
        Listen::Any(port) => match listen_at((Ipv6Addr::UNSPECIFIED, port).into()) {
            // The host has no IPv6, by its kernel or by its sysctl.
            Err(error) if lacks_ipv6(&error) => listen_at((Ipv4Addr::UNSPECIFIED, port).into())?,
            outcome => outcome?,
        },
    };
    let address = listener.local_addr()?;
    Ok(Bound { listener, address, closed: None })
}

/// Makes of a socket that another process bound, and keeps, what [`bind`] would make: but
/// for its address and for which of IPv4 and IPv6 it takes, which cannot be changed.
pub(super) fn adopt(listener: TcpListener) -> io::Result<Bound> {
    // Who waits for its clients waits in poll(2), and must not wait in accept(2) for one
    // that another process took. This holds for all who have the socket; systemd takes it
    // back before it starts a service without NonBlocking=.
    listener.set_nonblocking(true)?;
    let socket = SockRef::from(&listener);
    set_listener_options(&socket)?;
    // Listening again only changes the backlog.
    socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    let closed = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
    Ok(Bound { listener, address, closed: Some(closed) })
}

fn lacks_ipv6(error: &io::Error) -> bool {
    connect::is_one_of(error, &[Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL])
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let IpAddr::V6(ip) = address.ip() {
        // `[::]` takes IPv4 clients too, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    // Connections of an earlier life in TIME_WAIT must not block a restart.
    socket.set_reuse_address(true)?;
    set_listener_options(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepted sockets inherit these, which saves the calls for each of them. An urgent byte
/// (tcp(7)) has its place among the others: else it would be lost, and nobody told.
fn set_listener_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    socket.set_write_timeout(Some(WRITE_PATIENCE))
}

/// Connects to an upstream. An accepted connection has the same options from its listener.
pub(super) fn dial(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = connect::tcp_for_writes(address, timeout, Some(WRITE_PATIENCE))?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_out_of_band_inline(true)?;
    Ok(stream)
}

/// Makes the coming close of `stream` a reset instead of an orderly end.
pub(super) fn reset_on_close(stream: &TcpStream) {
    // It fails only for a socket that is gone, which needs no reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// What poll(2) can tell of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// At least one direction is open.
    Open,
    /// Both directions have ended: after two FINs, or a reset that was reported.
    Ended,
    /// It was reset, and no call has reported that yet.
    Reset,
}

/// The state of a connection, without waiting.
pub(super) fn state(stream: &TcpStream) -> State {
    let mut sockets = [PollFd::new(stream, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut sockets, Some(&at_once)) {
        Ok(_) if sockets[0].revents().contains(PollFlags::ERR) => State::Reset,
        Ok(_) if sockets[0].revents().contains(PollFlags::HUP) => State::Ended,
        Ok(_) => State::Open,
        // A socket that cannot be asked has not ended in order.
        Err(_) => State::Reset,
    }
}

/// Whether `stream` has something to read, or its end, before `patience` is over.
pub(super) fn is_readable_within(stream: &TcpStream, patience: Duration) -> bool {
    let mut sockets = [PollFd::new(stream, PollFlags::IN)];
    let patience = Timespec::try_from(patience).ok();
    // What poll(2) cannot tell, the read that follows will.
    !matches!(rustix::event::poll(&mut sockets, patience.as_ref()), Ok(0))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::Shutdown,
    };

    use super::*;

    #[test]
    fn a_listen_address_is_a_port_with_or_without_an_ip() {
        let cases = [
            ("6379", Listen::Any(6379)),
            ("0", Listen::Any(0)),
            ("127.0.0.1:80", Listen::At("127.0.0.1:80".parse().unwrap())),
            ("[::1]:80", Listen::At("[::1]:80".parse().unwrap())),
        ];
        for (text, listen) in cases {
            assert_eq!(text.parse(), Ok(listen), "{text}");
        }
        for text in [
            "",
            ":80",
            "65536",
            "70000",
            "abc",
            "-1",
            "+80",
            "a:80",
            "127.0.0.1:",
            "::1",
            "127.0.0.1:70000",
            "[::1]",
            " 80",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_bare_port_takes_ipv4_and_ipv6_clients() {
        let bound = bind(Listen::Any(0)).unwrap();
        let port = bound.address.port();
        let timeout = Duration::from_secs(5);
        crate::connect::tcp((Ipv4Addr::LOCALHOST, port).into(), timeout).unwrap();
        if bound.address.is_ipv6() {
            crate::connect::tcp((Ipv6Addr::LOCALHOST, port).into(), timeout).unwrap();
        }
    }

    #[test]
    fn accepted_sockets_inherit_the_options_of_their_listener() {
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = bind(Listen::At("127.0.0.1:0".parse().unwrap())).unwrap();
        for bound in [ours, adopt(plain).unwrap()] {
            let _near = crate::connect::tcp(bound.address, Duration::from_secs(5)).unwrap();
            let accepted = bound.listener.accept().unwrap().0;
            let socket = SockRef::from(&accepted);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert!(socket.out_of_band_inline().unwrap());
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
            assert_eq!(accepted.write_timeout().unwrap(), Some(WRITE_PATIENCE));
            assert!(!socket.nonblocking().unwrap());
        }
    }

    #[test]
    fn a_reset_is_told_from_an_orderly_end() {
        let bound = bind(Listen::At("127.0.0.1:0".parse().unwrap())).unwrap();
        let pair = || {
            let near = crate::connect::tcp(bound.address, Duration::from_secs(5)).unwrap();
            (near, bound.listener.accept().unwrap().0)
        };
        let (near, mut far) = pair();
        assert_eq!(state(&far), State::Open);
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
        assert_eq!(state(&far), State::Open);
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(state(&far), State::Ended);
        for is_shut in [false, true] {
            let (near, mut far) = pair();
            if is_shut {
                far.shutdown(Shutdown::Write).unwrap();
            }
            reset_on_close(&near);
            drop(near);
            assert_eq!(state(&far), State::Reset);
            assert!(far.read(&mut [0]).is_err());
            assert_eq!(far.read(&mut [0]).unwrap(), 0, "the second reader is told nothing");
            assert_eq!(state(&far), State::Ended);
            assert!(far.write(&[0]).is_err());
        }
    }
}
