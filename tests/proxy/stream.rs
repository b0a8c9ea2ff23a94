//! Every byte arrives in order, and every ending arrives as what it was.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;

use super::*;
use crate::support::upstream::reset;

/// A proxy in front of `upstream`.
fn in_front_of(upstream: &Upstream) -> (Ambassador, SocketAddr) {
    let scene = Scene::new();
    scene.register("one", upstream);
    started(scene.proxy([]))
}

/// Bytes in which a lost, repeated or swapped piece would be noticed.
fn random_bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Compared as a whole: on failure nobody wants to read 4 MiB.
#[track_caller]
fn assert_same(received: &[u8], sent: &[u8]) {
    assert_eq!(received.len(), sent.len());
    let difference = received.iter().zip(sent).position(|(a, b)| a != b);
    assert_eq!(difference, None, "first byte that differs");
}

#[test]
fn reply_arrives_after_the_client_half_closes() {
    let reply = random_bytes(300_000);
    let sent = reply.clone();
    let upstream = Upstream::serve(move |mut client| {
        let mut question = String::new();
        client.read_to_string(&mut question)?;
        assert_eq!(question, "what is there?");
        client.write_all(&sent)
    });
    let (_ambassador, address) = in_front_of(&upstream);
    let mut client = connect(address).unwrap();
    client.write_all(b"what is there?").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_same(&answer, &reply);
}

#[test]
fn upstream_still_receives_after_it_half_closed() {
    let (sender, receiver) = mpsc::channel();
    let upstream = Upstream::serve(move |mut client| {
        client.write_all(b"no more from me")?;
        client.shutdown(Shutdown::Write)?;
        let mut received = Vec::new();
        client.read_to_end(&mut received)?;
        sender.send(received).map_err(std::io::Error::other)
    });
    let (_ambassador, address) = in_front_of(&upstream);
    let mut client = connect(address).unwrap();
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "no more from me");
    let late = random_bytes(300_000);
    client.write_all(&late).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_same(&receiver.recv_timeout(crate::support::DEADLINE).unwrap(), &late);
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
fn reset_by_the_upstream_reaches_the_client_as_a_reset() {
    let upstream = Upstream::serve(|mut client| {
        client.read_exact(&mut [0; 1])?;
        reset(client);
        Ok(())
    });
    let (_ambassador, address) = in_front_of(&upstream);
    for _ in 0..5 {
        let mut client = connect(address).unwrap();
        client.write_all(b"x").unwrap();
        assert_eq!(ending(&client), Ending::Reset);
    }
}

#[test]
fn reset_by_the_client_reaches_the_upstream_as_a_reset() {
    let (sender, receiver) = mpsc::channel();
    let upstream = Upstream::serve(move |mut client| {
        client.write_all(b"x")?;
        sender.send(ending(&client)).map_err(std::io::Error::other)
    });
    let (_ambassador, address) = in_front_of(&upstream);
    for _ in 0..5 {
        let mut client = connect(address).unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
        reset(client);
        let ended = receiver.recv_timeout(crate::support::DEADLINE).unwrap();
        assert_eq!(ended, Ending::Reset);
    }
}

/// A half of the stream that ended well does not hide that the other one broke.
#[test]
fn reset_after_a_half_close_is_still_a_reset() {
    let (sender, receiver) = mpsc::channel();
    let upstream =
        Upstream::serve(move |client| sender.send(client).map_err(std::io::Error::other));
    let (_ambassador, address) = in_front_of(&upstream);
    let mut client = connect(address).unwrap();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut server: TcpStream = receiver.recv_timeout(crate::support::DEADLINE).unwrap();
    let mut question = String::new();
    server.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    server.write_all(b"half an ans").unwrap();
    client.read_exact(&mut [0; 11]).unwrap();
    reset(server);
    assert_eq!(ending(&client), Ending::Reset);
}

/// The kernel tells one thread of a reset and shows the other an end of the stream.
#[test]
fn reset_while_the_other_direction_is_stuck_is_a_reset() {
    let (sender, receiver) = mpsc::channel();
    let upstream = Upstream::serve(move |mut client| {
        // Until nobody takes any more; then this one thread is told how it ends.
        client.set_write_timeout(Some(Duration::from_millis(50)))?;
        while client.write(&[0; 65536]).is_ok() {}
        sender.send(None).map_err(std::io::Error::other)?;
        sender.send(Some(ending(&client))).map_err(std::io::Error::other)
    });
    let (_ambassador, address) = in_front_of(&upstream);
    for _ in 0..10 {
        let client = connect(address).unwrap();
        let told = || receiver.recv_timeout(crate::support::DEADLINE).unwrap();
        assert_eq!(told(), None, "it is stuck");
        reset(client);
        assert_eq!(told(), Some(Ending::Reset));
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

/// Whatever way a connection ends, what it took comes back.
#[test]
fn ended_connections_leave_neither_descriptors_nor_threads_behind() {
    let upstream = Upstream::serve(|mut client| {
        let mut order = [0; 1];
        client.read_exact(&mut order)?;
        match order[0] {
            b'r' => reset(client),
            b'e' => client.write_all(b"enough")?,
            _ => drop(client.read_to_end(&mut Vec::new())),
        }
        Ok(())
    });
    let (ambassador, address) = in_front_of(&upstream);
    let count = |what: &str| {
        std::fs::read_dir(format!("/proc/{}/{what}", ambassador.id())).unwrap().count()
    };
    let use_up = |connections: usize| {
        for n in 0..connections {
            let mut client = connect(address).unwrap();
            client.write_all(&[b"rew"[n % 3]]).unwrap();
            match n % 4 {
                0 => reset(client),
                1 => drop(client),
                _ => {
                    // It may have been reset already.
                    drop(client.shutdown(Shutdown::Write));
                    ending(&client);
                }
            }
        }
    };
    use_up(24);
    eventually("the first connections have ended", || count("fd") < 24);
    let (descriptors, threads) = (count("fd"), count("task"));
    use_up(240);
    eventually("descriptors and threads are back", || {
        count("fd") <= descriptors + 2 && count("task") <= threads + 4
    });
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
            || ["ambassador", "main", "signals", "log", "poller", "acceptor", "sweeper"]
                .contains(&name)
    };
    for wanted in ["poller", "acceptor", "log", "up-0", "down-0"] {
        assert!(names().iter().any(|name| name == wanted), "no {wanted} in {:?}", names());
    }
    let names = names();
    let unknown: Vec<_> = names.iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} among {names:?}");
}
