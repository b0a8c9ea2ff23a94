//! `list --check`: which instances can be reached, and how old their entries are.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::ambassador::{Ended, Launch, ambassador};
use crate::support::client::read_all;
use crate::support::etcd::{self, Api, Etcd, only_v2};
use crate::support::upstream::{Upstream, registration, silent_address, silent_at};
use crate::support::{
    DEADLINE, fresh_ip, is_root, proceed_after, refusing_address, skip_loudly, temp_dir,
    unique_prefix,
};

/// Every address of this host.
const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// `list --etcd URL --prefix PREFIX WORDS...`.
fn list(prefix: &str, words: &[&str]) -> Launch {
    let url = etcd::shared().url();
    ambassador(["list", "--etcd", &url, "--prefix", prefix].iter().chain(words))
}

/// What it prints as JSON, one object an instance.
fn rows(ended: &Ended) -> Vec<Value> {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// A directory of one service `s` with `instances`.
fn registry(instances: &[(&str, SocketAddr)]) -> String {
    let prefix = unique_prefix();
    for (instance, address) in instances {
        etcd::shared().put(&format!("{prefix}/s/{instance}"), &registration(*address));
    }
    prefix
}

/// How often it was dialled before this: connections are accepted in their order.
fn dials(upstream: &Upstream) -> usize {
    read_all(upstream.address()).unwrap();
    upstream.accepted() - 1
}

fn is_reachable(row: &Value) -> bool {
    row["reachable"].as_bool().unwrap()
}

#[test]
fn check_tells_the_reachable_from_the_refusing_and_the_silent_and_is_exit_1() {
    let upstream = Upstream::greeter("hello");
    let (silent, _kept_full) = silent_address();
    let prefix = registry(&[("a", upstream.address()), ("b", refusing_address()), ("c", silent)]);
    let ended = list(&prefix, &["--check", "--json"]).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr, "ambassador: 2 of 3 instances cannot be reached\n");
    let rows = rows(&ended);
    let seen: Vec<_> = rows.iter().map(|row| json!([row["reachable"], row["problem"]])).collect();
    let refused = json!([false, "connection refused"]);
    assert_eq!(seen, [json!([true, null]), refused, json!([false, "timed out"])]);
    assert!((0.0..15_000.0).contains(&rows[0]["connect_ms"].as_f64().unwrap()), "{}", rows[0]);
    assert_eq!([&rows[1]["connect_ms"], &rows[2]["connect_ms"]], [&Value::Null, &Value::Null]);

    let ended = list(&prefix, &["--check"]).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert!(lines[0].contains("  REACHABLE  "), "{ended:?}");
    let (_, took) = lines[1].split_once("  yes, ").expect(&ended.stdout);
    let (took, _) = took.split_once("ms ").expect(&ended.stdout);
    assert!(took.parse::<f64>().unwrap() > 0.0, "{ended:?}");
    assert!(lines[2].contains("  no: connection refused  "), "{ended:?}");
    assert!(lines[3].contains("  no: timed out  "), "{ended:?}");
}

#[test]
fn check_of_what_can_be_reached_is_exit_0_and_silent() {
    let upstream = Upstream::greeter("hello");
    let prefix = registry(&[("a", upstream.address())]);
    for words in [&["--check"][..], &["--check", "--json"]] {
        let ended = list(&prefix, words).run();
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    }
}

#[test]
fn check_of_nothing_is_exit_0_and_of_an_unknown_service_exit_1() {
    let prefix = unique_prefix();
    let ended = list(&prefix, &["--check", "--json"]).run();
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), "[]"), "{ended:?}");
    let ended = list(&prefix, &["--check", "--json", "nothing"]).run();
    assert_eq!((ended.code, ended.stdout.trim()), (Some(1), "[]"), "{ended:?}");
    assert!(ended.stderr.contains("no instance of nothing is registered"), "{ended:?}");
}

/// Other instances do not count, and are not dialled.
#[test]
fn check_of_a_service_looks_at_that_service_only() {
    let (asked, other) = (Upstream::greeter("asked"), Upstream::greeter("other"));
    let prefix = registry(&[("a", asked.address())]);
    let etcd = etcd::shared();
    etcd.put(&format!("{prefix}/other/a"), &other.registration());
    etcd.put(&format!("{prefix}/other/b"), &registration(refusing_address()));
    let ended = list(&prefix, &["--check", "s"]).run();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    assert_eq!((dials(&asked), dials(&other)), (1, 0));
}

