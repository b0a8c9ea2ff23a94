//! Members that are cut off from their peers, or too few of them.

use super::*;

/// It answers as before, with what it remembers.
#[test]
fn member_that_is_cut_off_from_its_peers_does_not_hide_a_change() {
    let cluster = Cluster::start(Pace::Fast);
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    cluster.member(0).put(KEY, &old.registration());
    let (_ambassador, address) = proxied(&cluster.urls_from(0), []);
    wait_for_greeting(address, "old");
    cluster.isolate(0, true);
    cluster.put_without(0, KEY, &new.registration());
    wait_for_greeting(address, "new");
    cluster.isolate(0, false);
    cluster.wait_until_whole();
}

#[test]
fn registrar_whose_member_is_cut_off_from_its_peers_refreshes_through_another() {
    let cluster = Cluster::start(Pace::Fast);
    let address = SocketAddr::from((fresh_ip(), 5432));
    let _ambassador = register(&cluster.urls_from(0), address, ["--ttl", "6s"]).start();
    eventually("the entry", || cluster.member(0).get(&key(address)).is_some());
    cluster.isolate(0, true);
    let witness = cluster.survivor(0);
    let watch = witness.watch(DIRECTORY);
    witness.wait_for_refreshes(&key(address), 3);
    assert_eq!(watch.so_far(witness, DIRECTORY), no_failures());
}

/// Two others went on without it, then left; it is all that is left to ask.
#[test]
fn member_that_remembers_an_earlier_state_does_not_replace_what_is_known() {
    let mut cluster = Cluster::start(Pace::Fast);
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    cluster.member(0).put(KEY, &old.registration());
    let (ambassador, address) = proxied(&cluster.urls_from(1), []);
    wait_for_greeting(address, "old");
    cluster.isolate(0, true);
    cluster.put_without(0, KEY, &new.registration());
    wait_for_greeting(address, "new");
    let visitors = Visitors::start(address, 10);
    cluster.stop(1);
    cluster.stop(2);
    ambassador.wait_for_warning(&["still serving 1 known instance"]);
    // Time for every member to be asked twice.
    proceed_after(Duration::from_secs(5));
    let visits = visitors.finish();
    assert_eq!(visits.failures, no_failures());
    assert!(visits.greetings.iter().all(|greeting| greeting == "new"), "{visits:?}");
    cluster.isolate(0, false);
    cluster.start_member(1);
    cluster.start_member(2);
    cluster.wait_until_whole();
    cluster.member(0).put(KEY, &old.registration());
    wait_for_greeting(address, "old");
    assert_eq!(ambassador.warnings(&["still serving"]).len(), 1, "{:#?}", ambassador.log());
}

/// Nothing expires without a quorum; what is overdue expires the moment there is one again.
#[test]
fn quorum_that_was_away_for_longer_than_the_ttl_costs_no_client_an_error() {
    let mut cluster = Cluster::start(Pace::Fast);
    let (upstream, late) = (Upstream::greeter("hello"), Upstream::greeter("late"));
    let address = upstream.address();
    let _registrar = register(&cluster.urls_from(0), address, ["--ttl", "3s"]).start();
    // No client waits for as long as the quorum is away.
    let (proxy, front) = proxied(&cluster.urls_from(0), ["--wait", "5s"]);
    wait_for_greeting(front, "hello");
    let visitors = Visitors::start(front, 10);
    cluster.pause(1);
    cluster.pause(2);
    let paused = Instant::now();
    proxy.wait_for_warning(&["still serving 1 known instance"]);
    proceed_after(Duration::from_secs(7).saturating_sub(paused.elapsed()));
    cluster.resume(1);
    cluster.resume(2);
    cluster.wait_until_whole();
    eventually("the entry", || cluster.member(0).get(&key(address)).is_some());
    cluster.member(0).wait_for_refreshes(&key(address), 1);
    cluster.member(0).put(KEY, &late.registration());
    wait_for_greeting(front, "late");
    let visits = visitors.finish();
    assert_eq!(visits.failures, no_failures(), "{:#?}", proxy.log());
    assert_eq!(proxy.warnings(&["still serving"]).len(), 1, "{:#?}", proxy.log());
}

#[test]
fn wiped_cluster_gets_every_entry_back_within_one_refresh_and_no_client_sees_an_error() {
    let mut cluster = Cluster::start(Pace::Fast);
    let upstreams: Vec<Upstream> = (0..5).map(|_| Upstream::greeter("hello")).collect();
    let registrars: Vec<Ambassador> = upstreams
        .iter()
        .enumerate()
        .map(|(index, upstream)| (cluster.urls_from(index), upstream.address()))
        .map(|(etcd, address)| register(&etcd, address, ["--ttl", "6s"]).start())
        .collect();
    let (_proxy, front) = proxied(&cluster.urls_from(0), []);
    let count = |cluster: &Cluster| cluster.member(0).list(DIRECTORY).len();
    eventually("every entry", || count(&cluster) == upstreams.len());
    wait_for_greeting(front, "hello");
    let visitors = Visitors::start(front, 20);
    cluster.wipe();
    // A refresh comes every 2 s, or as soon after it as etcd is asked again.
    within(Duration::from_secs(5), "every entry", || count(&cluster) == upstreams.len());
    let greeted = visitors.greeted();
    eventually("visitors after it", || visitors.greeted() > greeted + 20);
    assert_eq!(visitors.finish().failures, no_failures());
    drop(registrars);
}
