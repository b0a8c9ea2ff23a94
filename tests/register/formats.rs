//! The same entry as other registries write it.

use super::*;

/// The example of registrator's own documentation, at the host of the fake.
fn redis_0() -> Scene {
    let scene = Scene::empty();
    let bindings = &[("172.17.8.102", 6379)];
    scene.docker.run(Container::named("redis.0").publishes(6379, bindings));
    scene
}

fn register<const N: usize>(scene: &Scene, options: [&str; N]) -> Launch {
    let fixed = ["register", "--etcd", &scene.etcd.url(), "--prefix", &scene.prefix];
    let docker = ["--docker", &scene.docker.address()];
    let words = fixed.into_iter().chain(docker).chain(options);
    ambassador(words.chain(["redis.0", "6379", "redis"]))
}

#[test]
fn every_format_is_written_kept_alive_and_taken_out() {
    let scene = redis_0();
    let prefix = &scene.prefix;
    let entries = [
        (
            format!("{prefix}/redis/redis.0"),
            r#"{ "port": 6379, "host": "172.17.8.102" }"#.to_owned(),
        ),
        (format!("{prefix}/redis/fake-host:redis.0:6379"), "172.17.8.102:6379".to_owned()),
        (
            format!("/skydns/local{prefix}/redis/fake-host-redis-0-6379"),
            r#"{"host":"172.17.8.102","port":6379}"#.to_owned(),
        ),
    ];
    let options = ["--ttl", "3s", "--format", "ambassador,registrator", "--format", "skydns"];
    let ambassador = register(&scene, options).start();
    for (key, value) in &entries {
        scene.etcd.wait_for_value(key, value);
        scene.etcd.wait_for_refreshes(key, 3);
    }
    scene.docker.stop_container("redis.0");
    for (key, _) in &entries {
        scene.etcd.wait_for_absence(key);
    }
    scene.docker.start_container("redis.0", 6379, &[("172.17.8.102", 6380)]);
    scene.etcd.wait_for_value(&entries[1].0, "172.17.8.102:6380");
    assert_eq!(ambassador.terminate().code, Some(0));
    for (key, _) in &entries {
        assert_eq!(scene.etcd.get(key), None, "{key}");
    }
}

#[test]
fn explain_shows_every_entry() {
    let scene = redis_0();
    let ended = register(&scene, ["--format", "registrator,skydns", "--explain"]).run();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let keys: Vec<&str> =
        ended.stdout.lines().filter_map(|line| line.strip_prefix("key    ")).collect();
    assert_eq!(
        keys,
        [
            format!("{}/redis/fake-host:redis.0:6379", scene.prefix),
            format!("/skydns/local{}/redis/fake-host-redis-0-6379", scene.prefix),
        ]
    );
    assert_eq!(scene.etcd.list(&format!("{}/redis", scene.prefix)), Vec::<String>::new());
}

#[test]
fn instance_option_names_the_entry_in_every_format() {
    let scene = redis_0();
    let options = ["--format", "registrator", "--instance", "my-id"];
    let _ambassador = register(&scene, options).start();
    scene.etcd.wait_for_value(&format!("{}/redis/my-id", scene.prefix), "172.17.8.102:6379");
}
