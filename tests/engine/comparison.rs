//! The fake engine says what the real one says.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::reading::{assert_same, read_of_list, seen};
use crate::support::engine::{self, Network, RedisContainer, docker};
use crate::support::fake_docker::{Container, FakeDocker, Version};
use crate::support::http::percent_encode;
use crate::support::redis::ping;
use crate::support::{eventually, fresh_ip, proceed_after};

/// A fake engine of the version of the real one.
fn fake_docker() -> FakeDocker {
    let api = engine::get("/version")["ApiVersion"].as_str().unwrap().to_owned();
    let minor: u32 = api.split('.').next_back().unwrap().parse().unwrap();
    let fake = FakeDocker::start();
    fake.set_version(match minor {
        ..45 => Version::V20,
        45..52 => Version::V28,
        52.. => Version::V29,
    });
    fake
}

/// What every container of the fake has.
const SECRET: &str = "--env=SECRET=do-not-log";

/// What every container goes through.
const LIFE: [&str; 13] = [
    "run",
    "hangup",
    "restart",
    "pause",
    "unpause",
    "rename",
    "rename back",
    "stop",
    "start",
    "kill",
    "start",
    "kill gone",
    "remove",
];

#[test]
#[ignore = "needs a Docker engine"]
fn fake_docker_says_what_the_real_engine_says() {
    let name = RedisContainer::unused_name();
    let other = format!("{name}-renamed");
    let container = Mutex::new(None);
    let real_step = |verb: &str| {
        match verb {
            "run" => {
                let options = [
                    "--stop-signal=SIGINT",
                    "--stop-timeout=7",
                    "--expose=80",
                    SECRET,
                    "--env=SERVICE_NAME=web",
                    "--label=ambassador.service=web",
                    "--label=name=other",
                ];
                *container.lock().unwrap() = Some(RedisContainer::run(&name, options));
                String::new()
            }
            "hangup" => docker(["kill", "--signal", "HUP", &name]),
            "restart" => docker(["restart", &name]),
            "rename" => docker(["rename", &name, &other]),
            "rename back" => docker(["rename", &other, &name]),
            "kill gone" => docker(["kill", &name]),
            "remove" => docker(["rm", "-f", &name]),
            verb => docker([verb, &name]),
        };
        match verb {
            // Before it listens it may not know the signal that ends it yet.
            "run" | "restart" | "start" => {
                container.lock().unwrap().as_ref().unwrap().wait_until_it_listens()
            }
            // The command returns before the engine has told of the end.
            "kill" | "kill gone" => drop(docker(["wait", &name])),
            _ => {}
        }
    };
    let real = seen(engine::SOCKET, &name, &LIFE, &real_step);

    let fake = fake_docker();
    let fake_step = |verb: &str| match verb {
        "run" => fake.run(
            Container::named(&name)
                .image(engine::image())
                .publishes(6379, &[("127.0.0.1", 32768)])
                .exposes(80)
                .stop_signal("SIGINT")
                .stop_timeout_s(7)
                .env("SERVICE_NAME=web")
                .label("ambassador.service", "web")
                .label("name", "other"),
        ),
        "hangup" => fake.send_signal(&name, Some("1")),
        "restart" => fake.restart(&name, 6379, &[("127.0.0.1", 32769)]),
        "pause" => fake.pause(&name),
        "unpause" => fake.unpause(&name),
        "rename" => fake.rename(&name, &other),
        "rename back" => fake.rename(&other, &name),
        "stop" => fake.stop_container(&name),
        "start" => fake.start_container(&name, 6379, &[("127.0.0.1", 32770)]),
        "kill" | "kill gone" => fake.kill(&name),
        "remove" => fake.remove(&name),
        verb => panic!("{verb}"),
    };
    let played = seen(fake.socket().to_str().unwrap(), &name, &LIFE, &fake_step);
    assert_same(&played, &real);
}

