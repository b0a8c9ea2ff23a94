//! HTTP to etcd's members: one request, one deadline, the next member when one fails.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use log::warn;
use serde::{Serialize, de::DeserializeOwned};
use ureq::{
    Agent, Body, RequestBuilder,
    http::{HeaderMap, Response},
    tls::TlsConfig,
};

use super::{
    Denial, Error,
    access::{Access, Login, Stamp, Unusable},
    members::{Member, Members},
};
use crate::report;

/// The total deadline of every request but a poll. etcd itself gives up a
/// write after 7 s without a leader; a new request to another member is sooner.
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(3);

/// Longest head of an answer.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Longest body of an answer, and longest line of a stream: about 20,000 instances.
const MAX_BODY_BYTES: u64 = 4 * 1024 * 1024;

/// The members, and a client that keeps connections to them.
#[derive(Debug)]
pub(super) struct Transport {
    access: Access,
    client: Mutex<Client>,
    pub(super) members: Members,
}

/// A client, and which files it was made from.
#[derive(Debug)]
struct Client {
    agents: Agents,
    stamp: Stamp,
}

/// Each keeps connections of its own.
#[derive(Debug, Clone)]
struct Agents {
    requests: Agent,
    /// A stream that is left before its end takes its connection along, which must not be
    /// the one that the next request would find open.
    streams: Agent,
}

/// The name and the value of a header.
pub(super) type Header<'a> = (&'static str, &'a str);

/// One member that is asked, within one deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    transport: &'a Transport,
    pub(super) member: &'a Member,
    deadline: Instant,
    patience: Duration,
    is_stream: bool,
}

/// The head of an answer; its body has not been read yet.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    attempt: Attempt<'a>,
    response: Response<Body>,
}

impl Transport {
    /// Connects lazily: nothing is sent before the first request. All files are read once,
    /// so that a mistake shows at the start.
    pub(super) fn new(members: Vec<Member>, access: Access) -> Result<Self, Unusable> {
        let stamp = access.stamp();
        let agents = Agents::new(&access.tls()?);
        if let Some(login) = &access.login {
            login.password()?;
        }
        let client = Mutex::new(Client { agents, stamp });
        Ok(Transport { access, client, members: Members::new(members) })
    }

    /// The client, made anew if a file that it was made from has changed. One that cannot
    /// be used is warned of once, and the client stays as it was.
    fn agents(&self) -> Agents {
        let stamp = self.access.stamp();
        let known = {
            let client = self.client();
            if client.stamp == stamp {
                return client.agents.clone();
            }
            client.agents.clone()
        };
        let agents = match self.access.tls() {
            Ok(tls) => Agents::new(&tls),
            Err(problem) => {
                warn!("{problem}; what was read before is used on");
                known
            }
        };
        *self.client() = Client { agents: agents.clone(), stamp };
        agents
    }

    fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one member after the other, within one deadline. One more attempt
    /// than there are members, because a pooled connection that etcd closed
    /// meanwhile fails once. What is asked may be repeated without harm.
    pub(super) fn ask<T>(
        &self,
        patience: Duration,
        ask: impl Fn(Attempt<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + patience;
        let members = self.members.count();
        let mut attempts_left = members + 1;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // A silent member must leave time to ask the others; the last to be
            // asked has what is left.
            let patience = left / attempts_left.min(members) as u32;
            attempts_left -= 1;
            let outcome = self.ask_once(patience, &ask);
            let may_go_on = attempts_left > 0 && Instant::now() < deadline;
            match outcome {
                Err(error) if error.is_members_fault() && may_go_on => {}
                outcome => return outcome,
            }
        }
    }

    /// Asks the member whose turn it is, and moves on from it if it fails.
    pub(super) fn ask_once<T>(
        &self,
        patience: Duration,
        ask: impl FnOnce(Attempt<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let member = self.members.current();
        let deadline = Instant::now() + patience;
        let is_stream = false;
        let outcome = ask(Attempt { transport: self, member, deadline, patience, is_stream });
        if let Err(error) = &outcome
            && error.is_members_fault()
        {
            self.members.rotate(member);
        }
        outcome
    }
}

impl Agents {
    fn new(tls: &TlsConfig) -> Self {
        Agents { requests: agent(tls), streams: agent(tls) }
    }
}

fn agent(tls: &TlsConfig) -> Agent {
    let config = Agent::config_builder()
        .tls_config(tls.clone())
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
        // etcd sends the head of a poll at once too, so one that does not come is lost.
        .timeout_recv_response(Some(REQUEST_DEADLINE))
        .build();
    config.new_agent()
}

impl<'a> Attempt<'a> {
    /// The same for an answer that may be left before its end.
    pub(super) fn for_a_stream(self) -> Self {
        Attempt { is_stream: true, ..self }
    }

    fn agent(self) -> Agent {
        let Agents { requests, streams } = self.transport.agents();
        if self.is_stream { streams } else { requests }
    }

    pub(super) fn login(self) -> Option<&'a Login> {
        self.transport.access.login.as_ref()
    }

    pub(super) fn get(
        self,
        path: &str,
        headers: &[Header<'_>],
        query: &[(&str, &str)],
    ) -> Result<Reply<'a>, Error> {
        let request = self.prepared(self.agent().get(self.url(path)), headers);
        self.reply(request.query_pairs(query.iter().copied()).call())
    }

    pub(super) fn delete(
        self,
        path: &str,
        headers: &[Header<'_>],
        query: &[(&str, &str)],
    ) -> Result<Reply<'a>, Error> {
        let request = self.prepared(self.agent().delete(self.url(path)), headers);
        self.reply(request.query_pairs(query.iter().copied()).call())
    }

