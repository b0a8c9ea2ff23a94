//! `forward`: fixed upstreams, from the command line or from Docker's link variables.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use crate::support::ambassador::{Ambassador, ambassador, called};
use crate::support::client::{Ending, ending_of_new, has_ipv6, read_all};
use crate::support::upstream::Upstream;
use crate::support::{
    eventually, free_port, fresh_ip, proceed_after, refusing_address, skip_loudly,
};

/// `forward --listen 127.0.0.1:0 UPSTREAM...`.
fn forward(upstreams: &[&str]) -> (Ambassador, SocketAddr) {
    let fixed = ["forward", "--listen", "127.0.0.1:0"];
    let ambassador = ambassador(fixed.iter().chain(upstreams)).start();
    let address = ambassador.address();
    (ambassador, address)
}

fn greetings(address: SocketAddr, count: usize) -> Vec<String> {
    (0..count).map(|_| read_all(address).unwrap()).collect()
}

#[test]
fn connections_reach_the_upstream() {
    let upstream = Upstream::greeter("hello");
    let target = upstream.address().to_string();
    let (ambassador, address) = forward(&[&target]);
    assert_eq!(ambassador.stdout(), [format!("listening {target} {address}")]);
    assert_eq!(greetings(address, 2), ["hello"; 2]);
}

#[test]
fn several_upstreams_are_balanced() {
    let upstreams = ["a", "b", "c"].map(Upstream::greeter);
    let targets = upstreams.each_ref().map(|upstream| upstream.address().to_string());
    let (ambassador, address) = forward(&targets.each_ref().map(String::as_str));
    assert_eq!(ambassador.stdout(), [format!("listening {} {address}", targets.join(","))]);
    let heard = greetings(address, 9);
    for upstream in &upstreams {
        assert_eq!(upstream.accepted(), 3, "{heard:?}");
    }
}

#[test]
fn next_upstream_is_tried_when_one_refuses() {
    let upstream = Upstream::greeter("alive");
    let dead = refusing_address().to_string();
    let (_ambassador, address) = forward(&[&dead, &upstream.address().to_string()]);
    assert_eq!(greetings(address, 6), ["alive"; 6]);
}

#[test]
fn client_is_held_until_the_upstream_listens() {
    let server = SocketAddr::from((fresh_ip(), 6379));
    let (_ambassador, address) = forward(&[&server.to_string()]);
    let client = thread::spawn(move || read_all(address));
    proceed_after(Duration::from_millis(300));
    assert!(!client.is_finished(), "it is held");
    let _upstream = Upstream::greeter_at(server, "hello");
    assert_eq!(client.join().unwrap().unwrap(), "hello");
}

#[test]
fn upstream_by_name_is_reached() {
    let upstream = Upstream::greeter("hello");
    let (_ambassador, address) = forward(&[&format!("localhost:{}", upstream.address().port())]);
    assert_eq!(greetings(address, 2), ["hello"; 2]);
}

#[test]
fn upstream_by_ipv6_is_reached() {
    if !has_ipv6() {
        skip_loudly("upstream_by_ipv6_is_reached", "this host has no IPv6");
        return;
    }
    let upstream = Upstream::greeter_at((Ipv6Addr::LOCALHOST, 0).into(), "hello");
    let (_ambassador, address) = forward(&[&upstream.address().to_string()]);
    assert_eq!(greetings(address, 2), ["hello"; 2]);
}

#[test]
fn bare_port_is_one_listener_for_both_families() {
    let upstream = Upstream::greeter("hello");
    let target = upstream.address().to_string();
    let ambassador = ambassador(["forward", "--listen", "0", &target]).start();
    let address = ambassador.address();
    let everywhere = if has_ipv6() { "[::]" } else { "0.0.0.0" };
    let line = format!("listening {target} {everywhere}:{}", address.port());
    assert_eq!(ambassador.stdout(), [line]);
    assert_eq!(read_all((Ipv4Addr::LOCALHOST, address.port()).into()).unwrap(), "hello");
    if has_ipv6() {
        assert_eq!(read_all((Ipv6Addr::LOCALHOST, address.port()).into()).unwrap(), "hello");
    }
}

#[test]
fn listener_may_come_from_the_environment() {
    let upstream = Upstream::greeter("hello");
    let launch = ambassador(["forward", &upstream.address().to_string()]);
    let ambassador = launch.env("AMBASSADOR_LISTEN", "127.0.0.1:0").start();
    assert_eq!(greetings(ambassador.address(), 1), ["hello"]);
}

#[test]
fn port_10000_is_listened_on_unless_another_is_given() {
    let upstream = Upstream::greeter("hello");
    // As the article has it: `docker run polvi/simple-amb 172.17.42.1:4001`.
    let mut ambassador = called("simple-amb", [&upstream.address().to_string()]).start();
    eventually("it listens or ends", || {
        !ambassador.stdout().is_empty() || !ambassador.is_running()
    });
    if !ambassador.is_running() && TcpListener::bind((Ipv4Addr::UNSPECIFIED, 10000)).is_err() {
        let test = "port_10000_is_listened_on_unless_another_is_given";
        skip_loudly(test, "port 10000 is taken");
        return;
    }
    assert_eq!(ambassador.address().port(), 10000);
    assert_eq!(greetings(ambassador.address(), 1), ["hello"]);
}

