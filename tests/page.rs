//! The page of `--admin`, as a real browser shows it.

use std::net::SocketAddr;

use crate::support::ambassador::{Ambassador, ambassador};
use crate::support::browser::{Browser, Looks};
use crate::support::client::{open_connection, read_all};
use crate::support::etcd::{self, Etcd};
use crate::support::upstream::Upstream;
use crate::support::{eventually, fresh_ip, refusing_address, unique_prefix};

/// `proxy --admin ADMIN redis-A 127.0.0.1:0`.
fn proxy(admin: &str, etcd: &str, prefix: &str) -> Ambassador {
    let words = ["proxy", "--admin", admin, "--etcd", etcd, "--prefix", prefix];
    ambassador(words.into_iter().chain(["redis-A", "127.0.0.1:0"])).start()
}

fn url(proxy: &Ambassador) -> String {
    format!("http://{}/", proxy.address_of("admin"))
}

#[test]
fn page_shows_which_instance_serves_where_it_came_from_and_why_another_does_not() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let (upstream, refusing) = (Upstream::greeter("hello"), refusing_address());
    etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
    etcd.put(&format!("{prefix}/redis-A/two"), &refusing.to_string());
    let proxy = proxy("127.0.0.1:0", &etcd.url(), &prefix);
    let Some(browser) = Browser::open("page", &url(&proxy), &Looks::default()) else { return };
    browser.wait_for("#state", "ready");
    let client = || drop(read_all(proxy.address_of("redis-A")).unwrap());
    client();
    browser.wait_for(".service", "serves");
    client();
    browser.wait_for(".service", "tried last for");
    let text = browser.text(".service");
    for words in [
        &upstream.address().to_string(),
        &format!("{prefix}/redis-A/one"),
        &refusing.to_string(),
        "Connection refused",
        "1 refused",
        &proxy.address_of("redis-A").to_string(),
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // Clients that come now are a line above the ground of their chart.
    eventually("a chart rises", || {
        client();
        let heights = "return [...document.querySelectorAll('.service polyline')]
            .flatMap((line) => [...line.points].map((point) => point.y))";
        let heights = browser.run(heights);
        heights.as_array().unwrap().iter().any(|y| y.as_f64().unwrap() < 26.0)
    });
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn page_says_since_when_etcd_is_silent_and_when_it_is_back() {
    let mut etcd = Etcd::start();
    let upstream = Upstream::greeter("hello");
    etcd.put("/services/redis-A/one", &upstream.registration());
    let proxy = proxy("127.0.0.1:0", &etcd.url(), "/services");
    let Some(browser) = Browser::open("page", &url(&proxy), &Looks::default()) else { return };
    browser.wait_for("#etcd", "answers");
    etcd.stop();
    browser.wait_for("#etcd", "silent for");
    browser.wait_for("#etcd", "refused");
    browser.wait_for(".service header", "last known");
    assert_eq!(browser.text("#state"), "ready");
    etcd.start_again();
    browser.wait_for("#etcd", "answers");
    eventually("it is fresh", || !browser.text(".service header").contains("last known"));
    etcd.delete("/services/redis-A/one");
    browser.wait_for("#state", "not ready");
    browser.wait_for("#reason", "redis-A has no instance");
    browser.wait_for(".service", "No instance is known, clients wait.");
}

#[test]
fn page_that_gets_no_answer_says_so_and_goes_on_when_it_does() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let admin = SocketAddr::from((fresh_ip(), 9900)).to_string();
    let first = proxy(&admin, &etcd.url(), &prefix);
    let Some(browser) = Browser::open("page", &url(&first), &Looks::default()) else { return };
    browser.wait_for("#state", "not ready");
    assert_eq!(browser.text("#silence"), "");
    first.kill();
    browser.wait_for("#silence", "No answer from this ambassador");
    browser.wait_for(".old", "redis-A");
    assert!(browser.run("return document.title").as_str().unwrap().contains("no answer"));
    let _second = proxy(&admin, &etcd.url(), &prefix);
    eventually("it answers", || browser.text("#silence").is_empty());
    assert_eq!(browser.run("return document.querySelectorAll('.old').length"), 0);
}

#[test]
fn page_fits_a_phone_and_is_dark_where_that_is_preferred() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let upstream = Upstream::echo();
    // The longest names there may be, and what would be markup.
    let key = format!("{prefix}/redis-A/{}<img src=x>", "n".repeat(150));
    etcd.put(&key, &upstream.registration());
    let proxy = proxy("127.0.0.1:0", &etcd.url(), &prefix);
    let _client = open_connection(proxy.address_of("redis-A"));
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let mut grounds = Vec::new();
    for prefers_dark in [false, true] {
        let looks = Looks { is_phone: true, prefers_dark };
        let Some(browser) = Browser::open("page", &url(&proxy), &looks) else { return };
        browser.wait_for(".service", "<img src=x>");
        assert_eq!(browser.run("return document.images.length"), 0);
        let [width, screen] = ["document.documentElement.scrollWidth", "innerWidth"]
            .map(|what| browser.run(&format!("return {what}")).as_u64().unwrap());
        assert!(width <= screen, "{width} pixels on {screen}");
        assert_eq!(browser.complaints(), Vec::<String>::new());
        grounds.push(browser.run(ground));
    }
    assert_ne!(grounds[0], grounds[1]);
}

#[test]
fn page_of_a_registrar_shows_what_is_registered() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let words = ["register", "--admin", "127.0.0.1:0", "--etcd", &etcd.url(), "--prefix", &prefix];
    let rest = ["--host-ip", "127.0.0.1", "--address", "127.0.0.1:7000", "redis-A"];
    let registrar = ambassador(words.into_iter().chain(rest)).start();
    let url = format!("http://{}/", registrar.address());
    let Some(browser) = Browser::open("page", &url, &Looks::default()) else { return };
    browser.wait_for("#registrations", "registered");
    assert!(browser.text("#registrations").contains(&format!("{prefix}/redis-A/127.0.0.1:7000")));
}
