//! What only etcd's v3 API has, and which of its APIs is spoken.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::ambassador::{Ambassador, Launch, ambassador};
use crate::support::client::read_all;
use crate::support::etcd::{self, Api, Client, Cluster, Etcd, Pace};
use crate::support::fake_docker::{Container, FakeDocker};
use crate::support::relay::per_request;
use crate::support::roles::{FOLLOWED, Roles, WRITTEN};
use crate::support::upstream::{Upstream, registration};
use crate::support::visitors::Visitors;
use crate::support::{DEADLINE, eventually, fresh_ip, within};

const V3: [&str; 2] = ["--etcd-api", "v3"];

fn etcd() -> Etcd {
    Etcd::absent_with(Api::V3).started()
}

/// A proxy of redis-A that speaks v3.
fn proxied(etcd: &str) -> (Ambassador, SocketAddr) {
    let words = ["proxy", "--etcd", etcd].into_iter().chain(V3);
    let ambassador = ambassador(words.chain(["redis-A", "127.0.0.1:0"])).start();
    let address = ambassador.address();
    (ambassador, address)
}

fn wait_for_greeting(address: SocketAddr, greeting: &str) {
    eventually(&format!("the greeting {greeting:?}"), || {
        read_all(address).is_ok_and(|heard| heard == greeting)
    });
}

#[test]
fn both_roles_work_with_every_etcd_that_has_no_v2() {
    for etcd in [Etcd::absent_with(Api::V3), Etcd::absent_with(Api::V3).of_the_system()] {
        let etcd = etcd.started();
        let roles = Roles::start(&etcd.url(), &V3);
        roles.wait_until_both_work(&etcd);
        for ambassador in roles.both() {
            assert_eq!(ambassador.warnings(&["etcd"]), Vec::<String>::new());
        }
        assert_eq!(roles.registrar.terminate().code, Some(0));
        assert_eq!(etcd.get(WRITTEN), None);
    }
}

/// A registrar, and what it runs beside.
struct Scene {
    etcd: Etcd,
    docker: FakeDocker,
}

const CONTAINER: &str = "redis.service";
const KEY: &str = "/services/redis-A/redis.service";

impl Scene {
    fn running() -> Scene {
        let docker = FakeDocker::start();
        docker.run(container(49155));
        Scene { etcd: etcd(), docker }
    }

    fn register(&self, ttl: &str) -> Launch {
        let words = ["register", "--etcd", &self.etcd.url(), "--docker", &self.docker.address()];
        let words = words.into_iter().chain(V3).chain(["--ttl", ttl]);
        ambassador(words.chain([CONTAINER, "6379", "redis-A"]))
    }

    fn registered(&self, ttl: &str) -> Ambassador {
        let ambassador = self.register(ttl).start();
        self.etcd.wait_for_value(KEY, &value(49155));
        self.docker.wait_until_followed();
        ambassador
    }
}

fn container(port: u16) -> Container {
    Container::named(CONTAINER).publishes(6379, &[("10.132.181.182", port)])
}

