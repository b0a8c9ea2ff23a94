//! The v2 keys API (etcd 2.0 to 3.5, from 3.4 on with `--enable-v2`).
//!
//! Source: etcd 2.3 documentation, "api.md"; what differs in practice is said
//! where it matters.

use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::{Agent, Body, http::Response};

use super::{
    Entry, Error, Listing, Position,
    members::{Member, Members},
};
use crate::report;

/// The total deadline of every request but a poll. etcd itself gives up a
/// write after 7 s without a leader; a new request to another member is sooner.
const REQUEST_DEADLINE: Duration = Duration::from_secs(3);

/// Longest head of an answer.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Longest body of an answer: about 20,000 instances.
const MAX_BODY_BYTES: u64 = 4 * 1024 * 1024;

/// A connection to etcd's v2 key space.
#[derive(Debug)]
pub(crate) struct Store {
    agent: Agent,
    members: Members,
}

impl Store {
    /// Connects lazily: nothing is sent before the first call.
    pub(crate) fn new(members: Vec<Member>) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("ambassador/", env!("CARGO_PKG_VERSION")))
            // Without this HTTP_PROXY would send etcd's traffic elsewhere.
            .proxy(None)
            // etcd's own error codes are in the bodies of 4xx answers.
            .http_status_as_error(false)
            // A redirect (`//` or `..` in a key) is never ours to follow.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(MAX_HEAD_BYTES)
            .timeout_connect(Some(REQUEST_DEADLINE))
            .build();
        Store { agent: config.new_agent(), members: Members::new(members) }
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.count()
    }

    /// The member the next request goes to, for log lines.
    pub(crate) fn member(&self) -> &Member {
        self.members.current()
    }

    /// Lists `directory`, asking the quorum: a member that was cut off must not
    /// replace what is known with what it remembers.
    pub(crate) fn list(&self, directory: &str) -> Result<Listing, Error> {
        self.get_directory(directory, &[("quorum", "true")], REQUEST_DEADLINE)
    }

    /// Lists `directory` and everything below it, within `patience`.
    pub(crate) fn list_all(&self, directory: &str, patience: Duration) -> Result<Listing, Error> {
        let query = [("quorum", "true"), ("recursive", "true")];
        self.get_directory(directory, &query, patience.min(REQUEST_DEADLINE))
    }

    fn get_directory(
        &self,
        directory: &str,
        query: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Listing, Error> {
        // With the trailing slash: a role that may read `/services/*` may not read
        // `/services`.
        let call = Call::Get { path: format!("{directory}/"), query: pairs(query) };
        let answer = match self.request_within(&call, patience) {
            Ok(answer) => answer,
            Err(Error::NoSuchKey { position, .. }) => {
                return Ok(Listing { entries: vec![], position });
            }
            Err(error) => return Err(error),
        };
        answer.listing(directory)
    }

    /// Waits until something changed below `directory` after it was `listed`, or for
    /// `patience`. Silence is no error; neither says what changed.
    pub(crate) fn wait(
        &self,
        directory: &str,
        listed: &Position,
        patience: Duration,
    ) -> Result<(), Error> {
        let wait_index = (listed.index + 1).to_string();
        // Never with `quorum=true`: etcd then answers at once as to a plain get.
        let query = pairs(&[("wait", "true"), ("recursive", "true"), ("waitIndex", &wait_index)]);
        let call = Call::Get { path: format!("{directory}/"), query };
        let member = self.members.current();
        let polled = self.send(&call, member, patience).and_then(|response| {
            // etcd sends the head at once, before any event. That of a refusal may say 0.
            let is_behind = response.status() == 200
                && position(&response).is_some_and(|now| !listed.leads_to(&now));
            if is_behind {
                return Err(Error::Behind { member: member.clone() });
            }
            self.receive(&call, response, member, patience)
        });
        match polled {
            Ok(_) | Err(Error::Silent { .. }) => Ok(()),
            Err(error) => {
                if error.is_members_fault() {
                    self.members.rotate(member);
                }
                Err(error)
            }
        }
    }

    /// The value stored under `key`; `None` where there is none.
    pub(crate) fn get(&self, key: &str) -> Result<Option<String>, Error> {
        let call = Call::Get { path: key.to_owned(), query: pairs(&[("quorum", "true")]) };
        match self.request(&call) {
            Ok(answer) => Ok(answer.node.value),
            Err(Error::NoSuchKey { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores `value` under `key` for `ttl_s` seconds, whatever is there.
    pub(crate) fn put(&self, key: &str, value: &str, ttl_s: u64) -> Result<(), Error> {
        let form = pairs(&[("value", value), ("ttl", &ttl_s.to_string())]);
        self.request(&Call::Put { key, form }).map(drop)
    }

    /// Lets `key` live for another `ttl_s` seconds, provided it still holds
    /// `value`. Wakes no watcher.
    pub(crate) fn refresh(&self, key: &str, value: &str, ttl_s: u64) -> Result<(), Error> {
        let form = pairs(&[
            ("ttl", &ttl_s.to_string()),
            ("refresh", "true"),
            ("prevExist", "true"),
            ("prevValue", value),
        ]);
        self.request(&Call::Put { key, form }).map(drop)
    }

    /// Deletes `key`, provided it still holds `value`.
    pub(crate) fn remove_if(&self, key: &str, value: &str) -> Result<(), Error> {
        self.remove_if_within(key, value, REQUEST_DEADLINE)
    }

    /// The same, for a process that is about to end.
    pub(crate) fn remove_if_within(
        &self,
        key: &str,
        value: &str,
        patience: Duration,
    ) -> Result<(), Error> {
        let query = pairs(&[("prevValue", value)]);
        self.request_within(&Call::Delete { key, query }, patience).map(drop)
    }

    fn request(&self, call: &Call<'_>) -> Result<Answer, Error> {
        self.request_within(call, REQUEST_DEADLINE)
    }

    /// Asks one member after the other, within one deadline. One more attempt
    /// than there are members, because a pooled connection that etcd closed
    /// meanwhile fails once. Every call may be repeated without harm.
    fn request_within(&self, call: &Call<'_>, patience: Duration) -> Result<Answer, Error> {
        let deadline = Instant::now() + patience;
        let members = self.members.count();
        let mut attempts_left = members + 1;
        loop {
            let member = self.members.current();
            let left = deadline.saturating_duration_since(Instant::now());
            // A silent member must leave time to ask the others; the last to be
            // asked has what is left.
            let patience = left / attempts_left.min(members) as u32;
            attempts_left -= 1;
            match self.attempt(call, member, patience) {
                Err(error) if error.is_members_fault() => {
                    self.members.rotate(member);
                    if attempts_left == 0 || Instant::now() >= deadline {
                        return Err(error);
                    }
                }
                outcome => return outcome,
            }
        }
    }

    fn attempt(
        &self,
        call: &Call<'_>,
        member: &Member,
        patience: Duration,
    ) -> Result<Answer, Error> {
        let response = self.send(call, member, patience)?;
        self.receive(call, response, member, patience)
    }

    /// Sends a request and reads the head of its answer. What is left of `patience` is
    /// for its body.
    fn send(
        &self,
        call: &Call<'_>,
        member: &Member,
        patience: Duration,
    ) -> Result<Response<Body>, Error> {
        let url = |key: &str| format!("{member}/v2/keys{key}");
        let limit = Some(patience);
        let sent = match call {
            Call::Get { path, query } => {
                let request = self.agent.get(url(path)).query_pairs(pair_refs(query));
                request.config().timeout_global(limit).build().call()
            }
            Call::Put { key, form } => {
                let request = self.agent.put(url(key)).config().timeout_global(limit).build();
                request.send_form(pair_refs(form))
            }
            Call::Delete { key, query } => {
                let request = self.agent.delete(url(key)).query_pairs(pair_refs(query));
                request.config().timeout_global(limit).build().call()
            }
        };
        sent.map_err(|error| Error::from_ureq(error, member, patience))
    }

    fn receive(
        &self,
        call: &Call<'_>,
        mut response: Response<Body>,
        member: &Member,
        patience: Duration,
    ) -> Result<Answer, Error> {
        let (status, position) = (response.status().as_u16(), position(&response));
        let body = response.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_vec();
        let body = body.map_err(|error| Error::from_ureq(error, member, patience))?;
        Answer::parse(call.key(), Reply { status, position, body: &body }, member)
    }
}

impl Error {
    fn from_ureq(error: ureq::Error, member: &Member, waited: Duration) -> Self {
        let member = member.clone();
        match error {
            ureq::Error::Timeout(_) => Error::Silent { member, waited },
            ureq::Error::BodyExceedsLimit(limit) => {
                Error::Unusable { member, problem: format!("an answer of more than {limit} bytes") }
            }
            // Without ureq's own "io: " before the system's words.
            ureq::Error::Io(error) => Error::Unreachable { member, source: Box::new(error) },
            error => Error::Unreachable { member, source: Box::new(error) },
        }
    }

    /// Whether another member may do better.
    fn is_members_fault(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Silent { .. } | Error::Unusable { .. } => true,
            Error::NoSuchKey { .. }
            | Error::CompareFailed { .. }
            | Error::IndexCleared
            | Error::Behind { .. } => false,
        }
    }
}

type Pairs<'a> = Vec<(&'a str, String)>;

fn pairs<'a>(pairs: &[(&'a str, &str)]) -> Pairs<'a> {
    pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn pair_refs<'a>(pairs: &'a Pairs<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
    pairs.iter().map(|(name, value)| (*name, value.as_str()))
}

