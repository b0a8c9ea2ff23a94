//! Copies one direction of a connection until it ends, and ends it right.
//!
//! Small messages are read and written; a stream that stays busy is moved by
//! splice(2), which copies nothing, until it grows quiet again.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{io::Errno, pipe::SpliceFlags};

use super::{
    pipes::{Pipe, Pipes},
    pool::Pool,
    sockets::{self, State},
    tally::Tally,
};
use crate::{address::HostPort, connect};

/// One read while nothing is known of a stream. Small, because Rust touches every
/// page of a frame when it is entered: with this one, a thread that waits for its
/// first bytes has touched a single page.
const FIRST_BYTES: usize = 768;

/// One read once more than that has come at once.
const SMALL_BYTES: usize = 4 * 1024;

/// So many full reads of it in a row make a stream busy.
const BUSY_AFTER: u32 = 4;

/// One read of a busy stream that has no pipe.
const LARGE_BYTES: usize = 128 * 1024;

/// A busy stream that moved less than this at once is about to end or to pause...
const QUIET_BYTES: usize = 64 * 1024;

/// ...and if nothing follows for so long, it is no longer busy.
const QUIET: Duration = Duration::from_millis(50);

/// One side of a connection, shared by the two threads that copy.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) stream: TcpStream,
    /// Set before our FIN is sent to this side.
    is_write_shut: AtomicBool,
    /// Set when it has ended in order: no thread reads from it any more.
    is_read_out: AtomicBool,
    /// Bytes read from this side.
    pub(super) bytes: AtomicU64,
    /// Those of them that were added to the tally of its instance.
    tallied: AtomicU64,
    /// When the first of them were read.
    first: OnceLock<Instant>,
}

impl Side {
    pub(super) fn new(stream: TcpStream) -> Self {
        let (is_write_shut, is_read_out) = (AtomicBool::new(false), AtomicBool::new(false));
        let (bytes, tallied, first) = (AtomicU64::new(0), AtomicU64::new(0), OnceLock::new());
        Side { stream, is_write_shut, is_read_out, bytes, tallied, first }
    }

    /// Whether this side was reset, as far as poll(2) can tell.
    ///
    /// A reset is reported to one thread only, and the other one reads 0 as if the peer
    /// had ended in order; then both directions have ended and we did not end ours.
    /// Once our FIN is out, a finished peer looks the same; but then no other thread
    /// uses the socket, so a reset still waits to be reported. The flag is looked at
    /// again because our FIN may have been sent since the first look.
    fn was_reset(&self) -> bool {
        let is_shut = || self.is_write_shut.load(Ordering::Acquire);
        let was_shut = is_shut();
        match sockets::state(&self.stream) {
            State::Open => false,
            State::Ended => !was_shut && !is_shut(),
            State::Reset => true,
        }
    }

    fn count(&self, bytes: usize) {
        if self.bytes.fetch_add(bytes as u64, Ordering::Relaxed) == 0 && bytes > 0 {
            self.first.get_or_init(Instant::now);
        }
    }

    /// How many bytes were read since the last time.
    fn bytes_to_tally(&self) -> u64 {
        let bytes = self.bytes.load(Ordering::Relaxed);
        // Several threads may do this, and an older number come later.
        bytes.saturating_sub(self.tallied.fetch_max(bytes, Ordering::Relaxed))
    }
}

/// Where a connection goes.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: HostPort,
    pub(super) tally: Arc<Tally>,
    pub(super) connected: Instant,
}

/// A client and, once it is dialled, its upstream.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) pool: Arc<Pool>,
    pub(super) peer: SocketAddr,
    pub(super) client: Side,
    pub(super) upstream: OnceLock<Side>,
    /// What was dialled, set before `upstream`.
    pub(super) target: OnceLock<Target>,
    /// Whether the first byte of the upstream was added to the tally.
    has_tallied_first: AtomicBool,
    is_kept_alive: AtomicBool,
    /// Something that was sent cannot be delivered: both sides must see a reset.
    is_broken: AtomicBool,
    /// Neither side is to get anything more.
    is_cut: AtomicBool,
}

/// Why a way of copying stopped.
#[derive(Debug, PartialEq, Eq)]
enum Stopped {
    /// The stream has ended.
    Ended,
    /// It is busy, if it was not, or no longer, if it was.
    Changed,
    /// This way of copying is refused for these sockets; nothing was lost.
    Refused,
}

