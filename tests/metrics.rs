//! `/metrics`: what is counted is what happened.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use crate::support::ambassador::{Ambassador, ambassador};
use crate::support::client::{Ending, connect, ending_of_new, open_connection, read_all};
use crate::support::etcd::{self, Etcd};
use crate::support::fake_docker::{Container, FakeDocker};
use crate::support::http;
use crate::support::upstream::{Upstream, reset};
use crate::support::{eventually, refusing_address, unique_prefix};

/// All samples of one scrape.
struct Scrape(String);

impl Scrape {
    fn of(admin: SocketAddr) -> Scrape {
        let answer = http::ask(connect(admin).unwrap(), "GET", "/metrics", None).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Scrape(answer.body)
    }

    /// The sum of all samples of `name` that have each of `labels` in their braces.
    fn sum<const N: usize>(&self, name: &str, labels: [&str; N]) -> f64 {
        let samples = self.0.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (of, braces) = series.split_once('{').unwrap_or((series, ""));
            let is_meant = of == name && labels.iter().all(|label| braces.contains(label));
            is_meant.then(|| value.parse::<f64>().unwrap())
        });
        samples.sum()
    }
}

fn proxy(etcd: &str, prefix: &str, options: &[&str]) -> Ambassador {
    let words = ["proxy", "--admin", "127.0.0.1:0", "--etcd", etcd, "--prefix", prefix];
    let route = ["redis-A", "127.0.0.1:0"];
    ambassador(words.iter().chain(options).chain(&route)).start()
}

fn addresses(proxy: &Ambassador) -> (SocketAddr, SocketAddr) {
    (proxy.address_of("admin"), proxy.address_of("redis-A"))
}

#[test]
fn connections_and_their_bytes_are_counted_while_they_are_open_and_after() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let upstream = Upstream::echo();
    etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
    let proxy = proxy(&etcd.url(), &prefix, &[]);
    let (admin, front) = addresses(&proxy);
    let service = r#"service="redis-A""#;
    let instance = &format!("\"{}\"", upstream.address());
    let of_instance = |name: &str| Scrape::of(admin).sum(name, [service, instance]);

    let mut client = open_connection(front); // It has sent a byte and got it back.
    let bytes = |direction| {
        let direction = &format!("direction=\"{direction}\"");
        Scrape::of(admin).sum("ambassador_instance_bytes_total", [service, instance, direction])
    };
    assert_eq!((bytes("up"), bytes("down")), (1.0, 1.0));
    client.write_all(&[7; 99_999]).unwrap();
    client.read_exact(&mut [0; 99_999]).unwrap();
    eventually("all bytes are told", || (bytes("up"), bytes("down")) == (100_000.0, 100_000.0));
    assert_eq!(of_instance("ambassador_instance_connections_open"), 1.0);
    assert_eq!(of_instance("ambassador_instance_connections_total"), 1.0);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    eventually("it is closed", || of_instance("ambassador_instance_connections_open") == 0.0);
    assert_eq!((bytes("up"), bytes("down")), (100_000.0, 100_000.0), "no byte is counted twice");
    assert_eq!(of_instance("ambassador_instance_connections_reset_total"), 0.0);
    reset(open_connection(front));
    eventually("a reset", || of_instance("ambassador_instance_connections_reset_total") == 1.0);
    // Nobody asked while that one was open.
    assert_eq!((bytes("up"), bytes("down")), (100_001.0, 100_001.0));

    let scrape = Scrape::of(admin);
    for histogram in ["ambassador_instance_dial_seconds", "ambassador_instance_first_byte_seconds"]
    {
        let count = scrape.sum(&format!("{histogram}_count"), [service, instance]);
        let all = scrape.sum(&format!("{histogram}_bucket"), [service, instance, "le=\"+Inf\""]);
        assert_eq!((count, all), (2.0, 2.0), "{histogram}");
    }
    assert_eq!(scrape.sum("ambassador_client_wait_seconds_count", [service]), 2.0);
    assert_eq!(scrape.sum("ambassador_service_instances", [service]), 1.0);
    assert_eq!(scrape.sum("ambassador_build_info", [r#"role="proxy""#]), 1.0);
    assert!(scrape.sum("ambassador_threads", []) >= 7.0, "{}", scrape.0);
    assert!(scrape.sum("process_resident_memory_bytes", []) > 1e6);
    let requests = |kind| scrape.sum("ambassador_etcd_requests_total", [kind, "answered"]);
    assert!(requests("kind=\"list\"") >= 1.0, "{}", scrape.0);
    assert_eq!(scrape.sum("ambassador_etcd_requests_total", ["failed"]), 0.0);
}

#[test]
fn first_byte_is_measured_from_the_question_it_answers() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let upstream = Upstream::echo();
    etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
    let proxy = proxy(&etcd.url(), &prefix, &[]);
    let (admin, front) = addresses(&proxy);
    let mut client = connect(front).unwrap();
    // A client that thinks before it asks is none of the upstream's delay.
    crate::support::proceed_after(std::time::Duration::from_millis(600));
    client.write_all(b"?").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let scrape = Scrape::of(admin);
    assert_eq!(scrape.sum("ambassador_instance_first_byte_seconds_count", []), 1.0);
    let took = scrape.sum("ambassador_instance_first_byte_seconds_sum", []);
    assert!(took < 0.5, "{took}");
}

#[test]
fn failed_dials_ejections_and_clients_without_an_instance_are_counted_by_reason() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let refusing = refusing_address();
    etcd.put(&format!("{prefix}/redis-A/one"), &refusing.to_string());
    let proxy = proxy(&etcd.url(), &prefix, &["--wait", "1s"]);
    let (admin, front) = addresses(&proxy);
    eventually("it is known", || Scrape::of(admin).sum("ambassador_service_instances", []) == 1.0);
    let held = std::thread::spawn(move || ending_of_new(front));
    eventually("it is held", || Scrape::of(admin).sum("ambassador_clients_held", []) == 1.0);
    assert_eq!(held.join().unwrap(), Ending::Reset);
    eventually("it is not held", || Scrape::of(admin).sum("ambassador_clients_held", []) == 0.0);
    let scrape = Scrape::of(admin);
    let unserved = |reason| scrape.sum("ambassador_clients_unserved_total", [reason]);
    assert_eq!((unserved("waited_in_vain"), unserved("gave_up")), (1.0, 0.0));
    let failures = |reason| scrape.sum("ambassador_instance_dial_failures_total", [reason]);
    assert!(failures("refused") >= 2.0, "{}", scrape.0);
    assert_eq!(failures(""), failures("refused"));
    assert_eq!(scrape.sum("ambassador_instance_ejections_total", []), 1.0);
    assert_eq!(scrape.sum("ambassador_instance_ejected", []), 1.0);
    assert_eq!(scrape.sum("ambassador_ready", []), 1.0);

    // One that gives up meanwhile is another reason.
    reset(connect(front).unwrap());
    eventually("it gave up", || {
        Scrape::of(admin).sum("ambassador_clients_unserved_total", ["gave_up"]) == 1.0
    });
}

