//! The near end: connections that never wait for ever.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::upstream::ECHO;

/// No proxy that works keeps a client waiting so long, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn connect(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Bounds connect(2) too, which is cheaper than what a timed connect of the
    // standard library does.
    socket.set_write_timeout(Some(patience))?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// One byte there and back: the proxy and its upstream are really connected.
pub(crate) fn echo(mut connection: &TcpStream) -> io::Result<()> {
    let mut byte = [ECHO];
    connection.write_all(&byte)?;
    connection.read_exact(&mut byte)
}

/// A connection that has carried its first byte both ways.
pub(crate) fn open(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let connection = connect(address, patience)?;
    echo(&connection)?;
    Ok(connection)
}

/// As `echo`, of redis.
pub(crate) fn ping(address: SocketAddr, patience: Duration) -> io::Result<()> {
    let mut connection = connect(address, patience)?;
    connection.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    connection.read_exact(&mut answer)?;
    match &answer {
        b"+PONG\r\n" => Ok(()),
        _ => Err(io::Error::other("no PONG from redis")),
    }
}
