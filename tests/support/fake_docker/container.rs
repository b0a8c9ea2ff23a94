//! One container, and what changes it.

use std::collections::BTreeMap;

use super::super::unique;
use super::clock::Time;

/// An address of the host and the port it leads from; 0 while it has none yet.
pub(crate) type Binding = (&'static str, u16);

/// One container; built with what its `docker run` line would say.
#[derive(Clone)]
pub(crate) struct Container {
    pub(super) name: String,
    pub(super) id: String,
    /// The how many-th of its engine it is.
    pub(super) number: u32,
    pub(super) image: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) env: Vec<String>,
    pub(super) stop_signal: Option<String>,
    pub(super) stop_timeout_s: Option<u32>,
    pub(crate) running: bool,
    pub(crate) paused: bool,
    pub(crate) restarting: bool,
    pub(super) exit_code: u8,
    /// `None` before the first start.
    pub(super) started: Option<Time>,
    /// `None`: exposed, but not published.
    pub(super) ports: BTreeMap<String, Option<Vec<Binding>>>,
    /// `None` when the `docker run` line names none.
    pub(super) network_mode: Option<String>,
    /// Names, and the addresses in them.
    pub(super) networks: BTreeMap<String, String>,
    pub(super) has_healthcheck: bool,
    /// `None` before the first start, and without a health check.
    pub(super) health: Option<String>,
    pub(super) failing_streak: u32,
}

impl Container {
    pub(crate) fn named(name: &str) -> Container {
        Container {
            name: name.to_owned(),
            id: format!("{:08x}{}", 0xab00_0000 + unique(), "5e".repeat(28)),
            number: 0,
            image: "redis:local".to_owned(),
            labels: BTreeMap::new(),
            env: vec!["SECRET=do-not-log".to_owned()],
            stop_signal: None,
            stop_timeout_s: None,
            running: false,
            paused: false,
            restarting: false,
            exit_code: 0,
            started: None,
            ports: BTreeMap::new(),
            network_mode: None,
            networks: BTreeMap::new(),
            has_healthcheck: false,
            health: None,
            failing_streak: 0,
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

    /// Defaults to `redis:local`.
    pub(crate) fn image(mut self, image: &str) -> Container {
        image.clone_into(&mut self.image);
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Container {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// `NAME=value`; every container has a `SECRET` as well.
    pub(crate) fn env(mut self, variable: &str) -> Container {
        self.env.push(variable.to_owned());
        self
    }

    /// Instead of the default bridge; several times for several networks, the first of which
    /// is the one of the `docker run` line.
    pub(crate) fn network(mut self, name: &str, ip: &str) -> Container {
        self.network_mode.get_or_insert_with(|| name.to_owned());
        self.networks.insert(name.to_owned(), ip.to_owned());
        self
    }

    /// `--network host`, with which nothing is published.
    pub(crate) fn on_host_network(self) -> Container {
        self.network("host", "")
    }

    /// Its health is `starting` from each start on, until it is set.
    pub(crate) fn with_healthcheck(mut self) -> Container {
        self.has_healthcheck = true;
        self
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn is_on_host_network(&self) -> bool {
        self.network_mode.as_deref() == Some("host")
    }

    pub(super) fn status(&self) -> &'static str {
        match self {
            Container { restarting: true, .. } => "restarting",
            Container { paused: true, .. } => "paused",
            Container { running: true, .. } => "running",
            _ => "exited",
        }
    }

    pub(super) fn start(&mut self) {
        self.running = true;
        self.exit_code = 0;
        self.started = Some(Time::now());
        self.health = self.has_healthcheck.then(|| "starting".to_owned());
        self.failing_streak = 0;
    }

    pub(super) fn end(&mut self, exit_code: u8) {
        self.running = false;
        self.paused = false;
        self.exit_code = exit_code;
        self.stop_checking();
    }

    pub(super) fn pause(&mut self) {
        self.paused = true;
        self.stop_checking();
    }

    /// Whoever is checked no more counts as unhealthy, after a pause until the next check, and
    /// no event tells of it.
    fn stop_checking(&mut self) {
        if let Some(health) = &mut self.health {
            "unhealthy".clone_into(health);
        }
    }
}
