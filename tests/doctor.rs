//! `doctor`: what a host lacks is found and said, and nothing is changed.

mod docker;
mod etcd;
mod host;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::ambassador::{Ended, Launch, ambassador};
use crate::support::etcd::{self as real_etcd, Etcd};
use crate::support::fake_docker::{Container, FakeDocker};
use crate::support::{refusing_address, temp_dir};

/// Longest run, whatever is silent, and what a busy machine adds to it.
const LONGEST: Duration = Duration::from_secs(12);

/// What a run printed as JSON.
struct Report {
    ended: Ended,
    findings: Vec<Value>,
}

/// One finding of a report.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    state: String,
    text: String,
    advice: Option<String>,
}

impl Report {
    /// Of `LAUNCH --json`, which must end in time.
    #[track_caller]
    fn of(launch: Launch) -> Report {
        let started = Instant::now();
        let ended = launch.arg("--json").run_within(LONGEST * 2);
        assert!(started.elapsed() < LONGEST, "{:?}: {ended:?}", started.elapsed());
        assert_eq!(ended.stderr, "", "{ended:?}");
        let findings: Vec<Value> = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        let report = Report { ended, findings };
        let fails = report.states().contains(&"FAIL");
        assert_eq!(report.ended.code, Some(i32::from(fails)), "{:?}", report.ended);
        report
    }

    fn states(&self) -> Vec<&str> {
        self.findings.iter().map(|finding| finding["state"].as_str().unwrap()).collect()
    }

    #[track_caller]
    fn found(&self, check: &str) -> Found {
        let finding = self.findings.iter().find(|finding| finding["check"] == check);
        let finding = finding.unwrap_or_else(|| panic!("no {check} in {:#?}", self.findings));
        let text = |name: &str| finding[name].as_str().map(str::to_owned);
        let (state, found) = (text("state").unwrap(), text("finding").unwrap());
        Found { state, text: found, advice: text("advice") }
    }

    /// The finding has that state, every word of `words`, and advice with each of `advice`.
    #[track_caller]
    fn assert(&self, check: &str, state: &str, words: &[&str], advice: &[&str]) {
        let found = self.found(check);
        assert_eq!(found.state, state, "{found:?}");
        assert!(words.iter().all(|word| found.text.contains(word)), "{words:?}: {found:?}");
        assert_eq!(found.advice.is_none(), state == "ok", "{found:?}");
        let said = found.advice.as_deref().unwrap_or_default();
        assert!(advice.iter().all(|word| said.contains(word)), "{advice:?}: {found:?}");
    }
}

/// `doctor --etcd ETCD --docker DOCKER --host-ip 10.0.0.7`, whatever this machine has.
fn doctor(etcd: &str, docker: &str) -> Launch {
    ambassador(["doctor", "--etcd", etcd, "--docker", docker, "--host-ip", "10.0.0.7"])
}

/// With an etcd of which nothing is expected.
fn without_etcd(docker: &str) -> Launch {
    doctor(&refusing_address().to_string(), docker)
}

#[test]
fn all_is_well_where_everything_is_there_and_nothing_is_changed() {
    let (etcd, docker) = (Etcd::start(), FakeDocker::start());
    etcd.put("/services/redis-A/one", "10.0.0.1:6379");
    docker.run(Container::named("redis.service"));
    let before = etcd.position(LONGEST).unwrap();
    let launch = || doctor(&etcd.url(), &docker.address());
    let report = Report::of(launch());
    assert_eq!(report.states(), ["ok"; 5], "{:#?}", report.findings);
    report.assert("docker", "ok", &["Docker fake", "API 1.41", "running: 1"], &[]);
    let api = real_etcd::Api::of_tests().name();
    let check = format!("etcd {}", etcd.url());
    report.assert(&check, "ok", &["3.", "a quorum answers", &format!("API {api}")], &[]);
    report.assert("clock", "ok", &["agrees"], &[]);
    report.assert("host address", "ok", &["10.0.0.7", "--host-ip"], &[]);
    report.assert("connections", "ok", &["2048"], &[]);
    assert_eq!(etcd.position(LONGEST).unwrap(), before, "something was written");
    assert!(docker.requests().iter().all(|line| line.starts_with("GET /")));

    let ended = launch().run();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(lines.len(), 5, "{}", ended.stdout);
    let checks = ["docker ", &check, "clock ", "host address ", "connections "];
    for (line, check) in lines.iter().zip(checks) {
        assert!(line.starts_with(&format!("ok    {check}")), "{}", ended.stdout);
    }
}

#[test]
fn json_has_the_four_fields_of_every_finding_in_their_order() {
    let report = Report::of(without_etcd("unix:///no/such.sock"));
    for finding in &report.findings {
        let fields: Vec<_> = finding.as_object().unwrap().keys().collect();
        assert_eq!(fields.len(), 4, "{finding}");
    }
    let first = report.ended.stdout.split('}').next().unwrap();
    let order =
        ["check", "state", "finding", "advice"].map(|field| first.find(&format!("\"{field}\"")));
    assert!(order.is_sorted() && order[0].is_some(), "{first}");
    assert_eq!(report.findings[0]["finding"], json!("no socket at /no/such.sock"));
}

#[test]
fn what_is_wrong_stands_in_80_columns_with_what_to_do_below_it() {
    let ended = without_etcd("unix:///no/such.sock").run();
    assert_eq!((ended.code, &*ended.stderr), (Some(1), ""), "{ended:?}");
    assert!(ended.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ended.stdout);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "FAIL  docker        no socket at /no/such.sock");
    assert!(lines[1].starts_with("      start Docker"), "{}", ended.stdout);
    assert!(lines.iter().any(|line| line.starts_with("FAIL  etcd http://127.")), "{ended:?}");
}

#[test]
fn wrong_words_are_wrong_usage_and_ask_nobody() {
    let docker = FakeDocker::start();
    let missing = temp_dir("missing").join("ca.pem").display().to_string();
    let cases: &[(&[&str], &str)] = &[
        (&["redis-A"], "redis-A"),
        (&["--frobnicate"], "--frobnicate"),
        (&["--docker", "http://10.0.0.1"], "--docker"),
        (&["--host-ip", "0.0.0.0"], "--host-ip"),
        (&["--interface", "lo"], "exclude each other"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--etcd", "htp://a"], "--etcd"),
        (&["--etcd-user", "app"], "password"),
        (&["--etcd", "https://10.0.0.1", "--etcd-cacert", &missing], &missing),
    ];
    for (words, named) in cases {
        let ended = without_etcd(&docker.address()).args(*words).run();
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{words:?}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{words:?}: {ended:?}");
        assert!(ended.stderr.contains(named), "{words:?}: {ended:?}");
    }
    for (variable, value) in [("HOST_IP", "nonsense"), ("AMBASSADOR_ETCD_API", "v4")] {
        let ended = without_etcd(&docker.address()).env(variable, value).run();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(variable), "{ended:?}");
    }
    let ended = ambassador(["doctor"]).env("DOCKER_HOST", "ssh://a").run();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(docker.requests(), Vec::<String>::new());
}
