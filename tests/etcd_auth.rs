//! An etcd that wants to know who asks: it is told, and nobody else is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::ambassador::Ended;
use crate::support::etcd::{Authority, Etcd, base64, only_v2, replace};
use crate::support::roles::{FOLLOWED, Roles, WRITTEN, proxy, register};
use crate::support::tap::Tap;
use crate::support::upstream::Upstream;
use crate::support::{proceed_after, refusing_address, temp_dir};

const NAME: &str = "app";
/// No other text has it in it, and it needs escaping wherever that is done.
const PASSWORD: &str = "s3cret-Qz:\"ü";
/// Longer than any test.
const TOKEN_TTL_S: u32 = 300;

fn for_the_user() -> Etcd {
    Etcd::absent().started_for(NAME, PASSWORD, TOKEN_TTL_S)
}

/// A file with `password`, and the end of line that an editor leaves.
fn password_file(password: &str) -> PathBuf {
    let file = temp_dir("password").join("password");
    fs::write(&file, format!("{password}\n")).unwrap();
    file
}

/// Whoever is on the way can read it, which tests do not mind.
fn options<'a>(name: &'a str, file: &'a Path) -> [&'a str; 5] {
    let file = file.to_str().unwrap();
    ["--etcd-user", name, "--etcd-password-file", file, "--etcd-insecure-auth"]
}

#[test]
fn right_password_lets_both_roles_work() {
    let etcd = for_the_user();
    let file = password_file(PASSWORD);
    let roles = Roles::start(&etcd.url(), &options(NAME, &file));
    roles.wait_until_both_work(&etcd);
    etcd.wait_for_refreshes(WRITTEN, 2);
    for ambassador in roles.both() {
        assert_eq!(ambassador.warnings(&["etcd"]), Vec::<String>::new());
    }
    assert_eq!(roles.registrar.terminate().code, Some(0));
    assert_eq!(etcd.get(WRITTEN), None);
}

#[test]
fn password_needs_no_leave_to_go_through_tls() {
    let authority = Authority::new();
    let etcd = Etcd::absent();
    let server = authority.issue(etcd.address());
    let etcd = etcd.with_tls(&server).started_for(NAME, PASSWORD, TOKEN_TTL_S);
    let (file, cacert) = (password_file(PASSWORD), authority.cert());
    let tls = ["--etcd-cacert", cacert.to_str().unwrap()];
    let roles = Roles::start(&etcd.url(), &[&options(NAME, &file)[..4], &tls].concat());
    roles.wait_until_both_work(&etcd);
}

#[test]
fn variables_of_etcdctl_and_of_the_options_are_taken() {
    let etcd = for_the_user();
    let file = password_file(PASSWORD);
    let (both, file) = (format!("{NAME}:{PASSWORD}"), file.to_str().unwrap());
    let environments: [&[(&str, &str)]; 4] = [
        &[("ETCDCTL_USER", &both)],
        &[("ETCDCTL_USER", NAME), ("ETCDCTL_PASSWORD", PASSWORD)],
        &[("AMBASSADOR_ETCD_USER", NAME), ("AMBASSADOR_ETCD_PASSWORD_FILE", file)],
        &[("ETCDCTL_USER", NAME), ("AMBASSADOR_ETCD_PASSWORD_FILE", file)],
    ];
    for environment in environments {
        let insecure = ("AMBASSADOR_ETCD_INSECURE_AUTH", "true");
        let environment = [environment, &[insecure]].concat();
        let roles = Roles::start_with(&etcd.url(), &[], &environment);
        roles.wait_until_both_work(&etcd);
        drop(roles);
        etcd.delete("/services");
    }
}

#[test]
fn user_that_is_wrong_or_missing_is_said_once() {
    let etcd = for_the_user();
    let upstream = Upstream::greeter("secret");
    etcd.put(FOLLOWED, &upstream.registration());
    let member = etcd.address().to_string();
    let (right, wrong) = (password_file(PASSWORD), password_file("wrong"));
    let cases: [(&[&str], &[&str]); 3] = [
        (&options(NAME, &wrong), &["password", "authenticat"]),
        (&options("nobody", &right), &["password", "authenticat"]),
        (&[], &["--etcd-user", "user"]),
    ];
    for (options, reasons) in cases {
        let mut roles = Roles::start(&etcd.url(), options);
        roles.assert_neither_works(&etcd, &member, reasons);
    }
}

