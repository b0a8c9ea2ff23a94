//! How soon a service that moved is found.

use super::*;
use crate::support::skip_loudly;

/// Calls `measure` until what it found is good enough: other tests may keep the
/// machine busy for a while.
#[track_caller]
fn sometimes<T: std::fmt::Debug>(measure: impl Fn() -> T, is_good: impl Fn(&T) -> bool) {
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(measure());
        if seen.last().is_some_and(&is_good) {
            return;
        }
    }
    panic!("{seen:#?}");
}

/// The old instance is silent, as a dead host is, and is registered until its TTL ends.
#[test]
fn first_connection_is_served_within_1500_ms_of_the_registration_on_another_host() {
    let measure = || {
        let scene = Scene::new();
        let (silent, _kept_full) = silent_address();
        scene.put("a", &registration(silent));
        let (_ambassador, address) = started(scene.proxy([]));
        // Knows of no instance but the dead one, and dials it.
        let early = thread::spawn(move || served(address));
        proceed_after(Duration::from_millis(300));
        assert!(!early.is_finished());
        let upstream = Upstream::greeter("alive");
        scene.register("b", &upstream);
        let registered = Instant::now();
        // One of these begins with the dead one.
        let new = [(); 2].map(|()| thread::spawn(move || served(address)));
        let all = new.into_iter().chain([early]);
        all.map(|client| client.join().unwrap() - registered).max().unwrap()
    };
    sometimes(measure, |slowest| *slowest < Duration::from_millis(1500));
}

/// When a new client has been served.
fn served(address: SocketAddr) -> Instant {
    assert_eq!(read_all(address).unwrap(), "alive");
    Instant::now()
}

/// Both measured from the moment at which the one etcd has answered the writer, in turns.
#[test]
fn change_is_used_with_v3_about_as_soon_as_with_v2() {
    const CHANGES: usize = 60;
    const KEY: &str = "/services/redis-A/one";
    let measure = || {
        let etcd = Etcd::absent_with(Api::V3).with_v2().started();
        let upstreams = ["even", "odd"].map(Upstream::greeter);
        let apis = [Api::V2, Api::V3].map(|api| {
            let client = etcd.in_api(api);
            client.put(KEY, &upstreams[1].registration());
            let words = ["proxy", "--etcd", &etcd.url(), "--etcd-api", api.name()];
            let words = words.into_iter().chain([SERVICE, "127.0.0.1:0"]);
            let (proxy, address) = started(ambassador(words));
            wait_for_greeting(address, "odd");
            (client, proxy, address)
        });
        let mut delays = [Vec::new(), Vec::new()];
        for change in 0..CHANGES {
            for ((client, _, address), delays) in apis.iter().zip(&mut delays) {
                // Further apart than listings are.
                proceed_after(Duration::from_millis(15));
                client.put(KEY, &upstreams[change % 2].registration());
                let written = Instant::now();
                let greeting = ["even", "odd"][change % 2];
                while read_all(*address).unwrap() != greeting {}
                delays.push(written.elapsed());
            }
        }
        delays.map(|mut delays| {
            delays.sort();
            delays[CHANGES / 2]
        })
    };
    sometimes(measure, |[v2, v3]| *v3 <= v2.mul_f64(1.5));
}

/// Measured from the moment at which etcd has answered the writer.
#[test]
fn change_is_used_by_a_connection_made_10_ms_later_and_nearly_always_50_ms_later() {
    let test = "change_is_used_by_a_connection_made_10_ms_later_and_nearly_always_50_ms_later";
    let mut seen = Vec::new();
    for _ in 0..6 {
        let delays = delays_of_changes();
        if delays.p50 < Duration::from_millis(10) && delays.p99 < Duration::from_millis(50) {
            return;
        }
        seen.push(delays);
    }
    // Where even the test hears of changes late, the machine is not one to measure on.
    let is_quiet = |delays: &&Delays| delays.p99_of_etcd < Duration::from_millis(15);
    if seen.iter().filter(is_quiet).count() < 3 {
        return skip_loudly(test, "the machine is too busy to measure on");
    }
    panic!("{seen:#?}");
}

#[derive(Debug)]
struct Delays {
    /// Until the last connection was made that did not use the change yet. Not until the
    /// first that did: how long the one before it takes is up to the machine.
    p50: Duration,
    p99: Duration,
    /// Until a poll of the test's own, with nothing in between, had heard of it.
    p99_of_etcd: Duration,
}

fn delays_of_changes() -> Delays {
    const CHANGES: usize = 100;
    const P99: usize = CHANGES - 2;
    let scene = Scene::new();
    let greetings = ["even", "odd"];
    let upstreams = greetings.map(Upstream::greeter);
    scene.register("one", &upstreams[1]);
    let (_ambassador, address) = started(scene.proxy([]));
    wait_for_greeting(address, "odd");
    let watch = scene.etcd.watch(&scene.prefix);
    let mut written = Vec::new();
    let mut unused = Vec::new();
    for change in 0..CHANGES {
        // Further apart than listings are.
        proceed_after(Duration::from_millis(25));
        scene.register("one", &upstreams[change % 2]);
        let now = Instant::now();
        written.push(now);
        let mut stale = Duration::ZERO;
        loop {
            let connected = now.elapsed();
            if read_all(address).unwrap() == greetings[change % 2] {
                break;
            }
            stale = connected;
        }
        unused.push(stale);
    }
    watch.so_far(scene.etcd, &scene.prefix);
    let changes = watch.changes();
    let heard = changes.iter().zip(&written).map(|(change, &at)| change.at - at);
    let mut heard: Vec<Duration> = heard.collect();
    unused.sort();
    heard.sort();
    Delays { p50: unused[CHANGES / 2], p99: unused[P99], p99_of_etcd: heard[P99] }
}
