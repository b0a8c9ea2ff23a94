//! Every byte arrives, in order and soon, and what a connection took comes back.
//! How connections end is in `tests/endings.rs`.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;

use super::*;
use crate::support::bytes::{assert_same, random_bytes};
use crate::support::client::open_connection;

/// A proxy in front of `upstream`.
fn in_front_of(upstream: &Upstream) -> (Ambassador, SocketAddr) {
    let scene = Scene::new();
    scene.register("one", upstream);
    started(scene.proxy([]))
}

#[test]
fn megabytes_pass_both_ways_at_once() {
    let upstream = Upstream::echo();
    let (_ambassador, address) = in_front_of(&upstream);
    let sent = random_bytes(4 << 20);
    let mut client = connect(address).unwrap();
    let mut writer = client.try_clone().unwrap();
    let to_send = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&to_send).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert_same(&received, &sent);
}

#[test]
fn many_connections_at_once_do_not_mix() {
    let upstream = Upstream::echo();
    let (_ambassador, address) = in_front_of(&upstream);
    let clients: Vec<_> = (0..50)
        .map(|n: u32| {
            thread::spawn(move || {
                let sent = n.to_le_bytes().repeat(5000);
                let mut client = connect(address).unwrap();
                client.write_all(&sent).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut received = Vec::new();
                client.read_to_end(&mut received).unwrap();
                assert_same(&received, &sent);
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn end_of_the_client_ends_the_upstreams_connection() {
    let (sender, receiver) = mpsc::channel();
    let upstream = Upstream::serve(move |client| {
        let ended = ending(&client);
        sender.send(ended).map_err(std::io::Error::other)
    });
    let (_ambassador, address) = in_front_of(&upstream);
    let client = connect(address).unwrap();
    eventually("the upstream has it", || upstream.accepted() == 1);
    drop(client);
    let ended = receiver.recv_timeout(crate::support::DEADLINE).unwrap();
    assert_eq!(ended, Ending::Fin);
}

/// Two small writes before an answer are what Nagle's algorithm delays by 40 ms.
#[test]
fn small_messages_are_not_held_back() {
    let upstream = Upstream::serve(|mut client| {
        client.set_nodelay(true)?;
        loop {
            client.read_exact(&mut [0; 2])?;
            client.write_all(b"a")?;
            client.write_all(b"b")?;
        }
    });
    let (_ambassador, address) = in_front_of(&upstream);
    let mut client = connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    let start = Instant::now();
    for _ in 0..100 {
        client.write_all(b"a").unwrap();
        // Long enough for the proxy to pass it on alone.
        proceed_after(Duration::from_millis(1));
        client.write_all(b"b").unwrap();
        client.read_exact(&mut [0; 2]).unwrap();
    }
    assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
}

/// `ps -T`, gdb and the log call a thread by the same name.
#[test]
fn every_thread_has_a_name_that_says_what_it_does() {
    let upstream = Upstream::echo();
    let (ambassador, address) = in_front_of(&upstream);
    let mut client = connect(address).unwrap();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    let names = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", ambassador.id())).unwrap();
        let comm = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        tasks.filter_map(comm).map(|name| name.trim().to_owned()).collect::<Vec<_>>()
    };
    let is_known = |name: &str| {
        let copies = ["up-", "down-"].iter().find_map(|start| name.strip_prefix(start));
        copies.is_some_and(|number| number.parse::<u32>().is_ok())
            || ["ambassador", "main", "signals", "log", "poller", "acceptor", "sweeper", "parked"]
                .contains(&name)
    };
    for wanted in ["poller", "acceptor", "log", "up-0", "down-0"] {
        eventually(&format!("{wanted} is there"), || names().iter().any(|name| name == wanted));
    }
    drop(client);
    eventually("both threads are parked", || {
        let names = names();
        names.iter().filter(|name| *name == "parked").count() == 2
            && !names.iter().any(|name| name.ends_with("-0"))
    });
    let _other = open_connection(address);
    eventually("one of them has another name", || names().iter().any(|name| name == "up-1"));
    let names = names();
    let unknown: Vec<_> = names.iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} among {names:?}");
}
