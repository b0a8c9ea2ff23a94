//! What an earlier life of the host left behind.

use std::collections::BTreeSet;

use super::*;
use crate::support::etcd::Etcd;

#[test]
fn entries_of_containers_that_are_gone_are_removed_at_start() {
    let scene = Scene::new();
    let put = |key: &str| scene.etcd.put(&format!("{}/{key}", scene.prefix), "172.17.8.102:1");
    let orphans = ["nginx/fake-host:gone:80", "dns-53/fake-host:gone:53:udp", "db/fake-host:c:1"];
    // Of others, of another form, and of a container that runs and is somebody else's business.
    let others = [
        "nginx/fake-host-2:gone:80",
        "nginx/fake:gone:80",
        "nginx/fake-host:gone",
        "nginx/gone",
        "own/fake-host:a:99",
    ];
    orphans.iter().chain(&others).for_each(|key| put(key));
    scene.docker.run(web("a", "nginx", 8080));
    scene.docker.run(web("c", "nginx", 8081));
    scene.docker.exit("c");
    let _ambassador = scene.registering();
    let expected: BTreeSet<&str> = others.into_iter().chain(["nginx/fake-host:a:80"]).collect();
    eventually("only the orphans are gone", || {
        let registered = scene.registered();
        registered.keys().map(String::as_str).collect::<BTreeSet<&str>>() == expected
    });
    // That of the container that ran goes with it.
    scene.docker.remove("a");
    let expected: BTreeSet<&str> = others.into_iter().filter(|key| !key.contains(":a:")).collect();
    eventually("what was of a is gone", || {
        let registered = scene.registered();
        registered.keys().map(String::as_str).collect::<BTreeSet<&str>>() == expected
    });
}

#[test]
fn killed_registrar_leaves_nothing_behind_once_it_runs_again() {
    let scene = Scene::new();
    scene.docker.run(web("a", "nginx", 8080));
    scene.docker.run(web("b", "nginx", 8081));
    let launch = || scene.register(["--ttl", "1h"]).args(REGISTRATOR);
    let first = launch().start();
    let a = ("nginx/fake-host:a:80", "172.17.8.102:8080");
    scene.wait_for(&[a, ("nginx/fake-host:b:80", "172.17.8.102:8081")]);
    first.kill();
    scene.docker.remove("b");
    let _second = launch().start();
    scene.wait_for(&[a]);
}

#[test]
fn orphans_are_removed_once_etcd_answers() {
    let mut etcd = Etcd::start();
    etcd.put("/services/nginx/fake-host:gone:80", "172.17.8.102:1");
    etcd.stop();
    let docker = FakeDocker::start();
    docker.run(web("a", "nginx", 8080));
    let words = ["register", "--all", "--etcd", &etcd.url(), "--docker", &docker.address()];
    let ambassador = ambassador(words).args(["--host-ip", HOST_IP]).start();
    ambassador.wait_for_warning(&[&etcd.address().to_string()]);
    etcd.start_again();
    etcd.wait_for_absence("/services/nginx/fake-host:gone:80");
    eventually("a is registered", || etcd.get("/services/nginx/fake-host:a:80").is_some());
}