#[test]
fn silence_of_etcd_is_told_with_what_was_asked_in_vain() {
    let mut etcd = Etcd::start();
    etcd.put("/services/redis-A/one", "127.0.0.1:1");
    let proxy = proxy(&etcd.url(), "/services", &[]);
    let admin = proxy.address_of("admin");
    eventually("etcd answers", || Scrape::of(admin).sum("ambassador_etcd_up", []) == 1.0);
    assert_eq!(Scrape::of(admin).sum("ambassador_etcd_silent_seconds", []), 0.0);
    etcd.stop();
    eventually("etcd is silent", || {
        Scrape::of(admin).sum("ambassador_etcd_silent_seconds", []) >= 1.0
    });
    let scrape = Scrape::of(admin);
    assert_eq!(scrape.sum("ambassador_etcd_up", []), 0.0);
    assert!(scrape.sum("ambassador_service_stale_seconds", ["redis-A"]) >= 1.0);
    assert!(scrape.sum("ambassador_etcd_requests_total", ["list", "failed"]) >= 1.0);
    assert!(scrape.sum("ambassador_etcd_last_answer_age_seconds", []) >= 1.0);
}

#[test]
fn registrar_counts_its_entries_and_what_docker_and_etcd_were_asked() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let docker = FakeDocker::start();
    docker.run(Container::named("redis").publishes(6379, &[("10.1.0.1", 49155)]));
    let words = ["register", "--admin", "127.0.0.1:0", "--etcd", &etcd.url(), "--prefix", &prefix];
    let rest = ["--docker", &docker.address(), "redis", "6379", "redis-A"];
    let registrar = ambassador(words.into_iter().chain(rest)).start();
    let admin = registrar.address();
    let registered = || Scrape::of(admin).sum("ambassador_registrations", ["registered"]);
    eventually("it is registered", || registered() == 1.0);
    docker.wait_until_followed();
    let events = || Scrape::of(admin).sum("ambassador_docker_events_total", []);
    assert_eq!(events(), 0.0);
    // Gone before it is taken out, which is an answer of etcd too.
    etcd.delete(&format!("{prefix}/redis-A/redis"));
    docker.pause("redis");
    eventually("it is taken out", || registered() == 0.0);
    assert_eq!(events(), 1.0);
    let scrape = Scrape::of(admin);
    assert_eq!(scrape.sum("ambassador_etcd_requests_total", ["failed"]), 0.0);
    for (name, labels) in [
        ("ambassador_etcd_requests_total", ["put", "answered"]),
        ("ambassador_etcd_requests_total", ["remove", "answered"]),
        ("ambassador_docker_requests_total", ["inspect", "answered"]),
        ("ambassador_docker_requests_total", ["events", "answered"]),
    ] {
        assert!(scrape.sum(name, labels) >= 1.0, "{name} {labels:?}: {}", scrape.0);
    }
    assert_eq!(scrape.sum("ambassador_docker_up", []), 1.0);
    docker.stop();
    docker.end_events_streams();
    eventually("Docker is silent", || Scrape::of(admin).sum("ambassador_docker_up", []) == 0.0);
    assert!(Scrape::of(admin).sum("ambassador_docker_requests_total", ["failed"]) >= 1.0);
}

