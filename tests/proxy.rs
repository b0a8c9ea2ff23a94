//! `proxy`: clients reach whatever is registered now.

mod etcd_faults;
mod etcd_outage;
mod listeners;
mod moves;
mod other_stores;
mod policies;
mod stream;
mod values;

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::ambassador::{Ambassador, Launch, ambassador};
use crate::support::client::{Ending, connect, ending, ending_of_new, read_all};
use crate::support::etcd::{self, Api, Etcd};
use crate::support::redis::{Redis, ping};
use crate::support::upstream::{Upstream, registration, silent_address};
use crate::support::{eventually, fresh_ip, proceed_after, refusing_address, unique_prefix};

const SERVICE: &str = "redis-A";

/// One service in the shared etcd.
struct Scene {
    etcd: &'static Etcd,
    prefix: String,
}

impl Scene {
    fn new() -> Scene {
        Scene { etcd: etcd::shared(), prefix: unique_prefix() }
    }

    fn key(&self, instance: &str) -> String {
        format!("{}/{SERVICE}/{instance}", self.prefix)
    }

    fn register(&self, instance: &str, upstream: &Upstream) {
        self.put(instance, &upstream.registration());
    }

    fn put(&self, instance: &str, value: &str) {
        self.etcd.put(&self.key(instance), value);
    }

    fn withdraw(&self, instance: &str) {
        self.etcd.delete(&self.key(instance));
    }

    /// `proxy OPTIONS... redis-A 127.0.0.1:0`.
    fn proxy<const N: usize>(&self, options: [&str; N]) -> Launch {
        let words = ["proxy", "--etcd", &self.etcd.url(), "--prefix", &self.prefix];
        ambassador(words.into_iter().chain(options).chain([SERVICE, "127.0.0.1:0"]))
    }
}

/// A proxy and the address of its listener.
fn started(launch: Launch) -> (Ambassador, SocketAddr) {
    let ambassador = launch.start();
    let address = ambassador.address();
    (ambassador, address)
}

/// Which of the greeters each of `count` connections reaches.
fn greetings(address: SocketAddr, count: usize) -> Vec<String> {
    (0..count).map(|_| read_all(address).unwrap()).collect()
}

fn wait_for_greeting(address: SocketAddr, greeting: &str) {
    eventually(&format!("the greeting {greeting:?}"), || read_all(address).unwrap() == greeting);
}

#[test]
fn listener_is_announced_and_clients_are_held_while_etcd_is_absent() {
    let mut etcd = Etcd::absent();
    let words = ["proxy", "--etcd", &etcd.url(), SERVICE, "127.0.0.1:0"];
    let (ambassador, address) = started(ambassador(words));
    assert_eq!(ambassador.stdout(), [format!("listening {SERVICE} {address}")]);
    let client = thread::spawn(move || read_all(address));
    etcd.start_again();
    let upstream = Upstream::greeter("hello");
    etcd.put("/services/redis-A/one", &upstream.registration());
    assert_eq!(client.join().unwrap().unwrap(), "hello");
    assert_eq!(ambassador.stdout().len(), 1, "nothing else is ever printed");
}

#[test]
fn client_is_held_until_the_service_appears() {
    let scene = Scene::new();
    let (_ambassador, address) = started(scene.proxy([]));
    let client = thread::spawn(move || read_all(address));
    proceed_after(Duration::from_millis(300));
    assert!(!client.is_finished(), "it is held");
    let upstream = Upstream::greeter("hello");
    scene.register("one", &upstream);
    assert_eq!(client.join().unwrap().unwrap(), "hello");
}

#[test]
fn client_is_held_until_a_registered_server_listens() {
    let scene = Scene::new();
    let server = SocketAddr::from((fresh_ip(), 6379));
    scene.put("one", &registration(server));
    let (_ambassador, address) = started(scene.proxy([]));
    let client = thread::spawn(move || read_all(address));
    proceed_after(Duration::from_millis(300));
    assert!(!client.is_finished(), "it is held");
    let _upstream = Upstream::greeter_at(server, "hello");
    assert_eq!(client.join().unwrap().unwrap(), "hello");
}

