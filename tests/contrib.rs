//! `contrib/`: the alerts and the dashboard, held against what running ambassadors expose
//! and what Prometheus makes of it.

mod dashboard;
mod promql;

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::ambassador::{Ambassador, ambassador};
use crate::support::client::{connect, open_connection};
use crate::support::etcd;
use crate::support::fake_docker::{Container, FakeDocker};
use crate::support::prometheus::{self, Prometheus, complaints};
use crate::support::upstream::Upstream;
use crate::support::{eventually, http, temp_dir, unique_prefix};
use dashboard::{Dashboard, Target, with_all_chosen};
use promql::{Asked, Exposed};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

/// A proxy, a forward and a registrar that are well, and have something to tell.
struct Running {
    proxy: Ambassador,
    forward: Ambassador,
    registrar: Ambassador,
    upstream: Upstream,
    _clients: [TcpStream; 2],
    _docker: FakeDocker,
}

impl Running {
    fn start() -> Running {
        let (etcd, prefix) = (etcd::shared(), unique_prefix());
        let (upstream, docker) = (Upstream::echo(), FakeDocker::start());
        etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
        docker.run(Container::named("db").publishes(5432, &[("10.1.0.1", 49155)]));
        let of_etcd = ["--etcd", &etcd.url(), "--prefix", &prefix];
        let start = |role: &str, words: &[&str]| {
            ambassador([role, "--admin", "127.0.0.1:0"].iter().chain(words)).start()
        };
        let to = upstream.address().to_string();
        let proxy = start("proxy", &[&of_etcd[..], &["redis-A", "127.0.0.1:0"]].concat());
        let forward = start("forward", &["--listen", "127.0.0.1:0", &to]);
        let of_docker = ["--docker", &docker.address(), "db", "5432", "db"];
        let registrar = start("register", &[&of_etcd[..], &of_docker].concat());
        // The proxy holds its client until there is an instance.
        let clients = [proxy.address_of("redis-A"), forward.address_of(&to)].map(open_connection);
        let running =
            Running { proxy, forward, registrar, upstream, _clients: clients, _docker: docker };
        for (_, admin) in running.admins() {
            eventually("it is ready", || get(admin, "/readyz").status == 200);
        }
        running
    }

    fn admins(&self) -> [(&'static str, SocketAddr); 3] {
        let Running { proxy, forward, registrar, .. } = self;
        [("proxy", proxy), ("forward", forward), ("registrar", registrar)]
            .map(|(role, ambassador)| (role, ambassador.address_of("admin")))
    }

    fn exposed(&self) -> Exposed {
        let mut exposed = Exposed::default();
        for (_, admin) in self.admins() {
            exposed.add(&get(admin, "/metrics").body);
        }
        exposed
    }

    /// Scrapes them by the example in `contrib/`, only more often.
    fn scraped(&self) -> Prometheus {
        let mut config = read("prometheus/scrape.yml");
        let targets = self.admins().map(|(_, admin)| admin.to_string()).join(", ");
        let alerts = path("prometheus/alerts.yml").display().to_string();
        for (from, to) in [("127.0.0.1:9900", &targets[..]), ("15s", "300ms")] {
            assert!(config.contains(from), "no {from} in {config}");
            config = config.replace(from, to);
        }
        assert!(config.contains("- alerts.yml"), "{config}");
        let prometheus = Prometheus::start(&config.replace("- alerts.yml", &format!("- {alerts}")));
        // It takes up its first targets 5 s after it was started. A rate needs two scrapes.
        eventually("all were scraped twice", || {
            prometheus.query("count_over_time(ambassador_ready[1m]) >= 2").len() == 3
        });
        prometheus
    }
}

fn get(admin: SocketAddr, path: &str) -> http::Answer {
    http::ask(connect(admin).unwrap(), "GET", path, None).unwrap()
}

#[test]
fn metrics_of_each_role_please_promtool() {
    if !prometheus::is_there("contrib") {
        return;
    }
    let running = Running::start();
    let dir = temp_dir("metrics");
    for (role, admin) in running.admins() {
        let answer = get(admin, "/metrics");
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert!(answer.body.contains("\nambassador_ready 1\n"), "{}", answer.body);
        let file = dir.join(role);
        fs::write(&file, &answer.body).unwrap();
        assert_eq!(complaints(&["check", "metrics"], &file), "", "{role}");
    }
}

#[test]
fn configuration_and_alerts_are_valid_and_each_alert_fires_and_is_quiet() {
    if !prometheus::is_there("contrib") {
        return;
    }
    for (words, name) in [
        (&["check", "config"][..], "prometheus/scrape.yml"),
        (&["check", "rules"], "prometheus/alerts.yml"),
        (&["test", "rules"], "prometheus/alerts_test.yml"),
    ] {
        let file = path(name);
        let words: Vec<&str> = words.iter().copied().chain(file.to_str()).collect();
        assert_eq!(complaints(&words, &file), "", "{name}");
    }
    let (rules, tests) = (read("prometheus/alerts.yml"), read("prometheus/alerts_test.yml"));
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        for outcome in ["fires", "is quiet"] {
            let name = format!("- name: {alert} {outcome} ");
            assert!(tests.contains(&name), "no test: {name}");
        }
    }
}

