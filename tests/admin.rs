//! `--admin` and `status`: how a running ambassador is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::ambassador::{Ambassador, Ended, Launch, ambassador};
use crate::support::client::{connect, open_connection, read_all};
use crate::support::etcd::{self, Etcd};
use crate::support::fake_docker::{Container, FakeDocker};
use crate::support::http;
use crate::support::upstream::Upstream;
use crate::support::{DEADLINE, eventually, refusing_address, unique_prefix, within};

fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    let stream = connect(admin).unwrap();
    let answer = http::ask(stream, "GET", path, None).unwrap();
    (answer.status, answer.body)
}

fn status(admin: SocketAddr) -> Value {
    let (code, body) = get(admin, "/status");
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// `ambassador status --admin ADMIN OPTIONS...`.
fn shown<const N: usize>(admin: SocketAddr, options: [&str; N]) -> Ended {
    ambassador(["status", "--admin", &admin.to_string()]).args(options).run()
}

#[track_caller]
fn wait_until_ready(admin: SocketAddr) {
    eventually("it is ready", || get(admin, "/readyz").0 == 200);
}

/// `proxy --admin 127.0.0.1:0 OPTIONS... redis-A 127.0.0.1:0`.
fn proxy(etcd: &str, prefix: &str) -> Launch {
    let words = ["proxy", "--admin", "127.0.0.1:0", "--etcd", etcd, "--prefix", prefix];
    ambassador(words.into_iter().chain(["redis-A", "127.0.0.1:0"]))
}

/// `forward --admin 127.0.0.1:0 --listen 127.0.0.1:0 UPSTREAM`, started.
fn forward_to(upstream: &Upstream) -> Ambassador {
    let to = upstream.address().to_string();
    ambassador(["forward", "--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0", &to]).start()
}

/// What is bound and announced, and what of it is told.
fn addresses(ambassador: &Ambassador) -> (SocketAddr, SocketAddr) {
    (ambassador.address_of("admin"), ambassador.address_of("redis-A"))
}

#[test]
fn proxy_is_ready_while_its_service_has_an_instance() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let proxy = proxy(&etcd.url(), &prefix).start();
    let (admin, front) = addresses(&proxy);
    assert_eq!(get(admin, "/livez"), (200, "ok\n".to_owned()));
    let (code, why) = get(admin, "/readyz");
    assert_eq!((code, &why[..]), (503, "redis-A has no instance\n"));
    let upstream = Upstream::greeter("hello");
    let key = format!("{prefix}/redis-A/one");
    etcd.put(&key, &upstream.registration());
    wait_until_ready(admin);

    read_all(front).unwrap();
    let told = status(admin);
    assert_eq!(told["role"], "proxy");
    assert_eq!((&told["ready"], &told["reason"]), (&true.into(), &Value::Null));
    assert_eq!(told["listeners"][0]["name"], "redis-A");
    assert_eq!(told["listeners"][0]["address"], front.to_string());
    assert_eq!(told["connections"]["max"], 2048);
    let instance = &told["services"][0]["instances"][0];
    assert_eq!(instance["address"], upstream.address().to_string());
    assert_eq!((&instance["weight"], &instance["ejected_s"]), (&1.into(), &Value::Null));
    assert_eq!(told["etcd"]["address"], etcd.url());
    assert_eq!(told["etcd"]["answers"], true);
    assert_eq!(told["docker"], Value::Null);
    etcd.delete(&key);
    eventually("it is not ready", || get(admin, "/readyz").0 == 503);
    assert_eq!(get(admin, "/livez").0, 200);
}

#[test]
fn open_connections_and_ejected_instances_are_told() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let upstream = Upstream::echo();
    let refusing = refusing_address();
    etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
    etcd.put(&format!("{prefix}/redis-A/two"), &refusing.to_string());
    let proxy = proxy(&etcd.url(), &prefix).start();
    let (admin, front) = addresses(&proxy);
    wait_until_ready(admin);
    // Both get their turn, and only one of them can be reached.
    let clients: Vec<TcpStream> = (0..4).map(|_| open_connection(front)).collect();
    let instance = |told: &Value, address: SocketAddr| {
        let instances = told["services"][0]["instances"].as_array().unwrap().clone();
        instances.into_iter().find(|known| known["address"] == address.to_string()).unwrap()
    };
    let told = status(admin);
    assert_eq!(told["connections"]["open"], 4);
    assert_eq!(instance(&told, upstream.address())["open"], 4);
    let ejected = instance(&told, refusing)["ejected_s"].as_u64();
    assert!(ejected.is_some_and(|left| left <= 10), "{told:#}");
    drop(clients);
    eventually("none is open", || status(admin)["connections"]["open"] == 0);
}

