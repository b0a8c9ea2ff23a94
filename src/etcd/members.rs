//! Which etcd servers there are, and which one is asked next.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::address::HostPort;

/// The port etcd listens on for clients.
const DEFAULT_PORT: &str = "2379";

/// One etcd server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    address: HostPort,
    /// Whether its URL says https.
    pub(crate) is_tls: bool,
}

impl FromStr for Member {
    type Err = String;

    /// `http://HOST[:PORT]` or https; without a scheme it is http, as etcdctl takes it.
    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected http://HOST:PORT or https://HOST:PORT";
        let (is_tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => {
                return Err(format!("unknown scheme {scheme}://, {EXPECTED}"));
            }
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err("a user in the URL is not taken; --etcd-user names it".to_owned());
        }
        if authority.contains('/') {
            return Err(format!("a path is not allowed, {EXPECTED}"));
        }
        let has_port = match authority.strip_prefix('[') {
            Some(v6) => v6.contains("]:"),
            None => authority.contains(':'),
        };
        let address = if has_port {
            authority.parse()
        } else {
            format!("{authority}:{DEFAULT_PORT}").parse()
        };
        let member = |address| Member { address, is_tls };
        address.map(member).map_err(|invalid| format!("{invalid} ({EXPECTED})"))
    }
}

impl From<HostPort> for Member {
    fn from(address: HostPort) -> Self {
        Member { address, is_tls: false }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

/// etcd on this very host, when nothing else is said.
pub(crate) fn default_members() -> Vec<Member> {
    vec![format!("127.0.0.1:{DEFAULT_PORT}").parse().expect("a valid address")]
}

/// The servers in the order they are tried, beginning with the one that
/// answered last.
#[derive(Debug)]
pub(super) struct Members {
    all: Vec<Member>,
    current: AtomicUsize,
}

impl Members {
    /// `all` must not be empty.
    pub(super) fn new(all: Vec<Member>) -> Self {
        assert!(!all.is_empty(), "a store without members");
        Members { all, current: AtomicUsize::new(0) }
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn current(&self) -> &Member {
        &self.all[self.current.load(Ordering::Relaxed) % self.all.len()]
    }

    /// Moves on from `failed`, unless another thread already did.
    pub(super) fn rotate(&self, failed: &Member) {
        let current = self.current.load(Ordering::Relaxed);
        if self.all[current % self.all.len()] == *failed {
            let next = (current + 1) % self.all.len();
            let _ =
                self.current.compare_exchange(current, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_an_http_url_whose_scheme_and_port_may_be_left_out() {
        for (text, url) in [
            ("http://127.0.0.1:4001", "http://127.0.0.1:4001"),
            ("http://127.0.0.1:4001/", "http://127.0.0.1:4001"),
            ("10.0.0.1", "http://10.0.0.1:2379"),
            ("etcd.local:4001", "http://etcd.local:4001"),
            ("https://10.0.0.1", "https://10.0.0.1:2379"),
            ("[fd00::1]", "http://[fd00::1]:2379"),
            ("http://[fd00::1]:4001", "http://[fd00::1]:4001"),
        ] {
            assert_eq!(text.parse::<Member>().unwrap().to_string(), url, "{text}");
        }
    }

    #[test]
    fn a_mistyped_member_is_refused() {
        for text in [
            "",
            "http:/127.0.0.1:2379",
            "htp://a:1",
            "http://",
            "a:0",
            "a:70000",
            "a:1/v2",
            "u@a:1",
            "https://",
            "fd00::1",
            "http://a b:1",
            ":2379",
        ] {
            assert!(text.parse::<Member>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn rotation_leaves_only_the_member_that_failed() {
        let members = Members::new(vec!["a:1".parse().unwrap(), "b:1".parse().unwrap()]);
        let first = members.current().clone();
        members.rotate(&first);
        assert_eq!(members.current().to_string(), "http://b:1");
        members.rotate(&first); // A second thread that failed at the same member.
        assert_eq!(members.current().to_string(), "http://b:1");
    }
}