#[test]
fn right_that_is_missing_is_said_and_the_last_instances_stay_in_service() {
    let etcd = for_the_user();
    let file = password_file(PASSWORD);
    let roles = Roles::start(&etcd.url(), &options(NAME, &file));
    roles.wait_until_both_work(&etcd);
    let (old, new) = (Upstream::greeter("old"), Upstream::greeter("new"));
    roles.follow(&etcd, &old, "old");
    etcd.set_rights(NAME, false);
    etcd.put(FOLLOWED, &new.registration());
    let member = etcd.address().to_string();
    roles.proxy.wait_for_warning(&[&member, "still serving 1 known instance"]);
    assert_eq!(roles.greeting().as_deref(), Some("old"));
    etcd.set_rights(NAME, true);
    roles.follow(&etcd, &new, "new");
    roles.wait_until_both_work(&etcd);
    etcd.wait_for_refreshes(WRITTEN, 1);
}

#[test]
fn password_that_was_changed_is_read_again_from_its_file() {
    let etcd = for_the_user();
    let file = password_file(PASSWORD);
    let roles = Roles::start(&etcd.url(), &options(NAME, &file));
    roles.wait_until_both_work(&etcd);
    for (password, file_first) in [("another", false), ("a third", true)] {
        let new = password_file(password);
        if file_first {
            replace(&new, &file);
        }
        etcd.set_password(NAME, password);
        if !file_first {
            replace(&new, &file);
        }
        roles.wait_until_both_work(&etcd);
        etcd.wait_for_refreshes(WRITTEN, 1);
    }
}

#[test]
fn wrong_password_that_is_put_right_in_its_file_is_all_that_it_takes() {
    let etcd = for_the_user();
    let file = password_file("wrong");
    let roles = Roles::start(&etcd.url(), &options(NAME, &file));
    for ambassador in roles.both() {
        ambassador.wait_for_warning(&[&etcd.address().to_string()]);
    }
    replace(&password_file(PASSWORD), &file);
    roles.wait_until_both_work(&etcd);
}

/// With a new password, even the same one, every token of the user ends.
#[test]
fn token_that_ends_before_its_time_is_asked_for_again_and_nobody_notices() {
    let etcd = for_the_user();
    let file = password_file(PASSWORD);
    let roles = Roles::start(&etcd.url(), &options(NAME, &file));
    roles.wait_until_both_work(&etcd);
    let watch = etcd.watch("/services/db");
    for _ in 0..3 {
        etcd.set_password(NAME, PASSWORD);
        let upstream = Upstream::greeter("next");
        roles.follow(&etcd, &upstream, "next");
        etcd.wait_for_refreshes(WRITTEN, 1);
    }
    assert_eq!(watch.so_far(&etcd, "/services/db"), Vec::<String>::new());
    for ambassador in roles.both() {
        assert_eq!(ambassador.warnings(&["etcd"]), Vec::<String>::new());
    }
}

/// A poll may be silent for longer than a token lives, and so may a registrar whose
/// refreshes need none.
#[test]
fn token_that_expires_while_nothing_happens_is_asked_for_again() {
    if only_v2() {
        return; // It sends the password with each request.
    }
    let etcd = Etcd::absent().started_for(NAME, PASSWORD, 2);
    let file = password_file(PASSWORD);
    let roles = Roles::start(&etcd.url(), &options(NAME, &file));
    roles.wait_until_both_work(&etcd);
    let watch = etcd.watch("/services/db");
    for greeting in ["first", "second"] {
        proceed_after(Duration::from_secs(5));
        let upstream = Upstream::greeter(greeting);
        roles.follow(&etcd, &upstream, greeting);
    }
    etcd.wait_for_refreshes(WRITTEN, 1);
    assert_eq!(watch.so_far(&etcd, "/services/db"), Vec::<String>::new());
    let registrar = roles.registrar.terminate();
    assert_eq!(registrar.code, Some(0));
    assert_eq!(etcd.get(WRITTEN), None, "{}", registrar.stderr);
}

