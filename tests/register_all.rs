//! `register --all`: what runs on a host is what etcd says, by registrator's rules.

mod crowd;
mod engines;
mod faults;
mod orphans;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use crate::support::ambassador::{Ambassador, Launch, ambassador};
use crate::support::etcd::{self, Etcd};
use crate::support::fake_docker::{Binding, Container, FakeDocker};
use crate::support::upstream::Upstream;
use crate::support::{eventually, refusing_address, unique_prefix, within};

/// What the fake engine calls its host, and where that is reached.
const HOST: &str = "fake-host";
const HOST_IP: &str = "172.17.8.102";

/// Less than the 15 s after which Docker is listed anyway: an event must have told.
const PROMPTLY: Duration = Duration::from_secs(9);

/// One directory of an etcd and one fake engine.
struct Scene {
    etcd: Registry,
    prefix: String,
    docker: FakeDocker,
}

enum Registry {
    Shared(&'static Etcd),
    /// For a crowd: its events would push those that others wait for out of v2's history.
    Own(Box<Etcd>),
}

impl Deref for Registry {
    type Target = Etcd;

    fn deref(&self) -> &Etcd {
        match self {
            Registry::Shared(etcd) => etcd,
            Registry::Own(etcd) => etcd,
        }
    }
}

/// The format of the values that tests compare: the shortest.
const REGISTRATOR: [&str; 2] = ["--format", "registrator"];

impl Scene {
    fn new() -> Scene {
        Scene::with(Registry::Shared(etcd::shared()))
    }

    fn with(etcd: Registry) -> Scene {
        Scene { etcd, prefix: unique_prefix(), docker: FakeDocker::start() }
    }

    /// `register --all --host-ip HOST_IP OPTIONS...` on this scene.
    fn register<const N: usize>(&self, options: [&str; N]) -> Launch {
        self.register_at(["--host-ip", HOST_IP]).args(options)
    }

    fn register_at<const N: usize>(&self, options: [&str; N]) -> Launch {
        let words = ["register", "--all", "--etcd", &self.etcd.url(), "--prefix", &self.prefix];
        let docker = ["--docker", &self.docker.address()];
        ambassador(words.into_iter().chain(docker)).args(options)
    }

    /// The same in registrator's format, started and following Docker.
    fn registering(&self) -> Ambassador {
        let ambassador = self.register(REGISTRATOR).start();
        self.docker.wait_until_followed();
        ambassador
    }

    /// All that is registered, without the prefix.
    fn registered(&self) -> BTreeMap<String, String> {
        let tree = self.etcd.tree(&self.prefix).into_iter();
        tree.map(|(key, value)| (key[self.prefix.len() + 1..].to_owned(), value)).collect()
    }

