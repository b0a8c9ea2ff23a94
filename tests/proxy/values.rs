//! What may stand in etcd, and what is skipped.

use super::*;

#[test]
fn values_of_other_registrars_are_followed() {
    for value in [
        r#"{ "port": PORT, "host": "127.0.0.1" }"#,
        r#"{"host":"127.0.0.1","port":PORT}"#,
        r#"{"host":"127.0.0.1","port":PORT,"priority":10,"weight":20,"text":"","ttl":30}"#,
        r#"{"host":"localhost","port":PORT,"more":{"nested":[1,2]}}"#,
        "127.0.0.1:PORT",
        "localhost:PORT",
        " 127.0.0.1:PORT\n",
    ] {
        let scene = Scene::new();
        let upstream = Upstream::greeter("hello");
        scene.put("one", &value.replace("PORT", &upstream.address().port().to_string()));
        let (_ambassador, address) = started(scene.proxy(["--wait", "5s"]));
        assert_eq!(read_all(address).ok().as_deref(), Some("hello"), "{value}");
    }
}

#[test]
fn unusable_values_are_skipped_with_one_warning_each_while_the_others_serve() {
    let scene = Scene::new();
    let large = "x".repeat(1 << 20);
    let bad = [
        ("port-0", r#"{ "port": 0, "host": "127.0.0.1" }"#),
        ("port-70000", r#"{ "port": 70000, "host": "127.0.0.1" }"#),
        ("port-negative", r#"{ "port": -1, "host": "127.0.0.1" }"#),
        ("port-missing", r#"{ "host": "127.0.0.1" }"#),
        ("host-missing", r#"{ "port": 6379 }"#),
        ("host-empty", r#"{ "port": 6379, "host": "" }"#),
        ("host-unspecified", r#"{ "port": 6379, "host": "0.0.0.0" }"#),
        ("host-unspecified-v6", "[::]:6379"),
        ("not-json", r#"{ "port": 6379, "host""#),
        ("prose", "this is not an address"),
        ("array", "[]"),
        ("number", "42"),
        ("empty", ""),
        ("large", &large),
    ];
    for (instance, value) in bad {
        scene.put(instance, value);
    }
    // In v3 it is a name that only other names begin with.
    let directory = etcd::only_v2().then_some(("a-directory", ""));
    if directory.is_some() {
        scene.etcd.make_dir(&scene.key("a-directory"));
    }
    scene.etcd.put(&scene.key("a-directory/inside"), "127.0.0.1:1");
    let upstream = Upstream::greeter("good");
    scene.register("good", &upstream);
    let (ambassador, address) = started(scene.proxy([]));
    assert_eq!(greetings(address, 5), ["good"; 5]);
    // More lists of the same directory must not repeat what was said.
    let other = Upstream::greeter("other");
    scene.register("other", &other);
    wait_for_greeting(address, "other");
    let said = |instance: &str| {
        let key = scene.key(instance);
        let is_whole_key = |line: &&String| {
            line.match_indices(&key).any(|(at, _)| {
                let after = line[at + key.len()..].chars().next();
                !after.is_some_and(|c| c.is_alphanumeric() || c == '-')
            })
        };
        ambassador.warnings(&[&key]).iter().filter(is_whole_key).count()
    };
    for (instance, _) in bad.iter().chain(&directory) {
        eventually(&format!("a warning of {instance}"), || said(instance) > 0);
        assert_eq!(said(instance), 1, "{instance}");
    }
    for line in ambassador.log() {
        assert!(line.len() < 2000, "a line of {} bytes: {}", line.len(), &line[..200]);
    }
    // Mended, one of them serves.
    let mended = Upstream::greeter("mended");
    scene.register("prose", &mended);
    wait_for_greeting(address, "mended");
}

#[test]
fn keys_below_an_instance_do_not_count() {
    let scene = Scene::new();
    let upstream = Upstream::greeter("good");
    scene.etcd.put(&scene.key("directory/below"), &upstream.registration());
    scene.etcd.put(&format!("{}/redis-AB/other", scene.prefix), &upstream.registration());
    scene.etcd.put(&format!("{}/redis-A-2", scene.prefix), &upstream.registration());
    let (_ambassador, address) = started(scene.proxy(["--wait", "500ms"]));
    assert_eq!(ending_of_new(address), Ending::Reset);
}
