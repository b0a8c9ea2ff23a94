//! A lot at once.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::*;
use crate::support::usage::Usage;
use crate::support::{eventually, proceed_after};

/// At least 64 MiB.
const BLOCKS: usize = (64_usize << 20).div_ceil(Sequence::BLOCK);

/// Small pieces are read and written, large ones spliced; what comes back keeps the
/// other direction as busy.
#[test]
fn what_is_sent_in_any_pieces_comes_back_in_order() {
    let upstream = Upstream::echo();
    let (_ambassador, address) = started(forward([], &upstream));
    let sequence = Sequence::new();
    thread::scope(|scope| {
        for size in [1 << 10, 7 << 10, 64 << 10] {
            let sequence = &sequence;
            scope.spawn(move || {
                sequence.pass_both_ways(&connect(address).unwrap(), BLOCKS, size);
            });
        }
    });
}

/// A write is told again and again that nobody reads; a splice only when the kernel has
/// found no more room a few times.
#[test]
fn readers_that_pause_for_long_miss_nothing() {
    // More than the buffers on the way hold.
    const BLOCKS: usize = 40;
    let sequence = Arc::new(Sequence::new());
    let upstream = Upstream::serve({
        let sequence = sequence.clone();
        move |mut client| {
            client.set_write_timeout(Some(PATIENCE))?;
            client.write_all(b"x")?;
            client.read_exact(&mut [0])?;
            sequence.send(&client, BLOCKS, Sequence::BLOCK)
        }
    });
    let (ambassador, address) = started(forward([], &upstream));
    let usage = Usage::of(ambassador.id());
    let pipes = usage.pipes();
    let mut readers = [(); 2].map(|()| connect(address).unwrap());
    readers.iter_mut().for_each(heard);
    readers[0].write_all(b"x").unwrap();
    eventually("it is spliced", || usage.pipes() > pipes);
    ambassador.limit_descriptors(usage.next_descriptor());
    readers[1].write_all(b"x").unwrap();
    proceed_after(Duration::from_secs(4));
    for reader in &readers {
        sequence.expect(reader, BLOCKS);
        assert_eq!(ending(reader), Ending::Fin);
    }
}

/// They end nothing (splice(2) reads no byte before one, as if the stream had ended), and
/// none is left out (as read(2) does unless it is told otherwise).
#[test]
fn urgent_bytes_arrive_in_their_place() {
    let piece = Arc::new(random_bytes(2 << 20));
    let whole = [&piece[..], b"!"].concat().repeat(4);
    let (heard_by_upstream, heard) = mpsc::channel();
    let upstream = Upstream::serve({
        let piece = Arc::clone(&piece);
        move |client| {
            heard_by_upstream.send(send_urgently_and_hear(&client, &piece)).unwrap();
            Ok(())
        }
    });
    let (_ambassador, address) = started(forward([], &upstream));
    assert_same(&send_urgently_and_hear(&connect(address).unwrap(), &piece), &whole);
    assert_same(&heard.recv_timeout(DEADLINE).unwrap(), &whole);
}

/// Sends `piece` four times, and an urgent byte after each. Returns what it read meanwhile.
fn send_urgently_and_hear(mut stream: &TcpStream, piece: &[u8]) -> Vec<u8> {
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..4 {
                stream.write_all(piece).unwrap();
                assert_eq!(SockRef::from(stream).send_out_of_band(b"!").unwrap(), 1);
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        heard
    })
}
