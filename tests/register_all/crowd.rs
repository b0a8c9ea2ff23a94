//! A host with hundreds of containers.

use super::*;
use crate::support::etcd::only_v2;
use crate::support::proceed_after;
use crate::support::tap::Tap;
use crate::support::usage::Usage;

const CROWD: u16 = 500;

/// A machine that is busy with other tests takes its time for so many; the entries must not
/// expire meanwhile, as each has a refresh of its own in v2.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENT: [&str; 2] = ["--ttl", "2m"];

fn crowd(size: u16) -> Vec<Container> {
    (0..size).map(|n| web(&format!("c{n}"), "nginx", 10_000 + n)).collect()
}

/// "GET /containers/ID/json".
fn inspections(docker: &FakeDocker) -> usize {
    let is_one = |line: &&String| line.starts_with("GET /containers/") && line.contains("/json H");
    docker.requests().iter().filter(is_one).filter(|line| line.matches('/').count() == 4).count()
}

#[test]
fn five_hundred_containers_are_registered_and_taken_out_again() {
    let scene = Scene::with(Registry::Own(Box::new(Etcd::start())));
    scene.docker.run_many(crowd(CROWD));
    let mut ambassador = scene.register(PATIENT).args(REGISTRATOR).start();
    within(PATIENCE, "500 entries", || scene.registered().len() == usize::from(CROWD));
    let rss = Usage::of(ambassador.id()).resident_bytes();
    assert!(rss < 32 * 1024 * 1024, "{rss} bytes");
    // Each has been inspected once or twice: at the first look, and when the events were
    // followed; and not again with the listing of every 15 s, which one run waits for.
    if only_v2() {
        eventually_listed_again(&scene.docker);
    }
    let inspected = inspections(&scene.docker);
    assert!(inspected <= 2 * usize::from(CROWD), "{inspected} inspections");
    scene.docker.run(web("one", "other", 9000));
    eventually("one more", || scene.registered().contains_key("other/fake-host:one:80"));
    assert!(inspections(&scene.docker) <= inspected + 3, "more than the new one");
    assert!(scene.docker.requests().iter().all(|line| line.starts_with("GET ")));
    ambassador.signal("TERM");
    let ended = ambassador.finish(Duration::from_secs(5));
    assert_eq!(ended.code, Some(0));
    // All of them on a quiet machine; what a busy one does not manage in 2 s is named.
    let named = ended.stderr.matches("stays until its TTL ends").count();
    assert_eq!(scene.registered().len(), named);
    assert!(named < usize::from(CROWD) / 2, "{named} are left");
}

fn eventually_listed_again(docker: &FakeDocker) {
    let listings =
        || docker.requests().iter().filter(|line| line.contains("/containers/json")).count();
    let before = listings();
    within(PATIENCE, "another listing", || listings() > before);
    // It was asked for before anything that could follow from it.
    proceed_after(Duration::from_secs(1));
}

/// The stop signal must not wait until everything else is written.
#[test]
fn stop_signal_goes_before_hundreds_of_writes() {
    let scene = Scene::with(Registry::Own(Box::new(Etcd::start())));
    let watch = scene.etcd.watch(&scene.prefix);
    scene.docker.run_many(crowd(CROWD));
    let _ambassador = scene.register(PATIENT).args(REGISTRATOR).start();
    // In the order of their keys, so this one is among the first.
    let first = format!("{}/nginx/{HOST}:c0:80", scene.prefix);
    watch.wait_for(&["set"], &first);
    scene.docker.send_signal("c0", Some("15"));
    watch.wait_for(&["delete", "compareAndDelete"], &first);
    let so_far = watch.changes().iter().filter(|change| change.action == "set").count();
    assert!(so_far < usize::from(CROWD), "all of them were written before");
    within(PATIENCE, "the others", || scene.registered().len() == usize::from(CROWD) - 1);
}

/// One lease and few questions, however many entries there are.
#[test]
fn entries_of_a_host_share_their_refreshes() {
    const SIZE: usize = 100;
    let scene = Scene::with(Registry::Own(Box::new(Etcd::start())));
    let tap = Tap::of(scene.etcd.address());
    let watch = scene.etcd.watch(&scene.prefix);
    scene.docker.run_many(crowd(100));
    let url = format!("http://{}", tap.address());
    let words = ["register", "--all", "--ttl", "6s", "--etcd", &url, "--prefix", &scene.prefix];
    let docker = ["--docker", &scene.docker.address(), "--host-ip", HOST_IP];
    let _ambassador = ambassador(words.into_iter().chain(docker)).start();
    within(PATIENCE, "100 entries", || scene.registered().len() == SIZE);
    // They live on beyond their TTL, and nobody is woken.
    let requests = || tap.text().matches("POST /v3").count();
    let before = requests();
    proceed_after(Duration::from_secs(7));
    assert_eq!(scene.registered().len(), SIZE);
    assert_eq!(watch.so_far(&scene.etcd, &scene.prefix).len(), SIZE);
    if only_v2() {
        return; // It has no leases: each key is refreshed by itself.
    }
    let requests = requests() - before;
    assert!((5..60).contains(&requests), "{requests} requests in 7 s");
}
