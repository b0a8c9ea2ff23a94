//! `list`: what is registered.

use std::time::{Duration, Instant};

use log::warn;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Registry;
use crate::{
    backoff::Backoff,
    etcd::{self, Entry, Listing},
    report::{self, Failure},
    service::{self, Instance, ServiceName},
    stop,
};

/// How long etcd is tried before giving up.
const PATIENCE: Duration = Duration::from_secs(10);

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// What `list` is asked to do.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) service: Option<ServiceName>,
    pub(crate) json: bool,
    pub(crate) registry: Registry,
}

/// One instance, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) host: String,
    pub(super) port: u16,
    ttl_s: Option<i64>,
    weight: Option<u64>,
    attributes: Map<String, Value>,
    #[serde(skip)]
    pub(super) address: String,
}

impl List {
    pub(super) fn run(self) -> Result<(), Failure> {
        let rows = rows(&self.registry, self.service.as_ref())?;
        if self.json {
            let json = serde_json::to_string_pretty(&rows)
                .map_err(|error| Failure::Running(error.to_string()))?;
            report::print(&format!("{json}\n"))?;
        } else if !rows.is_empty() {
            report::print(&table(&rows))?;
        }
        match self.service {
            Some(service) if rows.is_empty() => Err(none_registered(&self.registry, &service)),
            _ => Ok(()),
        }
    }
}

pub(super) fn none_registered(registry: &Registry, service: &ServiceName) -> Failure {
    let prefix = &registry.prefix;
    Failure::Running(format!("no instance of {service} is registered under {prefix}"))
}

/// The instances of one service or of all, sorted by service and instance.
/// Entries that cannot be used are warned about and left out.
pub(super) fn rows(
    registry: &Registry,
    service: Option<&ServiceName>,
) -> Result<Vec<Row>, Failure> {
    let store = registry.store()?;
    let directory = match service {
        Some(service) => registry.prefix.service(service),
        None => registry.prefix.to_string(),
    };
    let listing = patiently(|patience| store.list_lifetimes(&directory, patience))?;
    let root = format!("{}/", registry.prefix);
    let mut rows: Vec<Row> = listing
        .entries
        .iter()
        .filter_map(|entry| row(entry, entry.key.strip_prefix(&root)?))
        .collect();
    rows.sort_by(|a, b| (&a.service, &a.instance).cmp(&(&b.service, &b.instance)));
    Ok(rows)
}

/// Tries until etcd answers or `PATIENCE` has passed.
fn patiently(list: impl Fn(Duration) -> Result<Listing, etcd::Error>) -> Result<Listing, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let (_guard, stop) = stop::pair();
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut is_first = true;
    let mut error = String::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match list(left) {
            Ok(listing) => return Ok(listing),
            // The last attempt has little time: what was wrong before says more.
            Err(etcd::Error::Silent { .. }) if !error.is_empty() => {}
            Err(failed) => error = report::chain(&failed),
        }
        let pause = backoff.next();
        if Instant::now() + pause >= deadline {
            let patience = report::duration(PATIENCE);
            return Err(Failure::Running(format!("{error} (tried for {patience})")));
        }
        if std::mem::take(&mut is_first) {
            warn!("{error}; trying for {}", report::duration(PATIENCE));
        }
        stop.wait(pause);
    }
}

/// `path` is the key below the prefix: only `SERVICE/INSTANCE` is an instance.
fn row(entry: &Entry, path: &str) -> Option<Row> {
    let skipped = |reason: &str| {
        warn!("{} is skipped: {reason}", entry.key);
        None
    };
    let (service, instance, value) = match (path.split_once('/'), &entry.value) {
        (None, None) => return None, // The directory of a service.
        (None, Some(_)) => return skipped("a value where a service's directory should be"),
        (Some((_, instance)), _) if instance.contains('/') || service::is_udp(instance) => {
            return None;
        }
        (Some(_), None) => return skipped("it is a directory, not a value"),
        (Some((service, instance)), Some(value)) => (service, instance, value),
    };
    match value.parse::<Instance>() {
        Err(invalid) => skipped(&invalid.to_string()),
        Ok(Instance { address, weight, attributes }) => Some(Row {
            service: service.to_owned(),
            instance: instance.to_owned(),
            host: address.host.to_string(),
            port: address.port.get(),
            // Below zero while etcd has no quorum to expire it.
            ttl_s: entry.ttl_s.map(|ttl_s| ttl_s.max(0)),
            weight,
            attributes,
            address: address.to_string(),
        }),
    }
}

fn table(rows: &[Row]) -> String {
    let heads = ["SERVICE", "INSTANCE", "ADDRESS", "TTL", "WEIGHT", "ATTRIBUTES"];
    let rows = rows.iter().map(Row::cells);
    super::table::table(&[heads.map(str::to_owned)].into_iter().chain(rows).collect::<Vec<_>>())
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let attributes: Vec<String> = self
            .attributes
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) => format!("{key}={text}"),
                value => format!("{key}={value}"),
            })
            .collect();
        [
            self.service.clone(),
            self.instance.clone(),
            self.address.clone(),
            or_dash(self.ttl_s.map(|ttl_s| format!("{ttl_s}s"))),
            or_dash(self.weight.map(|weight| weight.to_string())),
            or_dash((!attributes.is_empty()).then(|| attributes.join(" "))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: Option<&str>) -> Entry {
        Entry { key: key.to_owned(), value: value.map(str::to_owned), ttl_s: Some(-3) }
    }

    #[test]
    fn only_direct_children_of_a_service_are_instances() {
        let is_row = |path: &str, value| row(&entry(path, value), path).is_some();
        assert!(is_row("redis/a", Some("10.0.0.1:1")));
        for (path, value) in [
            ("redis", None),
            ("redis", Some("10.0.0.1:1")),
            ("redis/a", None),
            ("redis/a", Some("nonsense")),
            ("redis/a/b", Some("10.0.0.1:1")),
        ] {
            assert!(!is_row(path, value), "{path}");
        }
    }

    #[test]
    fn a_table_shows_no_control_characters_and_no_trailing_blanks() {
        let value = r#"{"host":"10.0.0.1","port":1,"weight":5,"zone":"a\u001b[2J"}"#;
        let row = row(&entry("redis/a", Some(value)), "redis/a").unwrap();
        assert_eq!(
            table(&[row]),
            "SERVICE  INSTANCE  ADDRESS     TTL  WEIGHT  ATTRIBUTES\n\
             redis    a         10.0.0.1:1  0s   5       zone=a\\u{1b}[2J\n"
        );
    }
}
