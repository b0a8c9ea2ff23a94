//! Megabytes under way, in one direction.

use std::sync::mpsc;

use super::*;

#[test]
fn client_sends_fin_behind_its_stream_and_is_answered() {
    fin_comes_behind_the_last_byte(Acting::Client);
}

#[test]
fn upstream_sends_fin_behind_its_stream_and_is_answered() {
    fin_comes_behind_the_last_byte(Acting::Upstream);
}

fn fin_comes_behind_the_last_byte(acting: Acting) {
    let scene = Scene::new(&[]);
    let Pair { actor, peer } = scene.pair(acting);
    pass_and_finish(&actor, &peer, &STREAM[..8 * MIB]);
    scene.wait_for_threads(&[acting.receiving()]);
    pass_and_finish(&peer, &actor, &STREAM[8 * MIB..12 * MIB]);
    scene.wait_for_threads(&[]);
}

#[test]
fn client_resets_and_the_upstream_never_sees_a_fin() {
    reset_never_becomes_a_fin(Acting::Client);
}

#[test]
fn upstream_resets_and_the_client_never_sees_a_fin() {
    reset_never_becomes_a_fin(Acting::Upstream);
}

fn reset_never_becomes_a_fin(acting: Acting) {
    let scene = Scene::new(&[]);
    for _ in 0..3 {
        sender_resets_while_it_is_read(&scene, acting);
        receiver_resets_while_it_is_written_to(&scene, acting);
    }
    for _ in 0..10 {
        receiver_resets_while_it_does_not_read(&scene, acting);
    }
}

fn sender_resets_while_it_is_read(scene: &Scene, acting: Acting) {
    let Pair { mut actor, mut peer } = scene.pair(acting);
    let (sender, receiver) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut received = vec![0; MIB];
        peer.read_exact(&mut received).unwrap();
        sender.send(()).unwrap();
        let (rest, ending) = read_to_ending(&peer);
        received.extend(rest);
        (received, ending)
    });
    actor.write_all(&STREAM[..8 * MIB]).unwrap();
    receiver.recv().expect("it is under way");
    let start = Instant::now();
    reset(actor);
    let (received, ending) = reading.join().unwrap();
    assert_at_once(start);
    assert_eq!(ending, Ending::Reset);
    assert_same(&received, &STREAM[..received.len()]);
    scene.wait_for_threads(&[]);
}

fn receiver_resets_while_it_is_written_to(scene: &Scene, acting: Acting) {
    let Pair { mut actor, mut peer } = scene.pair(acting);
    let reading = thread::spawn(move || {
        let mut received = vec![0; MIB];
        actor.read_exact(&mut received).unwrap();
        assert_same(&received, &STREAM[..MIB]);
        let start = Instant::now();
        reset(actor);
        start
    });
    let problem = peer.write_all(&STREAM).unwrap_err();
    assert_at_once(reading.join().unwrap());
    assert_eq!(problem.kind(), io::ErrorKind::ConnectionReset);
    scene.wait_for_threads(&[]);
}

/// The kernel tells one thread of a reset and shows the other an end of the stream.
fn receiver_resets_while_it_does_not_read(scene: &Scene, acting: Acting) {
    let Pair { actor, peer } = scene.pair(acting);
    write_until_stuck(&peer, &STREAM);
    let start = Instant::now();
    reset(actor);
    assert_eq!(read_to_ending(&peer), (vec![], Ending::Reset));
    assert_at_once(start);
    scene.wait_for_threads(&[]);
}

#[test]
fn client_is_silent_for_a_while_and_its_stream_goes_on() {
    silence_is_a_pause(Acting::Client);
}

#[test]
fn upstream_is_silent_for_a_while_and_its_stream_goes_on() {
    silence_is_a_pause(Acting::Upstream);
}

fn silence_is_a_pause(acting: Acting) {
    let scene = Scene::new(&[]);
    let Pair { actor, peer } = scene.pair(acting);
    pass(&actor, &peer, &STREAM[..4 * MIB]);
    // Less than a busy stream brings at once: the proxy sees that it is no longer one.
    pass(&actor, &peer, b"and then");
    proceed_after(Duration::from_millis(1500));
    assert_quiet(&actor);
    assert_quiet(&peer);
    scene.wait_for_threads(&["down", "up"]);
    pass_and_finish(&actor, &peer, &STREAM[4 * MIB..8 * MIB]);
    finish(&peer, &actor);
    scene.wait_for_threads(&[]);
}

#[test]
fn client_stops_reading_and_slows_the_upstream_without_loss() {
    side_that_does_not_read_slows_the_other_without_loss(Acting::Client);
}

#[test]
fn upstream_stops_reading_and_slows_the_client_without_loss() {
    side_that_does_not_read_slows_the_other_without_loss(Acting::Upstream);
}

fn side_that_does_not_read_slows_the_other_without_loss(acting: Acting) {
    let scene = Scene::new(&[]);
    let Pair { actor, peer } = scene.pair(acting);
    let (read, unread) = STREAM.split_at(2 * MIB);
    pass(&peer, &actor, read);
    let mut taken = write_until_stuck(&peer, unread);
    for_long(|| pass(&actor, &peer, b"wait"));
    taken += write_until_stuck(&peer, &unread[taken..]);
    scene.wait_for_threads(&["down", "up"]);
    peer.shutdown(Shutdown::Write).unwrap();
    let (received, ending) = read_to_ending(&actor);
    assert_eq!(ending, Ending::Fin);
    assert_same(&received, &unread[..taken]);
    finish(&actor, &peer);
    scene.wait_for_threads(&[]);
}

/// Then the proxy is writing when the reset comes, and finds out by looking.
#[test]
fn reset_behind_bytes_that_nobody_reads_is_noticed_soon() {
    for acting in [Acting::Client, Acting::Upstream] {
        let scene = Scene::new(&[]);
        let Pair { actor, peer } = scene.pair(acting);
        pass(&actor, &peer, &STREAM[..MIB]);
        write_until_stuck(&actor, &STREAM[MIB..]);
        reset(actor);
        scene.wait_for_threads(&[]);
        let (received, ending) = read_to_ending(&peer);
        assert_eq!(ending, Ending::Reset);
        assert_same(&received, &STREAM[MIB..][..received.len()]);
    }
}
