//! The connection to Docker: a stream whose reads and writes end at a deadline.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use super::Address;
use crate::connect;

#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    pub(super) fn connect(address: &Address, timeout: Duration) -> io::Result<Stream> {
        match address {
            Address::Unix(path) => connect::unix(path, timeout).map(Stream::Unix),
            Address::Tcp(target) => {
                let stream = connect::to(target, timeout)?;
                connect::keep_alive(&stream)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// A stream whose reads and writes end at a deadline, if there is one.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) stream: Stream,
    pub(super) deadline: Option<Instant>,
}

impl Transport {
    /// What is left until the deadline; an error once nothing is.
    fn patience(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Transport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let patience = self.patience()?;
        match &mut self.stream {
            Stream::Unix(stream) => {
                stream.set_read_timeout(patience)?;
                stream.read(into)
            }
            Stream::Tcp(stream) => {
                stream.set_read_timeout(patience)?;
                stream.read(into)
            }
        }
    }
}

impl Write for Transport {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let patience = self.patience()?;
        match &mut self.stream {
            Stream::Unix(stream) => {
                stream.set_write_timeout(patience)?;
                stream.write(from)
            }
            Stream::Tcp(stream) => {
                stream.set_write_timeout(patience)?;
                stream.write(from)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