/// One request, before a member is chosen for it.
enum Call<'a> {
    Get { path: String, query: Pairs<'a> },
    Put { key: &'a str, form: Pairs<'a> },
    Delete { key: &'a str, query: Pairs<'a> },
}

impl Call<'_> {
    fn key(&self) -> &str {
        match self {
            Call::Get { path, .. } => path.trim_end_matches('/'),
            Call::Put { key, .. } | Call::Delete { key, .. } => key,
        }
    }
}

/// What a response says, before anything is made of it.
#[derive(Debug)]
pub(super) struct Reply<'a> {
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
    pub(super) fn parse(key: &str, reply: Reply<'_>, member: &Member) -> Result<Self, Error> {
        let Reply { status, position, body } = reply;
        let unusable = |problem: &str| Error::Unusable {
            member: member.clone(),
            problem: report::excerpt(problem),
        };
        let no_etcd = || unusable("an answer without X-Etcd-Index, so this is no etcd");
        if status == 200 || status == 201 {
            let position = position.ok_or_else(no_etcd)?;
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
            Ok(Refusal { error_code: 100, .. }) => {
                Err(Error::NoSuchKey { key, position: position.ok_or_else(no_etcd)? })
            }
            Ok(Refusal { error_code: 101, .. }) => Err(Error::CompareFailed { key }),
            Ok(Refusal { error_code: 401, .. }) => Err(Error::IndexCleared),
            Ok(Refusal { error_code, message, cause }) => {
                Err(unusable(&format!("error {error_code} for {key}: {message} ({cause})")))
            }
            // What etcd 3.4 and 3.5 answer to every /v2 path without --enable-v2.
            Err(_) if status == 404 && body.starts_with(b"404 page not found") => {
                Err(unusable("its v2 API is off (etcd 3.4 and 3.5 need --enable-v2=true)"))
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

/// Where etcd's history was when the head of `response` was sent.
fn position(response: &Response<Body>) -> Option<Position> {
    let header = |name| response.headers().get(name)?.to_str().ok();
    let index = header("X-Etcd-Index")?.parse().ok()?;
    let cluster = header("X-Etcd-Cluster-Id").unwrap_or_default().to_owned();
    Some(Position { cluster, index })
}

/// The values of a tree of nodes; a directory is an entry too, so that a caller
/// can say what is wrong with it.
fn flatten(nodes: Vec<Node>, entries: &mut Vec<Entry>) {
    for node in nodes {
        let value = if node.dir { None } else { Some(node.value.unwrap_or_default()) };
        entries.push(Entry { key: node.key, value, ttl_s: node.ttl });
        flatten(node.nodes, entries);
    }
}
