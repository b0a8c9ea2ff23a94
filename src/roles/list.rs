//! `list`: what is registered.

use std::time::{Duration, Instant};

use log::warn;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Registry,
    reachable::{self, Outcome},
};
use crate::{
    address::HostPort,
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
    /// Whether the instances can be reached is looked at.
    pub(crate) check: bool,
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
    pub(super) address: HostPort,
    #[serde(skip)]
    refreshed_s: Option<i64>,
    #[serde(flatten)]
    checked: Option<Checked>,
}

/// What `--check` adds to a row.
#[derive(Debug, Serialize)]
struct Checked {
    reachable: bool,
    problem: Option<String>,
    connect_ms: Option<f64>,
    refreshed_s: Option<i64>,
}

impl List {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut rows = rows(&self.registry, self.service.as_ref())?;
        if self.check {
            check(&mut rows);
        }
        if self.json {
            let json = serde_json::to_string_pretty(&rows)
                .map_err(|error| Failure::Running(error.to_string()))?;
            report::print(&format!("{json}\n"))?;
        } else if !rows.is_empty() {
            report::print(&table(&rows))?;
        }
        match self.service {
            Some(service) if rows.is_empty() => Err(none_registered(&self.registry, &service)),
            _ => all_reachable(&rows),
        }
    }
}

/// Several instances may have one address, which is dialled once.
fn check(rows: &mut [Row]) {
    let outcomes = reachable::try_all(rows.iter().map(|row| row.address.clone()).collect());
    for row in rows {
        let outcome = outcomes.get(&row.address);
        row.checked = outcome.map(|outcome| Checked::new(outcome, row.refreshed_s));
    }
}

/// What was not looked at counts as reachable.
fn all_reachable(rows: &[Row]) -> Result<(), Failure> {
    let is_out_of_reach = |row: &&Row| row.checked.as_ref().is_some_and(|seen| !seen.reachable);
    match (rows.iter().filter(is_out_of_reach).count(), rows.len()) {
        (0, _) => Ok(()),
        (n, all) => Err(Failure::Running(format!("{n} of {all} instances cannot be reached"))),
    }
}

impl Checked {
    fn new(outcome: &Outcome, refreshed_s: Option<i64>) -> Self {
        let took = outcome.as_ref().ok();
        Checked {
            reachable: took.is_some(),
            problem: outcome.as_ref().err().cloned(),
            connect_ms: took.map(|took| took.as_micros() as f64 / 1000.0),
            refreshed_s,
        }
    }

    fn cell(&self) -> String {
        match self.connect_ms {
            // No connect takes no time.
            Some(ms) => format!("yes, {:.1}ms", ms.max(0.1)),
            None => format!("no: {}", self.problem.as_deref().unwrap_or_default()),
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
            address,
            refreshed_s: entry.refreshed_s,
            checked: None,
        }),
    }
}

/// A column of the table.
struct Column {
    head: &'static str,
    /// Whether it is shown even if no row has anything there: most have neither a weight
    /// nor attributes, and a terminal has 80 columns.
    is_always_shown: bool,
    cell: fn(&Row) -> Option<String>,
}

const fn always(head: &'static str, cell: fn(&Row) -> Option<String>) -> Column {
    Column { head, is_always_shown: true, cell }
}

const fn where_any(head: &'static str, cell: fn(&Row) -> Option<String>) -> Column {
    Column { head, is_always_shown: false, cell }
}

const COLUMNS: [Column; 8] = [
    always("SERVICE", |row| Some(row.service.clone())),
    always("INSTANCE", |row| Some(row.instance.clone())),
    always("ADDRESS", |row| Some(row.address.to_string())),
    where_any("REACHABLE", |row| row.checked.as_ref().map(Checked::cell)),
    always("TTL", |row| row.ttl_s.map(|ttl_s| format!("{ttl_s}s"))),
    where_any("REFRESHED", |row| row.refreshed_s.map(|refreshed_s| format!("{refreshed_s}s ago"))),
    where_any("WEIGHT", |row| row.weight.map(|weight| weight.to_string())),
    where_any("ATTRIBUTES", Row::attributes),
];

fn table(rows: &[Row]) -> String {
    let has_any = |column: &&Column| rows.iter().any(|row| (column.cell)(row).is_some());
    let is_shown = |column: &&Column| column.is_always_shown || has_any(column);
    let columns: Vec<&Column> = COLUMNS.iter().filter(is_shown).collect();
    let heads = columns.iter().map(|column| column.head.to_owned()).collect();
    let cell = |column: &Column, row| (column.cell)(row).unwrap_or_else(|| "-".to_owned());
    let cells = |row| columns.iter().map(|column| cell(column, row)).collect();
    let rows = rows.iter().map(cells);
    super::table::table(&[heads].into_iter().chain(rows).collect::<Vec<Vec<String>>>())
}

impl Row {
    fn attributes(&self) -> Option<String> {
        let attributes: Vec<String> = self
            .attributes
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) => format!("{key}={text}"),
                value => format!("{key}={value}"),
            })
            .collect();
        (!attributes.is_empty()).then(|| attributes.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: Option<&str>) -> Entry {
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        Entry { key, value, ttl_s: Some(-3), refreshed_s: None }
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
