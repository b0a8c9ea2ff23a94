//! How an ambassador says that it is ready, and to whom.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::ambassador::{Launch, ambassador};
use crate::support::client::{connect, read_all};
use crate::support::upstream::Upstream;
use crate::support::{
    DEADLINE, all_at_once, etcd, eventually, free_port, proceed_after, refusing_address, temp_dir,
    unique_prefix,
};

/// A unit of `Type=notify` waits for this; no option turns it on.
#[test]
fn systemd_is_told_when_a_role_is_ready() {
    let upstream = Upstream::greeter("hello").address().to_string();
    let (url, prefix) = (etcd::shared().url(), unique_prefix());
    let etcd = ["--etcd", &url, "--prefix", &prefix];
    for words in [
        [&["forward", "--listen", "127.0.0.1:0"][..], &[&upstream]].concat(),
        [&["proxy"][..], &etcd, &["redis-A", "127.0.0.1:0"]].concat(),
        [&["register"][..], &etcd, &["--address", "10.0.0.7:5432", "db"]].concat(),
    ] {
        let path = temp_dir("notify").join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let launch = ambassador(&words).env("NOTIFY_SOCKET", path.to_str().unwrap());
        let _ambassador = launch.start();
        let mut message = [0; 256];
        let length = socket.recv(&mut message).unwrap_or_else(|err| panic!("{words:?}: {err}"));
        let message = String::from_utf8_lossy(&message[..length]);
        assert!(message.lines().any(|line| line == "READY=1"), "{words:?}: {message:?}");
    }
}

/// A supervisor that does not care for the readiness lines is no reason not to serve.
#[test]
fn standard_output_that_takes_nothing_does_not_end_the_service() {
    let upstream = Upstream::greeter("hello");
    let target = upstream.address().to_string();
    for (redirection, meaning) in [(">&-", "closed"), (">/dev/full", "full")] {
        let listen = format!("127.0.0.1:{}", free_port());
        let script = format!(r#"exec "$0" "$@" {redirection}"#);
        let launch = ambassador(["forward", "--listen", &listen, &target]);
        let mut ambassador = launch.under(&["/bin/sh", "-c", &script]).start();
        let address: SocketAddr = listen.parse().unwrap();
        eventually(&format!("it serves though standard output is {meaning}"), || {
            read_all(address).is_ok_and(|heard| heard == "hello")
        });
        assert!(ambassador.is_running());
    }
}

/// Whoever read the readiness lines may have left, as `ambassador proxy ... | head -1` does.
#[test]
fn standard_output_whose_reader_left_does_not_end_the_service() {
    let upstream = Upstream::greeter("hello");
    let target = upstream.address().to_string();
    let listen = format!("127.0.0.1:{}", free_port());
    let launch = ambassador(["forward", "--listen", &listen, &target]).without_a_reader();
    let mut ambassador = launch.start();
    let address: SocketAddr = listen.parse().unwrap();
    eventually("it serves", || read_all(address).is_ok_and(|heard| heard == "hello"));
    assert!(ambassador.is_running());
}

/// What systemd hears of an ambassador.
struct Systemd {
    socket: UnixDatagram,
    path: String,
}

impl Systemd {
    fn new() -> Systemd {
        let path = temp_dir("notify").join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        Systemd { socket, path: path.to_str().unwrap().to_owned() }
    }

    /// The next message that has a line beginning with `what`, which is returned.
    #[track_caller]
    fn next(&self, what: &str) -> String {
        let line = self.next_within(what, DEADLINE);
        line.unwrap_or_else(|| panic!("no {what} came"))
    }

    fn next_within(&self, what: &str, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let mut message = [0; 1024];
            let length = self.socket.recv(&mut message).ok()?;
            let message = String::from_utf8_lossy(&message[..length]);
            if let Some(line) = message.lines().find(|line| line.starts_with(what)) {
                return Some(line.to_owned());
            }
        }
    }

    /// Whether its watchdog is fed in time, the whole time.
    #[track_caller]
    fn assert_fed_for(&self, time: Duration, watchdog: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            let fed = self.next_within("WATCHDOG=1", watchdog);
            assert!(fed.is_some(), "not fed after {:?}", start.elapsed());
        }
    }
}

fn watched(launch: Launch, systemd: &Systemd, watchdog: Duration) -> Launch {
    let usec = watchdog.as_micros().to_string();
    launch.env("NOTIFY_SOCKET", &*systemd.path).env("WATCHDOG_USEC", usec)
}

#[test]
fn systemd_is_told_what_a_proxy_serves_and_that_it_ends() {
    let upstream = Upstream::echo();
    let (etcd, prefix, systemd) = (etcd::shared(), unique_prefix(), Systemd::new());
    let url = etcd.url();
    let words = ["proxy", "--etcd", &url, "--prefix", &prefix, "redis-A", "127.0.0.1:0"];
    let watchdog = Duration::from_secs(2);
    let mut proxy = watched(ambassador(words), &systemd, watchdog).start();
    let status = |count: &str| format!("STATUS=1 service, {count}; etcd at {url} answers");
    let told = |status: &str| assert_eq!(systemd.next(status), status);
    told(&status("0 instances"));
    etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
    told(&status("1 instance"));
    let mut client = connect(proxy.address()).unwrap();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    proxy.signal("TERM");
    told("STOPPING=1");
    told("STATUS=waiting up to 8.0s for 1 open connections to end");
    systemd.assert_fed_for(2 * watchdog, watchdog);
    drop(client);
    assert_eq!(proxy.finish(DEADLINE).code, Some(0));
}