#[test]
fn instances_of_an_etcd_that_is_silent_are_told_as_stale_and_serve() {
    let mut etcd = Etcd::start();
    let upstream = Upstream::greeter("hello");
    etcd.put("/services/redis-A/one", &upstream.registration());
    let proxy = proxy(&etcd.url(), "/services").start();
    let (admin, front) = addresses(&proxy);
    wait_until_ready(admin);
    assert_eq!(status(admin)["services"][0]["stale_s"], Value::Null);
    etcd.stop();
    eventually("they are stale", || status(admin)["services"][0]["stale_s"].is_u64());
    let told = status(admin);
    assert_eq!((&told["ready"], &told["etcd"]["answers"]), (&true.into(), &false.into()));
    assert!(told["etcd"]["problem"].as_str().unwrap().contains(&etcd.address().to_string()));
    assert_eq!(read_all(front).unwrap(), "hello");
    let shown = shown(admin, []);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("etcd is silent for"), "{shown:?}");
    assert!(shown.stdout.contains("last known"), "{shown:?}");
    etcd.start_again();
    eventually("they are not stale", || status(admin)["services"][0]["stale_s"].is_null());
}

#[test]
fn draining_proxy_is_alive_and_not_ready() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let upstream = Upstream::echo();
    etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
    let mut proxy = proxy(&etcd.url(), &prefix).start();
    let (admin, front) = addresses(&proxy);
    wait_until_ready(admin);
    let client = open_connection(front);
    proxy.signal("TERM");
    eventually("it drains", || get(admin, "/readyz") == (503, "it is draining\n".to_owned()));
    assert_eq!(get(admin, "/livez").0, 200);
    assert_eq!(status(admin)["draining"], true);
    drop(client);
    assert_eq!(proxy.finish(DEADLINE).code, Some(0));
}

#[test]
fn registrar_is_ready_once_everything_is_registered() {
    let mut etcd = Etcd::absent();
    let docker = FakeDocker::start();
    docker.run(Container::named("redis").publishes(6379, &[("10.1.0.1", 49155)]));
    let words = ["register", "--admin", "127.0.0.1:0", "--etcd", &etcd.url()];
    let rest = ["--docker", &docker.address(), "redis", "6379", "redis-A"];
    let registrar = ambassador(words.into_iter().chain(rest)).start();
    let admin = registrar.address();
    eventually("it says why not", || {
        let (code, why) = get(admin, "/readyz");
        code == 503 && why.contains("no answer from etcd")
    });
    etcd.start_again();
    wait_until_ready(admin);
    let told = status(admin);
    assert_eq!(told["role"], "register");
    let kept = &told["registrations"][0];
    assert_eq!(kept["key"], "/services/redis-A/redis");
    assert_eq!(kept["value"], r#"{ "port": 49155, "host": "10.1.0.1" }"#);
    assert_eq!(kept["state"], "registered");
    assert_eq!(
        (&told["etcd"]["answers"], &told["docker"]["answers"]),
        (&true.into(), &true.into())
    );
    // Once is enough: a registrar that waits for etcd is no reason to restart it.
    etcd.stop();
    eventually("etcd is silent", || status(admin)["etcd"]["answers"] == false);
    assert_eq!(get(admin, "/readyz").0, 200);
    docker.stop();
    docker.end_events_streams();
    eventually("Docker is silent", || status(admin)["docker"]["answers"] == false);
    let shown = shown(admin, []);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("Docker is silent for"), "{shown:?}");
}

#[test]
fn forward_is_ready_at_once() {
    let upstream = Upstream::greeter("hello");
    let forward = forward_to(&upstream);
    let admin = forward.address_of("admin");
    assert_eq!(get(admin, "/readyz").0, 200);
    assert_eq!(status(admin)["etcd"], Value::Null);
}

#[test]
fn status_says_it_in_words_and_by_its_exit_code() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let proxy = proxy(&etcd.url(), &prefix).start();
    let (admin, front) = addresses(&proxy);
    let not_ready = shown(admin, []);
    assert_eq!(not_ready.code, Some(1), "{not_ready:?}");
    assert!(not_ready.stdout.contains("none known, clients wait"), "{not_ready:?}");
    assert_eq!(not_ready.stderr, "ambassador: not ready: redis-A has no instance\n");
    let upstream = Upstream::greeter("hello");
    etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
    wait_until_ready(admin);
    let ready = shown(admin, []);
    assert_eq!((ready.code, &ready.stderr[..]), (Some(0), ""), "{ready:?}");
    for words in [": ready", "answers", "of 2048 connections open", &front.to_string()] {
        assert!(ready.stdout.contains(words), "{words}: {ready:?}");
    }
    assert!(ready.stdout.lines().all(|line| line.chars().count() <= 80), "{ready:?}");
    let json: Value = serde_json::from_str(&shown(admin, ["--json"]).stdout).unwrap();
    assert_eq!(json["ready"], true);
    // The variable that a container's own status is asked by.
    let by_variable = ambassador(["status"]).env("AMBASSADOR_ADMIN", admin.to_string()).run();
    assert_eq!(by_variable.code, Some(0), "{by_variable:?}");
}

