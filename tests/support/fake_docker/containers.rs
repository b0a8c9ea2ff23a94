//! What the fake engine runs, and how it tells of it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::super::unique;

/// Whose habits the events follow.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Version {
    /// API 1.41: `die` comes before `stop`.
    #[default]
    V20,
    /// API 1.51: `stop` comes before `die`.
    V28,
    /// API 1.52: as 28, and events have no `status`, `id` and `from`.
    V29,
}

impl Version {
    pub(super) fn api(self) -> &'static str {
        match self {
            Version::V20 => "1.41",
            Version::V28 => "1.51",
            Version::V29 => "1.52",
        }
    }
}

/// An address of the host and the port it leads from; 0 while it has none yet.
pub(crate) type Binding = (&'static str, u16);

/// One container; built with what its `docker run` line would say.
#[derive(Clone)]
pub(crate) struct Container {
    name: String,
    id: String,
    stop_signal: Option<String>,
    stop_timeout_s: Option<u32>,
    pub(crate) running: bool,
    pub(crate) paused: bool,
    pub(crate) restarting: bool,
    started_at: String,
    /// `None`: exposed, but not published.
    ports: BTreeMap<String, Option<Vec<Binding>>>,
}

impl Container {
    pub(crate) fn named(name: &str) -> Container {
        Container {
            name: name.to_owned(),
            id: format!("{:08x}{}", 0xab00_0000 + unique(), "5e".repeat(28)),
            stop_signal: None,
            stop_timeout_s: None,
            running: false,
            paused: false,
            restarting: false,
            started_at: "0001-01-01T00:00:00Z".to_owned(),
            ports: BTreeMap::new(),
        }
    }

    pub(crate) fn publishes(mut self, port: u16, bindings: &[Binding]) -> Container {
        self.ports.insert(format!("{port}/tcp"), Some(bindings.to_vec()));
        self
    }

    pub(crate) fn publishes_udp(mut self, port: u16, bindings: &[Binding]) -> Container {
        self.ports.insert(format!("{port}/udp"), Some(bindings.to_vec()));
        self
    }

    pub(crate) fn exposes(mut self, port: u16) -> Container {
        self.ports.insert(format!("{port}/tcp"), None);
        self
    }

    pub(crate) fn stop_signal(mut self, signal: &str) -> Container {
        self.stop_signal = Some(signal.to_owned());
        self
    }

    pub(crate) fn stop_timeout_s(mut self, seconds: u32) -> Container {
        self.stop_timeout_s = Some(seconds);
        self
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    fn status(&self) -> &'static str {
        match self {
            Container { restarting: true, .. } => "restarting",
            Container { paused: true, .. } => "paused",
            Container { running: true, .. } => "running",
            _ => "exited",
        }
    }

    /// The answer to `/containers/NAME/json`.
    fn inspected(&self) -> Value {
        let mut ports = Map::new();
        // Only a running container has its ports bound.
        for (port, bindings) in self.ports.iter().filter(|_| self.running) {
            let bindings = bindings.as_ref().map(|bindings| {
                let bound = bindings.iter();
                let bound =
                    bound.map(|(ip, port)| json!({"HostIp": ip, "HostPort": host_port(*port)}));
                bound.collect::<Vec<_>>()
            });
            ports.insert(port.clone(), json!(bindings));
        }
        let mut config = json!({
            "Hostname": self.id[..12], "Domainname": "", "User": "", "AttachStdin": false,
            "Tty": false, "Env": ["SECRET=do-not-log"], "Cmd": ["--port", "6379"],
            "Image": "redis:local", "Volumes": null, "WorkingDir": "/data",
            "Entrypoint": ["/usr/bin/redis-server"], "OnBuild": null, "Labels": {},
        });
        if let Some(signal) = &self.stop_signal {
            config["StopSignal"] = json!(signal);
        }
        if let Some(seconds) = self.stop_timeout_s {
            config["StopTimeout"] = json!(seconds);
        }
        json!({
            "Id": self.id, "Created": "2026-11-22T19:59:59.827521342Z",
            "Path": "/usr/bin/redis-server", "Args": ["--port", "6379"],
            "State": {
                "Status": self.status(), "Running": self.running, "Paused": self.paused,
                "Restarting": self.restarting, "OOMKilled": false, "Dead": false,
                "Pid": if self.running { 11758 } else { 0 }, "ExitCode": 0, "Error": "",
                "StartedAt": self.started_at, "FinishedAt": "0001-01-01T00:00:00Z",
            },
            "Image": "sha256:b7ac3c01c9e26d285db73d5d8a062c3b0f66d16e3480226f56e48edbc3bab795",
            "Name": format!("/{}", self.name), "RestartCount": 0, "Driver": "overlay2",
            "Platform": "linux", "Mounts": [],
            "HostConfig": {
                "NetworkMode": "default", "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
                "PortBindings": {}, "Links": null,
            },
            "Config": config,
            "NetworkSettings": {
                "Bridge": "", "Ports": ports, "Gateway": "172.17.0.1", "IPAddress": "172.17.0.2",
                "Networks": {"bridge": {"IPAddress": "172.17.0.2", "Aliases": null}},
            },
        })
    }

    /// One element of the answer to `/containers/json`.
    fn listed(&self) -> Value {
        let mut ports = Vec::new();
        for (port, bindings) in self.ports.iter().filter(|_| self.running) {
            let (private, kind) = port.split_once('/').unwrap();
            let private: u16 = private.parse().unwrap();
            match bindings {
                None => ports.push(json!({"PrivatePort": private, "Type": kind})),
                Some(bindings) => ports.extend(bindings.iter().map(|(ip, public)| {
                    json!({"IP": ip, "PrivatePort": private, "PublicPort": public, "Type": kind})
                })),
            }
        }
        json!({
            "Id": self.id, "Names": [format!("/{}", self.name)], "Image": "redis:local",
            "ImageID": "sha256:b7ac3c01c9e26d285db73d5d8a062c3b0f66d16e3480226f56e48edbc3bab795",
            "Command": "/usr/bin/redis-server --port 6379", "Created": 1_795_368_453,
            "Ports": ports, "Labels": {}, "State": self.status(), "Status": "Up 28 seconds",
            "HostConfig": {"NetworkMode": "default"},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}}, "Mounts": [],
        })
    }
}

