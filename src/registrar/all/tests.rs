use serde_json::{Value, json};

use super::*;
use crate::{docker, registrar::wanted::Source};

/// A running container of `image`, published at `ports` ("80/tcp": host port).
fn container(name: &str, image: &str, ports: Value, labels: Value) -> Container {
    let published: serde_json::Map<String, Value> = ports
        .as_object()
        .unwrap()
        .iter()
        .map(|(port, host_port)| {
            let bindings = match host_port {
                Value::Null => Value::Null,
                host_port => json!([{"HostIp": "0.0.0.0", "HostPort": host_port.to_string()}]),
            };
            (port.clone(), bindings)
        })
        .collect();
    let inspected = json!({
        "Id": format!("id{name}"), "Name": format!("/{name}"),
        "State": {"Running": true, "StartedAt": "2026-11-22T00:00:00Z"},
        "Config": {"Image": image, "Labels": labels, "Env": ["SERVICE_REGION=eu"]},
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Ports": published, "Networks": {
            "back": {"IPAddress": "10.8.0.2"}, "bridge": {"IPAddress": "172.17.0.2"},
            "empty": {"IPAddress": ""},
        }},
    });
    serde_json::from_value(inspected).unwrap()
}

fn rules() -> Rules {
    let chosen = Some("172.17.8.102".parse().unwrap());
    let host_ip = HostIp { chosen, ..HostIp::default() };
    Rules { explicit: false, allowed: Vec::new(), reach: Reach::Published(host_ip) }
}

fn internal(network: Option<&str>) -> Rules {
    Rules { reach: Reach::Internal { network: network.map(str::to_owned) }, ..rules() }
}

/// "KEY VALUE" of what is registered, or the reason why not.
fn judge(rules: &Rules, formats: &[Format], containers: &[Container]) -> Vec<String> {
    let target = Target {
        prefix: "/services".parse().unwrap(),
        formats: formats.to_vec(),
        source: Source::Host { rules: rules.clone(), docker: docker::Address::default() },
    };
    let told = |judged: Judged| match judged.verdict {
        Verdict::Present { wanted, .. } => {
            wanted.into_iter().map(|w| format!("{} {}", w.key, w.value)).collect()
        }
        Verdict::Absent(why) => vec![format!("absent: {why}")],
        Verdict::Mistake(why) | Verdict::Unreachable(why) => vec![format!("mistake: {why}")],
        Verdict::NotYet => vec!["not yet".to_owned()],
    };
    target.judge(containers, "core-01").into_iter().flat_map(told).collect()
}

const REGISTRATOR: &[Format] = &[Format::Registrator];
const OURS: &[Format] = &[Format::Ambassador];

#[test]
fn keys_and_values_are_registrators_own() {
    let none = || json!({});
    for (container, entries) in [
        (
            container("redis.0", "redis:7", json!({"6379/tcp": 6379}), none()),
            vec!["/services/redis/core-01:redis.0:6379 172.17.8.102:6379"],
        ),
        (
            container("dns.0", "example.org/x/dns", json!({"53/tcp": 53, "53/udp": 53}), none()),
            vec![
                "/services/dns-53/core-01:dns.0:53 172.17.8.102:53",
                "/services/dns-53/core-01:dns.0:53:udp 172.17.8.102:53",
            ],
        ),
        (
            // Registrator adds the port to a name that was said of the whole container.
            container(
                "web.0",
                "web",
                json!({"80/tcp": 8080, "443/tcp": 8443, "9/tcp": null}),
                json!({"SERVICE_NAME": "front", "SERVICE_443_NAME": "secure"}),
            ),
            vec![
                "absent: container web.0 exposes 9/tcp and does not publish it",
                "/services/front-80/core-01:web.0:80 172.17.8.102:8080",
                "/services/secure/core-01:web.0:443 172.17.8.102:8443",
            ],
        ),
        (
            container("id", "web", json!({"80/tcp": 80}), json!({"SERVICE_ID": "the-id"})),
            vec!["/services/web/the-id 172.17.8.102:80"],
        ),
    ] {
        assert_eq!(judge(&rules(), REGISTRATOR, &[container]), entries);
    }
}

#[test]
fn words_are_attributes_of_our_own_format() {
    let labels = json!({"SERVICE_TAGS": "a,b", "SERVICE_80_WEIGHT": "5", "SERVICE_81_X": "y"});
    let web = container("web", "web", json!({"80/tcp": 8080, "53/udp": 53}), labels);
    assert_eq!(
        judge(&rules(), OURS, &[web]),
        [
            "absent: container web: 53/udp is written by --format registrator alone",
            r#"/services/web-80/core-01:web:80 { "port": 8080, "host": "172.17.8.102", "region": "eu", "tags": "a,b", "weight": 5 }"#,
        ]
    );
}

