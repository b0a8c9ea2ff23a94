//! What the gateway answers, and what it means.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::gateway::Failure;
use crate::etcd::{Entry, Position};

/// What stands in `base64`, whose writer may have stored any bytes.
pub(super) fn text(base64: &str) -> String {
    let bytes = BASE64_STANDARD.decode(base64).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// At the head of every answer. One without it is none of etcd's, however well it fits
/// otherwise: what is left out counts as empty.
#[derive(Default, Deserialize)]
pub(super) struct Header {
    cluster_id: String,
    #[serde(default, deserialize_with = "number")]
    revision: i64,
}

impl Header {
    pub(super) fn position(&self) -> Position {
        let index = self.revision.try_into().unwrap_or_default();
        Position { cluster: self.cluster_id.clone(), index }
    }
}

#[derive(Deserialize)]
pub(super) struct Done {
    #[serde(rename = "header")]
    _header: Header,
}

#[derive(Deserialize)]
pub(in crate::etcd) struct Range {
    pub(super) header: Header,
    #[serde(default)]
    pub(super) kvs: Vec<KeyValue>,
}

impl Range {
    /// What is directly below `directory`, or all of it, sorted by key, each with its lease.
    pub(in crate::etcd) fn below(
        self,
        directory: &str,
        is_recursive: bool,
    ) -> Vec<(Entry, Option<String>)> {
        let is_wanted = |key: &str| {
            let below = key.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'));
            below.is_some_and(|name| !name.is_empty() && (is_recursive || !name.contains('/')))
        };
        let entry = |KeyValue { key, value, lease }: KeyValue| {
            let (key, value) = (text(&key), Some(text(&value)));
            let entry = Entry { key, value, ttl_s: None, refreshed_s: None };
            (entry, Some(lease).filter(|lease| !lease.is_empty() && lease != "0"))
        };
        let entries = self.kvs.into_iter().map(entry);
        let mut entries: Vec<_> = entries.filter(|(entry, _)| is_wanted(&entry.key)).collect();
        entries.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        entries
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    key: String,
    pub(super) value: String,
    pub(super) lease: String,
}

#[derive(Deserialize)]
pub(super) struct LoggedIn {
    pub(super) token: String,
}

#[derive(Deserialize)]
pub(super) struct Granted {
    #[serde(rename = "header")]
    _header: Header,
    #[serde(rename = "ID")]
    pub(super) id: String,
}

#[derive(Deserialize)]
pub(super) struct KeptAlive {
    pub(super) result: Left,
}

/// What is left of a lease. Of one that is gone nothing is said, or -1.
#[derive(Deserialize)]
pub(super) struct Left {
    #[serde(rename = "header")]
    _header: Header,
    #[serde(rename = "TTL", default, deserialize_with = "number")]
    pub(super) ttl_s: i64,
    /// Only the answer to a question has it.
    #[serde(rename = "grantedTTL", default, deserialize_with = "number")]
    granted_ttl_s: i64,
}

impl Left {
    pub(super) fn life(&self) -> Life {
        if self.ttl_s < 0 {
            return Life::default();
        }
        // etcd rounds down what is left, which would make the age as much too high. A new
        // leader lets leases live on for longer than they were granted.
        let refreshed_s = (self.granted_ttl_s - self.ttl_s - 1).max(0);
        Life {
            ttl_s: Some(self.ttl_s),
            refreshed_s: Some(refreshed_s).filter(|_| self.granted_ttl_s > 0),
        }
    }
}

/// Where in its life a lease is; nothing of one that is gone.
#[derive(Clone, Copy, Default)]
pub(super) struct Life {
    pub(super) ttl_s: Option<i64>,
    pub(super) refreshed_s: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct Transaction {
    #[serde(rename = "header")]
    _header: Header,
    #[serde(default)]
    pub(super) succeeded: bool,
    #[serde(default)]
    pub(super) responses: Vec<Response>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Response {
    pub(super) response_range: FoundRange,
}

/// The answer to a range within a transaction, which has no head of its own to rely on.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct FoundRange {
    pub(super) kvs: Vec<KeyValue>,
}

/// What one line of a watch says.
#[derive(Debug)]
pub(in crate::etcd) enum Heard {
    Nothing,
    Change,
    /// The history begins later than what was asked for. After this, and after a refusal,
    /// the stream may stay open, and silent for ever.
    Compacted,
    /// It knows less than what was listed.
    Behind,
    Refused(String),
}

pub(in crate::etcd) fn heard(line: WatchLine, listed: &Position) -> Result<Heard, Failure> {
    let WatchLine { result, error } = line;
    if let Some(Refusal { code, grpc_code, message }) = error {
        return Err(Failure::Refused { code: code.max(grpc_code), message });
    }
    let WatchResult { header, created, canceled, compact_revision, cancel_reason, events } =
        result.unwrap_or_default();
    Ok(if canceled && compact_revision > 0 {
        Heard::Compacted
    } else if canceled {
        Heard::Refused(cancel_reason)
    } else if created && !listed.leads_to(&header.position()) {
        Heard::Behind
    } else if events.is_empty() {
        Heard::Nothing
    } else {
        Heard::Change
    })
}

#[derive(Deserialize)]
pub(in crate::etcd) struct WatchLine {
    result: Option<WatchResult>,
    error: Option<Refusal>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WatchResult {
    header: Header,
    created: bool,
    canceled: bool,
    #[serde(deserialize_with = "number")]
    compact_revision: i64,
    cancel_reason: String,
    events: Vec<IgnoredAny>,
}

/// An error as `{"code":…,"message":…}`; within a stream of etcd 3.4 it is `grpc_code`.
#[derive(Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: u32,
    #[serde(default)]
    grpc_code: u32,
    pub(super) message: String,
}

/// A 64-bit number, which the gateway writes as a string.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Text(String),
        Plain(i64),
    }
    match Number::deserialize(deserializer)? {
        Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
        Number::Plain(number) => Ok(number),
    }
}
