//! The v3 API through etcd's JSON gateway (etcd 3.3 and later).
//!
//! Keys and values are base64, 64-bit numbers are strings, and what is zero, false or
//! empty is left out.
//!
//! Source: etcd 3.5 documentation, "gRPC gateway"; what differs in practice is said
//! where it matters.

mod answers;
mod gateway;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use self::{
    answers::{Done, Granted, KeptAlive, Left, Life, Transaction, text},
    gateway::{Failure, Gateway, NOT_FOUND},
};
use super::{Error, Found, Listing, Position, transport::Attempt};

#[cfg(any(test, fuzzing))]
pub(super) use answers::WatchLine;
pub(super) use answers::{Heard, Range, heard};

/// How many keys one transaction asks about: etcd allows 128 (`--max-txn-ops`).
pub(super) const REFRESHED_AT_ONCE: usize = 100;

/// What is remembered between requests.
#[derive(Debug, Default)]
pub(super) struct Session {
    gateway: Gateway,
    /// One for everything this process puts, so that one request keeps all of it alive.
    lease: Mutex<Option<Lease>>,
}

#[derive(Debug, Clone)]
struct Lease {
    id: String,
    /// When it was granted or kept alive last.
    renewed: Instant,
}

impl Session {
    /// Makes sure that the member has this API.
    pub(super) fn find(&self, attempt: Attempt<'_>) -> Result<(), Error> {
        self.gateway.find(attempt)
    }

    /// Lists what is directly below `directory`, or all of it. The answer is linearizable: a
    /// member that was cut off cannot give it.
    pub(super) fn list(
        &self,
        attempt: Attempt<'_>,
        directory: &str,
        is_recursive: bool,
    ) -> Result<Listing, Error> {
        let range = self.range(attempt, directory)?;
        let position = range.header.position();
        let entries = range.below(directory, is_recursive);
        Ok(Listing { entries: entries.into_iter().map(|(entry, _)| entry).collect(), position })
    }

    /// Lists all that is below `directory`, with the lives of its leases, each of which is one
    /// more question.
    pub(super) fn list_lifetimes(
        &self,
        attempt: Attempt<'_>,
        directory: &str,
    ) -> Result<Listing, Error> {
        let range = self.range(attempt, directory)?;
        let position = range.header.position();
        let mut lives = BTreeMap::new();
        let mut entries = Vec::new();
        for (mut entry, lease) in range.below(directory, true) {
            if let Some(lease) = lease {
                let known = lives.get(&lease).copied();
                let life = match known {
                    Some(life) => life,
                    None => self.life(attempt, &lease)?,
                };
                lives.insert(lease, life);
                Life { ttl_s: entry.ttl_s, refreshed_s: entry.refreshed_s } = life;
            }
            entries.push(entry);
        }
        Ok(Listing { entries, position })
    }

    fn range(&self, attempt: Attempt<'_>, directory: &str) -> Result<Range, Error> {
        let (key, range_end) = range_of(directory);
        let request = json!({ "key": key, "range_end": range_end });
        self.gateway.must(attempt, "/kv/range", &request)
    }

    fn life(&self, attempt: Attempt<'_>, lease: &str) -> Result<Life, Error> {
        let left: Left =
            self.gateway.must(attempt, "/lease/timetolive", &json!({ "ID": lease }))?;
        Ok(left.life())
    }

