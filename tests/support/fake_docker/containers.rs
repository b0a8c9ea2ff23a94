//! What the fake engine runs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::container::{Binding, Container};
use super::events;
use super::version::Version;

/// Every container of the engine. What changes them returns the events it causes.
#[derive(Default)]
pub(super) struct Containers {
    pub(super) version: Version,
    /// By id.
    all: BTreeMap<String, Container>,
    /// By name.
    ids: BTreeMap<String, String>,
    /// Ids in the order in which the containers were created.
    created: BTreeMap<u32, String>,
    next: u32,
}

impl Containers {
    pub(super) fn named(&mut self, name: &str) -> &mut Container {
        let id = self.ids.get(name).unwrap_or_else(|| panic!("no container {name}"));
        self.all.get_mut(id).unwrap()
    }

    /// As Docker finds it: by name, by id, or by a unique prefix of the id.
    pub(super) fn inspect(&self, name: &str) -> Option<Value> {
        let by_name = self.ids.get(name).map(|id| &self.all[id]);
        let from_there = self.all.range(name.to_owned()..).map(|(_, container)| container);
        let mut by_id = from_there.take_while(|container| container.id.starts_with(name));
        let found = by_name.or_else(|| by_id.next().filter(|_| by_id.next().is_none()))?;
        Some(found.inspected(self.version))
    }

    /// The newest first; `filters` as the query has them, `{"name":["^/redis$"]}`.
    pub(super) fn list(&self, all: bool, filters: &Value) -> Value {
        let has = |filter: &str, matches: &dyn Fn(&str) -> bool| {
            let wanted = events::filter_values(filters, filter);
            wanted.is_empty() || wanted.iter().any(|value| matches(value))
        };
        let all = all || !events::filter_values(filters, "status").is_empty();
        let newest_first = self.created.values().rev().map(|id| &self.all[id]);
        let wanted = newest_first.filter(|container| {
            let name = format!("/{}", container.name);
            let status = container.status();
            let is_up = match self.version {
                Version::Podman => status == "running",
                Version::V20 | Version::V28 | Version::V29 => container.running,
            };
            (all || is_up)
                && has("status", &|wanted| wanted == status)
                && has("id", &|wanted| container.id.starts_with(wanted))
                && has("name", &|pattern| matches_pattern(&name, pattern))
                && events::has_labels(&json!(container.labels), filters)
        });
        wanted.map(|container| container.listed(self.version)).collect()
    }

    /// How many there are, and how many of them run and are paused.
    pub(super) fn counts(&self) -> [usize; 3] {
        let count = |status| self.all.values().filter(|one| one.status() == status).count();
        [self.all.len(), count("running"), count("paused")]
    }

    pub(super) fn run(&mut self, mut container: Container) -> Vec<Value> {
        let (name, id) = (container.name.clone(), container.id.clone());
        let number = self.next;
        self.next += 1;
        if container.network_mode.is_none() {
            // Addresses 1 and 0 of a network are taken.
            let ip = format!("172.17.{}.{}", number / 250, number % 250 + 2);
            container.networks.insert(self.version.default_network().to_owned(), ip);
        }
        assert!(self.ids.insert(name.clone(), id.clone()).is_none(), "{name} exists already");
        container.number = number;
        self.created.insert(number, id.clone());
        self.all.insert(id, container);
        let create = self.event(&name, "create", &[]);
        let start = self.start(&name, None);
        [vec![create], start].concat()
    }

    pub(super) fn start(&mut self, name: &str, published: Option<(u16, &[Binding])>) -> Vec<Value> {
        let container = self.named(name);
        container.start();
        if let Some((port, bindings)) = published {
            container.ports.insert(format!("{port}/tcp"), Some(bindings.to_vec()));
        }
        let mut events = self.network_events(name, "connect");
        events.push(self.event(name, "start", &[]));
        events
    }

    pub(super) fn stop(&mut self, name: &str) -> Vec<Value> {
        let signal = match self.named(name).stop_signal.as_deref() {
            None => "15",
            Some("SIGINT") => "2",
            Some("SIGQUIT") => "3",
            Some(other) => panic!("the number of {other} is not known here"),
        };
        let kill = self.signal(name, Some(signal));
        let die = self.exit(name, 0);
        let stop = vec![self.event(name, "stop", &[])];
        match self.version {
            Version::V20 => [kill, die, stop].concat(),
            Version::V28 | Version::V29 => [kill, stop, die].concat(),
            // Its signal is no event there.
            Version::Podman => [stop, die].concat(),
        }
    }

    /// What follows the events of stop and start.
    pub(super) fn restarted(&self, name: &str) -> Value {
        self.event(name, "restart", &[])
    }