#[test]
fn prometheus_scrapes_what_the_alerts_ask_for_and_none_fires_while_all_is_well() {
    if !prometheus::is_there("contrib") {
        return;
    }
    let running = Running::start();
    let prometheus = running.scraped();
    let [(_, admin), ..] = running.admins();
    assert_eq!(
        prometheus.query(r#"ambassador_instance_registered{service="redis-A"}"#),
        [json!({
            "__name__": "ambassador_instance_registered",
            "job": "ambassador",
            "instance": admin.to_string(),
            "service": "redis-A",
            "upstream": running.upstream.address().to_string(),
        })]
    );
    // What Prometheus makes of a label that it has itself.
    assert_eq!(
        prometheus.query(r#"{exported_instance!=""} or {exported_job!=""}"#),
        Vec::<Value>::new()
    );
    let rules = || prometheus.ask("/rules")["groups"][0]["rules"].as_array().unwrap().clone();
    eventually("all alerts are quiet", || {
        rules().iter().all(|rule| rule["health"] == "ok" && rule["state"] == "inactive")
    });
    let exposed = running.exposed();
    let tests = read("prometheus/alerts_test.yml");
    for rule in rules() {
        let [alert, query, severity, summary, description] = [
            "/name",
            "/query",
            "/labels/severity",
            "/annotations/summary",
            "/annotations/description",
        ]
        .map(|place| rule.pointer(place).and_then(Value::as_str).unwrap().to_owned());
        assert_eq!(exposed.missing(&query), Vec::<String>::new(), "{alert}: {query}");
        assert!(["critical", "warning"].contains(&&severity[..]), "{alert}: {severity}");
        assert!(rule["duration"].as_f64().unwrap() >= 60.0, "{alert}");
        let is_advice =
            ["`ambassador ", "scrape_configs"].iter().any(|it| description.contains(it));
        assert!(is_advice, "{alert} does not say what to do: {description}");
        // What its words name, it has wherever it fires.
        let words = format!("{summary} {description}");
        let named: BTreeSet<&str> = words
            .split("$labels.")
            .skip(1)
            .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
            .collect();
        let series = tests.split('\'').filter(|it| it.starts_with("ALERTS{"));
        let fired: Vec<Asked> = series.map(Asked::of).collect();
        let mut fired = fired.iter().map(Asked::labels).filter(|it| it["alertname"] == alert);
        assert!(
            fired.all(|labels| named.iter().all(|name| labels.contains_key(name))),
            "{alert} has not all of {named:?}"
        );
    }
}

#[test]
fn every_query_of_the_dashboard_is_promql() {
    if !prometheus::is_there("contrib") {
        return;
    }
    let targets = Dashboard::read().targets();
    let rule = |(index, target): (usize, &Target)| {
        let expr = with_all_chosen(&target.expression, "5m");
        assert!(!expr.contains('$'), "an unknown variable: {expr}");
        json!({"record": format!("target:{index}"), "expr": expr})
    };
    let rules: Vec<Value> = targets.iter().enumerate().map(rule).collect();
    let file = temp_dir("dashboard").join("rules.yml");
    // JSON is YAML too.
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(&file, groups.to_string()).unwrap();
    assert_eq!(complaints(&["check", "rules", file.to_str().unwrap()], &file), "");
}

#[test]
fn every_panel_shows_something_of_ambassadors_that_run() {
    if !prometheus::is_there("contrib") {
        return;
    }
    let running = Running::start();
    let (prometheus, exposed, dashboard) =
        (running.scraped(), running.exposed(), Dashboard::read());
    for (series, label) in dashboard.label_values() {
        assert_eq!(exposed.missing(&series), Vec::<String>::new());
        let found = prometheus.query(&with_all_chosen(&series, ""));
        assert!(found.iter().any(|labels| labels[&label].is_string()), "{series} has no {label}");
    }
    for Target { place, expression, legend } in dashboard.targets() {
        assert_eq!(exposed.missing(&expression), Vec::<String>::new(), "{place}");
        let found = prometheus.query(&with_all_chosen(&expression, "1m"));
        assert!(!found.is_empty(), "{place} shows nothing: {expression}");
        for labels in found {
            let is_there = |label: &String| labels[label].is_string();
            assert!(legend.iter().all(is_there), "{place}: {legend:?} of {labels}");
        }
    }
}
