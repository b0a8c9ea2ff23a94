//! `register --address`: a service that is not in a container; and `--check tcp`.

use std::net::SocketAddr;

use super::*;
use crate::support::refusing_address;
use crate::support::upstream::{Upstream, registration};

/// `register --address ADDRESS OPTIONS... redis-A`.
fn register<const N: usize>(prefix: &str, address: &str, options: [&str; N]) -> Launch {
    let url = etcd::shared().url();
    let fixed = ["register", "--etcd", &url, "--prefix", prefix, "--address", address];
    ambassador(fixed.into_iter().chain(options).chain([SERVICE]))
}

fn key(prefix: &str, address: impl std::fmt::Display) -> String {
    format!("{prefix}/{SERVICE}/{address}")
}

#[test]
fn address_is_registered_under_itself_and_withdrawn_at_the_end() {
    let prefix = unique_prefix();
    let etcd = etcd::shared();
    let ambassador = register(&prefix, "10.0.0.7:5432", []).arg("zone=a").start();
    let key = key(&prefix, "10.0.0.7:5432");
    etcd.wait_for_value(&key, r#"{ "port": 5432, "host": "10.0.0.7", "zone": "a" }"#);
    assert!(etcd.ttl_s(&key).is_some_and(|ttl_s| ttl_s <= 10));
    assert_eq!(ambassador.terminate().code, Some(0));
    assert_eq!(etcd.get(&key), None);
}

#[test]
fn instance_option_names_the_key_of_an_address() {
    let prefix = unique_prefix();
    let _ambassador = register(&prefix, "10.0.0.7:5432", ["--instance", "primary"]).start();
    let key = key(&prefix, "primary");
    etcd::shared().wait_for_value(&key, r#"{ "port": 5432, "host": "10.0.0.7" }"#);
}

#[test]
fn loopback_address_needs_a_host_ip_that_says_so() {
    let prefix = unique_prefix();
    for address in ["127.0.0.1:5432", "127.8.9.10:5432", "localhost:5432", "[::1]:5432"] {
        let ended = register(&prefix, address, []).run();
        assert_eq!(ended.code, Some(2), "{address}: {ended:?}");
        assert!(ended.stderr.contains("--host-ip"), "{address}: {ended:?}");
    }
    assert_eq!(etcd::shared().list(&format!("{prefix}/{SERVICE}")), Vec::<String>::new());
    let _ambassador = register(&prefix, "127.0.0.1:5432", ["--host-ip", "127.0.0.1"]).start();
    let key = key(&prefix, "127.0.0.1:5432");
    etcd::shared().wait_for_value(&key, r#"{ "port": 5432, "host": "127.0.0.1" }"#);
}

#[test]
fn watchers_hear_nothing_while_the_address_stays() {
    let prefix = unique_prefix();
    let etcd = etcd::shared();
    let watch = etcd.watch(&prefix);
    let _ambassador = register(&prefix, "10.0.0.7:5432", ["--ttl", "3s"]).start();
    let key = key(&prefix, "10.0.0.7:5432");
    eventually("the entry", || etcd.get(&key).is_some());
    etcd.wait_for_refreshes(&key, 2);
    assert_eq!(watch.so_far(etcd, &prefix), [format!("set {key}")]);
}

#[test]
fn checked_address_is_registered_only_while_it_accepts_connections() {
    let prefix = unique_prefix();
    let etcd = etcd::shared();
    let address = SocketAddr::from((crate::support::fresh_ip(), 5432));
    let options = ["--check", "tcp", "--ttl", "3s", "--host-ip", &address.ip().to_string()];
    let watch = etcd.watch(&prefix);
    let _ambassador = register(&prefix, &address.to_string(), options).start();
    let key = key(&prefix, address);
    proceed_after(Duration::from_millis(1500));
    assert_eq!(etcd.get(&key), None, "nobody listens yet");
    let upstream = Upstream::greeter_at(address, "");
    etcd.wait_for_value(&key, &registration(address));
    drop(upstream);
    let gone = Instant::now();
    let removed = watch.wait_for(&REMOVALS, &key);
    // After two failures, one second apart.
    assert!(removed - gone < Duration::from_secs(6), "{:?}", removed - gone);
    let _upstream = Upstream::greeter_at(address, "");
    etcd.wait_for_value(&key, &registration(address));
}

#[test]
fn one_failed_check_does_not_take_the_entry_out() {
    let prefix = unique_prefix();
    let etcd = etcd::shared();
    let address = SocketAddr::from((crate::support::fresh_ip(), 5432));
    let upstream = Upstream::greeter_at(address, "");
    // One check every 3 s: an absence of 1 s fails at most one of them.
    let options = ["--check", "tcp", "--ttl", "9s", "--host-ip", &address.ip().to_string()];
    let _ambassador = register(&prefix, &address.to_string(), options).start();
    let key = key(&prefix, address);
    etcd.wait_for_value(&key, &registration(address));
    let checks = upstream.accepted();
    eventually("the next check", || upstream.accepted() > checks);
    let watch = etcd.watch(&prefix);
    drop(upstream);
    proceed_after(Duration::from_millis(3500));
    let upstream = Upstream::greeter_at(address, "");
    eventually("a check again", || upstream.accepted() > 0);
    assert_eq!(watch.so_far(etcd, &prefix), Vec::<String>::new());
}

#[test]
fn checked_container_is_registered_only_while_it_accepts_connections() {
    let scene = Scene::empty();
    let upstream = Upstream::greeter("");
    let dead = refusing_address();
    scene.docker.run(Container::named(CONTAINER).publishes(6379, &[("127.0.0.1", dead.port())]));
    let options = ["--check", "tcp", "--ttl", "3s", "--host-ip", "127.0.0.1"];
    let _ambassador = scene.register(options).start();
    scene.docker.wait_until_followed();
    proceed_after(Duration::from_millis(1500));
    assert_eq!(scene.etcd.get(&scene.key()), None, "nobody listens there");
    scene.docker.restart(CONTAINER, 6379, &[("127.0.0.1", upstream.address().port())]);
    scene.etcd.wait_for_value(&scene.key(), &upstream.registration());
    drop(upstream);
    scene.wait_for_absence();
}
