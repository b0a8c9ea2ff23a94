//! The tests ask etcd the same things in either of its APIs, and are told the same. Both
//! are held against a real one here, so that a run with v3 means what one with v2 means.

use std::time::Duration;

use crate::support::etcd::{Api, Cluster, Etcd, Pace, Poll, base64};
use crate::support::{eventually, proceed_after};

const DIRECTORY: &str = "/services/redis-A";
const KEY: &str = "/services/redis-A/one";

fn both() -> [Etcd; 2] {
    [Api::V2, Api::V3].map(|api| Etcd::absent_with(api).started())
}

#[test]
fn base64_is_what_others_take_for_it() {
    // Source: RFC 4648, section 10.
    let pairs = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ];
    for (text, encoded) in pairs {
        assert_eq!(base64::encode(text.as_bytes()), encoded);
        assert_eq!(base64::decode(encoded), text.as_bytes());
    }
    assert_eq!(base64::encode(&[0xfb, 0xff]), "+/8=");
    assert_eq!(base64::decode("+/8="), [0xfb, 0xff]);
}

#[test]
fn two_stores_of_one_server_do_not_see_each_other() {
    let etcd = Etcd::absent_with(Api::V3).with_v2().started();
    let [v2, v3] = [Api::V2, Api::V3].map(|api| etcd.in_api(api));
    v2.put(KEY, "2");
    v3.put(KEY, "3");
    assert_eq!((v2.get(KEY).as_deref(), v3.get(KEY).as_deref()), (Some("2"), Some("3")));
    v3.delete(KEY);
    assert_eq!(v2.get(KEY).as_deref(), Some("2"));
}

/// As it is without options, in 3.4 and in all that came after it.
#[test]
fn v2_is_off_where_it_is_not_asked_for() {
    for etcd in [Etcd::absent_with(Api::V3), Etcd::absent_with(Api::V3).of_the_system()] {
        let etcd = etcd.started();
        let answer = etcd.ask("GET", "/v2/keys/", None);
        assert_eq!((answer.status, &answer.body[..]), (404, "404 page not found\n"));
        etcd.put(KEY, "3");
        assert_eq!(etcd.get(KEY).as_deref(), Some("3"));
    }
}

#[test]
fn what_is_put_is_got_listed_and_deleted() {
    for etcd in both() {
        assert_eq!(etcd.get(KEY), None);
        assert_eq!(etcd.list(DIRECTORY), Vec::<String>::new());
        let value = "{ \"text\": \"100% + ü\" }\n";
        etcd.put(KEY, value);
        assert_eq!(etcd.get(KEY).as_deref(), Some(value));
        etcd.put(KEY, "");
        assert_eq!(etcd.get(KEY).as_deref(), Some(""));
        etcd.put("/services/redis-AB/other", "other");
        etcd.put("/services/redis-A/two", "2");
        let mut keys = etcd.list(DIRECTORY);
        keys.sort();
        assert_eq!(keys, [KEY, "/services/redis-A/two"]);
        assert_eq!(etcd.list_within(Duration::from_secs(5), DIRECTORY).unwrap().len(), 2);
        etcd.delete(KEY);
        assert_eq!(etcd.get(KEY), None);
        etcd.delete(DIRECTORY);
        assert_eq!(etcd.list(DIRECTORY), Vec::<String>::new());
        assert_eq!(etcd.get("/services/redis-AB/other").as_deref(), Some("other"));
    }
}

#[test]
fn key_with_a_ttl_shows_it_and_expires() {
    for etcd in both() {
        etcd.put(KEY, "for ever");
        assert_eq!(etcd.ttl_s(KEY), None);
        let watch = etcd.watch(DIRECTORY);
        etcd.put_with_ttl(KEY, "a while", 2);
        assert!((1..=2).contains(&etcd.ttl_s(KEY).unwrap()));
        etcd.wait_for_absence(KEY);
        watch.wait_for(&["expire", "delete"], KEY);
    }
}

#[test]
fn every_change_is_told_in_its_order_and_with_its_value() {
    for etcd in both() {
        etcd.put(KEY, "before");
        let watch = etcd.watch(DIRECTORY);
        for value in ["1", "", "3"] {
            etcd.put(KEY, value);
        }
        etcd.delete(KEY);
        etcd.put("/services/redis-AB/other", "4");
        let set = format!("set {KEY}");
        let expected = [&set[..], &set, &set, &format!("delete {KEY}")];
        assert_eq!(watch.so_far(&etcd, DIRECTORY), expected);
        let values: Vec<_> = watch.changes().into_iter().map(|change| change.value).collect();
        let texts = ["1", "", "3"].map(|text| Some(text.to_owned()));
        assert_eq!(values[..4], [&texts[..], &[None]].concat());
    }
}

#[test]
fn history_is_told_from_where_it_is_asked_for() {
    for etcd in both() {
        let next = etcd.position(Duration::from_secs(5)).unwrap() + 1;
        for value in ["1", "2", "3"] {
            etcd.put(KEY, value);
        }
        let (mut values, mut at) = (Vec::new(), next);
        while values.len() < 3 {
            match etcd.poll(Duration::from_secs(5), DIRECTORY, at).unwrap() {
                Poll::Changes(changes, go_on) => {
                    values.extend(changes.into_iter().filter_map(|change| change.value));
                    at = go_on;
                }
                Poll::Cleared(now) => panic!("cleared at {now}"),
            }
        }
        assert_eq!(values, ["1", "2", "3"]);
        assert_eq!(at, etcd.position(Duration::from_secs(5)).unwrap() + 1);
    }
}

#[test]
fn refreshes_are_seen_and_nothing_else_is_taken_for_one() {
    for etcd in both() {
        etcd.put_with_ttl(KEY, "value", 3);
        let before = etcd.life(KEY).unwrap();
        proceed_after(Duration::from_millis(1200));
        assert!(!etcd.life(KEY).unwrap().is_another_than(&before), "{before:?}");
        std::thread::scope(|scope| {
            scope.spawn(|| etcd.wait_for_refreshes(KEY, 3));
            // Until the lease, or the key, has been refreshed each second for a while.
            for _ in 0..5 {
                proceed_after(Duration::from_secs(1));
                etcd.refresh(KEY, 3);
            }
        });
        assert!(etcd.life(KEY).unwrap().is_another_than(&before), "{before:?}");
        let before = etcd.life(KEY).unwrap();
        etcd.put(KEY, "value");
        assert!(etcd.life(KEY).unwrap().is_another_than(&before), "{before:?}");
    }
}

#[test]
fn leader_of_a_cluster_is_found_and_cut_off() {
    for api in [Api::V2, Api::V3] {
        let cluster = Cluster::start_with(api, Pace::Fast);
        let leader = cluster.leader();
        cluster.isolate(leader, true);
        let survivor = cluster.survivor(leader);
        survivor.put(KEY, "without it");
        eventually("another leader", || cluster.leader() != leader);
        assert!(cluster.member(leader).list_within(Duration::from_secs(1), DIRECTORY).is_none());
        cluster.isolate(leader, false);
        cluster.wait_until_whole();
        assert_eq!(cluster.member(leader).get(KEY).as_deref(), Some("without it"));
    }
}
