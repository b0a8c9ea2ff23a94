//! The client's side of a connection.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use super::DEADLINE;

/// Connects with a deadline on everything; a wildcard address is reached at loopback.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&reachable(address), DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// A client whose byte comes back.
#[track_caller]
pub(crate) fn open_connection(address: SocketAddr) -> TcpStream {
    let mut client = connect(address).unwrap();
    assert!(echoes(&mut client));
    client
}

/// Whether a byte that `client` sends comes back.
pub(crate) fn echoes(client: &mut TcpStream) -> bool {
    client.write_all(b"x").is_ok() && client.read_exact(&mut [0; 1]).is_ok()
}

/// Everything the server says until it ends the connection.
pub(crate) fn read_all(address: SocketAddr) -> io::Result<String> {
    let mut text = String::new();
    connect(address)?.read_to_string(&mut text)?;
    Ok(text)
}

/// How the connection behind `stream` ends, its remaining bytes left out.
pub(crate) fn ending(mut stream: &TcpStream) -> Ending {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ending::Fin,
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::ConnectionReset => return Ending::Reset,
            Err(err) => return Ending::Other(err.kind()),
        }
    }
}

/// How a new connection ends. Its reset may come so soon that connecting reports it.
pub(crate) fn ending_of_new(address: SocketAddr) -> Ending {
    match connect(address) {
        Ok(stream) => ending(&stream),
        Err(err) if err.kind() == io::ErrorKind::ConnectionReset => Ending::Reset,
        Err(err) => Ending::Other(err.kind()),
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Fin,
    Reset,
    Other(io::ErrorKind),
}

fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        // Also right for a dual-stack socket, and where IPv6 is off.
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

pub(crate) fn has_ipv6() -> bool {
    std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}
