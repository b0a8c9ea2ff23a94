//! Copies one direction of a connection until it ends, and ends it right.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::sockets;

/// One read: a full frame of loopback and of jumbo Ethernet fits several times.
const BUFFER_BYTES: usize = 16 * 1024;

/// One side of a connection, shared by the two threads that copy.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) stream: TcpStream,
    /// Set before our FIN is sent to this side.
    is_write_shut: AtomicBool,
    /// Bytes read from this side.
    pub(super) bytes: AtomicU64,
}

impl Side {
    pub(super) fn new(stream: TcpStream) -> Self {
        Side { stream, is_write_shut: AtomicBool::new(false), bytes: AtomicU64::new(0) }
    }
}

/// A client and, once it is dialled, its upstream.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: Side,
    pub(super) upstream: OnceLock<Side>,
    /// Something that was sent cannot be delivered: both sides must see a reset.
    is_broken: AtomicBool,
}

impl Link {
    pub(super) fn new(client: TcpStream) -> Self {
        Link {
            client: Side::new(client),
            upstream: OnceLock::new(),
            is_broken: AtomicBool::new(false),
        }
    }

    /// Makes the coming close a reset on both sides.
    pub(super) fn reset_on_close(&self) {
        self.is_broken.store(true, Ordering::Release);
        sockets::reset_on_close(&self.client.stream);
        if let Some(upstream) = self.upstream.get() {
            sockets::reset_on_close(&upstream.stream);
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// Copies from `from` to `to` until the direction ends.
    ///
    /// - `from` ended in order: `to` gets a FIN, and the other direction goes on.
    /// - `from` was reset: what it sent before is written by now; the other
    ///   direction has nobody to write to any more and is woken.
    /// - `to` was reset: the other direction reads what is left of it and then
    ///   its end.
    ///
    /// After a reset both sides are reset when the last thread lets go of them,
    /// so that a truncated stream never looks complete.
    pub(super) fn copy(&self, from: &Side, to: &Side) {
        match self.copy_bytes(from, to) {
            Ok(()) => {
                to.is_write_shut.store(true, Ordering::Release);
                // It fails only for a side that is gone, and its own thread sees that.
                let _ = to.stream.shutdown(Shutdown::Write);
            }
            Err(_) => {
                self.reset_on_close();
                // Wakes the other thread from reading `to` and sends nothing;
                // `Shutdown::Both` would send a FIN first.
                let _ = to.stream.shutdown(Shutdown::Read);
            }
        }
    }

    fn copy_bytes(&self, from: &Side, to: &Side) -> io::Result<()> {
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            match (&from.stream).read(&mut buffer) {
                Ok(0) if self.is_broken() => return Err(io::ErrorKind::ConnectionReset.into()),
                // Once our FIN is out, a finished peer looks like a reset one; but
                // then no other thread uses the socket, so a reset would have been
                // reported to this read.
                Ok(0) if from.is_write_shut.load(Ordering::Acquire) => return Ok(()),
                Ok(0)
                    if sockets::was_reset(&from.stream)
                    // Our FIN may have been sent since the check above.
                    && !from.is_write_shut.load(Ordering::Acquire) =>
                {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Ok(0) => return Ok(()),
                Ok(count) => {
                    from.bytes.fetch_add(count as u64, Ordering::Relaxed);
                    (&to.stream).write_all(&buffer[..count])?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
