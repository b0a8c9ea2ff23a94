//! The link to etcd fails in every way a network, or what stands in it, can think of.

mod proxy;
mod register;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::ambassador::{Ambassador, Launch, ambassador};
use crate::support::client::read_all;
use crate::support::etcd::{self, Api, Etcd};
use crate::support::relay::{Link, Relay, Then, per_request};
use crate::support::upstream::Upstream;
use crate::support::{all_at_once, eventually, refusing_address, unique_prefix};

const SERVICE: &str = "redis-A";

/// One service in the shared etcd, which is reached through a relay.
struct Scene {
    etcd: &'static Etcd,
    relay: Relay,
    prefix: String,
}

impl Scene {
    fn new() -> Scene {
        let etcd = etcd::shared();
        Scene { etcd, relay: Relay::to(etcd.address()), prefix: unique_prefix() }
    }

    /// `ROLE --etcd ETCD OPTIONS...`
    fn launch<const N: usize>(&self, role: &str, etcd: &str, options: [&str; N]) -> Launch {
        let words = [role, "--etcd", etcd, "--prefix", &self.prefix];
        // A link that fails from the start could not be asked which one there is.
        ambassador(words.into_iter().chain(options))
            .env("AMBASSADOR_ETCD_API", Api::of_tests().name())
    }
}

/// What is wrong with a link that only fails, and never says that nothing is registered
/// in a way that may be believed. `elsewhere` must not be asked.
fn faults(elsewhere: SocketAddr) -> Vec<Link> {
    const HTML: &str = "<html><body><h1>502 Bad Gateway</h1></body></html>";
    let Dialect { head: etcd, empty, not_etcds, path, failure } = dialect();
    let answer = |status: &str, head: &str, body: &str, then: Then| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{head}Content-Length: {length}\r\n\r\n");
        Link::Answers(format!("{head}{body}"), then)
    };
    let whole = |status, head, body| answer(status, head, body, Then::Fin);
    let located = format!("Location: http://{elsewhere}{path}\r\n");
    let chunked = format!("HTTP/1.1 200 OK\r\n{etcd}Transfer-Encoding: chunked\r\n\r\n");
    let half = format!("{chunked}{:x}\r\n{}", empty.len(), &empty[..40]);
    let many = "x".repeat(1000);
    vec![
        whole("301 Moved Permanently", &located, ""),
        whole("307 Temporary Redirect", &located, ""),
        whole("502 Bad Gateway", "Content-Type: text/html\r\n", HTML),
        whole("200 OK", "Content-Type: text/html\r\n", HTML),
        // It would be an empty directory, if it came from etcd.
        whole("200 OK", "Content-Type: application/json\r\n", not_etcds),
        whole("200 OK", etcd, &empty[..40]),
        whole("200 OK", etcd, "{}"),
        whole("200 OK", etcd, "[]"),
        whole("404 Not Found", "", "404 page not found\n"),
        whole("404 Not Found", etcd, HTML),
        whole("500 Internal Server Error", etcd, failure),
        Link::Answers(half.clone(), Then::Fin),
        Link::Answers(half.clone(), Then::Reset),
        Link::Answers(half, Then::Silence),
        Link::Answers("not HTTP at all\r\n\r\n".to_owned(), Then::Fin),
        Link::Answers(String::new(), Then::Fin),
        Link::Answers(String::new(), Then::Reset),
        Link::Answers(String::new(), Then::Silence),
        Link::Answers(chunked, Then::Flood(format!("3e8\r\n{many}\r\n"))),
        Link::Answers(
            format!("HTTP/1.1 200 OK\r\n{etcd}"),
            Then::Flood(format!("X-Much: {many}\r\n")),
        ),
        // Longer than the 3 s that a request may take.
        Link::Delays(Duration::from_secs(4)),
    ]
}

/// How the API that the run is with says what a link may spoil.
struct Dialect {
    /// What its answers have in their heads.
    head: &'static str,
    /// Nothing is registered.
    empty: &'static str,
    /// The same, but for what shows that it comes from etcd.
    not_etcds: &'static str,
    /// Where a directory is asked for.
    path: &'static str,
    failure: &'static str,
}

fn dialect() -> Dialect {
    match etcd::only_v2() {
        true => Dialect {
            head: "Content-Type: application/json\r\nX-Etcd-Index: 1000000\r\n",
            empty: r#"{"action":"get","node":{"key":"/services/redis-A","dir":true}}"#,
            not_etcds: r#"{"action":"get","node":{"key":"/services/redis-A","dir":true}}"#,
            path: "/v2/keys/services/redis-A",
            failure: r#"{"errorCode":300,"message":"Raft Internal Error","index":0}"#,
        },
        false => Dialect {
            head: "Content-Type: application/json\r\n",
            empty: r#"{"header":{"cluster_id":"7","member_id":"7","revision":"9","raft_term":"2"}}"#,
            not_etcds: r#"{"count":"0"}"#,
            path: "/v3/kv/range",
            failure: r#"{"error":"etcdserver: request timed out","message":"etcdserver: request timed out","code":14}"#,
        },
    }
}

/// A server that a redirect names.
fn elsewhere() -> Upstream {
    Upstream::greeter("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

/// What is logged once when a member is out of reach, and once when that is over, after
/// the first `calm` lines.
#[track_caller]
fn assert_one_outage(ambassador: &Ambassador, calm: usize, link: &Link) {
    let lines = |words: [&str; 2]| -> Vec<String> {
        let log = ambassador.log().into_iter().skip(calm);
        log.filter(|line| words.iter().all(|word| line.contains(word))).collect()
    };
    // Lines come a moment after what they tell of.
    let ends = || lines(["INFO", "answers again"]);
    eventually(&format!("the end of {link:?}"), || !ends().is_empty());
    let warnings = lines(["WARN", "etcd"]);
    assert_eq!(warnings.len(), 1, "{link:?}: {warnings:#?}");
    assert_eq!(ends().len(), 1, "{link:?}: {:#?}", ambassador.log());
}
