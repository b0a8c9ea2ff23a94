//! The v2 keys API (etcd 2.0 to 3.5, from 3.4 on with `--enable-v2`).
//!
//! Source: etcd 2.3 documentation, "api.md"; what differs in practice is said
//! where it matters.

use serde::Deserialize;
use ureq::http::HeaderMap;

use super::{
    Denial, Entry, Error, Found, Listing, Position,
    access::Login,
    members::Member,
    transport::{Attempt, Header, Reply},
};
use crate::report;

/// Lists `directory`, asking the quorum: a member that was cut off must not replace what
/// is known with what it remembers.
pub(super) fn list(
    attempt: Attempt<'_>,
    directory: &str,
    is_recursive: bool,
) -> Result<Listing, Error> {
    let recursive = if is_recursive { "true" } else { "false" };
    let query = [("quorum", "true"), ("recursive", recursive)];
    let reply =
        attempt.get(&path_of_directory(directory), &authorization(attempt)?.headers(), &query)?;
    let position = position(reply.headers());
    match (answer(attempt, reply, directory), position) {
        // A directory that was never made is as good as one that is empty.
        (Err(Error::NoSuchKey { .. }), Some(position)) => Ok(Listing { entries: vec![], position }),
        (Err(Error::NoSuchKey { .. }), None) => Err(attempt.unusable(NO_ETCD)),
        (answer, _) => answer?.listing(directory),
    }
}