#[test]
fn what_is_left_out_says_by_which_rule() {
    let one = |image: &str, labels| container("c", image, json!({"80/tcp": 80}), labels);
    let explicit = Rules { explicit: true, ..rules() };
    let allowed = Rules { allowed: vec![WildMatch::new("web-*")], ..rules() };
    for (rules, container, reason) in [
        (
            rules(),
            one("web", json!({"SERVICE_IGNORE": "1"})),
            "absent: container c: 80/tcp is left out by label SERVICE_IGNORE",
        ),
        (
            rules(),
            one("web", json!({"SERVICE_80_IGNORE": "1"})),
            "left out by label SERVICE_80_IGNORE",
        ),
        (explicit.clone(), one("web", json!({})), "absent: container c: 80/tcp: no SERVICE_NAME"),
        (explicit, one("web", json!({"SERVICE_NAME": "a"})), "/services/a/"),
        (
            allowed.clone(),
            one("web", json!({})),
            "absent: container c: 80/tcp: service by image web: --allow-service",
        ),
        (
            allowed.clone(),
            one("web", json!({"SERVICE_NAME": "db"})),
            "mistake: container c: 80/tcp: service by label SERVICE_NAME: --allow-service does not allow db",
        ),
        (allowed, one("web", json!({"SERVICE_NAME": "web-1"})), "/services/web-1/"),
        (
            rules(),
            one("web", json!({"SERVICE_NAME": "../x"})),
            "mistake: container c: 80/tcp: service by label SERVICE_NAME: service '../x'",
        ),
        (
            rules(),
            one("web", json!({"SERVICE_ID": "a/b"})),
            "mistake: container c: 80/tcp: instance 'a/b'",
        ),
        (
            rules(),
            one("sha256:0123", json!({})),
            "mistake: container c: 80/tcp: image 'sha256:0123' has no name",
        ),
        (rules(), one("r:5000/a/web:7@sha256:0", json!({})), "/services/web/"),
        (
            rules(),
            one("web", json!({"SERVICE_X": "y".repeat(MAX_VALUE_BYTES)})),
            "mistake: container c: 80/tcp: its attributes make",
        ),
        (
            rules(),
            container("c", "web", json!({}), json!({})),
            "absent: container c neither publishes nor exposes a port",
        ),
    ] {
        let told = judge(&rules, OURS, &[container]);
        assert!(told.len() == 1 && told[0].contains(reason), "{reason}: {told:?}");
    }
}

#[test]
fn addresses_of_their_own_are_those_of_a_network() {
    let web = || container("c", "web", json!({"80/tcp": null}), json!({}));
    let value = |rules| judge(&rules, REGISTRATOR, &[web()]).remove(0);
    assert!(value(internal(None)).ends_with(" 172.17.0.2:80"));
    assert!(value(internal(Some("back"))).ends_with(" 10.8.0.2:80"));
    for network in ["empty", "none"] {
        let why = format!("absent: container c has no address in network {network}");
        assert_eq!(value(internal(Some(network))), why);
    }
}

#[test]
fn a_container_on_the_hosts_network_is_reached_at_its_host() {
    let inspected = json!({
        "Id": "ab", "Name": "/web", "State": {"Running": true}, "HostConfig": {"NetworkMode": "host"},
        "Config": {"Image": "web", "ExposedPorts": {"80/tcp": {}}},
        "NetworkSettings": {"Ports": {}, "Networks": {"host": {"IPAddress": ""}}},
    });
    let web: Container = serde_json::from_value(inspected).unwrap();
    let told = judge(&rules(), REGISTRATOR, &[web]);
    assert_eq!(told, ["/services/web/core-01:web:80 172.17.8.102:80"]);
}

#[test]
fn a_key_that_two_ask_for_is_of_who_started_last() {
    let asks = |name: &str, started_at: &str| {
        let mut container =
            container(name, "web", json!({"80/tcp": 80}), json!({"SERVICE_ID": "one"}));
        container.state.started_at = started_at.to_owned();
        container
    };
    let (early, late) = ("2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z");
    for (a, b, owner, other) in [(early, late, 1, 0), (late, early, 0, 1)] {
        let told = judge(&rules(), REGISTRATOR, &[asks("a", a), asks("b", b)]);
        assert_eq!(told[owner], "/services/web/one 172.17.8.102:80");
        assert!(told[other].contains("asks for /services/web/one, which is container"), "{told:?}");
    }
}

#[test]
fn what_cannot_be_used_is_not_registered() {
    for (state, why) in [
        (json!({"Running": true, "Paused": true}), "is paused"),
        (json!({"Running": true, "Restarting": true}), "is restarting"),
        (json!({"Running": false}), "is not running"),
        (json!({"Running": true, "Health": {"Status": "starting"}}), "has not passed"),
        (json!({"Running": true, "Health": {"Status": "unhealthy"}}), "is unhealthy"),
        (json!({"Running": true, "Health": {"Status": "healthy"}}), "/services/"),
        (json!({"Running": true, "Health": {"Status": "none"}}), "/services/"),
    ] {
        let mut container = container("c", "web", json!({"80/tcp": 80}), json!({}));
        container.state = serde_json::from_value(state).unwrap();
        let told = judge(&rules(), OURS, &[container]);
        assert!(told.len() == 1 && told[0].contains(why), "{why}: {told:?}");
    }
}
