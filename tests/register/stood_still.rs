//! A process, or its whole host, was away for longer than its entry lived: it looks
//! before it writes.

use super::*;
use crate::support::all_at_once;

const OTHER: &str = "other.service";

#[test]
fn process_that_stood_still_beyond_its_ttl_does_not_write_the_port_of_before() {
    let is_heard_of = |docker: &FakeDocker| {
        docker.restart(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
    };
    // As when Docker was restarted too: nothing tells of it but a look.
    let is_unheard_of = |docker: &FakeDocker| {
        docker.crash();
        docker.restart_unheard(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
        docker.listen();
    };
    all_at_once(vec![is_heard_of as fn(&FakeDocker), is_unheard_of], |container_restarts| {
        let scene = Scene::running();
        let mut ambassador = scene.registered(["--ttl", "3s"]);
        let watch = scene.watch();
        ambassador.signal("STOP");
        container_restarts(&scene.docker);
        watch.wait_for(etcd::expiries(), &scene.key());
        ambassador.signal("CONT");
        // Long before the next regular look at Docker, of which there is one in 15 s.
        within(Duration::from_secs(5), "the new port", || {
            scene.etcd.get(&scene.key()) == Some(value(49156))
        });
        scene.etcd.wait_for_refreshes(&scene.key(), 2);
        assert_eq!(written(&scene, &watch, &scene.key()), [value(49156)]);
    });
}

#[test]
fn process_that_stood_still_leaves_the_entry_to_who_took_it_over_meanwhile() {
    const FOREIGN: &str = r#"{ "port": 6379, "host": "10.7.7.7" }"#;
    let scene = Scene::running();
    let mut ambassador = scene.registered(["--ttl", "3s"]);
    let watch = scene.watch();
    ambassador.signal("STOP");
    watch.wait_for(etcd::expiries(), &scene.key());
    scene.etcd.put(&scene.key(), FOREIGN);
    ambassador.signal("CONT");
    ambassador.wait_for_warning(&[&scene.key()]);
    proceed_after(Duration::from_millis(1500));
    assert_eq!(written(&scene, &watch, &scene.key()), [FOREIGN]);
    assert_eq!(ambassador.terminate().code, Some(0));
    assert_eq!(scene.etcd.get(&scene.key()).as_deref(), Some(FOREIGN));
}

/// What is in etcd is from before: each of the two entries now leads to the other one.
#[test]
fn ports_that_two_containers_swapped_over_a_host_restart_are_put_right_by_the_first_look() {
    let scene = Scene::running();
    scene.docker.run(Container::named(OTHER).publishes(6379, &[(ARTICLES_HOST, 49156)]));
    let keys = [CONTAINER, OTHER].map(|name| format!("{}/{SERVICE}/{name}", scene.prefix));
    let start = || [CONTAINER, OTHER].map(|name| register(&scene, name).start());
    let before = start();
    scene.etcd.wait_for_value(&keys[0], &value(49155));
    scene.etcd.wait_for_value(&keys[1], &value(49156));
    before.into_iter().for_each(Ambassador::kill);
    scene.docker.crash();
    let watch = scene.watch();
    let lives = || keys.each_ref().map(|key| scene.etcd.life(key).unwrap());
    let left_behind = lives();
    for (name, port) in [(CONTAINER, 49156), (OTHER, 49155)] {
        scene.docker.change_silently(name, |container| {
            *container = container.clone().publishes(6379, &[(ARTICLES_HOST, port)]);
        });
    }
    // As units do, they start before Docker has.
    let after = start();
    for ambassador in &after {
        ambassador.wait_for_warning(&[&scene.docker.socket().display().to_string()]);
    }
    proceed_after(Duration::from_secs(1));
    for (now, before) in lives().iter().zip(&left_behind) {
        let is_refreshed = now.is_another_than(before);
        assert!(!is_refreshed, "what nobody has looked at is not refreshed: {before:?}, {now:?}");
    }
    scene.docker.listen();
    // Long before the minute is over for which the old ones were written.
    within(Duration::from_secs(10), "both entries put right", || {
        let values = keys.each_ref().map(|key| scene.etcd.get(key).unwrap());
        values == [value(49156), value(49155)]
    });
    assert_eq!(written(&scene, &watch, &keys[0]), [value(49156)]);
    assert_eq!(written(&scene, &watch, &keys[1]), [value(49155)]);
    let removals = |change: &String| !change.starts_with("set ");
    assert!(!watch.so_far(scene.etcd, &scene.prefix).iter().any(removals));
}

/// `register --ttl 1m NAME 6379 redis-A`.
fn register(scene: &Scene, name: &str) -> Launch {
    let fixed = ["register", "--ttl", "1m", "--etcd", &scene.etcd.url()];
    let place = ["--prefix", &scene.prefix, "--docker", &scene.docker.address()];
    ambassador(fixed.into_iter().chain(place).chain([name, "6379", SERVICE]))
}

/// Every value that was written to `key` so far.
fn written(scene: &Scene, watch: &Watch, key: &str) -> Vec<String> {
    // Until now, to be sure.
    watch.so_far(scene.etcd, &scene.prefix);
    let changes = watch.changes().into_iter();
    changes.filter(|change| change.key == key).filter_map(|change| change.value).collect()
}
