//! A lot at once.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

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
    limit_descriptors(&ambassador, usage.next_descriptor());
    readers[1].write_all(b"x").unwrap();
    proceed_after(Duration::from_secs(4));
    for reader in &readers {
        sequence.expect(reader, BLOCKS);
        assert_eq!(ending(reader), Ending::Fin);
    }
}