#[test]
fn without_check_nothing_is_dialled_whatever_the_variable_of_register_says() {
    let upstream = Upstream::greeter("hello");
    let prefix = registry(&[("a", upstream.address()), ("b", refusing_address())]);
    for value in ["tcp", "true"] {
        let ended = list(&prefix, &["--json"]).env("AMBASSADOR_CHECK", value).run();
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
        assert!(rows(&ended)[0].get("reachable").is_none(), "{ended:?}");
        let ended = list(&prefix, &[]).env("AMBASSADOR_CHECK", value).run();
        assert!(!ended.stdout.contains("REACHABLE"), "{ended:?}");
    }
    assert_eq!(dials(&upstream), 0);
    let ended = list(&prefix, &["--check"]).env("AMBASSADOR_CHECK", "tcp").run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let ended = list(&prefix, &["--check=tcp"]).run();
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended:?}");
    assert!(ended.stderr.contains("--check"), "{ended:?}");
}

/// The fields of a list without it are held by `helpers`.
#[test]
fn check_adds_its_fields_behind_those_of_every_list() {
    let upstream = Upstream::greeter("hello");
    let prefix = registry(&[("a", upstream.address()), ("b", refusing_address())]);
    let ended = list(&prefix, &["--check", "--json"]).run();
    let fields = ["service", "instance", "host", "port", "ttl_s", "weight", "attributes"];
    let added = ["reachable", "problem", "connect_ms", "refreshed_s"];
    for row in rows(&ended) {
        assert_eq!(row.as_object().unwrap().len(), fields.len() + added.len(), "{row}");
        assert_eq!(row["refreshed_s"], Value::Null, "it never expires, so nobody refreshes it");
    }
    for row in ended.stdout.split_inclusive("  }").take(2) {
        let places = fields.iter().chain(&added).map(|field| row.find(&format!("\"{field}\":")));
        let places: Vec<_> = places.collect();
        assert!(places.is_sorted() && places[0].is_some(), "{row}");
    }
}

#[test]
fn check_sends_no_byte_and_ends_the_connection_in_order_and_at_once() {
    let (heard_in, heard) = mpsc::channel();
    let upstream = Upstream::serve(move |mut client| {
        let mut bytes = Vec::new();
        let outcome = client.read_to_end(&mut bytes).map_err(|error| error.kind());
        heard_in.send((outcome, bytes, Instant::now())).unwrap();
        Ok(())
    });
    let prefix = registry(&[("a", upstream.address())]);
    // Three times as many as are tried at a time, so that it goes on for 3 s.
    let (silent, _kept_full) = silent_at(ANYWHERE);
    for number in 0..96 {
        let address = format!("127.65.1.{number}:{}", silent.port());
        etcd::shared().put(&format!("{prefix}/s/b{number}"), &address);
    }
    assert_eq!(list(&prefix, &["--check"]).run().code, Some(1));
    let ended = Instant::now();
    let (outcome, bytes, closed) = heard.recv_timeout(DEADLINE).unwrap();
    assert_eq!((outcome, bytes), (Ok(0), Vec::new()));
    assert!(ended - closed > Duration::from_secs(1), "{:?} before the end", ended - closed);
}

/// The answer of a busy one is not to depend on how often it is registered.
#[test]
fn address_that_several_instances_have_is_dialled_once() {
    let upstream = Upstream::greeter("hello");
    let address = upstream.address();
    let prefix = registry(&[("a", address), ("b", address), ("c", address)]);
    etcd::shared().put(&format!("{prefix}/other/d"), &address.to_string());
    let ended = list(&prefix, &["--check", "--json"]).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let rows = rows(&ended);
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| is_reachable(row) && row["connect_ms"] == rows[0]["connect_ms"]));
    assert_eq!(dials(&upstream), 1);
}

