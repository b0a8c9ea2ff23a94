//! Real sockets at both ends, driven by chance, and held against what must arrive.

use std::{
    net::{Ipv4Addr, TcpListener},
    thread,
};

use proptest::prelude::*;
use socket2::SockRef;

use super::*;
use crate::traffic::Balance;

/// Much less makes a loopback connection crawl from one delayed ACK to the next.
const SMALL_BUFFER: usize = 32 * 1024;

/// Longer than a write may be stuck in this test.
const NAP: Duration = Duration::from_millis(5);

/// Whatever an end waits for comes within this time, or never.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one end of a connection does, writing and reading at the same time.
#[derive(Debug, Clone)]
struct Plan {
    /// The sizes of its writes.
    writes: Vec<usize>,
    ending: Ending,
    /// The size of its reads.
    read: usize,
    /// Small buffers and a late first read make the writes to it short.
    is_slow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// A FIN after the last write, and reading until the other end.
    InOrder,
    /// The same, but a reset once so many bytes were read.
    ResetAfterReading(usize),
    /// A reset after the last write.
    ResetAfterWriting,
}

fn plan() -> impl Strategy<Value = Plan> {
    // Small messages, full reads in a row, and what is spliced.
    let size = prop_oneof![5 => 1..2000_usize, 2 => 2000..20_000_usize, 2 => 20_000..300_000_usize];
    let ending = prop_oneof![
        6 => Just(Ending::InOrder),
        2 => (0..200_000_usize).prop_map(Ending::ResetAfterReading),
        2 => Just(Ending::ResetAfterWriting),
    ];
    let read = prop_oneof![1..2000_usize, 2000..70_000_usize];
    (prop::collection::vec(size, 0..12), ending, read, any::<bool>())
        .prop_map(|(writes, ending, read, is_slow)| Plan { writes, ending, read, is_slow })
}

/// How an end saw the other one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Fin,
    Reset,
    /// It went first.
    Nothing,
}

/// The byte at `offset` of a stream. The period is prime, so a lost block shows.
fn byte(offset: usize, seed: usize) -> u8 {
    ((offset % 251) ^ seed) as u8
}

/// What came of a plan.
struct Outcome {
    /// How many bytes were read, all of them right.
    count: usize,
    seen: Seen,
    sent_fin: bool,
}

/// Does what `plan` says, at `side`.
fn act(side: &Side, plan: &Plan, seed: usize) -> Outcome {
    let is_over = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        let writer = scope.spawn(|| write_all(side, plan, seed, &is_over));
        let (count, seen) = read_all(side, plan, seed ^ 1, &is_over);
        Outcome { count, seen, sent_fin: writer.join().unwrap() }
    });
    if is_over.into_inner() {
        sockets::reset_on_close(&side.stream);
    }
    outcome
}

/// Returns whether it ended with a FIN.
fn write_all(side: &Side, plan: &Plan, seed: usize, is_over: &AtomicBool) -> bool {
    let mut stream = &side.stream;
    let mut offset = 0;
    for size in &plan.writes {
        let bytes: Vec<u8> = (offset..offset + size).map(|at| byte(at, seed)).collect();
        offset += size;
        let mut left = &bytes[..];
        while !left.is_empty() {
            match stream.write(left) {
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if is_over.load(Ordering::SeqCst) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    }
    if plan.ending == Ending::ResetAfterWriting {
        is_over.store(true, Ordering::SeqCst);
        // Wakes the reader and sends nothing.
        let _ = stream.shutdown(Shutdown::Read);
        return false;
    }
    side.is_write_shut.store(true, Ordering::SeqCst);
    stream.shutdown(Shutdown::Write).is_ok()
}

fn read_all(side: &Side, plan: &Plan, seed: usize, is_over: &AtomicBool) -> (usize, Seen) {
    let mut stream = &side.stream;
    if plan.is_slow {
        thread::park_timeout(NAP);
    }
    let mut buffer = vec![0; plan.read];
    let mut count = 0;
    loop {
        if matches!(plan.ending, Ending::ResetAfterReading(limit) if count >= limit) {
            is_over.store(true, Ordering::SeqCst);
            return (count, Seen::Nothing);
        }
        match stream.read(&mut buffer) {
            Ok(0) if is_over.load(Ordering::SeqCst) => return (count, Seen::Nothing),
            // The kernel may have told the writing thread of a reset.
            Ok(0) if side.was_reset() => return (count, Seen::Reset),
            Ok(0) => return (count, Seen::Fin),
            Ok(more) => {
                let is_right = |(at, found): (usize, &u8)| *found == byte(count + at, seed);
                assert!(buffer[..more].iter().enumerate().all(is_right), "after {count}");
                count += more;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!("nothing came for {PATIENCE:?} after {count} bytes")
            }
            Err(_) => return (count, Seen::Reset),
        }
    }
}

/// Two connected sockets.
fn pair(is_slow: bool) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let near = sockets::dial(listener.local_addr().unwrap(), PATIENCE).unwrap();
    let far = listener.accept().unwrap().0;
    if is_slow {
        SockRef::from(&far).set_recv_buffer_size(SMALL_BUFFER).unwrap();
        SockRef::from(&near).set_send_buffer_size(SMALL_BUFFER).unwrap();
    }
    // In place of seconds, so that writes are cut short all the time.
    near.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    // It looks so often whether it is still wanted.
    far.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    (near, far)
}

/// What came of it at the client and at the upstream.
fn run(client: &Plan, upstream: &Plan, pipes: usize) -> [Outcome; 2] {
    let pool = Arc::new(Pool::new("test".to_owned(), Balance::RoundRobin));
    let pipes = Pipes::new(pipes);
    let (near, client_end) = pair(client.is_slow);
    let link = Link::new(near, client_end.local_addr().unwrap(), pool);
    let (near, upstream_end) = pair(upstream.is_slow);
    link.upstream.set(Side::new(near)).unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(move || act(&Side::new(client_end), client, 0));
        let upstream = scope.spawn(move || act(&Side::new(upstream_end), upstream, 1));
        thread::scope(|scope| {
            let (one, other) = (&link.client, link.upstream.get().unwrap());
            scope.spawn(|| link.copy(one, other, &pipes));
            scope.spawn(|| link.copy(other, one, &pipes));
        });
        drop(link);
        [client.join().unwrap(), upstream.join().unwrap()]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_arrives_is_what_was_sent_and_a_fin_means_that_it_is_all_of_it(
        client in plan(),
        upstream in plan(),
        pipes in 0..3_usize,
    ) {
        let plans = [&client, &upstream];
        let outcomes = run(&client, &upstream, pipes);
        for (reader, writer) in [(0, 1), (1, 0)] {
            let sent: usize = plans[writer].writes.iter().sum();
            let Outcome { count, seen, .. } = outcomes[reader];
            prop_assert!(count <= sent);
            match seen {
                // The bytes were compared as they came, so their number says all.
                Seen::Fin => prop_assert!(outcomes[writer].sent_fin && count == sent, "{count} of {sent}"),
                Seen::Reset => prop_assert!(plans.iter().any(|plan| plan.ending != Ending::InOrder)),
                Seen::Nothing => prop_assert!(plans[reader].ending != Ending::InOrder),
            }
        }
    }
}
