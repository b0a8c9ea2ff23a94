//! etcd behind TLS: who is not known for sure is told nothing, and why is said once.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::support::ambassador::{Ended, ambassador};
use crate::support::etcd::{Authority, Etcd, Identity, KeyFormat, replace};
use crate::support::roles::{FOLLOWED, Roles, WRITTEN, proxy, register};
use crate::support::tap::Tap;
use crate::support::upstream::Upstream;
use crate::support::{all_at_once, proceed_after, temp_dir};

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An etcd with a certificate of `authority` for its own address.
fn behind_tls(authority: &Authority) -> Etcd {
    let etcd = Etcd::absent();
    let server = authority.issue(etcd.address());
    etcd.with_tls(&server).started()
}

#[test]
fn server_whose_authority_is_known_is_followed_and_written_to() {
    let authority = Authority::new();
    let etcd = behind_tls(&authority);
    let roles = Roles::start(&etcd.url(), &["--etcd-cacert", path(&authority.cert())]);
    roles.wait_until_both_work(&etcd);
    etcd.wait_for_refreshes(WRITTEN, 2);
    for ambassador in roles.both() {
        assert_eq!(ambassador.warnings(&["etcd"]), Vec::<String>::new());
    }
    assert_eq!(roles.registrar.terminate().code, Some(0));
    assert_eq!(etcd.get(WRITTEN), None);
}

/// While certificates are renewed, a file holds the old authority and the new one.
#[test]
fn any_authority_of_a_file_may_have_signed() {
    let authorities = [Authority::new(), Authority::new()];
    let bundle = temp_dir("bundle").join("ca.pem");
    let read = |authority: &Authority| fs::read_to_string(authority.cert()).unwrap();
    // Files of this kind have text between the certificates.
    let text = format!("# the first\n{}\n# and\n{}", read(&authorities[0]), read(&authorities[1]));
    fs::write(&bundle, text).unwrap();
    for authority in &authorities {
        let etcd = behind_tls(authority);
        let roles = Roles::start(&etcd.url(), &["--etcd-cacert", path(&bundle)]);
        roles.wait_until_both_work(&etcd);
    }
}

#[test]
fn server_that_is_not_known_for_sure_is_warned_of_once_and_told_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let served_by = |issue: &dyn Fn(SocketAddr) -> Identity| {
        let etcd = Etcd::absent();
        let identity = issue(etcd.address());
        etcd.with_tls(&identity).started()
    };
    let good = || served_by(&|address| authority.issue(address));
    let days = |days| {
        let authority = &authority;
        move |address: SocketAddr| {
            authority.issue_as(&format!("IP:{}", address.ip()), days, KeyFormat::Pkcs8)
        }
    };
    let misnamed = |_| authority.issue_as("IP:10.9.9.9", 2, KeyFormat::Pkcs8);
    let (known, unknown) = (Some(authority.cert()), Some(other.cert()));
    let issuer = &["issuer", "unknown", "not trusted", "authority"][..];
    let cases = vec![
        (good(), None, issuer),
        (good(), unknown, issuer),
        (served_by(&days(0)), known.clone(), &["expired"][..]),
        (served_by(&misnamed), known, &["name", "valid for"][..]),
    ];
    // Until the one of 0 days has expired.
    proceed_after(Duration::from_millis(1100));
    all_at_once(cases, |(etcd, cacert, reasons)| {
        let upstream = Upstream::greeter("secret");
        etcd.put(FOLLOWED, &upstream.registration());
        let tap = Tap::of(etcd.address());
        let member = tap.address().to_string();
        let option = cacert.as_deref().map(|cacert| ["--etcd-cacert", path(cacert)]);
        let options = option.as_ref().map_or(&[][..], |option| &option[..]);
        let mut roles = Roles::start(&format!("https://{member}"), options);
        roles.assert_neither_works(&etcd, &member, reasons);
        assert!(tap.accepted() >= 2);
        assert_eq!(tap.more_than_greetings(), None);
    });
}