    #[track_caller]
    fn wait_for(&self, entries: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut last = BTreeMap::new();
        within(PROMPTLY, &format!("{expected:#?}"), || {
            last = self.registered();
            last == expected
        });
    }
}

/// A container of `image` that publishes 80/tcp at `port` on every address.
fn web(name: &str, image: &str, port: u16) -> Container {
    Container::named(name).image(image).publishes(80, &[("0.0.0.0", port), ("::", port)])
}

/// Golden: what registrator writes of a host prepared for it.
#[test]
fn registrators_keys_and_values_are_written_byte_for_byte() {
    let scene = Scene::new();
    let at = |name: &str, image: &str, port, bindings: &[Binding]| {
        Container::named(name).image(image).publishes(port, bindings)
    };
    scene.docker.run_many(vec![
        at("redis.0", "redis:7", 6379, &[("172.17.8.102", 6379)]),
        at("dns.0", "example.org:5000/library/dns:1", 53, &[("172.17.8.102", 53)])
            .publishes_udp(53, &[("172.17.8.102", 53)]),
        at("web.0", "web", 80, &[("fd00::12", 8080)]),
        at("two.0", "nginx", 80, &[("172.17.8.102", 8081)])
            .publishes(443, &[("172.17.8.102", 8443)])
            .exposes(9000)
            .label("SERVICE_443_NAME", "secure")
            .env("SERVICE_NAME=front")
            .env("SERVICE_TAGS=a,b"),
        at("named", "nginx", 80, &[("172.17.8.102", 8082)]).label("SERVICE_ID", "my-id"),
        at("ignored", "nginx", 80, &[("172.17.8.102", 8083)]).env("SERVICE_IGNORE=true"),
    ]);
    let ambassador = scene.register_at(REGISTRATOR).start();
    scene.wait_for(&[
        ("redis/fake-host:redis.0:6379", "172.17.8.102:6379"),
        ("dns-53/fake-host:dns.0:53", "172.17.8.102:53"),
        ("dns-53/fake-host:dns.0:53:udp", "172.17.8.102:53"),
        ("web/fake-host:web.0:80", "[fd00::12]:8080"),
        ("front-80/fake-host:two.0:80", "172.17.8.102:8081"),
        ("secure/fake-host:two.0:443", "172.17.8.102:8443"),
        ("nginx/my-id", "172.17.8.102:8082"),
    ]);
    assert_eq!(ambassador.warnings(&[]), Vec::<String>::new());
    assert_eq!(ambassador.terminate().code, Some(0));
    scene.wait_for(&[]);
}

#[test]
fn words_are_attributes_in_our_own_format() {
    let scene = Scene::new();
    scene.docker.run(
        web("web", "nginx", 8080)
            .label("SERVICE_NAME", "front")
            .label("SERVICE_WEIGHT", "5")
            .label("SERVICE_80_TAGS", "a,b")
            .label("com.example", "x")
            .env("SERVICE_ZONE=say \"eu\""),
    );
    let _ambassador = scene.register([]).start();
    scene.wait_for(&[(
        "front/fake-host:web:80",
        r#"{ "port": 8080, "host": "172.17.8.102", "tags": "a,b", "weight": 5, "zone": "say \"eu\"" }"#,
    )]);
}

#[test]
fn every_container_is_followed_through_its_own_life() {
    let scene = Scene::new();
    scene.docker.run(web("a", "nginx", 8080).publishes(81, &[("0.0.0.0", 8081)]));
    scene.docker.run(web("b", "nginx", 8082));
    let _ambassador = scene.registering();
    let a = [
        ("nginx-80/fake-host:a:80", "172.17.8.102:8080"),
        ("nginx-81/fake-host:a:81", "172.17.8.102:8081"),
    ];
    let b = ("nginx/fake-host:b:80", "172.17.8.102:8082");
    scene.wait_for(&[a[0], a[1], b]);
    scene.docker.pause("a");
    scene.wait_for(&[b]);
    scene.docker.unpause("a");
    scene.wait_for(&[a[0], a[1], b]);
    // The stop signal, before the container has stopped.
    scene.docker.send_signal("a", Some("15"));
    scene.wait_for(&[b]);
    scene.docker.restart("a", 80, &[("0.0.0.0", 9000)]);
    scene.wait_for(&[("nginx-80/fake-host:a:80", "172.17.8.102:9000"), a[1], b]);
    scene.docker.rename("a", "c");
    let c = [
        ("nginx-80/fake-host:c:80", "172.17.8.102:9000"),
        ("nginx-81/fake-host:c:81", "172.17.8.102:8081"),
    ];
    scene.wait_for(&[c[0], c[1], b]);
    scene.docker.remove("c");
    scene.wait_for(&[b]);
    scene.docker.run(web("d", "nginx", 8083));
    scene.wait_for(&[b, ("nginx/fake-host:d:80", "172.17.8.102:8083")]);
}

#[test]
fn container_with_a_health_check_is_registered_while_it_is_healthy() {
    let scene = Scene::new();
    scene.docker.run(web("a", "nginx", 8080).with_healthcheck());
    scene.docker.run(web("b", "nginx", 8081));
    let _ambassador = scene.registering();
    let a = ("nginx/fake-host:a:80", "172.17.8.102:8080");
    let b = ("nginx/fake-host:b:80", "172.17.8.102:8081");
    scene.wait_for(&[b]);
    for _ in 0..2 {
        scene.docker.set_health("a", "healthy");
        scene.wait_for(&[a, b]);
        scene.docker.set_health("a", "unhealthy");
        scene.wait_for(&[b]);
    }
    scene.docker.restart("a", 80, &[("0.0.0.0", 8080)]);
    scene.docker.set_health("a", "healthy");
    scene.wait_for(&[a, b]);
}

#[test]
fn what_changed_unheard_is_found_once_events_are_followed_again() {
    let scene = Scene::new();
    scene.docker.run(web("a", "nginx", 8080));
    let _ambassador = scene.registering();
    scene.wait_for(&[("nginx/fake-host:a:80", "172.17.8.102:8080")]);
    let _unheard = scene.docker.restart_unheard("a", 80, &[("0.0.0.0", 9000)]);
    scene.docker.end_events_streams();
    scene.wait_for(&[("nginx/fake-host:a:80", "172.17.8.102:9000")]);
}

/// Docker says where a port is a moment after the start; it is asked again, about this one.
#[test]
fn port_that_is_not_there_yet_is_awaited() {
    let scene = Scene::new();
    let web_a = web("a", "nginx", 8080);
    let web_b = Container::named("b").image("nginx").publishes(80, &[("0.0.0.0", 0)]);
    let [of_a, of_b] = [&web_a, &web_b].map(|container| container.id().to_owned());
    scene.docker.run_many(vec![web_a, web_b]);
    let _ambassador = scene.registering();
    let a = ("nginx/fake-host:a:80", "172.17.8.102:8080");
    scene.wait_for(&[a]);
    let inspected = |id: &str| {
        let path = format!("/containers/{id}/json");
        scene.docker.requests().iter().filter(|line| line.contains(&path)).count()
    };
    let (a_before, b_before) = (inspected(&of_a), inspected(&of_b));
    eventually("b is asked for three times", || inspected(&of_b) >= b_before + 3);
    assert_eq!(inspected(&of_a), a_before);
    scene.docker.change_silently("b", |container| {
        *container = container.clone().publishes(80, &[("0.0.0.0", 8081)]);
    });
    scene.wait_for(&[a, ("nginx/fake-host:b:80", "172.17.8.102:8081")]);
}

/// Its listing is the same as before.
#[test]
fn restart_on_the_same_port_that_nobody_heard_of_is_found_too() {
    let scene = Scene::new();
    scene.docker.run(web("a", "nginx", 8080));
    // For its sake Docker is listed again and again.
    scene.docker.run(Container::named("b").image("nginx").publishes(80, &[("0.0.0.0", 0)]));
    let _ambassador = scene.registering();
    let a = ("nginx/fake-host:a:80", "172.17.8.102:8080");
    scene.wait_for(&[a]);
    scene.docker.send_signal("a", Some("15"));
    scene.wait_for(&[]);
    let lists = || {
        let requests = scene.docker.requests();
        requests.iter().filter(|line| line.contains("/containers/json")).count()
    };
    let before = lists();
    eventually("two more lists", || lists() >= before + 2);
    let _unheard = scene.docker.restart_unheard("a", 80, &[("0.0.0.0", 8080), ("::", 8080)]);
    scene.docker.end_events_streams();
    // Long before it would count as one that has survived its stop signal.
    scene.wait_for(&[a]);
}

#[test]
fn explicit_and_allowed_services_leave_out_the_others() {
    for (options, names) in [
        (&["--explicit"][..], &["named", "front"][..]),
        (&["--allow-service", "named,ngin?"], &["named", "nginx"]),
        (&["--explicit", "--allow-service", "named"], &["named"]),
    ] {
        let scene = Scene::new();
        scene.docker.run(web("a", "nginx", 8080));
        scene.docker.run(web("b", "nginx", 8081).label("SERVICE_NAME", "named"));
        scene.docker.run(web("c", "nginx", 8082).label("SERVICE_NAME", "front"));
        let ambassador = scene.register(REGISTRATOR).args(options).start();
        eventually(&format!("{names:?} by {options:?}"), || {
            let registered = scene.registered();
            let mut services: Vec<&str> =
                registered.keys().map(|key| key.split('/').next().unwrap()).collect();
            services.sort_by_key(|name| names.iter().position(|wanted| wanted == name));
            services == names
        });
        // A name that was asked for and refused is worth a warning.
        let refused = ambassador.warnings(&["--allow-service does not allow front"]).len();
        assert_eq!(
            refused,
            usize::from(options.contains(&"--allow-service")),
            "{:#?}",
            ambassador.log()
        );
    }
}

#[test]
fn internal_addresses_are_those_of_a_network() {
    let scene = Scene::new();
    let inside = |name: &str| Container::named(name).image("nginx").exposes(80);
    scene.docker.run(inside("a").network("front", "10.1.0.2").network("back", "10.2.0.2"));
    scene.docker.run(inside("b").network("front", "10.1.0.3"));
    scene.docker.run(inside("c").on_host_network());
    let _by_default = scene.register_at(["--internal"]).args(REGISTRATOR).start();
    let front = [("nginx/fake-host:a:80", "10.1.0.2:80"), ("nginx/fake-host:b:80", "10.1.0.3:80")];
    scene.wait_for(&front);

    let back = Scene { prefix: unique_prefix(), ..scene };
    let options = ["--internal", "--network", "back"];
    let _of_one = back.register_at(options).args(REGISTRATOR).start();
    back.wait_for(&[("nginx/fake-host:a:80", "10.2.0.2:80")]);
    back.docker.connect_network("b", "back", "10.2.0.3");
    back.wait_for(&[
        ("nginx/fake-host:a:80", "10.2.0.2:80"),
        ("nginx/fake-host:b:80", "10.2.0.3:80"),
    ]);
    back.docker.disconnect_network("a", "back");
    back.wait_for(&[("nginx/fake-host:b:80", "10.2.0.3:80")]);
}

#[test]
fn container_on_the_hosts_network_is_registered_at_its_host() {
    let scene = Scene::new();
    scene.docker.run(Container::named("a").image("nginx").exposes(80).on_host_network());
    let _ambassador = scene.registering();
    scene.wait_for(&[("nginx/fake-host:a:80", "172.17.8.102:80")]);
}

#[test]
fn ports_published_everywhere_are_warned_of_and_not_registered_without_an_address() {
    let scene = Scene::new();
    let crowd = (0..15).map(|n| web(&format!("c{n}"), "nginx", 8080 + n)).collect();
    scene.docker.run_many(crowd);
    scene.docker.run(Container::named("own").image("own").publishes(80, &[("10.9.0.1", 80)]));
    let ambassador = scene.register_at(REGISTRATOR).start();
    scene.wait_for(&[("own/fake-host:own:80", "10.9.0.1:80")]);
    ambassador.wait_for_warning(&["--host-ip"]);
    ambassador.wait_for_warning(&["5 more"]);
    // Neither a flood, nor again at the next look.
    scene.docker.run(web("late", "nginx", 9000).label("SERVICE_IGNORE", "1"));
    scene.docker.run(Container::named("own2").image("own").publishes(80, &[("10.9.0.1", 81)]));
    scene.wait_for(&[
        ("own/fake-host:own:80", "10.9.0.1:80"),
        ("own/fake-host:own2:80", "10.9.0.1:81"),
    ]);
    assert_eq!(ambassador.warnings(&["not registered"]).len(), 11, "{:#?}", ambassador.log());
}

#[test]
fn a_check_is_made_of_every_port() {
    let scene = Scene::new();
    let listens = Upstream::greeter("hello");
    let (open, closed) = (listens.address().port(), refusing_address().port());
    scene.docker.run(web("open", "nginx", open).publishes(81, &[("0.0.0.0", closed)]));
    let ambassador =
        scene.register_at(["--host-ip", "127.0.0.1", "--check", "tcp"]).args(REGISTRATOR).start();
    let value = format!("127.0.0.1:{open}");
    scene.wait_for(&[("nginx-80/fake-host:open:80", &value)]);
    ambassador.wait_for_warning(&[&format!("127.0.0.1:{closed} failed 2 checks")]);
}

#[test]
fn explain_tells_of_every_container_and_writes_nothing() {
    let scene = Scene::new();
    scene.docker.run(web("a", "nginx", 8080).label("SERVICE_NAME", "front"));
    scene.docker.run(web("b", "nginx", 8081).exposes(81));
    scene.docker.run(web("c", "nginx", 8082));
    scene.docker.exit("c");
    let ended = scene.register(["--explain"]).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for words in [
        "a 80/tcp  key    ",
        "front/fake-host:a:80",
        "service by label SERVICE_NAME; the host is what --host-ip says",
        "b 80/tcp  key    ",
        "service by image nginx",
        "b 81/tcp  not registered: container b exposes 81/tcp and does not publish it",
        "c         not registered: container c is not running",
        "3 containers on host fake-host",
    ] {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
    assert_eq!(scene.registered(), BTreeMap::new());
}
