//! `register --all` on an engine of its own: whatever happens to thirty containers, etcd
//! holds what the listing says.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::ambassador::ambassador;
use crate::support::engine;
use crate::support::engine_events::Events;
use crate::support::etcd::{self, Etcd};
use crate::support::own_engine::{OwnEngine, Recorder};
use crate::support::{unique_prefix, within};

const HOST_IP: &str = "10.9.8.7";

/// Thirty containers, three for each thing that may happen.
const EACH: usize = 3;
const GROUPS: [&str; 10] =
    ["stop", "kill", "pause", "restart", "rename", "sick", "recover", "remove", "again", "stay"];

/// A machine with two CPUs starts and checks thirty containers in some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

struct Host {
    engine: OwnEngine,
    etcd: &'static Etcd,
    prefix: String,
    name: String,
}

impl Host {
    fn start() -> Host {
        let engine = OwnEngine::start();
        let name = engine.docker(["info", "--format", "{{.Name}}"]);
        Host { engine, etcd: etcd::shared(), prefix: unique_prefix(), name }
    }

    fn run(&self, group: &str, number: usize) {
        let name = format!("{group}{number}");
        let service = format!("SERVICE_NAME={group}");
        let words = ["run", "-d", "--name", &name, "-p", "6379", "--label", &service];
        let check = ["--health-cmd", "test ! -s /sick", "--health-interval", "1s"];
        let bounds = ["--health-retries", "1", "--health-timeout", "15s"];
        let is_checked = group == "sick" || group == "recover";
        let health = if is_checked { [&check[..], &bounds].concat() } else { Vec::new() };
        let policy = match group {
            "stay" => ["--restart", "always"],
            _ => ["--restart", "no"],
        };
        let image = [engine::image()];
        self.engine.docker(words.iter().chain(&policy).chain(&health).chain(&image));
    }

    /// `docker VERB` of every container of `group`.
    fn each(&self, verb: &str, group: &str) {
        let names = (0..EACH).map(|number| format!("{group}{number}"));
        self.engine.docker(verb.split(' ').map(str::to_owned).chain(names));
    }

    fn set_health(&self, group: &str, is_healthy: bool) {
        let write = if is_healthy { ": >/sick" } else { "echo yes >/sick" };
        for number in 0..EACH {
            self.engine.docker(["exec", &format!("{group}{number}"), "/bin/sh", "-c", write]);
        }
    }

    /// What the engine's own words say should be registered: how `docker inspect` shows
    /// every container there is.
    fn expected(&self) -> BTreeMap<String, String> {
        let ids = self.engine.docker(["ps", "-aq"]);
        if ids.is_empty() {
            return BTreeMap::new();
        }
        let inspected = self.engine.docker(["inspect"].into_iter().chain(ids.lines()));
        let containers: Vec<Value> = serde_json::from_str(&inspected).unwrap();
        let is_usable = |container: &&Value| {
            let state = &container["State"];
            let health = state["Health"]["Status"].as_str().unwrap_or("healthy");
            state["Status"] == "running" && health == "healthy"
        };
        let entry = |container: &Value| {
            let name = container["Name"].as_str().unwrap().trim_start_matches('/');
            let service = container["Config"]["Labels"]["SERVICE_NAME"].as_str().unwrap();
            let ports = &container["NetworkSettings"]["Ports"]["6379/tcp"];
            // Docker 20.10 gives IPv6 a port of its own; the host's address is IPv4.
            let mut bindings = ports.as_array().unwrap().iter();
            let binding = bindings.find(|binding| binding["HostIp"] == "0.0.0.0").unwrap();
            let port = binding["HostPort"].as_str().unwrap();
            let key = format!("{}/{service}/{}:{name}:6379", self.prefix, self.name);
            (key, format!("{HOST_IP}:{port}"))
        };
        containers.iter().filter(is_usable).map(entry).collect()
    }

    /// Waits until etcd holds what the listing says, and `count` entries.
    #[track_caller]
    fn wait_for(&self, count: usize, after: &str) {
        let mut seen = (BTreeMap::new(), BTreeMap::new());
        let is_so = || {
            let expected = self.expected();
            seen = (expected, self.etcd.tree(&self.prefix));
            seen.0 == seen.1 && seen.0.len() == count
        };
        within(PATIENCE, &format!("{count} entries as listed after {after}"), is_so);
    }
}

#[test]
#[ignore = "needs a Docker engine"]
fn thirty_containers_are_followed_through_everything() {
    let mut host = Host::start();
    let recorder = Recorder::of(&host.engine.socket());
    let words = ["register", "--all", "--etcd", &host.etcd.url(), "--prefix", &host.prefix];
    let docker = format!("unix://{}", recorder.socket().display());
    let options = ["--docker", &docker, "--host-ip", HOST_IP, "--format", "registrator"];
    let ambassador = ambassador(words.into_iter().chain(options)).start();
    thread::scope(|scope| {
        for groups in GROUPS.chunks(GROUPS.len() / 2) {
            let host = &host;
            scope.spawn(move || {
                groups.iter().for_each(|group| (0..EACH).for_each(|n| host.run(group, n)));
            });
        }
    });
    let mut count = EACH * GROUPS.len();
    host.wait_for(count, "start");

    gone_within_200_ms_of_the_kill_event(&host);
    count -= EACH;
    host.wait_for(count, "stop");
    for (verb, group, change) in [
        ("kill", "kill", -1),
        ("pause", "pause", -1),
        ("restart", "restart", 0),
        ("rm -f", "remove", -1),
        ("stop", "again", -1),
        ("start", "again", 1),
    ] {
        host.each(verb, group);
        count = count.checked_add_signed(change * EACH as isize).unwrap();
        host.wait_for(count, verb);
    }
    for number in 0..EACH {
        host.engine.docker(["rename", &format!("rename{number}"), &format!("other{number}")]);
    }
    host.wait_for(count, "rename");
    host.set_health("sick", false);
    host.set_health("recover", false);
    host.wait_for(count - 2 * EACH, "unhealthy");
    host.set_health("recover", true);
    host.wait_for(count - EACH, "health recovered");
    host.each("unpause", "pause");
    host.wait_for(count, "unpause");

    // Only those with a restart policy come back.
    host.engine.stop();
    within(PATIENCE, "nothing while the daemon is stopped", || {
        host.etcd.tree(&host.prefix).is_empty()
    });
    host.engine.start_again();
    host.wait_for(EACH, "daemon restart");

    assert_eq!(ambassador.terminate().code, Some(0));
    assert_eq!(host.etcd.tree(&host.prefix), BTreeMap::new());
    let requests = recorder.requests();
    assert!(requests.len() > 100, "{requests:#?}");
    let others: Vec<_> = requests.iter().filter(|line| !line.starts_with("GET ")).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// Stops the first group. The machine may be busy: the best of it must do.
fn gone_within_200_ms_of_the_kill_event(host: &Host) {
    let events = Events::follow(host.engine.socket().to_str().unwrap());
    let watch = host.etcd.watch(&host.prefix);
    let took = (0..EACH).map(|number| {
        let name = format!("stop{number}");
        let id = host.engine.docker(["inspect", "--format", "{{.Id}}", &name]);
        host.engine.docker(["stop", &name]);
        let killed = events.wait_for(&id, "kill");
        let key = format!("{}/stop/{}:{name}:6379", host.prefix, host.name);
        watch.wait_for(&["delete", "compareAndDelete"], &key).saturating_duration_since(killed)
    });
    let best = took.min().unwrap();
    assert!(best < Duration::from_millis(200), "{best:?}");
}
