//! Docker answers wrongly, late or not at all: what is registered stays.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::support::fake_docker::Fault;
use crate::support::{all_at_once, is_root, skip_loudly};

const HTML: &str = "<html><body>It works!</body></html>";

/// More than the 4 MiB that one answer, or one event, may have.
const TOO_LONG: usize = 5 << 20;

fn faults() -> Vec<Fault> {
    vec![
        Fault::Answer(404, "application/json", r#"{"message":"page not found"}"#),
        Fault::Answer(404, "text/html", HTML),
        Fault::Answer(400, "application/json", r#"{"message":"client version 1.12 is too old"}"#),
        Fault::Answer(400, "text/plain", "client version 1.11 is too old"),
        Fault::Answer(500, "application/json", r#"{"message":"server error"}"#),
        Fault::Answer(503, "text/plain", ""),
        Fault::Answer(200, "text/html", HTML),
        Fault::Answer(200, "application/json", r#"{"Id":"ab","Name":"/redis.service","State":"#),
        Fault::Answer(200, "application/json", "{}"),
        Fault::Answer(200, "application/json", "[]"),
        Fault::Answer(200, "application/json", ""),
        Fault::HalfChunkThenClose,
        Fault::HalfChunkThenSilence,
        Fault::LongHeader(1 << 20),
        Fault::EndlessInterimAnswers,
        Fault::Silence,
        Fault::LongBody(TOO_LONG),
    ]
}

#[test]
fn invalid_answers_leave_the_entry_and_its_refreshes() {
    all_at_once(faults(), |fault| {
        let scene = Scene::running();
        let mut ambassador = scene.registered(["--ttl", "3s"]);
        let watch = scene.watch();
        scene.docker.set_fault(Some(fault.clone()));
        let asked = scene.docker.requests().len();
        // Any event makes the registrar look again.
        scene.docker.send_signal(CONTAINER, Some("1"));
        eventually(&format!("asked and answered with {fault:?}"), || {
            scene.docker.requests().len() > asked
        });
        // For silence, once the answer is overdue.
        ambassador.wait_for_warning(&[]);
        scene.etcd.wait_for_refreshes(&scene.key(), 2);
        let changes = watch.so_far(scene.etcd, &scene.prefix);
        assert_eq!(changes, Vec::<String>::new(), "{fault:?}");
        assert!(ambassador.is_running(), "{fault:?}");
        // What it says of it, it says in one line each, and few.
        let warnings = ambassador.warnings(&[]);
        assert!((1..=3).contains(&warnings.len()), "{fault:?}: {warnings:#?}");
        scene.docker.set_fault(None);
        scene.docker.restart(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
        scene.wait_for_port(49156);
    });
}

#[test]
fn invalid_answers_at_the_start_are_waited_out() {
    all_at_once(faults(), |fault| {
        let scene = Scene::running();
        scene.docker.set_fault(Some(fault.clone()));
        let mut ambassador = scene.register([]).start();
        scene.docker.wait_until_followed();
        ambassador.wait_for_warning(&[]);
        assert!(ambassador.is_running(), "{fault:?}");
        assert_eq!(scene.etcd.get(&scene.key()), None, "{fault:?}");
        scene.docker.set_fault(None);
        scene.wait_for_port(49155);
    });
}

#[test]
fn invalid_events_streams_leave_the_entry_until_a_valid_one_comes() {
    all_at_once(faults(), |fault| {
        let scene = Scene::running();
        let mut ambassador = scene.registered(["--ttl", "3s"]);
        let watch = scene.watch();
        scene.docker.set_events_fault(Some(fault.clone()));
        let streams = scene.docker.events_streams();
        scene.docker.end_events_streams();
        eventually(&format!("a stream again, answered with {fault:?}"), || {
            scene.docker.events_streams() > streams
        });
        scene.etcd.wait_for_refreshes(&scene.key(), 2);
        let changes = watch.so_far(scene.etcd, &scene.prefix);
        assert_eq!(changes, Vec::<String>::new(), "{fault:?}");
        assert!(ambassador.is_running(), "{fault:?}");
        scene.docker.set_events_fault(None);
        // Without a stream the change may take until the next regular look.
        scene.docker.restart(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
        let patience = Duration::from_secs(20);
        within(patience, &format!("the new port after {fault:?}"), || {
            scene.etcd.get(&scene.key()) == Some(value(49156))
        });
    });
}

#[test]
fn unreadable_pieces_of_the_events_stream_leave_the_entry() {
    let pieces = [
        b"not JSON\n".to_vec(),
        b"{\"Type\":\"container\"}\n".to_vec(),
        b"[]\n".to_vec(),
        b"\n\n\n".to_vec(),
        b"\xff\xfe\n".to_vec(),
        vec![b'x'; TOO_LONG],
    ];
    all_at_once(pieces.to_vec(), |piece| {
        let scene = Scene::running();
        let mut ambassador = scene.registered(["--ttl", "3s"]);
        let watch = scene.watch();
        let shown = String::from_utf8_lossy(&piece[..piece.len().min(30)]).into_owned();
        scene.docker.send_to_events_streams(piece);
        scene.etcd.wait_for_refreshes(&scene.key(), 2);
        let changes = watch.so_far(scene.etcd, &scene.prefix);
        assert_eq!(changes, Vec::<String>::new(), "{shown:?}");
        assert!(ambassador.is_running(), "{shown:?}");
        scene.docker.restart(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
        scene.wait_for_port(49156);
    });
}

/// Nothing else would: the stream itself is silent for as long as nothing happens.
#[test]
fn event_without_an_end_makes_it_ask_for_a_new_stream() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    let streams = scene.docker.events_streams();
    // In pieces of which each is a modest one.
    for _ in 0..10 {
        scene.docker.send_to_events_streams(vec![b'x'; TOO_LONG / 10]);
    }
    eventually("a new events stream", || scene.docker.events_streams() > streams);
}

/// Docker says that there is no such container: that is a valid answer.
#[test]
fn container_that_docker_does_not_know_is_removed() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    scene.docker.remove(CONTAINER);
    scene.wait_for_absence();
}

#[test]
fn events_stream_that_ends_is_asked_for_again() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    let streams = scene.docker.events_streams();
    scene.docker.end_events_streams();
    eventually("a new events stream", || scene.docker.events_streams() > streams);
    scene.docker.pause(CONTAINER);
    scene.wait_for_absence();
}

#[test]
fn change_that_nobody_told_of_is_found_when_the_stream_ends() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    scene.docker.change_silently(CONTAINER, |container| container.paused = true);
    scene.docker.end_events_streams();
    scene.wait_for_absence();
}

#[test]
fn change_that_nobody_told_of_is_found_by_the_regular_look() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    scene.docker.change_silently(CONTAINER, |container| container.paused = true);
    // Docker is asked again every 15 s.
    within(Duration::from_secs(20), "the paused container is out", || {
        scene.etcd.get(&scene.key()).is_none()
    });
}

#[test]
fn restarted_daemon_is_followed_through_its_new_socket() {
    for end in [FakeDocker::stop, FakeDocker::crash] {
        let scene = Scene::running();
        let ambassador = scene.registered(["--ttl", "3s"]);
        let socket = scene.docker.socket().display().to_string();
        end(&scene.docker);
        ambassador.wait_for_warning(&[&socket]);
        scene.etcd.wait_for_refreshes(&scene.key(), 1);
        assert_eq!(scene.etcd.get(&scene.key()), Some(value(49155)));
        scene.docker.change_silently(CONTAINER, |container| {
            *container = container.clone().publishes(6379, &[(ARTICLES_HOST, 49156)]);
        });
        let streams = scene.docker.events_streams();
        scene.docker.listen();
        scene.wait_for_port(49156);
        eventually("a new events stream", || scene.docker.events_streams() > streams);
        scene.docker.pause(CONTAINER);
        scene.wait_for_absence();
    }
}

#[test]
fn socket_that_may_not_be_opened_is_warned_of_once_and_waited_for() {
    let test = "socket_that_may_not_be_opened_is_warned_of_once_and_waited_for";
    if is_root() {
        skip_loudly(test, "root may open every socket");
        return;
    }
    let scene = Scene::running();
    fs::set_permissions(scene.docker.socket(), Permissions::from_mode(0o000)).unwrap();
    let ambassador = scene.register([]).start();
    let socket = scene.docker.socket().display().to_string();
    ambassador.wait_for_warning(&[&socket]);
    proceed_after(Duration::from_secs(1));
    assert_eq!(ambassador.warnings(&[&socket]).len(), 1);
    fs::set_permissions(scene.docker.socket(), Permissions::from_mode(0o600)).unwrap();
    scene.wait_for_port(49155);
}
