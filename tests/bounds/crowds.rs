//! Many clients at the same moment, and what the first of them finds out for all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::support::upstream::silent_address;
use crate::support::{eventually, proceed_after};

/// Long beside what a loaded machine adds to a connect that is answered.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// Less than that, and more than a client takes that waits for nothing.
const MUCH: Duration = Duration::from_millis(1200);

/// In front of an instance that answers and one that never does, which is dialled
/// first by every second client that does not know better.
fn with_one_silent(upstream: &Upstream, silent: SocketAddr) -> (Ambassador, SocketAddr) {
    let timeout = format!("{}ms", CONNECT_TIMEOUT.as_millis());
    let options = ["--connect-timeout", &timeout, "--eject", "60s"];
    started(forward(options, upstream).arg(silent.to_string()))
}

fn time_to_be_served(address: SocketAddr) -> Duration {
    let start = Instant::now();
    heard(&mut asking(address));
    start.elapsed()
}

#[test]
fn instance_that_never_answers_costs_only_the_first_client_its_timeout() {
    let (silent, _kept_full) = silent_address();
    let upstream = Upstream::echo();
    let (_ambassador, address) = with_one_silent(&upstream, silent);
    let times: Vec<Duration> = (0..20).map(|_| time_to_be_served(address)).collect();
    let slow = times.iter().filter(|time| **time >= MUCH).count();
    assert_eq!(slow, 1, "who finds out, and nobody else: {times:?}");
}

#[test]
fn instance_that_never_answers_costs_clients_at_the_same_time_one_timeout_together() {
    let (silent, _kept_full) = silent_address();
    let upstream = Upstream::echo();
    let (_ambassador, address) = with_one_silent(&upstream, silent);
    let clients: Vec<_> =
        (0..20).map(|_| thread::spawn(move || time_to_be_served(address))).collect();
    let times: Vec<Duration> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let slowest = times.iter().max().unwrap();
    assert!(*slowest >= MUCH, "nobody found out: {times:?}");
    assert!(*slowest < CONNECT_TIMEOUT + MUCH, "more than one timeout: {times:?}");
}

/// None is refused or reset, and the upstream is spared.
#[test]
fn burst_of_clients_is_served_a_few_at_a_time() {
    const AT_ONCE: usize = 20;
    const CLIENTS: usize = 300;
    let gate = Arc::new(AtomicBool::new(false));
    let open = Arc::new(Gauge::default());
    let upstream = Upstream::serve({
        let (gate, open) = (gate.clone(), open.clone());
        move |mut client| {
            open.enter();
            eventually("the gate opens", || gate.load(Ordering::SeqCst));
            let mut received = Vec::new();
            client.read_to_end(&mut received)?;
            client.write_all(&received)?;
            // Before its end is told, which is what makes room for the next one.
            open.leave();
            Ok(())
        }
    });
    let most = AT_ONCE.to_string();
    let (_ambassador, address) = started(forward(["--max-connections", &most], &upstream));
    let start = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let start = start.clone();
            thread::spawn(move || {
                start.wait();
                let mut client = asking(address);
                client.shutdown(Shutdown::Write).unwrap();
                heard(&mut client);
                assert_eq!(ending(&client), Ending::Fin);
            })
        })
        .collect();
    eventually("as many as there may be are open", || upstream.accepted() == AT_ONCE);
    proceed_after(Duration::from_millis(300));
    assert_eq!(upstream.accepted(), AT_ONCE, "the others wait");
    gate.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(upstream.accepted(), CLIENTS);
    let most = open.most.load(Ordering::SeqCst);
    assert!(most <= AT_ONCE, "{most} at once");
}

/// How many there are, and were at most.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}