/// They do not wait for the next of the dials that are tried while they wait.
#[test]
fn all_held_clients_are_woken_at_once() {
    // Other tests may keep the machine busy for a while. Clients that are not woken take
    // up to 250 ms, each another time: ten of twelve are hardly ever so fast by chance.
    let mut seen = Vec::new();
    let is_at_once = (0..8).any(|_| {
        seen.push(waits_of_held_clients());
        seen.last().unwrap()[9] < Duration::from_millis(80)
    });
    assert!(is_at_once, "{seen:?}");
}

/// How long after the first registration each of twelve clients is served, sorted.
fn waits_of_held_clients() -> Vec<Duration> {
    let scene = Scene::new();
    let (_ambassador, address) = started(scene.proxy([]));
    let clients: Vec<_> = (0..12)
        .map(|_| {
            proceed_after(Duration::from_millis(35));
            thread::spawn(move || {
                let greeting = read_all(address).unwrap();
                (greeting, Instant::now())
            })
        })
        .collect();
    // By now the pauses between their dials have grown to a quarter of a second.
    proceed_after(Duration::from_secs(1));
    let upstream = Upstream::greeter("hello");
    let registered = Instant::now();
    scene.register("one", &upstream);
    let waited = clients.into_iter().map(|client| {
        let (greeting, at) = client.join().unwrap();
        assert_eq!(greeting, "hello");
        at - registered
    });
    let mut waited: Vec<_> = waited.collect();
    waited.sort();
    waited
}

/// What a client sends while it is held is not lost.
#[test]
fn bytes_sent_while_held_arrive() {
    let scene = Scene::new();
    let (_ambassador, address) = started(scene.proxy([]));
    let mut client = connect(address).unwrap();
    client.write_all(b"early").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let upstream = Upstream::echo();
    scene.register("one", &upstream);
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut client, &mut answer).unwrap();
    assert_eq!(answer, "early");
}

