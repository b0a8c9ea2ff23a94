//! `proxy` behind such a link.

use super::*;

impl Scene {
    fn key(&self, instance: &str) -> String {
        format!("{}/{SERVICE}/{instance}", self.prefix)
    }

    fn register(&self, upstream: &Upstream) {
        self.etcd.put(&self.key("one"), &upstream.registration());
    }

    /// A proxy that asks etcd through the relay.
    fn proxied(&self) -> (Ambassador, SocketAddr) {
        let options = [SERVICE, "127.0.0.1:0"];
        let ambassador = self.launch("proxy", &self.relay.url(), options).start();
        let address = ambassador.address();
        (ambassador, address)
    }
}

#[track_caller]
fn wait_for_greeting(address: SocketAddr, greeting: &str) {
    eventually(&format!("the greeting {greeting:?}"), || read_all(address).unwrap() == greeting);
}

#[test]
fn failing_link_leaves_the_last_instances_in_service_and_is_warned_of_once() {
    let elsewhere = elsewhere();
    all_at_once(faults(elsewhere.address()), |link| {
        let scene = Scene::new();
        let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
        scene.register(&old);
        let (ambassador, address) = scene.proxied();
        wait_for_greeting(address, "old");
        eventually("a poll", || scene.relay.has_polled());
        let calm = ambassador.log().len();
        scene.relay.set(link.clone());
        // That poll hears of the change, and the list after it fails.
        scene.register(&new);
        let warned = || !ambassador.warnings(&["still serving 1 known instance"]).is_empty();
        eventually(&format!("a warning of {link:?}"), warned);
        let asked = scene.relay.accepted();
        for _ in 0..3 {
            assert_eq!(read_all(address).unwrap(), "old", "{link:?}");
        }
        eventually(&format!("two more attempts with {link:?}"), || {
            scene.relay.accepted() >= asked + 2
        });
        assert_eq!(read_all(address).unwrap(), "old", "{link:?}");
        scene.relay.set(Link::Passes);
        wait_for_greeting(address, "new");
        scene.register(&old);
        wait_for_greeting(address, "old");
        assert_one_outage(&ambassador, calm, &link);
    });
    assert_eq!(elsewhere.accepted(), 0);
}

/// Only what is later than the deadline is an outage.
#[test]
fn slow_link_delays_changes_and_is_no_outage() {
    let scene = Scene::new();
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    scene.register(&old);
    scene.relay.set(Link::Delays(Duration::from_millis(200)));
    let (ambassador, address) = scene.proxied();
    for (upstream, greeting) in [(&old, "old"), (&new, "new"), (&old, "old")] {
        scene.register(upstream);
        wait_for_greeting(address, greeting);
    }
    assert_eq!(ambassador.warnings(&["etcd"]), Vec::<String>::new());
}

/// As by something in between that takes silence for the end.
#[test]
fn polls_that_are_always_cut_leave_changes_to_be_found_by_listing() {
    let scene = Scene::new();
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    scene.register(&old);
    let (server, nowhere) = (scene.etcd.address(), refusing_address());
    let cut = per_request(move |request| match etcd::is_poll(request) {
        true => nowhere,
        false => server,
    });
    let etcd = format!("http://{}", cut.address());
    let ambassador = scene.launch("proxy", &etcd, [SERVICE, "127.0.0.1:0"]).start();
    let address = ambassador.address();
    for (upstream, greeting) in [(&old, "old"), (&new, "new"), (&old, "old")] {
        scene.register(upstream);
        wait_for_greeting(address, greeting);
    }
    assert_eq!(ambassador.warnings(&["etcd"]), Vec::<String>::new());
}
