//! Requests to a real redis.

use std::{io, time::Duration};

use super::Reading;
use crate::{front::Front, redis::Redis};

/// Requests a second that a proxy on one CPU manages about: what a window is
/// filled with, since redis-benchmark takes a number and not a time.
fn expected(clients: u32, pipeline: u32) -> f64 {
    match (clients, pipeline) {
        (1, 1) => 35e3,
        (1, _) => 450e3,
        (_, 1) => 50e3,
        (_, _) => 600e3,
    }
}

pub(super) fn rate(
    redis: &Redis,
    front: &Front,
    clients: u32,
    pipeline: u32,
    window: Duration,
) -> io::Result<Reading> {
    let requests = expected(clients, pipeline) * window.as_secs_f64();
    let before = front.cpu_s();
    let rate = redis.get(front.address, clients, pipeline, requests as u32)?;
    let used = front.cpu_s().zip(before).map(|(now, then)| now - then);
    Ok(vec![
        Some(rate.requests_per_s),
        Some(rate.p50_us),
        Some(rate.p99_us),
        used.map(|cpu_s| cpu_s * 1e6 / requests),
    ])
}