#[test]
fn status_of_nobody_and_of_somebody_else_is_one_line_and_exit_code_1() {
    let nobody = refusing_address();
    let ended = shown(nobody, []);
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 1), "{ended:?}");
    assert!(ended.stderr.contains(&nobody.to_string()), "{ended:?}");
    let other = Upstream::greeter("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let ended = shown(other.address(), []);
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 1), "{ended:?}");
}

#[test]
fn requests_that_are_none_are_answered_and_keep_nobody_from_asking() {
    let upstream = Upstream::greeter("hello");
    let forward = forward_to(&upstream);
    let admin = forward.address_of("admin");
    let answer = |request: &[u8]| {
        let mut stream = connect(admin).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        // A request that was not read to its end is a reset after its answer.
        drop(stream.read_to_end(&mut answer));
        String::from_utf8(answer).unwrap()
    };
    let long = [b"GET / HTTP/1.1\r\nX: ", &b"x".repeat(9000)[..]].concat();
    for (request, status) in [
        (&b"POST /status HTTP/1.1\r\n\r\n"[..], "405 "),
        (b"GET /nothing HTTP/1.1\r\n\r\n", "404 "),
        (b"GET /livez?x=1 HTTP/1.0\r\n\r\n", "200 "),
        (b"\x16\x03\x01 TLS\r\n\r\n", "400 "),
        (&long, "431 "),
    ] {
        let answer = answer(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    let head = answer(b"HEAD /livez HTTP/1.1\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: 3\r\n"), "{head}");
    // Silent ones are given up after 2 s.
    let started = Instant::now();
    let _silent: Vec<TcpStream> = (0..6).map(|_| connect(admin).unwrap()).collect();
    assert_eq!(get(admin, "/livez").0, 200);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[test]
fn bare_port_is_of_this_host_alone_and_one_that_is_taken_is_a_mistake() {
    let upstream = Upstream::greeter("hello");
    let to = upstream.address().to_string();
    let forward =
        |admin: &str| ambassador(["forward", "--admin", admin, "--listen", "127.0.0.1:0", &to]);
    let running = forward("0").start();
    let admin = running.address_of("admin");
    assert!(admin.ip().is_loopback() && admin.is_ipv4(), "{admin}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _holder = TcpListener::bind(taken).unwrap();
    let ended = forward(&taken.to_string()).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains(&taken.to_string()) && ended.stderr.contains("admin"),
        "{ended:?}"
    );
    assert_eq!(forward("nonsense").run().code, Some(2));
}

#[test]
fn watched_status_follows_what_changes_and_outlives_who_is_watched() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let proxy = proxy(&etcd.url(), &prefix).start();
    let (admin, front) = addresses(&proxy);
    let words = ["status", "--watch", "--admin", &admin.to_string()];
    let mut watching = ambassador(words).start();
    let shows = |words: &str| {
        eventually(&format!("it shows {words:?}"), || {
            watching.stdout().iter().any(|line| line.contains(words))
        });
    };
    shows("not ready: redis-A has no instance");
    let upstream = Upstream::echo();
    etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
    shows(": ready");
    let _client = open_connection(front);
    shows("1 of 2048 connections open");
    proxy.kill();
    shows("no answer from an ambassador's --admin");
    assert!(watching.stdout().iter().all(|line| !line.contains('\x1b')), "it is no terminal");
    assert!(watching.is_running());
    watching.kill();
}

#[test]
fn watched_status_ends_with_its_reader() {
    let upstream = Upstream::greeter("hello");
    let forward = forward_to(&upstream);
    let admin = forward.address_of("admin").to_string();
    let ended = ambassador(["status", "--watch", "--admin", &admin])
        .without_a_reader()
        .run_within(DEADLINE);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn page_may_run_its_own_script_and_nothing_else() {
    let upstream = Upstream::greeter("hello");
    let forward = forward_to(&upstream);
    let stream = connect(forward.address_of("admin")).unwrap();
    let page = http::ask(stream, "GET", "/", None).unwrap();
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    for outside in ["http://", "https://", "//cdn", "@import", "url("] {
        let without_svg = page.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!without_svg.contains(outside), "{outside}");
    }
}

/// One that hangs takes connections and polls, and says nothing: only a deadline tells.
#[test]
fn etcd_that_hangs_is_told_as_silent_when_its_poll_is_over() {
    let mut etcd = Etcd::start();
    etcd.put("/services/redis-A/one", "127.0.0.1:1");
    let proxy = proxy(&etcd.url(), "/services").start();
    let admin = proxy.address_of("admin");
    wait_until_ready(admin);
    etcd.pause();
    within(Duration::from_secs(30), "etcd is silent", || status(admin)["etcd"]["answers"] == false);
    assert!(status(admin)["services"][0]["stale_s"].is_u64());
    etcd.resume();
    eventually("etcd answers", || status(admin)["etcd"]["answers"] == true);
}
