//! Listeners: several, our own among the instances, at their cap, taken.

use std::net::TcpListener;

use super::*;

#[test]
fn every_pair_of_service_and_listener_has_its_own_instances() {
    let scene = Scene::new();
    let (redis, web) = (Upstream::greeter("redis"), Upstream::greeter("web"));
    scene.etcd.put(&format!("{}/redis-A/one", scene.prefix), &redis.registration());
    scene.etcd.put(&format!("{}/web/one", scene.prefix), &web.registration());
    let (ambassador, _) = started(scene.proxy([]).arg("web").arg("[::1]:0").arg("web").arg("0"));
    eventually("three listeners", || ambassador.stdout().len() == 3);
    let address = ambassador.address_of("redis-A");
    assert_eq!(greetings(address, 2), ["redis"; 2]);
    let lines = ambassador.stdout();
    let web_addresses: Vec<SocketAddr> =
        lines.iter().filter_map(|line| line.strip_prefix("listening web ")?.parse().ok()).collect();
    assert_eq!(web_addresses.len(), 2, "{lines:?}");
    assert!(web_addresses.iter().any(|address| address.ip().is_unspecified()), "{lines:?}");
    for address in web_addresses {
        assert_eq!(greetings(address, 2), ["web"; 2]);
    }
}

#[test]
fn own_listener_among_the_instances_is_skipped() {
    let scene = Scene::new();
    let (_ambassador, own) = started(scene.proxy(["--wait", "500ms"]));
    scene.put("own", &registration(own));
    // Alone it is as good as none.
    proceed_after(Duration::from_millis(300));
    assert_eq!(ending_of_new(own), Ending::Reset);
    let upstream = Upstream::greeter("other");
    scene.register("other", &upstream);
    wait_for_greeting_despite_resets(own, "other");
    assert_eq!(greetings(own, 6), ["other"; 6]);
    assert_eq!(upstream.accepted(), 7, "each client made one connection");
}

#[test]
fn own_listener_on_every_interface_is_skipped_by_any_of_its_addresses() {
    let scene = Scene::new();
    let words = ["proxy", "--etcd", &scene.etcd.url(), "--prefix", &scene.prefix];
    let launch = ambassador(words.into_iter().chain(["--wait", "500ms", SERVICE, "0"]));
    let (ambassador, own) = started(launch);
    assert!(own.ip().is_unspecified(), "{:?}", ambassador.stdout());
    scene.put("own", &format!("127.0.0.1:{}", own.port()));
    scene.put("own-too", &format!("127.1.2.3:{}", own.port()));
    // Alone they are as good as none; a circle of dials would hold the client for ever.
    proceed_after(Duration::from_millis(300));
    assert_eq!(ending_of_new(own), Ending::Reset);
    let upstream = Upstream::greeter("other");
    scene.register("other", &upstream);
    wait_for_greeting_despite_resets(own, "other");
    assert_eq!(greetings(own, 6), ["other"; 6]);
}

#[test]
fn clients_beyond_the_cap_wait_until_another_leaves() {
    let scene = Scene::new();
    let upstream = Upstream::echo();
    scene.register("one", &upstream);
    let (_ambassador, address) = started(scene.proxy(["--max-connections", "2"]));
    let echoes = |client: &mut std::net::TcpStream| {
        client.write_all(b"x").unwrap();
        std::io::Read::read(client, &mut [0; 1])
    };
    let mut clients = [connect(address).unwrap(), connect(address).unwrap()];
    for client in &mut clients {
        assert_eq!(echoes(client).unwrap(), 1);
    }
    let mut third = connect(address).unwrap();
    third.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(echoes(&mut third).is_err(), "nobody answers it yet");
    assert_eq!(upstream.accepted(), 2);
    drop(clients);
    third.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    assert_eq!(std::io::Read::read(&mut third, &mut [0; 1]).unwrap(), 1);
}

#[test]
fn listener_that_cannot_be_bound_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let url = etcd::shared().url();
    let ended = ambassador(["proxy", "--etcd", &url, SERVICE, &address]).run();
    assert!(matches!(ended.code, Some(1 | 2)), "{ended:?}");
    assert!(ended.stderr.contains(&address), "{ended:?}");
    assert_eq!(ended.stdout, "");
}
