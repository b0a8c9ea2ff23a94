//! Only an address that other hosts can reach is ever written.

use super::*;

/// A container published on every interface.
fn published_everywhere() -> Scene {
    let scene = Scene::empty();
    scene.docker.run(Container::named(CONTAINER).publishes(6379, &[("0.0.0.0", 49155)]));
    scene
}

#[test]
fn published_everywhere_without_a_host_ip_is_wrong_usage() {
    for ip in ["0.0.0.0", "::", "127.0.0.1", "::1"] {
        let scene = Scene::empty();
        scene.docker.run(Container::named(CONTAINER).publishes(6379, &[(ip, 49155)]));
        let ended = scene.register([]).run();
        assert_eq!(ended.code, Some(2), "{ip}: {ended:?}");
        assert!(ended.stderr.contains("--host-ip"), "{ip}: {ended:?}");
        assert_eq!(ended.stdout, "", "{ip}");
        assert_eq!(scene.etcd.get(&scene.key()), None, "{ip}");
    }
}

#[test]
fn published_everywhere_later_is_warned_of_and_not_registered() {
    let scene = Scene::running();
    let mut ambassador = scene.registered([]);
    scene.docker.restart(CONTAINER, 6379, &[("0.0.0.0", 49156)]);
    ambassador.wait_for_warning(&["--host-ip"]);
    scene.wait_for_absence();
    assert!(ambassador.is_running());
    scene.docker.restart(CONTAINER, 6379, &[(ARTICLES_HOST, 49157)]);
    scene.wait_for_port(49157);
    assert_eq!(ambassador.warnings(&["--host-ip"]).len(), 1);
}

#[test]
fn host_ip_stands_for_every_interface() {
    let scene = published_everywhere();
    let _ambassador = scene.register(["--host-ip", ARTICLES_HOST]).start();
    scene.wait_for_port(49155);
}

#[test]
fn host_ip_of_the_environment_stands_for_every_interface() {
    for name in ["HOST_IP", "COREOS_PRIVATE_IPV4", "AMBASSADOR_HOST_IP"] {
        let scene = published_everywhere();
        let _ambassador = scene.register([]).env(name, ARTICLES_HOST).start();
        scene.wait_for_port(49155);
    }
}

#[test]
fn variable_that_says_the_address_is_named_by_explain() {
    for name in ["HOST_IP", "COREOS_PRIVATE_IPV4"] {
        let scene = published_everywhere();
        let ended = scene.register(["--explain"]).env(name, ARTICLES_HOST).run();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let rule = format!("the host is what {name} says");
        assert!(ended.stdout.contains(&rule), "{ended:?}");
    }
}

#[test]
fn option_wins_over_the_environment() {
    let scene = published_everywhere();
    let launch = scene.register(["--host-ip", ARTICLES_HOST]);
    let launch = launch.env("HOST_IP", "10.9.9.9").env("COREOS_PRIVATE_IPV4", "10.9.9.8");
    let _ambassador = launch.env("AMBASSADOR_HOST_IP", "10.9.9.7").start();
    scene.wait_for_port(49155);
}

#[test]
fn published_address_wins_over_host_ip_of_the_environment() {
    let scene = Scene::running();
    let launch = scene.register([]).env("HOST_IP", "10.9.9.9");
    let _ambassador = launch.env("COREOS_PRIVATE_IPV4", "10.9.9.8").start();
    scene.wait_for_port(49155);
}

/// `docker run -p 6379` of 20.10 gives both families, with different ports.
#[test]
fn both_families_make_one_entry_with_the_port_of_ipv4() {
    for bindings in [[("0.0.0.0", 49155), ("::", 32768)], [("::", 32768), ("0.0.0.0", 49155)]] {
        let scene = Scene::empty();
        scene.docker.run(Container::named(CONTAINER).publishes(6379, &bindings));
        let _ambassador = scene.register(["--host-ip", ARTICLES_HOST]).start();
        scene.wait_for_port(49155);
        assert_eq!(scene.etcd.list(&format!("{}/{SERVICE}", scene.prefix)), [scene.key()]);
    }
}

#[test]
fn loopback_is_registered_when_the_host_ip_says_so() {
    let scene = Scene::empty();
    scene.docker.run(Container::named(CONTAINER).publishes(6379, &[("127.0.0.1", 49155)]));
    let _ambassador = scene.register(["--host-ip", "127.0.0.1"]).start();
    scene.etcd.wait_for_value(&scene.key(), r#"{ "port": 49155, "host": "127.0.0.1" }"#);
}

#[test]
fn unspecified_host_ip_is_wrong_usage() {
    for ip in ["0.0.0.0", "::"] {
        let scene = published_everywhere();
        let ended = scene.register(["--host-ip", ip]).run();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("--host-ip"), "{ended:?}");
        assert_eq!(scene.etcd.get(&scene.key()), None);
    }
}
