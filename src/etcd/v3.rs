//! The v3 API through etcd's JSON gateway (etcd 3.3 and later).
//!
//! Keys and values are base64, 64-bit numbers are strings, and what is zero, false or
//! empty is left out.
//!
//! Source: etcd 3.5 documentation, "gRPC gateway"; what differs in practice is said
//! where it matters.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Entry, Error, Listing, Position,
    transport::{Attempt, Header as HttpHeader, Reply},
};

/// What is remembered between requests.
#[derive(Debug, Default)]
pub(super) struct Session {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the gateway is, which differs between versions.
    prefix: Option<&'static str>,
    /// One for everything this process puts, so that one request keeps all of it alive.
    lease: Option<Lease>,
    /// What shows who we are, once we have logged in.
    token: Option<Token>,
}

#[derive(Clone)]
enum Token {
    Is(String),
    /// etcd has authentication off.
    IsNotNeeded,
}

impl fmt::Debug for Token {
    /// Never shows the token itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Token::Is(_) => "Is(…)",
            Token::IsNotNeeded => "IsNotNeeded",
        })
    }
}

#[derive(Debug, Clone)]
struct Lease {
    id: String,
    /// When it was granted or kept alive last.
    renewed: Instant,
}

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Failure {
    Etcd(Error),
    /// etcd's own refusal, by its gRPC code.
    Refused {
        code: u32,
        message: String,
    },
}

// gRPC's codes, as far as they mean something here.

/// With this message: a request without a token, where authentication is on.
const INVALID_ARGUMENT: u32 = 3;
const NO_USER: &str = "user name is empty";
/// Of a lease, that there is none.
const NOT_FOUND: u32 = 5;
/// Of a login, that authentication is off.
const FAILED_PRECONDITION: u32 = 9;
/// Of a token, that it has expired.
const UNAUTHENTICATED: u32 = 16;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Etcd(error)
    }
}

impl Failure {
    fn into_error(self, attempt: Attempt<'_>) -> Error {
        match self {
            Failure::Etcd(error) => error,
            Failure::Refused { code: INVALID_ARGUMENT, message }
                if attempt.login().is_none() && message.contains(NO_USER) =>
            {
                attempt.unusable("it asks for a user (--etcd-user)")
            }
            Failure::Refused { code, message } => {
                attempt.unusable(&format!("error {code}: {message}"))
            }
        }
    }
}

impl Session {
    /// Makes sure that the member has this API.
    pub(super) fn find(&self, attempt: Attempt<'_>) -> Result<(), Error> {
        self.prefix(attempt).map(drop)
    }

    /// Lists what is directly below `directory`, or all of it, with what is left of its
    /// leases. The answer is linearizable: a member that was cut off cannot give it.
    pub(super) fn list(
        &self,
        attempt: Attempt<'_>,
        directory: &str,
        is_recursive: bool,
    ) -> Result<Listing, Error> {
        let (key, range_end) = range_of(directory);
        let request = json!({ "key": key, "range_end": range_end });
        let range: Range = self.must(attempt, "/kv/range", &request)?;
        let position = range.header.position();
        let mut ttls = BTreeMap::new();
        let mut entries = Vec::new();
        for (mut entry, lease) in range.below(directory, is_recursive) {
            if is_recursive && let Some(lease) = lease {
                let known = ttls.get(&lease).copied();
                entry.ttl_s = match known {
                    Some(ttl_s) => ttl_s,
                    None => self.ttl_s(attempt, &lease)?,
                };
                ttls.insert(lease, entry.ttl_s);
            }
            entries.push(entry);
        }
        Ok(Listing { entries, position })
    }