#[test]
#[ignore = "needs a Docker engine"]
fn fake_docker_tells_of_health_as_the_real_engine_does() {
    const STORY: [&str; 11] = [
        "run",
        "healthy",
        "pause",
        "unpause",
        "healthy",
        "unhealthy",
        "restart",
        "unhealthy",
        "healthy",
        "stop",
        "remove",
    ];
    // Long enough to see what it is before the first check.
    let interval = Duration::from_secs(2);
    let name = RedisContainer::unused_name();
    let container = Mutex::new(None);
    let real_step = |verb: &str| match verb {
        "run" => {
            // Labels that hide what the events have to say.
            let options = [SECRET, "--label=signal=77", "--label=exitCode=no"];
            let started = RedisContainer::with_healthcheck(&name, interval, options);
            *container.lock().unwrap() = Some(started);
        }
        "healthy" | "unhealthy" => {
            container.lock().unwrap().as_ref().unwrap().set_health(verb == "healthy");
            let inspect = format!("/containers/{name}/json");
            eventually(verb, || engine::get(&inspect)["State"]["Health"]["Status"] == verb);
        }
        "remove" => drop(docker(["rm", "-f", &name])),
        verb => drop(docker([verb, &name])),
    };
    let real = seen(engine::SOCKET, &name, &STORY, &real_step);

    let fake = fake_docker();
    let bindings = [("127.0.0.1", 32768)];
    let fake_step = |verb: &str| match verb {
        "run" => {
            let container = Container::named(&name).image(engine::image()).with_healthcheck();
            let container = container.label("signal", "77").label("exitCode", "no");
            fake.run(container.publishes(6379, &bindings));
        }
        "healthy" | "unhealthy" => fake.set_health(&name, verb),
        "pause" => fake.pause(&name),
        "unpause" => fake.unpause(&name),
        "restart" => fake.restart(&name, 6379, &bindings),
        "stop" => fake.stop_container(&name),
        "remove" => fake.remove(&name),
        verb => panic!("{verb}"),
    };
    let played = seen(fake.socket().to_str().unwrap(), &name, &STORY, &fake_step);
    assert_same(&played, &real);
}

#[test]
#[ignore = "needs a Docker engine"]
fn fake_docker_tells_of_networks_as_the_real_engine_does() {
    const STORY: [&str; 12] = [
        "run",
        "connect second",
        "connect bridge",
        "restart",
        "disconnect first",
        "disconnect bridge",
        "disconnect second",
        "connect first",
        "stop",
        "connect second",
        "disconnect first",
        "remove",
    ];
    let name = RedisContainer::unused_name();
    let networks = [Network::create(), Network::create()];
    let [first, second] = [networks[0].name(), networks[1].name()];
    let called = |which: &str| match which {
        "first" => first.to_owned(),
        "second" => second.to_owned(),
        which => which.to_owned(),
    };
    let container = Mutex::new(None);
    let real_step = |verb: &str| match verb.split_once(' ') {
        Some((verb, which)) => drop(docker(["network", verb, &called(which), &name])),
        None if verb == "run" => {
            let options = ["--network", first, "--expose", "80", SECRET];
            let started = RedisContainer::run(&name, options);
            started.wait_until_it_listens();
            *container.lock().unwrap() = Some(started);
        }
        None if verb == "restart" => {
            docker(["restart", &name]);
            container.lock().unwrap().as_ref().unwrap().wait_until_it_listens();
        }
        None if verb == "remove" => drop(docker(["rm", "-f", &name])),
        None => drop(docker([verb, &name])),
    };
    let real = seen(engine::SOCKET, &name, &STORY, &real_step);

    let fake = fake_docker();
    let bindings = [("127.0.0.1", 32768)];
    let fake_step = |verb: &str| match verb.split_once(' ') {
        Some(("connect", which)) => fake.connect_network(&name, &called(which), "10.0.0.9"),
        Some((_, which)) => fake.disconnect_network(&name, &called(which)),
        None if verb == "run" => fake.run(
            Container::named(&name)
                .image(engine::image())
                .publishes(6379, &bindings)
                .exposes(80)
                .network(first, "10.0.0.8"),
        ),
        None if verb == "restart" => fake.restart(&name, 6379, &bindings),
        None if verb == "stop" => fake.stop_container(&name),
        None => fake.remove(&name),
    };
    let played = seen(fake.socket().to_str().unwrap(), &name, &STORY, &fake_step);
    assert_same(&played, &real);
}

