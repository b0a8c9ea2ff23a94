//! `register`: what Docker runs is what etcd says, and nothing else is.

mod address;
mod docker_faults;
mod formats;
mod host_ip;
mod life;
mod owners;
mod stood_still;

use std::time::{Duration, Instant};

use crate::support::ambassador::{Ambassador, Launch, ambassador};
use crate::support::etcd::{self, Change, Etcd, Watch};
use crate::support::fake_docker::{Container, FakeDocker, Framing, Version};
use crate::support::{eventually, proceed_after, unique_prefix, within};

/// The container, the service, and the address that the article has.
const CONTAINER: &str = "redis.service";
const SERVICE: &str = "redis-A";
const ARTICLES_HOST: &str = "10.132.181.182";
const ARTICLES_VALUE: &str = r#"{ "port": 49155, "host": "10.132.181.182" }"#;

/// One service in the shared etcd and one fake engine.
struct Scene {
    etcd: &'static Etcd,
    prefix: String,
    docker: FakeDocker,
}

impl Scene {
    /// Docker runs nothing yet.
    fn empty() -> Scene {
        Scene::with(FakeDocker::start())
    }

    fn with(docker: FakeDocker) -> Scene {
        Scene { etcd: etcd::shared(), prefix: unique_prefix(), docker }
    }

    /// Docker runs the article's container.
    fn running() -> Scene {
        let scene = Scene::empty();
        scene.docker.run(redis());
        scene
    }

    fn key(&self) -> String {
        format!("{}/{SERVICE}/{CONTAINER}", self.prefix)
    }

    /// `register OPTIONS... redis.service 6379 redis-A` on this scene.
    fn register<const N: usize>(&self, options: [&str; N]) -> Launch {
        let fixed = ["--etcd", &self.etcd.url(), "--prefix", &self.prefix];
        let docker = ["--docker", &self.docker.address()];
        let words = ["register"].into_iter().chain(fixed).chain(docker).chain(options);
        ambassador(words.chain([CONTAINER, "6379", SERVICE]))
    }

    /// An ambassador whose entry is in etcd already.
    fn registered<const N: usize>(&self, options: [&str; N]) -> Ambassador {
        let ambassador = self.register(options).start();
        self.wait_for_port(49155);
        // The entry may be written before the events are listened to.
        self.docker.wait_until_followed();
        ambassador
    }

    fn wait_for_port(&self, port: u16) {
        self.etcd.wait_for_value(&self.key(), &value(port));
    }

    fn wait_for_absence(&self) {
        self.etcd.wait_for_absence(&self.key());
    }

    fn watch(&self) -> Watch {
        self.etcd.watch(&self.prefix)
    }
}

/// The article's container.
fn redis() -> Container {
    Container::named(CONTAINER).publishes(6379, &[(ARTICLES_HOST, 49155)])
}

/// What is stored when the article's host publishes `port`.
fn value(port: u16) -> String {
    ARTICLES_VALUE.replace("49155", &port.to_string())
}

/// What etcd calls the removal of a key.
const REMOVALS: [&str; 2] = ["delete", "compareAndDelete"];

#[test]
fn running_container_is_stored_byte_for_byte_as_the_article_shows_it() {
    let scene = Scene::running();
    let _ambassador = scene.register([]).start();
    scene.etcd.wait_for_value(&scene.key(), ARTICLES_VALUE);
    assert_eq!(scene.etcd.list(&format!("{}/{SERVICE}", scene.prefix)), [scene.key()]);
}

#[test]
fn attributes_follow_port_and_host_in_the_order_given() {
    let scene = Scene::running();
    let words = ["weight=5", "zone=a", "note=say \"hi\"", "offset=-3", "version=1.10", "empty="];
    let _ambassador = words.iter().fold(scene.register([]), Launch::arg).start();
    scene.etcd.wait_for_value(
        &scene.key(),
        r#"{ "port": 49155, "host": "10.132.181.182", "weight": 5, "zone": "a", "note": "say \"hi\"", "offset": -3, "version": "1.10", "empty": "" }"#,
    );
}

