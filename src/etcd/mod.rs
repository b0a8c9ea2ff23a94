//! etcd as a store of keys and strings. Knows nothing of services.

mod about;
mod access;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod members;
mod store;
mod transport;
mod v2;
mod v3;

use std::{error, fmt, time::Duration};

pub(crate) use about::{About, Reading};
pub(crate) use access::{Access, Identity, Login, Password};
pub(crate) use members::{Member, default_members};
pub(crate) use store::{Api, Store};
pub(crate) use transport::REQUEST_DEADLINE;

use crate::report;

/// What one listing of a directory gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The entries, sorted by key. A missing and an empty directory are the same.
    pub(crate) entries: Vec<Entry>,
    /// When it was made.
    pub(crate) position: Position,
}

/// A moment in etcd's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// The cluster that answered, as it names itself.
    pub(crate) cluster: String,
    /// Its event counter.
    pub(crate) index: u64,
}

impl Position {
    /// Whether `later` can come after this in one history. A store that was wiped or
    /// restored counts from lower again; a member that was cut off may be behind.
    pub(crate) fn leads_to(&self, later: &Position) -> bool {
        self.cluster == later.cluster && self.index <= later.index
    }
}

/// One key below a listed directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The whole key, from the root.
    pub(crate) key: String,
    /// `None` is a directory.
    pub(crate) value: Option<String>,
    /// Seconds until it expires. Below zero while etcd has no quorum to expire it.
    pub(crate) ttl_s: Option<i64>,
    /// Whole seconds since it was written or refreshed, where that was asked for; v2 does not
    /// tell.
    pub(crate) refreshed_s: Option<i64>,
}

impl Entry {
    /// The last part of the key.
    pub(crate) fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }
}

/// What was found under a key that was to be refreshed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The value it was to hold; it lives on.
    Ours,
    Nothing,
    /// Somebody else's value, which was left alone.
    Foreign(String),
}

/// Why a call to etcd gave no usable answer.
///
/// A variant exists only where some caller acts differently on it.
#[derive(Debug)]
pub(crate) enum Error {
    /// No connection, or one that ended before the answer did.
    Unreachable { member: Member, source: Box<dyn error::Error + Send + Sync> },
    /// A connection, but no whole answer in time.
    Silent { member: Member, waited: Duration },
    /// An answer, but none of a working etcd.
    Unusable { member: Member, problem: String },
    /// An answer that whoever asks may not have what was asked for.
    Denied { member: Member, denial: Denial, problem: String },
    /// What shows who we are cannot be read any more.
    NoAccess { problem: access::Unusable },
    /// The API that was asked is not offered.
    ApiIsOff { member: Member, api: &'static str },
    /// Nothing is stored under `key` (v2: error 100).
    NoSuchKey { key: String },
    /// `key` holds another value than the one expected (v2: error 101).
    CompareFailed { key: String },
    /// The events a poll asked for are no longer kept, so the directory must be listed
    /// again (v2: error 401, v3: compacted).
    IndexCleared,
    /// The member that was to be polled does not know the events of the listing: a poll
    /// would stay silent until its counter has come so far, which may be for ever.
    Behind { member: Member },
}

impl Error {
    /// Whether a working etcd says so.
    fn is_answer(&self) -> bool {
        match self {
            Error::NoSuchKey { .. } | Error::CompareFailed { .. } | Error::IndexCleared => true,
            Error::Unreachable { .. }
            | Error::Silent { .. }
            | Error::Unusable { .. }
            | Error::Denied { .. }
            | Error::NoAccess { .. }
            | Error::ApiIsOff { .. }
            | Error::Behind { .. } => false,
        }
    }
}

/// What is missing for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denial {
    /// A user: nobody was named.
    User,
    /// A user of that name with that password.
    Login,
    /// The right to the key.
    Right,
    /// A login or a right: v2 does not say which.
    LoginOrRight,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreachable { member, .. } => write!(f, "no answer from etcd at {member}"),
            Error::Unusable { member, problem } | Error::Denied { member, problem, .. } => {
                write!(f, "etcd at {member}: {problem}")
            }
            Error::Silent { member, waited } => {
                write!(f, "etcd at {member} gave no answer within {}", report::duration(*waited))
            }
            Error::NoAccess { problem } => problem.fmt(f),
            Error::ApiIsOff { member, api: "v2" } => write!(
                f,
                "etcd at {member}: its v2 API is off (etcd 3.4 and 3.5 need --enable-v2=true, 3.6 \
                 has none; --etcd-api=v3 uses the other one)"
            ),
            Error::ApiIsOff { member, api } => {
                write!(
                    f,
                    "etcd at {member}: its {api} API is off (--etcd-api=auto finds the one that is on)"
                )
            }
            Error::NoSuchKey { key } => write!(f, "no key {key} in etcd"),
            Error::CompareFailed { key } => write!(f, "{key} holds another value in etcd"),
            Error::IndexCleared => f.write_str("etcd no longer has the events asked for"),
            Error::Behind { member } => {
                write!(f, "etcd at {member} is behind what was listed, or is another store")
            }
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Unreachable { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
