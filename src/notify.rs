//! Tells systemd that a unit of `Type=notify` is ready.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// Sends `READY=1` to `socket`, the value of `NOTIFY_SOCKET`.
///
/// Source: sd_notify(3): one datagram; a leading `@` stands for the NUL byte of
/// an abstract address.
pub(crate) fn ready(socket: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_reaches_an_abstract_socket() {
        let name = format!("ambassador-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        ready(&format!("@{name}")).unwrap();
        let mut datagram = [0; 16];
        let length = systemd.recv(&mut datagram).unwrap();
        assert_eq!(&datagram[..length], b"READY=1");
    }
}