#[test]
fn two_hundred_instances_of_which_some_are_silent_are_checked_within_seconds() {
    /// More than are tried at a time, and each costs a second.
    const SILENT: usize = 40;
    let upstream = Upstream::serve_at(ANYWHERE, |_| Ok(()));
    let (silent, _kept_full) = silent_at(ANYWHERE);
    let is_silent = |number: usize| number.is_multiple_of(200 / SILENT);
    // Nobody else has these ports on any address.
    let address = |number| {
        let listener = if is_silent(number) { silent } else { upstream.address() };
        SocketAddr::from(([127, 65, 0, number as u8], listener.port()))
    };
    let prefix = unique_prefix();
    for number in 0..200 {
        let key = format!("{prefix}/s/{number:03}");
        etcd::shared().put(&key, &registration(address(number)));
    }
    let started = Instant::now();
    let ended = list(&prefix, &["--check", "--json"]).run_within(2 * DEADLINE);
    let took = started.elapsed();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr, format!("ambassador: {SILENT} of 200 instances cannot be reached\n"));
    for (number, row) in rows(&ended).iter().enumerate() {
        assert_eq!(is_reachable(row), !is_silent(number), "{row}");
    }
    assert_eq!(dials(&upstream), 200 - SILENT);
    // One after the other it would be 40 s, and all at once 1 s. Were connects not given up
    // before what gives up lookups, it would be 6 s.
    assert!(took >= Duration::from_secs(2), "more than 32 at a time: {took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn names_are_looked_up() {
    let upstream = Upstream::greeter("hello");
    let prefix = registry(&[]);
    let name = format!("localhost:{}", upstream.address().port());
    etcd::shared().put(&format!("{prefix}/s/a"), &name);
    etcd::shared().put(&format!("{prefix}/s/b"), "nowhere.invalid:80");
    let ended = list(&prefix, &["--check", "--json"]).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let rows = rows(&ended);
    assert_eq!([is_reachable(&rows[0]), is_reachable(&rows[1])], [true, false], "{ended:?}");
    // Whatever the resolver of this host says of it.
    assert!(rows[1]["problem"].as_str().is_some_and(|problem| !problem.is_empty()), "{ended:?}");
}

/// Runs `launch` with a file of its own in the place of `path`, which root may.
fn with_file(launch: Launch, path: &str, text: &str) -> Ended {
    let file = temp_dir("mounted").join("file");
    std::fs::write(&file, text).unwrap();
    let script = format!(r#"mount --bind "$0" {path} && exec "$@""#);
    let file = file.to_str().unwrap();
    launch.under(&["unshare", "--mount", "/bin/sh", "-c", &script, file]).run()
}

/// As for the proxy's clients, the first that takes the connection counts.
#[test]
fn name_is_reachable_at_whichever_of_its_addresses_somebody_listens() {
    const NAME: &str = "name_is_reachable_at_whichever_of_its_addresses_somebody_listens";
    if !is_root() {
        skip_loudly(NAME, "only root may give a process another /etc/hosts");
        return;
    }
    let ips = [[127, 66, 1, 1], [127, 66, 1, 2]].map(Ipv4Addr::from);
    // One of them is the second address, in whichever order they are tried.
    let upstreams = ips.map(|ip| Upstream::greeter_at((ip, 0).into(), "hello"));
    let prefix = registry(&[]);
    for (number, upstream) in upstreams.iter().enumerate() {
        let address = format!("both.test:{}", upstream.address().port());
        etcd::shared().put(&format!("{prefix}/s/{number}"), &address);
    }
    let hosts: String = ips.iter().map(|ip| format!("{ip} both.test\n")).collect();
    let ended = with_file(list(&prefix, &["--check", "--json"]), "/etc/hosts", &hosts);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    assert_eq!(rows(&ended).len(), 2);
}

/// A resolver that does not answer holds a lookup for 10 s and more.
#[test]
fn lookups_that_hang_are_given_up_after_seconds() {
    const NAME: &str = "lookups_that_hang_are_given_up_after_seconds";
    if !is_root() {
        skip_loudly(NAME, "only root may give a process another /etc/resolv.conf");
        return;
    }
    let resolver = UdpSocket::bind((fresh_ip(), 53)).unwrap();
    let ip = resolver.local_addr().unwrap().ip();
    let upstream = Upstream::greeter("hello");
    let prefix = registry(&[("a", upstream.address())]);
    for number in 0..20 {
        etcd::shared().put(&format!("{prefix}/s/b{number}"), &format!("silent-{number}.test:80"));
    }
    let conf = format!("nameserver {ip}\noptions timeout:8 attempts:3\n");
    let started = Instant::now();
    let ended = with_file(list(&prefix, &["--check", "--json"]), "/etc/resolv.conf", &conf);
    let took = started.elapsed();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr, "ambassador: 20 of 21 instances cannot be reached\n");
    let rows = rows(&ended);
    assert!(is_reachable(&rows[0]), "{ended:?}");
    assert!(rows[1..].iter().all(|row| row["problem"] == "timed out"), "{ended:?}");
    let mut query = [0; 512];
    resolver.set_read_timeout(Some(DEADLINE)).unwrap();
    assert!(resolver.recv(&mut query).is_ok(), "it was asked");
    assert!(took < Duration::from_secs(7), "{took:?}");
}

