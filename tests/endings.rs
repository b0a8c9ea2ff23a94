//! How connections end: a FIN, a reset, silence, or no more reading, by the client or
//! the upstream, while it is dialled, idle, in mid-stream or half-closed. Each of the
//! 32 is one test, which looks at the bytes, the ending, the time and the threads.

mod dialling;
mod half_closed;
mod idle;
mod mid_stream;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::ambassador::{Ambassador, ambassador};
use crate::support::bytes::{assert_same, random_bytes};
use crate::support::client::{Ending, connect};
use crate::support::upstream::reset;
use crate::support::{eventually_some, proceed_after, within};

/// What happens at once takes milliseconds, on a busy machine more.
const AT_ONCE: Duration = Duration::from_millis(1900);

/// What the proxy notices by looking again, it has noticed by now: while it writes to
/// a side that does not read, it looks every 500 ms.
const SOON: Duration = Duration::from_secs(5);

/// Longer than the proxy waits before it looks whether a stuck connection is wanted:
/// up to three times 500 ms.
const LONG: Duration = Duration::from_secs(2);

const MIB: usize = 1 << 20;

/// More than all buffers between a client and an upstream that does not read can hold.
static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| random_bytes(64 * MIB));

/// The side whose doing is looked at.
#[derive(Debug, Clone, Copy)]
enum Acting {
    Client,
    Upstream,
}

impl Acting {
    /// The thread that copies what it sends.
    fn sending(self) -> &'static str {
        match self {
            Acting::Client => "up",
            Acting::Upstream => "down",
        }
    }

    /// The thread that copies what it receives.
    fn receiving(self) -> &'static str {
        match self {
            Acting::Client => "down",
            Acting::Upstream => "up",
        }
    }
}

/// `forward` in front of an upstream that the test plays.
struct Scene {
    ambassador: Ambassador,
    listener: TcpListener,
}

/// Both ends of a connection through the proxy.
struct Pair {
    /// The end of the side that acts.
    actor: TcpStream,
    /// The end of the side that is to notice.
    peer: TcpStream,
}

impl Scene {
    fn new(options: &[&str]) -> Scene {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ambassador = forward(options, &[listener.local_addr().unwrap()]);
        Scene { ambassador, listener }
    }

    /// A connection over which a word went each way.
    #[track_caller]
    fn pair(&self, acting: Acting) -> Pair {
        let client = bounded(connect(self.ambassador.address()).unwrap());
        let upstream = accept(&self.listener);
        pass(&client, &upstream, b"hello?");
        pass(&upstream, &client, b"hello!");
        self.wait_for_threads(&["down", "up"]);
        match acting {
            Acting::Client => Pair { actor: client, peer: upstream },
            Acting::Upstream => Pair { actor: upstream, peer: client },
        }
    }

    #[track_caller]
    fn wait_for_threads(&self, wanted: &[&str]) {
        wait_for_threads(&self.ambassador, wanted);
    }
}

/// `forward OPTIONS... --listen 127.0.0.1:0 UPSTREAMS...`.
fn forward(options: &[&str], upstreams: &[SocketAddr]) -> Ambassador {
    let targets: Vec<String> = upstreams.iter().map(SocketAddr::to_string).collect();
    let words = ["forward", "--listen", "127.0.0.1:0"].iter().chain(options).copied();
    ambassador(words.chain(targets.iter().map(String::as_str))).start()
}

/// Waits until the connections of `ambassador` have exactly the threads `wanted`,
/// sorted: `up` while one is dialled, `down` and `up` while it lives, none afterwards.
#[track_caller]
fn wait_for_threads(ambassador: &Ambassador, wanted: &[&str]) {
    let start = Instant::now();
    loop {
        let found = copy_threads(ambassador);
        if found == wanted {
            return;
        }
        assert!(start.elapsed() < SOON, "after {SOON:?} threads {found:?}, not {wanted:?}");
        proceed_after(Duration::from_millis(5));
    }
}

fn copy_threads(ambassador: &Ambassador) -> Vec<&'static str> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", ambassador.id())).unwrap();
    // A thread may end between the listing and the look at its name.
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let mut threads: Vec<_> = names
        .filter_map(|name| {
            ["down", "up"].into_iter().find(|kind| name.starts_with(&format!("{kind}-")))
        })
        .collect();
    threads.sort_unstable();
    threads
}

/// The next connection that the proxy makes.
#[track_caller]
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    bounded(eventually_some(SOON, "a connection to the upstream", || {
        Some(listener.accept().ok()?.0)
    }))
}

/// Whatever is waited for on `stream` takes less than [`SOON`], or is an error.
fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// Sends `bytes` and sees them arrive.
#[track_caller]
fn pass(mut from: &TcpStream, mut to: &TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    let (sent, arrived) = thread::scope(|scope| {
        let sending = scope.spawn(move || from.write_all(bytes));
        let arrived = to.read_exact(&mut received);
        (sending.join().unwrap(), arrived)
    });
    sent.unwrap();
    arrived.unwrap();
    assert_same(&received, bytes);
}

/// Sends `bytes` and right behind them a FIN, and sees both arrive.
#[track_caller]
fn pass_and_finish(mut from: &TcpStream, to: &TcpStream, bytes: &[u8]) {
    let (sent, (received, ending)) = thread::scope(|scope| {
        let sending = scope
            .spawn(move || from.write_all(bytes).and_then(|()| from.shutdown(Shutdown::Write)));
        let arrived = read_to_ending(to);
        (sending.join().unwrap(), arrived)
    });
    sent.unwrap();
    assert_eq!(ending, Ending::Fin);
    assert_same(&received, bytes);
}

/// Sends a FIN, and sees nothing else arrive, at once.
#[track_caller]
fn finish(from: &TcpStream, to: &TcpStream) {
    let start = Instant::now();
    pass_and_finish(from, to, b"");
    assert_at_once(start);
}

/// What still arrives, and how it ends.
fn read_to_ending(mut stream: &TcpStream) -> (Vec<u8>, Ending) {
    let mut received = Vec::new();
    let ending = match stream.read_to_end(&mut received).map_err(|error| error.kind()) {
        Ok(_) => Ending::Fin,
        Err(io::ErrorKind::ConnectionReset) => Ending::Reset,
        Err(other) => Ending::Other(other),
    };
    (received, ending)
}

/// Writes until no more is taken. Returns how much was, which must not be all.
#[track_caller]
fn write_until_stuck(mut stream: &TcpStream, bytes: &[u8]) -> usize {
    // Long: on a busy machine the proxy may not run for a while, and then goes on.
    stream.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let mut taken = 0;
    let problem = loop {
        match stream.write(&bytes[taken..]) {
            Ok(count) => taken += count,
            Err(error) => break error,
        }
        assert!(taken < bytes.len(), "{taken} bytes were taken for a side that does not read");
    };
    assert_eq!(problem.kind(), io::ErrorKind::WouldBlock, "after {taken} bytes");
    stream.set_write_timeout(Some(SOON)).unwrap();
    taken
}

/// Nothing has arrived at `stream`, neither bytes nor an end.
#[track_caller]
fn assert_quiet(stream: &TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let arrived = stream.peek(&mut [0]).map_err(|error| error.kind());
    stream.set_nonblocking(false).unwrap();
    assert_eq!(arrived, Err(io::ErrorKind::WouldBlock));
}

#[track_caller]
fn assert_at_once(start: Instant) {
    let took = start.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}");
}

/// Has `step` done again and again for [`LONG`].
fn for_long(mut step: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < LONG {
        step();
        proceed_after(Duration::from_millis(100));
    }
}
