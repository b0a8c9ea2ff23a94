//! The requests of the v3 API, through its JSON gateway.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::base64;
use super::client::{Client, Life, User, Words};
use super::watch::{Change, Poll};
use crate::support::DEADLINE;
use crate::support::http;

pub(super) struct V3;

impl Words for V3 {
    fn put(&self, client: &Client, key: &str, value: &str, ttl_s: Option<u32>) {
        let lease = match ttl_s {
            Some(ttl_s) => must(client, "lease/grant", json!({ "TTL": ttl_s }))["ID"].take(),
            None => json!(0),
        };
        let put = json!({ "key": bytes(key), "value": bytes(value), "lease": lease });
        must(client, "kv/put", put);
    }

    fn try_put(
        &self,
        client: &Client,
        patience: Duration,
        key: &str,
        value: &str,
    ) -> io::Result<()> {
        let put = json!({ "key": bytes(key), "value": bytes(value) });
        try_post(client, patience, "kv/put", &put).map(drop)
    }

    fn refresh(&self, client: &Client, key: &str, ttl_s: u32) {
        let lease = lease(&stored(client, key).unwrap()).unwrap();
        let answer = must(client, "lease/keepalive", json!({ "ID": lease }));
        assert_eq!(signed(&answer["result"]["TTL"]), i64::from(ttl_s));
    }

    fn delete(&self, client: &Client, key: &str) {
        let below = below(key);
        let delete = |range: Value| json!({ "request_delete_range": range });
        let both = [delete(json!({ "key": bytes(key) })), delete(below)];
        let answer = must(client, "kv/txn", json!({ "success": both }));
        let deleted: u64 = (0..2)
            .map(|at| number(&answer["responses"][at]["response_delete_range"]["deleted"]))
            .sum();
        assert!(deleted > 0, "nothing at {key} to delete");
    }

    fn get(&self, client: &Client, key: &str) -> Option<String> {
        stored(client, key).map(|stored| text(&stored["value"]))
    }

    fn ttl_s(&self, client: &Client, key: &str) -> Option<i64> {
        let stored = stored(client, key)?;
        let lease = must(client, "lease/timetolive", json!({ "ID": lease(&stored)? }));
        match signed(&lease["TTL"]) {
            -1 => None,
            ttl_s => Some(ttl_s),
        }
    }

    fn life(&self, client: &Client, key: &str) -> Option<Life> {
        let stored = stored(client, key)?;
        let revision = number(&stored["mod_revision"]);
        let Some(lease) = lease(&stored) else {
            return Some(Life::Leased { revision, lease: String::new(), ends: None });
        };
        let asked = Instant::now();
        let answer = must(client, "lease/timetolive", json!({ "ID": lease }));
        let second = Duration::from_secs(1);
        let ends = match signed(&answer["TTL"]) {
            -1 => return None,
            // What is overdue is 0 too.
            0 => asked - second..Instant::now() + second,
            left => {
                let left = second * u32::try_from(left).unwrap();
                asked + left..Instant::now() + left + second
            }
        };
        Some(Life::Leased { revision, lease, ends: Some(ends) })
    }

    fn list(&self, client: &Client, patience: Duration, dir: &str) -> io::Result<Vec<String>> {
        let mut range = below(dir);
        range["keys_only"] = json!(true);
        let answer = try_post(client, patience, "kv/range", &range)?;
        let kvs = answer["kvs"].as_array().cloned().unwrap_or_default();
        let keys = kvs.iter().map(|stored| text(&stored["key"]));
        let is_child = |key: &String| !key[dir.len() + 1..].contains('/');
        Ok(keys.filter(is_child).collect())
    }

    fn tree(&self, client: &Client, dir: &str) -> BTreeMap<String, String> {
        let answer = try_post(client, DEADLINE, "kv/range", &below(dir)).unwrap();
        let kvs = answer["kvs"].as_array().cloned().unwrap_or_default();
        kvs.iter().map(|stored| (text(&stored["key"]), text(&stored["value"]))).collect()
    }