#[test]
fn client_is_reset_at_once_when_it_may_not_wait() {
    let scene = Scene::new();
    for instance in [None, Some(registration(refusing_address()))] {
        if let Some(value) = instance {
            scene.put("one", &value);
        }
        let (_ambassador, address) = started(scene.proxy(["--wait", "0"]));
        let start = Instant::now();
        assert_eq!(ending_of_new(address), Ending::Reset);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

#[test]
fn option_wins_over_its_variable() {
    let scene = Scene::new();
    let launch = scene.proxy(["--wait", "0"]).env("AMBASSADOR_WAIT", "1h");
    let (_option, address) = started(launch);
    assert_eq!(ending_of_new(address), Ending::Reset);
    let (_variable, address) = started(scene.proxy([]).env("AMBASSADOR_WAIT", "0"));
    let start = Instant::now();
    assert_eq!(ending_of_new(address), Ending::Reset);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn client_is_reset_when_its_wait_ends() {
    let scene = Scene::new();
    for instance in [None, Some(registration(refusing_address()))] {
        if let Some(value) = instance {
            scene.put("one", &value);
        }
        let (_ambassador, address) = started(scene.proxy(["--wait", "1s"]));
        let start = Instant::now();
        assert_eq!(ending_of_new(address), Ending::Reset);
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(950), "{waited:?}");
        assert!(waited < Duration::from_secs(4), "{waited:?}");
    }
}

#[test]
fn new_connections_go_round_the_instances() {
    let scene = Scene::new();
    let upstreams = ["a", "b", "c"].map(|name| {
        let upstream = Upstream::greeter(name);
        scene.register(name, &upstream);
        upstream
    });
    let (_ambassador, address) = started(scene.proxy([]));
    let heard = greetings(address, 9);
    for upstream in &upstreams {
        assert_eq!(upstream.accepted(), 3, "{heard:?}");
    }
    assert_eq!(heard[..3], heard[3..6]);
    assert_eq!(heard[..3], heard[6..]);
}

#[test]
fn next_instance_is_tried_when_one_refuses() {
    let scene = Scene::new();
    let upstream = Upstream::greeter("alive");
    scene.register("m", &upstream);
    scene.put("a", &registration(refusing_address()));
    scene.put("z", &registration(refusing_address()));
    let (_ambassador, address) = started(scene.proxy(["--wait", "0"]));
    wait_for_greeting_despite_resets(address, "alive");
    assert_eq!(greetings(address, 9), ["alive"; 9]);
}

/// With `--wait 0` the first clients may come before the first list of etcd.
fn wait_for_greeting_despite_resets(address: SocketAddr, greeting: &str) {
    eventually("the first instances", || read_all(address).is_ok_and(|heard| heard == greeting));
}

/// A host that is down does not refuse: it is silent.
#[test]
fn silent_instance_is_given_up_after_the_connect_timeout_and_ejected() {
    let scene = Scene::new();
    let (silent, _kept_full) = silent_address();
    scene.put("a", &registration(silent));
    let upstream = Upstream::greeter("alive");
    scene.register("b", &upstream);
    let (_ambassador, address) = started(scene.proxy(["--connect-timeout", "500ms"]));
    let start = Instant::now();
    assert_eq!(greetings(address, 12), ["alive"; 12]);
    // Ejected, it costs the timeout once; otherwise every second client, 3 s in all.
    assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
}

#[test]
fn new_connections_use_the_instance_added_a_moment_ago() {
    let scene = Scene::new();
    let first = Upstream::greeter("first");
    scene.register("first", &first);
    let (_ambassador, address) = started(scene.proxy([]));
    assert_eq!(greetings(address, 3), ["first"; 3]);
    let second = Upstream::greeter("second");
    scene.register("second", &second);
    wait_for_greeting(address, "second");
}

#[test]
fn removed_instance_gets_no_new_connection() {
    let scene = Scene::new();
    let stays = Upstream::greeter("stays");
    let leaves = Upstream::greeter("leaves");
    scene.register("stays", &stays);
    scene.register("leaves", &leaves);
    let (_ambassador, address) = started(scene.proxy([]));
    wait_for_greeting(address, "leaves");
    scene.withdraw("leaves");
    // With both in turn, two connections in a row never reach the same one.
    eventually("one is gone", || greetings(address, 2) == ["stays"; 2]);
    let accepted = leaves.accepted();
    assert_eq!(greetings(address, 6), ["stays"; 6]);
    assert_eq!(leaves.accepted(), accepted);
}

#[test]
fn expired_instance_leaves_by_itself() {
    let scene = Scene::new();
    let upstream = Upstream::greeter("short-lived");
    scene.etcd.put_with_ttl(&scene.key("one"), &upstream.registration(), 2);
    let (_ambassador, address) = started(scene.proxy(["--wait", "0"]));
    wait_for_greeting_despite_resets(address, "short-lived");
    eventually("it is gone", || ending_of_new(address) == Ending::Reset);
}

#[test]
fn changed_address_of_an_instance_is_used_instead() {
    let scene = Scene::new();
    let old = Upstream::greeter("old");
    let new = Upstream::greeter("new");
    scene.register("one", &old);
    let (_ambassador, address) = started(scene.proxy([]));
    wait_for_greeting(address, "old");
    scene.register("one", &new);
    wait_for_greeting(address, "new");
    assert_eq!(greetings(address, 4), ["new"; 4]);
}

/// The article's story in one process each: redis moves, its clients do not notice.
#[test]
fn redis_that_restarts_on_another_port_costs_its_clients_a_pause_and_no_error() {
    let scene = Scene::new();
    let mut redis = Redis::start();
    scene.put("redis.service", &registration(redis.address()));
    let (_ambassador, address) = started(scene.proxy([]));
    ping(address).unwrap();
    for _ in 0..2 {
        // What the registrar does on Docker's kill event, before redis ends.
        scene.withdraw("redis.service");
        let in_flight = thread::spawn(move || {
            // Until one PING is held for want of an instance, and then answered.
            loop {
                let start = Instant::now();
                ping(address)?;
                if start.elapsed() > Duration::from_millis(200) {
                    return std::io::Result::Ok(());
                }
            }
        });
        proceed_after(Duration::from_millis(500));
        assert!(!in_flight.is_finished(), "a PING is held");
        redis.start_on_another_port();
        scene.put("redis.service", &registration(redis.address()));
        in_flight.join().unwrap().unwrap();
        ping(address).unwrap();
    }
}
