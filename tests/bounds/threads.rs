//! Threads run out, because a control group allows no more.

use std::sync::mpsc;

use super::*;
use crate::support::cgroup::Cgroup;
use crate::support::client::ending_of_new;
use crate::support::usage::Usage;
use crate::support::{DEADLINE, skip_loudly};

fn cgroup(test: &str) -> Option<Cgroup> {
    Cgroup::new("pids").inspect_err(|reason| skip_loudly(test, reason)).ok()
}

#[test]
fn low_limit_on_threads_allows_as_many_connections_as_it_says() {
    let test = "low_limit_on_threads_allows_as_many_connections_as_it_says";
    let Some(group) = cgroup(test) else { return };
    group.limit_threads(40);
    let upstream = Upstream::echo();
    let wrapper = group.wrapper();
    let launch = forward([], &upstream).under(&wrapper.each_ref().map(String::as_str));
    let (ambassador, address) = started(launch);
    let count = allowed(&ambassador, "40 processes");
    assert!((4..20).contains(&count), "{count} connections of two threads each");
    let _open = filled(address, &upstream, count);
    assert_eq!(group.refused_threads(), 0);
    assert_eq!(ambassador.warnings(&[]).len(), 1, "{:?}", ambassador.warnings(&[]));
}

/// From now on there can be no more than `spare` new threads.
fn limit_to_what_runs(group: &Cgroup, ambassador: &Ambassador, spare: usize) {
    group.add(ambassador.id());
    group.limit_threads(Usage::of(ambassador.id()).threads() + spare);
}

#[test]
fn client_without_a_thread_is_reset_and_the_others_are_served() {
    let test = "client_without_a_thread_is_reset_and_the_others_are_served";
    let Some(group) = cgroup(test) else { return };
    let upstream = Upstream::echo();
    let (ambassador, address) = started(forward([], &upstream));
    // None has ended, so no thread is parked for the next one.
    let mut open = echoing(address, 3);
    limit_to_what_runs(&group, &ambassador, 0);
    for _ in 0..5 {
        assert_eq!(ending_of_new(address), Ending::Reset);
    }
    assert_eq!(group.refused_threads(), 5);
    open.iter_mut().for_each(echo);
    group.limit_threads("max");
    open.extend(echoing(address, 5));
    open.iter_mut().for_each(echo);
    ambassador.wait_for_warning(&["no thread"]);
    let warnings = ambassador.warnings(&["no thread"]);
    assert_eq!(warnings.len(), 1, "said once, not for each client: {warnings:?}");
}

/// The one that copies down is started when the upstream is connected already.
#[test]
fn connection_without_its_second_thread_is_reset_on_both_sides() {
    let test = "connection_without_its_second_thread_is_reset_on_both_sides";
    let Some(group) = cgroup(test) else { return };
    let (sender, servers) = mpsc::channel();
    let upstream = Upstream::serve(move |server| sender.send(server).map_err(io::Error::other));
    let (ambassador, address) = started(forward([], &upstream));
    let mut client = connect(address).unwrap();
    let mut server: TcpStream = servers.recv_timeout(DEADLINE).unwrap();
    server.write_all(b"x").unwrap();
    heard(&mut client);
    limit_to_what_runs(&group, &ambassador, 1);
    assert_eq!(ending_of_new(address), Ending::Reset);
    assert_eq!(ending(&servers.recv_timeout(DEADLINE).unwrap()), Ending::Reset);
    assert_eq!(group.refused_threads(), 1);
    ambassador.wait_for_warning(&["no thread"]);
}