impl Link {
    pub(super) fn new(client: TcpStream, peer: SocketAddr, pool: Arc<Pool>) -> Self {
        Link {
            pool,
            peer,
            client: Side::new(client),
            upstream: OnceLock::new(),
            target: OnceLock::new(),
            has_tallied_first: AtomicBool::new(false),
            is_kept_alive: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
        }
    }

    /// The client's address, for people.
    pub(super) fn client_address(&self) -> SocketAddr {
        SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port())
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

    /// Resets both sides. A thread that reads sees it at once, one that writes before it
    /// writes more; if that side does not read, within `sockets::WRITE_PATIENCE`.
    pub(super) fn cut(&self) {
        // A stream that never pauses would go on: what is queued comes before the end.
        self.is_cut.store(true, Ordering::Relaxed);
        self.reset_on_close();
        // Sends nothing; `Shutdown::Both` would send a FIN first.
        let _ = self.client.stream.shutdown(Shutdown::Read);
        if let Some(upstream) = self.upstream.get() {
            let _ = upstream.stream.shutdown(Shutdown::Read);
        }
    }

    /// Whether a side that had ended in order was reset afterwards. No thread reads
    /// from it any more, so none is told.
    pub(super) fn has_lost_a_side(&self) -> bool {
        let is_lost = |side: &Side| side.is_read_out.load(Ordering::Acquire) && side.was_reset();
        is_lost(&self.client) || self.upstream.get().is_some_and(is_lost)
    }

    /// Has the kernel find out that the upstream's host is gone; of the client's it does so
    /// from the start, because the listener says so. Not worth its four system calls for
    /// a connection that ends at once.
    pub(super) fn keep_alive(&self) {
        if let Some(upstream) = self.upstream.get()
            && !self.is_kept_alive.swap(true, Ordering::Relaxed)
        {
            // It fails only for a socket that is gone.
            let _ = connect::keep_alive(&upstream.stream);
        }
    }

    /// Bytes moved in both directions, as far as the kernel: what it holds for a slow reader,
    /// in a pipe or a socket's buffer, was moved.
    pub(super) fn bytes(&self) -> u64 {
        let upstream = self.upstream.get().map_or(0, |side| side.bytes.load(Ordering::Relaxed));
        self.client.bytes.load(Ordering::Relaxed) + upstream
    }

    /// The address it goes to, if that is no longer in its pool.
    pub(super) fn removed_target(&self) -> Option<&HostPort> {
        let address = &self.target.get()?.address;
        (!self.pool.has(address)).then_some(address)
    }

