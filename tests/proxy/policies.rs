//! Which instance a client gets, what the instance is told of it, and how long
//! the connection may last.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::{Scene, greetings, started, wait_for_greeting};
use crate::support::ambassador::ambassador;
use crate::support::client::{Ending, connect, ending};
use crate::support::upstream::{Upstream, fill_backlog, registration, reset};
use crate::support::usage::Usage;
use crate::support::{DEADLINE, eventually, fresh_ip, proceed_after, within};

/// A connection that has reached its upstream.
fn echoing(address: SocketAddr) -> TcpStream {
    let mut client = connect(address).unwrap();
    echo(&mut client);
    client
}

fn echo(client: &mut TcpStream) {
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

fn weighted(upstream: &Upstream, weight: u32) -> String {
    let (ip, port) = (upstream.address().ip(), upstream.address().port());
    format!(r#"{{ "port": {port}, "host": "{ip}", "weight": {weight} }}"#)
}

#[test]
fn heavier_instances_get_more_of_the_connections() {
    let scene = Scene::new();
    let (heavy, light) = (Upstream::greeter("heavy"), Upstream::greeter("light"));
    scene.put("heavy", &weighted(&heavy, 30));
    scene.put("light", &weighted(&light, 10));
    let (_ambassador, address) = started(scene.proxy([]));
    wait_for_greeting(address, "light");
    let greetings = greetings(address, 40);
    assert_eq!(greetings.iter().filter(|greeting| *greeting == "heavy").count(), 30);
}

#[test]
fn instance_without_weight_gets_clients_only_when_the_others_fail() {
    let scene = Scene::new();
    let (spare, busy) = (Upstream::greeter("spare"), Upstream::greeter("busy"));
    scene.put("spare", &weighted(&spare, 0));
    scene.put("busy", &weighted(&busy, 1));
    let (_ambassador, address) = started(scene.proxy([]));
    wait_for_greeting(address, "busy");
    assert_eq!(greetings(address, 6), ["busy"; 6]);
    drop(busy);
    assert_eq!(greetings(address, 3), ["spare"; 3]);
}

#[test]
fn least_loaded_instance_gets_the_next_connection() {
    let scene = Scene::new();
    let (one, two) = (Upstream::echo(), Upstream::echo());
    scene.register("one", &one);
    let (_ambassador, address) = started(scene.proxy(["--balance", "least-conn"]));
    let mut open: Vec<TcpStream> = (0..3).map(|_| echoing(address)).collect();
    scene.register("two", &two);
    // Until the newcomer is known, all go to the other one.
    eventually("the newcomer is used", || {
        open.push(echoing(address));
        two.accepted() > 0
    });
    while two.accepted() < one.accepted() {
        open.push(echoing(address));
    }
    assert!(open.len() == one.accepted() + two.accepted());
    assert_eq!(one.accepted(), two.accepted(), "the newcomer has caught up first");
}

#[test]
fn client_keeps_its_instance_when_balanced_by_source() {
    let scene = Scene::new();
    let upstreams: Vec<Upstream> = (0..4).map(|n| Upstream::greeter(&n.to_string())).collect();
    for (n, upstream) in upstreams.iter().enumerate() {
        scene.register(&n.to_string(), upstream);
    }
    let (_ambassador, address) = started(scene.proxy(["--balance", "source"]));
    let greetings = greetings(address, 12);
    assert!(greetings.iter().all(|greeting| *greeting == greetings[0]), "{greetings:?}");
}

#[test]
fn upstream_is_told_its_client_in_a_line_of_text() {
    let upstream = Upstream::serve(|client| {
        let mut line = String::new();
        BufReader::new(&client).read_line(&mut line)?;
        (&client).write_all(line.as_bytes())
    });
    let target = upstream.address().to_string();
    let words = ["forward", "--send-proxy", "v1", "--listen", "127.0.0.1:0", &target];
    let (_ambassador, address) = started(ambassador(words));
    let client = connect(address).unwrap();
    let mut heard = String::new();
    (&client).read_to_string(&mut heard).unwrap();
    let (from, to) = (client.local_addr().unwrap().port(), address.port());
    assert_eq!(heard, format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n"));
}

#[test]
fn upstream_is_told_its_client_in_binary_before_the_first_byte() {
    let upstream = Upstream::serve(|mut client| {
        let mut heard = [0; 28 + 5];
        client.read_exact(&mut heard)?;
        client.write_all(&heard)
    });
    let target = upstream.address().to_string();
    let words = ["forward", "--send-proxy", "v2", "--listen", "127.0.0.1:0", &target];
    let (_ambassador, address) = started(ambassador(words));
    let mut client = connect(address).unwrap();
    client.write_all(b"hello").unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c");
    assert_eq!(heard[16..24], [127, 0, 0, 1, 127, 0, 0, 1]);
    let from = client.local_addr().unwrap().port().to_be_bytes();
    assert_eq!(heard[24..28], [from, address.port().to_be_bytes()].concat());
    assert_eq!(heard[28..], *b"hello");
}

#[test]
fn idle_connection_is_cut_and_one_that_moves_is_not() {
    let upstream = Upstream::echo();
    let target = upstream.address().to_string();
    let words = ["forward", "--idle-timeout", "1s", "--listen", "127.0.0.1:0", &target];
    let (_ambassador, address) = started(ambassador(words));
    let idle = echoing(address);
    let mut busy = echoing(address);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        echo(&mut busy);
        proceed_after(Duration::from_millis(100));
    }
    assert_eq!(ending(&idle), Ending::Reset);
    echo(&mut busy);
}

#[test]
fn idle_connection_is_cut_after_the_request_to_stop_too() {
    let upstream = Upstream::echo();
    let target = upstream.address().to_string();
    let words = ["forward", "--idle-timeout", "1s", "--drain", "60s", "--listen", "127.0.0.1:0"];
    let (mut ambassador, address) = started(ambassador(words).arg(&target));
    let idle = echoing(address);
    ambassador.signal("TERM");
    assert_eq!(ending(&idle), Ending::Reset);
    assert_eq!(ambassador.finish(DEADLINE).code, Some(0));
}

#[test]
fn connections_to_a_removed_instance_are_left_alone_when_told_so() {
    let scene = Scene::new();
    let upstream = Upstream::echo();
    scene.register("one", &upstream);
    let (ambassador, address) = started(scene.proxy(["--on-remove", "keep"]));
    let mut client = echoing(address);
    scene.withdraw("one");
    drop(upstream);
    wait_until_known(&ambassador);
    proceed_after(Duration::from_secs(1));
    echo(&mut client);
}

#[test]
fn connections_to_a_removed_instance_are_cut_when_told_so() {
    let scene = Scene::new();
    let upstream = Upstream::echo();
    scene.register("one", &upstream);
    let (_ambassador, address) = started(scene.proxy(["--on-remove", "close"]));
    let client = echoing(address);
    scene.withdraw("one");
    assert_eq!(ending(&client), Ending::Reset);
}

/// The end comes behind what is queued, and a queue that is filled faster than it is read
/// has none for seconds.
#[test]
fn streams_from_a_removed_instance_are_cut_while_they_run() {
    let scene = Scene::new();
    let upstream = Upstream::serve(|mut client| {
        let piece = [0; 64 << 10];
        loop {
            client.write_all(&piece)?;
        }
    });
    scene.register("one", &upstream);
    let (_ambassador, address) = started(scene.proxy(["--on-remove", "close"]));
    let mut clients: Vec<TcpStream> = (0..6).map(|_| connect(address).unwrap()).collect();
    let mut piece = vec![0; 128 << 10];
    clients.iter_mut().for_each(|client| client.read_exact(&mut piece).unwrap());
    scene.withdraw("one");
    within(Duration::from_secs(4), "they are cut", || {
        clients.retain_mut(|client| client.read_exact(&mut piece).is_ok());
        clients.is_empty()
    });
}

/// A container that is asked to stop may finish its work; a dead one is not waited for.
#[test]
fn connections_to_a_removed_instance_are_cut_once_it_cannot_be_reached() {
    let scene = Scene::new();
    let upstream = Upstream::echo();
    scene.register("one", &upstream);
    let (ambassador, address) = started(scene.proxy([]));
    let mut client = echoing(address);
    scene.withdraw("one");
    wait_until_known(&ambassador);
    proceed_after(Duration::from_secs(1));
    echo(&mut client);
    drop(upstream); // It takes no more; what is open stays open on its side.
    assert_eq!(ending(&client), Ending::Reset);
}

/// Whether it can be reached is not known where there is no descriptor to dial with.
#[test]
fn connections_to_a_removed_instance_outlive_a_lack_of_descriptors() {
    let scene = Scene::new();
    let upstream = Upstream::echo();
    scene.register("one", &upstream);
    let (ambassador, address) = started(scene.proxy([]));
    let mut client = echoing(address);
    ambassador.limit_descriptors(Usage::of(ambassador.id()).next_descriptor());
    scene.withdraw("one");
    wait_until_known(&ambassador);
    proceed_after(Duration::from_secs(1));
    echo(&mut client);
}

/// Whoever waits for one that is dead holds up no reset between two that are not.
#[test]
fn reset_is_passed_on_while_a_removed_instance_is_tried() {
    let scene = Scene::new();
    let live = Upstream::serve(|mut client| {
        client.read_exact(&mut [0])?;
        client.write_all(b"x")?;
        client.read_exact(&mut [0])?;
        reset(client);
        Ok(())
    });
    scene.register("live", &live);
    let (ambassador, address) = started(scene.proxy(["--connect-timeout", "60s"]));
    let mut client = echoing(address);
    let dead = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    dead.bind(&SocketAddr::from((fresh_ip(), 6379)).into()).unwrap();
    dead.listen(0).unwrap();
    let dead_address = dead.local_addr().unwrap().as_socket().unwrap();
    scene.withdraw("live");
    wait_until_known(&ambassador);
    scene.put("dead", &registration(dead_address));
    let _other = connect(address).unwrap();
    let _accepted = dead.accept().unwrap();
    let _queue = fill_backlog(dead_address);
    scene.withdraw("dead");
    eventually("the removal is known", || {
        ambassador.log().iter().filter(|line| line.contains("0 instances")).count() == 2
    });
    proceed_after(Duration::from_secs(1));
    client.write_all(b"x").unwrap();
    assert_eq!(ending(&client), Ending::Reset);
}

fn wait_until_known(ambassador: &crate::support::ambassador::Ambassador) {
    eventually("the removal is known", || {
        ambassador.log().iter().any(|line| line.contains("0 instances"))
    });
}
