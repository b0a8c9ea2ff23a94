//! `status`: what a running ambassador is doing.

use std::{net::SocketAddr, time::Duration};

use super::table::table;
use crate::{
    admin::{Party, Status},
    report::{self, Failure, Printable},
};

/// For the whole answer: a registrar that waits for etcd takes its time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer: thousands of entries have less.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// What `status` is asked to do.
#[derive(Debug)]
pub(crate) struct ShowStatus {
    pub(crate) admin: SocketAddr,
    pub(crate) json: bool,
}

impl ShowStatus {
    /// # Errors
    /// Nobody answers there, or whoever does is not ready.
    pub(super) fn run(self) -> Result<(), Failure> {
        let answer = self.ask().map_err(Failure::Running)?;
        let status: Status = serde_json::from_str(&answer).map_err(|error| {
            let error = report::excerpt(&error.to_string());
            Failure::Running(format!("{} is no ambassador's --admin: {error}", self.admin))
        })?;
        report::print(&if self.json { answer } else { shown(&status) })?;
        match status.ready {
            true => Ok(()),
            false => {
                let reason = report::excerpt(&status.reason.unwrap_or_default());
                Err(Failure::Running(format!("not ready: {reason}")))
            }
        }
    }

    fn ask(&self) -> Result<String, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            // A proxy of the environment is for other places.
            .proxy(None)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let url = format!("http://{}/status", self.admin);
        let failed = |error: ureq::Error| {
            let error = report::excerpt(&error.to_string());
            format!("no answer from an ambassador's --admin at {}: {error}", self.admin)
        };
        let mut response = agent.get(&url).call().map_err(failed)?;
        response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string().map_err(failed)
    }
}

/// For people.
fn shown(status: &Status) -> String {
    let Status { version, role, uptime_s, .. } = status;
    let uptime = report::duration(Duration::from_secs(*uptime_s));
    let state = match &status.reason {
        _ if status.ready => "ready".to_owned(),
        reason => format!("not ready: {}", reason.as_deref().unwrap_or_default()),
    };
    let mut lines = vec![format!("{role} {version}, up {uptime}: {state}")];
    for (name, party) in [("etcd", &status.etcd), ("Docker", &status.docker)] {
        lines.extend(party.as_ref().map(|party| of_party(name, party)));
    }
    if let Some(connections) = &status.connections {
        lines.push(format!("{} of {} connections open", connections.open, connections.max));
    }
    let lines = lines.iter().map(|line| format!("{}\n", Printable(line)));
    let mut text: String = lines.collect();
    for table in [listeners(status), instances(status), registrations(status)] {
        if !table.is_empty() {
            text.push_str(&format!("\n{table}"));
        }
    }
    text
}

fn of_party(name: &str, Party { address, answers, silent_s, problem }: &Party) -> String {
    match (answers, silent_s) {
        (Some(true), _) => format!("{name} at {address} answers"),
        (None, None) => format!("{name} at {address} has not answered yet"),
        (_, silent_s) => {
            let silence = report::duration(Duration::from_secs(silent_s.unwrap_or_default()));
            format!("{name} is silent for {silence}: {}", problem.as_deref().unwrap_or_default())
        }
    }
}

fn listeners(status: &Status) -> String {
    if status.listeners.is_empty() {
        return String::new();
    }
    let heads = ["LISTENER", "ADDRESS"].map(str::to_owned);
    let rows =
        status.listeners.iter().map(|listener| [listener.name.clone(), listener.address.clone()]);
    table(&[heads].into_iter().chain(rows).collect::<Vec<_>>())
}

fn instances(status: &Status) -> String {
    if status.services.is_empty() {
        return String::new();
    }
    let mut rows = vec![["SERVICE", "INSTANCE", "WEIGHT", "OPEN", "STATE"].map(str::to_owned)];
    for service in &status.services {
        let name = service.name.clone();
        if service.instances.is_empty() {
            let none = "none known, clients wait".to_owned();
            rows.push([name.clone(), "-".to_owned(), "-".to_owned(), "-".to_owned(), none]);
        }
        for instance in &service.instances {
            let seconds = |s: u64| report::duration(Duration::from_secs(s));
            let state = match (instance.ejected_s, service.stale_s) {
                (Some(left), _) => format!("tried last for {}", seconds(left)),
                (None, Some(stale)) => format!("last known, {} ago", seconds(stale)),
                (None, None) => "ok".to_owned(),
            };
            let numbers = [instance.weight.to_string(), instance.open.to_string()];
            let [weight, open] = numbers;
            rows.push([name.clone(), instance.address.clone(), weight, open, state]);
        }
    }
    table(&rows)
}

fn registrations(status: &Status) -> String {
    if status.registrations.is_empty() {
        return String::new();
    }
    let heads = ["KEY", "STATE", "VALUE"].map(str::to_owned);
    let rows = status.registrations.iter().map(|registration| {
        [registration.key.clone(), registration.state.clone(), registration.value.clone()]
    });
    table(&[heads].into_iter().chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Connections, Instance, Listener, Service};

    #[test]
    fn a_proxy_in_an_incident_is_shown_in_80_columns() {
        let instance = |address: &str, open, ejected_s| Instance {
            address: address.to_owned(),
            weight: 1,
            open,
            ejected_s,
        };
        let status = Status {
            version: "0.1.0".to_owned(),
            role: "proxy".to_owned(),
            uptime_s: 185,
            ready: false,
            reason: Some("web has no instance".to_owned()),
            draining: false,
            listeners: vec![Listener {
                name: "redis-A".to_owned(),
                address: "[::]:6379".to_owned(),
            }],
            connections: Some(Connections { open: 3, max: 2048 }),
            services: vec![
                Service {
                    name: "redis-A".to_owned(),
                    stale_s: Some(42),
                    instances: vec![
                        instance("10.1.0.1:49155", 3, None),
                        instance("10.1.0.2:49156", 0, Some(8)),
                    ],
                },
                Service { name: "web".to_owned(), stale_s: None, instances: Vec::new() },
            ],
            registrations: Vec::new(),
            etcd: Some(Party {
                address: "http://10.1.0.9:2379".to_owned(),
                answers: Some(false),
                silent_s: Some(42),
                problem: Some("no answer from etcd at http://10.1.0.9:2379".to_owned()),
            }),
            docker: None,
        };
        let text = shown(&status);
        assert_eq!(
            text,
            "proxy 0.1.0, up 3m05s: not ready: web has no instance\n\
             etcd is silent for 42.0s: no answer from etcd at http://10.1.0.9:2379\n\
             3 of 2048 connections open\n\
             \n\
             LISTENER  ADDRESS\n\
             redis-A   [::]:6379\n\
             \n\
             SERVICE  INSTANCE        WEIGHT  OPEN  STATE\n\
             redis-A  10.1.0.1:49155  1       3     last known, 42.0s ago\n\
             redis-A  10.1.0.2:49156  1       0     tried last for 8.0s\n\
             web      -               -       -     none known, clients wait\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80));
    }
}