#[test]
fn member_that_is_known_is_asked_when_another_one_is_not() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (etcd, stranger) = (behind_tls(&authority), behind_tls(&other));
    let members = format!("{},{}", stranger.url(), etcd.url());
    let roles = Roles::start(&members, &["--etcd-cacert", path(&authority.cert())]);
    roles.wait_until_both_work(&etcd);
    assert_eq!(stranger.get(WRITTEN), None);
}

#[test]
fn client_shows_its_certificate_whatever_its_key_looks_like() {
    let authority = Authority::new();
    let etcd = Etcd::absent();
    let server = authority.issue(etcd.address());
    let etcd = etcd.with_tls(&server).with_clients_of(&authority).started();
    for format in [KeyFormat::Pkcs8, KeyFormat::Sec1, KeyFormat::Pkcs1] {
        let Identity { cert, key } = authority.issue_as("DNS:client", 2, format);
        let cacert = authority.cert();
        let options = ["--etcd-cacert", path(&cacert)];
        let own = ["--etcd-cert", path(&cert), "--etcd-key", path(&key)];
        let roles = Roles::start(&etcd.url(), &[&options[..], &own].concat());
        roles.wait_until_both_work(&etcd);
        drop(roles);
        etcd.delete("/services");
    }
}

#[test]
fn client_without_the_certificate_that_is_asked_for_is_told_so_once() {
    let (authority, other) = (Authority::new(), Authority::new());
    let etcd = Etcd::absent();
    let server = authority.issue(etcd.address());
    let etcd = etcd.with_tls(&server).with_clients_of(&authority).started();
    let (cacert, member) = (authority.cert(), etcd.address().to_string());
    let Identity { cert, key } = other.issue(etcd.address());
    let known = ["--etcd-cacert", path(&cacert)];
    let strange = ["--etcd-cert", path(&cert), "--etcd-key", path(&key)];
    for options in [known.to_vec(), [&known[..], &strange].concat()] {
        let mut roles = Roles::start(&etcd.url(), &options);
        // The words are those of the server's alert.
        let reasons = ["certificate", "unknown ca", "unknownca"];
        roles.assert_neither_works(&etcd, &member, &reasons);
    }
}

#[test]
fn variables_of_etcdctl_and_of_the_options_are_taken() {
    let authority = Authority::new();
    let etcd = Etcd::absent();
    let server = authority.issue(etcd.address());
    let etcd = etcd.with_tls(&server).with_clients_of(&authority).started();
    let (cacert, Identity { cert, key }) = (authority.cert(), authority.issue(etcd.address()));
    for prefix in ["ETCDCTL_", "AMBASSADOR_ETCD_"] {
        let names = ["CACERT", "CERT", "KEY"].map(|name| format!("{prefix}{name}"));
        let values = [path(&cacert), path(&cert), path(&key)];
        let env: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(values).collect();
        let roles = Roles::start_with(&etcd.url(), &[], &env);
        roles.wait_until_both_work(&etcd);
        drop(roles);
        etcd.delete("/services");
    }
}

/// By whatever renews them, under the same names.
#[test]
fn certificates_that_are_replaced_while_it_runs_are_used() {
    let (old, new) = (Authority::new(), Authority::new());
    let etcd = Etcd::absent();
    let address = etcd.address();
    let (server, client) = (old.issue(address), old.issue(address));
    let mut etcd = etcd.with_tls(&server).with_clients_of(&old).started();
    let cacert = old.cert();
    let own = ["--etcd-cert", path(&client.cert), "--etcd-key", path(&client.key)];
    let options = [&["--etcd-cacert", path(&cacert)][..], &own].concat();
    let roles = Roles::start(&etcd.url(), &options);
    roles.wait_until_both_work(&etcd);
    etcd.stop();
    new.issue(address).replace(&server);
    // The file of the authority is the same for the server and its clients.
    replace(&new.cert(), &cacert);
    etcd.start_again();
    new.issue(address).replace(&client);
    roles.wait_until_both_work(&etcd);
    etcd.wait_for_refreshes(WRITTEN, 1);
}