    fn position(&self, client: &Client, patience: Duration) -> io::Result<u64> {
        // Any range: it is answered only with a quorum.
        let answer =
            try_post(client, patience, "kv/range", &json!({ "key": bytes("/services/") }))?;
        Ok(number(&answer["header"]["revision"]))
    }

    fn poll(
        &self,
        client: &Client,
        mut stream: TcpStream,
        dir: &str,
        next: u64,
    ) -> io::Result<Poll> {
        let mut create = below(dir);
        create["start_revision"] = json!(next);
        let body = json!({ "create_request": create }).to_string();
        let authorization = http::authorization(client.authorization(DEADLINE)?.as_deref());
        let head = "POST /v3/watch HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n";
        let request = format!("{head}{authorization}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let (status, _) = http::read_head(&mut reader)?;
        let mut unread = Vec::new();
        while let Some(chunk) = http::read_chunk(&mut reader)? {
            unread.extend(chunk);
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                let line: Value = serde_json::from_slice(&line)?;
                let result = &line["result"];
                let compacted = number(&result["compact_revision"]);
                if compacted > 0 {
                    return Ok(Poll::Cleared(compacted));
                }
                if result["canceled"] == true {
                    return Err(io::Error::other(line.to_string()));
                }
                if let Some(events) = result["events"].as_array() {
                    // Not the header's revision, which may be later than a batch of history.
                    let last = events.last().map(|event| number(&event["kv"]["mod_revision"]));
                    let next = last.map_or(next, |last| last + 1);
                    return Ok(Poll::Changes(events.iter().map(change).collect(), next));
                }
            }
        }
        let rest = String::from_utf8_lossy(&unread).into_owned();
        Err(io::Error::other(format!("the watch ended with status {status}: {rest}")))
    }

    fn members(&self, client: &Client) -> Vec<(String, String)> {
        let answer = must(client, "cluster/member/list", json!({}));
        let members = answer["members"].as_array().unwrap();
        let hex = |member: &Value| format!("{:x}", number(&member["ID"]));
        let name = |member: &Value| member["name"].as_str().unwrap().to_owned();
        members.iter().map(|member| (name(member), hex(member))).collect()
    }

    fn is_leader(&self, client: &Client, patience: Duration) -> io::Result<bool> {
        let status = try_post(client, patience, "maintenance/status", &json!({}))?;
        Ok(number(&status["leader"]) == number(&status["header"]["member_id"]))
    }

    fn authorization(
        &self,
        client: &Client,
        user: &User,
        patience: Duration,
    ) -> io::Result<String> {
        let nobody = Client { user: None, ..client.clone() };
        let who = json!({ "name": user.name, "password": user.password });
        let answer = try_post(&nobody, patience, "auth/authenticate", &who)?;
        Ok(answer["token"].as_str().unwrap().to_owned())
    }
}

/// What v3 alone has.
impl Client {
    pub(crate) fn stored(&self, key: &str) -> Option<Stored> {
        let stored = stored(self, key)?;
        let number = |field: &str| number(&stored[field]);
        Some(Stored {
            revision: number("mod_revision"),
            version: number("version"),
            lease: lease(&stored),
        })
    }

    /// Also a key or a value that is no text.
    pub(crate) fn put_bytes(&self, key: &str, value: &[u8]) {
        let put = json!({ "key": bytes(key), "value": base64::encode(value) });
        must(self, "kv/put", put);
    }

    /// In one transaction, which is one event of many keys.
    pub(crate) fn put_all(&self, pairs: &[(String, String)]) {
        let put = |(key, value): &(String, String)| json!({ "request_put": { "key": bytes(key), "value": bytes(value) } });
        let puts: Vec<Value> = pairs.iter().map(put).collect();
        must(self, "kv/txn", json!({ "success": puts }));
    }

    /// Forgets all history until now.
    pub(crate) fn compact(&self) {
        let now = self.position(DEADLINE).unwrap();
        must(self, "kv/compaction", json!({ "revision": now, "physical": true }));
    }