    fn ttl_s(&self, attempt: Attempt<'_>, lease: &str) -> Result<Option<i64>, Error> {
        let left: Left = self.must(attempt, "/lease/timetolive", &json!({ "ID": lease }))?;
        Ok(Some(left.ttl_s).filter(|ttl_s| *ttl_s >= 0))
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
        let reply = self.post(attempt, "/watch", &headers, &request);
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
                    self.state().token = None;
                    return Err(attempt.unusable(&format!("the watch was refused: {reason}")));
                }
            }
        }
    }

    /// The value stored under `key`; `None` where there is none.
    pub(super) fn get(&self, attempt: Attempt<'_>, key: &str) -> Result<Option<String>, Error> {
        let range: Range = self.must(attempt, "/kv/range", &json!({ "key": base64(key) }))?;
        Ok(range.kvs.first().map(|found| text(&found.value)))
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
        self.call(attempt, "/kv/put", &request).map(|Done { .. }| ())
    }

    /// Our lease, kept alive unless that was done a moment ago; another one if it is gone,
    /// and what was put under it with it.
    fn lease(&self, attempt: Attempt<'_>, ttl_s: u64) -> Result<Lease, Error> {
        let known = self.state().lease.clone();
        let Some(lease) = known else { return self.grant(attempt, ttl_s) };
        // Every key asks for it every third of the TTL, each at its own time.
        if lease.renewed.elapsed() < Duration::from_secs(ttl_s) / 6 {
            return Ok(lease);
        }
        let renewed = Instant::now();
        let KeptAlive { result: Left { ttl_s: left_s, .. } } =
            self.must(attempt, "/lease/keepalive", &json!({ "ID": lease.id }))?;
        if left_s <= 0 {
            return self.grant(attempt, ttl_s);
        }
        let lease = Lease { renewed, ..lease };
        self.state().lease = Some(lease.clone());
        Ok(lease)
    }

    fn grant(&self, attempt: Attempt<'_>, ttl_s: u64) -> Result<Lease, Error> {
        let request = json!({ "TTL": ttl_s.to_string() });
        // Before the request, so that it is never older than it is thought to be.
        let renewed = Instant::now();
        let Granted { id, .. } = self.must(attempt, "/lease/grant", &request)?;
        let lease = Lease { id, renewed };
        self.state().lease = Some(lease.clone());
        Ok(lease)
    }

    /// Keeps our lease alive, and makes sure that `key` still holds `value` under it. Wakes
    /// no watcher.
    pub(super) fn refresh(
        &self,
        attempt: Attempt<'_>,
        key: &str,
        value: &str,
        ttl_s: u64,
    ) -> Result<(), Error> {
        let lease = self.lease(attempt, ttl_s)?;
        let is_ours = [
            holds(key, value),
            json!({
                "key": base64(key), "target": "LEASE", "result": "EQUAL", "lease": lease.id,
            }),
        ];
        match self.transact(attempt, key, &is_ours, &json!([]))? {
            Transacted::Done => Ok(()),
            Transacted::Found(None) => Err(Error::NoSuchKey { key: key.to_owned() }),
            // Ours, but put under a lease of before, whose end would take it along.
            Transacted::Found(Some(found)) if found == value => {
                let put = json!([{ "request_put": {
                    "key": base64(key), "value": base64(value), "lease": lease.id,
                }}]);
                self.done_if_held(attempt, key, value, &put)
            }
            Transacted::Found(Some(_)) => Err(Error::CompareFailed { key: key.to_owned() }),
        }
    }

    /// Deletes `key`, provided it still holds `value`.
    pub(super) fn remove_if(
        &self,
        attempt: Attempt<'_>,
        key: &str,
        value: &str,
    ) -> Result<(), Error> {
        let delete = json!([{ "request_delete_range": { "key": base64(key) } }]);
        self.done_if_held(attempt, key, value, &delete)
    }

    fn done_if_held(
        &self,
        attempt: Attempt<'_>,
        key: &str,
        value: &str,
        actions: &Value,
    ) -> Result<(), Error> {
        match self.transact(attempt, key, &[holds(key, value)], actions)? {
            Transacted::Done => Ok(()),
            Transacted::Found(None) => Err(Error::NoSuchKey { key: key.to_owned() }),
            Transacted::Found(Some(_)) => Err(Error::CompareFailed { key: key.to_owned() }),
        }
    }

    /// Does `actions` if all of `compare` holds; otherwise says what `key` holds.
    fn transact(
        &self,
        attempt: Attempt<'_>,
        key: &str,
        compare: &[Value],
        actions: &Value,
    ) -> Result<Transacted, Error> {
        let found = json!([{ "request_range": { "key": base64(key) } }]);
        let request = json!({ "compare": compare, "success": actions, "failure": found });
        let answer: Transaction = self.must(attempt, "/kv/txn", &request)?;
        if answer.succeeded {
            return Ok(Transacted::Done);
        }
        let range = answer.responses.into_iter().next().map(|response| response.response_range);
        let found = range.and_then(|range| range.kvs.into_iter().next());
        Ok(Transacted::Found(found.map(|found| text(&found.value))))
    }

    fn must<T: DeserializeOwned>(
        &self,
        attempt: Attempt<'_>,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, Error> {
        self.call(attempt, path, request).map_err(|failure| failure.into_error(attempt))
    }

    fn call<T: DeserializeOwned>(
        &self,
        attempt: Attempt<'_>,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = self.post(attempt, path, &[], request)?.body()?;
        let parsed = serde_json::from_slice(&body);
        Ok(parsed.map_err(|error| not_etcds(attempt, &error))?)
    }

    /// Sends a request, logged in if a user was named. An answer that comes back has
    /// status 200.
    fn post<'a>(
        &self,
        attempt: Attempt<'a>,
        path: &str,
        headers: &[HttpHeader<'_>],
        request: &impl Serialize,
    ) -> Result<Reply<'a>, Failure> {
        let path = format!("{}{path}", self.prefix(attempt)?);
        let mut is_second_try = false;
        loop {
            let token = self.token(attempt)?;
            let mut headers = headers.to_vec();
            if let Some(Token::Is(token)) = &token {
                // Without "Bearer", which etcd refuses.
                headers.push(("Authorization", token));
            }
            let reply = attempt.post_json(&path, &headers, request)?;
            let status = reply.status();
            if status == 200 {
                return Ok(reply);
            }
            let failure = refusal(status, &reply.body()?, attempt);
            let is_about_the_token = match &failure {
                Failure::Refused { code: UNAUTHENTICATED, .. } => true,
                Failure::Refused { code: INVALID_ARGUMENT, message } => message.contains(NO_USER),
                _ => false,
            };
            if !is_about_the_token || token.is_none() || is_second_try {
                return Err(failure);
            }
            // It expires when it is not used, and is lost with etcd's state.
            self.state().token = None;
            is_second_try = true;
        }
    }

    /// What shows who we are; `None` where nobody was named.
    fn token(&self, attempt: Attempt<'_>) -> Result<Option<Token>, Failure> {
        let Some(login) = attempt.login() else { return Ok(None) };
        let known = self.state().token.clone();
        if known.is_some() {
            return Ok(known);
        }
        let password = login.password().map_err(|problem| Error::NoAccess { problem })?;
        let request = json!({ "name": login.user, "password": password });
        let path = format!("{}/auth/authenticate", self.prefix(attempt)?);
        let reply = attempt.post_json(&path, &[], &request)?;
        let (status, body) = (reply.status(), reply.body()?);
        let token = if status == 200 {
            let LoggedIn { token } =
                serde_json::from_slice(&body).map_err(|error| not_etcds(attempt, &error))?;
            Token::Is(token)
        } else {
            match refusal(status, &body, attempt) {
                Failure::Refused { code: FAILED_PRECONDITION, .. } => Token::IsNotNeeded,
                failure => return Err(failure),
            }
        };
        self.state().token = Some(token.clone());
        Ok(Some(token))
    }

    /// Where the gateway of this cluster is.
    fn prefix(&self, attempt: Attempt<'_>) -> Result<&'static str, Error> {
        let known = self.state().prefix;
        if let Some(prefix) = known {
            return Ok(prefix);
        }
        let body = attempt.get("/version", &[], &[])?.body()?;
        let Version { etcdserver } =
            serde_json::from_slice(&body).map_err(|error| not_etcds(attempt, &error))?;
        let prefix = match gateway_of(&etcdserver) {
            Some(prefix) => prefix,
            None => {
                let problem = format!("version {etcdserver} has no v3 API that is known here");
                return Err(attempt.unusable(&problem));
            }
        };
        self.state().prefix = Some(prefix);
        Ok(prefix)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The gateway's prefix in etcd's `version`: it moved twice before it stayed.
fn gateway_of(version: &str) -> Option<&'static str> {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    match (numbers.next()??, numbers.next()??) {
        (3, 0..3) => Some("/v3alpha"),
        (3, 3) => Some("/v3beta"),
        (0..3, _) => None,
        _ => Some("/v3"),
    }
}