#[test]
fn instance_option_replaces_the_containers_name_in_the_key() {
    let scene = Scene::running();
    let _ambassador = scene.register(["--instance", "host-a:redis"]).start();
    let key = format!("{}/{SERVICE}/host-a:redis", scene.prefix);
    scene.etcd.wait_for_value(&key, ARTICLES_VALUE);
    assert_eq!(scene.etcd.get(&scene.key()), None);
}

#[test]
fn container_that_starts_later_is_registered_then() {
    let scene = Scene::empty();
    let _ambassador = scene.register([]).start();
    scene.docker.wait_until_followed();
    assert_eq!(scene.etcd.get(&scene.key()), None);
    scene.docker.run(redis());
    scene.wait_for_port(49155);
}

#[test]
fn docker_that_starts_later_is_asked_then() {
    let scene = Scene::with(FakeDocker::absent());
    let ambassador = scene.register([]).start();
    let socket = scene.docker.socket().display().to_string();
    ambassador.wait_for_warning(&[&socket]);
    scene.docker.run(redis());
    scene.docker.listen();
    scene.wait_for_port(49155);
}

/// Not at every attempt, and not again when it answers.
#[test]
fn absent_docker_is_warned_of_once() {
    for _ in 0..30 {
        let scene = Scene::with(FakeDocker::absent());
        scene.docker.run(redis());
        let ambassador = scene.register([]).start();
        let socket = scene.docker.socket().display().to_string();
        ambassador.wait_for_warning(&[&socket]);
        scene.docker.listen();
        scene.wait_for_port(49155);
        // With the events followed, everything about the absence has been said.
        scene.docker.wait_until_followed();
        assert_eq!(ambassador.warnings(&[&socket]).len(), 1, "{:#?}", ambassador.log());
    }
}

#[test]
fn etcd_that_starts_later_gets_the_entry_then() {
    let mut etcd = Etcd::absent();
    let docker = FakeDocker::start();
    docker.run(redis());
    let ambassador = ambassador(["register", "--etcd", &etcd.url(), "--docker", &docker.address()])
        .arg(CONTAINER)
        .arg("6379")
        .arg(SERVICE)
        .start();
    ambassador.wait_for_warning(&[&etcd.address().to_string()]);
    etcd.start_again();
    etcd.wait_for_value("/services/redis-A/redis.service", ARTICLES_VALUE);
}

#[test]
fn etcd_that_lost_everything_gets_the_entry_back_within_one_refresh() {
    let scene = Scene::running();
    let _ambassador = scene.registered(["--ttl", "3s"]);
    scene.etcd.delete(&scene.prefix);
    scene.wait_for_port(49155);
}

#[test]
fn watchers_hear_nothing_while_nothing_changes() {
    let scene = Scene::running();
    let watch = scene.watch();
    let _ambassador = scene.registered(["--ttl", "3s"]);
    scene.etcd.wait_for_refreshes(&scene.key(), 3);
    assert_eq!(watch.so_far(scene.etcd, &scene.prefix), [format!("set {}", scene.key())]);
}

#[test]
fn entry_expires_with_the_ttl_unless_it_is_refreshed() {
    for (ttl, bound) in [("", 10), ("20s", 20), ("4", 4), ("3500ms", 4)] {
        let scene = Scene::running();
        let _ambassador = scene.register([]).env("AMBASSADOR_TTL", ttl).start();
        scene.wait_for_port(49155);
        let ttl_s = scene.etcd.ttl_s(&scene.key()).unwrap();
        assert!((bound - 3..=bound).contains(&ttl_s), "{ttl_s} s is not about {bound} s");
    }
}

#[test]
fn killed_process_leaves_an_entry_that_expires_within_its_ttl() {
    let scene = Scene::running();
    let watch = scene.watch();
    let ambassador = scene.registered(["--ttl", "3s"]);
    ambassador.kill();
    let killed = Instant::now();
    assert_eq!(scene.etcd.get(&scene.key()).as_deref(), Some(ARTICLES_VALUE));
    let expired = watch.wait_for(etcd::expiries(), &scene.key());
    // etcd looks for expired keys every half second.
    assert!(expired - killed < Duration::from_secs(5), "{:?}", expired - killed);
}

