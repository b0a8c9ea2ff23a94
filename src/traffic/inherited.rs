//! Listening sockets that whoever started this process holds too, and keeps when it
//! ends: a client that connects meanwhile waits for the next process.

use std::{
    env,
    fmt::Display,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    process,
};

use listenfd::ListenFd;
use socket2::SockRef;

use super::sockets::{self, Bound, Listen};
use crate::report::Failure;

/// More are a mistake: a proxy has a listener for each.
const MOST: usize = 1024;

/// The sockets that were passed and that no listener has taken over yet.
#[derive(Debug)]
pub(crate) struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// Takes what `LISTEN_FDS` and `LISTEN_PID` say was passed, and removes both from the
    /// environment. To be called before anything else opens a file or starts a thread.
    ///
    /// Source: sd_listen_fds(3). The names in `LISTEN_FDNAMES` say nothing that the
    /// addresses do not.
    ///
    /// # Errors
    /// Wrong usage, when something else than listening TCP sockets was passed.
    pub(crate) fn take() -> Result<Self, Failure> {
        let variable = |name| env::var(name).ok();
        // What was meant for our parent is none of our business.
        if variable("LISTEN_PID").and_then(|id| id.parse().ok()) != Some(process::id()) {
            return Ok(Inherited(Vec::new()));
        }
        let count = variable("LISTEN_FDS").unwrap_or_default();
        if !count.is_empty() && !count.parse().is_ok_and(|count: usize| count <= MOST) {
            return Err(refused(&format!("expected a number of sockets up to {MOST}")));
        }
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let taken = passed.take_tcp_listener(index).map_err(|error| refused(&error))?;
            let socket = taken.expect("each is taken once");
            let address = socket.local_addr().map_err(|error| refused(&error))?;
            if !SockRef::from(&socket).is_listener().unwrap_or(false) {
                return Err(refused(&format!(
                    "the socket at {address} does not listen; a socket unit needs Accept=no"
                )));
            }
            sockets.push((address, socket));
        }
        Ok(Inherited(sockets))
    }

    /// The socket at which `listen` is, or a new one.
    pub(crate) fn take_or_bind(&mut self, listen: Listen) -> io::Result<Bound> {
        match self.0.iter().position(|(address, _)| is_at(listen, *address)) {
            Some(place) => sockets::adopt(self.0.swap_remove(place).1),
            None => sockets::bind(listen),
        }
    }

    /// To be called once every listener has taken its own.
    ///
    /// # Errors
    /// Wrong usage, when a socket is left: its clients would never be served.
    pub(crate) fn refuse_rest(self) -> Result<(), Failure> {
        match self.0.first() {
            Some((address, _)) => Err(refused(&format!(
                "a socket at {address} was passed, and no LISTEN is that address"
            ))),
            None => Ok(()),
        }
    }
}

fn refused(problem: &dyn Display) -> Failure {
    Failure::Usage(format!("LISTEN_FDS: {problem}"))
}

/// Whether a socket at `address` is what `listen` would be bound as.
fn is_at(listen: Listen, address: SocketAddr) -> bool {
    let any: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    match listen {
        Listen::Any(port) => address.port() == port && any.contains(&address.ip()),
        Listen::At(wanted) => address == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_socket_is_at_its_address_and_a_bare_port_is_on_every_interface() {
        let cases = [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", false),
            ("[::1]:80", "[::1]:80", true),
            ("80", "[::]:80", true),
            ("80", "0.0.0.0:80", true),
            ("80", "[::]:81", false),
            ("80", "127.0.0.1:80", false),
            ("0", "[::]:80", false),
            ("127.0.0.1:0", "127.0.0.1:80", false),
        ];
        for (listen, address, is_there) in cases {
            let parsed = (listen.parse().unwrap(), address.parse().unwrap());
            assert_eq!(is_at(parsed.0, parsed.1), is_there, "{listen} and {address}");
        }
    }
}