    pub(super) fn signal(&mut self, name: &str, signal: Option<&str>) -> Vec<Value> {
        let signal = signal.filter(|_| self.version != Version::Podman);
        let attributes = signal.map(|signal| ("signal", signal));
        vec![self.event(name, "kill", attributes.as_slice())]
    }

    pub(super) fn exit(&mut self, name: &str, code: u8) -> Vec<Value> {
        let left = self.network_events(name, "disconnect");
        self.named(name).end(code);
        let code = code.to_string();
        let exit_code = ("exitCode", &code[..]);
        let die = match self.version {
            Version::V20 => self.event(name, "die", &[exit_code]),
            Version::V28 | Version::V29 => {
                self.event(name, "die", &[("execDuration", "1"), exit_code])
            }
            Version::Podman => self.event(name, "died", &[("containerExitCode", &code)]),
        };
        [vec![die], left].concat()
    }

    pub(super) fn kill(&mut self, name: &str) -> Vec<Value> {
        let kill = self.signal(name, Some("9"));
        let die = self.exit(name, 137);
        [kill, die].concat()
    }

    pub(super) fn pause(&mut self, name: &str) -> Vec<Value> {
        self.named(name).pause();
        vec![self.event(name, "pause", &[])]
    }

    pub(super) fn unpause(&mut self, name: &str) -> Vec<Value> {
        self.named(name).paused = false;
        vec![self.event(name, "unpause", &[])]
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> Vec<Value> {
        self.named(from).name = to.to_owned();
        let id = self.ids.remove(from).unwrap();
        self.ids.insert(to.to_owned(), id);
        vec![self.event(to, "rename", &[("oldName", &format!("/{from}"))])]
    }

    pub(super) fn remove(&mut self, name: &str) -> Vec<Value> {
        let (end, action) = match (self.named(name).running, self.version) {
            (true, Version::Podman) => (self.exit(name, 137), "remove"),
            (false, Version::Podman) => (Vec::new(), "remove"),
            (true, _) => (self.kill(name), "destroy"),
            (false, _) => (Vec::new(), "destroy"),
        };
        let destroy = vec![self.event(name, action, &[])];
        let id = self.ids.remove(name).unwrap();
        let removed = self.all.remove(&id).unwrap();
        self.created.remove(&removed.number);
        [end, destroy].concat()
    }

    /// No event tells of what has not changed, nor that a health is `starting`.
    pub(super) fn set_health(&mut self, name: &str, health: &str) -> Vec<Value> {
        let version = self.version;
        let container = self.named(name);
        assert!(container.has_healthcheck, "{name} has no health check");
        assert!(container.running && !container.paused, "nobody checks {name} now");
        let before = container.health.replace(health.to_owned());
        container.failing_streak = u32::from(health == "unhealthy");
        if health == "starting" || before.as_deref() == Some(health) {
            return Vec::new();
        }
        vec![events::of_health(container, version, health)]
    }

    pub(super) fn connect(&mut self, name: &str, network: &str, ip: &str) -> Vec<Value> {
        let version = self.version;
        let container = self.named(name);
        let before = container.networks.insert(network.to_owned(), ip.to_owned());
        assert_eq!(before, None, "{name} is in {network} already");
        let told = container.running.then_some("connect");
        told.map(|action| events::of_network(container, version, action, network))
            .into_iter()
            .collect()
    }

    pub(super) fn disconnect(&mut self, name: &str, network: &str) -> Vec<Value> {
        let version = self.version;
        let container = self.named(name);
        assert!(container.networks.remove(network).is_some(), "{name} is not in {network}");
        vec![events::of_network(container, version, "disconnect", network)]
    }

    /// One for each network that the container enters or leaves.
    fn network_events(&self, name: &str, action: &str) -> Vec<Value> {
        let container = &self.all[&self.ids[name]];
        let networks = container.networks.keys();
        networks
            .map(|network| events::of_network(container, self.version, action, network))
            .collect()
    }

    fn event(&self, name: &str, action: &str, more: &[(&str, &str)]) -> Value {
        events::of_container(&self.all[&self.ids[name]], self.version, action, more)
    }
}

/// The part of Docker's regular expressions that a name filter needs: anchors and escapes.
fn matches_pattern(name: &str, pattern: &str) -> bool {
    let literal = pattern.trim_start_matches('^').trim_end_matches('$').replace('\\', "");
    match (pattern.starts_with('^'), pattern.ends_with('$')) {
        (true, true) => name == literal,
        (true, false) => name.starts_with(&literal),
        (false, true) => name.ends_with(&literal),
        (false, false) => name.contains(&literal),
    }
}
