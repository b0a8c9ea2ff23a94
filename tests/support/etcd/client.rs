//! What tests ask of etcd, whichever of its APIs they run with.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use super::watch::{Poll, Watch};
use super::{v2, v3};
use crate::support::http::{self, Answer};
use crate::support::{DEADLINE, eventually};

/// The two stores of an etcd do not see each other: all sides of a test use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    V2,
    /// Through the JSON gateway.
    V3,
}

impl Api {
    /// The one that `TEST_ETCD_API` says, for tests that are about either.
    pub(crate) fn of_tests() -> Api {
        match env::var("TEST_ETCD_API").as_deref() {
            Ok("v3") => Api::V3,
            Ok("v2" | "") | Err(env::VarError::NotPresent) => Api::V2,
            other => panic!("TEST_ETCD_API is {other:?} instead of v2 or v3"),
        }
    }

    /// As `--etcd-api` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Api::V2 => "v2",
            Api::V3 => "v3",
        }
    }

    pub(super) fn words(self) -> &'static dyn Words {
        match self {
            Api::V2 => &v2::V2,
            Api::V3 => &v3::V3,
        }
    }
}

/// Whether this run has the v2 API, for a test of something that v3 has not, or has in
/// another way. Such a test ends at once, as if it had passed, in a run with v3.
pub(crate) fn only_v2() -> bool {
    Api::of_tests() == Api::V2
}

/// How a key that expired is told of: v3 does not tell it from one that was deleted.
pub(crate) fn expiries() -> &'static [&'static str] {
    match Api::of_tests() {
        Api::V2 => &["expire"],
        Api::V3 => &["delete"],
    }
}

/// Whether `request` waits for a change, in either API.
pub(crate) fn is_poll(request: &str) -> bool {
    request.contains("wait=true") || request.starts_with("POST /v3/watch")
}

/// The key that `request` is about, if it is about one.
pub(crate) fn requested_key(request: &str) -> Option<String> {
    v2::requested_key(request).or_else(|| v3::requested_key(request))
}

/// The requests of one API.
pub(super) trait Words {
    fn put(&self, client: &Client, key: &str, value: &str, ttl_s: Option<u32>);
    fn try_put(
        &self,
        client: &Client,
        patience: Duration,
        key: &str,
        value: &str,
    ) -> io::Result<()>;
    fn refresh(&self, client: &Client, key: &str, ttl_s: u32);
    fn delete(&self, client: &Client, key: &str);
    fn get(&self, client: &Client, key: &str) -> Option<String>;
    fn ttl_s(&self, client: &Client, key: &str) -> Option<i64>;
    fn life(&self, client: &Client, key: &str) -> Option<Life>;
    fn list(&self, client: &Client, patience: Duration, dir: &str) -> io::Result<Vec<String>>;
    /// Everything below `dir`, at any depth.
    fn tree(&self, client: &Client, dir: &str) -> BTreeMap<String, String>;
    /// Where the history of a quorum is now.
    fn position(&self, client: &Client, patience: Duration) -> io::Result<u64>;
    /// Waits on `stream` for changes below `dir` at `next` or later.
    fn poll(&self, client: &Client, stream: TcpStream, dir: &str, next: u64) -> io::Result<Poll>;
    /// The name and the id, in hex digits, of each member.
    fn members(&self, client: &Client) -> Vec<(String, String)>;
    fn is_leader(&self, client: &Client, patience: Duration) -> io::Result<bool>;
    /// What an `Authorization` header has to hold.
    fn authorization(&self, client: &Client, user: &User, patience: Duration)
    -> io::Result<String>;
}

/// Who asks, where etcd wants to know.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// How one etcd is asked.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(super) address: SocketAddr,
    pub(super) api: Api,
    pub(super) user: Option<User>,
}

impl Client {
    /// Of an etcd that lets everybody do everything.
    pub(crate) fn of(address: SocketAddr) -> Client {
        Client { address, api: Api::of_tests(), user: None }
    }

    /// Asks the same server in another API.
    pub(crate) fn in_api(&self, api: Api) -> Client {
        Client { api, ..self.clone() }
    }

    /// Asks the same server as somebody else, or as nobody.
    pub(crate) fn of_user(self, user: Option<User>) -> Client {
        Client { user, ..self }
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.api.words().put(self, key, value, None);
    }

    /// The same, if it answers within `patience`; without a leader it takes 7 s to refuse.
    pub(super) fn put_within(&self, patience: Duration, key: &str, value: &str) -> bool {
        self.api.words().try_put(self, patience, key, value).is_ok()
    }

    pub(crate) fn put_with_ttl(&self, key: &str, value: &str, ttl_s: u32) {
        self.api.words().put(self, key, value, Some(ttl_s));
    }

    /// As a registrar does it: nobody who watches hears of it.
    pub(crate) fn refresh(&self, key: &str, ttl_s: u32) {
        self.api.words().refresh(self, key, ttl_s);
    }

    /// Deletes a key, or everything below a directory. There must be something.
    pub(crate) fn delete(&self, key: &str) {
        self.api.words().delete(self, key);
    }