#[test]
fn systemd_is_told_what_a_registrar_keeps_and_that_it_ends() {
    let (url, prefix, systemd) = (etcd::shared().url(), unique_prefix(), Systemd::new());
    let words = ["register", "--etcd", &url, "--prefix", &prefix, "--address", "10.0.0.7:5432"];
    let launch = ambassador(words).arg("db").env("NOTIFY_SOCKET", &*systemd.path);
    let registrar = launch.start();
    let status = format!("STATUS=keeps {prefix}/db/10.0.0.7:5432");
    assert_eq!(systemd.next(&status), status);
    assert_eq!(registrar.terminate().code, Some(0));
    systemd.next("STOPPING=1");
}

/// However often things change.
#[test]
fn systemd_is_told_at_most_once_a_second() {
    let (etcd, prefix, systemd) = (etcd::shared(), unique_prefix(), Systemd::new());
    let url = etcd.url();
    let words = ["proxy", "--etcd", &url, "--prefix", &prefix, "redis-A", "127.0.0.1:0"];
    let _proxy = ambassador(words).env("NOTIFY_SOCKET", &*systemd.path).start();
    systemd.next("READY=1");
    let start = Instant::now();
    for instance in 0..60 {
        let key = format!("{prefix}/redis-A/{instance}");
        etcd.put(&key, &format!("10.0.0.7:{}", 5000 + instance));
        proceed_after(Duration::from_millis(50));
    }
    let most = start.elapsed().as_secs() + 1;
    systemd.socket.set_nonblocking(true).unwrap();
    let told = std::iter::from_fn(|| systemd.socket.recv(&mut [0; 1024]).ok()).count() as u64;
    assert!((1..=most).contains(&told), "{told} times");
}

/// A poll of a minute, no client, no room, and nothing to register are no reasons.
#[test]
fn watchdog_is_fed_while_threads_wait_for_their_work() {
    let upstream = Upstream::echo();
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let (url, target) = (etcd.url(), upstream.address().to_string());
    let etcd = ["--etcd", &url, "--prefix", &prefix];
    let forward = ["forward", "--listen", "127.0.0.1:0", "--max-connections", "1"];
    let watchdog = Duration::from_secs(4);
    all_at_once(
        vec![
            [&["proxy"][..], &etcd, &["redis-A", "127.0.0.1:0"]].concat(),
            [&["register", "--ttl", "1h"][..], &etcd, &["--address", "10.0.0.7:5432", "db"]]
                .concat(),
            [&forward[..], &[&target]].concat(),
        ],
        |words| {
            let systemd = Systemd::new();
            let ambassador = watched(ambassador(&words), &systemd, watchdog).start();
            systemd.next("READY=1");
            // One is served, one in the acceptor's hand, and one in the backlog.
            let clients: Vec<_> = match words[0] {
                "forward" => (0..3).map(|_| connect(ambassador.address()).unwrap()).collect(),
                _ => Vec::new(),
            };
            // Longer than any promise that is not kept by waiting.
            systemd.assert_fed_for(3 * watchdog, watchdog);
            drop(clients);
            assert_eq!(ambassador.terminate().code, Some(0));
        },
    );
}

/// A file on storage that has gone away can be opened by nobody, and for ever: here a pipe
/// that nobody writes to stands for it.
#[test]
fn stuck_poller_stops_feeding_the_watchdog_until_it_goes_on() {
    let watchdog = Duration::from_secs(2);
    let password = temp_dir("stuck").join("password");
    let (file, pipe) = (password.with_extension("file"), password.with_extension("pipe"));
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    fs::write(&file, "secret").unwrap();
    fs::copy(&file, &password).unwrap();
    let nowhere = refusing_address().to_string();
    let systemd = Systemd::new();
    let words = ["proxy", "--etcd", &nowhere, "--etcd-api", "v2", "--etcd-user", "me"];
    let words = words.iter().chain(&["--etcd-insecure-auth", "--etcd-password-file"]);
    let launch = ambassador(words).arg(&password).arg("redis-A").arg("127.0.0.1:0");
    let mut proxy = watched(launch, &systemd, watchdog).start();
    systemd.assert_fed_for(2 * watchdog, watchdog);

    fs::rename(&pipe, &password).unwrap();
    eventually("it is said who is stuck", || {
        proxy.log().iter().any(|line| line.contains("poller of redis-A is stuck"))
    });
    while systemd.next_within("WATCHDOG=1", Duration::from_millis(10)).is_some() {}
    assert_eq!(systemd.next_within("WATCHDOG=1", 2 * watchdog), None);
    assert!(proxy.is_running());

    let stuck = fs::OpenOptions::new().write(true).open(&password);
    fs::rename(&file, &password).unwrap();
    drop(stuck);
    systemd.next("WATCHDOG=1");
    systemd.assert_fed_for(2 * watchdog, watchdog);
    proxy.signal("TERM");
    assert_eq!(proxy.finish(DEADLINE).code, Some(0));
}

/// Children inherit the variables, which are meant for one process.
#[test]
fn watchdog_of_another_process_is_not_fed() {
    let upstream = Upstream::greeter("hello").address().to_string();
    let systemd = Systemd::new();
    let launch = ambassador(["forward", "--listen", "127.0.0.1:0", &upstream]);
    let launch = watched(launch, &systemd, Duration::from_secs(1)).env("WATCHDOG_PID", "1");
    let _ambassador = launch.start();
    systemd.next("READY=1");
    assert_eq!(systemd.next_within("WATCHDOG=1", Duration::from_secs(2)), None);
}