    /// Adds to the tally of its instance what happened since the last time. At its end and
    /// when somebody asks, so that copying costs no more than it must.
    pub(super) fn tally(&self) {
        let (Some(target), Some(upstream)) = (self.target.get(), self.upstream.get()) else {
            return;
        };
        let Target { tally, connected, .. } = target;
        tally.bytes_up.add(self.client.bytes_to_tally());
        tally.bytes_down.add(upstream.bytes_to_tally());
        if let Some(first) = upstream.first.get()
            && !self.has_tallied_first.swap(true, Ordering::Relaxed)
        {
            // What the client has sent when the upstream spoke is what it answers.
            let asked = self.client.first.get().filter(|asked| *asked <= first);
            tally.first_bytes.observe(*first - *asked.unwrap_or(connected));
        }
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
    pub(super) fn copy(&self, from: &Side, to: &Side, pipes: &Pipes) {
        match self.copy_bytes(from, to, pipes).and_then(|()| self.check(from)) {
            Ok(()) => {
                from.is_read_out.store(true, Ordering::Release);
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

    /// An error if the connection was cut, or `from` reset. To be called when `from` has
    /// been read to its end, which may not be an orderly one, and when `to` has taken
    /// nothing for a while: a slow reader is waited for, but not for those.
    fn check(&self, from: &Side) -> io::Result<()> {
        if self.is_broken() || from.was_reset() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    /// An error once the connection was cut.
    fn check_cut(&self) -> io::Result<()> {
        if self.is_cut.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Copies until `from` gives no more bytes, each stretch in the way that suits it.
    fn copy_bytes(&self, from: &Side, to: &Side, pipes: &Pipes) -> io::Result<()> {
        if self.copy_small::<FIRST_BYTES>(from, to, 1)? == Stopped::Ended {
            return Ok(());
        }
        let mut can_splice = true;
        loop {
            if self.copy_small::<SMALL_BYTES>(from, to, BUSY_AFTER)? == Stopped::Ended {
                return Ok(());
            }
            let lent = if can_splice { pipes.lend() } else { None };
            let stopped = match lent {
                Some(lent) => {
                    let stopped = self.splice_all(from, to, lent.pipe())?;
                    lent.give_back();
                    stopped
                }
                None => self.copy_large(from, to)?,
            };
            match stopped {
                Stopped::Ended => return Ok(()),
                Stopped::Changed => {}
                Stopped::Refused => can_splice = false,
            }
        }
    }

    /// By read and write, until so many reads in a row were full. A frame of its own,
    /// so that a thread that waits here has touched no larger one.
    #[inline(never)]
    fn copy_small<const BYTES: usize>(
        &self,
        from: &Side,
        to: &Side,
        most_full_reads: u32,
    ) -> io::Result<Stopped> {
        let mut buffer = [0; BYTES];
        let mut full_reads = 0;
        loop {
            let count = read(from, &mut buffer)?;
            if count == 0 {
                return Ok(Stopped::Ended);
            }
            self.write_all(from, to, &buffer[..count])?;
            full_reads = if count == BYTES { full_reads + 1 } else { 0 };
            if full_reads == most_full_reads {
                return Ok(Stopped::Changed);
            }
        }
    }

    /// By read and write through a large buffer, where no pipe is to be had.
    #[inline(never)]
    fn copy_large(&self, from: &Side, to: &Side) -> io::Result<Stopped> {
        let mut buffer = vec![0; LARGE_BYTES];
        loop {
            let count = read(from, &mut buffer)?;
            if count == 0 {
                return Ok(Stopped::Ended);
            }
            self.write_all(from, to, &buffer[..count])?;
            if is_quiet(from, count) {
                return Ok(Stopped::Changed);
            }
        }
    }

    /// By splice(2), which leaves `pipe` empty unless it fails.
    ///
    /// Never with SPLICE_F_MORE, which may hold back the tail of a message.
    #[inline(never)]
    fn splice_all(&self, from: &Side, to: &Side, pipe: &Pipe) -> io::Result<Stopped> {
        let mut count = pipe.bytes;
        loop {
            // Woken by the first bytes of more to come: a sender that waits for this CPU
            // is let in first, so that the next splice moves more. After a full one that
            // gains a tenth on some CPUs, and costs a third on others (benches/README.md).
            if count < pipe.bytes / 4 {
                rustix::thread::sched_yield();
            }
            count = match splice(&from.stream, &pipe.write, pipe.bytes) {
                // Its end, or urgent data (tcp_splice_read() in the kernel's net/ipv4/tcp.c);
                // a read tells, and gets past it.
                Ok(0) => return Ok(Stopped::Changed),
                Ok(count) => count,
                // A kernel or a sandbox that does not splice sockets.
                Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => return Ok(Stopped::Refused),
                Err(error) => return Err(error.into()),
            };
            from.count(count);
            let mut left = count;
            while left > 0 {
                self.check_cut()?;
                match splice(&pipe.read, &to.stream, left) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => left -= written,
                    Err(Errno::AGAIN) => self.check(from)?,
                    Err(error) => return Err(error.into()),
                }
            }
            if is_quiet(from, count) {
                return Ok(Stopped::Changed);
            }
        }
    }

    fn write_all(&self, from: &Side, to: &Side, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.check_cut()?;
            match (&to.stream).write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.check(from)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn splice(from: &impl AsFd, to: &impl AsFd, bytes: usize) -> Result<usize, Errno> {
    loop {
        match rustix::pipe::splice(from, None, to, None, bytes, SpliceFlags::MOVE) {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

fn read(from: &Side, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match (&from.stream).read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(count) => {
                from.count(count);
                return Ok(count);
            }
        }
    }
}

/// Whether a busy stream, of which `count` bytes were just moved, has paused.
fn is_quiet(from: &Side, count: usize) -> bool {
    count < QUIET_BYTES && !sockets::is_readable_within(&from.stream, QUIET)
}

#[cfg(test)]
mod tests;
