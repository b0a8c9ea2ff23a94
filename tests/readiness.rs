//! How an ambassador says that it is ready, and to whom.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;

use crate::support::ambassador::ambassador;
use crate::support::client::read_all;
use crate::support::upstream::Upstream;
use crate::support::{DEADLINE, etcd, eventually, free_port, temp_dir, unique_prefix};

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