/// Every container of the engine. What changes them returns the events it causes.
#[derive(Default)]
pub(super) struct Containers {
    pub(super) version: Version,
    all: Vec<Container>,
}

impl Containers {
    pub(super) fn named(&mut self, name: &str) -> &mut Container {
        let found = self.all.iter_mut().find(|container| container.name == name);
        found.unwrap_or_else(|| panic!("no container {name}"))
    }

    /// As Docker finds it: by name, by id, or by a unique prefix of the id.
    pub(super) fn inspect(&self, name: &str) -> Option<Value> {
        let by_name = self.all.iter().find(|container| container.name == name);
        let mut by_id = self.all.iter().filter(|container| container.id.starts_with(name));
        let found = by_name.or_else(|| by_id.next().filter(|_| by_id.next().is_none()))?;
        Some(found.inspected())
    }

    /// `filters` as the query has them, `{"name":["^/redis$"]}`.
    pub(super) fn list(&self, all: bool, filters: &Value) -> Value {
        let has = |filter: &str, matches: &dyn Fn(&str) -> bool| {
            let wanted = filter_values(filters, filter);
            wanted.is_empty() || wanted.iter().any(|value| matches(value))
        };
        let wanted = self.all.iter().filter(|container| {
            let name = format!("/{}", container.name);
            let status = container.status();
            (all || container.running || !filter_values(filters, "status").is_empty())
                && has("status", &|wanted| wanted == status)
                && has("id", &|wanted| container.id.starts_with(wanted))
                && has("name", &|pattern| matches_pattern(&name, pattern))
        });
        wanted.map(Container::listed).collect()
    }

    pub(super) fn run(&mut self, container: Container) -> Vec<Value> {
        let name = container.name.clone();
        assert!(self.all.iter().all(|other| other.name != name), "{name} exists already");
        self.all.push(container);
        let create = self.event(&name, "create", &[]);
        let start = self.start(&name, None);
        [vec![create], start].concat()
    }

    pub(super) fn start(&mut self, name: &str, published: Option<(u16, &[Binding])>) -> Vec<Value> {
        self.revive(name, published);
        vec![self.event(name, "start", &[])]
    }

    pub(super) fn stop(&mut self, name: &str) -> Vec<Value> {
        let signal = match self.named(name).stop_signal.as_deref() {
            None => "15",
            Some("SIGINT") => "2",
            Some("SIGQUIT") => "3",
            Some(other) => panic!("the number of {other} is not known here"),
        };
        let kill = self.signal(name, Some(signal));
        let die = self.exit(name);
        let stop = vec![self.event(name, "stop", &[])];
        match self.version {
            Version::V20 => [kill, die, stop].concat(),
            Version::V28 | Version::V29 => [kill, stop, die].concat(),
        }
    }

    /// What follows the events of stop and start.
    pub(super) fn restarted(&self, name: &str) -> Value {
        self.event(name, "restart", &[])
    }