#[test]
fn password_stands_in_no_log_and_on_no_command_line() {
    let etcd = for_the_user();
    let tap = Tap::of(etcd.address());
    let url = format!("http://{}", tap.address());
    let trace = [("RUST_LOG", "trace")];
    let (right, wrong) = (password_file(PASSWORD), password_file("wr0ng-Qz"));
    let mut logs = Vec::new();
    for file in [&right, &wrong] {
        let roles = Roles::start_with(&url, &options(NAME, file), &trace);
        if file == &right {
            roles.wait_until_both_work(&etcd);
        } else {
            for ambassador in roles.both() {
                ambassador.wait_for_warning(&["etcd"]);
            }
        }
        for ambassador in roles.both() {
            let words = fs::read(format!("/proc/{}/cmdline", ambassador.id())).unwrap();
            logs.push(String::from_utf8(words).unwrap());
        }
        for ended in [roles.proxy.terminate(), roles.registrar.terminate()] {
            logs.push(dumped(&ended.stderr));
            logs.push(ended.stderr);
        }
    }
    // Who could be told by it: the tap has heard it all.
    let sent = tap.text();
    let heads = sent.lines().filter_map(|line| line.split_once(": "));
    let is_authorization = |name: &str| name.eq_ignore_ascii_case("authorization");
    let tokens: Vec<&str> =
        heads.filter(|(name, _)| is_authorization(name)).map(|(_, value)| value.trim()).collect();
    assert!(!tokens.is_empty(), "{sent}");
    let encoded = [PASSWORD, "wr0ng-Qz"].map(|text| {
        let pair = format!("{NAME}:{text}");
        [base64::encode(text.as_bytes()), base64::encode(pair.as_bytes())]
    });
    // Of the password, the part that no escaping changes.
    let secrets = ["s3cret-Qz", "wr0ng-Qz"].into_iter();
    let secrets = secrets.chain(encoded.as_flattened().iter().map(String::as_str)).chain(tokens);
    for secret in secrets {
        let secret = secret.strip_prefix("Basic ").unwrap_or(secret);
        for log in &logs {
            assert!(!log.contains(secret), "{secret:?} in {log}");
        }
    }
}

/// What stands in `log` as hex digits, as libraries show what they send.
fn dumped(log: &str) -> String {
    let is_hex = |word: &&str| word.len() == 4 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let byte = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
    let words = log.split_whitespace().filter(is_hex);
    let bytes = words.flat_map(|word| [byte(&word.as_bytes()[..2]), byte(&word.as_bytes()[2..])]);
    String::from_utf8_lossy(&bytes.flatten().collect::<Vec<u8>>()).into_owned()
}

#[test]
fn password_is_not_sent_in_the_clear_unless_that_is_asked_for() {
    let etcd = for_the_user();
    let tap = Tap::of(etcd.address());
    let plain = format!("http://{}", tap.address());
    let file = password_file(PASSWORD);
    let options = &options(NAME, &file)[..4];
    // Also where only one of the members is asked without TLS.
    for url in [plain.clone(), format!("https://{},{plain}", refusing_address())] {
        for launch in [proxy(&url, options), register(&url, options)] {
            assert_wrong_usage(&launch.run(), &["--etcd-insecure-auth"]);
        }
        let both = format!("{NAME}:{PASSWORD}");
        let ended = proxy(&url, &[]).env("ETCDCTL_USER", both).run();
        assert_wrong_usage(&ended, &["--etcd-insecure-auth"]);
    }
    assert_eq!(tap.accepted(), 0);
}

#[test]
fn user_without_a_password_is_wrong_usage() {
    let url = format!("https://{}", refusing_address());
    let missing = temp_dir("missing").join("no-such-file");
    let missing = missing.to_str().unwrap();
    let empty = password_file("");
    let empty = empty.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 3] = [
        (&["--etcd-user", NAME], &["password"]),
        (&["--etcd-user", NAME, "--etcd-password-file", missing], &[missing]),
        (&["--etcd-user", NAME, "--etcd-password-file", empty], &[empty]),
    ];
    for (options, words) in cases {
        for launch in [proxy(&url, options), register(&url, options)] {
            assert_wrong_usage(&launch.run(), words);
        }
    }
    let ended = proxy(&url, &[]).env("ETCDCTL_USER", NAME).run();
    assert_wrong_usage(&ended, &["password"]);
}

/// One line that has each of `words`.
#[track_caller]
fn assert_wrong_usage(ended: &Ended, words: &[&str]) {
    assert_eq!((ended.code, &ended.stdout[..]), (Some(2), ""), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
    assert!(words.iter().all(|word| ended.stderr.contains(word)), "{words:?}: {ended:?}");
}
