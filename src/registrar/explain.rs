//! What would be registered, and by which rule, without writing anything.

use super::{
    Config, Source,
    wanted::{Judged, Verdict, Wanted},
};
use crate::{
    docker::{self, Client, Container},
    report::{self, Failure},
};

/// One look at Docker, for `--explain`: what would be registered, and why, in
/// lines for a reader; or why nothing would be.
pub(crate) fn explain(config: &Config) -> Result<String, Failure> {
    let target = &config.target;
    let (wanted, why) = match &target.source {
        Source::Fixed { address, .. } => {
            let wanted = target.fixed().expect("a fixed address has entries");
            (wanted, format!("{address} was given as --address"))
        }
        Source::Container { one, docker } => {
            let mut client = Client::new(docker.clone());
            let container = client.container(&one.container).map_err(failed)?;
            let host_name = match target.names_the_host() {
                true => client.host_name().map_err(failed)?,
                false => String::new(),
            };
            let judged = one.judge(target, container.as_ref(), &host_name);
            let not_registered = |why: &str| format!("not registered: {why}");
            match judged.verdict {
                Verdict::Present { wanted, rule } => (wanted, rule),
                Verdict::Absent(why) | Verdict::Mistake(why) => {
                    return Err(Failure::Running(not_registered(&why)));
                }
                Verdict::NotYet => {
                    return Err(Failure::Running(not_registered(&not_yet(&judged))));
                }
                Verdict::Unreachable(why) => return Err(Failure::Usage(not_registered(&why))),
            }
        }
        Source::Host { docker, .. } => return explain_host(config, docker),
    };
    let ttl = lifetime(config);
    Ok(format!("{}{ttl}\nwhy    {why}", entries(&wanted, "key    ", "value  ")))
}

/// Every container there is, also those that do not run, and what becomes of its ports.
fn explain_host(config: &Config, docker: &docker::Address) -> Result<String, Failure> {
    let mut client = Client::new(docker.clone());
    let host_name = client.host_name().map_err(failed)?;
    let listed = client.existing().map_err(failed)?;
    let mut containers: Vec<Container> = Vec::new();
    for container in listed {
        containers.extend(client.container_by_id(&container.id).map_err(failed)?);
    }
    let judged = config.target.judge(&containers, &host_name);
    let subjects: Vec<String> = judged.iter().map(subject).collect();
    let width = subjects.iter().map(String::len).max().unwrap_or_default();
    let indent = " ".repeat(width + 2);
    let mut text = String::new();
    for (judged, subject) in judged.iter().zip(subjects) {
        let told = match &judged.verdict {
            Verdict::Present { wanted, rule } => {
                format!("{}why    {rule}\n", entries(wanted, "key    ", "value  "))
            }
            Verdict::Absent(why) | Verdict::Mistake(why) | Verdict::Unreachable(why) => {
                format!("not registered: {why}\n")
            }
            Verdict::NotYet => format!("not registered: {}\n", not_yet(judged)),
        };
        let mut lines = told.lines();
        let first = lines.next().unwrap_or_default();
        text.push_str(&format!("{subject:width$}  {first}\n"));
        lines.for_each(|line| text.push_str(&format!("{indent}{line}\n")));
    }
    let (count, host_name) = (containers.len(), report::excerpt(&host_name));
    Ok(format!("{text}{count} containers on host {host_name}; {}", lifetime(config)))
}

fn subject(judged: &Judged) -> String {
    let container = report::excerpt(&judged.container);
    match judged.port {
        Some(port) => format!("{container} {port}"),
        None => container,
    }
}

fn entries(wanted: &[Wanted], key: &str, value: &str) -> String {
    let lines = |wanted: &Wanted| format!("{key}{}\n{value}{}\n", wanted.key, wanted.value);
    wanted.iter().map(lines).collect()
}

fn not_yet(judged: &Judged) -> String {
    let port = judged.port.map(|port| port.to_string()).unwrap_or_default();
    let container = report::excerpt(&judged.container);
    format!("Docker has not assigned {port} of {container} a port yet")
}

fn lifetime(config: &Config) -> String {
    let ttl = config.ttl.as_secs();
    let check = if config.has_check { "while a TCP connect succeeds" } else { "without a check" };
    format!("ttl    {ttl} s, refreshed every third of it, {check}")
}

fn failed(error: docker::Error) -> Failure {
    Failure::Running(report::chain(&error))
}
