//! Connecting with a deadline, to TCP and Unix sockets.

use std::{
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::Path,
    time::Duration,
};

use rustix::io::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::address::{Host, HostPort};

/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last one NUL (unix(7)).
pub(crate) const MAX_UNIX_PATH_BYTES: usize = 107;

/// A dead host is noticed after 30 s of silence and 3 probes 10 s apart.
pub(crate) const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Connects to `address` within `timeout`.
pub(crate) fn tcp(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    tcp_for_writes(address, timeout, None)
}

/// The same for a socket each of whose writes has `write_timeout` from then on.
pub(crate) fn tcp_for_writes(
    address: SocketAddr,
    timeout: Duration,
    write_timeout: Option<Duration>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    connect(&socket, &address.into(), timeout, write_timeout)?;
    // A port of this host that nobody listens on, but that lies in the range of
    // local ports, may be given to this very socket, which then connects to itself
    // (TCP's simultaneous open). Nobody was reached.
    let own = socket.local_addr()?.as_socket();
    if own.is_some_and(|own| (own.ip(), own.port()) == (address.ip(), address.port())) {
        socket.set_linger(Some(Duration::ZERO))?;
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(socket.into())
}

/// Has the kernel find out that the other host is gone.
pub(crate) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}

/// Connects to the first address behind `target` that takes it, within `timeout`
/// for each.
pub(crate) fn to(target: &HostPort, timeout: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolve(target)? {
        match tcp(address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Connects to the Unix socket at `path` within `timeout`: a stopped daemon
/// whose backlog is full would hold a plain connect for ever.
pub(crate) fn unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    if path.as_os_str().as_bytes().len() > MAX_UNIX_PATH_BYTES {
        let text = format!("a socket's path has at most {MAX_UNIX_PATH_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    connect(&socket, &SockAddr::unix(path)?, timeout, None)?;
    Ok(OwnedFd::from(socket).into())
}

/// The addresses behind `target`. A name is looked up each time, because it may
/// move; the lookup blocks for as long as the resolver's own limits say
/// (resolv.conf(5); 5 s with musl).
pub(crate) fn resolve(target: &HostPort) -> io::Result<Vec<SocketAddr>> {
    let port = target.port.get();
    match &target.host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, port)]),
        Host::Name(name) => Ok((name.as_str(), port).to_socket_addrs()?.collect()),
    }
}

/// Whether `error` is one that std has no name of its own for.
pub(crate) fn is_one_of(error: &io::Error, errnos: &[Errno]) -> bool {
    errnos.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A blocking connect bounded by the socket's send timeout, which costs one call
/// where a non-blocking connect with poll costs five.
///
/// Source: socket(7), SO_SNDTIMEO; connect(2) then fails with EINPROGRESS (TCP)
/// or EAGAIN (Unix), and with EINTR when the process was stopped and goes on (signal(7)),
/// or its container was paused. Called again, it waits for what it has begun, and fails
/// with EALREADY if that takes too long.
fn connect(
    socket: &Socket,
    address: &SockAddr,
    timeout: Duration,
    write_timeout: Option<Duration>,
) -> io::Result<()> {
    const LATE: [Errno; 3] = [Errno::INPROGRESS, Errno::AGAIN, Errno::ALREADY];
    if timeout.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    socket.set_write_timeout(Some(timeout))?;
    loop {
        match socket.connect(address) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_one_of(&error, &LATE) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
            Ok(()) => return socket.set_write_timeout(write_timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixListener, time::Instant};

    use super::*;

    #[test]
    fn a_full_backlog_ends_in_a_timeout() {
        let directory = std::env::temp_dir().join(format!("ambassador-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("full.sock");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let timeout = Duration::from_millis(50);
        let started = Instant::now();
        let mut held = Vec::new();
        let error = loop {
            match unix(&path, timeout) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 10, "a backlog of 0 took {} connections", held.len());
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(5));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_connected_socket_keeps_no_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = tcp(listener.local_addr().unwrap(), Duration::from_secs(5)).unwrap();
        assert_eq!(stream.write_timeout().unwrap(), None);
    }

    #[test]
    fn a_socket_that_connects_to_itself_has_reached_nobody() {
        // An even port in the range of local ports: connect(2) tries these one after
        // the other, and in time gives out this one.
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
        let mut ports = (first..).filter(|port| port % 2 == 0);
        let free = ports.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
        let address = free.unwrap().local_addr().unwrap();
        for _ in 0..70_000 {
            assert!(tcp(address, Duration::from_secs(5)).is_err(), "connected to itself");
        }
    }

    #[test]
    fn a_path_that_fits_no_socket_is_refused() {
        let path = "/".repeat(MAX_UNIX_PATH_BYTES + 1);
        let error = unix(Path::new(&path), Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let _ = UnixListener::bind(&path).unwrap_err(); // std agrees.
    }
}
