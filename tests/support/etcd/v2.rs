//! The requests of the v2 API.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::base64;
use super::client::{Client, Life, User, Words};
use super::watch::{Change, Poll};
use crate::support::DEADLINE;
use crate::support::http::{self, percent_decode, percent_encode};

pub(super) struct V2;

impl Words for V2 {
    fn put(&self, client: &Client, key: &str, value: &str, ttl_s: Option<u32>) {
        let ttl = ttl_s.map(|ttl_s| format!("ttl={ttl_s}&")).unwrap_or_default();
        must(client, "PUT", &path(key), Some(&format!("{ttl}value={}", percent_encode(value))));
    }

    fn try_put(
        &self,
        client: &Client,
        patience: Duration,
        key: &str,
        value: &str,
    ) -> io::Result<()> {
        let form = format!("value={}", percent_encode(value));
        match client.ask_within(patience, "PUT", &path(key), Some(&form))? {
            answer if answer.status < 300 => Ok(()),
            answer => Err(io::Error::other(answer.body)),
        }
    }

    fn refresh(&self, client: &Client, key: &str, ttl_s: u32) {
        let form = format!("ttl={ttl_s}&refresh=true&prevExist=true");
        must(client, "PUT", &path(key), Some(&form));
    }

    fn delete(&self, client: &Client, key: &str) {
        must(client, "DELETE", &format!("{}?recursive=true", path(key)), None);
    }

    fn get(&self, client: &Client, key: &str) -> Option<String> {
        node(client, key).map(|node| node["value"].as_str().unwrap().to_owned())
    }

    fn ttl_s(&self, client: &Client, key: &str) -> Option<i64> {
        node(client, key)?["ttl"].as_i64()
    }

    fn life(&self, client: &Client, key: &str) -> Option<Life> {
        node(client, key)?["modifiedIndex"].as_u64().map(Life::Index)
    }

    fn list(&self, client: &Client, patience: Duration, dir: &str) -> io::Result<Vec<String>> {
        let target = format!("{}/?quorum=true", path(dir));
        let answer = client.ask_within(patience, "GET", &target, None)?;
        match answer.status {
            200 => Ok(keys(&answer.json()["node"])),
            404 => Ok(Vec::new()),
            status => Err(io::Error::other(format!("{status}: {}", answer.body))),
        }
    }

    fn tree(&self, client: &Client, dir: &str) -> BTreeMap<String, String> {
        let target = format!("{}/?quorum=true&recursive=true", path(dir));
        let answer = client.ask("GET", &target, None);
        let mut tree = BTreeMap::new();
        let mut left = vec![answer.json()["node"].clone()];
        while let Some(node) = left.pop() {
            if let Some(value) = node["value"].as_str() {
                tree.insert(node["key"].as_str().unwrap().to_owned(), value.to_owned());
            }
            left.extend(node["nodes"].as_array().into_iter().flatten().cloned());
        }
        tree
    }

    fn position(&self, client: &Client, patience: Duration) -> io::Result<u64> {
        let answer = client.ask_within(patience, "GET", "/v2/keys/?quorum=true", None)?;
        let index = answer.header("X-Etcd-Index").and_then(|index| index.parse().ok());
        match (answer.status, index) {
            (200, Some(index)) => Ok(index),
            _ => Err(io::Error::other(format!("{}: {}", answer.status, answer.body))),
        }
    }

    fn poll(
        &self,
        client: &Client,
        mut stream: TcpStream,
        dir: &str,
        next: u64,
    ) -> io::Result<Poll> {
        let query = format!("wait=true&recursive=true&waitIndex={next}");
        let authorization = http::authorization(client.authorization(DEADLINE)?.as_deref());
        let head =
            format!("GET {}/?{query} HTTP/1.1\r\nHost: test\r\n{authorization}\r\n", path(dir));
        stream.write_all(head.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let answer = http::read_answer(&mut reader)?;
        let event: Value = serde_json::from_str(&answer.body)?;
        if answer.status != 200 {
            assert_eq!(event["errorCode"], 401, "poll of {dir} from {next}: {}", answer.body);
            return Ok(Poll::Cleared(event["index"].as_u64().unwrap()));
        }
        let node = &event["node"];
        let change = Change {
            action: event["action"].as_str().unwrap().to_owned(),
            key: node["key"].as_str().unwrap().to_owned(),
            value: node["value"].as_str().map(str::to_owned),
            at: Instant::now(),
        };
        Ok(Poll::Changes(vec![change], node["modifiedIndex"].as_u64().unwrap() + 1))
    }

    fn members(&self, client: &Client) -> Vec<(String, String)> {
        let answer = client.ask("GET", "/v2/members", None).json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let members = answer["members"].as_array().unwrap();
        members.iter().map(|member| (text(&member["name"]), text(&member["id"]))).collect()
    }

    fn is_leader(&self, client: &Client, patience: Duration) -> io::Result<bool> {
        // 403 elsewhere. /v2/stats/self says `StateLeader` until another one is heard of.
        Ok(client.ask_within(patience, "GET", "/v2/stats/leader", None)?.status == 200)
    }

    fn authorization(&self, _: &Client, user: &User, _: Duration) -> io::Result<String> {
        let pair = format!("{}:{}", user.name, user.password);
        Ok(format!("Basic {}", base64::encode(pair.as_bytes())))
    }
}

pub(super) fn make_dir(client: &Client, key: &str) {
    must(client, "PUT", &path(key), Some("dir=true"));
}

pub(super) fn requested_key(request: &str) -> Option<String> {
    let target = request.split(' ').nth(1)?.strip_prefix("/v2/keys")?;
    Some(percent_decode(target.split('?').next()?))
}

fn node(client: &Client, key: &str) -> Option<Value> {
    let answer = client.ask("GET", &format!("{}?quorum=true", path(key)), None);
    (answer.status == 200).then(|| answer.json()["node"].take())
}

#[track_caller]
pub(super) fn must(client: &Client, method: &str, target: &str, form: Option<&str>) {
    let answer = client.ask(method, target, form);
    assert!(answer.status < 300, "{method} {target}: {} {}", answer.status, answer.body);
}

/// The keys directly below the directory `node`.
fn keys(node: &Value) -> Vec<String> {
    let nodes = node["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().map(|node| node["key"].as_str().unwrap().to_owned()).collect()
}

fn path(key: &str) -> String {
    format!("/v2/keys{}", percent_encode(key))
}
