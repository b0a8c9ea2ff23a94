//! Whatever way a connection ends, what it took comes back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::*;
use crate::support::upstream::{reset, silent_address};
use crate::support::usage::Usage;
use crate::support::within;

/// A client's life.
type Way = fn(SocketAddr);

/// In each of them somebody else is the first to go, or goes differently.
const SERVED: [Way; 15] = [
    |at| drop(connect(at).unwrap()),
    |at| reset(connect(at).unwrap()),
    |at| drop(ask(at, LISTEN)),
    |at| reset(ask(at, LISTEN)),
    |at| assert_eq!(ending(&ask(at, LEAVE)), Ending::Fin),
    |at| assert_eq!(ending(&ask(at, RESET)), Ending::Reset),
    is_answered_after_its_half_close,
    answers_after_the_half_close_of_the_upstream,
    leaves_when_the_upstream_does,
    |at| reset(after_some(ask(at, FLOOD))),
    |at| drop(after_some(ask(at, FLOOD))),
    |at| reset(ask(at, FLOOD)),
    |at| assert_eq!(ending(&ask(at, CUT_OFF)), Ending::Reset),
    is_reset_while_it_sends,
    resets_while_it_sends,
];

/// While nothing can be reached. Those that finish in order may still be owed an
/// answer, and are held to the end.
const HELD: [Way; 2] = [|at| held(at).map_or((), reset), |at| drop(held(at))];

/// Clients at the same time.
const AT_ONCE: usize = 32;

#[test]
fn ten_thousand_ended_connections_leave_nothing_behind() {
    let (silent, _kept_full) = silent_address();
    let upstream = Upstream::serve(serve);
    let options = ["--wait", "2s", "--connect-timeout", "300ms", "--eject", "1h"];
    let launch = forward(options, &upstream).arg(silent.to_string());
    let (ambassador, listener) = started(launch.env("RUST_LOG", "info"));
    let usage = Usage::of(ambassador.id());
    let (threads, pipes) = (usage.threads(), usage.pipes());
    let others = || usage.descriptors().saturating_sub(usage.pipes());
    let but_pipes = others();
    let is_settled = || usage.threads() <= threads + STAYING && others() == but_pipes;

    // What is made once and kept: heaps, and the stacks of as many threads as there
    // ever were.
    let many: Vec<Vec<TcpStream>> = (0..7).map(|_| echoing(listener, 50)).collect();
    drop(many);
    use_up(listener, &SERVED, 150);
    within(SETTLING, "descriptors and threads are back after a few", is_settled);
    let (mappings, resident) = (usage.mappings(), usage.resident_bytes());

    use_up(listener, &SERVED, 9_500);
    // One address refuses, the other does not answer.
    drop(upstream);
    use_up(listener, &HELD, 500);
    within(SETTLING, "descriptors and threads are back", is_settled);
    // A heap may grow by a piece or two, and be split by what is still in use.
    let more = usage.mappings().saturating_sub(mappings);
    assert!(more <= 50, "{more} mappings more than {mappings}");
    let more = usage.resident_bytes().saturating_sub(resident);
    assert!(more < 10_000 * 1024, "{more} bytes more than {resident}, a KiB for each of them");
    assert!(usage.pipes() <= pipes + KEPT_PIPES, "{} pipes, not {pipes}", usage.pipes());
}

/// Threads stay parked for 5 s, and a machine may be loaded.
const SETTLING: Duration = Duration::from_secs(30);

/// A few threads stay for the next connection.
const STAYING: usize = 8;

/// Descriptors of the pipes that are kept for the next busy stream.
const KEPT_PIPES: usize = 2 * 16;

fn use_up(listener: SocketAddr, ways: &[Way], count: usize) {
    let next = AtomicUsize::new(0);
    let work = || loop {
        match next.fetch_add(1, Ordering::Relaxed) {
            number if number < count => ways[number % ways.len()](listener),
            _ => return,
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
}

fn ask(at: SocketAddr, question: &[u8]) -> TcpStream {
    let mut client = connect(at).unwrap();
    client.write_all(question).unwrap();
    client
}

/// On a loaded machine it may have waited too long before it knows.
fn held(at: SocketAddr) -> Option<TcpStream> {
    let mut client = connect(at).ok()?;
    client.write_all(ECHO).ok()?;
    Some(client)
}

fn after_some(mut client: TcpStream) -> TcpStream {
    client.read_exact(&mut [0; 50_000]).unwrap();
    client
}

fn is_answered_after_its_half_close(at: SocketAddr) {
    let mut client = ask(at, ANSWER);
    client.write_all(&[0; 100]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "100 bytes");
}

fn answers_after_the_half_close_of_the_upstream(at: SocketAddr) {
    let mut client = ask(at, GREET);
    assert_eq!(ending(&client), Ending::Fin);
    client.write_all(&[0; 100]).unwrap();
}

fn leaves_when_the_upstream_does(at: SocketAddr) {
    let client = ask(at, LEAVE);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ending(&client), Ending::Fin);
}

fn resets_while_it_sends(at: SocketAddr) {
    let mut client = ask(at, LISTEN);
    client.write_all(&[0; 100_000]).unwrap();
    reset(client);
}

fn is_reset_while_it_sends(at: SocketAddr) {
    // All of it or a part: the reset may come in between.
    drop(ask(at, TAKE_SOME).write_all(&[0; 200_000]));
}

const ECHO: &[u8] = b"x";
const LISTEN: &[u8] = b"l";
const LEAVE: &[u8] = b"e";
const RESET: &[u8] = b"r";
const ANSWER: &[u8] = b"a";
const GREET: &[u8] = b"g";
const FLOOD: &[u8] = b"f";
const CUT_OFF: &[u8] = b"c";
const TAKE_SOME: &[u8] = b"t";

/// Does what the first byte asks for.
fn serve(mut client: TcpStream) -> io::Result<()> {
    let mut question = [0];
    client.read_exact(&mut question)?;
    // Not to spend the time of the test in the kernel.
    SockRef::from(&client).set_send_buffer_size(64 * 1024)?;
    match question.as_slice() {
        LISTEN => drop(client.read_to_end(&mut Vec::new())?),
        LEAVE => client.write_all(b"enough")?,
        RESET => reset(client),
        ANSWER => {
            let count = client.read_to_end(&mut Vec::new())?;
            write!(client, "{count} bytes")?;
        }
        GREET => {
            client.write_all(b"hello")?;
            client.shutdown(Shutdown::Write)?;
            client.read_to_end(&mut Vec::new())?;
        }
        FLOOD => while client.write(&[0; 20_000]).is_ok() {},
        CUT_OFF => {
            client.write_all(&[0; 100_000])?;
            reset(client);
        }
        TAKE_SOME => {
            client.read_exact(&mut [0; 50_000])?;
            reset(client);
        }
        ECHO => {
            client.write_all(ECHO)?;
            client.read_to_end(&mut Vec::new())?;
        }
        other => panic!("nobody asks for {other:?}"),
    }
    Ok(())
}
