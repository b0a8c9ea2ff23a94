//! `register` behind such a link.

use super::*;

const ADDRESS: &str = "10.0.0.7:5432";
const VALUE: &str = r#"{ "port": 5432, "host": "10.0.0.7" }"#;

impl Scene {
    fn entry(&self) -> String {
        format!("{}/{SERVICE}/{ADDRESS}", self.prefix)
    }

    fn registrar(&self, etcd: &str, ttl: &str) -> Ambassador {
        let options = ["--ttl", ttl, "--address", ADDRESS, SERVICE];
        self.launch("register", etcd, options).start()
    }

    /// A registrar that asks `etcd`, and knows that its entry is written.
    fn registered(&self, etcd: &str, ttl: &str) -> Ambassador {
        let ambassador = self.registrar(etcd, ttl);
        let is_known = |line: &String| line.contains(&format!("{} registered", self.entry()));
        eventually("the entry", || ambassador.log().iter().any(is_known));
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
        let calm = ambassador.log().len();
        scene.relay.set(link.clone());
        watch.wait_for(etcd::expiries(), &scene.entry());
        scene.relay.set(Link::Passes);
        scene.etcd.wait_for_value(&scene.entry(), VALUE);
        scene.etcd.wait_for_refreshes(&scene.entry(), 2);
        assert_one_outage(&ambassador, calm, &link);
    });
    assert_eq!(elsewhere.accepted(), 0);
}

/// The process ends within 2 s, which is time enough to ask every member.
#[test]
fn entry_is_removed_at_the_end_through_the_only_member_whose_link_works() {
    let elsewhere = elsewhere();
    all_at_once(faults(elsewhere.address()), |link| {
        // Other tests may stop the machine for as long as the process has.
        let left = (0..3).map(|_| left_at_the_end(&link)).take_while(Option::is_some);
        let left: Vec<String> = left.flatten().collect();
        assert!(left.len() < 3, "{link:?}: {left:#?}");
    });
    assert_eq!(elsewhere.accepted(), 0);
}

/// What was said when the entry stayed behind `link`, which three of four members have.
fn left_at_the_end(link: &Link) -> Option<String> {
    let scene = Scene::new();
    let failing = [(); 3].map(|()| Relay::to(scene.etcd.address()));
    let members: Vec<String> = failing.iter().map(Relay::url).collect();
    let members = format!("{},{}", members.join(","), scene.etcd.url());
    let ambassador = scene.registered(&members, "60s");
    failing.iter().for_each(|relay| relay.set(link.clone()));
    let ended = ambassador.terminate();
    assert_eq!(ended.code, Some(0), "{link:?}");
    scene.etcd.get(&scene.entry()).map(|_| ended.stderr)
}

/// Whoever stops it learns what is left behind, and does not wait for it.
#[test]
fn entry_that_cannot_be_removed_at_the_end_is_named() {
    let elsewhere = elsewhere();
    all_at_once(faults(elsewhere.address()), |link| {
        let scene = Scene::new();
        let ambassador = scene.registered(&scene.relay.url(), "60s");
        scene.relay.set(link.clone());
        let told = Instant::now();
        let ended = ambassador.terminate();
        assert_eq!(ended.code, Some(0), "{link:?}");
        assert!(told.elapsed() < Duration::from_secs(4), "{link:?}: {:?}", told.elapsed());
        let last = ended.stderr.lines().last().unwrap();
        assert!(last.contains(&scene.entry()) && last.contains("TTL"), "{link:?}: {last}");
    });
}

#[test]
fn slow_link_keeps_the_entry_and_is_no_outage() {
    let scene = Scene::new();
    // A refresh of v3 is two requests, which have the time that one of v2 has.
    let pause = if etcd::only_v2() { 200 } else { 100 };
    scene.relay.set(Link::Delays(Duration::from_millis(pause)));
    let ambassador = scene.registered(&scene.relay.url(), "6s");
    let watch = scene.etcd.watch(&scene.prefix);
    scene.etcd.wait_for_refreshes(&scene.entry(), 3);
    assert_eq!(watch.so_far(scene.etcd, &scene.prefix), Vec::<String>::new());
    assert_eq!(ambassador.warnings(&[]), Vec::<String>::new());
}

/// A put that etcd applied, although its answer was never seen, is known as ours.
#[test]
fn put_whose_answer_was_lost_is_taken_out_at_the_end() {
    // With v3 a lease comes first, whose answer would be lost as well.
    if !etcd::only_v2() {
        return;
    }
    let scene = Scene::new();
    scene.relay.set(Link::LosesAnswers);
    let ambassador = scene.registrar(&scene.relay.url(), "60s");
    scene.etcd.wait_for_value(&scene.entry(), VALUE);
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
