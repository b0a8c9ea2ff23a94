//! One key, two owners: who starts writes, and nobody deletes what is not its own.

use super::*;

const FOREIGN: &str = r#"{ "port": 6379, "host": "10.7.7.7" }"#;
const SAME_HOST: &str = r#"{ "port": 40000, "host": "10.132.181.182" }"#;

#[test]
fn value_found_at_the_start_is_overwritten() {
    let scene = Scene::running();
    scene.etcd.put(&scene.key(), FOREIGN);
    let _ambassador = scene.registered([]);
    // Written with a TTL, though the other value had none.
    assert!(scene.etcd.ttl_s(&scene.key()).is_some());
}

#[test]
fn foreign_value_is_warned_of_once_and_left_until_the_key_vanishes() {
    let scene = Scene::running();
    let ambassador = scene.registered(["--ttl", "3s"]);
    let watch = scene.watch();
    scene.etcd.put(&scene.key(), FOREIGN);
    ambassador.wait_for_warning(&[&scene.key()]);
    // Two more refreshes come and go: Docker events make the registrar look too.
    for _ in 0..3 {
        let asked = scene.docker.requests().len();
        scene.docker.send_signal(CONTAINER, Some("1"));
        eventually("Docker is asked again", || scene.docker.requests().len() > asked);
    }
    proceed_after(Duration::from_millis(2500));
    assert_eq!(ambassador.warnings(&[&scene.key()]).len(), 1, "{:#?}", ambassador.log());
    let changes = watch.so_far(scene.etcd, &scene.prefix);
    assert_eq!(changes, [format!("set {}", scene.key())], "only the foreign write");
    scene.etcd.delete(&scene.key());
    scene.wait_for_port(49155);
}

#[test]
fn foreign_value_is_overwritten_when_the_own_container_starts_again() {
    let scene = Scene::running();
    let ambassador = scene.registered(["--ttl", "3s"]);
    scene.etcd.put(&scene.key(), FOREIGN);
    ambassador.wait_for_warning(&[&scene.key()]);
    scene.docker.restart(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
    scene.wait_for_port(49156);
}

#[test]
fn foreign_value_that_names_the_same_host_is_written_again() {
    let scene = Scene::running();
    let _ambassador = scene.registered(["--ttl", "3s"]);
    scene.etcd.put(&scene.key(), SAME_HOST);
    scene.wait_for_port(49155);
}

/// Two registrars of one host must not write against each other in a circle.
#[test]
fn foreign_value_of_the_same_host_is_fought_at_most_once_in_ten_seconds() {
    let scene = Scene::running();
    let _ambassador = scene.registered(["--ttl", "3s"]);
    scene.etcd.put(&scene.key(), SAME_HOST);
    scene.wait_for_port(49155);
    let rewritten = Instant::now();
    scene.etcd.put(&scene.key(), SAME_HOST);
    within(Duration::from_secs(20), "written again", || {
        scene.etcd.get(&scene.key()) == Some(value(49155))
    });
    let left = rewritten.elapsed();
    assert!(left > Duration::from_secs(8), "fought again after {left:?}");
}

/// As after a unit was copied and its `--instance` was not changed.
#[test]
fn two_registrars_of_one_key_on_one_host_write_it_at_most_once_in_ten_seconds_each() {
    let scene = Scene::running();
    scene.docker.run(Container::named("other").publishes(6379, &[(ARTICLES_HOST, 49156)]));
    let key = format!("{}/{SERVICE}/shared", scene.prefix);
    let watch = scene.watch();
    let url = scene.etcd.url();
    let fixed = ["register", "--etcd", &url, "--prefix", &scene.prefix, "--ttl", "3s"];
    let docker = ["--docker", &scene.docker.address(), "--instance", "shared"];
    let _ambassadors = [CONTAINER, "other"].map(|container| {
        let words = fixed.into_iter().chain(docker);
        ambassador(words.chain([container, "6379", SERVICE])).start()
    });
    // Long enough for each to write again, and not for a third time.
    proceed_after(Duration::from_secs(14));
    watch.so_far(scene.etcd, &scene.prefix);
    let changes = watch.changes();
    for port in [49155, 49156] {
        let is_own = |change: &&Change| change.value == Some(value(port)) && change.key == key;
        let writes: Vec<Instant> = changes.iter().filter(is_own).map(|change| change.at).collect();
        assert!(!writes.is_empty(), "{changes:#?}");
        let gaps: Vec<Duration> = writes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap > Duration::from_secs(9)), "{port}: {gaps:?}");
    }
}

#[test]
fn sigterm_leaves_a_value_that_is_not_its_own() {
    let scene = Scene::running();
    let ambassador = scene.registered([]);
    scene.etcd.put(&scene.key(), FOREIGN);
    let ended = ambassador.terminate();
    assert_eq!(ended.code, Some(0));
    assert_eq!(scene.etcd.get(&scene.key()).as_deref(), Some(FOREIGN));
}

#[test]
fn stopped_container_leaves_a_value_that_is_not_its_own() {
    let scene = Scene::running();
    let ambassador = scene.registered([]);
    scene.etcd.put(&scene.key(), FOREIGN);
    let watch = scene.watch();
    scene.docker.stop_container(CONTAINER);
    // Events are told in order: with the start known, the stop was too.
    scene.docker.start_container(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
    scene.wait_for_port(49156);
    let changes = watch.so_far(scene.etcd, &scene.prefix);
    assert_eq!(changes, [format!("set {}", scene.key())]);
    assert_eq!(ambassador.terminate().code, Some(0));
}

#[test]
fn container_that_moved_leaves_the_entry_to_its_new_registrar() {
    let scene = Scene::running();
    let other_host = Scene { prefix: scene.prefix.clone(), ..Scene::empty() };
    let first = scene.registered(["--ttl", "3s"]);
    let moved = Container::named(CONTAINER).publishes(6379, &[("10.7.7.7", 6379)]);
    other_host.docker.run(moved);
    let _second = other_host.register(["--ttl", "3s"]).start();
    scene.etcd.wait_for_value(&scene.key(), FOREIGN);
    // The container of the first host ends late.
    let watch = scene.watch();
    scene.docker.stop_container(CONTAINER);
    assert_eq!(first.terminate().code, Some(0));
    assert_eq!(watch.so_far(scene.etcd, &scene.prefix), Vec::<String>::new());
    assert_eq!(scene.etcd.get(&scene.key()).as_deref(), Some(FOREIGN));
}
