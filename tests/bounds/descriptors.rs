//! Descriptors run out: what is known beforehand lowers the cap, and what comes as
//! a surprise makes clients wait.

use std::thread;
use std::time::Duration;

use super::*;
use crate::support::proceed_after;
use crate::support::usage::Usage;

/// Not a spin, which would take all of a second; a quarter of it on a loaded machine.
const LITTLE: Duration = Duration::from_millis(100);

/// More than the buffers on the way hold.
const STUCK_BLOCKS: usize = 30;

/// Without a spare descriptor, so that `count` new clients have to wait.
fn exhausted(ambassador: &Ambassador, address: SocketAddr, count: usize) -> Vec<TcpStream> {
    ambassador.limit_descriptors(Usage::of(ambassador.id()).next_descriptor());
    let waiting: Vec<TcpStream> = (0..count).map(|_| asking(address)).collect();
    ambassador.wait_for_warning(&["accepting", "Too many open files"]);
    waiting
}

#[test]
fn low_limit_on_descriptors_allows_as_many_connections_as_it_says() {
    let upstream = Upstream::echo();
    let launch = forward([], &upstream).under(&["prlimit", "--nofile=64:64", "--"]);
    let (ambassador, address) = started(launch);
    let count = allowed(&ambassador, "64 open files");
    assert!((4..=31).contains(&count), "{count} connections of two descriptors each");
    let (open, waiting) = filled(address, &upstream, count);
    drop(waiting);

    // Busy streams would all like a pipe of two descriptors for either direction. They
    // are stuck until somebody reads, and leave what one more client needs.
    let sequence = Sequence::new();
    thread::scope(|scope| {
        for client in &open {
            scope.spawn(|| sequence.send(client, STUCK_BLOCKS, Sequence::BLOCK).unwrap());
        }
        proceed_after(Duration::from_millis(300));
        heard(&mut asking(address));
        for client in &open {
            scope.spawn(|| sequence.expect(client, STUCK_BLOCKS));
        }
    });
    drop(open);
    echoing(address, count);
    assert_eq!(ambassador.warnings(&[]).len(), 1, "{:?}", ambassador.warnings(&[]));
}

#[test]
fn clients_wait_without_a_spin_while_descriptors_are_out() {
    let upstream = Upstream::echo();
    let (ambassador, address) = started(forward([], &upstream));
    let mut open = echoing(address, 3);
    let mut waiting = exhausted(&ambassador, address, 5);
    let usage = Usage::of(ambassador.id());
    let before = usage.cpu_time();
    proceed_after(Duration::from_secs(1));
    let spent = usage.cpu_time() - before;
    assert!(spent <= LITTLE, "{spent:?} of a second, doing nothing");
    open.iter_mut().for_each(echo);
    assert_eq!(upstream.accepted(), 3, "the others wait");
    ambassador.limit_descriptors(256);
    waiting.iter_mut().for_each(heard);
    open.iter_mut().chain(&mut waiting).for_each(echo);
    let warnings = ambassador.warnings(&["accepting"]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

/// Two descriptors at a time are enough for all of them, one after the other.
#[test]
fn clients_that_waited_for_descriptors_get_those_of_connections_that_end() {
    let upstream = Upstream::echo();
    let (ambassador, address) = started(forward(["--wait", "60s"], &upstream));
    let open = echoing(address, 3);
    let waiting = exhausted(&ambassador, address, 20);
    drop(open);
    thread::scope(|scope| {
        for mut client in waiting {
            scope.spawn(move || heard(&mut client));
        }
    });
    let said = ambassador.warnings(&["nothing can be reached"]);
    assert!(said.len() <= 1, "said again whenever one of them was served: {said:?}");
    let blamed = ambassador.warnings(&["tried last"]);
    assert!(blamed.is_empty(), "the upstream was never at fault: {blamed:?}");
}
