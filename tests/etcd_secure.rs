//! Certificates, users and taps of the tests are what their names say: held against
//! openssl, and against a real etcd.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support::etcd::{Api, Authority, Client, Etcd, Identity, KeyFormat, User, replace};
use crate::support::tap::Tap;
use crate::support::{eventually, proceed_after};

const KEY: &str = "/services/redis-A/one";

/// Whether openssl, which knows `authority`, takes the server at `address` for its owner.
fn verify(
    address: std::net::SocketAddr,
    authority: &Authority,
    client: Option<&Identity>,
) -> Output {
    let (address, ip) = (address.to_string(), address.ip().to_string());
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-verify_return_error", "-verify_ip", &ip]);
    command.arg("-CAfile").arg(authority.cert());
    if let Some(Identity { cert, key }) = client {
        command.arg("-cert").arg(cert).arg("-key").arg(key);
    }
    // Without input it ends as soon as the handshake is over.
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn certificate_is_verified_by_its_authority_at_its_address_while_it_is_valid() {
    let (authority, other) = (Authority::new(), Authority::new());
    let serve = |issue: &dyn Fn(&Etcd) -> Identity| {
        let etcd = Etcd::absent();
        let identity = issue(&etcd);
        etcd.with_tls(&identity).started()
    };
    let good = serve(&|etcd| authority.issue(etcd.address()));
    assert!(good.url().starts_with("https://"));
    let tap = Tap::of(good.address());
    assert!(verify(good.address(), &authority, None).status.success());
    assert!(ask_version(tap.address(), &authority, None));
    assert!(tap.more_than_greetings().is_some());
    let tap = Tap::of(good.address());
    let untrusted = verify(tap.address(), &other, None);
    assert!(!untrusted.status.success(), "{untrusted:?}");
    assert_eq!(tap.more_than_greetings(), None);
    assert_eq!(tap.accepted(), 1);
    let misnamed = serve(&|_| authority.issue_as("IP:10.9.9.9", 2, KeyFormat::Pkcs8));
    let expired = serve(&|etcd| {
        let name = format!("IP:{}", etcd.address().ip());
        authority.issue_as(&name, 0, KeyFormat::Pkcs8)
    });
    proceed_after(Duration::from_secs(1));
    for (etcd, reason) in [(&misnamed, "mismatch"), (&expired, "expired")] {
        let refused = verify(etcd.address(), &authority, None);
        assert!(!refused.status.success(), "{reason}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains(reason), "no {reason:?} in {said}");
        // The test itself needs no certificate for the same store.
        etcd.put(KEY, "value");
        assert_eq!(etcd.get(KEY).as_deref(), Some("value"));
    }
}

#[test]
fn client_needs_a_certificate_where_one_is_asked_for_whatever_its_key_looks_like() {
    let (authority, other) = (Authority::new(), Authority::new());
    let etcd = Etcd::absent();
    let (address, server) = (etcd.address(), authority.issue(etcd.address()));
    let etcd = etcd.with_tls(&server).with_clients_of(&authority).started();
    for format in [KeyFormat::Pkcs8, KeyFormat::Sec1, KeyFormat::Pkcs1] {
        let client = authority.issue_as("DNS:client", 2, format);
        assert!(ask_version(address, &authority, Some(&client)), "{format:?}");
    }
    assert!(!ask_version(address, &authority, None));
    let stranger = other.issue(address);
    assert!(!ask_version(address, &authority, Some(&stranger)));
    // Renewed by an authority that is trusted.
    authority.issue(address).replace(&stranger);
    assert!(ask_version(address, &authority, Some(&stranger)));
    replace(&other.cert(), &authority.cert());
    assert!(!verify(address, &authority, None).status.success());
    etcd.put(KEY, "value");
}

/// Whether etcd answers a request.
fn ask_version(
    address: std::net::SocketAddr,
    authority: &Authority,
    client: Option<&Identity>,
) -> bool {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-connect", &address.to_string(), "-CAfile"]);
    command.arg(authority.cert());
    if let Some(Identity { cert, key }) = client {
        command.arg("-cert").arg(cert).arg("-key").arg(key);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let request = b"GET /version HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    // It may have ended already, refused.
    drop(std::io::Write::write_all(&mut stdin, request));
    let output = process.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("etcdserver")
}

#[test]
fn tap_tells_a_request_from_a_greeting() {
    let etcd = Etcd::start();
    let tap = Tap::of(etcd.address());
    let client = Client::of(tap.address());
    client.put(KEY, "value");
    assert!(tap.text().contains(" HTTP/1.1\r\n"));
    assert!(tap.more_than_greetings().is_some());
}

#[test]
fn user_may_do_below_its_directory_what_nobody_may_do_without_its_password() {
    for api in [Api::V2, Api::V3] {
        let etcd = Etcd::absent_with(api).started_for("app", "secret: ü", 300);
        let as_user = |password: &str| {
            let user = User { name: "app".to_owned(), password: password.to_owned() };
            etcd.in_api(api).of_user(Some(user))
        };
        let may =
            |client: &Client| client.list_within(Duration::from_secs(5), "/services").is_some();
        let (app, mistaken) = (as_user("secret: ü"), as_user("wrong"));
        let nobody = etcd.in_api(api).of_user(None);
        app.put(KEY, "value");
        assert_eq!(app.get(KEY).as_deref(), Some("value"));
        assert!(may(&app) && !may(&mistaken) && !may(&nobody), "{api:?}");
        assert!(app.list_within(Duration::from_secs(5), "/elsewhere").is_none(), "{api:?}");
        etcd.set_rights("app", false);
        assert!(!may(&app), "{api:?}");
        etcd.set_rights("app", true);
        eventually("it may again", || may(&app));
        etcd.set_password("app", "another");
        assert!(!may(&app) && may(&as_user("another")), "{api:?}");
    }
}

#[test]
fn server_that_wants_users_answers_after_a_restart() {
    for api in [Api::V2, Api::V3] {
        let mut etcd = Etcd::absent_with(api).started_for("app", "secret", 300);
        etcd.put(KEY, "value");
        etcd.stop();
        etcd.start_again();
        assert_eq!(etcd.get(KEY).as_deref(), Some("value"));
    }
}

/// What a process holds that asked for a token once.
#[test]
fn token_ends_with_its_time_and_with_a_new_password() {
    let etcd = Etcd::absent_with(Api::V3).started_for("app", "secret", 2);
    let user = Some(User { name: "app".to_owned(), password: "secret".to_owned() });
    let app = etcd.in_api(Api::V3).of_user(user);
    let is_taken = |token: &str| app.is_taken(token);
    let token = app.token();
    assert!(is_taken(&token));
    etcd.set_password("app", "secret");
    eventually("it is not taken any more", || !is_taken(&token));
    let token = app.token();
    assert!(is_taken(&token));
    proceed_after(Duration::from_secs(4));
    assert!(!is_taken(&token));
}
