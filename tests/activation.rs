//! Listening sockets that somebody else holds, as systemd's socket units do.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::ambassador::{Launch, ambassador};
use crate::support::client::{Ending, connect, echoes, ending_of_new, open_connection, read_all};
use crate::support::upstream::Upstream;
use crate::support::{DEADLINE, etcd, eventually, proceed_after, skip_loudly, unique_prefix};

fn held_socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// `forward --listen LISTEN OPTIONS... UPSTREAM`.
fn forward(upstream: &Upstream, listen: impl ToString, options: &[&str]) -> Launch {
    let words = ["forward", "--listen", &listen.to_string()];
    ambassador(words.iter().chain(options)).arg(upstream.address().to_string())
}

/// One whole visit: says something, finishes, and hears it back.
fn visit(address: SocketAddr) -> io::Result<()> {
    let mut client = connect(address)?;
    client.write_all(b"hello")?;
    client.shutdown(Shutdown::Write)?;
    let mut heard = String::new();
    client.read_to_string(&mut heard)?;
    if heard == "hello" { Ok(()) } else { Err(io::Error::other(format!("heard {heard:?}"))) }
}

#[test]
fn passed_socket_is_served_and_not_bound_again() {
    let upstream = Upstream::greeter("hello");
    let (socket, address) = held_socket();
    let ambassador = forward(&upstream, address, &[]).passing(&socket).start();
    assert_eq!(ambassador.address(), address);
    assert_eq!(read_all(address).unwrap(), "hello");
    assert_eq!(ambassador.terminate().code, Some(0));
    // It is there as before, and nobody takes its clients.
    let _waits = connect(address).unwrap();
}

#[test]
fn bare_port_takes_the_socket_on_every_interface() {
    let upstream = Upstream::greeter("hello");
    for any in ["0.0.0.0:0", "[::]:0"] {
        let Ok(socket) = TcpListener::bind(any) else { continue };
        let address = socket.local_addr().unwrap();
        let ambassador = forward(&upstream, address.port(), &[]).passing(&socket).start();
        assert_eq!(ambassador.address(), address);
        assert_eq!(read_all(address).unwrap(), "hello");
    }
}

#[test]
fn listeners_without_a_socket_are_bound() {
    let (url, prefix) = (etcd::shared().url(), unique_prefix());
    let (socket, address) = held_socket();
    let words = ["proxy", "--wait", "0", "--etcd", &url, "--prefix", &prefix];
    let routes = ["redis-A", "127.0.0.1:0", "redis-B", &address.to_string()];
    let launch = ambassador(words.iter().chain(&routes)).passing(&socket);
    let ambassador = launch.start();
    assert_eq!(ambassador.address_of("redis-B"), address);
    let bound = ambassador.address_of("redis-A");
    assert_ne!(bound, address);
    // There is no instance: whoever is accepted is reset.
    assert_eq!(ending_of_new(bound), Ending::Reset);
    assert_eq!(ending_of_new(address), Ending::Reset);
}

/// Its clients would wait for ever.
#[test]
fn socket_that_no_listener_is_at_is_wrong_usage() {
    let upstream = Upstream::greeter("hello");
    let (socket, address) = held_socket();
    let other = "127.0.0.1:0";
    let register = ambassador(["register", "--address", "10.0.0.7:5432", "db"]);
    for launch in [forward(&upstream, other, &[]), register] {
        let ended = launch.passing(&socket).run();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.contains(&address.to_string()), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
}

/// The variables are inherited by children, and meant for one process.
#[test]
fn sockets_passed_to_another_process_are_not_ours() {
    let upstream = Upstream::greeter("hello");
    for (name, value) in [("LISTEN_PID", "1"), ("AMBASSADOR_IS", "without LISTEN_PID")] {
        let launch = forward(&upstream, "127.0.0.1:0", &[]);
        let ambassador = launch.env("LISTEN_FDS", "1").env(name, value).start();
        assert_eq!(read_all(ambassador.address()).unwrap(), "hello");
    }
}

#[test]
fn what_is_not_a_listening_tcp_socket_is_wrong_usage() {
    let upstream = Upstream::greeter("hello");
    let (_listens, address) = held_socket();
    let connected = connect(address).unwrap();
    // Such is what a socket unit with Accept=yes passes.
    let socket = TcpListener::from(std::os::fd::OwnedFd::from(connected));
    let ended = forward(&upstream, address, &[]).passing(&socket).run();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("does not listen"), "{ended:?}");
    for (count, words) in [("1", "fd 3 is not a socket"), ("many", "expected a number")] {
        let script = format!(r#"LISTEN_FDS={count} LISTEN_PID=$$ exec "$0" "$@" 3</dev/null"#);
        let launch = forward(&upstream, "127.0.0.1:0", &[]);
        let ended = launch.under(&["/bin/sh", "-c", &script]).run();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(words), "{ended:?}");
    }
}

