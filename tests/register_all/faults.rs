//! What goes wrong for a moment, or for one container, takes nobody else out.

use super::*;
use crate::support::etcd::{Api, only_v2};
use crate::support::fake_docker::Fault;
use crate::support::proceed_after;

const A: (&str, &str) = ("nginx/fake-host:a:80", "172.17.8.102:8080");
const B: (&str, &str) = ("nginx/fake-host:b:80", "172.17.8.102:8081");

fn with_a_and_b() -> Scene {
    let scene = Scene::new();
    scene.docker.run_many(vec![web("a", "nginx", 8080), web("b", "nginx", 8081)]);
    scene
}

impl Scene {
    fn lists(&self) -> usize {
        let requests = self.docker.requests();
        requests.iter().filter(|line| line.starts_with("GET /containers/json")).count()
    }
}

/// One look fails, and the next thing that Docker tells of is one container.
#[test]
fn event_after_a_failed_look_takes_nobody_else_out() {
    let scene = with_a_and_b();
    let _ambassador = scene.registering();
    scene.wait_for(&[A, B]);
    let watch = scene.etcd.watch(&scene.prefix);
    let busy = Fault::Answer(500, "application/json", r#"{"message":"busy"}"#);
    for _ in 0..3 {
        scene.docker.set_fault(Some(busy.clone()));
        let before = scene.docker.requests().len();
        scene.docker.pause("b");
        eventually("looks that fail", || scene.docker.requests().len() >= before + 4);
        scene.docker.set_fault(None);
        scene.docker.unpause("b");
        scene.wait_for(&[A, B]);
    }
    let changes = watch.so_far(&scene.etcd, &scene.prefix);
    assert!(changes.iter().all(|change| !change.contains(A.0)), "a never changed: {changes:#?}");
}

/// The lease lives on by the other entries of the host.
#[test]
fn container_that_ends_while_etcd_is_away_leaves_nothing_behind() {
    if !only_v2() {
        return; // The other run does it, with v3: v2's keys have lives of their own.
    }
    let mut etcd = Etcd::absent_with(Api::V3).started();
    let docker = FakeDocker::start();
    docker.run_many(vec![web("a", "nginx", 8080), web("b", "nginx", 8081)]);
    let words = ["register", "--all", "--ttl", "9s", "--etcd", &etcd.url(), "--etcd-api", "v3"];
    let at = ["--docker", &docker.address(), "--host-ip", HOST_IP];
    let _ambassador = ambassador(words.into_iter().chain(at)).start();
    let [a, b] = ["a", "b"].map(|name| format!("/services/nginx/fake-host:{name}:80"));
    eventually("both", || etcd.get(&a).is_some() && etcd.get(&b).is_some());
    etcd.stop();
    docker.remove("a");
    // Longer than the TTL, after which etcd gives leases a whole one again.
    proceed_after(Duration::from_secs(11));
    etcd.start_again();
    eventually("a is removed", || etcd.get(&a).is_none());
    assert!(etcd.get(&b).is_some());
}

#[test]
fn docker_is_listed_every_15_s_while_events_come_in() {
    if !only_v2() {
        return; // It has nothing to do with etcd.
    }
    let scene = with_a_and_b();
    let _ambassador = scene.registering();
    scene.wait_for(&[A, B]);
    let before = scene.lists();
    let is_listed = || scene.lists() > before;
    for _ in 0..16 {
        scene.docker.pause("b");
        proceed_after(Duration::from_millis(500));
        scene.docker.unpause("b");
        proceed_after(Duration::from_millis(500));
    }
    assert!(is_listed(), "not once in 16 s");
}

/// `docker stop` of a container whose health check has not passed yet, and passes meanwhile.
#[test]
fn container_that_is_being_stopped_is_not_registered() {
    let scene = Scene::new();
    scene.docker.run(web("a", "nginx", 8080).with_healthcheck());
    scene.docker.run(web("b", "nginx", 8081));
    let watch = scene.etcd.watch(&scene.prefix);
    let _ambassador = scene.registering();
    scene.wait_for(&[B]);
    scene.docker.send_signal("a", Some("15"));
    scene.docker.set_health("a", "healthy");
    // Whatever comes later comes after it.
    scene.docker.run(web("c", "nginx", 8082));
    let c = ("nginx/fake-host:c:80", "172.17.8.102:8082");
    watch.wait_for(&["set"], &format!("{}/{}", scene.prefix, c.0));
    let changes = watch.changes().into_iter().map(|change| change.key);
    assert!(changes.into_iter().all(|key| !key.ends_with(A.0)));
    scene.docker.restart("a", 80, &[("0.0.0.0", 8080)]);
    scene.docker.set_health("a", "healthy");
    scene.wait_for(&[A, B, c]);
}

#[test]
fn udp_port_does_not_have_to_pass_a_check_of_tcp() {
    let scene = Scene::new();
    scene.docker.run(Container::named("log").image("log").publishes_udp(514, &[("0.0.0.0", 514)]));
    let options = ["--host-ip", "127.0.0.1", "--check", "tcp"];
    let _ambassador = scene.register_at(options).args(REGISTRATOR).start();
    scene.wait_for(&[("log/fake-host:log:514:udp", "127.0.0.1:514")]);
}

/// A broken layer, or a lock that somebody holds.
#[test]
fn container_that_cannot_be_inspected_keeps_what_it_had_and_disturbs_no_other() {
    let scene = Scene::new();
    let sick = web("a", "nginx", 8080);
    let id = sick.id().to_owned();
    scene.docker.run_many(vec![sick, web("b", "nginx", 8081)]);
    let ambassador = scene.registering();
    scene.wait_for(&[A, B]);
    scene.docker.set_sick(Some(&id));
    scene.docker.end_events_streams();
    ambassador.wait_for_warning(&[&id, "cannot be inspected", "layer does not exist"]);
    scene.docker.pause("b");
    scene.wait_for(&[A]);
    scene.docker.run(web("c", "nginx", 8082));
    let c = ("nginx/fake-host:c:80", "172.17.8.102:8082");
    scene.wait_for(&[A, c]);
    // Its end can be seen all the same.
    scene.docker.remove("a");
    scene.wait_for(&[c]);
    assert_eq!(ambassador.warnings(&[&id]).len(), 1, "{:#?}", ambassador.log());
    assert_eq!(ambassador.warnings(&["entries are kept"]), Vec::<String>::new());
}

/// It may be the one that an entry of before is of.
#[test]
fn nothing_is_swept_while_a_container_cannot_be_inspected() {
    let scene = Scene::new();
    let sick = web("a", "nginx", 8080);
    let id = sick.id().to_owned();
    scene.docker.run_many(vec![sick, web("b", "nginx", 8081)]);
    scene.docker.set_sick(Some(&id));
    scene.etcd.put(&format!("{}/{}", scene.prefix, A.0), "172.17.8.102:1");
    let ambassador = scene.registering();
    let of_before = (A.0, "172.17.8.102:1");
    scene.wait_for(&[of_before, B]);
    ambassador.wait_for_warning(&[&id]);
    proceed_after(Duration::from_secs(1));
    scene.wait_for(&[of_before, B]);
    scene.docker.set_sick(None);
    scene.docker.end_events_streams();
    scene.wait_for(&[A, B]);
}

#[test]
fn port_on_loopback_alone_is_not_registered_at_the_hosts_address() {
    let scene = Scene::new();
    scene.docker.run(Container::named("own").image("own").publishes(80, &[("127.0.0.1", 8080)]));
    scene.docker.run(web("b", "nginx", 8081));
    let ambassador = scene.registering();
    scene.wait_for(&[B]);
    ambassador.wait_for_warning(&["own publishes 80/tcp on loopback alone"]);
}
