//! The data plane where something runs out: descriptors, threads, memory, room
//! for one more connection; and what it gives back.

mod bulk;
mod crowds;
mod descriptors;
mod leaks;
mod memory;
mod threads;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::ambassador::{Ambassador, Launch, ambassador};
use crate::support::bytes::{assert_same, random_bytes};
use crate::support::client::{Ending, connect, ending};
use crate::support::upstream::Upstream;
use crate::support::{DEADLINE, eventually_some, proceed_after};

/// How long an upstream may be stuck, which is long in some of these tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// `forward OPTIONS... --listen 127.0.0.1:0 UPSTREAM`.
fn forward<const N: usize>(options: [&str; N], upstream: &Upstream) -> Launch {
    let words = ["--listen", "127.0.0.1:0", &upstream.address().to_string()];
    ambassador(["forward"].into_iter().chain(options).chain(words))
}

/// It and the address of its listener.
fn started(launch: Launch) -> (Ambassador, SocketAddr) {
    let ambassador = launch.start();
    let address = ambassador.address();
    (ambassador, address)
}

/// `count` connections that have reached their upstream.
fn echoing(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut clients: Vec<TcpStream> = (0..count).map(|_| asking(address)).collect();
    clients.iter_mut().for_each(heard);
    clients
}

/// As many connections as the cap of `count` allows but one: one more waited, and came in
/// when another ended.
#[track_caller]
fn filled(address: SocketAddr, upstream: &Upstream, count: usize) -> (Vec<TcpStream>, TcpStream) {
    let mut open = echoing(address, count);
    let mut waiting = asking(address);
    proceed_after(Duration::from_millis(300));
    assert_eq!(upstream.accepted(), count, "one more waits");
    drop(open.pop());
    heard(&mut waiting);
    (open, waiting)
}

/// A client that waits for its first byte to come back.
fn asking(address: SocketAddr) -> TcpStream {
    let mut client = connect(address).unwrap();
    client.write_all(b"x").unwrap();
    client
}

/// The byte that was sent last comes back.
#[track_caller]
fn heard(client: &mut TcpStream) {
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"x");
}

#[track_caller]
fn echo(client: &mut TcpStream) {
    client.write_all(b"x").unwrap();
    heard(client);
}

/// How many connections it says at its start that a limit called `what` leaves it.
#[track_caller]
fn allowed(ambassador: &Ambassador, what: &str) -> usize {
    let number = |line: &String| {
        let (_, rest) = line.split_once("at most ")?;
        rest.split(' ').next()?.parse().ok()
    };
    eventually_some(DEADLINE, "a warning that the limit is low", || {
        let warnings = ambassador.warnings(&["connections", what]);
        assert!(warnings.len() < 2, "{warnings:?}");
        warnings.first().and_then(number)
    })
}

/// Bytes without end out of a few random megabytes: each block is a piece of these,
/// from a place that depends on its number. One that is lost, repeated or swapped is
/// noticed.
struct Sequence(Vec<u8>);

impl Sequence {
    /// A multiple of each size that a test writes in.
    const BLOCK: usize = 7 * 64 * 1024;

    fn new() -> Sequence {
        Sequence(random_bytes(4 * Sequence::BLOCK))
    }

    fn block(&self, number: usize) -> &[u8] {
        // The multiplier has no factor in common with the modulus, so that blocks
        // near each other differ.
        let start = number * 48_271 % (self.0.len() - Sequence::BLOCK + 1);
        &self.0[start..][..Sequence::BLOCK]
    }

    /// Writes `blocks` in pieces of `size`.
    fn send(&self, mut to: &TcpStream, blocks: usize, size: usize) -> io::Result<()> {
        let pieces = (0..blocks).flat_map(|number| self.block(number).chunks(size));
        pieces.into_iter().try_for_each(|piece| to.write_all(piece))
    }

    #[track_caller]
    fn expect(&self, mut from: &TcpStream, blocks: usize) {
        let mut received = vec![0; Sequence::BLOCK];
        for number in 0..blocks {
            from.read_exact(&mut received).unwrap();
            assert_same(&received, self.block(number));
        }
    }

    /// Sends `blocks` in pieces of `size` while the same come back, then their end.
    #[track_caller]
    fn pass_both_ways(&self, client: &TcpStream, blocks: usize, size: usize) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                self.send(client, blocks, size).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            self.expect(client, blocks);
            assert_eq!(ending(client), Ending::Fin);
        });
    }
}
