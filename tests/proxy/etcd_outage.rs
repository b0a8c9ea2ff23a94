//! etcd is away for a while: its clients lose nothing, its log says so once, and
//! nobody storms it when it is back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::support::relay::per_request;
use crate::support::visitors::Visitors;

/// A proxy of many services.
fn proxied(etcd: &str, services: &[String]) -> Ambassador {
    let routes = services.iter().flat_map(|service| [&service[..], "127.0.0.1:0"]);
    ambassador(["proxy", "--etcd", etcd].into_iter().chain(routes)).start()
}

fn services(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{prefix}-{index}")).collect()
}

#[test]
fn outage_is_said_once_by_a_process_and_not_once_a_service() {
    let mut etcd = Etcd::start();
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    let services = services("service", 5);
    let key = |service: &String| format!("/services/{service}/one");
    services.iter().for_each(|service| etcd.put(&key(service), &old.registration()));
    let ambassador = proxied(&etcd.url(), &services);
    let wait_for = |greeting: &str| {
        for service in &services {
            wait_for_greeting(ambassador.address_of(service), greeting);
        }
    };
    wait_for("old");
    let outages = ["still serving 5 known instances"];
    let count = |words: &str| ambassador.log().iter().filter(|l| l.contains(words)).count();
    for outage in 1..=2 {
        etcd.stop();
        eventually("a warning", || ambassador.warnings(&outages).len() == outage);
        // Each of the five asks again, at least twice.
        proceed_after(Duration::from_secs(2));
        etcd.start_again();
        eventually("the end of it", || count("answers again") == outage);
        let upstream = if outage == 1 { &new } else { &old };
        services.iter().for_each(|service| etcd.put(&key(service), &upstream.registration()));
        wait_for(if outage == 1 { "new" } else { "old" });
        assert_eq!(ambassador.warnings(&["no answer from etcd"]).len(), outage);
        assert_eq!(count("answers again"), outage, "{:#?}", ambassador.log());
    }
}

#[test]
fn twenty_seconds_without_etcd_cost_none_of_fifty_clients_a_second_an_error() {
    clients_meanwhile(Etcd::stop, Etcd::start_again);
}

#[test]
fn twenty_seconds_of_a_paused_etcd_cost_none_of_fifty_clients_a_second_an_error() {
    clients_meanwhile(Etcd::pause, Etcd::resume);
}

fn clients_meanwhile(leave: impl Fn(&mut Etcd), come_back: impl Fn(&mut Etcd)) {
    const KEY: &str = "/services/redis-A/one";
    let mut etcd = Etcd::start();
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    etcd.put(KEY, &old.registration());
    let (ambassador, address) =
        started(ambassador(["proxy", "--etcd", &etcd.url(), SERVICE, "127.0.0.1:0"]));
    wait_for_greeting(address, "old");
    leave(&mut etcd);
    let visitors = Visitors::start(address, 50);
    proceed_after(Duration::from_secs(20));
    assert!(ambassador.warnings(&["etcd"]).len() <= 1, "{:#?}", ambassador.log());
    come_back(&mut etcd);
    etcd.put(KEY, &new.registration());
    wait_for_greeting(address, "new");
    let visits = visitors.finish();
    assert_eq!(visits.failures, Vec::<String>::new());
    assert!(visits.greetings.len() > 500, "{}", visits.greetings.len());
}

/// Everybody fails at the same moment, and must not come back at the same moment.
#[test]
fn pollers_come_back_one_after_the_other_when_etcd_restarts() {
    // Other tests may stop the machine for a while, which gathers those that come.
    let mut seen = Vec::new();
    let is_spread = (0..4).any(|_| {
        seen.push(most_arrivals_at_once());
        seen.last().is_some_and(|&most| most <= POLLERS / 3)
    });
    assert!(is_spread, "{seen:?} of {POLLERS} within 100 ms");
}

const POLLERS: usize = 100;

/// How many of the pollers' first successful requests come within the same 100 ms.
fn most_arrivals_at_once() -> usize {
    let mut etcd = Etcd::start();
    let (server, nowhere) = (etcd.address(), refusing_address());
    let is_open = Arc::new(AtomicBool::new(true));
    let arrivals: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let gate = per_request({
        let (is_open, arrivals) = (is_open.clone(), arrivals.clone());
        move |request| {
            if !is_open.load(Ordering::SeqCst) {
                return nowhere;
            }
            // The first of all asks for nothing but what etcd offers.
            let key = etcd::requested_key(request).unwrap_or_default();
            if let Some(service) = key.split('/').find(|part| part.starts_with("herd-")) {
                let mut arrivals = arrivals.lock().unwrap();
                arrivals.entry(service.to_owned()).or_insert_with(Instant::now);
            }
            server
        }
    });
    let url = format!("http://{}", gate.address());
    let _ambassadors: Vec<Ambassador> = (0..4)
        .map(|index| proxied(&url, &services(&format!("herd-{index}"), POLLERS / 4)))
        .collect();
    let have_come = || arrivals.lock().unwrap().len();
    eventually("every poller", || have_come() == POLLERS);
    is_open.store(false, Ordering::SeqCst);
    etcd.stop();
    // Their pauses have grown as far as they grow.
    proceed_after(Duration::from_secs(4));
    etcd.start_again();
    arrivals.lock().unwrap().clear();
    is_open.store(true, Ordering::SeqCst);
    eventually("every poller again", || have_come() == POLLERS);
    let arrivals = arrivals.lock().unwrap();
    let within_100_ms = |first: &Instant| {
        let is_near = |at: &Instant| at >= first && *at - *first < Duration::from_millis(100);
        arrivals.values().filter(|at| is_near(at)).count()
    };
    arrivals.values().map(within_100_ms).max().unwrap()
}
