//! What the comparison of the engines reads of what they say.

use serde_json::{Value, json};

use crate::support::engine;
use crate::support::engine_events::Events;
use crate::support::http::percent_encode;

/// What is read of an inspected container, without what differs from one start to the next.
fn read_of_inspect(inspected: &Value, name: &str) -> Value {
    let mut ports = inspected["NetworkSettings"]["Ports"].clone();
    for bindings in ports.as_object_mut().unwrap().values_mut() {
        for binding in bindings.as_array_mut().into_iter().flatten() {
            let port = binding["HostPort"].take();
            assert!(port.as_str().unwrap().parse::<u16>().is_ok_and(|port| port > 0), "{port}");
        }
    }
    let state = &inspected["State"];
    let config = &inspected["Config"];
    // Docker was seen to turn their order round.
    let mut variables = config["Env"].as_array().unwrap().clone();
    variables.sort_by_key(|variable| variable.as_str().unwrap().to_owned());
    let settings = &inspected["NetworkSettings"];
    json!({
        "id": inspected["Id"].as_str().unwrap().len(),
        "name": inspected["Name"].as_str().unwrap().replace(name, "NAME"),
        "status": state["Status"],
        "state": [state["Running"], state["Paused"], state["Restarting"], state["ExitCode"]],
        "health": read_of_health(&state["Health"]),
        "started": state["StartedAt"].as_str().is_some_and(|at| at.ends_with('Z')),
        "stop": [config.get("StopSignal"), config.get("StopTimeout")],
        "config": [config["Image"], config["Labels"], variables, config["ExposedPorts"]],
        "healthcheck": config["Healthcheck"].is_object(),
        "ports": ports,
        "mode": inspected["HostConfig"]["NetworkMode"],
        "networks": read_of_networks(&settings["Networks"]),
        "address": [is_filled(&settings["IPAddress"]), is_filled(&settings["Gateway"])],
    })
}

/// What is read of one element of a list.
pub(super) fn read_of_list(listed: &Value, name: &str) -> Value {
    let mut ports = listed["Ports"].as_array().unwrap().clone();
    ports.iter_mut().for_each(|port| drop(port["PublicPort"].take()));
    ports.sort_by_key(|port| port["PrivatePort"].as_u64());
    let names = listed["Names"].as_array().unwrap().iter();
    let names = names.map(|listed| listed.as_str().unwrap().replace(name, "NAME"));
    json!({
        "names": names.collect::<Vec<_>>(),
        "state": listed["State"], "status": without_time(listed["Status"].as_str().unwrap()),
        "health": listed["Health"]["Status"],
        "image": listed["Image"], "labels": listed["Labels"], "ports": ports,
        "mode": listed["HostConfig"]["NetworkMode"],
        "networks": read_of_networks(&listed["NetworkSettings"]["Networks"]),
    })
}

/// `Up (healthy)` of `Up 2 minutes (healthy)`, and `Exited (0)` of `Exited (0) 2 minutes ago`.
fn without_time(status: &str) -> String {
    let (first, rest) = status.split_once(' ').unwrap();
    match rest.find('(') {
        Some(start) => format!("{first} {}", &rest[start..=rest.find(')').unwrap()]),
        None => first.to_owned(),
    }
}

/// How often the last check failed is a matter of time.
fn read_of_health(health: &Value) -> Value {
    let failed = health["FailingStreak"].as_u64().map(|streak| streak > 0);
    json!([health["Status"], failed, health["Log"].is_array()])
}

fn read_of_networks(networks: &Value) -> Value {
    let networks = networks.as_object().unwrap().iter();
    let read = networks.map(|(name, network)| {
        json!([name, is_filled(&network["IPAddress"]), network["GlobalIPv6Address"]])
    });
    read.collect()
}

/// `None` when it is missing.
fn is_filled(text: &Value) -> Option<bool> {
    text.as_str().map(|text| !text.is_empty())
}

/// What is read of an event, and which other fields it has.
fn read_of_event(event: &Value, name: &str) -> Value {
    let mut attributes = event["Actor"]["Attributes"].clone();
    for key in ["name", "oldName"] {
        if let Some(text) = attributes[key].as_str() {
            attributes[key] = text.replace(name, "NAME").into();
        }
    }
    if attributes.get("execDuration").is_some() {
        attributes["execDuration"] = json!("");
    }
    let mut fields: Vec<_> = event.as_object().unwrap().keys().collect();
    fields.sort();
    json!({
        "type": event["Type"], "action": event["Action"], "attributes": attributes,
        "fields": fields,
    })
}

/// What is read of an event of a network that `id` enters or leaves.
fn read_of_network_event(event: &Value, name: &str, id: &str) -> Value {
    let mut read = read_of_event(event, name);
    assert_eq!(read["attributes"]["container"].take(), id, "{event}");
    assert_eq!(event["Actor"]["ID"].as_str().map(str::len), Some(64), "{event}");
    read
}

/// Does one step of a story, by the real engine's command line or the fake's methods.
pub(super) type Step<'a> = dyn Fn(&str) + 'a;

/// Goes through the story and tells what could be seen of it.
pub(super) fn seen(socket: &str, name: &str, story: &[&str], step: &Step<'_>) -> Vec<Value> {
    let events = Events::follow(socket);
    let mut seen = Vec::new();
    let mut id = String::new();
    for verb in story {
        step(verb);
        let target = format!("/containers/{}/json", if id.is_empty() { name } else { &id });
        let answer = engine::get_from(socket, &target).unwrap();
        if let Some(found) = answer["Id"].as_str() {
            id = found.to_owned();
            let filters = percent_encode(&format!(r#"{{"id":["{id}"]}}"#));
            let target = format!("/containers/json?all=true&filters={filters}");
            let listed = engine::get_from(socket, &target).unwrap();
            let listed = read_of_list(&listed[0], name);
            seen.push(json!([verb, read_of_inspect(&answer, name), listed]));
        } else {
            let message = answer["message"].as_str().unwrap();
            seen.push(json!([verb, message.replace(&id, "ID")]));
        }
    }
    events.wait_for(&id, "destroy");
    // Each check is an event as well, of which the fake says nothing.
    let told = events.of(&id).into_iter().map(|(_, event)| event);
    let told = told.filter(|event| !event["Action"].as_str().unwrap().starts_with("exec_"));
    seen.extend(told.map(|event| read_of_event(&event, name)));
    let mut of_networks = events.of_networks(&id);
    // `docker network disconnect` is told of twice, by the real one.
    of_networks.dedup_by_key(|event| [event["Action"].clone(), event["Actor"].clone()]);
    let of_networks = of_networks.iter().map(|event| read_of_network_event(event, name, &id));
    let mut of_networks: Vec<_> = of_networks.collect();
    // A start or an end takes the networks in any order.
    of_networks.sort_by_key(Value::to_string);
    seen.extend(of_networks);
    seen
}

#[track_caller]
pub(super) fn assert_same(played: &[Value], real: &[Value]) {
    for (real, played) in real.iter().zip(played) {
        assert_eq!(played, real, "on the left what the fake says");
    }
    assert_eq!(played.len(), real.len(), "{real:#?}");
}
