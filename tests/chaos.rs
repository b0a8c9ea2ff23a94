//! Everything goes wrong, and clients notice nothing but pauses.
//!
//! The real binary in all its roles, an etcd of three members, real redis servers as
//! containers of two hosts, and faults of all of these every second. Clients ask who they
//! have reached and keep what they saw; at the end that is held against what really was.
//!
//! `make chaos` runs it for 5 minutes, `make test` for half a minute. `CHAOS_SECONDS` and
//! `CHAOS_SEED` choose otherwise.

mod clients;
mod faults;
mod history;
mod machines;
mod registry;
mod usages;
mod verdict;
mod world;

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::clients::Clients;
use self::faults::Faults;
use self::registry::Recorder;
use self::usages::Usages;
use self::verdict::Verdict;
use self::world::World;
use crate::support::redis::ping;
use crate::support::upstream::registration;
use crate::support::within;

/// How long everything goes on after the last fault: longer than anything may take to
/// recover.
const AFTERMATH: Duration = Duration::from_secs(8);

#[test]
fn nothing_is_lost_while_everything_fails() {
    rage(false);
}

#[test]
#[ignore = "needs a Docker engine"]
fn nothing_is_lost_while_everything_but_the_engine_fails() {
    rage(true);
}

fn rage(is_engine_real: bool) {
    let seconds: u64 = setting("CHAOS_SECONDS").unwrap_or(30);
    let seed = setting("CHAOS_SEED").unwrap_or_else(|| Rng::new().u64(..));
    eprintln!("chaos: {seconds} s of faults, CHAOS_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut world = World::start(is_engine_real);
    // From here on every proxy knows every service.
    for door in world.doors() {
        ping(door.address).unwrap();
    }
    let began = Instant::now();
    let recorder = Recorder::start(world.cluster.addresses());
    let clients = Clients::start(&world.doors(), &mut rng);
    let mut usage = Usages::default();
    let mut faults = Faults::new(rng);
    while began.elapsed() < Duration::from_secs(seconds) {
        faults.step(&mut world);
        usage.look(&world);
        thread::sleep(Duration::from_millis(5));
    }
    let counts = faults.end(&mut world);
    let calm = Instant::now();
    world.wait_until_etcd_says_what_runs();
    thread::sleep(AFTERMATH.saturating_sub(calm.elapsed()));
    let visits = clients.stop();
    let writes = recorder.stop();
    let mut verdict = verdict::judge(&visits, &world.history, began);
    verdict.judge_writes(&writes, &world.keys(), &world.history, began);
    usage.look_at_the_end(&world);
    eprintln!("{}{usage}", table(&counts, &verdict));
    assert!(
        verdict.violations.is_empty(),
        "CHAOS_SEED={seed}: {} violations:\n{}\n\n{}",
        verdict.violations.len(),
        verdict.violations.join("\n"),
        world.story(began)
    );
    usage.check(&mut world);
    world.check_logs(counts.values().sum());
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}: a number is allowed")))
}

fn table(faults: &BTreeMap<String, usize>, verdict: &Verdict) -> String {
    let mut text = String::new();
    for (fault, count) in faults {
        writeln!(text, "{count:>8}  {fault}").unwrap();
    }
    writeln!(text, "{:>8}  faults in all\n", faults.values().sum::<usize>()).unwrap();
    for (what, count) in &verdict.counts {
        writeln!(text, "{count:>8}  {what}").unwrap();
    }
    writeln!(text, "{:>8}  connections in all", verdict.visits).unwrap();
    writeln!(text, "{:>8}  values written to etcd", verdict.writes).unwrap();
    writeln!(text, "{:>8}  MB came back as they were sent", verdict.bytes / 1_000_000).unwrap();
    writeln!(text, "{:>8}  ms was the longest hold", verdict.longest_hold.as_millis()).unwrap();
    writeln!(text, "{:>8}  violations", verdict.violations.len()).unwrap();
    text
}

impl World {
    /// Every container is registered at its address, and nothing else is.
    fn wait_until_etcd_says_what_runs(&self) {
        self.cluster.wait_until_whole();
        let etcd = self.cluster.member(0);
        for index in 0..self.places.len() {
            etcd.wait_for_value(&self.key(index), &registration(self.address(index)));
        }
        for service in world::SERVICES {
            let directory = format!("/services/{service}");
            let count = self.places.iter().filter(|place| place.service == service).count();
            within(Duration::from_secs(15), &format!("{count} entries in {directory}"), || {
                etcd.list(&directory).len() == count
            });
        }
    }

    /// Outages are told once, and nothing panicked.
    fn check_logs(&mut self, faults: usize) {
        let mut logs: Vec<Vec<String>> = self.proxies.iter().map(|proxy| proxy.log()).collect();
        logs.extend(self.places.iter().filter_map(|place| Some(place.registrar.as_ref()?.log())));
        logs.push(std::mem::take(&mut self.old_logs));
        for log in logs {
            let panics = log.iter().find(|line| line.contains("panicked"));
            assert_eq!(panics, None);
            let warnings = log.iter().filter(|line| line.starts_with("WARN")).count();
            let most = 20 + 4 * faults;
            assert!(
                warnings <= most,
                "{warnings} warnings in {faults} faults:\n{}",
                log.join("\n")
            );
        }
    }

    /// What really was, for whoever looks into a violation.
    fn story(&self, began: Instant) -> String {
        let mut text = String::new();
        let at = |at: Instant| format!("{:.3}", at.saturating_duration_since(began).as_secs_f64());
        let span = |span: &history::Span| {
            format!("{} to {}", at(span.from), span.until.map_or("the end".to_owned(), at))
        };
        for run in &self.history.runs {
            let away: Vec<String> = run.away.iter().map(span).collect();
            let (id, address, life) = (&run.id, run.address, span(&run.life));
            writeln!(text, "{id} at {address}: {life}, away {away:?}").unwrap();
        }
        for trouble in &self.history.troubles {
            writeln!(text, "{:?}: {}", trouble.scope, span(&trouble.span)).unwrap();
        }
        for proxy in &self.proxies {
            writeln!(text, "\nproxy:\n{}", proxy.log().join("\n")).unwrap();
        }
        text
    }
}
