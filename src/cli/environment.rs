//! The environment, as far as it means anything to us.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    num::NonZeroU16,
    time::Duration,
};

use clap::ArgAction;

use super::{Refusal, values};
use crate::{
    address::{self, Host, HostPort},
    docker, etcd,
    notify::Supervisor,
    registrar::Ambient,
    roles::LinkedPort,
    traffic::Upstream,
};

/// The port at which the 2014 images found etcd.
const ARTICLES_ETCD_PORT: u16 = 10000;

/// The option of a command that has no variable, because that is another command's:
/// `AMBASSADOR_CHECK=tcp`, which is for `register`, would make `list` wrong usage.
const WITHOUT_VARIABLE: (&str, &str) = ("list", "check");

/// Variables by name. Empty ones count as unset.
#[derive(Debug, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

/// Options that came from the environment: the option's name and its variable.
pub(super) type Inserted = Vec<(String, String)>;

impl Environment {
    /// Takes what is set. A value that is not UTF-8 matters only where it is used,
    /// and there it fails as the value it is shown as.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let text = |text: OsString| text.to_string_lossy().into_owned();
        let pairs = variables.into_iter().map(|(name, value)| (text(name), text(value)));
        Environment(pairs.filter(|(_, value)| !value.is_empty()).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Puts `AMBASSADOR_<OPTION>` in as `--option=value`, right behind the command's
    /// name: options typed by the user come later and win.
    pub(super) fn insert_options(
        &self,
        root: &clap::Command,
        arguments: &mut Vec<OsString>,
    ) -> Result<Inserted, Refusal> {
        let Some((at, command)) = find_command(root, arguments) else {
            return Ok(Vec::new()); // clap says what is wrong.
        };
        let mut inserted = Vec::new();
        for option in root.get_arguments().chain(command.get_arguments()) {
            let Some(long) = option.get_long() else { continue };
            let Some(variable) = variable(command.get_name(), long) else { continue };
            let Some(value) = self.get(&variable) else { continue };
            let word = match (option.get_action(), value) {
                (ArgAction::SetTrue, "true") => format!("--{long}"),
                (ArgAction::SetTrue, "false") => continue,
                (ArgAction::SetTrue, _) => {
                    return Err(Refusal::value(&variable, value, "expected true or false"));
                }
                (ArgAction::Set | ArgAction::Append, _) => format!("--{long}={value}"),
                _ => continue, // -v, -q, --help
            };
            let is_typed = |typed: &OsString| {
                let typed = typed.to_string_lossy();
                typed.strip_prefix("--").is_some_and(|typed| {
                    typed == long || typed.strip_prefix(long).is_some_and(|r| r.starts_with('='))
                })
            };
            if arguments[1..].iter().take_while(|word| *word != "--").any(is_typed) {
                continue;
            }
            inserted.push((long.to_owned(), variable, word));
        }
        let words = inserted.iter().map(|(_, _, word)| OsString::from(word));
        arguments.splice(at + 1..at + 1, words.collect::<Vec<_>>());
        Ok(inserted.into_iter().map(|(long, variable, _)| (long, variable)).collect())
    }

    /// What the environment says of etcd: `ETCDCTL_ENDPOINTS`, or a link.
    pub(super) fn etcd_members(&self) -> Result<Option<Vec<etcd::Member>>, Refusal> {
        if let Some(text) = self.get("ETCDCTL_ENDPOINTS") {
            let values::Members(members) =
                values::members(text).map_err(|e| Refusal::value("ETCDCTL_ENDPOINTS", text, e))?;
            return Ok(Some(members));
        }
        // Any port; of several, the one the originals used, or the lowest.
        let linked = self.0.keys().filter_map(|name| {
            let port = name.strip_prefix("ETCD_PORT_")?.strip_suffix("_TCP_ADDR")?;
            address::port_number(port).ok()
        });
        let Some(port) = linked.min_by_key(|port| (port.get() != ARTICLES_ETCD_PORT, *port)) else {
            return Ok(None);
        };
        let variable = format!("ETCD_PORT_{port}_TCP_ADDR");
        let text = self.get(&variable).unwrap_or_default();
        let host = text.parse::<Host>().map_err(|e| Refusal::value(&variable, text, e))?;
        let variable = format!("ETCD_PORT_{port}_TCP_PORT");
        let port = match self.get(&variable) {
            Some(text) => values::port(text).map_err(|e| Refusal::value(&variable, text, e))?,
            None => port,
        };
        // Docker updates the name in /etc/hosts when the target moves, the variable never.
        let by_name = HostPort { host: Host::Name("etcd".to_owned()), port };
        Ok(Some(vec![HostPort { host, port }.into(), by_name.into()]))
    }

    pub(super) fn docker(&self) -> Result<Option<docker::Address>, Refusal> {
        let Some(text) = self.get("DOCKER_HOST") else { return Ok(None) };
        text.parse().map(Some).map_err(|e: String| Refusal::value("DOCKER_HOST", text, e))
    }

    /// The address of this host, by its common names.
    pub(super) fn host_ip(&self) -> Result<Option<Ambient>, Refusal> {
        let found = ["HOST_IP", "COREOS_PRIVATE_IPV4"]
            .into_iter()
            .find_map(|variable| self.get(variable).map(|value| (variable, value)));
        let Some((variable, text)) = found else { return Ok(None) };
        let ip = values::host_ip(text).map_err(|e| Refusal::value(variable, text, e))?;
        Ok(Some(Ambient { ip, variable }))
    }

    /// The stream to the journal that stdout or stderr was, if it still is one.
    pub(crate) fn journal_stream(&self) -> Option<&str> {
        self.get("JOURNAL_STREAM")
    }

    /// Whom systemd wants to be told by. What it says of the watchdog is meant for one
    /// process, and inherited by others.
    pub(super) fn supervisor(&self) -> Supervisor {
        let watchdog = self.get("WATCHDOG_USEC").and_then(|usec| usec.parse().ok());
        let is_ours =
            self.get("WATCHDOG_PID").is_none_or(|id| id.parse() == Ok(std::process::id()));
        Supervisor {
            socket: self.get("NOTIFY_SOCKET").map(str::to_owned),
            watchdog: watchdog.filter(|usec| *usec > 0 && is_ours).map(Duration::from_micros),
        }
    }

    /// The name under which Docker keeps a link's target in /etc/hosts. `MY_DB` may be
    /// `my-db`: `MY_DB_NAME=/container/my-db` says so.
    fn link_name(&self, alias: &str) -> String {
        let path = self.get(&format!("{alias}_NAME")).unwrap_or_default();
        match path.rsplit_once('/') {
            Some((_, name)) if matches!(name.parse(), Ok(Host::Name(_))) => name.to_owned(),
            _ => alias.to_ascii_lowercase(),
        }
    }

    /// The ports of all link variables `<ALIAS>_PORT_<N>_TCP=tcp://HOST:PORT`.
    ///
    /// Source: Docker documentation, "Legacy container links", environment variables.
    pub(super) fn linked_ports(&self) -> Result<Vec<LinkedPort>, Refusal> {
        let mut ports: BTreeMap<NonZeroU16, Vec<Upstream>> = BTreeMap::new();
        for (name, value) in &self.0 {
            let Some((alias, port)) = split_link_variable(name) else { continue };
            let Some(address) = value.strip_prefix("tcp://") else { continue };
            let address = values::upstream(address).map_err(|e| Refusal::value(name, value, e))?;
            let host = Host::Name(self.link_name(alias));
            let alternative = Some(HostPort { host, port: address.port });
            let origin = Some(name.clone());
            let upstream = Upstream { alternative, origin, ..Upstream::new(address) };
            ports.entry(port).or_default().push(upstream);
        }
        Ok(ports.into_iter().map(|(port, upstreams)| LinkedPort { port, upstreams }).collect())
    }
}

/// The variable that says the option `long` of `command`.
fn variable(command: &str, long: &str) -> Option<String> {
    let name = || format!("AMBASSADOR_{}", long.to_ascii_uppercase().replace('-', "_"));
    ((command, long) != WITHOUT_VARIABLE).then(name)
}

/// The variables that say an option of the command called `name`.
pub(super) fn variables(root: &clap::Command, name: &str) -> Vec<String> {
    let own = root.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    let options = root.get_arguments().chain(own);
    options.filter_map(|option| variable(name, option.get_long()?)).collect()
}

/// The command, and where it stands: the first word that is no option nor its value.
fn find_command<'a>(
    root: &'a clap::Command,
    arguments: &[OsString],
) -> Option<(usize, &'a clap::Command)> {
    let takes_value = |word: &OsStr| {
        let long = word.to_str().and_then(|word| word.strip_prefix("--"));
        root.get_arguments().any(|option| {
            option.get_long().is_some_and(|name| Some(name) == long)
                && option.get_action().takes_values()
        })
    };
    let mut at = 1;
    while is_option(arguments.get(at)?) {
        at += if takes_value(&arguments[at]) { 2 } else { 1 };
    }
    Some((at, root.find_subcommand(&arguments[at])?))
}

fn is_option(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

/// `DB_PORT_6379_TCP` → `DB`, 6379.
fn split_link_variable(name: &str) -> Option<(&str, NonZeroU16)> {
    let (alias, port) = name.strip_suffix("_TCP")?.rsplit_once("_PORT_")?;
    if alias.is_empty() {
        return None;
    }
    Some((alias, address::port_number(port).ok()?))
}