/// As while it is being written.
#[test]
fn file_that_cannot_be_read_for_a_while_ends_nothing() {
    let authority = Authority::new();
    let mut etcd = behind_tls(&authority);
    let cacert = authority.cert();
    let roles = Roles::start(&etcd.url(), &["--etcd-cacert", path(&cacert)]);
    roles.wait_until_both_work(&etcd);
    let upstream = Upstream::greeter("as before");
    roles.follow(&etcd, &upstream, "as before");
    let whole = fs::read(&cacert).unwrap();
    fs::write(&cacert, &whole[..whole.len() / 2]).unwrap();
    etcd.stop();
    etcd.start_again();
    proceed_after(Duration::from_secs(2));
    assert_eq!(roles.greeting().as_deref(), Some("as before"));
    fs::write(&cacert, &whole).unwrap();
    roles.wait_until_both_work(&etcd);
}

#[test]
fn scheme_that_is_not_the_members_is_warned_of() {
    let authority = Authority::new();
    let (tls, plain) = (behind_tls(&authority), Etcd::start());
    let cacert = authority.cert();
    let known = ["--etcd-cacert", path(&cacert)];
    for (etcd, scheme, options) in [(&tls, "http", &[][..]), (&plain, "https", &known)] {
        let member = etcd.address().to_string();
        let mut roles = Roles::start(&format!("{scheme}://{member}"), options);
        roles.assert_neither_works(etcd, &member, &[""]);
    }
}

#[test]
fn helpers_ask_through_tls_and_say_what_is_wrong_with_it() {
    let (authority, other) = (Authority::new(), Authority::new());
    let etcd = behind_tls(&authority);
    etcd.put(FOLLOWED, "10.0.0.1:6379");
    let run = |command: &[&str], authority: &Authority| {
        let cacert = authority.cert();
        let options = ["--etcd", &etcd.url(), "--etcd-cacert", path(&cacert)];
        ambassador(command[..1].iter().chain(&options).chain(&command[1..]))
            .run_within(Duration::from_secs(20))
    };
    for command in [&["list"][..], &["env", "redis-A", "6379"]] {
        let ended = run(command, &authority);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("10.0.0.1"), "{ended:?}");
    }
    let refused = run(&["list"], &other);
    assert_eq!((refused.code, &refused.stdout[..]), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains(&etcd.address().to_string()), "{refused:?}");
}

#[test]
fn options_that_cannot_be_right_are_wrong_usage() {
    let authority = Authority::new();
    let address: SocketAddr = "10.0.0.7:2379".parse().unwrap();
    let (one, other) = (authority.issue(address), authority.issue(address));
    let missing = temp_dir("missing").join("no-such.pem");
    let prose = temp_dir("prose").join("prose.pem");
    fs::write(&prose, "this is no certificate\n").unwrap();
    let (cert, key, other_key) = (path(&one.cert), path(&one.key), path(&other.key));
    let (missing, prose) = (path(&missing), path(&prose));
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--etcd-cert", cert], &["--etcd-key"]),
        (&["--etcd-key", key], &["--etcd-cert"]),
        (&["--etcd-cacert", missing], &[missing]),
        (&["--etcd-cacert", prose], &[prose]),
        (&["--etcd-cert", missing, "--etcd-key", key], &[missing]),
        (&["--etcd-cert", prose, "--etcd-key", key], &[prose]),
        (&["--etcd-cert", cert, "--etcd-key", prose], &[prose]),
        (&["--etcd-cert", cert, "--etcd-key", other_key], &[other_key, cert]),
    ];
    for (options, words) in cases {
        for launch in [proxy("https://10.0.0.7", options), register("https://10.0.0.7", options)] {
            assert_wrong_usage(&launch.run(), words);
        }
    }
}

/// One line that has one of `words`.
#[track_caller]
fn assert_wrong_usage(ended: &Ended, words: &[&str]) {
    assert_eq!((ended.code, &ended.stdout[..]), (Some(2), ""), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(words.iter().any(|word| ended.stderr.contains(word)), "{words:?}: {ended:?}");
}