    pub(super) fn put_form(
        self,
        path: &str,
        headers: &[Header<'_>],
        form: &[(&str, &str)],
    ) -> Result<Reply<'a>, Error> {
        let request = self.prepared(self.agent().put(self.url(path)), headers);
        self.reply(request.send_form(form.iter().copied()))
    }

    pub(super) fn post_json(
        self,
        path: &str,
        headers: &[Header<'_>],
        body: &impl Serialize,
    ) -> Result<Reply<'a>, Error> {
        let body = serde_json::to_vec(body).expect("strings and numbers always serialize");
        let request = self.prepared(self.agent().post(self.url(path)), headers);
        self.reply(request.content_type("application/json").send(&body[..]))
    }

    fn prepared<B>(self, request: RequestBuilder<B>, headers: &[Header<'_>]) -> RequestBuilder<B> {
        let add =
            |request: RequestBuilder<B>, (name, value): &Header<'_>| request.header(*name, *value);
        let request = headers.iter().fold(request, add);
        request.config().timeout_global(Some(self.left())).build()
    }

    fn url(self, path: &str) -> String {
        format!("{}{path}", self.member)
    }

    fn left(self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn reply(self, sent: Result<Response<Body>, ureq::Error>) -> Result<Reply<'a>, Error> {
        let response = sent.map_err(|error| self.failed(error))?;
        Ok(Reply { attempt: self, response })
    }

    /// An answer, but none that a working etcd gives.
    pub(super) fn unusable(self, problem: &str) -> Error {
        Error::Unusable { member: self.member.clone(), problem: report::excerpt(problem) }
    }

    pub(super) fn denied(self, denial: Denial, problem: &str) -> Error {
        Error::Denied { member: self.member.clone(), denial, problem: report::excerpt(problem) }
    }

    fn failed(self, error: ureq::Error) -> Error {
        let member = self.member.clone();
        match error {
            ureq::Error::Timeout(_) => Error::Silent { member, waited: self.patience },
            ureq::Error::BodyExceedsLimit(limit) => {
                Error::Unusable { member, problem: format!("an answer of more than {limit} bytes") }
            }
            ureq::Error::Io(error) if self.member.is_tls && is_hang_up(&error) => {
                // Who wants another certificate says so and hangs up; what it said cannot be
                // read after that, if this side was still writing.
                let hint = match self.transport.access.identity {
                    Some(_) => "it may not take the certificate of --etcd-cert",
                    None => "it may want a certificate (--etcd-cert)",
                };
                let source = io::Error::new(error.kind(), format!("{error}; {hint}"));
                Error::Unreachable { member, source: Box::new(source) }
            }
            // Without ureq's own "io: " before the system's words.
            ureq::Error::Io(error) => Error::Unreachable { member, source: Box::new(error) },
            error => Error::Unreachable { member, source: Box::new(error) },
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl<'a> Reply<'a> {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The whole body.
    pub(super) fn body(mut self) -> Result<Vec<u8>, Error> {
        let body = self.response.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_vec();
        body.map_err(|error| self.attempt.failed(error))
    }

    /// The body line by line, as it comes.
    pub(super) fn lines(self) -> Lines<'a> {
        let body = self.response.into_body().into_with_config().limit(u64::MAX).reader();
        Lines { attempt: self.attempt, body: BufReader::new(Box::new(body)) }
    }
}

/// An answer of many lines, each a JSON object.
pub(super) struct Lines<'a> {
    attempt: Attempt<'a>,
    body: BufReader<Box<dyn Read>>,
}

impl Lines<'_> {
    /// The next line; `None` at the end. The last line of a stream may lack its newline.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let mut line = Vec::new();
        let mut limited = (&mut self.body).take(MAX_BODY_BYTES);
        let read = limited.read_until(b'\n', &mut line);
        read.map_err(|error| self.attempt.failed(ureq::Error::from(error)))?;
        if line.len() as u64 == MAX_BODY_BYTES {
            let problem = format!("a line of more than {MAX_BODY_BYTES} bytes");
            return Err(self.attempt.unusable(&problem));
        }
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let parsed = serde_json::from_slice(&line);
        parsed.map(Some).map_err(|error| {
            self.attempt.unusable(&format!("an answer that is not etcd's: {error}"))
        })
    }
}

impl Error {
    /// Whether it is certificates that failed, or a member that does not speak TLS.
    pub(crate) fn is_about_tls(&self) -> bool {
        let Error::Unreachable { member, source } = self else { return false };
        match (source.downcast_ref::<ureq::Error>(), source.downcast_ref::<io::Error>()) {
            (Some(error), _) => matches!(error, ureq::Error::Tls(_) | ureq::Error::Rustls(_)),
            (_, Some(error)) => {
                let is_end = error.kind() == io::ErrorKind::UnexpectedEof || is_hang_up(error);
                let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
                is_tls || member.is_tls && is_end
            }
            _ => false,
        }
    }

    /// Whether another member may do better.
    fn is_members_fault(&self) -> bool {
        match self {
            Error::Unreachable { .. }
            | Error::Silent { .. }
            | Error::Unusable { .. }
            | Error::Denied { .. }
            | Error::ApiIsOff { .. } => true,
            Error::NoAccess { .. }
            | Error::NoSuchKey { .. }
            | Error::CompareFailed { .. }
            | Error::IndexCleared
            | Error::Behind { .. } => false,
        }
    }
}