fn not_etcds(attempt: Attempt<'_>, error: &serde_json::Error) -> Error {
    attempt.unusable(&format!("an answer that is not etcd's: {error}"))
}

/// What an answer with another status than 200 says.
fn refusal(status: u16, body: &[u8], attempt: Attempt<'_>) -> Failure {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { code, message, .. }) => Failure::Refused { code, message },
        Err(_) if status == 404 => {
            Failure::Etcd(Error::ApiIsOff { member: attempt.member.clone(), api: "v3" })
        }
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            Failure::Etcd(attempt.unusable(&format!("HTTP status {status}: {text}")))
        }
    }
}

/// What a transaction came to.
enum Transacted {
    Done,
    /// It was not done, because the key holds this.
    Found(Option<String>),
}

fn holds(key: &str, value: &str) -> Value {
    json!({ "key": base64(key), "target": "VALUE", "result": "EQUAL", "value": base64(value) })
}

/// Everything below `directory`: from `directory/` to what comes after the last key that
/// begins so (`0` follows `/`).
fn range_of(directory: &str) -> (String, String) {
    (base64(&format!("{directory}/")), base64(&format!("{directory}0")))
}

fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// What stands in `base64`, whose writer may have stored any bytes.
fn text(base64: &str) -> String {
    let bytes = BASE64_STANDARD.decode(base64).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Deserialize)]
