//! The fake engine where no real one is compared with it: versions that cannot be run
//! here, and many containers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::engine::get_from;
use crate::support::engine_events::Events;
use crate::support::fake_docker::{Container, FakeDocker, Version};

fn playing(version: Version) -> FakeDocker {
    let docker = FakeDocker::start();
    docker.set_version(version);
    docker
}

fn get(docker: &FakeDocker, target: &str) -> Value {
    get_from(docker.socket().to_str().unwrap(), target).unwrap()
}

#[test]
fn docker_29_lists_the_health_and_has_addresses_in_networks_only() {
    let docker = playing(Version::V29);
    docker.run(Container::named("web").with_healthcheck());
    docker.run(Container::named("db").network("backend", "10.0.0.7"));
    docker.set_health("web", "unhealthy");
    let settings = &get(&docker, "/containers/web/json")["NetworkSettings"];
    assert_eq!(settings.get("IPAddress"), None, "{settings}");
    assert_eq!(settings["Networks"]["bridge"]["IPAddress"], "172.17.0.2");
    let listed = get(&docker, "/containers/json");
    assert_eq!(listed[0]["Health"], json!({"Status": "none", "FailingStreak": 0}));
    assert_eq!(listed[1]["Health"], json!({"Status": "unhealthy", "FailingStreak": 1}));
}

#[test]
fn podman_names_without_a_slash_and_lists_no_paused_container() {
    let docker = playing(Version::Podman);
    docker.run(Container::named("web"));
    docker.run(Container::named("db"));
    docker.pause("db");
    let inspected = get(&docker, "/containers/web/json");
    assert_eq!(inspected["Name"], "web");
    let started = inspected["State"]["StartedAt"].as_str().unwrap();
    assert!(started.ends_with("+01:00"), "{started}");
    let listed = get(&docker, "/containers/json");
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed[0]["Names"], json!(["/web"]));
}

#[test]
fn podman_tells_of_the_end_in_words_of_its_own() {
    let docker = playing(Version::Podman);
    let web = Container::named("web").with_healthcheck();
    let id = web.id().to_owned();
    docker.run(web);
    let events = Events::follow(docker.socket().to_str().unwrap());
    docker.set_health("web", "healthy");
    docker.connect_network("web", "backend", "10.0.0.7");
    docker.kill("web");
    docker.remove("web");
    events.wait_for(&id, "remove");
    // Those of networks too: they are told as if they were the container's.
    let events: Vec<_> = events.of(&id).into_iter().map(|(_, event)| event).collect();
    let actions: Vec<_> = events.iter().map(|event| event["Action"].as_str().unwrap()).collect();
    let ended = ["disconnect", "disconnect", "remove"];
    assert_eq!(actions, [&["health_status", "connect", "kill", "died"][..], &ended].concat());
    assert_eq!(events[0]["HealthStatus"], "healthy");
    let attributes = &events[2]["Actor"]["Attributes"];
    assert_eq!(attributes.get("signal"), None, "{attributes}");
}

#[test]
fn five_hundred_containers_are_listed_and_inspected_within_a_moment() {
    let docker = FakeDocker::start();
    let containers = (0..500).map(|number| Container::named(&format!("web-{number}")));
    docker.run_many(containers.collect());
    let start = Instant::now();
    let listed = get(&docker, "/containers/json");
    let ids = listed.as_array().unwrap().iter().map(|container| container["Id"].as_str().unwrap());
    for id in ids {
        assert_eq!(get(&docker, &format!("/containers/{id}/json"))["Id"], id);
    }
    assert_eq!(get(&docker, "/info")["ContainersRunning"], 500);
    // Hundreds of connections on a busy machine; a list for every answer would take minutes.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(docker.requests().len(), 502);
}