/// Waits until something changed below `directory` after it was `listed`, or for as long
/// as the attempt may take. Silence is no error; neither says what changed.
pub(super) fn wait(attempt: Attempt<'_>, directory: &str, listed: &Position) -> Result<(), Error> {
    let wait_index = (listed.index + 1).to_string();
    // Never with `quorum=true`: etcd then answers at once as to a plain get.
    let query = [("wait", "true"), ("recursive", "true"), ("waitIndex", &wait_index)];
    let reply =
        attempt.get(&path_of_directory(directory), &authorization(attempt)?.headers(), &query)?;
    // etcd sends the head at once, before any event. That of a refusal may say 0.
    let is_behind = reply.status() == 200
        && position(reply.headers()).is_some_and(|now| !listed.leads_to(&now));
    if is_behind {
        return Err(Error::Behind { member: attempt.member.clone() });
    }
    match answer(attempt, reply, directory) {
        Ok(_) | Err(Error::Silent { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The value stored under `key`; `None` where there is none.
fn get(attempt: Attempt<'_>, key: &str) -> Result<Option<String>, Error> {
    let reply =
        attempt.get(&path(key), &authorization(attempt)?.headers(), &[("quorum", "true")])?;
    match answer(attempt, reply, key) {
        Ok(answer) => Ok(answer.node.value),
        Err(Error::NoSuchKey { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Stores `value` under `key` for `ttl_s` seconds, whatever is there.
pub(super) fn put(attempt: Attempt<'_>, key: &str, value: &str, ttl_s: u64) -> Result<(), Error> {
    let form = [("value", value), ("ttl", &ttl_s.to_string())];
    answer(attempt, attempt.put_form(&path(key), &authorization(attempt)?.headers(), &form)?, key)
        .map(drop)
}

/// Lets `key` live for another `ttl_s` seconds, provided it still holds `value`, and says
/// what it holds. Wakes no watcher.
pub(super) fn refresh(
    attempt: Attempt<'_>,
    key: &str,
    value: &str,
    ttl_s: u64,
) -> Result<Found, Error> {
    let form = [
        ("ttl", &ttl_s.to_string()[..]),
        ("refresh", "true"),
        ("prevExist", "true"),
        ("prevValue", value),
    ];
    let reply = attempt.put_form(&path(key), &authorization(attempt)?.headers(), &form)?;
    match answer(attempt, reply, key) {
        Ok(_) => Ok(Found::Ours),
        Err(Error::NoSuchKey { .. }) => Ok(Found::Nothing),
        Err(Error::CompareFailed { .. }) => {
            Ok(get(attempt, key)?.map_or(Found::Nothing, Found::Foreign))
        }
        Err(error) => Err(error),
    }
}

/// Deletes `key`, provided it still holds `value`.
pub(super) fn remove_if(attempt: Attempt<'_>, key: &str, value: &str) -> Result<(), Error> {
    let query = [("prevValue", value)];
    let reply = attempt.delete(&path(key), &authorization(attempt)?.headers(), &query)?;
    answer(attempt, reply, key).map(drop)
}

/// Whether the member offers this API, which etcd 3.4 and 3.5 do with `--enable-v2`.
pub(super) fn is_offered(attempt: Attempt<'_>) -> Result<bool, Error> {
    let reply = attempt.get("/v2/keys/", &[], &[])?;
    let is_an_etcds = position(reply.headers()).is_some();
    let status = reply.status();
    let body = reply.body()?;
    if is_an_etcds || serde_json::from_slice::<Refusal>(&body).is_ok() {
        return Ok(true);
    }
    if is_off(status, &body) {
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&body);
    Err(attempt.unusable(&format!("HTTP status {status}, and this is no etcd: {text}")))
}

/// What etcd 3.4 and later answer to every /v2 path without `--enable-v2`, and to every
/// other path that they do not serve.
fn is_off(status: u16, body: &[u8]) -> bool {
    status == 404 && body.starts_with(b"404 page not found")
}

/// What shows who we are: HTTP's basic authentication, if a user was named.
struct Authorization(Option<String>);

fn authorization(attempt: Attempt<'_>) -> Result<Authorization, Error> {
    let basic = attempt.login().map(Login::basic).transpose();
    basic.map(Authorization).map_err(|problem| Error::NoAccess { problem })
}

impl Authorization {
    fn headers(&self) -> Vec<Header<'_>> {
        self.0.iter().map(|basic| ("Authorization", &basic[..])).collect()
    }
}

const NO_ETCD: &str = "an answer without X-Etcd-Index, so this is no etcd";

fn path(key: &str) -> String {
    format!("/v2/keys{key}")
}

/// With the trailing slash: a role that may read `/services/*` may not read `/services`.
fn path_of_directory(directory: &str) -> String {
    format!("/v2/keys{directory}/")
}

fn answer(attempt: Attempt<'_>, reply: Reply<'_>, key: &str) -> Result<Answer, Error> {
    let (status, position) = (reply.status(), position(reply.headers()));
    let raw = Raw { status, position, body: &reply.body()? };
    match Answer::parse(key, raw, attempt.member) {
        Err(Error::Denied { member, problem, .. }) if attempt.login().is_none() => {
            Err(Error::Denied { member, denial: Denial::User, problem })
        }
        answer => answer,
    }
}

/// What a response says, before anything is made of it.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    pub(super) status: u16,
    /// When the head of the answer was sent.
    pub(super) position: Option<Position>,
    pub(super) body: &'a [u8],
}

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    member: Member,
    node: Node,
    position: Position,
}

/// A key or directory as etcd shows it. The root and empty directories leave
/// most of it out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    key: String,
    value: Option<String>,
    dir: bool,
    ttl: Option<i64>,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Success {
    node: Node,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    error_code: u32,
    message: String,
    #[serde(default)]
    cause: String,
}

impl Answer {
    /// The answer to a request for `key`.
    pub(super) fn parse(key: &str, raw: Raw<'_>, member: &Member) -> Result<Self, Error> {
        let Raw { status, position, body } = raw;
        let unusable = |problem: &str| Error::Unusable {
            member: member.clone(),
            problem: report::excerpt(problem),
        };
        if status == 200 || status == 201 {
            let position = position.ok_or_else(|| unusable(NO_ETCD))?;
            // A poll that a middlebox ended comes with an empty body.
            if body.is_empty() {
                return Ok(Answer { member: member.clone(), node: Node::default(), position });
            }
            let Success { node } = serde_json::from_slice(body)
                .map_err(|error| unusable(&format!("an answer that is not etcd's: {error}")))?;
            return Ok(Answer { member: member.clone(), node, position });
        }
        let key = key.to_owned();
        match serde_json::from_slice::<Refusal>(body) {
            Ok(Refusal { error_code: 100, .. }) => Err(Error::NoSuchKey { key }),
            Ok(Refusal { error_code: 101, .. }) => Err(Error::CompareFailed { key }),
            Ok(Refusal { error_code: 401, .. }) => Err(Error::IndexCleared),
            // Of a user who may not, it is the same error as without one.
            Ok(Refusal { error_code: 110, message, cause }) => {
                let problem =
                    format!("error 110 for {key}: {message} ({cause}; --etcd-user says who)");
                let (member, problem) = (member.clone(), report::excerpt(&problem));
                Err(Error::Denied { member, denial: Denial::LoginOrRight, problem })
            }
            Ok(Refusal { error_code, message, cause }) => {
                Err(unusable(&format!("error {error_code} for {key}: {message} ({cause})")))
            }
            Err(_) if is_off(status, body) => {
                Err(Error::ApiIsOff { member: member.clone(), api: "v2" })
            }
            Err(_) => {
                let text = String::from_utf8_lossy(body);
                Err(unusable(&format!("HTTP status {status}: {text}")))
            }
        }
    }

    /// What is below `directory`, which was asked for.
    pub(super) fn listing(self, directory: &str) -> Result<Listing, Error> {
        if !self.node.dir {
            let problem = format!("{directory} is a value, not a directory");
            return Err(Error::Unusable { member: self.member, problem });
        }
        let mut entries = Vec::new();
        flatten(self.node.nodes, &mut entries);
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Listing { entries, position: self.position })
    }
}

/// Where etcd's history was when a head with these `headers` was sent.
fn position(headers: &HeaderMap) -> Option<Position> {
    let header = |name| headers.get(name)?.to_str().ok();
    let index = header("X-Etcd-Index")?.parse().ok()?;
    let cluster = header("X-Etcd-Cluster-Id").unwrap_or_default().to_owned();
    Some(Position { cluster, index })
}

/// The values of a tree of nodes; a directory is an entry too, so that a caller
/// can say what is wrong with it.
fn flatten(nodes: Vec<Node>, entries: &mut Vec<Entry>) {
    for node in nodes {
        let value = if node.dir { None } else { Some(node.value.unwrap_or_default()) };
        entries.push(Entry { key: node.key, value, ttl_s: node.ttl, refreshed_s: None });
        flatten(node.nodes, entries);
    }
}
