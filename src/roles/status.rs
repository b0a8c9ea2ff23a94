//! `status`: what a running ambassador is doing.

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    time::Duration,
};

use super::table::table;
use crate::{
    admin::{Instance, Party, Service, Status},
    report::{self, Failure, Printable},
    stop,
};

/// For the whole answer: a registrar that waits for etcd takes its time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer: thousands of entries have less.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// Between two looks of --watch.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// For a terminal: what follows is written over what stands there, from the top.
const FROM_THE_TOP: &str = "\x1b[H\x1b[J";

/// What `status` is asked to do.
#[derive(Debug)]
pub(crate) struct ShowStatus {
    pub(crate) admin: SocketAddr,
    pub(crate) json: bool,
    /// Again and again, until a signal ends it.
    pub(crate) watch: bool,
}

impl ShowStatus {
    /// # Errors
    /// Nobody answers there, or whoever does is not ready.
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.watch {
            return self.watch();
        }
        let (status, text) = self.look().map_err(Failure::Running)?;
        report::print(&text)?;
        match status.ready {
            true => Ok(()),
            false => {
                let reason = report::excerpt(&status.reason.unwrap_or_default());
                Err(Failure::Running(format!("not ready: {reason}")))
            }
        }
    }

    /// Shows it until nobody reads it any more. Who does not answer may do so later.
    fn watch(&self) -> Result<(), Failure> {
        let (_guard, stop) = stop::pair();
        let (before, after) =
            if io::stdout().is_terminal() { (FROM_THE_TOP, "") } else { ("", "\n") };
        loop {
            let text = match self.look() {
                Ok((_, text)) => text,
                Err(problem) => format!("{problem}\n"),
            };
            if !report::print_more(&format!("{before}{text}{after}"))? {
                return Ok(());
            }
            stop.wait(WATCH_INTERVAL);
        }
    }

    /// The status, and what of it is to be shown.
    fn look(&self) -> Result<(Status, String), String> {
        let answer = self.ask()?;
        let status: Status = serde_json::from_str(&answer).map_err(|error| {
            let error = report::excerpt(&error.to_string());
            format!("{} is no ambassador's --admin: {error}", self.admin)
        })?;
        let text = if self.json { answer } else { shown(&status) };
        Ok((status, text))
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
    let uptime = seconds(*uptime_s);
    let state = match &status.reason {
        _ if status.ready => "ready".to_owned(),
        reason => format!("not ready: {}", reason.as_deref().unwrap_or_default()),
    };
    let mut lines = vec![format!("{role} {version}, up {uptime}: {state}")];
    for (name, party) in [("etcd", &status.etcd), ("Docker", &status.docker)] {
        lines.extend(party.as_ref().map(|party| of_party(name, party)));
    }
    if let Some(connections) = &status.connections {
        let held: usize = status.services.iter().map(|service| service.held).sum();
        let held = if held == 0 { String::new() } else { format!(", {held} held") };
        lines.push(format!("{} of {} connections open{held}", connections.open, connections.max));
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

fn of_party(name: &str, party: &Party) -> String {
    let Party { address, answers, silent_s, problem, .. } = party;
    match (answers, silent_s) {
        (Some(true), _) => format!("{name} at {address} answers"),
        (None, None) => format!("{name} at {address} has not answered yet"),
        (_, silent_s) => {
            let silence = seconds(silent_s.unwrap_or_default());
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
    let heads = ["SERVICE", "INSTANCE", "WEIGHT", "OPEN", "AGE", "STATE"];
    let mut rows = vec![heads.map(str::to_owned)];
    let mut problems = String::new();
    for service in &status.services {
        let name = service.name.clone();
        let dash = || "-".to_owned();
        if !service.instances.iter().any(Instance::is_registered) {
            let none = "none known, clients wait".to_owned();
            rows.push([name.clone(), dash(), dash(), dash(), dash(), none]);
        }
        let is_shown = |it: &&Instance| it.left_s.is_none() || it.open > 0;
        for instance in service.instances.iter().filter(is_shown) {
            rows.push([
                name.clone(),
                instance.address.clone(),
                instance.weight.map_or_else(dash, |weight| weight.to_string()),
                instance.open.to_string(),
                seconds(instance.age_s),
                state(service, instance),
            ]);
            if let Some(problem) = &instance.problem {
                let line = format!("{}: {problem}", instance.address);
                problems.push_str(&format!("{}\n", Printable(&line)));
            }
        }
    }
    let between = if problems.is_empty() { "" } else { "\n" };
    format!("{}{between}{problems}", table(&rows))
}

fn state(service: &Service, instance: &Instance) -> String {
    match (instance.left_s, instance.ejected_s, service.stale_s) {
        (Some(left), ..) => format!("left {} ago", seconds(left)),
        (None, Some(ejected), _) => format!("tried last for {}", seconds(ejected)),
        (None, None, Some(stale)) => format!("last known, {} ago", seconds(stale)),
        (None, None, None) if instance.served == 0 => "not used yet".to_owned(),
        (None, None, None) => "ok".to_owned(),
    }
}

/// Without the digits that whole seconds do not have.
fn seconds(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        _ => report::duration(Duration::from_secs(seconds)),
    }
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

    #[test]
    fn a_proxy_in_an_incident_is_shown_in_80_columns() {
        let text = shown(&Status::in_an_incident());
        assert_eq!(
            text,
            "proxy 0.1.0, up 3m05s: not ready: web has no instance\n\
             etcd is silent for 42s: no answer from etcd at http://10.1.0.9:2379\n\
             5 of 2048 connections open, 1 held\n\
             \n\
             LISTENER  ADDRESS\n\
             redis-A   [::]:6379\n\
             \n\
             SERVICE  INSTANCE        WEIGHT  OPEN  AGE    STATE\n\
             redis-A  10.1.0.1:49155  1       3     3m05s  last known, 42s ago\n\
             redis-A  10.1.0.2:49156  1       0     3m05s  tried last for 8s\n\
             redis-A  10.1.0.3:49157  -       1     3m05s  left 1m00s ago\n\
             web      -               -       -     -      none known, clients wait\n\
             \n\
             10.1.0.2:49156: Connection refused (os error 111)\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80));
    }
}
