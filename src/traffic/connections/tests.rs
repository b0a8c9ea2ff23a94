use std::{
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;

use super::*;
use crate::traffic::{Balance, Pool};

fn link() -> Link {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let near: TcpStream = crate::connect::tcp(address, Duration::from_secs(5)).unwrap();
    let pool = Pool::new("test".to_owned(), Balance::RoundRobin);
    Link::new(near, address, Arc::new(pool))
}

#[test]
fn one_more_than_the_cap_waits_until_another_ends() {
    let connections = Arc::new(Connections::new(1));
    let first = connections.enter(link()).unwrap();
    let (entered, has_entered) = crossbeam_channel::bounded(1);
    std::thread::scope(|scope| {
        scope.spawn(|| entered.send(connections.enter(link()).unwrap().id));
        let while_full = has_entered.recv_timeout(Duration::from_millis(100));
        assert!(while_full.is_err(), "a second connection entered");
        drop(first);
        assert_eq!(has_entered.recv(), Ok(1));
    });
    assert!(connections.wait_until_none(Duration::ZERO));
}

#[test]
fn nothing_enters_after_the_end() {
    let connections = Arc::new(Connections::new(1));
    let held = connections.enter(link()).unwrap();
    connections.close();
    assert!(connections.enter(link()).is_none());
    assert!(!connections.wait_until_none(Duration::ZERO));
    drop(held);
    assert!(connections.wait_until_none(Duration::ZERO));
}

#[test]
fn there_are_never_more_than_the_cap_and_every_place_comes_back() {
    const MAX: usize = 3;
    let connections = Arc::new(Connections::new(MAX));
    let (here, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let entry = connections.enter(link()).unwrap();
                    most.fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    here.fetch_sub(1, Ordering::SeqCst);
                    drop(entry);
                }
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), MAX);
    assert_eq!((connections.count(), connections.table().waiting), (0, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Enter,
    /// One of those that are open, or none if none is.
    End(usize),
    Close,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Held against a plain list of numbers.
    #[test]
    fn the_open_connections_are_those_that_entered_and_have_not_ended(
        max in 1..6_usize,
        steps in prop::collection::vec(
            prop_oneof![
                6 => Just(Step::Enter),
                4 => (0..8_usize).prop_map(Step::End),
                1 => Just(Step::Close),
            ],
            1..40,
        ),
    ) {
        let connections = Arc::new(Connections::new(max));
        let mut open: Vec<Entry> = Vec::new();
        let (mut entered, mut is_closed) = (0, false);
        for step in steps {
            match step {
                // It would wait for ever: that is the test above.
                Step::Enter if open.len() == max && !is_closed => prop_assert!(!connections.has_room()),
                Step::Enter => match connections.enter(link()) {
                    Some(entry) => {
                        prop_assert!(!is_closed);
                        prop_assert_eq!(entry.id, entered);
                        entered += 1;
                        open.push(entry);
                    }
                    None => prop_assert!(is_closed),
                },
                Step::End(which) if !open.is_empty() => drop(open.remove(which % open.len())),
                Step::End(_) => {}
                Step::Close => {
                    connections.close();
                    is_closed = true;
                }
            }
            let mut ids: Vec<u64> = connections.all().into_iter().map(|(id, _)| id).collect();
            ids.sort_unstable();
            prop_assert_eq!(ids, open.iter().map(|entry| entry.id).collect::<Vec<_>>());
            prop_assert_eq!(connections.wait_until_none(Duration::ZERO), open.is_empty());
        }
    }
}
