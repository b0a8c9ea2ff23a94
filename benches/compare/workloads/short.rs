//! Connections that carry one byte: what opening and closing costs.

use std::{
    io,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use super::{Reading, Scene};
use crate::{
    client::{self, PATIENCE},
    front::Front,
    stats::quantile,
};

pub(super) fn rate(scene: &Scene, front: &Front, clients: usize) -> io::Result<Reading> {
    let before = front.cpu_s();
    let started = Instant::now();
    let end = started + scene.window;
    let mut times_us = Vec::new();
    thread::scope(|scope| {
        let start = |_| {
            let client = thread::Builder::new().name("short".into());
            client.spawn_scoped(scope, || connect_until(front.address, end))
        };
        let threads: Vec<_> = (0..clients).map(start).collect::<io::Result<_>>()?;
        for client in threads {
            times_us.extend(client.join().map_err(|_| io::Error::other("a client panicked"))??);
        }
        io::Result::Ok(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    // The proxy still takes note of the last ones' end.
    thread::sleep(Duration::from_millis(5));
    let used = front.cpu_s().zip(before).map(|(now, then)| now - then);
    let connections = times_us.len() as f64;
    Ok(vec![
        Some(connections / seconds),
        quantile(&mut times_us, 0.99),
        used.map(|cpu_s| cpu_s * 1e6 / connections),
    ])
}

/// Times from connecting to the echoed byte, in microseconds.
fn connect_until(address: SocketAddr, end: Instant) -> io::Result<Vec<f64>> {
    let mut times_us = Vec::new();
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok(times_us);
        }
        let connection = client::open(address, PATIENCE)?;
        times_us.push(started.elapsed().as_secs_f64() * 1e6);
        drop(connection);
    }
}
