//! Entries that an earlier life of a host's registrar left behind: those that bear the
//! host's name, and a container's that does not run.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use log::info;

use super::wanted::{Source, Target};
use crate::{
    docker::Container,
    etcd::{self, Entry, Store},
    report,
    service::{Format, Prefix},
};

/// Between two attempts to find them.
const RETRY: Duration = Duration::from_secs(5);

/// What is left to be swept.
#[derive(Debug)]
pub(super) struct Orphans {
    prefix: Prefix,
    /// What Docker calls its host, and the containers that run, once that is known.
    host_name: String,
    running: HashSet<String>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nobody has said yet what runs.
    Unknown,
    /// To be looked for.
    Due(Instant),
    /// Everything that was there at start and bears the host's name. Those of containers that
    /// run stay here: if it is us who keeps them now, they hold another value, or go before
    /// their container does.
    Found(Vec<Orphan>),
    /// There is nothing to be swept.
    Never,
}

#[derive(Debug, PartialEq, Eq)]
struct Orphan {
    container: String,
    key: String,
    value: String,
}

impl Orphans {
    /// Of `target`, if its entries bear the host's name in a form that can be told from
    /// another's. (A label of DNS cannot: `a-b-c-80` may be of the host `a` or `a-b`.)
    pub(super) fn of(target: &Target) -> Self {
        let is_hosts = matches!(target.source, Source::Host { .. });
        let is_told = target.formats.iter().any(|format| *format != Format::Skydns);
        let state = if is_hosts && is_told { State::Unknown } else { State::Never };
        let prefix = target.prefix.clone();
        Orphans { prefix, host_name: String::new(), running: HashSet::new(), state }
    }

    /// Takes note of what runs. What is swept later is held against it again.
    pub(super) fn note(&mut self, containers: &[Container], host_name: &str) {
        match self.state {
            State::Never => return,
            State::Unknown => self.state = State::Due(Instant::now()),
            State::Due(_) | State::Found(_) => {}
        }
        host_name.clone_into(&mut self.host_name);
        self.running = containers.iter().map(|container| container.name().to_owned()).collect();
    }

    /// When there is something to be done, if that has to be waited for.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Due(at) => Some(at),
            State::Unknown | State::Found(_) | State::Never => None,
        }
    }

    /// Looks for orphans, or removes one of those that were found. `false` if there is
    /// nothing to do at `now`.
    ///
    /// # Errors
    /// etcd gave no usable answer: everything is done again in a while.
    pub(super) fn sweep_one(&mut self, store: &Store, now: Instant) -> Result<bool, etcd::Error> {
        match &mut self.state {
            State::Unknown | State::Never => Ok(false),
            State::Due(at) if *at > now => Ok(false),
            State::Due(at) => {
                *at = now + RETRY;
                let listing = store.list_tree(&self.prefix.to_string())?;
                self.state = State::Found(self.among(listing.entries));
                Ok(true)
            }
            State::Found(found) => {
                let runs = |orphan: &Orphan| self.running.contains(&orphan.container);
                let Some(place) = found.iter().position(|orphan| !runs(orphan)) else {
                    return Ok(false);
                };
                let Orphan { container, key, value } = found.swap_remove(place);
                match store.remove_if(&key, &value) {
                    Ok(()) => {
                        let value = report::excerpt(&value);
                        info!("{key} removed ({value}): no container {container} runs here");
                    }
                    Err(etcd::Error::NoSuchKey { .. } | etcd::Error::CompareFailed { .. }) => {}
                    Err(error) => {
                        self.state = State::Due(now + RETRY);
                        return Err(error);
                    }
                }
                Ok(true)
            }
        }
    }

    fn among(&self, entries: Vec<Entry>) -> Vec<Orphan> {
        let orphan = |Entry { key, value, .. }: Entry| {
            let container = container_of(&key, &self.prefix.to_string(), &self.host_name)?;
            Some(Orphan { container: container.to_owned(), key, value: value? })
        };
        entries.into_iter().filter_map(orphan).collect()
    }
}

/// `web` of `/services/web-80/core-01:web:80`, if `core-01` is the host.
fn container_of<'a>(key: &'a str, prefix: &str, host_name: &str) -> Option<&'a str> {
    let (_service, instance) = key.strip_prefix(prefix)?.strip_prefix('/')?.split_once('/')?;
    let rest = instance.strip_prefix(host_name)?.strip_prefix(':')?;
    let rest = rest.strip_suffix(":udp").unwrap_or(rest);
    let (container, port) = rest.split_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    is_port.then_some(container)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_bears_the_hosts_name_is_its_own() {
        let of = |key| container_of(key, "/services", "core-01");
        assert_eq!(of("/services/web-80/core-01:web:80"), Some("web"));
        assert_eq!(of("/services/dns/core-01:dns:53:udp"), Some("dns"));
        for key in [
            "/services/web/core-011:web:80",
            "/services/web/core:web:80",
            "/services/web/core-01:web",
            "/services/web/core-01:web:x",
            "/services/web/core-01:web:80:90",
            "/services/web/deeper/core-01:web:80",
            "/services/core-01:web:80",
            "/servicesx/web/core-01:web:80",
        ] {
            assert_eq!(of(key), None, "{key}");
        }
    }
}
