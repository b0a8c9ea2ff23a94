//! What is not a matter of speed: starting, and connections that only exist.
//! Each reading is of a process of its own, so that none profits or suffers
//! from what the one before left behind.

use std::{
    io,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use super::{Reading, Scene};
use crate::{
    client,
    front::{Behind, Front, prepare},
    meter::Meter,
    peers::Peer,
};

/// The limit of open descriptors under which connections are held.
pub(crate) const HELD_NOFILE: u64 = 20_000;

/// Two descriptors each, and some to spare: what 20,000 are enough for.
pub(crate) const HELD_GOAL: usize = 9_500;

/// A held connection that does not answer by then is lost.
const HELD_PATIENCE: Duration = Duration::from_secs(2);

/// All that has not answered by then is lost too: asking takes no second.
const HELD_LIMIT: Duration = Duration::from_secs(10);

/// Time for buffers to be given back and counters to be brought together.
const SETTLE: Duration = Duration::from_millis(500);

pub(crate) fn start(scene: &Scene, peer: Peer) -> io::Result<Reading> {
    let behind = Behind::Upstream(scene.upstream.address);
    let (listen, launch) = prepare(peer, behind, scene.scratch)?;
    let started = Instant::now();
    let process = launch.bare()?;
    while client::open(listen, client::PATIENCE).is_err() {
        if !process.is_alive() || started.elapsed() > client::PATIENCE {
            return Err(io::Error::other(format!("does not start: {}", process.last_words())));
        }
        // Long enough that the process gets the CPU they share.
        thread::sleep(Duration::from_micros(100));
    }
    Ok(vec![Some(started.elapsed().as_secs_f64() * 1e3)])
}

pub(crate) fn idle(scene: &Scene, peer: Peer, count: usize) -> io::Result<Reading> {
    let behind = Behind::Upstream(scene.upstream.address);
    let front = Front::start(peer, behind, scene.scratch, None)?;
    let meter = front.meter.as_ref().ok_or_else(|| io::Error::other("direct uses nothing"))?;
    // What the first connection sets up is no cost of a connection.
    drop(client::open(front.address, client::PATIENCE)?);
    thread::sleep(SETTLE);
    let before = use_of(meter);
    let open = |number| {
        let refused = |err| io::Error::other(format!("connection {number}: {err}"));
        client::open(front.address, client::PATIENCE).map_err(refused)
    };
    let connections: Vec<_> = (1..=count).map(open).collect::<io::Result<_>>()?;
    thread::sleep(SETTLE);
    let after = use_of(meter);
    drop(connections);
    let each = |after: Option<f64>, before| Some((after? - before?) / count as f64);
    Ok(vec![each(after.0, before.0), each(after.1, before.1)])
}

fn use_of(meter: &Meter) -> (Option<f64>, Option<f64>) {
    (meter.resident_kib(), meter.charged_kib())
}

/// Opens connections until one gets no answer, then asks each again.
pub(crate) fn held(scene: &Scene, peer: Peer, goal: usize) -> io::Result<Reading> {
    let behind = Behind::Upstream(scene.upstream.address);
    let front = Front::start(peer, behind, scene.scratch, Some(HELD_NOFILE))?;
    let mut connections: Vec<TcpStream> = Vec::new();
    while connections.len() < goal {
        match client::open(front.address, HELD_PATIENCE) {
            Ok(connection) => connections.push(connection),
            Err(_) => break,
        }
    }
    let until = Instant::now() + HELD_LIMIT;
    let answers =
        |connection: &&TcpStream| Instant::now() < until && client::echo(connection).is_ok();
    let alive = connections.iter().filter(answers).count();
    if !front.is_alive() {
        say!("{} ended with {} connections open", peer.name(), connections.len());
    }
    Ok(vec![Some(alive as f64), Some((connections.len() - alive) as f64)])
}