#[test]
fn link_variable_gives_listener_and_upstream() {
    let upstream = Upstream::greeter("hello");
    let port = free_port();
    let target = upstream.address();
    // All that `--link redis1:db` sets; only one of it is of use.
    let ambassador = ambassador(["forward"])
        .env("DB_PORT", format!("tcp://{target}"))
        .env(&format!("DB_PORT_{port}_TCP"), format!("tcp://{target}"))
        .env(&format!("DB_PORT_{port}_TCP_ADDR"), target.ip().to_string())
        .env(&format!("DB_PORT_{port}_TCP_PORT"), target.port().to_string())
        .env(&format!("DB_PORT_{port}_TCP_PROTO"), "tcp")
        .env("DB_PORT_53_UDP", "udp://127.0.0.1:53")
        .env("DB_NAME", "/forward/db")
        .start();
    assert_eq!(ambassador.address().port(), port);
    assert_eq!(greetings(ambassador.address(), 2), ["hello"; 2]);
    assert_eq!(ambassador.stdout().len(), 1, "{:?}", ambassador.stdout());
}

#[test]
fn every_linked_port_has_its_own_listener() {
    let (redis, web) = (Upstream::greeter("redis"), Upstream::greeter("web"));
    let (redis_port, web_port) = (free_port(), free_port());
    let ambassador = ambassador(["forward"])
        .env(&format!("DB_PORT_{redis_port}_TCP"), format!("tcp://{}", redis.address()))
        .env(&format!("WEB_PORT_{web_port}_TCP"), format!("tcp://{}", web.address()))
        .start();
    eventually("two listeners", || ambassador.stdout().len() == 2);
    assert_eq!(read_all((Ipv4Addr::LOCALHOST, redis_port).into()).unwrap(), "redis");
    assert_eq!(read_all((Ipv4Addr::LOCALHOST, web_port).into()).unwrap(), "web");
}

#[test]
fn same_port_under_several_aliases_is_one_balanced_listener() {
    let upstreams = ["a", "b"].map(Upstream::greeter);
    let port = free_port();
    let ambassador = ambassador(["forward"])
        .env(&format!("A_PORT_{port}_TCP"), format!("tcp://{}", upstreams[0].address()))
        .env(&format!("B_PORT_{port}_TCP"), format!("tcp://{}", upstreams[1].address()))
        .start();
    let heard = greetings(ambassador.address(), 6);
    for upstream in &upstreams {
        assert_eq!(upstream.accepted(), 3, "{heard:?}");
    }
    assert_eq!(ambassador.stdout().len(), 1, "{:?}", ambassador.stdout());
}

/// Docker keeps the alias's name up to date when the target moves, the variable never.
///
/// In a container both ports are the same; on one host the listener has the first.
#[test]
fn linked_target_that_moved_is_found_by_its_alias() {
    let moved = Upstream::greeter("moved");
    let old = SocketAddr::from((fresh_ip(), moved.address().port()));
    let ambassador = ambassador(["forward"])
        .env(&format!("LOCALHOST_PORT_{}_TCP", free_port()), format!("tcp://{old}"))
        .start();
    assert_eq!(greetings(ambassador.address(), 2), ["moved"; 2]);
}

#[test]
fn upstream_that_is_the_own_listener_is_wrong_usage() {
    let port = free_port();
    let own = format!("127.0.0.1:{port}");
    for listen in [&own, &port.to_string()] {
        let ended = ambassador(["forward", "--listen", listen, &own]).run();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(&own), "{ended:?}");
    }
}

#[test]
fn upstream_wins_over_link_variables() {
    let upstream = Upstream::greeter("given");
    let other = Upstream::greeter("linked");
    let launch =
        ambassador(["forward", "--listen", "127.0.0.1:0", &upstream.address().to_string()]);
    let name = format!("DB_PORT_{}_TCP", free_port());
    let ambassador = launch.env(&name, format!("tcp://{}", other.address())).start();
    assert_eq!(greetings(ambassador.address(), 2), ["given"; 2]);
    assert_eq!(ambassador.stdout().len(), 1, "{:?}", ambassador.stdout());
}

#[test]
fn nothing_to_forward_to_is_wrong_usage() {
    for launch in [ambassador(["forward"]), called::<&str>("simple-amb", [])] {
        let ended = launch.run();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn unreachable_upstream_resets_a_client_that_may_not_wait() {
    let dead = refusing_address().to_string();
    let (_ambassador, address) = forward(&["--wait", "0", &dead]);
    assert_eq!(ending_of_new(address), Ending::Reset);
    // The listener itself goes on.
    assert_eq!(read_all(address).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
