//! Members of etcd that are away, strangers, or apart.

use std::io::{Read, Write};
use std::path::Path;

use super::*;
use crate::support::all_at_once;
use crate::support::etcd::{Api, Authority, Cluster, KeyFormat, Pace};
use crate::support::relay::per_request;
use crate::support::upstream::Upstream;

/// No Docker is expected.
fn of_etcd(etcd: &str, options: &[&str]) -> Report {
    Report::of(doctor(etcd, "unix:///no/such.sock").args(options))
}

fn check(member: &Etcd) -> String {
    format!("etcd {}", member.url())
}

#[test]
fn etcd_that_does_not_answer_is_a_failure_and_its_clock_is_not_compared() {
    let url = format!("http://{}", refusing_address());
    let report = of_etcd(&url, &[]);
    report.assert(&format!("etcd {url}"), "FAIL", &["refused"], &["start etcd", "--etcd"]);
    report.assert("clock", "warn", &["not compared"], &[]);
    let report = of_etcd("http://no-such-name.invalid:2379", &[]);
    report.assert("etcd http://no-such-name.invalid:2379", "FAIL", &[], &["--etcd"]);
}

#[test]
fn member_that_is_down_is_warned_of_while_the_others_work() {
    let mut cluster = Cluster::start(Pace::Fast);
    let urls = cluster.urls_from(0);
    of_etcd(&urls, &[]).assert("etcd cluster", "ok", &["3 of 3"], &[]);
    let lost = cluster.leader();
    cluster.stop(lost);
    cluster.survivor(lost);
    let report = of_etcd(&urls, &[]);
    for index in 0..3 {
        let check = check(cluster.member(index));
        match index == lost {
            true => report.assert(&check, "warn", &["refused"], &["start etcd"]),
            false => report.assert(&check, "ok", &["a quorum answers"], &[]),
        }
    }
    report.assert("etcd cluster", "ok", &["2 of 3"], &[]);
    let left = (0..3).find(|&index| index != lost).unwrap();
    let second = (0..3).find(|&index| index != lost && index != left).unwrap();
    cluster.stop(second);
    let report = of_etcd(&urls, &[]);
    let words = ["3.", "no quorum answers"];
    report.assert(&check(cluster.member(left)), "FAIL", &words, &["start the other members"]);
    report.assert(&check(cluster.member(second)), "FAIL", &["refused"], &[]);
    report.assert("etcd cluster", "FAIL", &["no member"], &[]);
    report.assert("clock", "ok", &["agrees"], &[]);
}

#[test]
fn member_that_stands_still_is_given_up_in_time() {
    let mut etcd = Etcd::start();
    etcd.pause();
    of_etcd(&etcd.url(), &[]).assert(&check(&etcd), "FAIL", &["no answer within"], &["log"]);
    etcd.resume();
}

#[test]
fn members_of_two_clusters_or_with_two_stores_are_a_failure() {
    let (one, other) = (Etcd::start(), Etcd::start());
    let urls = format!("{},{}", one.url(), other.url());
    let report = of_etcd(&urls, &[]);
    report.assert("etcd cluster", "FAIL", &[&one.url(), &other.url()], &["one cluster"]);
    let (v2, v3) = (Etcd::absent().with_v2().started(), Etcd::absent_with(Api::V3).started());
    let urls = format!("{},{}", v2.url(), v3.url());
    let report = of_etcd(&urls, &["--etcd-api", "auto"]);
    report.assert(&check(&v2), "ok", &["API v2, which is offered"], &[]);
    report.assert(&check(&v3), "ok", &["API v3, because v2 is off"], &[]);
    report.assert("etcd cluster", "FAIL", &["v2", "v3"], &["--etcd-api"]);
    let report = of_etcd(&urls, &["--etcd-api", "v2"]);
    report.assert(&check(&v3), "warn", &["v2 API is off"], &["--etcd-api=auto", "--enable-v2"]);
}

#[test]
fn user_password_or_right_that_is_wrong_is_said() {
    all_at_once(vec![Api::V2, Api::V3], |api| {
        let etcd = Etcd::absent_with(api).started_for("app", "secret", 300);
        let file = temp_dir("password").join("password");
        let as_user = |name: &str, password: &str| {
            std::fs::write(&file, password).unwrap();
            let file = file.to_str().unwrap();
            let login = ["--etcd-user", name, "--etcd-password-file", file];
            let options = [&login[..], &["--etcd-insecure-auth", "--etcd-api", "auto"]].concat();
            of_etcd(&etcd.url(), &options)
        };
        let check = check(&etcd);
        as_user("app", "secret").assert(&check, "ok", &["a quorum answers"], &[]);
        for (name, password) in [("app", "mistaken"), ("nobody", "secret")] {
            let report = as_user(name, password);
            report.assert(&check, "FAIL", &["authenticat"], &["--etcd-user or its password"]);
            assert!(!report.ended.stdout.contains("mistaken"), "{:?}", report.ended);
        }
        let nobody = of_etcd(&etcd.url(), &["--etcd-api", "auto"]);
        nobody.assert(&check, "FAIL", &["--etcd-user"], &["give --etcd-user"]);
        etcd.set_rights("app", false);
        let rights = ["grant", "read and write /services/*"];
        as_user("app", "secret").assert(&check, "FAIL", &["error"], &rights);
    });
}