    /// The value stored under `key`, if there is one.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.api.words().get(self, key)
    }

    /// What is left of the time to live of `key`, in seconds.
    pub(crate) fn ttl_s(&self, key: &str) -> Option<i64> {
        self.api.words().ttl_s(self, key)
    }

    /// What tells a write or a refresh of `key` from the one before.
    pub(crate) fn life(&self, key: &str) -> Option<Life> {
        self.api.words().life(self, key)
    }

    /// Waits until `key` has been written or refreshed `times` times.
    #[track_caller]
    pub(crate) fn wait_for_refreshes(&self, key: &str, times: usize) {
        let (mut last, mut seen) = (None::<Life>, 0);
        eventually(&format!("{times} refreshes of {key}"), || {
            if let Some(now) = self.life(key) {
                last = match last.take() {
                    Some(before) if !now.is_another_than(&before) => Some(before.narrowed_by(now)),
                    before => {
                        seen += usize::from(before.is_some());
                        Some(now)
                    }
                };
            }
            // Refreshes are a second apart, and asking is work that those wait for.
            seen >= times || {
                thread::sleep(Duration::from_millis(50));
                false
            }
        });
    }

    /// The keys directly below `directory`.
    pub(crate) fn list(&self, directory: &str) -> Vec<String> {
        self.api.words().list(self, DEADLINE, directory).unwrap()
    }

    /// Every key below `directory`, at any depth, with its value.
    pub(crate) fn tree(&self, directory: &str) -> BTreeMap<String, String> {
        self.api.words().tree(self, directory)
    }

    /// The keys directly below `directory`, if etcd answers within `patience`, for which it needs a quorum.
    pub(crate) fn list_within(&self, patience: Duration, directory: &str) -> Option<Vec<String>> {
        self.api.words().list(self, patience, directory).ok()
    }

    pub(crate) fn wait_for_value(&self, key: &str, value: &str) {
        let mut last = None;
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            last = self.get(key);
            if last.as_deref() == Some(value) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{key} holds {last:?} instead of {value:?} after {DEADLINE:?}");
    }

    pub(crate) fn wait_for_absence(&self, key: &str) {
        eventually(&format!("{key} is gone"), || self.get(key).is_none());
    }

    /// Records every event below `directory` from now on.
    pub(crate) fn watch(&self, directory: &str) -> Watch {
        let next = self.position(DEADLINE).unwrap() + 1;
        Watch::start(self.clone(), directory.to_owned(), next)
    }

    /// Where the history of a quorum is now.
    pub(crate) fn position(&self, patience: Duration) -> io::Result<u64> {
        self.api.words().position(self, patience)
    }

    /// Waits for at most `patience` for changes below `directory` at `next` or later.
    pub(crate) fn poll(&self, patience: Duration, directory: &str, next: u64) -> io::Result<Poll> {
        self.api.words().poll(self, self.connect(patience)?, directory, next)
    }

    /// The name and the id, in hex digits, of each member of the cluster.
    pub(super) fn member_ids(&self) -> Vec<(String, String)> {
        self.api.words().members(self)
    }

    pub(super) fn is_leader(&self, patience: Duration) -> io::Result<bool> {
        self.api.words().is_leader(self, patience)
    }

    pub(super) fn connect(&self, patience: Duration) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(stream)
    }

    /// What an `Authorization` header has to hold, if there has to be one.
    pub(super) fn authorization(&self, patience: Duration) -> io::Result<Option<String>> {
        let authorize = |user| self.api.words().authorization(self, user, patience);
        self.user.as_ref().map(authorize).transpose()
    }

    /// Sends any request as this client's user.
    pub(crate) fn ask(&self, method: &str, target: &str, form: Option<&str>) -> Answer {
        self.ask_within(DEADLINE, method, target, form).unwrap()
    }

    pub(super) fn ask_within(
        &self,
        patience: Duration,
        method: &str,
        target: &str,
        form: Option<&str>,
    ) -> io::Result<Answer> {
        let authorization = self.authorization(patience)?;
        let stream = self.connect(patience)?;
        http::ask_as(authorization.as_deref(), stream, method, target, form)
    }
}

/// What changes with every write and every refresh of a key.
#[derive(Clone, Debug)]
pub(crate) enum Life {
    /// v2: etcd's index of the last of them.
    Index(u64),
    /// v3: a refresh prolongs the lease and leaves the key as it is.
    Leased {
        revision: u64,
        lease: String,
        /// When the lease ends, between these: etcd tells whole seconds only.
        ends: Option<Range<Instant>>,
    },
}

impl Life {
    /// Whether the key was written or refreshed after `before`.
    pub(crate) fn is_another_than(&self, before: &Life) -> bool {
        use Life::Leased;
        match (self, before) {
            (Life::Index(now), Life::Index(before)) => now != before,
            (
                Leased { revision, lease, ends },
                Leased { revision: revision_before, lease: lease_before, ends: ends_before },
            ) => {
                let is_longer = match (ends, ends_before) {
                    (Some(now), Some(before)) => now.start > before.end,
                    _ => false,
                };
                (revision, lease) != (revision_before, lease_before) || is_longer
            }
            _ => panic!("{self:?} and {before:?} are not of one API"),
        }
    }

    /// What both say of the same life.
    fn narrowed_by(self, other: Life) -> Life {
        match (self, other) {
            (
                Life::Leased { revision, lease, ends: Some(one) },
                Life::Leased { ends: Some(other), .. },
            ) => {
                let ends = Some(one.start.max(other.start)..one.end.min(other.end));
                Life::Leased { revision, lease, ends }
            }
            (first, _) => first,
        }
    }
}
