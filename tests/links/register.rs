//! `register` behind such a link.

use super::*;

const ADDRESS: &str = "10.0.0.7:5432";
const VALUE: &str = r#"{ "port": 5432, "host": "10.0.0.7" }"#;

impl Scene {
    fn entry(&self) -> String {
        format!("{}/{SERVICE}/{ADDRESS}", self.prefix)
    }

    /// A registrar that asks `etcd`, its entry written already.
    fn registered(&self, etcd: &str, ttl: &str) -> Ambassador {
        let options = ["--ttl", ttl, "--address", ADDRESS, SERVICE];
        let ambassador = self.launch("register", etcd, options).start();
        self.etcd.wait_for_value(&self.entry(), VALUE);
        ambassador
    }
}

/// As each of a cluster has a link of its own.
#[test]
fn failing_link_to_one_member_leaves_the_entry_to_be_refreshed_through_another() {
    let elsewhere = elsewhere();
    all_at_once(faults(elsewhere.address()), |link| {
        let scene = Scene::new();
        let members = format!("{},{}", scene.relay.url(), scene.etcd.url());
        let ambassador = scene.registered(&members, "6s");
        let watch = scene.etcd.watch(&scene.prefix);
        scene.relay.set(link.clone());
        scene.etcd.wait_for_refreshes(&scene.entry(), 3);
        let changes = watch.so_far(scene.etcd, &scene.prefix);
        assert_eq!(changes, Vec::<String>::new(), "{link:?}: {:#?}", ambassador.log());
    });
    assert_eq!(elsewhere.accepted(), 0);
}

#[test]
fn failing_link_to_the_only_member_is_warned_of_once_and_the_entry_is_put_when_it_heals() {
    let elsewhere = elsewhere();
    all_at_once(faults(elsewhere.address()), |link| {
        let scene = Scene::new();
        let ambassador = scene.registered(&scene.relay.url(), "3s");
        let watch = scene.etcd.watch(&scene.prefix);
        scene.relay.set(link.clone());
        watch.wait_for(&["expire"], &scene.entry());
        scene.relay.set(Link::Passes);
        scene.etcd.wait_for_value(&scene.entry(), VALUE);
        scene.etcd.wait_for_refreshes(&scene.entry(), 2);
        assert_one_outage(&ambassador, &link);
    });
    assert_eq!(elsewhere.accepted(), 0);
}

#[test]
fn slow_link_keeps_the_entry_and_is_no_outage() {
    let scene = Scene::new();
    scene.relay.set(Link::Delays(Duration::from_millis(400)));
    let ambassador = scene.registered(&scene.relay.url(), "6s");
    let watch = scene.etcd.watch(&scene.prefix);
    scene.etcd.wait_for_refreshes(&scene.entry(), 3);
    assert_eq!(watch.so_far(scene.etcd, &scene.prefix), Vec::<String>::new());
    assert_eq!(ambassador.warnings(&[]), Vec::<String>::new());
}

/// A put that etcd applied, although its answer was never seen, is known as ours.
#[test]
fn put_whose_answer_was_lost_is_taken_out_at_the_end() {
    let scene = Scene::new();
    scene.relay.set(Link::LosesAnswers);
    let ambassador = scene.registered(&scene.relay.url(), "60s");
    eventually("the put has failed", || !ambassador.warnings(&["etcd"]).is_empty());
    // From now on it fails at once, so that none is under way when the end comes.
    let unavailable = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    scene.relay.set(Link::Answers(unavailable.into(), Then::Fin));
    let asked = scene.relay.accepted();
    eventually("two more puts", || scene.relay.accepted() >= asked + 2);
    scene.relay.set(Link::Passes);
    assert_eq!(ambassador.terminate().code, Some(0));
    assert_eq!(scene.etcd.get(&scene.entry()), None);
}
