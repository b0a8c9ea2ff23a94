//! Streams that send as fast as they can, and small requests beside them.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::{Reading, Scene};
use crate::{
    client::{self, PATIENCE},
    front::Front,
    peers::Peer,
    stats::quantile,
    upstream::{ECHO, SWALLOW, Upstream},
};

/// Long enough for slow start, and for a proxy to change over to splice.
const WARM_UP: Duration = Duration::from_millis(100);

/// What a sender gives to the kernel at once.
const CHUNK: usize = 256 << 10;

/// The place of the CPU time among the figures.
const CPU: usize = 0;

/// Of a small request and of its answer: what a cache is asked.
const REQUEST: usize = 64;

pub(super) fn alone(scene: &Scene, front: &Front, streams: usize) -> io::Result<Reading> {
    let senders = Senders::start(front.address, streams)?;
    thread::sleep(WARM_UP);
    let window = Window::open(scene.upstream, front);
    thread::sleep(scene.window);
    let Passed { gb_per_s, cpu_s_per_gb, charged_s_per_gb } = window.close();
    senders.stop(scene.upstream);
    Ok(vec![cpu_s_per_gb, Some(gb_per_s), charged_s_per_gb])
}

/// Makes of the CPU time of all what each proxy adds to that of the same work without one.
///
/// What the kernel charges a proxy with says little about bulk on loopback; why is in
/// `benches/README.md`.
pub(super) fn beyond_direct(readings: &mut BTreeMap<Peer, Reading>) {
    let direct = readings.get(&Peer::Direct).and_then(|reading| reading[CPU]);
    for (peer, reading) in readings {
        reading[CPU] = match peer {
            Peer::Direct => None,
            _ => reading[CPU].zip(direct).map(|(all, direct)| all - direct),
        };
    }
}

/// The streams and the requests share the proxy, and nothing else.
pub(super) fn beside(scene: &Scene, front: &Front) -> io::Result<Reading> {
    let mut connection = client::open(front.address, PATIENCE)?;
    connection.set_nodelay(true)?;
    let senders = Senders::start(front.address, 4)?;
    thread::sleep(WARM_UP);
    let window = Window::open(scene.upstream, front);
    // Some make a request wait for 30 ms: longer, for the same many samples.
    let times = ask_until(&mut connection, Instant::now() + scene.window * 2);
    let reading = window.close();
    senders.stop(scene.upstream);
    let mut times_us = times?;
    let (p50, p99) = (quantile(&mut times_us, 0.50), quantile(&mut times_us, 0.99));
    Ok(vec![p50, p99, Some(reading.gb_per_s)])
}

fn ask_until(connection: &mut TcpStream, end: Instant) -> io::Result<Vec<f64>> {
    let mut message = [ECHO; REQUEST];
    let mut times_us = Vec::new();
    loop {
        let asked = Instant::now();
        if asked >= end {
            return Ok(times_us);
        }
        connection.write_all(&message)?;
        connection.read_exact(&mut message)?;
        times_us.push(asked.elapsed().as_secs_f64() * 1e6);
    }
}

struct Senders {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Senders {
    fn start(address: SocketAddr, streams: usize) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut senders = Self { stop: Arc::clone(&stop), threads: Vec::new() };
        for _ in 0..streams {
            let mut connection = client::connect(address, PATIENCE)?;
            let stop = Arc::clone(&stop);
            let sender = thread::Builder::new().name("sender".into()).spawn(move || {
                let chunk = vec![SWALLOW; CHUNK];
                while !stop.load(Ordering::Relaxed) && connection.write_all(&chunk).is_ok() {}
                // A proxy that is gone shows as a window without bytes.
                let _ = connection.shutdown(Shutdown::Both);
            })?;
            senders.threads.push(sender);
        }
        Ok(senders)
    }

    fn stop(self, upstream: &Upstream) {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.threads {
            // A panic in it has been printed by itself.
            let _ = sender.join();
        }
        upstream.settle(PATIENCE);
    }
}

/// What passed, and what it cost the proxy, between two moments.
struct Window<'a> {
    upstream: &'a Upstream,
    front: &'a Front,
    opened: Instant,
    bytes: u64,
    charged_s: Option<f64>,
    /// Of this process: the senders and the upstream.
    ends_s: f64,
}

struct Passed {
    gb_per_s: f64,
    /// Of senders, proxy and upstream.
    cpu_s_per_gb: Option<f64>,
    /// What of it the kernel charged the proxy with.
    charged_s_per_gb: Option<f64>,
}

impl<'a> Window<'a> {
    fn open(upstream: &'a Upstream, front: &'a Front) -> Self {
        let (bytes, charged_s, ends_s) = (upstream.swallowed_bytes(), front.cpu_s(), own_cpu_s());
        Self { upstream, front, opened: Instant::now(), bytes, charged_s, ends_s }
    }

    fn close(self) -> Passed {
        let seconds = self.opened.elapsed().as_secs_f64();
        let gb = (self.upstream.swallowed_bytes() - self.bytes) as f64 / 1e9;
        let charged_s = self.front.cpu_s().zip(self.charged_s).map(|(now, then)| now - then);
        let cpu_s = own_cpu_s() - self.ends_s + charged_s.unwrap_or(0.0);
        let per_gb = |cpu_s: f64| (gb > 0.0).then(|| cpu_s / gb);
        Passed {
            gb_per_s: gb / seconds,
            cpu_s_per_gb: per_gb(cpu_s),
            charged_s_per_gb: charged_s.and_then(per_gb),
        }
    }
}

fn own_cpu_s() -> f64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ProcessCPUTime);
    tv_sec as f64 + tv_nsec as f64 / 1e9
}
