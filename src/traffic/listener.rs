//! One listening socket, and who accepts on it.
//!
//! There is always the acceptor. A thread that has just carried a connection takes
//! the next client itself, which saves the hand-over; while any of these helpers
//! waits in accept(2), the acceptor stands back.
//!
//! A socket that another process has too is the acceptor's alone, which waits in poll(2):
//! whoever waits in accept(2) can only be woken by shutdown(2), which would end the
//! listening of everybody, and refuse the clients that are to wait for the next process.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::Bound;
use crate::stop::Stop;

/// So many helpers may wait at the same time: one connection after the other, the
/// next begins before the threads of the last are done with it.
const MOST_HELPERS: usize = 4;

#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    /// Only for a socket that another process has too: readable once it is closed here.
    closed: Option<OwnedFd>,
    /// How many clients were accepted.
    accepted: AtomicU64,
    /// How many helpers are in accept(2).
    helpers: AtomicUsize,
    /// Descriptors have run out.
    is_short: AtomicBool,
    /// Told when the last helper leaves accept(2).
    last_left: Sender<()>,
    unattended: Receiver<()>,
}

impl Listener {
    pub(super) fn new(bound: Bound) -> Self {
        let Bound { listener: socket, closed, .. } = bound;
        let (last_left, unattended) = crossbeam_channel::bounded(1);
        let (helpers, is_short) = (AtomicUsize::new(0), AtomicBool::new(false));
        let accepted = AtomicU64::new(0);
        Listener { socket, closed, accepted, helpers, is_short, last_left, unattended }
    }

    /// Whether another process has this socket too.
    pub(super) fn is_shared(&self) -> bool {
        self.closed.is_some()
    }

    /// For the acceptor: the next client that no helper takes.
    pub(super) fn accept(&self, stop: &Stop) -> io::Result<(TcpStream, SocketAddr)> {
        while self.helpers.load(Ordering::SeqCst) > 0 {
            crossbeam_channel::select! {
                recv(self.unattended) -> _ => {}
                recv(stop.asked()) -> _ => break,
            }
        }
        let is_short = self.is_short();
        if is_short || self.is_shared() {
            self.wait_in_poll()?;
        }
        // Only if a descriptor is left for the upstream as well: else clients that were
        // accepted would take them all, and none could be served.
        let _spare = is_short.then(|| self.socket.try_clone()).transpose()?;
        self.accept_at_once()
    }

    fn accept_at_once(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = self.socket.accept()?;
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(accepted)
    }

    /// For a watchdog: if a client waits that could be accepted, how many were before it.
    /// The same number a while later means that nobody does.
    pub(super) fn waits_after(&self) -> Option<u64> {
        let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_waiting = matches!(rustix::event::poll(&mut sockets, Some(&at_once)), Ok(1..));
        (is_waiting && !self.is_short()).then(|| self.accepted.load(Ordering::Relaxed))
    }

    /// Waits until there is a client.
    ///
    /// # Errors
    /// `Interrupted`, if a shared socket is closed here: its clients are left alone.
    fn wait_in_poll(&self) -> io::Result<()> {
        let socket = self.socket.as_fd();
        let closed = self.closed.as_ref().map_or(socket, AsFd::as_fd);
        let mut descriptors =
            [socket, closed].map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN));
        rustix::event::poll(&mut descriptors, None)?;
        if self.is_shared() && !descriptors[1].revents().is_empty() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    /// Says whether descriptors have run out; then nobody helps.
    pub(super) fn set_short(&self, is_short: bool) {
        self.is_short.store(is_short, Ordering::SeqCst);
    }

    fn is_short(&self) -> bool {
        self.is_short.load(Ordering::SeqCst)
    }

    /// For a helper: the next client. `None` if there are helpers enough, or if the
    /// acceptor sees to all of them.
    pub(super) fn help(&self) -> Option<(TcpStream, SocketAddr)> {
        if self.is_short() || self.is_shared() {
            return None;
        }
        let one_more = |helpers| (helpers < MOST_HELPERS).then_some(helpers + 1);
        self.helpers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        let accepted = self.accept_at_once();
        if self.helpers.fetch_sub(1, Ordering::SeqCst) == 1 {
            // If it is full, the acceptor is told already.
            let _ = self.last_left.try_send(());
        }
        accepted.ok()
    }

    /// Takes in no more. Clients that wait in the backlog are reset, and no new one
    /// connects; on a shared socket they wait for another process.
    pub(super) fn close(&self) {
        match &self.closed {
            // On Linux this wakes accept(2) with EINVAL and frees the port's backlog.
            None => drop(rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both)),
            // It never blocks: that would take 2^64 of them.
            Some(closed) => drop(rustix::io::write(closed, &1u64.to_ne_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;
    use crate::{connect, stop, traffic::sockets};

    fn listener() -> (Listener, SocketAddr) {
        let bound = sockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.address;
        (Listener::new(bound), address)
    }

    fn client(address: SocketAddr) -> TcpStream {
        connect::tcp(address, Duration::from_secs(5)).unwrap()
    }

    fn wait_for_helpers(listener: &Listener, count: usize) {
        while listener.helpers.load(Ordering::SeqCst) != count {
            thread::yield_now();
        }
    }

    #[test]
    fn the_acceptor_stands_back_while_there_is_a_helper() {
        let (listener, address) = listener();
        let (_guard, stop) = stop::pair();
        let (took, taken) = crossbeam_channel::unbounded();
        thread::scope(|scope| {
            scope.spawn(|| took.send(("helper", listener.help().unwrap().1)).unwrap());
            wait_for_helpers(&listener, 1);
            scope.spawn(|| took.send(("acceptor", listener.accept(&stop).unwrap().1)).unwrap());
            let first = client(address);
            assert_eq!(taken.recv(), Ok(("helper", first.local_addr().unwrap())));
            // It has left, so the next client is the acceptor's.
            let second = client(address);
            assert_eq!(taken.recv(), Ok(("acceptor", second.local_addr().unwrap())));
        });
    }

    #[test]
    fn no_more_help_than_allowed_and_all_end_when_it_is_closed() {
        let (listener, _) = listener();
        let (guard, stop) = stop::pair();
        thread::scope(|scope| {
            let helpers: Vec<_> =
                (0..MOST_HELPERS).map(|_| scope.spawn(|| listener.help())).collect();
            wait_for_helpers(&listener, MOST_HELPERS);
            assert!(listener.help().is_none());
            let acceptor = scope.spawn(|| listener.accept(&stop));
            drop(guard);
            listener.close();
            assert!(acceptor.join().unwrap().is_err());
            assert!(helpers.into_iter().all(|helper| helper.join().unwrap().is_none()));
        });
    }
}
