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

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::{Host, HostPort};

/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last one NUL (unix(7)).
pub(crate) const MAX_UNIX_PATH_BYTES: usize = 107;

/// Connects to `address` within `timeout`.
pub(crate) fn tcp(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    connect(&socket, &address.into(), timeout)?;
    Ok(socket.into())
}

/// Connects to the Unix socket at `path` within `timeout`: a stopped daemon
/// whose backlog is full would hold a plain connect for ever.
pub(crate) fn unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    if path.as_os_str().as_bytes().len() > MAX_UNIX_PATH_BYTES {
        let text = format!("a socket's path has at most {MAX_UNIX_PATH_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    connect(&socket, &SockAddr::unix(path)?, timeout)?;
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

/// A blocking connect bounded by the socket's send timeout, which costs one call
/// where a non-blocking connect with poll costs five.
///
/// Source: socket(7), SO_SNDTIMEO; connect(2) then fails with EINPROGRESS (TCP)
/// or EAGAIN (Unix).
fn connect(socket: &Socket, address: &SockAddr, timeout: Duration) -> io::Result<()> {
    if timeout.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    socket.set_write_timeout(Some(timeout))?;
    socket.connect(address).map_err(|error| {
        let timed_out = error.kind() == io::ErrorKind::WouldBlock
            || error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error());
        if timed_out { io::ErrorKind::TimedOut.into() } else { error }
    })?;
    socket.set_write_timeout(None)
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
    fn a_path_that_fits_no_socket_is_refused() {
        let path = "/".repeat(MAX_UNIX_PATH_BYTES + 1);
        let error = unix(Path::new(&path), Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let _ = UnixListener::bind(&path).unwrap_err(); // std agrees.
    }
}
