//! `list` and `env`, and the binary under the names of the article's images.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::ambassador::{Ended, Launch, ambassador, called};
use crate::support::etcd::{self, Etcd};
use crate::support::fake_docker::{Container, FakeDocker};
use crate::support::redis::{Redis, ping};
use crate::support::upstream::Upstream;
use crate::support::{free_port, proceed_after, refusing_address, unique_prefix};

/// Runs `COMMAND --etcd URL --prefix PREFIX WORDS...`.
fn run(prefix: &str, command: &str, words: &[&str]) -> Ended {
    let url = etcd::shared().url();
    let fixed = [command, "--etcd", &url, "--prefix", prefix];
    ambassador(fixed.iter().chain(words)).run()
}

/// Two services with two and one instances, written in another order than they are sorted in.
fn filled() -> String {
    let prefix = unique_prefix();
    let etcd = etcd::shared();
    etcd.put(&format!("{prefix}/web/b"), "10.0.0.2:8080");
    let value = r#"{ "port": 6379, "host": "10.0.0.1", "weight": 5, "zone": "a" }"#;
    etcd.put_with_ttl(&format!("{prefix}/redis-A/redis.service"), value, 100);
    etcd.put(&format!("{prefix}/web/a"), r#"{"host":"web.local","port":80}"#);
    prefix
}

#[test]
fn list_prints_one_row_an_instance_sorted_by_service_and_instance() {
    let ended = run(&filled(), "list", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let rows: Vec<Vec<&str>> =
        ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |words: [&str; 2]| {
        let position = rows.iter().position(|row| row.starts_with(&words));
        position.unwrap_or_else(|| panic!("no row {words:?} in\n{}", ended.stdout))
    };
    let positions = [row(["redis-A", "redis.service"]), row(["web", "a"]), row(["web", "b"])];
    assert!(positions.is_sorted(), "{}", ended.stdout);
    for (position, address) in positions.into_iter().zip(["10.0.0.1", "web.local", "10.0.0.2"]) {
        assert!(rows[position].iter().any(|word| word.starts_with(address)), "{}", ended.stdout);
    }
}

#[test]
fn list_of_a_service_prints_only_that() {
    let ended = run(&filled(), "list", &["web"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("web.local"), "{ended:?}");
    assert!(!ended.stdout.contains("redis"), "{ended:?}");
}

#[test]
fn list_as_json_has_every_field_of_every_instance() {
    let ended = run(&filled(), "list", &["--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let listed: Value = serde_json::from_str(&ended.stdout).unwrap();
    let listed = listed.as_array().unwrap();
    let places: Vec<_> = listed
        .iter()
        .map(|entry| json!([entry["service"], entry["instance"], entry["host"], entry["port"]]))
        .collect();
    assert_eq!(
        places,
        [
            json!(["redis-A", "redis.service", "10.0.0.1", 6379]),
            json!(["web", "a", "web.local", 80]),
            json!(["web", "b", "10.0.0.2", 8080]),
        ]
    );
    assert_eq!(listed[0]["weight"], 5);
    assert_eq!(listed[0]["attributes"], json!({"zone": "a"}));
    assert!((90..=100).contains(&listed[0]["ttl_s"].as_i64().unwrap()), "{}", listed[0]);
    assert_eq!(listed[1]["ttl_s"], Value::Null);
    assert_eq!(listed[1]["attributes"], json!({}));
    let fields = ["service", "instance", "host", "port", "ttl_s", "weight", "attributes"];
    for entry in listed {
        assert_eq!(entry.as_object().unwrap().len(), fields.len(), "{entry}");
        assert!(fields.iter().all(|field| entry.get(field).is_some()), "{entry}");
    }
    let first = ended.stdout.split('}').next().unwrap();
    let order = fields.map(|field| first.find(&format!("\"{field}\"")));
    assert!(order.is_sorted() && order[0].is_some(), "{first}");
}

#[test]
fn unknown_service_is_an_empty_list_and_exit_1() {
    let prefix = filled();
    let ended = run(&prefix, "list", &["--json", "nothing"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout).unwrap(), json!([]));
    assert_eq!(run(&prefix, "list", &["nothing"]).code, Some(1));
}

#[test]
fn empty_store_is_an_empty_list_and_exit_0() {
    let prefix = unique_prefix();
    let ended = run(&prefix, "list", &["--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout).unwrap(), json!([]));
    assert_eq!(run(&prefix, "list", &[]).code, Some(0));
}

#[test]
fn prefix_may_be_written_with_and_without_slashes_around_it() {
    let prefix = filled();
    let name = prefix.trim_matches('/');
    for written in [format!("/{name}/"), name.to_owned(), format!("//{name}")] {
        let ended = run(&written, "list", &["web"]);
        assert_eq!(ended.code, Some(0), "{written}: {ended:?}");
        assert!(ended.stdout.contains("web.local"), "{written}: {ended:?}");
    }
}

#[test]
fn unusable_entry_is_left_out_of_the_list_with_a_warning() {
    let prefix = filled();
    etcd::shared().put(&format!("{prefix}/web/bad"), "not an address");
    let ended = run(&prefix, "list", &["--json", "web"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let listed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert!(ended.stderr.contains(&format!("{prefix}/web/bad")), "{ended:?}");
}

#[test]
fn env_prints_the_link_variables_of_the_first_instance() {
    let prefix = filled();
    for (words, alias, address, host, port, inner) in [
        (&["redis-A", "6379"][..], "REDIS_A", "10.0.0.1:6379", "10.0.0.1", "6379", "6379"),
        (&["web", "80"][..], "WEB", "web.local:80", "web.local", "80", "80"),
        (
            &["redis-A", "7000", "--alias", "db"][..],
            "db",
            "10.0.0.1:6379",
            "10.0.0.1",
            "6379",
            "7000",
        ),
    ] {
        let ended = run(&prefix, "env", words);
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        let mut lines: Vec<_> = ended.stdout.lines().map(str::to_uppercase).collect();
        lines.sort();
        let alias = alias.to_uppercase();
        let mut expected = [
            format!("{alias}_PORT=tcp://{address}"),
            format!("{alias}_PORT_{inner}_TCP=tcp://{address}"),
            format!("{alias}_PORT_{inner}_TCP_ADDR={host}"),
            format!("{alias}_PORT_{inner}_TCP_PORT={port}"),
            format!("{alias}_PORT_{inner}_TCP_PROTO=tcp"),
        ]
        .map(|line| line.to_uppercase());
        expected.sort();
        assert_eq!(lines, expected, "{words:?}");
        // Compared without case only for the alias: the rest is as Docker writes it.
        assert!(ended.stdout.contains(&format!("tcp://{address}\n")), "{ended:?}");
    }
}

#[test]
fn env_of_an_unknown_service_is_exit_1_and_prints_nothing() {
    let ended = run(&unique_prefix(), "env", &["redis-A", "6379"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("redis-A"), "{ended:?}");
}

#[test]
fn helpers_give_up_after_ten_seconds_without_etcd() {
    let nowhere = refusing_address().to_string();
    let list = ambassador(["list", "--etcd", &nowhere]).start();
    let env = ambassador(["env", "--etcd", &nowhere, "redis-A", "6379"]).start();
    let start = Instant::now();
    for ended in [list.finish(Duration::from_secs(20)), env.finish(Duration::from_secs(20))] {
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.contains(&nowhere), "{ended:?}");
    }
    let waited = start.elapsed();
    assert!((8..=16).contains(&waited.as_secs()), "{waited:?}");
}

#[test]
fn helper_waits_for_an_etcd_that_is_just_starting() {
    let mut etcd = Etcd::absent();
    let list = ambassador(["list", "--etcd", &etcd.url(), "--json"]).start();
    proceed_after(Duration::from_millis(500));
    etcd.start_again();
    let ended = list.finish(Duration::from_secs(12));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout.trim(), "[]");
}

/// As in `ambassador list | head -1`.
#[test]
fn reader_that_left_makes_no_helper_panic() {
    let prefix = filled();
    let url = etcd::shared().url();
    for words in [&["list"][..], &["list", "--json"], &["env", "web", "80"], &["list", "--help"]] {
        let launch = words.iter().fold(ambassador::<&str>([]), Launch::arg);
        let launch = launch.env("AMBASSADOR_ETCD", &*url).env("AMBASSADOR_PREFIX", &*prefix);
        let ended = launch.without_a_reader().run();
        assert!(ended.code.is_some_and(|code| code <= 1), "{words:?}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{words:?}: {ended:?}");
    }
}

/// The article's first half, each program under its old name: nothing on a
/// command line names a host but simple-amb's upstream.
#[test]
fn images_of_the_article_work_under_their_names() {
    let etcd = Etcd::start();
    let redis = Redis::start();
    let docker = FakeDocker::start();
    let host = redis.address().ip().to_string();
    // Fixed for as long as the test process runs, as a container's bindings are.
    let published: &'static str = Box::leak(host.clone().into_boxed_str());
    let bindings = [(published, redis.address().port())];
    docker.run(Container::named("redis.service").publishes(6379, &bindings));

    let simple_amb =
        called("simple-amb", ["--listen", "127.0.0.1:0", &etcd.address().to_string()]).start();
    let linked = simple_amb.address().port().to_string();
    let register = called("docker-register", ["redis.service", "6379", "redis-A"])
        .env("ETCD_PORT_10000_TCP_ADDR", "127.0.0.1")
        .env("ETCD_PORT_10000_TCP_PORT", &*linked)
        .env("DOCKER_HOST", docker.address())
        // It is on loopback here, which nobody would do in earnest.
        .env("AMBASSADOR_HOST_IP", host)
        .start();
    let key = "/services/redis-A/redis.service";
    etcd.wait_for_value(key, &crate::support::upstream::registration(redis.address()));

    let port = free_port();
    let dynamic = called("dynamic-etcd-amb", ["redis-A", &port.to_string()])
        .env("ETCD_PORT_10000_TCP_ADDR", "127.0.0.1")
        .env("ETCD_PORT_10000_TCP_PORT", &*linked)
        .start();
    assert_eq!(dynamic.address().port(), port);
    ping(dynamic.address()).unwrap();

    assert_eq!(register.terminate().code, Some(0));
    assert_eq!(etcd.get(key), None);
    assert_eq!(dynamic.terminate().code, Some(0));
    assert_eq!(simple_amb.terminate().code, Some(0));
}

#[test]
fn explicit_command_works_under_an_old_name_too() {
    let upstream = Upstream::greeter("hello");
    let target = upstream.address().to_string();
    let ended = called("ambassador-1.0", ["list", "--etcd", &etcd::shared().url()])
        .arg("--prefix")
        .arg(unique_prefix())
        .run();
    assert_eq!(ended.code, Some(0), "any other name is the whole program: {ended:?}");
    let ambassador = called("simple-amb", ["--listen", "127.0.0.1:0", &target]).start();
    assert_eq!(crate::support::client::read_all(ambassador.address()).unwrap(), "hello");
}
