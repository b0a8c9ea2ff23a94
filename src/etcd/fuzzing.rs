//! What must hold whatever etcd, or who stands in its place, answers.

use serde_json::Value;

use super::{
    Entry, Error, Listing, Position, default_members,
    v2::{Answer, Raw},
    v3::{Heard, Range, WatchLine, heard},
};
use crate::{
    property::{assert_is_an_excerpt, first_line},
    report,
};

/// A listing is sorted and complete, and a refusal is one line. The first line of the
/// input is the HTTP status and, if there is one, etcd's index.
pub fn etcd_body(data: &[u8]) {
    const DIRECTORY: &str = "/services/redis";
    let (steering, body) = first_line(data);
    let steering = String::from_utf8_lossy(steering);
    let (status, index) = steering.split_once(' ').unwrap_or((&steering, ""));
    let status = status.parse().unwrap_or(200);
    let position = index.parse().ok().map(|index| Position { cluster: "ab".to_owned(), index });
    let member = default_members().remove(0);

    let answer =
        Answer::parse(DIRECTORY, Raw { status, position: position.clone(), body }, &member);
    match answer.and_then(|answer| answer.listing(DIRECTORY)) {
        Ok(Listing { entries, position: listed_at }) => {
            assert!(matches!(status, 200 | 201) && Some(listed_at) == position);
            assert!(entries.is_sorted_by_key(|entry| &entry.key));
            if let Ok(json) = serde_json::from_slice::<Value>(body) {
                assert!(entries.len() >= count(&json["node"]), "something is left out");
            }
        }
        Err(error) => {
            if let Error::NoSuchKey { key, .. } | Error::CompareFailed { key } = &error {
                assert_eq!(key, DIRECTORY);
            }
            assert_is_an_excerpt(&report::chain(&error));
        }
    }
}

/// What v3's gateway answers to a range is sorted and below what was asked for, and a line
/// of a watch means one thing. The first line of the input is etcd's revision.
pub fn etcd_v3(data: &[u8]) {
    const DIRECTORY: &str = "/services/redis";
    let (steering, body) = first_line(data);
    let index = String::from_utf8_lossy(steering).trim().parse().unwrap_or(1);
    for is_recursive in [false, true] {
        let Ok(range) = serde_json::from_slice::<Range>(body) else { break };
        let entries = range.below(DIRECTORY, is_recursive);
        assert!(entries.is_sorted_by_key(|(entry, _)| &entry.key));
        for (Entry { key, value, .. }, lease) in entries {
            let name = key.strip_prefix("/services/redis/").expect("it is below the directory");
            assert!(!name.is_empty() && (is_recursive || !name.contains('/')), "{key}");
            assert!(value.is_some() && lease != Some(String::new()));
        }
    }
    let Ok(line) = serde_json::from_slice::<WatchLine>(body) else { return };
    let Ok(json) = serde_json::from_slice::<Value>(body) else { return };
    let listed = Position { cluster: "14841639068965178418".to_owned(), index };
    let result = &json["result"];
    match heard(line, &listed) {
        Ok(Heard::Change) => assert!(result["events"].as_array().is_some_and(|e| !e.is_empty())),
        Ok(Heard::Compacted | Heard::Refused(_)) => assert_eq!(result["canceled"], true),
        Ok(Heard::Behind) => assert_eq!(result["created"], true),
        Ok(Heard::Nothing) => {}
        Err(_) => assert!(!json["error"].is_null()),
    }
}

/// How many nodes are below `node`.
fn count(node: &Value) -> usize {
    let nodes = node["nodes"].as_array();
    nodes.map_or(0, |nodes| nodes.iter().map(|node| 1 + count(node)).sum())
}
