//! The member that leads dies or stands still.

use super::*;

/// At the default TTL, with the pace that etcd has by default.
#[test]
fn killed_leader_costs_none_of_fifty_registrars_its_key() {
    const COUNT: usize = 50;
    let mut cluster = Cluster::start(Pace::Default);
    let ip = fresh_ip();
    let addresses: Vec<SocketAddr> =
        (0..COUNT).map(|index| (ip, 10_000 + index as u16).into()).collect();
    let leader = cluster.leader();
    let witness = (leader + 1) % 3;
    // Half of them lose the member that they talk to.
    let registrars: Vec<Ambassador> = addresses
        .iter()
        .enumerate()
        .map(|(index, &address)| register(&cluster.urls_from(leader + index % 2), address, []))
        .map(Launch::start)
        .collect();
    let all = || cluster.member(witness).list(DIRECTORY);
    eventually("every key", || all().len() == COUNT);
    let watch = cluster.member(witness).watch(DIRECTORY);
    cluster.stop(leader);
    let killed = Instant::now();
    let mut listings = 0;
    while killed.elapsed() < Duration::from_secs(25) {
        let patience = Duration::from_secs(1);
        if let Some(keys) = cluster.member(witness).list_within(patience, DIRECTORY) {
            assert_eq!(keys.len(), COUNT, "{:?} after the kill", killed.elapsed());
            listings += 1;
        }
        proceed_after(Duration::from_millis(100));
    }
    assert!(listings > 50, "{listings}");
    // A key that is written once more, because an answer was late, was never away.
    let mut changes = watch.so_far(cluster.survivor(leader), DIRECTORY);
    changes.retain(|change| !change.starts_with("set "));
    assert_eq!(changes, no_failures());
    drop(registrars);
}

#[test]
fn change_made_after_the_leader_was_killed_is_followed_and_costs_no_client_an_error() {
    change_without_the_leader(Cluster::stop);
}

/// Nothing is closed: the poll that waits for the change stays as silent as before.
#[test]
fn change_made_while_the_leader_is_paused_is_followed_and_costs_no_client_an_error() {
    change_without_the_leader(Cluster::pause);
}

/// The service is away when the leader leaves, and comes back without it.
fn change_without_the_leader(leave: impl Fn(&mut Cluster, usize)) {
    let mut cluster = Cluster::start(Pace::Fast);
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    let leader = cluster.leader();
    cluster.member(leader).put(KEY, &old.registration());
    let (ambassador, address) = proxied(&cluster.urls_from(leader), []);
    wait_for_greeting(address, "old");
    let visitors = Visitors::start(address, 10);
    cluster.member(leader).delete(KEY);
    eventually("its absence is known", || {
        ambassador.log().iter().any(|line| line.contains("0 instances"))
    });
    leave(&mut cluster, leader);
    cluster.put_without(leader, KEY, &new.registration());
    let greeted = visitors.greeted();
    eventually("clients are served again", || visitors.greeted() > greeted + 10);
    let visits = visitors.finish();
    assert_eq!(visits.failures, no_failures(), "{:#?}", ambassador.log());
    assert_eq!(visits.greetings.last().unwrap(), "new");
}
