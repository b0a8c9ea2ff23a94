//! The store: what is asked of etcd, whichever of its APIs answers.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{
    Error, Found, Listing, Position,
    about::{About, about},
    access::{Access, Unusable},
    members::Member,
    transport::{Attempt, REQUEST_DEADLINE, Transport},
    v2,
    v3::{self, Session},
};
use crate::counters::Requests;

/// Which of etcd's two key spaces is used. They do not see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    V2,
    V3,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Api::V2 => "v2",
            Api::V3 => "v3",
        })
    }
}

/// A key space of etcd.
#[derive(Debug)]
pub(crate) struct Store {
    transport: Transport,
    /// What was asked for; `None` lets the server decide.
    wanted: Option<Api>,
    /// What the server offered.
    found: Mutex<Option<Api>>,
    session: Session,
    requests: Requests,
}

/// What is asked, as it is counted.
const KINDS: [&str; 5] = [LIST, POLL, PUT, REFRESH, REMOVE];
const LIST: &str = "list";
const POLL: &str = "poll";
const PUT: &str = "put";
const REFRESH: &str = "refresh";
const REMOVE: &str = "remove";

impl Store {
    /// Connects lazily: nothing is sent before the first call. Without an `api`, v2 is
    /// used where the server offers it, and v3 otherwise.
    ///
    /// # Errors
    /// A file of `access` cannot be read, or does not hold what it should.
    pub(crate) fn new(
        members: Vec<Member>,
        api: Option<Api>,
        access: Access,
    ) -> Result<Self, Unusable> {
        Ok(Store {
            transport: Transport::new(members, access)?,
            wanted: api,
            found: Mutex::default(),
            session: Session::default(),
            requests: Requests::new(KINDS),
        })
    }

    pub(crate) fn member_count(&self) -> usize {
        self.transport.members.count()
    }

    /// What was asked, and what came of it.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The member the next request goes to, for log lines.
    pub(crate) fn member(&self) -> &Member {
        self.transport.members.current()
    }

    /// What the member says of itself to anybody.
    pub(crate) fn about(&self) -> Result<About, Error> {
        self.transport.ask(REQUEST_DEADLINE, about)
    }

    /// The API that is used, as far as is known.
    pub(crate) fn used_api(&self) -> Option<Api> {
        self.wanted.or(self.found())
    }

    /// Which API is used and why, for a log line once etcd has answered.
    pub(crate) fn introduction(&self) -> String {
        format!("etcd at {}: API {}", self.member(), self.choice())
    }

    /// The API and why it is that one, once etcd has answered.
    pub(crate) fn choice(&self) -> String {
        match (self.wanted, self.found()) {
            (Some(api), _) => format!("{api}, as --etcd-api says"),
            (None, Some(Api::V2)) => "v2, which is offered there".to_owned(),
            (None, _) => "v3, because v2 is off there".to_owned(),
        }
    }

    /// Lists what is directly below `directory`, as a quorum says: a member that was cut
    /// off must not replace what is known with what it remembers.
    pub(crate) fn list(&self, directory: &str) -> Result<Listing, Error> {
        self.ask(LIST, REQUEST_DEADLINE, |api, attempt| match api {
            Api::V2 => v2::list(attempt, directory, false),
            Api::V3 => self.session.list(attempt, directory, false),
        })
    }

    /// Lists everything below `directory`; of v3 without how long it will live.
    pub(crate) fn list_tree(&self, directory: &str) -> Result<Listing, Error> {
        self.ask(LIST, REQUEST_DEADLINE, |api, attempt| match api {
            Api::V2 => v2::list(attempt, directory, true),
            Api::V3 => self.session.list(attempt, directory, true),
        })
    }

    /// Lists everything below `directory` and how long it will live, within `patience`.
    pub(crate) fn list_lifetimes(
        &self,
        directory: &str,
        patience: Duration,
    ) -> Result<Listing, Error> {
        self.ask(LIST, patience.min(REQUEST_DEADLINE), |api, attempt| match api {
            Api::V2 => v2::list(attempt, directory, true),
            Api::V3 => self.session.list_lifetimes(attempt, directory),
        })
    }

    /// Waits until something changed below `directory` after it was `listed`, or for
    /// `patience`. Silence is no error; neither says what changed.
    pub(crate) fn wait(
        &self,
        directory: &str,
        listed: &Position,
        patience: Duration,
    ) -> Result<(), Error> {
        let waited = self.transport.ask_once(patience, |attempt| match self.api(attempt)? {
            Api::V2 => v2::wait(attempt, directory, listed),
            Api::V3 => self.session.wait(attempt, directory, listed),
        });
        // Who says nothing is no sign of life, though no failure either.
        self.requests.count(POLL, waited.as_ref().err().is_none_or(Error::is_answer));
        waited
    }

    /// Stores `value` under `key` for `ttl_s` seconds, whatever is there.
    pub(crate) fn put(&self, key: &str, value: &str, ttl_s: u64) -> Result<(), Error> {
        self.ask(PUT, REQUEST_DEADLINE, |api, attempt| match api {
            Api::V2 => v2::put(attempt, key, value, ttl_s),
            Api::V3 => self.session.put(attempt, key, value, ttl_s),
        })
    }

    /// Lets every key of `entries` live for another `ttl_s` seconds that still holds its
    /// value, and says of each what it holds. Wakes no watcher.
    pub(crate) fn refresh(
        &self,
        entries: &[(String, String)],
        ttl_s: u64,
    ) -> Result<Vec<Found>, Error> {
        self.ask(REFRESH, REQUEST_DEADLINE, |api, attempt| match api {
            Api::V2 => {
                entries.iter().map(|(key, value)| v2::refresh(attempt, key, value, ttl_s)).collect()
            }
            Api::V3 => self.session.refresh(attempt, entries, ttl_s),
        })
    }

    /// How many entries are refreshed with one request, as far as is known.
    pub(crate) fn refreshed_at_once(&self) -> usize {
        match self.used_api() {
            Some(Api::V3) => v3::REFRESHED_AT_ONCE,
            Some(Api::V2) | None => 1,
        }
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
        self.ask(REMOVE, patience, |api, attempt| match api {
            Api::V2 => v2::remove_if(attempt, key, value),
            Api::V3 => self.session.remove_if(attempt, key, value),
        })
    }

    fn ask<T>(
        &self,
        kind: &'static str,
        patience: Duration,
        ask: impl Fn(Api, Attempt<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let outcome = self.transport.ask(patience, |attempt| ask(self.api(attempt)?, attempt));
        self.requests.note(kind, outcome.as_ref().err().is_none_or(Error::is_answer));
        outcome
    }

    /// The API to use, which is asked for where nobody has said it; once, because something
    /// between here and etcd that answers as an etcd without v2 would do must not lead to
    /// another store.
    fn api(&self, attempt: Attempt<'_>) -> Result<Api, Error> {
        if let Some(api) = self.used_api() {
            return Ok(api);
        }
        let api = if v2::is_offered(attempt)? {
            Api::V2
        } else {
            self.session.find(attempt)?;
            Api::V3
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(api);
        Ok(api)
    }

    fn found(&self) -> Option<Api> {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
