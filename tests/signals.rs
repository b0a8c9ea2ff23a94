//! How every role ends, and what does not end it.

use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::ambassador::{Ambassador, Launch, ambassador};
use crate::support::client::{Ending, echoes, ending, ending_of_new, open_connection};
use crate::support::etcd;
use crate::support::upstream::Upstream;
use crate::support::{DEADLINE, eventually, is_root, proceed_after, skip_loudly, unique_prefix};

/// `forward --listen 127.0.0.1:0 OPTIONS... UPSTREAM`.
fn forward<const N: usize>(upstream: &Upstream, options: [&str; N]) -> Launch {
    let fixed = ["forward", "--listen", "127.0.0.1:0"];
    ambassador(fixed.into_iter().chain(options)).arg(upstream.address().to_string())
}

/// `proxy` of a service that nobody has registered.
fn proxy_of_nothing() -> Launch {
    let (url, prefix) = (etcd::shared().url(), unique_prefix());
    ambassador(["proxy", "--etcd", &url, "--prefix", &prefix, "redis-A", "127.0.0.1:0"])
}

fn register() -> Launch {
    let (url, prefix) = (etcd::shared().url(), unique_prefix());
    let fixed = ["register", "--etcd", &url, "--prefix", &prefix];
    ambassador(fixed.into_iter().chain(["--address", "10.0.0.7:5432", "db"]))
}

/// Waits until it has installed its handlers: that comes before anything it says.
fn wait_until_up(ambassador: &Ambassador) {
    eventually("a sign of life", || {
        !ambassador.stdout().is_empty() || ambassador.log().iter().any(|l| l.contains("10.0.0.7"))
    });
}

#[test]
fn sigterm_and_sigint_end_every_role_with_exit_0_at_once() {
    let upstream = Upstream::echo();
    for signal in ["TERM", "INT"] {
        for launch in [forward(&upstream, []), proxy_of_nothing(), register()] {
            let mut ambassador = launch.start();
            wait_until_up(&ambassador);
            let told = Instant::now();
            ambassador.signal(signal);
            let ended = ambassador.finish(DEADLINE);
            assert_eq!(ended.code, Some(0), "{signal}: {ended:?}");
            assert!(told.elapsed() < Duration::from_secs(3), "{signal}: {:?}", told.elapsed());
        }
    }
}

#[test]
fn sigterm_ends_a_role_that_waits_for_etcd() {
    let nowhere = crate::support::refusing_address().to_string();
    let launches = [
        ambassador(["proxy", "--etcd", &nowhere, "redis-A", "127.0.0.1:0"]),
        ambassador(["register", "--etcd", &nowhere, "--address", "10.0.0.7:5432", "db"]),
    ];
    for launch in launches {
        let ambassador = launch.start();
        ambassador.wait_for_warning(&[&nowhere]);
        let told = Instant::now();
        assert_eq!(ambassador.terminate().code, Some(0));
        assert!(told.elapsed() < Duration::from_secs(4), "{:?}", told.elapsed());
    }
}

#[test]
fn drain_lets_an_open_connection_end_and_takes_no_new_one() {
    let upstream = Upstream::echo();
    let mut ambassador = forward(&upstream, []).start();
    let address = ambassador.address();
    let mut client = open_connection(address);
    ambassador.signal("TERM");
    eventually("nobody listens any more", || TcpStream::connect(address).is_err());
    assert!(echoes(&mut client), "it goes on");
    assert!(ambassador.is_running());
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ending(&client), Ending::Fin);
    let ended_by_client = Instant::now();
    assert_eq!(ambassador.finish(DEADLINE).code, Some(0));
    // Long before the 8 s that it would have had.
    assert!(ended_by_client.elapsed() < Duration::from_secs(3), "{:?}", ended_by_client.elapsed());
}

#[test]
fn connection_that_outlasts_the_drain_is_reset() {
    let upstream = Upstream::echo();
    let mut ambassador = forward(&upstream, ["--drain", "1s"]).start();
    let client = open_connection(ambassador.address());
    let told = Instant::now();
    ambassador.signal("TERM");
    assert_eq!(ending(&client), Ending::Reset);
    assert!(told.elapsed() > Duration::from_millis(900), "{:?}", told.elapsed());
    assert_eq!(ambassador.finish(DEADLINE).code, Some(0));
    assert!(told.elapsed() < Duration::from_secs(4), "{:?}", told.elapsed());
}

#[test]
fn second_signal_ends_the_drain_at_once() {
    for signal in ["TERM", "INT"] {
        let upstream = Upstream::echo();
        let mut ambassador = forward(&upstream, ["--drain", "5m"]).start();
        let address = ambassador.address();
        let client = open_connection(address);
        ambassador.signal("TERM");
        eventually("the drain has begun", || TcpStream::connect(address).is_err());
        let told = Instant::now();
        ambassador.signal(signal);
        let ended = ambassador.finish(DEADLINE);
        assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ending(&client), Ending::Reset);
    }
}

#[test]
fn held_client_is_reset_by_sigterm() {
    let mut ambassador = proxy_of_nothing().start();
    let address = ambassador.address();
    let held = thread::spawn(move || ending_of_new(address));
    proceed_after(Duration::from_millis(300));
    assert!(!held.is_finished(), "it is held");
    let told = Instant::now();
    ambassador.signal("TERM");
    assert_eq!(held.join().unwrap(), Ending::Reset);
    assert_eq!(ambassador.finish(DEADLINE).code, Some(0));
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
}

#[test]
fn sighup_changes_nothing() {
    let upstream = Upstream::echo();
    let mut forward = forward(&upstream, []).start();
    let mut client = open_connection(forward.address());
    let mut register = register().start();
    wait_until_up(&register);
    for _ in 0..3 {
        forward.signal("HUP");
        register.signal("HUP");
    }
    proceed_after(Duration::from_millis(300));
    assert!(echoes(&mut client));
    open_connection(forward.address());
    assert!(forward.is_running() && register.is_running());
    drop(client);
    assert_eq!(forward.terminate().code, Some(0));
    assert_eq!(register.terminate().code, Some(0));
}

/// The kernel gives PID 1 no default action: without a handler SIGTERM is lost.
#[test]
fn process_1_ends_on_sigterm_too() {
    if !is_root() {
        skip_loudly("process_1_ends_on_sigterm_too", "only root may make a PID namespace");
        return;
    }
    let upstream = Upstream::greeter("hello");
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--"];
    for signal in ["TERM", "INT"] {
        for launch in [forward(&upstream, []), proxy_of_nothing(), register()] {
            let mut ambassador = launch.under(&wrapper).start();
            wait_until_up(&ambassador);
            assert!(ambassador.is_running());
            ambassador.signal_child(signal);
            let ended = ambassador.finish(Duration::from_secs(5));
            assert_eq!(ended.code, Some(0), "{signal}: {ended:?}");
        }
    }
}