#[test]
fn table_of_a_check_has_80_columns_where_names_are_not_long() {
    let prefix = registry(&[]);
    let etcd = etcd::shared();
    let upstream = Upstream::greeter("hello");
    etcd.put_with_ttl(&format!("{prefix}/redis-A/redis.service"), &upstream.registration(), 100);
    let refusing = SocketAddr::from(([127, 66, 0, 1], 49155));
    etcd.put_with_ttl(&format!("{prefix}/redis-A/redis.spare"), &registration(refusing), 100);
    let ended = list(&prefix, &["--check"]).run();
    assert!(ended.stdout.contains("no: connection refused"), "{ended:?}");
    assert!(ended.stdout.lines().all(|line| line.len() <= 80), "{}", ended.stdout);
    // What an instance has is shown all the same.
    let attributes = r#"{"host":"127.66.0.1","port":49155,"weight":5,"zone":"a"}"#;
    etcd.put(&format!("{prefix}/redis-A/redis.spare"), attributes);
    let ended = list(&prefix, &["--check"]).run();
    let words: Vec<_> = ended.stdout.lines().map(|line| line.split_whitespace().last()).collect();
    assert_eq!(words, [Some("ATTRIBUTES"), Some("-"), Some("zone=a")], "{}", ended.stdout);
}

/// v3's leases tell it; a refresh changes nothing else.
#[test]
fn age_of_an_entry_counts_from_its_last_refresh_with_v3() {
    const KEY: &str = "/services/s/a";
    let etcd = Etcd::absent_with(Api::V3).started();
    let upstream = Upstream::greeter("hello");
    etcd.put_with_ttl(KEY, &upstream.registration(), 100);
    let url = etcd.url();
    let list = |words: &[&str]| {
        let fixed = ["list", "--etcd", &url, "--etcd-api", "v3"];
        ambassador(fixed.iter().chain(words)).run()
    };
    let age = || rows(&list(&["--check", "--json"]))[0]["refreshed_s"].as_i64().unwrap();
    let written = Instant::now();
    // Rounded down, and nobody knows when within the request it was written.
    let is_right = |age: i64, since: Instant, before: Duration| {
        let (least, most) = (before.as_secs() as i64 - 1, since.elapsed().as_secs() as i64 + 1);
        assert!((least..=most).contains(&age), "{age} s is not {least} to {most} s");
    };
    is_right(age(), written, Duration::ZERO);
    proceed_after(Duration::from_secs(4));
    let before = written.elapsed();
    is_right(age(), written, before);
    assert!(age() >= 3, "{}", age());
    let ended = list(&[]);
    let head = ended.stdout.lines().next().unwrap();
    assert!(head.contains("  TTL  REFRESHED"), "{ended:?}");
    assert!(ended.stdout.contains("s ago\n"), "{ended:?}");

    etcd.refresh(KEY, 100);
    let refreshed = Instant::now();
    is_right(age(), refreshed, Duration::ZERO);
    assert!(rows(&list(&["--json"]))[0].get("refreshed_s").is_none());
}

/// A fresh entry of 100 s has 99 s left after a millisecond, as etcd counts.
#[test]
fn entry_that_was_just_written_is_0_s_old() {
    let etcd = Etcd::absent_with(Api::V3).started();
    let upstream = Upstream::greeter("hello");
    // On a busy machine a second may pass between the two.
    let is_young = |_| {
        etcd.put_with_ttl("/services/s/a", &upstream.registration(), 100);
        let words = ["list", "--check", "--json", "--etcd-api", "v3", "--etcd"];
        let ended = ambassador(words).arg(etcd.url()).run();
        rows(&ended)[0]["refreshed_s"] == 0
    };
    assert!((0..5).any(is_young));
}

#[test]
fn v2_does_not_tell_how_old_an_entry_is() {
    if !only_v2() {
        return;
    }
    let upstream = Upstream::greeter("hello");
    let prefix = unique_prefix();
    etcd::shared().put_with_ttl(&format!("{prefix}/s/a"), &upstream.registration(), 100);
    let ended = list(&prefix, &["--check", "--json"]).run();
    assert_eq!(rows(&ended)[0]["refreshed_s"], Value::Null, "{ended:?}");
    let ended = list(&prefix, &["--check"]).run();
    assert!(!ended.stdout.contains("REFRESHED"), "{ended:?}");
}
