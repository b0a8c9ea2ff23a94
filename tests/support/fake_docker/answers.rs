//! How the fake engine describes a container.

use serde_json::{Map, Value, json};

use super::container::{Binding, Container};
use super::version::Version;

const IMAGE_ID: &str = "sha256:b7ac3c01c9e26d285db73d5d8a062c3b0f66d16e3480226f56e48edbc3bab795";

impl Container {
    /// The answer to `/containers/NAME/json`.
    pub(super) fn inspected(&self, version: Version) -> Value {
        let slash = if version == Version::Podman { "" } else { "/" };
        json!({
            "Id": self.id, "Created": "2026-11-22T19:59:59.827521342Z",
            "Path": "/usr/bin/redis-server", "Args": ["--port", "6379"],
            "State": self.state(version), "Image": IMAGE_ID,
            "Name": format!("{slash}{}", self.name), "RestartCount": 0, "Driver": "overlay2",
            "Platform": "linux", "Mounts": [],
            "HostConfig": {
                "NetworkMode": self.network_mode(version),
                "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
                "PortBindings": {}, "Links": null,
            },
            "Config": self.config(),
            "NetworkSettings": self.network_settings(version),
        })
    }

    /// One element of the answer to `/containers/json`.
    pub(super) fn listed(&self, version: Version) -> Value {
        let mut listed = json!({
            "Id": self.id, "Names": [format!("/{}", self.name)], "Image": self.image,
            "ImageID": IMAGE_ID,
            "Command": "/usr/bin/redis-server --port 6379", "Created": 1_795_368_453,
            "Ports": self.listed_ports(), "Labels": self.labels, "State": self.status(),
            "Status": self.listed_status(version),
            "NetworkSettings": {"Networks": self.networks()}, "Mounts": [],
        });
        if version != Version::Podman {
            listed["HostConfig"] = json!({"NetworkMode": self.network_mode(version)});
        }
        if version == Version::V29 {
            listed["Health"] = self.listed_health();
        }
        listed
    }

    fn state(&self, version: Version) -> Value {
        let started = match self.started {
            None => "0001-01-01T00:00:00Z".to_owned(),
            Some(time) if version == Version::Podman => time.an_hour_east(),
            Some(time) => time.utc(),
        };
        let mut state = json!({
            "Status": self.status(), "Running": self.running, "Paused": self.paused,
            "Restarting": self.restarting, "OOMKilled": false, "Dead": false,
            "Pid": if self.running { 11758 } else { 0 }, "ExitCode": self.exit_code, "Error": "",
            "StartedAt": started, "FinishedAt": "0001-01-01T00:00:00Z",
        });
        if let Some(health) = &self.health {
            state["Health"] =
                json!({"Status": health, "FailingStreak": self.failing_streak, "Log": []});
        }
        state
    }

    fn config(&self) -> Value {
        let mut config = json!({
            "Hostname": self.id[..12], "Domainname": "", "User": "", "AttachStdin": false,
            "Tty": false, "Env": self.env, "Cmd": ["--port", "6379"],
            "Image": self.image, "Volumes": null, "WorkingDir": "/data",
            "Entrypoint": ["/usr/bin/redis-server"], "OnBuild": null, "Labels": self.labels,
        });
        if !self.ports.is_empty() {
            let exposed = self.ports.keys().map(|port| (port.clone(), json!({})));
            config["ExposedPorts"] = exposed.collect::<Map<_, _>>().into();
        }
        if self.has_healthcheck {
            config["Healthcheck"] = json!({"Test": ["CMD-SHELL", "true"]});
        }
        if let Some(signal) = &self.stop_signal {
            config["StopSignal"] = json!(signal);
        }
        if let Some(seconds) = self.stop_timeout_s {
            config["StopTimeout"] = json!(seconds);
        }
        config
    }

    fn network_settings(&self, version: Version) -> Value {
        let mut ports = Map::new();
        for (port, bindings) in self.bound_ports() {
            let bindings = bindings.as_ref().map(|bindings| {
                let bound = bindings.iter();
                let bound =
                    bound.map(|(ip, port)| json!({"HostIp": ip, "HostPort": host_port(*port)}));
                bound.collect::<Vec<_>>()
            });
            ports.insert(port.clone(), json!(bindings));
        }
        let mut settings = json!({"Ports": ports, "Networks": self.networks()});
        if version != Version::V29 {
            // Those of the default network, and empty outside it.
            let default = &settings["Networks"][version.default_network()];
            let [ip, gateway] =
                ["IPAddress", "Gateway"].map(|key| json!(default[key].as_str().unwrap_or("")));
            settings["Bridge"] = json!("");
            settings["IPAddress"] = ip;
            settings["Gateway"] = gateway;
            settings["GlobalIPv6Address"] = json!("");
        }
        settings
    }

    fn listed_ports(&self) -> Value {
        let mut ports = Vec::new();
        for (port, bindings) in self.bound_ports() {
            let (private, kind) = port.split_once('/').unwrap();
            let private: u16 = private.parse().unwrap();
            match bindings {
                None => ports.push(json!({"PrivatePort": private, "Type": kind})),
                Some(bindings) => ports.extend(bindings.iter().map(|(ip, public)| {
                    json!({"IP": ip, "PrivatePort": private, "PublicPort": public, "Type": kind})
                })),
            }
        }
        ports.into()
    }

    fn networks(&self) -> Value {
        let networks = self.networks.iter().map(|(name, ip)| {
            let ip = if self.running { &ip[..] } else { "" };
            let gateway = ip.rsplit_once('.').map(|(network, _)| format!("{network}.1"));
            let endpoint = json!({
                "NetworkID": network_id(name), "Aliases": null, "Links": null,
                "IPAddress": ip, "Gateway": gateway.unwrap_or_default(),
                "GlobalIPv6Address": "",
            });
            (name.clone(), endpoint)
        });
        networks.collect::<Map<_, _>>().into()
    }

    fn network_mode(&self, version: Version) -> &str {
        self.network_mode.as_deref().unwrap_or(version.default_network_mode())
    }

    /// Only a running container has its ports bound, and only in a network of its own.
    fn bound_ports(&self) -> impl Iterator<Item = (&String, &Option<Vec<Binding>>)> {
        let is_bound = self.running && !self.is_on_host_network() && !self.networks.is_empty();
        self.ports.iter().filter(move |_| is_bound)
    }

    fn listed_status(&self, version: Version) -> String {
        let code = self.exit_code;
        match (self.status(), self.health.as_deref()) {
            ("restarting", _) => format!("Restarting ({code}) 28 seconds ago"),
            ("exited", _) => format!("Exited ({code}) 28 seconds ago"),
            ("paused", _) => "Up 28 seconds (Paused)".to_owned(),
            (_, None) => "Up 28 seconds".to_owned(),
            _ if version == Version::Podman => "Up 28 seconds".to_owned(),
            (_, Some("starting")) => "Up 28 seconds (health: starting)".to_owned(),
            (_, Some(health)) => format!("Up 28 seconds ({health})"),
        }
    }

    fn listed_health(&self) -> Value {
        let status = self.health.as_deref().unwrap_or("none");
        json!({"Status": status, "FailingStreak": self.failing_streak})
    }
}

/// As long as a real one, and always the same for the same name.
pub(super) fn network_id(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits:0<64.64}")
}

/// Empty for a moment after a start.
fn host_port(port: u16) -> String {
    if port == 0 { String::new() } else { port.to_string() }
}