#[test]
fn certificate_or_scheme_that_is_wrong_is_said() {
    let (authority, other) = (Authority::new(), Authority::new());
    let behind_tls = |issue: &dyn Fn(&Etcd) -> real_etcd::Identity| {
        let etcd = Etcd::absent();
        let identity = issue(&etcd);
        etcd.with_tls(&identity)
    };
    let good = behind_tls(&|etcd| authority.issue(etcd.address())).started();
    let misnamed =
        behind_tls(&|_| authority.issue_as("IP:10.9.9.9", 2, KeyFormat::Pkcs8)).started();
    let strict = behind_tls(&|etcd| authority.issue(etcd.address()));
    let strict = strict.with_clients_of(&authority).started();
    let plain = Etcd::start();
    let of = |url: &str, authority: &Authority| {
        let cacert = authority.cert();
        of_etcd(url, &["--etcd-cacert", cacert.to_str().unwrap()])
    };
    of(&good.url(), &authority).assert(&check(&good), "ok", &["a quorum answers"], &[]);
    for (etcd, authority) in [(&good, &other), (&misnamed, &authority), (&strict, &authority)] {
        let report = of(&etcd.url(), authority);
        report.assert(&check(etcd), "FAIL", &[], &["--etcd-cacert", "--etcd-cert"]);
    }
    let plain_url = format!("https://{}", plain.address());
    let report = of(&plain_url, &authority);
    report.assert(&format!("etcd {plain_url}"), "FAIL", &[], &["https only where it has TLS"]);
    let tls_url = format!("http://{}", good.address());
    let report = of_etcd(&tls_url, &[]);
    report.assert(&format!("etcd {tls_url}"), "FAIL", &[], &["https where it has TLS"]);
}

/// What `etcd` answers, with the time that it says in its version.
fn with_date(etcd: &Etcd, date: &'static str) -> (Upstream, Upstream) {
    let version = Upstream::serve(move |mut client| {
        let mut request = [0; 4096];
        let _ = client.read(&mut request)?;
        let body = r#"{"etcdserver":"3.4.0","etcdcluster":"3.4.0"}"#;
        let length = body.len();
        write!(client, "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n{body}")
    });
    let (etcd, told) = (etcd.address(), version.address());
    let choose = move |request: &str| if request.starts_with("GET /version") { told } else { etcd };
    (per_request(choose), version)
}

#[test]
fn clock_that_is_another_than_etcds_is_warned_of_and_said_what_it_matters_for() {
    let etcd = Etcd::start();
    for (date, words) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", "ahead of that of http://"),
        ("Sun, 06 Nov 2094 08:49:37 GMT", "behind that of http://"),
    ] {
        let (front, _version) = with_date(&etcd, date);
        let report = of_etcd(&format!("http://{}", front.address()), &[]);
        report.assert("clock", "warn", &[words], &["NTP", "TTLs do not", "certificates"]);
    }
    let (front, _version) = with_date(&etcd, "Sun, 06 Nov 1994 08:49:37 GMT");
    let report = of_etcd(&format!("http://{},{}", front.address(), etcd.address()), &[]);
    report.assert("clock", "warn", &["members of etcd are", "apart"], &["API v2", "TTL"]);
    let (front, _version) = with_date(&etcd, "today");
    let report = of_etcd(&format!("http://{}", front.address()), &[]);
    report.assert("clock", "warn", &["not compared"], &[]);
}

/// It is not believed to be etcd, and its bytes reach no terminal as they are.
#[test]
fn stranger_in_the_place_of_etcd_is_a_failure_and_nothing_panics() {
    let ok = |body: &str| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let answers = [
        "\u{1b}[2J not HTTP".to_owned(),
        String::new(),
        ok(""),
        ok("{}"),
        ok("{\"etcdserver\": 3}"),
        ok("{\"etcdserver\":\"\\u001b[2J\\u202e\"}"),
        ok(&format!("{{\"etcdserver\":\"{}\"}}", "9".repeat(10_000))),
        "HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\n\u{1b}[31mred\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_owned(),
    ];
    all_at_once(answers.to_vec(), |answer| {
        let shown = answer.escape_debug().to_string();
        let stranger = Upstream::serve(move |mut client| {
            let _ = client.read(&mut [0; 4096])?;
            client.write_all(answer.as_bytes())
        });
        let url = format!("http://{}", stranger.address());
        let report = of_etcd(&url, &[]);
        report.assert(&format!("etcd {url}"), "FAIL", &[], &[]);
        let ended = doctor(&url, "unix:///no/such.sock").run();
        assert_eq!(ended.code, Some(1), "{shown}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{shown}: {ended:?}");
        let is_printable = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
        assert!(ended.stdout.chars().all(is_printable), "{shown}: {ended:?}");
        assert!(ended.stdout.len() < 4000, "{shown}: {ended:?}");
    });
}

#[test]
fn file_of_the_environment_is_taken_as_the_other_commands_take_it() {
    let etcd = Etcd::start();
    let launch = ambassador(["doctor", "--docker", "unix:///no/such.sock"]);
    let report = Report::of(launch.env("ETCDCTL_ENDPOINTS", etcd.url()));
    report.assert(&check(&etcd), "ok", &["a quorum answers"], &[]);
    let missing = Path::new("/no/such/ca.pem");
    let launch = doctor("https://10.0.0.1", "unix:///no/such.sock");
    let ended = launch.env("ETCDCTL_CACERT", missing.to_str().unwrap()).run();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("/no/such/ca.pem"), "{ended:?}");
}
