//! The dashboard, as far as it can be judged without Grafana.

use std::collections::BTreeSet;

use serde_json::Value;

use super::read;

/// Of Grafana itself, without plugins.
const TYPES: [&str; 8] =
    ["row", "timeseries", "stat", "state-timeline", "gauge", "bargauge", "table", "text"];

/// As Grafana calls them (packages/grafana-data, valueFormats/categories.ts).
const UNITS: [&str; 7] = ["none", "s", "bytes", "Bps", "cps", "reqps", "percentunit"];

/// So many columns it has.
const WIDTH: u64 = 24;

pub(super) struct Dashboard(Value);

/// One query of a panel.
pub(super) struct Target {
    /// Where it is, for people.
    pub(super) place: String,
    pub(super) expression: String,
    /// The labels in its legend.
    pub(super) legend: Vec<String>,
}

impl Dashboard {
    pub(super) fn read() -> Dashboard {
        Dashboard(serde_json::from_str(&read("grafana/ambassador.json")).unwrap())
    }

    pub(super) fn panels(&self) -> &[Value] {
        self.0["panels"].as_array().unwrap()
    }

    fn variables(&self) -> &[Value] {
        self.0["templating"]["list"].as_array().unwrap()
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        let mut all = Vec::new();
        for panel in self.panels() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = |field: &str| target[field].as_str().unwrap().to_owned();
                let legend = text("legendFormat");
                let labels = legend.split("{{").skip(1);
                all.push(Target {
                    place: format!("{} {}", panel["title"], target["refId"]),
                    expression: text("expr"),
                    legend: labels.map(|it| it.split("}}").next().unwrap().to_owned()).collect(),
                });
            }
        }
        assert!(!all.is_empty());
        all
    }

    /// Of each variable that Prometheus is asked for: the series, and the label whose
    /// values are wanted.
    pub(super) fn label_values(&self) -> Vec<(String, String)> {
        let queries = self.variables().iter().filter(|it| it["type"] == "query").map(|variable| {
            let query = variable["query"]["query"].as_str().unwrap();
            let inner = query.strip_prefix("label_values(").and_then(|it| it.strip_suffix(')'));
            let (series, label) = inner.unwrap().rsplit_once(", ").unwrap();
            (series.to_owned(), label.to_owned())
        });
        queries.collect()
    }
}

/// `expression` with everything chosen, as Grafana would ask.
pub(super) fn with_all_chosen(expression: &str, rate_interval: &str) -> String {
    let chosen = expression.replace("$__rate_interval", rate_interval);
    ["job", "instance", "service"]
        .iter()
        .fold(chosen, |text, name| text.replace(&format!("\"${name}\""), "\".+\""))
}

#[test]
fn dashboard_is_as_grafanas_model_wants_it() {
    let dashboard = Dashboard::read();
    let Dashboard(all) = &dashboard;
    assert_eq!(all["schemaVersion"], 39);
    assert_eq!((&all["uid"], &all["title"]), (&"ambassador".into(), &"Ambassador".into()));
    // Grafana gives it one.
    assert_eq!(all["id"], Value::Null);
    let names: Vec<&Value> = dashboard.variables().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["datasource", "job", "instance", "service"]);
    assert_eq!(dashboard.variables()[0]["query"], "prometheus");
    let mut ids = BTreeSet::new();
    for panel in dashboard.panels() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "twice: {}", panel["id"]);
        let kind = panel["type"].as_str().unwrap();
        assert!(TYPES.contains(&kind), "{kind}");
        assert!(!panel["title"].as_str().unwrap().is_empty());
        if kind == "row" {
            continue;
        }
        assert!(panel["description"].as_str().unwrap().ends_with('.'), "{panel:#}");
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap();
        assert!(UNITS.contains(&unit), "{unit}");
        let targets = panel["targets"].as_array().unwrap();
        let letters: Vec<&str> = targets.iter().map(|it| it["refId"].as_str().unwrap()).collect();
        assert_eq!(letters, ["A", "B"][..targets.len()], "{panel:#}");
        for asked in targets.iter().chain([panel]) {
            assert_eq!(asked["datasource"]["uid"], "${datasource}", "{panel:#}");
            assert_eq!(asked["datasource"]["type"], "prometheus", "{panel:#}");
        }
    }
    for variable in &dashboard.variables()[1..] {
        assert_eq!(variable["datasource"]["uid"], "${datasource}", "{variable:#}");
        assert_eq!((&variable["includeAll"], &variable["allValue"]), (&true.into(), &".+".into()));
    }
}

#[test]
fn panels_are_within_the_dashboard_and_cover_nobody() {
    let dashboard = Dashboard::read();
    let places = dashboard.panels().iter().map(|panel| {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        let (x, y, w, h) = (side("x"), side("y"), side("w"), side("h"));
        assert!(w > 0 && h > 0 && x + w <= WIDTH, "{panel:#}");
        (x..x + w, y..y + h, &panel["title"])
    });
    let places: Vec<_> = places.collect();
    for (index, (columns, lines, title)) in places.iter().enumerate() {
        for (other_columns, other_lines, other) in &places[..index] {
            let overlap = |a: &std::ops::Range<u64>, b: &std::ops::Range<u64>| {
                a.start < b.end && b.start < a.end
            };
            let is_covered = overlap(columns, other_columns) && overlap(lines, other_lines);
            assert!(!is_covered, "{title} covers {other}");
        }
    }
    let area: u64 = places.iter().map(|(x, y, _)| (x.end - x.start) * (y.end - y.start)).sum();
    let height = places.iter().map(|(_, lines, _)| lines.end).max().unwrap();
    assert_eq!(area, WIDTH * height, "there is a hole");
}
