//! Newer engines, and Podman, as far as their documentation tells.

use super::*;
use crate::support::fake_docker::Version;

#[test]
fn every_engine_is_understood() {
    for version in [Version::V20, Version::V28, Version::V29, Version::Podman] {
        let scene = Scene::new();
        scene.docker.set_version(version);
        scene.docker.run(web("a", "nginx", 8080).with_healthcheck());
        scene.docker.run(web("b", "nginx", 8081));
        let ambassador = scene.registering();
        let a = ("nginx/fake-host:a:80", "172.17.8.102:8080");
        let b = ("nginx/fake-host:b:80", "172.17.8.102:8081");
        scene.docker.set_health("a", "healthy");
        scene.wait_for(&[a, b]);
        scene.docker.stop_container("b");
        scene.wait_for(&[a]);
        scene.docker.start_container("b", 80, &[("0.0.0.0", 9000)]);
        scene.wait_for(&[a, ("nginx/fake-host:b:80", "172.17.8.102:9000")]);
        scene.docker.exit("b");
        scene.wait_for(&[a]);
        scene.docker.remove("a");
        scene.wait_for(&[]);
        assert_eq!(ambassador.warnings(&[]), Vec::<String>::new(), "{version:?}");
    }
}

#[test]
fn internal_addresses_do_not_need_what_newer_engines_dropped() {
    for version in [Version::V29, Version::Podman] {
        let scene = Scene::new();
        scene.docker.set_version(version);
        scene.docker.run(Container::named("a").image("nginx").exposes(80));
        let _ambassador = scene.register_at(["--internal"]).args(REGISTRATOR).start();
        eventually(&format!("an address of {version:?}"), || {
            let registered = scene.registered();
            registered.get("nginx/fake-host:a:80").is_some_and(|value| value.ends_with(".2:80"))
        });
    }
}
