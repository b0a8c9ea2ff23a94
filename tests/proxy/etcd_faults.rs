//! etcd may be away, wiped, silent or behind: clients are served all the same.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::support::relay::per_request;
use crate::support::{DEADLINE, within};

/// A proxy of the service in an etcd of its own.
fn proxied(etcd: &Etcd) -> (Ambassador, SocketAddr) {
    started(ambassador(["proxy", "--etcd", &etcd.url(), SERVICE, "127.0.0.1:0"]))
}

const KEY: &str = "/services/redis-A/one";

#[test]
fn unreachable_etcd_leaves_the_last_instances_in_service() {
    let mut etcd = Etcd::start();
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    etcd.put(KEY, &old.registration());
    let (ambassador, address) = proxied(&etcd);
    wait_for_greeting(address, "old");
    etcd.stop();
    ambassador.wait_for_warning(&[&etcd.address().to_string()]);
    assert_eq!(greetings(address, 3), ["old"; 3]);
    etcd.start_again();
    assert_eq!(greetings(address, 3), ["old"; 3]);
    etcd.put(KEY, &new.registration());
    wait_for_greeting(address, "new");
}

#[test]
fn change_made_right_after_etcd_came_back_is_not_missed() {
    let mut etcd = Etcd::start();
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    etcd.put(KEY, &old.registration());
    let (_ambassador, address) = proxied(&etcd);
    wait_for_greeting(address, "old");
    for _ in 0..2 {
        etcd.stop();
        etcd.start_again();
        etcd.put(KEY, &new.registration());
        wait_for_greeting(address, "new");
        etcd.stop();
        etcd.start_again();
        etcd.put(KEY, &old.registration());
        wait_for_greeting(address, "old");
    }
}

/// A wiped etcd counts its events from the start again.
#[test]
fn wiped_etcd_is_followed_from_its_new_beginning() {
    let mut etcd = Etcd::start();
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    for _ in 0..50 {
        etcd.put(KEY, &old.registration());
    }
    let (_ambassador, address) = proxied(&etcd);
    wait_for_greeting(address, "old");
    etcd.stop();
    fs::remove_dir_all(etcd.data()).unwrap();
    etcd.start_again();
    // The empty store is an answer: clients are held until the service is back.
    let client = thread::spawn(move || {
        eventually("the new instance", || read_all(address).unwrap() == "new");
    });
    etcd.put(KEY, &new.registration());
    client.join().unwrap();
    etcd.put(KEY, &old.registration());
    wait_for_greeting(address, "old");
}

#[test]
fn silent_etcd_leaves_the_last_instances_in_service() {
    let mut etcd = Etcd::start();
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    etcd.put(KEY, &old.registration());
    let (_ambassador, address) = proxied(&etcd);
    wait_for_greeting(address, "old");
    etcd.pause();
    assert_eq!(greetings(address, 3), ["old"; 3]);
    etcd.resume();
    etcd.put(KEY, &new.registration());
    wait_for_greeting(address, "new");
}

#[test]
fn next_member_is_asked_when_the_first_is_away() {
    let scene = Scene::new();
    let upstream = Upstream::greeter("hello");
    scene.register("one", &upstream);
    let members = format!("http://{},{}", refusing_address(), scene.etcd.address());
    let words = ["proxy", "--etcd", &members, "--prefix", &scene.prefix, SERVICE, "127.0.0.1:0"];
    let (_ambassador, address) = started(ambassador(words));
    assert_eq!(greetings(address, 2), ["hello"; 2]);
    scene.withdraw("one");
    let other = Upstream::greeter("other");
    scene.register("two", &other);
    wait_for_greeting(address, "other");
}

#[test]
fn etcd_of_the_environment_is_asked() {
    let scene = Scene::new();
    let upstream = Upstream::greeter("hello");
    scene.register("one", &upstream);
    let address = scene.etcd.address();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let nowhere = refusing_address().to_string();
    let environments: [&[(&str, &str)]; 4] = [
        &[("AMBASSADOR_ETCD", &address.to_string()), ("ETCDCTL_ENDPOINTS", &nowhere)],
        &[("ETCDCTL_ENDPOINTS", &scene.etcd.url())],
        &[("ETCD_PORT_10000_TCP_ADDR", &host), ("ETCD_PORT_10000_TCP_PORT", &port)],
        &[("ETCD_PORT_2379_TCP_ADDR", &host), ("ETCD_PORT_2379_TCP_PORT", &port)],
    ];
    for environment in environments {
        let launch = ambassador(["proxy", SERVICE, "127.0.0.1:0"]);
        let launch = launch.env("AMBASSADOR_PREFIX", &scene.prefix);
        let set = |launch: Launch, (name, value): &(&str, &str)| launch.env(name, *value);
        let (_ambassador, address) = started(environment.iter().fold(launch, set));
        assert_eq!(greetings(address, 1), ["hello"], "{environment:?}");
    }
}

/// Docker's client can put these into every container.
#[test]
fn http_proxies_of_the_environment_are_not_used_for_etcd() {
    let scene = Scene::new();
    let upstream = Upstream::greeter("hello");
    scene.register("one", &upstream);
    let nowhere = format!("http://{}", refusing_address());
    let names =
        ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let launch =
        names.into_iter().fold(scene.proxy([]), |launch, name| launch.env(name, &*nowhere));
    let (_ambassador, address) = started(launch);
    assert_eq!(greetings(address, 1), ["hello"]);
}

/// 1000 other events push the one that a poll begins at out of etcd's history.
#[test]
fn cleared_index_makes_the_poller_list_again() {
    if !etcd::only_v2() {
        return; // Of v3's history only a compaction clears anything.
    }
    let etcd = Arc::new(Etcd::start());
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    etcd.put(KEY, &old.registration());
    let change = new.registration();
    let is_first = AtomicBool::new(true);
    let is_cleared = Arc::new(AtomicBool::new(false));
    // Between the list and the poll after it more happens than etcd remembers.
    let relay = per_request({
        let (etcd, is_cleared) = (etcd.clone(), is_cleared.clone());
        move |request| {
            if etcd::is_poll(request) && is_first.swap(false, Ordering::SeqCst) {
                etcd.put(KEY, &change);
                for _ in 0..1100 {
                    etcd.put("/elsewhere", "");
                }
                is_cleared.store(true, Ordering::SeqCst);
            }
            etcd.address()
        }
    });
    let words = ["proxy", "--etcd", &relay.address().to_string(), SERVICE, "127.0.0.1:0"];
    let (_ambassador, address) = started(ambassador(words));
    // Many writes, on a machine that may be busy.
    within(DEADLINE * 3, "the writes", || is_cleared.load(Ordering::SeqCst));
    wait_for_greeting(address, "new");
    etcd.put(KEY, &old.registration());
    wait_for_greeting(address, "old");
}

#[test]
fn deleted_directory_takes_its_instances_along() {
    let scene = Scene::new();
    let upstream = Upstream::greeter("hello");
    scene.register("one", &upstream);
    let (_ambassador, address) = started(scene.proxy(["--wait", "0"]));
    wait_for_greeting_despite_resets(address, "hello");
    scene.etcd.delete(&scene.prefix);
    eventually("it is gone", || ending_of_new(address) == Ending::Reset);
    scene.register("one", &upstream);
    wait_for_greeting_despite_resets(address, "hello");
}
