//! etcd begins again, or another one answers: the history that was followed is no more.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::support::relay::per_request;

const KEY: &str = "/services/redis-A/one";
const WARNING: [&str; 1] = ["wiped or restored, or is another one"];

/// A new etcd in which `upstream` is registered, after `events` events.
fn store(events: usize, upstream: &Upstream) -> Etcd {
    let etcd = Etcd::start();
    for _ in 0..events {
        etcd.put("/elsewhere", "");
    }
    etcd.put(KEY, &upstream.registration());
    etcd
}

/// A poll of it would be silent until its counter has come as far as the old one had.
#[test]
fn etcd_that_was_wiped_between_a_list_and_its_poll_is_noticed_at_once() {
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    let etcd = Arc::new(Mutex::new(store(50, &old)));
    let (change, is_first) = (new.registration(), AtomicBool::new(true));
    let relay = per_request({
        let etcd = etcd.clone();
        move |request| {
            let mut etcd = etcd.lock().unwrap();
            if etcd::is_poll(request) && is_first.swap(false, Ordering::SeqCst) {
                etcd.stop();
                fs::remove_dir_all(etcd.data()).unwrap();
                etcd.start_again();
                etcd.put(KEY, &change);
            }
            etcd.address()
        }
    });
    let (ambassador, address) = proxied(relay.address());
    wait_for_greeting(address, "new");
    etcd.lock().unwrap().put(KEY, &old.registration());
    wait_for_greeting(address, "old");
    assert_warned_once(&ambassador);
}

/// As behind an address that stands for several servers.
#[test]
fn another_etcd_that_answers_the_poll_is_noticed_at_once() {
    for (events_before, events_after) in [(50, 0), (0, 50)] {
        let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
        let (before, after) = (store(events_before, &old), store(events_after, &new));
        let (first, second) = (before.address(), after.address());
        let has_polled = AtomicBool::new(false);
        let relay = per_request(move |request| {
            has_polled.fetch_or(etcd::is_poll(request), Ordering::SeqCst);
            if has_polled.load(Ordering::SeqCst) { second } else { first }
        });
        let (ambassador, address) = proxied(relay.address());
        wait_for_greeting(address, "new");
        after.put(KEY, &old.registration());
        wait_for_greeting(address, "old");
        assert_warned_once(&ambassador);
    }
}

#[track_caller]
fn assert_warned_once(ambassador: &Ambassador) {
    // Lines come a moment after what they tell of.
    ambassador.wait_for_warning(&WARNING);
    assert_eq!(ambassador.warnings(&WARNING).len(), 1, "{:#?}", ambassador.log());
}

fn proxied(etcd: SocketAddr) -> (Ambassador, SocketAddr) {
    started(ambassador(["proxy", "--etcd", &etcd.to_string(), SERVICE, "127.0.0.1:0"]))
}

/// A mistake that cannot be served well: it is said, once for all services, and
/// whoever answers is believed.
#[test]
fn two_clusters_in_one_list_are_warned_of_once_and_clients_are_served() {
    const SERVICES: [&str; 3] = ["redis-A", "redis-B", "redis-C"];
    let (here, there) = (Upstream::greeter("here"), Upstream::greeter("there"));
    let (mut first, second) = (Etcd::start(), Etcd::start());
    for service in SERVICES {
        first.put(&format!("/services/{service}/one"), &here.registration());
        second.put(&format!("/services/{service}/one"), &there.registration());
    }
    let members = format!("{},{}", first.url(), second.url());
    let routes = SERVICES.iter().flat_map(|service| [*service, "127.0.0.1:0"]);
    let words = ["proxy", "--etcd", &members].into_iter().chain(routes);
    let ambassador = ambassador(words).start();
    let wait_for = |greeting: &str| {
        for service in SERVICES {
            wait_for_greeting(ambassador.address_of(service), greeting);
        }
    };
    wait_for("here");
    assert_eq!(ambassador.warnings(&WARNING), Vec::<String>::new());
    first.stop();
    wait_for("there");
    assert_warned_once(&ambassador);
    first.start_again();
    assert_eq!(greetings(ambassador.address_of("redis-A"), 3), ["there"; 3]);
    second.put("/services/redis-A/one", &here.registration());
    wait_for_greeting(ambassador.address_of("redis-A"), "here");
    assert_eq!(ambassador.warnings(&["etcd"]).len(), 1, "{:#?}", ambassador.log());
}