/// Whoever connects during the drain is for the next process.
#[test]
fn draining_process_leaves_new_clients_to_the_next_one() {
    let upstream = Upstream::echo();
    let (socket, address) = held_socket();
    let mut first = forward(&upstream, address, &[]).passing(&socket).start();
    assert_eq!(first.address(), address);
    let mut old = open_connection(address);
    first.signal("TERM");
    eventually("it is asked to stop", || first.log().iter().any(|l| l.contains("asked to stop")));
    let accepted = upstream.accepted();
    let new = thread::spawn(move || visit(address));
    proceed_after(Duration::from_millis(300));
    assert!(echoes(&mut old), "the drain lets it go on");
    assert_eq!(upstream.accepted(), accepted, "a draining process took a new client");
    drop(old);
    assert_eq!(first.finish(DEADLINE).code, Some(0));
    assert!(!new.is_finished());
    let _second = forward(&upstream, address, &[]).passing(&socket).start();
    new.join().unwrap().unwrap();
}

/// It cannot be given back to the socket.
#[test]
fn client_that_was_accepted_and_waits_at_the_cap_is_served_before_the_end() {
    let upstream = Upstream::echo();
    let (socket, address) = held_socket();
    let one = ["--max-connections", "1"];
    let mut first = forward(&upstream, address, &one).passing(&socket).start();
    let mut old = open_connection(address);
    let next = thread::spawn(move || visit(address));
    proceed_after(Duration::from_millis(300));
    assert!(!next.is_finished());
    first.signal("TERM");
    next.join().unwrap().unwrap();
    assert!(echoes(&mut old));
    drop(old);
    assert_eq!(first.finish(DEADLINE).code, Some(0));
}