fn value(port: u16) -> String {
    format!(r#"{{ "port": {port}, "host": "10.132.181.182" }}"#)
}

#[test]
fn registrar_has_one_lease_that_it_prolongs_and_writes_nothing_meanwhile() {
    let scene = Scene::running();
    let registrar = scene.registered("3s");
    let before = scene.etcd.stored(KEY).unwrap();
    let lease = before.lease.clone().expect("a lease");
    assert_eq!(scene.etcd.granted_ttl_s(&lease), 3);
    scene.etcd.wait_for_refreshes(KEY, 4);
    assert_eq!(scene.etcd.stored(KEY).unwrap(), before);
    // The container comes and goes, and the lease stays.
    scene.docker.restart(CONTAINER, 6379, &[("10.132.181.182", 49156)]);
    scene.etcd.wait_for_value(KEY, &value(49156));
    assert_eq!(scene.etcd.stored(KEY).unwrap().lease, Some(lease.clone()));
    assert_eq!(scene.etcd.leases(), [lease]);
    assert_eq!(registrar.terminate().code, Some(0));
    assert_eq!(scene.etcd.stored(KEY), None);
}

/// As by etcd, when it has not heard of the registrar for too long.
#[test]
fn lease_that_is_gone_makes_it_look_at_docker_before_it_writes_again() {
    let scene = Scene::running();
    let registrar = scene.registered("3s");
    let lease = scene.etcd.stored(KEY).unwrap().lease.unwrap();
    // Nobody tells it that the port is another one now.
    scene.docker.change_silently(CONTAINER, |known| {
        *known = known.clone().publishes(6379, &[("10.132.181.182", 49156)]);
    });
    let watch = scene.etcd.watch("/services");
    scene.etcd.revoke(&lease);
    // Long before the next regular look at Docker, of which there is one in 15 s.
    within(Duration::from_secs(6), "the new port", || scene.etcd.get(KEY) == Some(value(49156)));
    scene.etcd.wait_for_refreshes(KEY, 2);
    watch.so_far(&scene.etcd, "/services");
    let changes = watch.changes().into_iter();
    let written: Vec<String> = changes.filter_map(|change| change.value).collect();
    assert_eq!(written[0], value(49156), "{:#?}", registrar.log());
    assert_ne!(scene.etcd.stored(KEY).unwrap().lease.unwrap(), lease);
}

/// Our value, but under a lease that nobody prolongs: as after another process of ours.
#[test]
fn value_under_the_lease_of_somebody_else_is_put_under_our_own() {
    let scene = Scene::running();
    let _registrar = scene.registered("6s");
    let lease = scene.etcd.stored(KEY).unwrap().lease;
    scene.etcd.put_with_ttl(KEY, &value(49155), 60);
    assert_ne!(scene.etcd.stored(KEY).unwrap().lease, lease);
    eventually("our lease again", || scene.etcd.stored(KEY).is_some_and(|now| now.lease == lease));
}

/// Somebody deleted it by hand: the lease lives on without its key.
#[test]
fn key_that_was_deleted_while_its_lease_lives_is_written_again() {
    let scene = Scene::running();
    let _registrar = scene.registered("3s");
    scene.etcd.delete(KEY);
    scene.etcd.wait_for_value(KEY, &value(49155));
    scene.etcd.wait_for_refreshes(KEY, 2);
}

#[test]
fn killed_registrar_leaves_an_entry_that_expires_within_its_ttl() {
    let scene = Scene::running();
    let watch = scene.etcd.watch("/services");
    scene.registered("3s").kill();
    let killed = std::time::Instant::now();
    let expired = watch.wait_for(&["delete"], KEY);
    assert!(expired - killed < Duration::from_secs(5), "{:?}", expired - killed);
}

/// What is compacted is gone for polls that have not begun, and no poll hears of it.
#[test]
fn compaction_while_a_poll_is_pending_hides_no_change() {
    let etcd = etcd();
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    etcd.put(FOLLOWED, &old.registration());
    let (ambassador, address) = proxied(&etcd.url());
    wait_for_greeting(address, "old");
    for upstream in [&new, &old, &new] {
        for _ in 0..20 {
            etcd.put("/elsewhere", "");
        }
        etcd.compact();
        etcd.put(FOLLOWED, &upstream.registration());
        wait_for_greeting(address, if std::ptr::eq(upstream, &new) { "new" } else { "old" });
    }
    assert_eq!(ambassador.warnings(&["etcd"]), Vec::<String>::new());
}

/// The twin of v2's cleared index.
#[test]
fn compaction_between_a_list_and_its_poll_makes_the_poller_list_again() {
    let etcd = Arc::new(etcd());
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    etcd.put(FOLLOWED, &old.registration());
    let (change, is_first) = (new.registration(), AtomicBool::new(true));
    let relay = per_request({
        let etcd = etcd.clone();
        move |request| {
            if etcd::is_poll(request) && is_first.swap(false, Ordering::SeqCst) {
                etcd.put(FOLLOWED, &change);
                etcd.put("/elsewhere", "");
                etcd.compact();
            }
            etcd.address()
        }
    });
    let (ambassador, address) = proxied(&relay.address().to_string());
    // Far sooner than an idle poll would end.
    wait_for_greeting(address, "new");
    etcd.put(FOLLOWED, &old.registration());
    wait_for_greeting(address, "old");
    assert_eq!(ambassador.warnings(&["etcd"]), Vec::<String>::new());
}

/// etcd leaves the stream of a watch that it cancelled open, and silent.
#[test]
fn watch_that_is_cancelled_makes_the_poller_list_again() {
    let endings = [
        r#","watch_id":"-1","created":true,"canceled":true,"cancel_reason":"why not"}}"#,
        r#","created":true}}%{"result":{"header":HEADER,"canceled":true}}"#,
        r#","created":true}}%{"error":{"code":14,"message":"etcdserver: no leader"}}"#,
        // As 3.4 has it.
        r#","created":true}}%{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader","http_status":"Service Unavailable"}}"#,
    ];
    for ending in endings {
        let etcd = Arc::new(etcd());
        let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
        etcd.put(FOLLOWED, &old.registration());
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let canceller = Upstream::serve({
            let (etcd, change, is_cancelled) =
                (etcd.clone(), new.registration(), is_cancelled.clone());
            move |mut client| {
                let header = etcd.header();
                let lines = format!(r#"{{"result":{{"header":HEADER{ending}"#);
                let lines = lines.replace("HEADER", &header).replace('%', "\n");
                // Its poll says nothing of this.
                etcd.put(FOLLOWED, &change);
                is_cancelled.store(true, Ordering::SeqCst);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
                write!(client, "{head}Transfer-Encoding: chunked\r\n\r\n")?;
                for line in lines.lines() {
                    write!(client, "{:x}\r\n{line}\n\r\n", line.len() + 1)?;
                }
                thread::sleep(DEADLINE);
                Ok(())
            }
        });
        let (server, canceller) = (etcd.address(), canceller.address());
        let relay = per_request({
            let is_cancelled = is_cancelled.clone();
            move |request| match etcd::is_poll(request) && !is_cancelled.load(Ordering::SeqCst) {
                true => canceller,
                false => server,
            }
        });
        let (_ambassador, address) = proxied(&relay.address().to_string());
        wait_for_greeting(address, "new");
        assert!(is_cancelled.load(Ordering::SeqCst), "{ending}");
        etcd.put(FOLLOWED, &old.registration());
        wait_for_greeting(address, "old");
    }
}

/// A watch would stay silent; it can ask to be told.
#[test]
fn cluster_without_a_leader_is_noticed_and_serves_what_is_known() {
    let mut cluster = Cluster::start_with(Api::V3, Pace::Fast);
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    cluster.member(0).put(FOLLOWED, &old.registration());
    // The only member that it is told of stays, and is alone.
    let (ambassador, address) = proxied(&cluster.member(0).url());
    wait_for_greeting(address, "old");
    let visitors = Visitors::start(address, 10);
    cluster.stop(1);
    cluster.stop(2);
    within(Duration::from_secs(25), "a warning", || {
        !ambassador.warnings(&["still serving 1 known instance"]).is_empty()
    });
    cluster.start_member(1);
    cluster.start_member(2);
    cluster.wait_until_whole();
    cluster.member(0).put(FOLLOWED, &new.registration());
    wait_for_greeting(address, "new");
    assert_eq!(visitors.finish().failures, Vec::<String>::new());
}

#[test]
fn value_that_is_no_text_is_skipped_with_a_warning() {
    let etcd = etcd();
    let upstream = Upstream::greeter("hello");
    etcd.put_bytes("/services/redis-A/binary", &[0xff, 0xfe, 0]);
    etcd.put_bytes("/services/redis-A/\u{1b}[31m\n", upstream.registration().as_bytes());
    etcd.put(FOLLOWED, &upstream.registration());
    let (ambassador, address) = proxied(&etcd.url());
    wait_for_greeting(address, "hello");
    ambassador.wait_for_warning(&["/services/redis-A/binary"]);
    assert!(ambassador.log().iter().all(|line| !line.contains('\u{1b}')));
}

/// More than a line of a watch should have to carry at once.
#[test]
fn burst_of_changes_of_one_transaction_is_followed() {
    let etcd = etcd();
    let upstreams: Vec<Upstream> = (0..50).map(|n| Upstream::greeter(&n.to_string())).collect();
    let (_ambassador, address) = proxied(&etcd.url());
    let puts: Vec<(String, String)> = upstreams
        .iter()
        .enumerate()
        .map(|(n, upstream)| (format!("/services/redis-A/{n}"), upstream.registration()))
        .collect();
    etcd.put_all(&puts);
    eventually("every one of them is used", || {
        drop(read_all(address));
        upstreams.iter().all(|upstream| upstream.accepted() > 0)
    });
}

/// Which API it is, is said once, where operators look.
fn assert_says(ambassador: &Ambassador, api: &str) {
    let says = |line: &&String| {
        let is_about = line.contains("etcd") && line.to_lowercase().contains(api);
        line.trim_start().starts_with("INFO") && is_about
    };
    eventually(&format!("a line that says {api}"), || ambassador.log().iter().any(|l| says(&l)));
    let log = ambassador.log();
    assert_eq!(log.iter().filter(says).count(), 1, "{log:#?}");
}

/// The two stores of `etcd`.
fn stores(etcd: &Etcd) -> [Client; 2] {
    [Api::V2, Api::V3].map(|api| etcd.in_api(api))
}

#[test]
fn v2_is_spoken_where_it_is_offered_and_said_so() {
    let etcd = Etcd::absent_with(Api::V2).of_the_system().started();
    let [v2, v3] = stores(&etcd);
    let upstream = Upstream::greeter("of the other store");
    v3.put("/services/redis-A/other", &upstream.registration());
    let roles = Roles::start(&etcd.url(), &["--etcd-api", "auto"]);
    roles.wait_until_both_work(&v2);
    roles.both().iter().for_each(|ambassador| assert_says(ambassador, "v2"));
    assert_eq!((v3.get(WRITTEN), upstream.accepted()), (None, 0));
}

#[test]
fn v3_is_spoken_where_v2_is_not_offered_and_said_so() {
    let etcd = etcd();
    let roles = Roles::start(&etcd.url(), &["--etcd-api", "auto"]);
    roles.wait_until_both_work(&etcd);
    roles.both().iter().for_each(|ambassador| assert_says(ambassador, "v3"));
}

#[test]
fn api_is_found_out_as_soon_as_etcd_answers() {
    for api in [Api::V2, Api::V3] {
        let mut etcd = Etcd::absent_with(api).of_the_system();
        let roles = Roles::start(&etcd.url(), &["--etcd-api", "auto"]);
        for ambassador in roles.both() {
            ambassador.wait_for_warning(&[&etcd.address().to_string()]);
        }
        etcd.start_again();
        roles.wait_until_both_work(&etcd);
        roles.both().iter().for_each(|ambassador| assert_says(ambassador, api.name()));
    }
}

/// A server that does not answer is no reason to look for another store in it.
#[test]
fn api_that_was_found_out_stays_while_etcd_is_away() {
    let mut etcd = etcd();
    let roles = Roles::start(&etcd.url(), &["--etcd-api", "auto"]);
    let upstream = Upstream::greeter("hello");
    roles.follow(&etcd, &upstream, "hello");
    etcd.stop();
    roles.proxy.wait_for_warning(&["still serving 1 known instance"]);
    assert_eq!(roles.greeting().as_deref(), Some("hello"));
    etcd.start_again();
    roles.wait_until_both_work(&etcd);
}

#[test]
fn store_is_the_one_that_is_chosen_by_hand() {
    let etcd = Etcd::absent_with(Api::V2).of_the_system().started();
    for (chosen, other) in [(Api::V2, Api::V3), (Api::V3, Api::V2)] {
        let [chosen_store, other_store] = [chosen, other].map(|api| etcd.in_api(api));
        let roles = Roles::start(&etcd.url(), &["--etcd-api", chosen.name()]);
        roles.wait_until_both_work(&chosen_store);
        assert_eq!(other_store.get(WRITTEN), None);
        drop(roles);
        chosen_store.delete("/services");
    }
}

#[test]
fn api_that_is_chosen_by_hand_and_not_offered_is_said_to_be() {
    // What Debian has is v2 off, and no gateway when it is told so.
    let no_v2 = Etcd::absent_with(Api::V3).of_the_system().started();
    let no_gateway = Etcd::absent_with(Api::V2).with_options(["--enable-grpc-gateway=false"]);
    let no_gateway = no_gateway.of_the_system().started();
    for (etcd, api) in [(&no_v2, "v2"), (&no_gateway, "v3")] {
        let member = etcd.address().to_string();
        let mut roles = Roles::start(&etcd.url(), &["--etcd-api", api]);
        roles.assert_neither_works(etcd, &member, &[api]);
    }
}

#[test]
fn api_that_does_not_exist_is_wrong_usage() {
    for (args, env) in [(&["--etcd-api", "v4"][..], None), (&[], Some("v4"))] {
        let launch = ambassador(["list"].iter().chain(args));
        let ended = env.into_iter().fold(launch, |l, v| l.env("AMBASSADOR_ETCD_API", v)).run();
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended:?}");
        assert!(ended.stderr.contains("v4"), "{ended:?}");
    }
}

#[test]
fn helpers_list_what_v3_has() {
    let etcd = etcd();
    etcd.put_with_ttl("/services/web/a", "10.0.0.1:80", 100);
    etcd.put("/services/web/a/below", "10.0.0.3:80");
    etcd.put("/services/redis-A/b", &registration((fresh_ip(), 6379).into()));
    let words = ["list", "--json", "--etcd", &etcd.url()];
    let ended = ambassador(words.into_iter().chain(V3)).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let listed: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let services = [&listed[0]["service"], &listed[1]["service"]];
    assert_eq!(services, ["redis-A", "web"], "{listed}");
    assert_eq!(listed.as_array().unwrap().len(), 2, "only direct children: {listed}");
    assert_eq!(listed[0]["ttl_s"], serde_json::Value::Null);
    assert!((90..=100).contains(&listed[1]["ttl_s"].as_i64().unwrap()), "{listed}");
}