#[test]
#[ignore = "needs a Docker engine"]
fn fake_docker_has_the_host_network_as_the_real_engine_does() {
    const STORY: [&str; 3] = ["run", "stop", "remove"];
    let name = RedisContainer::unused_name();
    let address = SocketAddr::from((fresh_ip(), 6379));
    let container = Mutex::new(None);
    let real_step = |verb: &str| match verb {
        "run" => {
            let options = ["--publish=6380:6380", "--expose=80", SECRET];
            let started = RedisContainer::on_host_network(&name, address, options);
            *container.lock().unwrap() = Some(started);
            // Before it listens it may not know the signal of `stop` yet.
            eventually("a listening redis", || ping(address).is_ok());
        }
        "remove" => drop(docker(["rm", "-f", &name])),
        verb => drop(docker([verb, &name])),
    };
    let real = seen(engine::SOCKET, &name, &STORY, &real_step);

    let fake = fake_docker();
    let fake_step = |verb: &str| match verb {
        "run" => fake.run(
            Container::named(&name)
                .image(engine::image())
                .publishes(6380, &[("0.0.0.0", 6380)])
                .exposes(6379)
                .exposes(80)
                .on_host_network(),
        ),
        "stop" => fake.stop_container(&name),
        _ => fake.remove(&name),
    };
    let played = seen(fake.socket().to_str().unwrap(), &name, &STORY, &fake_step);
    assert_same(&played, &real);
}

#[test]
#[ignore = "needs a Docker engine"]
fn fake_docker_lists_and_refuses_as_the_real_engine_does() {
    let name = RedisContainer::unused_name();
    let named = ["old", "paused", "looping", "exited", "new"].map(|word| format!("{name}-{word}"));
    let [old, paused, looping, exited, new] = &named;
    let _containers = [
        RedisContainer::run(old, ["--expose=80", "--label=a.b=c"]),
        RedisContainer::run(paused, ["--label=a.b=d"]),
        RedisContainer::run(looping, ["--restart=always", "--entrypoint=/bin/sh"]),
        RedisContainer::run(exited, ["--stop-signal=SIGKILL"]),
        RedisContainer::run(new, ["--label=other="]),
    ];
    docker(["pause", paused]);
    docker(["stop", exited]);

    let fake = fake_docker();
    let published = |name: &str| {
        let container = Container::named(name).image(engine::image());
        container.publishes(6379, &[("127.0.0.1", 32768)])
    };
    fake.run_many(vec![
        published(old).exposes(80).label("a.b", "c"),
        published(paused).label("a.b", "d"),
        published(looping),
        published(exited),
        published(new).label("other", ""),
    ]);
    fake.pause(paused);
    fake.change_silently(looping, |container| container.restarting = true);
    fake.kill(exited);

    let list = |more: &str, filters: &str| {
        let filters = percent_encode(&filters.replace("NAME", &name));
        format!("/containers/json?{more}filters={filters}")
    };
    for target in [
        list("", r#"{"name":["^/NAME-"]}"#),
        list("all=true&", r#"{"name":["^/NAME-"]}"#),
        list("", r#"{"name":["^/NAME-old$"]}"#),
        list("", r#"{"name":["NAME"],"status":["running"]}"#),
        list("", r#"{"name":["NAME"],"status":["exited"]}"#),
        list("", r#"{"name":{"NAME":true}}"#),
        list("", r#"{"name":["NAME"],"label":["a.b"]}"#),
        list("", r#"{"name":["NAME"],"label":["a.b=c"]}"#),
        list("", r#"{"name":["NAME"],"label":["a.b","other"]}"#),
        list("", r#"{"nosuch":["x"]}"#),
        format!("/containers/{name}x/json"),
        "/nosuch".to_owned(),
    ] {
        let played = said(fake.socket().to_str().unwrap(), &target, &name);
        // The looping one runs for a moment now and then.
        let mut real = Value::Null;
        let is_same = || {
            real = said(engine::SOCKET, &target, &name);
            real == played
        };
        if !holds_soon(is_same) {
            assert_eq!(played, real, "{target}: on the left what the fake says");
        }
    }
}

/// What is read of a list, or of the message of a refusal.
fn said(socket: &str, target: &str, name: &str) -> Value {
    let answer = engine::get_from(socket, target).unwrap();
    let Some(listed) = answer.as_array() else {
        return json!(answer["message"].as_str().unwrap().to_lowercase());
    };
    let read = listed.iter().map(|container| read_of_list(container, name));
    let mut read: Vec<_> = read.collect();
    for container in read.iter_mut().filter(|container| container["state"] == "restarting") {
        // A container that waits for its next start has neither; the fake leaves it both, so
        // that it is not for their lack that nobody registers it.
        container["ports"].take();
        container["networks"].take();
    }
    read.into()
}

fn holds_soon(mut condition: impl FnMut() -> bool) -> bool {
    (0..50).any(|_| {
        let holds = condition();
        if !holds {
            proceed_after(Duration::from_millis(100));
        }
        holds
    })
}