/// 200 new connections a second, and three restarts.
#[test]
fn restart_refuses_no_client_and_resets_none() {
    const GAP: Duration = Duration::from_millis(5);
    let upstream = Upstream::echo();
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
    let (url, (socket, address)) = (etcd.url(), held_socket());
    let listen = address.to_string();
    let proxy = || {
        let words = ["proxy", "--etcd", &url, "--prefix", &prefix, "redis-A", &listen];
        let proxy = ambassador(words).passing(&socket).start();
        assert_eq!(proxy.address(), address);
        proxy
    };
    let mut current = proxy();
    let without_process = AtomicBool::new(false);
    let met_nobody = AtomicUsize::new(0);
    let said: Mutex<Vec<String>> = Mutex::default();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let restarts = scope.spawn(|| {
            for _ in 0..3 {
                proceed_after(Duration::from_millis(500));
                let mut open = open_connection(address);
                // On a busy machine the upstream may not have been reached for a moment, and
                // clients that are held for that are reset in the end. They are not held for
                // longer than this once it is reached again.
                proceed_after(Duration::from_millis(500));
                assert!(echoes(&mut open));
                current.signal("TERM");
                // It drains for as long as this one lasts.
                proceed_after(Duration::from_millis(500));
                assert!(echoes(&mut open));
                drop(open);
                let ended = current.finish(DEADLINE);
                assert_eq!(ended.code, Some(0));
                let about_clients = ended
                    .stderr
                    .lines()
                    .filter(|line| line.starts_with("WARN") || line.contains("nothing served"));
                said.lock().unwrap().extend(about_clients.map(str::to_owned));
                without_process.store(true, Ordering::SeqCst);
                proceed_after(Duration::from_millis(200));
                without_process.store(false, Ordering::SeqCst);
                current = proxy();
            }
            proceed_after(Duration::from_millis(500));
            current
        });
        let (start, mut clients) = (Instant::now(), Vec::new());
        while !restarts.is_finished() {
            clients.push(scope.spawn(|| {
                if without_process.load(Ordering::SeqCst) {
                    met_nobody.fetch_add(1, Ordering::SeqCst);
                }
                visit(address)
            }));
            let due = start + GAP * clients.len() as u32;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let rate = clients.len() as f64 / start.elapsed().as_secs_f64();
        // 200 where the machine has nothing else to do.
        assert!(rate > 100.0, "only {rate} connections a second");
        // Serves until the last of them is done.
        let _last = restarts.join().unwrap();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let failures: Vec<_> = outcomes.iter().filter(|outcome| outcome.is_err()).collect();
    let (failed, all) = (failures.len(), outcomes.len());
    assert!(failures.is_empty(), "{failed} of {all}: {failures:?}: {said:#?}");
    let met_nobody = met_nobody.into_inner();
    assert!(met_nobody > 60, "only {met_nobody} came while there was no process");
    assert!(outcomes.len() > 600, "only {}", outcomes.len());
}

/// At the moment in which a process is asked to stop it may have just accepted a client.
#[test]
fn fifty_restarts_under_full_load_fail_no_client() {
    let upstream = Upstream::echo();
    let (socket, address) = held_socket();
    let forward = || forward(&upstream, address, &[]).passing(&socket).start();
    let (is_over, visits) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let visit_on = || -> io::Result<()> {
            while !is_over.load(Ordering::SeqCst) {
                visit(address)?;
                visits.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(visit_on)).collect();
        let (mut current, mut codes) = (forward(), Vec::new());
        for _ in 0..50 {
            // Another moment each time.
            let visits = visits.load(Ordering::SeqCst);
            // Before it catches signals it could only be killed by one.
            current.address();
            proceed_after(Duration::from_millis(30 + visits as u64 % 20));
            current.signal("TERM");
            codes.push(current.finish(DEADLINE).code);
            current = forward();
        }
        is_over.store(true, Ordering::SeqCst);
        let outcomes: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(codes, [Some(0); 50]);
    });
    let visits = visits.into_inner();
    assert!(visits > 500, "only {visits}");
}

/// The real one, for several sockets, which it makes in its own way.
#[test]
fn sockets_of_systemd_socket_activate_are_served() {
    const PROGRAM: &str = "/usr/bin/systemd-socket-activate";
    if !std::path::Path::new(PROGRAM).exists() {
        skip_loudly("sockets_of_systemd_socket_activate_are_served", "it is not installed");
        return;
    }
    let (url, prefix) = (etcd::shared().url(), unique_prefix());
    let listen = [0; 2].map(|_| format!("127.0.0.1:{}", crate::support::free_port()));
    let words = ["proxy", "--wait", "0", "--etcd", &url, "--prefix", &prefix];
    let routes = ["redis-A", &listen[0], "redis-B", &listen[1]];
    let wrapper = [PROGRAM, "--listen", &listen[1], "--listen", &listen[0]];
    let launch = ambassador(words.iter().chain(&routes)).under(&wrapper);
    let ambassador = launch.start();
    // It starts what it is told to on the first connection.
    let addresses = listen.map(|address| address.parse::<SocketAddr>().unwrap());
    eventually("a first client", || ending_of_new(addresses[0]) == Ending::Reset);
    for (name, address) in ["redis-A", "redis-B"].into_iter().zip(addresses) {
        assert_eq!(ambassador.address_of(name), address);
        assert_eq!(ending_of_new(address), Ending::Reset);
    }
    assert_eq!(ambassador.terminate().code, Some(0));
}