struct Version {
    etcdserver: String,
}

/// At the head of every answer. One without it is none of etcd's, however well it fits
/// otherwise: what is left out counts as empty.
#[derive(Default, Deserialize)]
struct Header {
    cluster_id: String,
    #[serde(default, deserialize_with = "number")]
    revision: i64,
}

impl Header {
    fn position(&self) -> Position {
        let index = self.revision.try_into().unwrap_or_default();
        Position { cluster: self.cluster_id.clone(), index }
    }
}

#[derive(Deserialize)]
struct Done {
    #[serde(rename = "header")]
    _header: Header,
}

#[derive(Deserialize)]
pub(super) struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

impl Range {
    /// What is directly below `directory`, or all of it, sorted by key, each with its lease.
    pub(super) fn below(self, directory: &str, is_recursive: bool) -> Vec<(Entry, Option<String>)> {
        let is_wanted = |key: &str| {
            let below = key.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'));
            below.is_some_and(|name| !name.is_empty() && (is_recursive || !name.contains('/')))
        };
        let entry = |KeyValue { key, value, lease }: KeyValue| {
            let entry = Entry { key: text(&key), value: Some(text(&value)), ttl_s: None };
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
struct KeyValue {
    key: String,
    value: String,
    lease: String,
}

#[derive(Deserialize)]
struct LoggedIn {
    token: String,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(rename = "header")]
    _header: Header,
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Deserialize)]
struct KeptAlive {
    result: Left,
}

/// What is left of a lease. Of one that is gone nothing is said, or -1.
#[derive(Deserialize)]
struct Left {
    #[serde(rename = "header")]
    _header: Header,
    #[serde(rename = "TTL", default, deserialize_with = "number")]
    ttl_s: i64,
}

#[derive(Deserialize)]
struct Transaction {
    #[serde(rename = "header")]
    _header: Header,
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<Response>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Response {
    response_range: Found,
}

/// The answer to a range within a transaction, which has no head of its own to rely on.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Found {
    kvs: Vec<KeyValue>,
}

/// What one line of a watch says.
#[derive(Debug)]
pub(super) enum Heard {
    Nothing,
    Change,
    /// The history begins later than what was asked for. After this, and after a refusal,
    /// the stream may stay open, and silent for ever.
    Compacted,
    /// It knows less than what was listed.
    Behind,
    Refused(String),
}

pub(super) fn heard(line: WatchLine, listed: &Position) -> Result<Heard, Failure> {
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
pub(super) struct WatchLine {
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
    events: Vec<serde::de::IgnoredAny>,
}

/// An error as `{"code":…,"message":…}`; within a stream of etcd 3.4 it is `grpc_code`.
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    grpc_code: u32,
    message: String,
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
