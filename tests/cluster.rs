//! An etcd of three members loses some of them, or their links, and nobody notices.

mod leader;
mod quorum;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::ambassador::{Ambassador, Launch, ambassador};
use crate::support::client::read_all;
use crate::support::etcd::{Cluster, Pace};
use crate::support::upstream::Upstream;
use crate::support::visitors::Visitors;
use crate::support::{eventually, fresh_ip, proceed_after, within};

const SERVICE: &str = "redis-A";
const DIRECTORY: &str = "/services/redis-A";
const KEY: &str = "/services/redis-A/one";

/// A proxy of the service, and its address.
fn proxied<const N: usize>(etcd: &str, options: [&str; N]) -> (Ambassador, SocketAddr) {
    let words = ["proxy", "--etcd", etcd].into_iter().chain(options);
    let ambassador = ambassador(words.chain([SERVICE, "127.0.0.1:0"])).start();
    let address = ambassador.address();
    (ambassador, address)
}

/// `register --address ADDRESS OPTIONS... redis-A`.
fn register<const N: usize>(etcd: &str, address: SocketAddr, options: [&str; N]) -> Launch {
    let (ip, address) = (address.ip().to_string(), address.to_string());
    let words = ["register", "--etcd", etcd, "--host-ip", &ip, "--address", &address];
    ambassador(words.into_iter().chain(options).chain([SERVICE]))
}

/// The key under which [`register`] keeps `address`.
fn key(address: SocketAddr) -> String {
    format!("{DIRECTORY}/{address}")
}

fn wait_for_greeting(address: SocketAddr, greeting: &str) {
    eventually(&format!("the greeting {greeting:?}"), || read_all(address).unwrap() == greeting);
}

fn no_failures() -> Vec<String> {
    Vec::new()
}
