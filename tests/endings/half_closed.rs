//! One direction has ended in order, the other is still open. What acts is the side
//! that may still send; where it stops reading, the side that may still receive.

use super::*;

/// A connection whose `peer` has sent its FIN.
fn pair_that_waits_for(acting: Acting, scene: &Scene) -> Pair {
    let pair = scene.pair(acting);
    finish(&pair.peer, &pair.actor);
    scene.wait_for_threads(&[acting.sending()]);
    pair
}

#[test]
fn client_sends_fin_last_and_the_upstream_has_everything() {
    second_fin_ends_it_in_order(Acting::Client);
}

#[test]
fn upstream_sends_fin_last_and_the_client_has_everything() {
    second_fin_ends_it_in_order(Acting::Upstream);
}

fn second_fin_ends_it_in_order(acting: Acting) {
    let scene = Scene::new(&[]);
    let Pair { actor, peer } = pair_that_waits_for(acting, &scene);
    pass_and_finish(&actor, &peer, &STREAM[..4 * MIB]);
    scene.wait_for_threads(&[]);
}

#[test]
fn client_resets_and_the_upstream_sees_no_end_in_order() {
    reset_in_an_answer_and_before_one_is_a_reset(Acting::Client);
}

#[test]
fn upstream_resets_and_the_client_sees_no_end_in_order() {
    reset_in_an_answer_and_before_one_is_a_reset(Acting::Upstream);
}

/// A half of the stream that ended well does not hide that the other one broke.
fn reset_in_an_answer_and_before_one_is_a_reset(acting: Acting) {
    let scene = Scene::new(&[]);
    reset_in_an_answer(&scene, acting);
    reset_by_a_side_that_is_answered(&scene, acting);
}

fn reset_in_an_answer(scene: &Scene, acting: Acting) {
    let Pair { mut actor, peer } = pair_that_waits_for(acting, scene);
    pass(&actor, &peer, &STREAM[..MIB]);
    actor.write_all(&STREAM[MIB..][..100_000]).unwrap();
    let start = Instant::now();
    reset(actor);
    let (received, ending) = read_to_ending(&peer);
    assert_at_once(start);
    assert_eq!(ending, Ending::Reset);
    assert_same(&received, &STREAM[MIB..][..received.len()]);
    scene.wait_for_threads(&[]);
}

fn reset_by_a_side_that_is_answered(scene: &Scene, acting: Acting) {
    let Pair { actor, mut peer } = scene.pair(acting);
    finish(&actor, &peer);
    pass(&peer, &actor, &STREAM[..MIB]);
    let start = Instant::now();
    reset(actor);
    let problem = peer.write_all(&STREAM[MIB..]).unwrap_err();
    assert_at_once(start);
    // What the kernel calls a reset that comes after a FIN.
    assert_eq!(problem.kind(), io::ErrorKind::BrokenPipe);
    scene.wait_for_threads(&[]);
}

#[test]
fn client_is_silent_for_long_and_the_upstream_waits() {
    silence_is_waited_for(Acting::Client);
}

#[test]
fn upstream_is_silent_for_long_and_the_client_waits() {
    silence_is_waited_for(Acting::Upstream);
}

fn silence_is_waited_for(acting: Acting) {
    let scene = Scene::new(&[]);
    let Pair { actor, peer } = pair_that_waits_for(acting, &scene);
    proceed_after(LONG);
    assert_quiet(&peer);
    scene.wait_for_threads(&[acting.sending()]);
    pass_and_finish(&actor, &peer, &STREAM[..4 * MIB]);
    scene.wait_for_threads(&[]);
}

#[test]
fn client_stops_reading_its_answer_and_gets_it_later() {
    unread_answer_is_kept(Acting::Client);
}

#[test]
fn upstream_stops_reading_its_answer_and_gets_it_later() {
    unread_answer_is_kept(Acting::Upstream);
}

fn unread_answer_is_kept(acting: Acting) {
    let scene = Scene::new(&[]);
    let Pair { actor, peer } = scene.pair(acting);
    finish(&actor, &peer);
    let taken = write_until_stuck(&peer, &STREAM);
    peer.shutdown(Shutdown::Write).unwrap();
    proceed_after(LONG);
    scene.wait_for_threads(&[acting.receiving()]);
    let (received, ending) = read_to_ending(&actor);
    assert_eq!(ending, Ending::Fin);
    assert_same(&received, &STREAM[..taken]);
    scene.wait_for_threads(&[]);
}

/// Then the proxy is writing when the reset comes, and finds out by looking.
#[test]
fn reset_behind_bytes_that_nobody_reads_is_noticed_soon() {
    for acting in [Acting::Client, Acting::Upstream] {
        let scene = Scene::new(&[]);
        let Pair { actor, peer } = pair_that_waits_for(acting, &scene);
        write_until_stuck(&actor, &STREAM);
        reset(actor);
        scene.wait_for_threads(&[]);
        let (received, ending) = read_to_ending(&peer);
        assert_eq!(ending, Ending::Reset);
        assert_same(&received, &STREAM[..received.len()]);
    }
}

/// Nobody reads from a side that has finished, and nothing is written to it.
#[test]
fn reset_by_a_side_that_waits_in_vain_for_an_answer_is_noticed_soon() {
    for acting in [Acting::Client, Acting::Upstream] {
        let scene = Scene::new(&[]);
        let Pair { actor, peer } = scene.pair(acting);
        finish(&actor, &peer);
        reset(actor);
        let problem = eventually_some(SOON, "a reset", || peer.take_error().unwrap());
        // What the kernel calls a reset that comes after a FIN.
        assert_eq!(problem.kind(), io::ErrorKind::BrokenPipe);
        scene.wait_for_threads(&[]);
    }
}