#[test]
fn sigterm_removes_the_entry_before_the_process_ends() {
    for signal in ["TERM", "INT"] {
        let scene = Scene::running();
        let mut ambassador = scene.registered([]);
        ambassador.signal(signal);
        let ended = ambassador.finish(Duration::from_secs(5));
        assert_eq!(ended.code, Some(0), "{signal}");
        assert_eq!(scene.etcd.get(&scene.key()), None, "{signal}");
        assert_eq!(ended.stdout, "", "{signal}");
    }
}

#[test]
fn sigterm_ends_the_process_while_neither_docker_nor_etcd_answers() {
    let mut etcd = Etcd::start();
    let docker = FakeDocker::start();
    docker.run(redis());
    let words = ["register", "--etcd", &etcd.url(), "--docker", &docker.address()];
    let rest = [CONTAINER, "6379", SERVICE];
    let ambassador = ambassador(words.into_iter().chain(rest)).start();
    etcd.wait_for_value("/services/redis-A/redis.service", ARTICLES_VALUE);
    etcd.pause();
    docker.set_fault(Some(crate::support::fake_docker::Fault::Silence));
    docker.end_events_streams();
    let told = Instant::now();
    let ended = ambassador.terminate();
    assert_eq!(ended.code, Some(0));
    // Its own delete has 2 s.
    assert!(told.elapsed() < Duration::from_secs(4), "{:?}", told.elapsed());
    etcd.resume();
}

#[test]
fn answers_are_understood_in_every_framing_of_http() {
    let framings = [
        Framing::Dockers,
        Framing::ContentLength,
        Framing::Chunked,
        Framing::ChunkedWithExtras,
        Framing::CloseDelimited,
        Framing::AfterInterimAnswers,
        Framing::ByteByByte,
    ];
    for framing in framings {
        let scene = Scene::empty();
        scene.docker.set_framing(framing);
        scene.docker.run(redis());
        let ambassador = scene.registered([]);
        // The events must be understood too.
        scene.docker.pause(CONTAINER);
        scene.wait_for_absence();
        scene.docker.unpause(CONTAINER);
        scene.wait_for_port(49155);
        assert_eq!(ambassador.warnings(&[]), Vec::<String>::new(), "{framing:?}");
    }
}

#[test]
fn docker_is_reached_over_tcp_and_through_docker_host() {
    let on_tcp = Scene::with(FakeDocker::on_tcp());
    on_tcp.docker.run(redis());
    let _with_option = on_tcp.registered([]);
    for docker in [FakeDocker::on_tcp(), FakeDocker::start()] {
        let scene = Scene::with(docker);
        scene.docker.run(redis());
        let words = ["register", "--etcd", &scene.etcd.url(), "--prefix", &scene.prefix];
        let launch = ambassador(words.into_iter().chain([CONTAINER, "6379", SERVICE]));
        let _ambassador = launch.env("DOCKER_HOST", scene.docker.address()).start();
        scene.wait_for_port(49155);
    }
}

#[test]
fn explain_prints_the_entry_and_writes_nothing() {
    let scene = Scene::running();
    let watch = scene.watch();
    let ended = scene.register(["--explain"]).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains(&scene.key()), "{ended:?}");
    assert!(ended.stdout.contains(ARTICLES_VALUE), "{ended:?}");
    assert_eq!(watch.so_far(scene.etcd, &scene.prefix), Vec::<String>::new());
}

#[test]
fn environment_of_the_container_is_never_logged() {
    let scene = Scene::running();
    let launch = scene.register([]).env("RUST_LOG", "trace");
    let ambassador = launch.start();
    scene.wait_for_port(49155);
    let ended = ambassador.terminate();
    assert!(!ended.stderr.contains("do-not-log"), "{}", ended.stderr);
}

#[test]
fn explain_says_why_nothing_would_be_registered() {
    let scene = Scene::empty();
    let missing = scene.register(["--explain"]).run();
    assert_ne!(missing.code, Some(0), "{missing:?}");
    assert!(missing.stderr.contains(CONTAINER), "{missing:?}");
    scene.docker.run(Container::named(CONTAINER).publishes(6379, &[("0.0.0.0", 49155)]));
    let unreachable = scene.register(["--explain"]).run();
    assert_eq!(unreachable.code, Some(2), "{unreachable:?}");
    assert!(unreachable.stderr.contains("--host-ip"), "{unreachable:?}");
}
