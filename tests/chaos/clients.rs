//! Clients of the proxies, and what they saw.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::support::bytes::random_bytes;

/// How long a client waits for the next byte: longer than a proxy holds it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest payload that is sent and must come back.
const MOST_BYTES: usize = 256 * 1024;

/// One connection, as its client saw it.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) service: &'static str,
    pub(super) began: Instant,
    /// Who answered, and when.
    pub(super) server: Option<(Instant, String)>,
    pub(super) ended: Instant,
    /// Bytes that came back as they were sent.
    pub(super) bytes: usize,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything came back, and the end was in order.
    Whole,
    /// An end in order before everything was there.
    Truncated,
    /// Reset, or another error.
    Failed(io::ErrorKind),
    /// Bytes came back that were not sent.
    Wrong(String),
}

/// Where a service is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    pub(super) service: &'static str,
    pub(super) address: SocketAddr,
}

/// Clients that come again and again until told to stop.
pub(super) struct Clients {
    stopped: Arc<AtomicBool>,
    visits: Arc<Mutex<Vec<Visit>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// For each door one client that comes and goes, and one that stays for seconds.
    pub(super) fn start(doors: &[Door], rng: &mut Rng) -> Clients {
        let (stopped, visits) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut clients = Clients { stopped, visits, threads: Vec::new() };
        for door in doors {
            for stays in [false, true] {
                clients.add(*door, stays, rng.fork());
            }
        }
        clients
    }

    fn add(&mut self, door: Door, stays: bool, mut rng: Rng) {
        let (stopped, visits) = (self.stopped.clone(), self.visits.clone());
        let payload = random_bytes(MOST_BYTES);
        self.threads.push(thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let plan = Plan {
                    rounds: if stays { rng.usize(10..100) } else { rng.usize(1..3) },
                    pause: Duration::from_millis(if stays { rng.u64(10..80) } else { 0 }),
                };
                let visit = visit(door, &plan, &payload, &mut rng, &stopped);
                visits.lock().unwrap().push(visit);
                thread::sleep(Duration::from_millis(rng.u64(5..60)));
            }
        }));
    }

    /// Waits until each has ended its visit, and returns all of them.
    pub(super) fn stop(self) -> Vec<Visit> {
        self.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.visits.lock().unwrap())
    }
}

/// What one client does.
struct Plan {
    rounds: usize,
    pause: Duration,
}

fn visit(door: Door, plan: &Plan, payload: &[u8], rng: &mut Rng, stopped: &AtomicBool) -> Visit {
    let began = Instant::now();
    let mut visit = Visit {
        service: door.service,
        began,
        server: None,
        ended: began,
        bytes: 0,
        outcome: Outcome::Whole,
    };
    let outcome = talk(door.address, plan, payload, rng, stopped, &mut visit);
    visit.ended = Instant::now();
    match outcome {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            visit.outcome = Outcome::Truncated;
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            visit.outcome = Outcome::Wrong(error.to_string());
        }
        Err(error) => visit.outcome = Outcome::Failed(error.kind()),
    }
    visit
}

/// Asks who is there, then sends payloads that must come back, then ends in order.
fn talk(
    address: SocketAddr,
    plan: &Plan,
    payload: &[u8],
    rng: &mut Rng,
    stopped: &AtomicBool,
    visit: &mut Visit,
) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    // A redis that was given this name for its dump says it.
    stream.write_all(b"CONFIG GET dbfilename\r\n")?;
    expect(&mut reader, b"*2\r\n$10\r\ndbfilename\r\n")?;
    let server = String::from_utf8(bulk(&mut reader)?).map_err(|_| wrong("a name"))?;
    visit.server = Some((Instant::now(), server));
    for _ in 0..plan.rounds {
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        // Mostly small, sometimes large enough to be moved by splice(2).
        let most = if rng.u8(..) < 16 { MOST_BYTES } else { 2048 };
        let sent = &payload[..rng.usize(1..=most)];
        write!(stream, "*2\r\n$4\r\nECHO\r\n${}\r\n", sent.len())?;
        stream.write_all(sent)?;
        stream.write_all(b"\r\n")?;
        if bulk(&mut reader)? != sent {
            return Err(wrong("another payload than was sent"));
        }
        visit.bytes += sent.len();
        thread::sleep(plan.pause);
    }
    stream.shutdown(Shutdown::Write)?;
    match reader.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(wrong("something after the last answer")),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads exactly `expected`.
fn expect(reader: &mut impl Read, expected: &[u8]) -> io::Result<()> {
    let mut read = vec![0; expected.len()];
    reader.read_exact(&mut read)?;
    if read == expected { Ok(()) } else { Err(wrong(&String::from_utf8_lossy(&read))) }
}

/// A bulk string of redis.
fn bulk(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 || !line.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let length = line.trim_end().strip_prefix('$').and_then(|length| length.parse().ok());
    let mut bytes = vec![0; length.filter(|&n| n <= MOST_BYTES).ok_or_else(|| wrong(&line))?];
    reader.read_exact(&mut bytes)?;
    expect(reader, b"\r\n")?;
    Ok(bytes)
}