    /// Waits until something changed below `directory` after it was `listed`, or for as
    /// long as the attempt may take. Silence is no error; neither says what changed.
    pub(super) fn wait(
        &self,
        attempt: Attempt<'_>,
        directory: &str,
        listed: &Position,
    ) -> Result<(), Error> {
        let (key, range_end) = range_of(directory);
        let start_revision = (listed.index + 1).to_string();
        let request = json!({ "create_request": {
            "key": key, "range_end": range_end, "start_revision": start_revision,
        }});
        // A member that has lost its leader ends the watch after 5 s instead of keeping
        // silent.
        let headers = [("Grpc-Metadata-hasleader", "true")];
        let reply = self.gateway.post(attempt.for_a_stream(), "/watch", &headers, &request);
        let reply = reply.map_err(|failure| failure.into_error(attempt))?;
        let mut lines = reply.lines();
        loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => return Err(attempt.unusable("the watch ended without a word")),
                Err(Error::Silent { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            match heard(line, listed).map_err(|failure| failure.into_error(attempt))? {
                Heard::Nothing => {}
                Heard::Change => return Ok(()),
                Heard::Compacted => return Err(Error::IndexCleared),
                Heard::Behind => return Err(Error::Behind { member: attempt.member.clone() }),
                Heard::Refused(reason) => {
                    // It may be the token that is not good any more.
                    self.gateway.forget_token();
                    return Err(attempt.unusable(&format!("the watch was refused: {reason}")));
                }
            }
        }
    }

    /// Stores `value` under `key` for as long as our lease lives, whatever is there.
    pub(super) fn put(
        &self,
        attempt: Attempt<'_>,
        key: &str,
        value: &str,
        ttl_s: u64,
    ) -> Result<(), Error> {
        let lease = self.lease(attempt, ttl_s)?;
        match self.put_under(attempt, key, value, &lease) {
            // It expired while this process or etcd stood still.
            Err(Failure::Refused { code: NOT_FOUND, .. }) => {
                let lease = self.grant(attempt, ttl_s)?;
                self.put_under(attempt, key, value, &lease)
            }
            outcome => outcome,
        }
        .map_err(|failure| failure.into_error(attempt))
    }

    fn put_under(
        &self,
        attempt: Attempt<'_>,
        key: &str,
        value: &str,
        lease: &Lease,
    ) -> Result<(), Failure> {
        let request = json!({ "key": base64(key), "value": base64(value), "lease": lease.id });
        self.gateway.call(attempt, "/kv/put", &request).map(|Done { .. }| ())
    }

    /// Our lease, kept alive unless that was done a moment ago; another one if it is gone,
    /// and what was put under it with it.
    fn lease(&self, attempt: Attempt<'_>, ttl_s: u64) -> Result<Lease, Error> {
        let known = self.kept().clone();
        let Some(lease) = known else { return self.grant(attempt, ttl_s) };
        // Every key asks for it every third of the TTL, each at its own time.
        if lease.renewed.elapsed() < Duration::from_secs(ttl_s) / 6 {
            return Ok(lease);
        }
        let renewed = Instant::now();
        let KeptAlive { result: Left { ttl_s: left_s, .. } } =
            self.gateway.must(attempt, "/lease/keepalive", &json!({ "ID": lease.id }))?;
        if left_s <= 0 {
            return self.grant(attempt, ttl_s);
        }
        let lease = Lease { renewed, ..lease };
        *self.kept() = Some(lease.clone());
        Ok(lease)
    }

    fn grant(&self, attempt: Attempt<'_>, ttl_s: u64) -> Result<Lease, Error> {
        let request = json!({ "TTL": ttl_s.to_string() });
        // Before the request, so that it is never older than it is thought to be.
        let renewed = Instant::now();
        let Granted { id, .. } = self.gateway.must(attempt, "/lease/grant", &request)?;
        let lease = Lease { id, renewed };
        *self.kept() = Some(lease.clone());
        Ok(lease)
    }

    /// Keeps our lease alive, and makes sure that every key of `entries` still holds its
    /// value under it. Wakes no watcher.
    pub(super) fn refresh(
        &self,
        attempt: Attempt<'_>,
        entries: &[(String, String)],
        ttl_s: u64,
    ) -> Result<Vec<Found>, Error> {
        let lease = self.lease(attempt, ttl_s)?;
        let ranges: Vec<Value> = entries
            .iter()
            .map(|(key, _)| json!({ "request_range": { "key": base64(key) } }))
            .collect();
        let request = json!({ "compare": [], "success": ranges, "failure": [] });
        let answer: Transaction = self.gateway.must(attempt, "/kv/txn", &request)?;
        if answer.responses.len() != entries.len() {
            let (keys, answers) = (entries.len(), answer.responses.len());
            return Err(attempt.unusable(&format!("{answers} answers about {keys} keys")));
        }
        let found = entries.iter().zip(answer.responses).map(|((key, value), response)| {
            let Some(stored) = response.response_range.kvs.into_iter().next() else {
                return Ok(Found::Nothing);
            };
            let held = text(&stored.value);
            if held != *value {
                return Ok(Found::Foreign(held));
            }
            if stored.lease == lease.id {
                return Ok(Found::Ours);
            }
            // Ours, but put under a lease of before, whose end would take it along.
            let put = json!([{ "request_put": {
                "key": base64(key), "value": base64(value), "lease": lease.id,
            }}]);
            match self.transact(attempt, key, value, &put)? {
                Transacted::Done => Ok(Found::Ours),
                Transacted::Not(held) => Ok(held.map_or(Found::Nothing, Found::Foreign)),
            }
        });
        found.collect()
    }

    /// Deletes `key`, provided it still holds `value`.
    pub(super) fn remove_if(
        &self,
        attempt: Attempt<'_>,
        key: &str,
        value: &str,
    ) -> Result<(), Error> {
        let delete = json!([{ "request_delete_range": { "key": base64(key) } }]);
        let key = key.to_owned();
        match self.transact(attempt, &key, value, &delete)? {
            Transacted::Done => Ok(()),
            Transacted::Not(None) => Err(Error::NoSuchKey { key }),
            Transacted::Not(Some(_)) => Err(Error::CompareFailed { key }),
        }
    }

    /// Does `actions` if `key` holds `value`; otherwise says what it holds.
    fn transact(
        &self,
        attempt: Attempt<'_>,
        key: &str,
        value: &str,
        actions: &Value,
    ) -> Result<Transacted, Error> {
        let compare = json!([{
            "key": base64(key), "target": "VALUE", "result": "EQUAL", "value": base64(value),
        }]);
        let found = json!([{ "request_range": { "key": base64(key) } }]);
        let request = json!({ "compare": compare, "success": actions, "failure": found });
        let answer: Transaction = self.gateway.must(attempt, "/kv/txn", &request)?;
        if answer.succeeded {
            return Ok(Transacted::Done);
        }
        let range = answer.responses.into_iter().next().map(|response| response.response_range);
        let found = range.and_then(|range| range.kvs.into_iter().next());
        Ok(Transacted::Not(found.map(|found| text(&found.value))))
    }

    fn kept(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a transaction came to.
enum Transacted {
    Done,
    /// It was not done, because the key holds this.
    Not(Option<String>),
}

/// Everything below `directory`: from `directory/` to what comes after the last key that
/// begins so (`0` follows `/`).
fn range_of(directory: &str) -> (String, String) {
    (base64(&format!("{directory}/")), base64(&format!("{directory}0")))
}

fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}
