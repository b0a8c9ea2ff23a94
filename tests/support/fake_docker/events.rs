//! What the fake engine tells as it happens, and to whom.

use serde_json::{Map, Value, json};

use super::answers::network_id;
use super::clock::Time;
use super::container::Container;
use super::version::Version;

/// An event of a container.
pub(super) fn of_container(
    container: &Container,
    version: Version,
    action: &str,
    more: &[(&str, &str)],
) -> Value {
    let mut attributes = Map::new();
    for (key, value) in more {
        attributes.insert((*key).to_owned(), json!(value));
    }
    // The labels of the container hide what an event has to say under the same names,
    // all but these two.
    for (key, value) in &container.labels {
        attributes.insert(key.clone(), json!(value));
    }
    attributes.insert("image".to_owned(), json!(container.image));
    attributes.insert("name".to_owned(), json!(container.name));
    if version == Version::Podman {
        attributes.insert("podId".to_owned(), json!(""));
    }
    let mut event = event("container", action, &container.id, attributes);
    if version != Version::V29 {
        event["status"] = json!(action);
        event["id"] = json!(container.id);
        event["from"] = json!(container.image);
    }
    event
}

/// What `health_status` tells.
pub(super) fn of_health(container: &Container, version: Version, health: &str) -> Value {
    if version == Version::Podman {
        let mut event = of_container(container, version, "health_status", &[]);
        event["HealthStatus"] = json!(health);
        return event;
    }
    of_container(container, version, &format!("health_status: {health}"), &[])
}

/// An event of the network `name` that `container` enters or leaves.
pub(super) fn of_network(
    container: &Container,
    version: Version,
    action: &str,
    name: &str,
) -> Value {
    let mut attributes = Map::new();
    if version == Version::Podman {
        attributes.insert("image".to_owned(), json!(""));
        attributes.insert("name".to_owned(), json!(container.name));
        attributes.insert("network".to_owned(), json!(name));
        attributes.insert("podId".to_owned(), json!(""));
        return event("network", action, &container.id, attributes);
    }
    let driver = if name == "host" { "host" } else { "bridge" };
    attributes.insert("container".to_owned(), json!(container.id));
    attributes.insert("name".to_owned(), json!(name));
    attributes.insert("type".to_owned(), json!(driver));
    event("network", action, &network_id(name), attributes)
}

fn event(kind: &str, action: &str, id: &str, attributes: Map<String, Value>) -> Value {
    let Time { seconds, nanos } = Time::now();
    json!({
        "Type": kind, "Action": action, "Actor": {"ID": id, "Attributes": attributes},
        "scope": "local", "time": seconds, "timeNano": seconds * 1_000_000_000 + nanos,
    })
}

/// Whether `filters` of `/events` let `event` through.
pub(super) fn passes(event: &Value, filters: &Value) -> bool {
    let has = |filter: &str, matches: &dyn Fn(&str) -> bool| {
        let wanted = filter_values(filters, filter);
        wanted.is_empty() || wanted.iter().any(|value| matches(value))
    };
    let attributes = &event["Actor"]["Attributes"];
    let name = attributes["name"].as_str().unwrap_or("");
    let action = event["Action"].as_str().unwrap();
    let id = event["Actor"]["ID"].as_str().unwrap();
    has("type", &|wanted| event["Type"] == *wanted)
        && has("event", &|wanted| action == wanted || action.split(':').next() == Some(wanted))
        && has("container", &|wanted| id.starts_with(wanted) || name.starts_with(wanted))
        && has_labels(attributes, filters)
}

/// Whether `labels` has everything that the filter `label` asks for, `key` or `key=value`.
pub(super) fn has_labels(labels: &Value, filters: &Value) -> bool {
    filter_values(filters, "label").iter().all(|wanted| match wanted.split_once('=') {
        Some((key, value)) => labels[key] == *value,
        None => labels.get(wanted).is_some(),
    })
}

/// The values of one filter, in its new form (a list) or its old one (a map).
pub(super) fn filter_values(filters: &Value, filter: &str) -> Vec<String> {
    match &filters[filter] {
        Value::Array(values) => values.iter().map(|v| v.as_str().unwrap().to_owned()).collect(),
        Value::Object(values) => values.keys().cloned().collect(),
        _ => Vec::new(),
    }
}