    /// Every lease there is.
    pub(crate) fn leases(&self) -> Vec<String> {
        let answer = must(self, "lease/leases", json!({}));
        let leases = answer["leases"].as_array().cloned().unwrap_or_default();
        leases.iter().map(|lease| lease["ID"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn granted_ttl_s(&self, lease: &str) -> u64 {
        number(&must(self, "lease/timetolive", json!({ "ID": lease }))["grantedTTL"])
    }

    pub(crate) fn revoke(&self, lease: &str) {
        must(self, "lease/revoke", json!({ "ID": lease }));
    }

    /// What every answer begins with now, as JSON.
    pub(crate) fn header(&self) -> String {
        must(self, "kv/range", json!({ "key": bytes("/services/") }))["header"].to_string()
    }
}

/// What etcd says of a key besides its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) revision: u64,
    /// How often it was written.
    pub(crate) version: u64,
    pub(crate) lease: Option<String>,
}

pub(super) fn requested_key(request: &str) -> Option<String> {
    let (_, body) = request.split_once("\r\n\r\n").filter(|_| request.starts_with("POST /v3/"))?;
    let body: Value = serde_json::from_str(body).ok()?;
    let key = [&body["key"], &body["create_request"]["key"]].into_iter().find_map(Value::as_str)?;
    String::from_utf8(base64::decode(key)).ok()
}

/// What has to succeed.
#[track_caller]
pub(super) fn must(client: &Client, method: &str, body: Value) -> Value {
    match try_post(client, DEADLINE, method, &body) {
        Ok(answer) => answer,
        Err(error) => panic!("{method} {body}: {error}"),
    }
}

fn try_post(client: &Client, patience: Duration, method: &str, body: &Value) -> io::Result<Value> {
    let started = Instant::now();
    loop {
        // The gateway does not look at the type of the body.
        let target = format!("/v3/{method}");
        let answer = client.ask_within(patience, "POST", &target, Some(&body.to_string()))?;
        match answer.status {
            200 => return Ok(serde_json::from_str(&answer.body)?),
            // A read that was under way is given up, and can be asked for again at once.
            503 if answer.body.contains("leader changed") && started.elapsed() < patience => {}
            status => return Err(io::Error::other(format!("{status}: {}", answer.body))),
        }
    }
}

/// What is stored under `key`.
fn stored(client: &Client, key: &str) -> Option<Value> {
    let mut answer = must(client, "kv/range", json!({ "key": bytes(key) }));
    answer["kvs"].get_mut(0).map(Value::take)
}

fn lease(stored: &Value) -> Option<String> {
    stored["lease"].as_str().map(str::to_owned)
}

fn change(event: &Value) -> Change {
    let stored = &event["kv"];
    let (action, value) = match event["type"].as_str() {
        // What is 0 or empty is left out of the gateway's JSON.
        None => ("set", Some(stored["value"].as_str().map_or(String::new(), decode))),
        Some("DELETE") => ("delete", None),
        Some(other) => panic!("an event of type {other}"),
    };
    Change { action: action.to_owned(), key: text(&stored["key"]), value, at: Instant::now() }
}

/// The range of everything below `dir`: `0` comes after `/`.
fn below(dir: &str) -> Value {
    json!({ "key": bytes(&format!("{dir}/")), "range_end": bytes(&format!("{dir}0")) })
}

pub(super) fn bytes(text: &str) -> Value {
    json!(base64::encode(text.as_bytes()))
}

/// An empty string is left out of the gateway's JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or(String::new(), decode)
}

fn decode(text: &str) -> String {
    String::from_utf8(base64::decode(text)).unwrap()
}

/// A number of 64 bits is a string, and 0 is left out.
fn signed(value: &Value) -> i64 {
    value.as_str().map_or(0, |digits| digits.parse().unwrap())
}

pub(super) fn number(value: &Value) -> u64 {
    value.as_str().map_or(0, |digits| digits.parse().unwrap())
}