    pub(super) fn signal(&mut self, name: &str, signal: Option<&str>) -> Vec<Value> {
        let attributes = signal.map(|signal| ("signal", signal));
        vec![self.event(name, "kill", attributes.as_slice())]
    }

    pub(super) fn exit(&mut self, name: &str) -> Vec<Value> {
        self.end(name);
        let attributes: &[_] = match self.version {
            Version::V20 => &[("exitCode", "0")],
            Version::V28 | Version::V29 => &[("execDuration", "1"), ("exitCode", "0")],
        };
        vec![self.event(name, "die", attributes)]
    }

    pub(super) fn kill(&mut self, name: &str) -> Vec<Value> {
        let kill = self.signal(name, Some("9"));
        let die = self.exit(name);
        [kill, die].concat()
    }

    pub(super) fn pause(&mut self, name: &str) -> Vec<Value> {
        self.named(name).paused = true;
        vec![self.event(name, "pause", &[])]
    }

    pub(super) fn unpause(&mut self, name: &str) -> Vec<Value> {
        self.named(name).paused = false;
        vec![self.event(name, "unpause", &[])]
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> Vec<Value> {
        self.named(from).name = to.to_owned();
        vec![self.event(to, "rename", &[("oldName", &format!("/{from}"))])]
    }

    pub(super) fn remove(&mut self, name: &str) -> Vec<Value> {
        let kill = if self.named(name).running { self.kill(name) } else { Vec::new() };
        let destroy = vec![self.event(name, "destroy", &[])];
        self.all.retain(|container| container.name != name);
        [kill, destroy].concat()
    }

    fn revive(&mut self, name: &str, published: Option<(u16, &[Binding])>) {
        let (seconds, nanos) = now();
        let container = self.named(name);
        container.running = true;
        container.started_at = rfc3339(seconds, nanos);
        if let Some((port, bindings)) = published {
            container.ports.insert(format!("{port}/tcp"), Some(bindings.to_vec()));
        }
    }

    fn end(&mut self, name: &str) {
        let container = self.named(name);
        container.running = false;
        container.paused = false;
    }

    fn event(&self, name: &str, action: &str, more: &[(&str, &str)]) -> Value {
        let id = &self.all.iter().find(|container| container.name == name).unwrap().id;
        let mut attributes = json!({"image": "redis:local", "name": name});
        for (key, value) in more {
            attributes[key] = json!(value);
        }
        let (seconds, nanos) = now();
        let mut event = json!({
            "Type": "container", "Action": action,
            "Actor": {"ID": id, "Attributes": attributes},
            "scope": "local", "time": seconds, "timeNano": seconds * 1_000_000_000 + nanos,
        });
        if self.version != Version::V29 {
            event["status"] = json!(action);
            event["id"] = json!(id);
            event["from"] = json!("redis:local");
        }
        event
    }
}

/// A time as Docker writes it, by the same clock as its events.
fn rfc3339(seconds: u64, nanos: u64) -> String {
    let (mut days, mut year) = (seconds / 86_400, 1970);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 0;
    let february = 28 + u64::from(is_leap(year));
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        month += 1;
        if days < length {
            break;
        }
        days -= length;
    }
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z", days + 1)
}

/// Empty for a moment after a start.
fn host_port(port: u16) -> String {
    if port == 0 { String::new() } else { port.to_string() }
}

fn now() -> (u64, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now.as_secs(), now.subsec_nanos().into())
}

/// Whether `filters` of `/events` let `event` through.
pub(super) fn passes(event: &Value, filters: &Value) -> bool {
    let has = |filter: &str, matches: &dyn Fn(&str) -> bool| {
        let wanted = filter_values(filters, filter);
        wanted.is_empty() || wanted.iter().any(|value| matches(value))
    };
    let attribute = |name: &str| event["Actor"]["Attributes"][name].as_str().unwrap_or("");
    let action = event["Action"].as_str().unwrap();
    let id = event["Actor"]["ID"].as_str().unwrap();
    has("type", &|wanted| event["Type"] == *wanted)
        && has("event", &|wanted| action.split(':').next() == Some(wanted))
        && has("container", &|wanted| {
            id.starts_with(wanted) || attribute("name").starts_with(wanted)
        })
}

/// The values of one filter, in its new form (a list) or its old one (a map).
fn filter_values(filters: &Value, filter: &str) -> Vec<String> {
    match &filters[filter] {
        Value::Array(values) => values.iter().map(|v| v.as_str().unwrap().to_owned()).collect(),
        Value::Object(values) => values.keys().cloned().collect(),
        _ => Vec::new(),
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
