//! Connected, a word exchanged, and nothing under way.

use super::*;

#[test]
fn client_sends_fin_and_is_still_answered() {
    fin_is_passed_on_and_the_other_direction_lives(Acting::Client);
}

#[test]
fn upstream_sends_fin_and_still_receives() {
    fin_is_passed_on_and_the_other_direction_lives(Acting::Upstream);
}

fn fin_is_passed_on_and_the_other_direction_lives(acting: Acting) {
    let scene = Scene::new(&[]);
    let Pair { actor, peer } = scene.pair(acting);
    finish(&actor, &peer);
    scene.wait_for_threads(&[acting.receiving()]);
    pass(&peer, &actor, b"not yet");
    finish(&peer, &actor);
    scene.wait_for_threads(&[]);
}

#[test]
fn client_resets_and_the_upstream_sees_a_reset() {
    reset_is_passed_on(Acting::Client);
}

#[test]
fn upstream_resets_and_the_client_sees_a_reset() {
    reset_is_passed_on(Acting::Upstream);
}

fn reset_is_passed_on(acting: Acting) {
    let scene = Scene::new(&[]);
    for _ in 0..5 {
        let Pair { actor, peer } = scene.pair(acting);
        let start = Instant::now();
        reset(actor);
        assert_eq!(read_to_ending(&peer), (vec![], Ending::Reset));
        assert_at_once(start);
        scene.wait_for_threads(&[]);
    }
}

#[test]
fn client_is_silent_and_watched_but_not_cut_before_the_idle_timeout() {
    silence_is_watched_and_no_end_by_itself(Acting::Client);
}

#[test]
fn upstream_is_silent_and_watched_but_not_cut_before_the_idle_timeout() {
    silence_is_watched_and_no_end_by_itself(Acting::Upstream);
}

fn silence_is_watched_and_no_end_by_itself(acting: Acting) {
    let start = Instant::now();
    let scene = Scene::new(&[]);
    let Pair { actor, peer } = scene.pair(acting);
    within(SOON, "keepalive", || keepalive_is_armed(&scene.ambassador, &actor));
    is_cut_by_an_idle_timeout(acting);
    proceed_after(LONG.saturating_sub(start.elapsed()));
    assert_quiet(&actor);
    assert_quiet(&peer);
    scene.wait_for_threads(&["down", "up"]);
    pass(&actor, &peer, b"still there?");
    pass(&peer, &actor, b"yes");
}

fn is_cut_by_an_idle_timeout(acting: Acting) {
    let scene = Scene::new(&["--idle-timeout", "1s"]);
    let start = Instant::now();
    let Pair { actor, peer } = scene.pair(acting);
    assert_eq!(read_to_ending(&actor), (vec![], Ending::Reset));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(read_to_ending(&peer), (vec![], Ending::Reset));
    scene.wait_for_threads(&[]);
}

/// Whether the proxy's end of the connection to `end` is to be probed within 30 s,
/// and not only after the 2 hours that are the kernel's default.
fn keepalive_is_armed(ambassador: &Ambassador, end: &TcpStream) -> bool {
    let (local, remote) = (end.peer_addr().unwrap(), end.local_addr().unwrap());
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", ambassador.id())).unwrap();
    // "sl local_address rem_address st tx_queue:rx_queue tr:tm->when ...", in hexadecimal;
    // timer 2 is keepalive's, and the time is in hundredths of a second.
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, from, to, "01", _, timer, ..] = fields[..] else { return false };
        let left = timer.strip_prefix("02:").map(|left| u32::from_str_radix(left, 16).unwrap());
        (from, to) == (&*hexadecimal(local), &*hexadecimal(remote))
            && left.is_some_and(|left| left <= 30 * 100)
    })
}

/// As in /proc/net/tcp: the address as a number of this machine, and the port.
fn hexadecimal(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => {
            format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port())
        }
        SocketAddr::V6(_) => panic!("{address} is not in the table of IPv4"),
    }
}

#[test]
fn client_stops_reading_and_is_still_heard() {
    side_that_does_not_read_is_heard_and_misses_nothing(Acting::Client);
}

#[test]
fn upstream_stops_reading_and_is_still_heard() {
    side_that_does_not_read_is_heard_and_misses_nothing(Acting::Upstream);
}

fn side_that_does_not_read_is_heard_and_misses_nothing(acting: Acting) {
    let scene = Scene::new(&[]);
    let Pair { actor, peer } = scene.pair(acting);
    let mut unread = Vec::new();
    for_long(|| {
        pass(&actor, &peer, b"listen!");
        (&peer).write_all(b"and you?").unwrap();
        unread.extend(b"and you?");
    });
    scene.wait_for_threads(&["down", "up"]);
    let mut read = vec![0; unread.len()];
    (&actor).read_exact(&mut read).unwrap();
    assert_same(&read, &unread);
    finish(&actor, &peer);
    finish(&peer, &actor);
    scene.wait_for_threads(&[]);
}