#[test]
fn ports_that_are_forwarded_to_the_same_upstream_are_told_apart() {
    let upstream = Upstream::greeter("hello");
    let url = format!("tcp://{}", upstream.address());
    let [one, other] = [crate::support::free_port(), crate::support::free_port()];
    let forward = ambassador(["forward", "--admin", "127.0.0.1:0"])
        .env(&format!("A_PORT_{one}_TCP"), &url)
        .env(&format!("B_PORT_{other}_TCP"), &url)
        .start();
    let admin = forward.address_of("admin");
    assert_eq!(read_all(SocketAddr::from(([127, 0, 0, 1], other))).unwrap(), "hello");
    let scrape = Scrape::of(admin);
    let samples = |name: &str| {
        let of_name = |line: &&str| line.starts_with(name);
        scrape.0.lines().filter(of_name).map(|line| line.rsplit_once(' ').unwrap().0).collect()
    };
    let series: Vec<&str> = samples("ambassador_instance_connections_total");
    assert!(series.len() == 2 && series[0] != series[1], "{series:?}");
    assert_eq!(scrape.sum("ambassador_instance_connections_total", []), 1.0);
}

/// Every name that a reader of these could ask about is explained.
#[test]
fn what_is_told_is_documented() {
    let docs = include_str!("../docs/admin.md");
    let (etcd, prefix, docker) = (etcd::shared(), unique_prefix(), FakeDocker::start());
    let upstream = Upstream::echo();
    etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
    let proxy = proxy(&etcd.url(), &prefix, &[]);
    let words = ["register", "--admin", "127.0.0.1:0", "--etcd", &etcd.url(), "--prefix", &prefix];
    docker.run(Container::named("redis").publishes(6379, &[("10.1.0.1", 49155)]));
    let rest = ["--docker", &docker.address(), "redis", "6379", "redis-B"];
    let registrar = ambassador(words.into_iter().chain(rest)).start();
    let _client = open_connection(proxy.address_of("redis-A"));
    eventually("it is registered", || {
        Scrape::of(registrar.address()).sum("ambassador_registrations", ["registered"]) == 1.0
    });
    for admin in [proxy.address_of("admin"), registrar.address()] {
        let Scrape(text) = Scrape::of(admin);
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let [name, kind] = [2, 3].map(|word| line.split(' ').nth(word).unwrap());
            assert!(docs.contains(&format!("| `{name}` | {kind} |")), "{line}");
        }
        let status = http::ask(connect(admin).unwrap(), "GET", "/status", None).unwrap().json();
        let mut keys = Vec::new();
        keys_of(&status, &mut keys);
        for key in keys {
            let words = [format!("`{key}`"), format!("`{key}[]`")];
            assert!(words.iter().any(|word| docs.contains(word)), "{key}");
        }
    }
}

fn keys_of(value: &serde_json::Value, keys: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                keys.push(key.clone());
                keys_of(value, keys);
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| keys_of(value, keys)),
        _ => {}
    }
}
