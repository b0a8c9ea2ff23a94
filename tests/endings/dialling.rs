//! No connection to an upstream yet, or none that it has accepted.

use super::*;
use crate::support::client::{ending_of_new, read_all};
use crate::support::upstream::{Upstream, silent_address};
use crate::support::{DEADLINE, fresh_ip, refusing_address};

/// A client that is held because nothing listens at the upstream's address yet.
struct Held {
    ambassador: Ambassador,
    server: SocketAddr,
    client: TcpStream,
}

impl Held {
    fn new(options: &[&str]) -> Held {
        let server = SocketAddr::from((fresh_ip(), 6379));
        let ambassador = forward(options, &[server]);
        let client = bounded(connect(ambassador.address()).unwrap());
        wait_for_threads(&ambassador, &["up"]);
        Held { ambassador, server, client }
    }

    /// The upstream appears, and the client reaches it.
    fn upstream(&self) -> TcpStream {
        assert_quiet(&self.client);
        accept(&TcpListener::bind(self.server).unwrap())
    }
}

#[test]
fn client_sends_fin_while_it_is_held_and_is_answered() {
    let held = Held::new(&[]);
    (&held.client).write_all(b"question").unwrap();
    held.client.shutdown(Shutdown::Write).unwrap();
    proceed_after(Duration::from_millis(500));
    wait_for_threads(&held.ambassador, &["up"]);
    let upstream = held.upstream();
    assert_eq!(read_to_ending(&upstream), (b"question".to_vec(), Ending::Fin));
    pass_and_finish(&upstream, &held.client, b"answer");
    wait_for_threads(&held.ambassador, &[]);
}

#[test]
fn client_resets_while_it_is_held_and_nothing_is_dialled_for_it() {
    let Held { ambassador, server, client } = Held::new(&[]);
    (&client).write_all(b"question").unwrap();
    let start = Instant::now();
    reset(client);
    wait_for_threads(&ambassador, &[]);
    assert_at_once(start);
    let listener = TcpListener::bind(server).unwrap();
    listener.set_nonblocking(true).unwrap();
    // Twice the longest pause between two dials.
    proceed_after(Duration::from_millis(500));
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn client_is_silent_until_its_wait_is_over_and_is_reset() {
    let start = Instant::now();
    let held = Held::new(&["--wait", "1s"]);
    assert_eq!(read_to_ending(&held.client), (vec![], Ending::Reset));
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < SOON, "{waited:?}");
    wait_for_threads(&held.ambassador, &[]);
}

#[test]
fn client_stops_reading_while_it_is_held_and_loses_nothing() {
    let held = Held::new(&[]);
    let client = &held.client;
    let question = &STREAM[..write_until_stuck(client, &STREAM)];
    client.shutdown(Shutdown::Write).unwrap();
    let upstream = held.upstream();
    let (received, ending) = read_to_ending(&upstream);
    assert_eq!(ending, Ending::Fin);
    assert_same(&received, question);
    let answer = &STREAM[..write_until_stuck(&upstream, &STREAM)];
    upstream.shutdown(Shutdown::Write).unwrap();
    let (received, ending) = read_to_ending(client);
    assert_eq!(ending, Ending::Fin);
    assert_same(&received, answer);
    wait_for_threads(&held.ambassador, &[]);
}

/// It was reached, so that nobody else is asked.
#[test]
fn upstream_sends_fin_at_once_and_the_client_sees_a_fin() {
    let upstreams = [(); 2].map(|()| Upstream::serve(|_| Ok(())));
    let ambassador = forward(&[], &upstreams.each_ref().map(Upstream::address));
    for round in 1..=4 {
        let start = Instant::now();
        let client = bounded(connect(ambassador.address()).unwrap());
        assert_eq!(read_to_ending(&client), (vec![], Ending::Fin));
        assert_at_once(start);
        wait_for_threads(&ambassador, &["up"]);
        drop(client);
        wait_for_threads(&ambassador, &[]);
        assert_eq!(upstreams.iter().map(Upstream::accepted).sum::<usize>(), round);
    }
}

#[test]
fn upstream_resets_and_the_client_sees_it_only_once_connected() {
    let alive = Upstream::greeter("alive");
    // Without a wait nobody is dialled twice.
    let ambassador = forward(&["--wait", "0"], &[refusing_address(), alive.address()]);
    for _ in 0..2 {
        let start = Instant::now();
        assert_eq!(read_all(ambassador.address()).unwrap(), "alive");
        assert_at_once(start);
    }
    wait_for_threads(&ambassador, &[]);

    let upstream = Upstream::serve(|client| {
        reset(client);
        Ok(())
    });
    let ambassador = forward(&[], &[upstream.address()]);
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(ending_of_new(ambassador.address()), Ending::Reset);
        assert_at_once(start);
    }
    wait_for_threads(&ambassador, &[]);
}

#[test]
fn upstream_is_silent_and_the_next_one_is_dialled_after_the_connect_timeout() {
    let (silent, _kept_full) = silent_address();
    let alive = Upstream::greeter("alive");
    // The one that is named first has the first turn.
    let options = ["--connect-timeout", "1500ms"];
    let ambassador = forward(&options, &[silent, alive.address()]);
    let start = Instant::now();
    let client = bounded(connect(ambassador.address()).unwrap());
    wait_for_threads(&ambassador, &["up"]);
    assert_eq!(read_to_ending(&client), (b"alive".to_vec(), Ending::Fin));
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(1500) && waited < SOON, "{waited:?}");
    drop(client);
    wait_for_threads(&ambassador, &[]);
}

/// connect(2) ends early when the process was stopped and goes on, or its container was
/// paused; what it has begun goes on.
#[test]
fn dial_outlives_a_pause_of_the_process() {
    let (silent, mut queue) = silent_address();
    let options = ["--wait", "0s", "--connect-timeout", "60s"];
    let mut ambassador = forward(&options, &[silent]);
    let client = bounded(connect(ambassador.address()).unwrap());
    wait_for_threads(&ambassador, &["up"]);
    proceed_after(Duration::from_millis(300));
    ambassador.signal("STOP");
    ambassador.signal("CONT");
    assert_quiet(&client);
    // Behind those that filled it.
    let listener = queue.pop().unwrap();
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    for _ in &queue {
        listener.accept().unwrap();
    }
    let upstream = TcpStream::from(listener.accept().unwrap().0);
    finish(&upstream, &client);
    finish(&client, &upstream);
    wait_for_threads(&ambassador, &[]);
}

/// The kernel connects for it; the program behind has not accepted yet.
#[test]
fn upstream_stops_reading_before_it_accepts_and_loses_nothing() {
    let scene = Scene::new(&[]);
    let client = bounded(connect(scene.ambassador.address()).unwrap());
    let taken = write_until_stuck(&client, &STREAM);
    client.shutdown(Shutdown::Write).unwrap();
    proceed_after(LONG);
    assert_quiet(&client);
    scene.wait_for_threads(&["down", "up"]);
    let upstream = accept(&scene.listener);
    let (received, ending) = read_to_ending(&upstream);
    assert_eq!(ending, Ending::Fin);
    assert_same(&received, &STREAM[..taken]);
    finish(&upstream, &client);
    scene.wait_for_threads(&[]);
}
