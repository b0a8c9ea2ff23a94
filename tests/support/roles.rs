//! Both roles that talk to etcd, with the same options for it.

use std::net::SocketAddr;
use std::time::Duration;

use super::ambassador::{Ambassador, Launch, ambassador};
use super::client::{Ending, ending_of_new, read_all};
use super::etcd::Client;
use super::upstream::Upstream;
use super::{eventually, proceed_after};

/// What the proxy follows, and what the registrar writes.
pub(crate) const FOLLOWED: &str = "/services/redis-A/one";
pub(crate) const WRITTEN: &str = "/services/db/10.0.0.7:5432";
const VALUE: &str = r#"{ "port": 5432, "host": "10.0.0.7" }"#;

/// A proxy and a registrar of one etcd.
pub(crate) struct Roles {
    pub(crate) proxy: Ambassador,
    pub(crate) registrar: Ambassador,
    front: SocketAddr,
}

/// `proxy --etcd ETCD OPTIONS... redis-A 127.0.0.1:0`, which holds no client.
pub(crate) fn proxy(etcd: &str, options: &[&str]) -> Launch {
    let words = ["proxy", "--wait", "0", "--etcd", etcd];
    ambassador(words.iter().chain(options).chain(&["redis-A", "127.0.0.1:0"]))
}

/// `register --etcd ETCD OPTIONS... --address 10.0.0.7:5432 db`.
pub(crate) fn register(etcd: &str, options: &[&str]) -> Launch {
    let words = ["register", "--ttl", "6s", "--etcd", etcd];
    ambassador(words.iter().chain(options).chain(&["--address", "10.0.0.7:5432", "db"]))
}

impl Roles {
    pub(crate) fn start(etcd: &str, options: &[&str]) -> Roles {
        Roles::start_with(etcd, options, &[])
    }

    /// With these variables too.
    pub(crate) fn start_with(etcd: &str, options: &[&str], env: &[(&str, &str)]) -> Roles {
        let set = |launch: Launch, (name, value): &(&str, &str)| launch.env(name, *value);
        let start = |launch| env.iter().fold(launch, set).start();
        let (proxy, registrar) = (start(proxy(etcd, options)), start(register(etcd, options)));
        let front = proxy.address();
        Roles { proxy, registrar, front }
    }

    pub(crate) fn both(&self) -> [&Ambassador; 2] {
        [&self.proxy, &self.registrar]
    }

    /// Registers two upstreams in `etcd`, one after the other, which the proxy follows,
    /// and waits for what the registrar writes.
    #[track_caller]
    pub(crate) fn wait_until_both_work(&self, etcd: &Client) {
        for greeting in ["one", "another"] {
            let upstream = Upstream::greeter(greeting);
            etcd.put(FOLLOWED, &upstream.registration());
            eventually(&format!("the greeting {greeting:?}"), || {
                read_all(self.front).is_ok_and(|heard| heard == greeting)
            });
        }
        etcd.wait_for_value(WRITTEN, VALUE);
    }

    /// The proxy follows what changes from now on.
    #[track_caller]
    pub(crate) fn follow(&self, etcd: &Client, upstream: &Upstream, greeting: &str) {
        etcd.put(FOLLOWED, &upstream.registration());
        eventually(&format!("the greeting {greeting:?}"), || {
            read_all(self.front).is_ok_and(|heard| heard == greeting)
        });
    }

    /// What the front says now.
    pub(crate) fn greeting(&self) -> Option<String> {
        read_all(self.front).ok()
    }

    /// Each warns once, in a line with `member` and one of `reasons`, and goes on trying
    /// without having done anything.
    #[track_caller]
    pub(crate) fn assert_neither_works(&mut self, etcd: &Client, member: &str, reasons: &[&str]) {
        for ambassador in self.both() {
            ambassador.wait_for_warning(&[member]);
        }
        // Time for more attempts, of which nothing more is said.
        proceed_after(Duration::from_millis(2500));
        for ambassador in self.both() {
            let warnings = ambassador.warnings(&[member]);
            assert_eq!(warnings.len(), 1, "{warnings:#?}");
            let warning = warnings[0].to_lowercase();
            let is_said = reasons.iter().any(|reason| warning.contains(reason));
            assert!(is_said, "none of {reasons:?} in {warning}");
        }
        assert_eq!(ending_of_new(self.front), Ending::Reset);
        assert_eq!(etcd.get(WRITTEN), None);
        assert!(self.proxy.is_running() && self.registrar.is_running());
    }
}
