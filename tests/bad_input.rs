//! What cannot be right is refused with exit code 2 and one line that helps.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::support::ambassador::{Ended, ambassador};
use crate::support::free_port;

/// Has to be refused with one line that contains each of `words`.
#[track_caller]
fn assert_refused(what: &dyn std::fmt::Debug, ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, Some(2), "{what:?}: {ended:?}");
    assert_eq!(ended.stdout, "", "{what:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{what:?}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{what:?}: {ended:?}");
    let is_printable = |c: char| c == '\n' || !c.is_control();
    assert!(ended.stderr.chars().all(is_printable), "{what:?}: {ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{what:?}: no {word:?} in {ended:?}");
    }
}

#[track_caller]
fn refused(args: &[&str], words: &[&str]) {
    assert_refused(&args, &ambassador(args).run(), words);
}

#[track_caller]
fn refused_variable(args: &[&str], variable: &str, value: &str) {
    let ended = ambassador(args).env(variable, value).run();
    assert_refused(&(args, variable, value), &ended, &[variable]);
}

const PROXY: &[&str] = &["redis-A", "127.0.0.1:0"];
const REGISTER: &[&str] = &["redis.service", "6379", "redis-A"];
const FORWARD: &[&str] = &["127.0.0.1:1"];

/// `COMMAND OPTION VALUE REST...` is refused, naming the option.
#[track_caller]
fn refused_value(command: &str, option: &str, value: &str, rest: &[&str]) {
    let start = [command, option, value];
    let args: Vec<_> = start.iter().chain(rest).copied().collect();
    refused(&args, &[option]);
}

#[test]
fn unknown_words_are_refused_and_named() {
    refused(&[], &[]);
    refused(&["frobnicate"], &["frobnicate"]);
    refused(&["--frobnicate"], &["--frobnicate"]);
    refused(&["forward", "--frobnicate", "127.0.0.1:1"], &["--frobnicate"]);
    refused(&["proxy", "--explain", "redis-A", "127.0.0.1:0"], &["--explain"]);
    refused(&["list", "redis-A", "web"], &["web"]);
    refused(&["proxy", "--wait"], &["--wait"]);
    refused(&["env", "--alias"], &["--alias"]);
}

#[test]
fn missing_words_are_named() {
    refused(&["proxy"], &["SERVICE"]);
    refused(&["proxy", "redis-A"], &["LISTEN"]);
    refused(&["proxy", "redis-A", "0", "web"], &["LISTEN"]);
    refused(&["register"], &[]);
    refused(&["register", "redis.service"], &["PORT"]);
    refused(&["register", "redis.service", "6379"], &["SERVICE"]);
    refused(&["register", "--address", "10.0.0.1:6379"], &["SERVICE"]);
    refused(&["env"], &["SERVICE"]);
    refused(&["env", "redis-A"], &["PORT"]);
}

#[test]
fn durations_are_refused_beyond_their_bounds_and_without_a_known_unit() {
    for value in ["abc", "5x", "1.2.3s", "s", "", "99999999999999999999s"] {
        for option in ["--wait", "--connect-timeout", "--eject", "--drain"] {
            refused_value("proxy", option, value, PROXY);
            refused_value("forward", option, value, FORWARD);
        }
        refused_value("register", "--ttl", value, REGISTER);
    }
    for value in ["0", "2s", "2", "2000ms", "61m", "2h"] {
        refused_value("register", "--ttl", value, REGISTER);
    }
}

/// It is not an option of that name, nor one word too many.
#[test]
fn negative_number_is_refused_as_the_value_of_its_option() {
    refused_value("proxy", "--wait", "-1s", PROXY);
    refused_value("proxy", "--max-connections", "-1", PROXY);
    refused_value("forward", "--listen", "-1", FORWARD);
    refused_value("register", "--ttl", "-1", REGISTER);
    refused(&["proxy", "--wait=-1s", "redis-A", "127.0.0.1:0"], &["--wait"]);
}

#[test]
fn listen_addresses_are_refused_when_nobody_could_bind_them() {
    for listen in [
        "abc",
        "70000",
        "",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:70000",
        "127.0.0.1:abc",
        "::1:80",
        "[::1]",
        "[::1]:x",
        "300.1.1.1:80",
        "0x50",
        " 80",
    ] {
        refused(&["proxy", "redis-A", listen], &[]);
        refused_value("forward", "--listen", listen, FORWARD);
    }
    refused(&["proxy", "redis-A", "70000"], &["70000"]);
    refused(&["proxy", "redis-A", "127.0.0.1:abc"], &["127.0.0.1:abc"]);
}

#[test]
fn upstreams_are_refused_when_nobody_could_dial_them() {
    for upstream in [
        "db",
        "db:",
        ":80",
        "db:0",
        "db:70000",
        "db:abc",
        "",
        "10.0.0.300:80",
        "::1:80",
        "d b:80",
        "tcp://db:80/",
        "db:80:90",
    ] {
        refused(&["forward", upstream], &[]);
    }
    refused(&["forward", "db:70000"], &["db:70000"]);
    refused(&["forward", "10.0.0.1:80", "db"], &["db"]);
}

#[test]
fn link_variable_that_is_none_is_named() {
    for value in ["tcp://db", "tcp://db:0", "tcp://:80", "tcp://db:70000"] {
        let ended = ambassador(["forward"]).env("DB_PORT_6379_TCP", value).run();
        assert_refused(&value, &ended, &["DB_PORT_6379_TCP"]);
    }
}

#[test]
fn names_that_could_leave_their_directory_are_refused() {
    let long = "x".repeat(201);
    for name in [
        "", ".", "..", "../x", "a/b", "a%2Fb", ".hidden", "_hidden", "a b", "a\tb", "ü", "a:b",
        "a\\b", &long,
    ] {
        refused(&["proxy", name, "127.0.0.1:0"], &[]);
        refused(&["register", "redis.service", "6379", name], &[]);
        refused(&["list", name], &[]);
        refused(&["env", name, "6379"], &[]);
        if name != "a:b" {
            refused_value("register", "--instance", name, REGISTER);
        }
    }
    for name in ["", "a/b", "..", "a%2Fb", "a b"] {
        refused(&["register", name, "6379", "redis-A"], &[]);
    }
    refused(&["proxy", "a/b", "127.0.0.1:0"], &["a/b"]);
}

#[test]
fn ports_are_refused_outside_of_1_to_65535() {
    for port in ["0", "70000", "65536", "abc", "", "-1", "6379/tcp", "1e3"] {
        refused(&["register", "redis.service", port, "redis-A"], &[]);
        refused(&["env", "redis-A", port], &[]);
    }
    refused(&["register", "redis.service", "70000", "redis-A"], &["70000", "65535"]);
}

#[test]
fn attributes_are_refused_without_a_key() {
    for word in ["zone", "=a", ""] {
        refused(&["register", "redis.service", "6379", "redis-A", word], &["KEY=VALUE"]);
    }
}

#[test]
fn etcd_addresses_with_a_typo_are_refused() {
    for url in [
        "htp://127.0.0.1:2379",
        "http://",
        "ftp://127.0.0.1:2379",
        "http://host:99999",
        "127.0.0.1:abc",
        "",
        "http:/127.0.0.1:2379",
        "http://a b:2379",
        "http://127.0.0.1:0",
    ] {
        refused_value("proxy", "--etcd", url, PROXY);
        refused_value("register", "--etcd", url, REGISTER);
        refused_value("list", "--etcd", url, &[]);
    }
    refused_variable(&["list"], "ETCDCTL_ENDPOINTS", "htp://127.0.0.1:2379");
}

#[test]
fn prefixes_that_are_no_path_are_refused() {
    for prefix in ["", "/a/../b", "/a b", "/.."] {
        refused_value("proxy", "--prefix", prefix, PROXY);
        refused_value("list", "--prefix", prefix, &[]);
    }
}

#[test]
fn docker_addresses_with_a_typo_are_refused() {
    for address in [
        "unix:/var/run/docker.sock",
        "unix://",
        "http://127.0.0.1:2375",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:0",
        "/var/run/docker.sock",
        "",
    ] {
        refused_value("register", "--docker", address, REGISTER);
    }
    let args: Vec<_> = ["register"].iter().chain(REGISTER).copied().collect();
    refused_variable(&args, "DOCKER_HOST", "ssh://user@host");
}

#[test]
fn hosts_that_are_no_address_are_refused() {
    for ip in ["", "nonsense", "10.0.0", "10.0.0.300", "10.0.0.1:80", "0.0.0.0", "::"] {
        refused_value("register", "--host-ip", ip, REGISTER);
    }
    for address in ["", "nonsense", "10.0.0.1", "10.0.0.1:0", "0.0.0.0:80", ":80"] {
        refused_value("register", "--address", address, &["redis-A"]);
    }
    let args: Vec<_> = ["register"].iter().chain(REGISTER).copied().collect();
    refused_variable(&args, "HOST_IP", "nonsense");
    refused_variable(&args, "COREOS_PRIVATE_IPV4", "nonsense");
}

#[test]
fn choices_and_counts_are_refused_outside_of_what_there_is() {
    refused_value("register", "--check", "udp", REGISTER);
    refused_value("register", "--check", "", REGISTER);
    for count in ["0", "abc", "", "1.5"] {
        refused_value("proxy", "--max-connections", count, PROXY);
        refused_value("forward", "--max-connections", count, FORWARD);
    }
    for alias in ["", "a b", "1=2"] {
        refused_value("env", "--alias", alias, &["redis-A", "6379"]);
    }
}

#[test]
fn variables_are_refused_as_their_options_are_and_named() {
    let proxy: Vec<_> = ["proxy"].iter().chain(PROXY).copied().collect();
    let register: Vec<_> = ["register"].iter().chain(REGISTER).copied().collect();
    refused_variable(&proxy, "AMBASSADOR_WAIT", "abc");
    refused_variable(&proxy, "AMBASSADOR_DRAIN", "5x");
    refused_variable(&proxy, "AMBASSADOR_MAX_CONNECTIONS", "0");
    refused_variable(&proxy, "AMBASSADOR_ETCD", "htp://x");
    refused_variable(&register, "AMBASSADOR_TTL", "1s");
    refused_variable(&register, "AMBASSADOR_DOCKER", "http://x");
    refused_variable(&register, "AMBASSADOR_CHECK", "udp");
    refused_variable(&register, "AMBASSADOR_EXPLAIN", "maybe");
    refused_variable(&["list"], "AMBASSADOR_JSON", "2");
}

/// One environment file may serve all roles.
#[test]
fn every_role_takes_the_drain_time() {
    for words in [&["forward"][..], &["proxy"], &["register"]] {
        let help = ambassador(words.iter().chain(&["--help"])).run();
        assert!(help.stdout.contains("--drain"), "{words:?}: {}", help.stdout);
    }
}

#[test]
fn empty_variables_count_as_unset() {
    let names = ["AMBASSADOR_PREFIX", "AMBASSADOR_JSON", "ETCDCTL_ENDPOINTS", "AMBASSADOR_DRAIN"];
    let url = crate::support::etcd::shared().url();
    let launch = ambassador(["list", "--etcd", &url]);
    let ended = names.into_iter().fold(launch, |launch, name| launch.env(name, "")).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn bytes_that_are_no_text_are_refused_and_escaped() {
    let not_utf8 = OsStr::from_bytes(b"redis\xff");
    for command in ["proxy", "forward", "list"] {
        let args = [OsStr::new(command), not_utf8];
        assert_refused(&args, &ambassador(args).run(), &[]);
    }
    for word in ["a\nb:80", "\u{1b}[31mred:80", "a\rb:80", "a\u{9b}b:80"] {
        refused(&["forward", word], &[]);
        refused(&["proxy", word, "0"], &[]);
        refused(&["register", "redis.service", "6379", "redis-A", word], &[]);
        refused(&["proxy", "--etcd", word, "redis-A", "0"], &["--etcd"]);
        refused(&[&format!("--{word}")], &[]);
    }
}

#[test]
fn help_and_version_are_printed_where_they_are_asked_for() {
    let version = ambassador(["--version"]).run();
    assert_eq!(version.code, Some(0), "{version:?}");
    assert_eq!(version.stdout.trim(), format!("ambassador {}", env!("CARGO_PKG_VERSION")));
    let etcd = ["--etcd", "--prefix"];
    let traffic = ["--drain", "--wait", "--connect-timeout", "--eject", "--max-connections"];
    let register = ["--docker", "--host-ip", "--check", "--instance", "--ttl", "--explain"];
    for (command, options) in [
        ("forward", [&traffic[..], &["--listen"]].concat()),
        ("proxy", [&traffic[..], &etcd].concat()),
        ("register", [&register[..], &etcd, &["--address"]].concat()),
        ("list", [&etcd[..], &["--json"]].concat()),
        ("env", [&etcd[..], &["--alias"]].concat()),
        ("doctor", [&etcd[..], &["--docker", "--host-ip", "--interface", "--json"]].concat()),
    ] {
        let help = ambassador([command, "--help"]).run();
        assert_eq!(help.code, Some(0), "{help:?}");
        assert_eq!(help.stderr, "", "{command}");
        for option in options {
            assert!(help.stdout.contains(option), "{command}: no {option} in\n{}", help.stdout);
        }
    }
}

/// Every connection to it would become another one, until nothing is left to open.
#[test]
fn upstream_that_is_the_listener_itself_is_refused_however_it_is_written() {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"] {
        refused(&["forward", "--listen", &listen, &format!("{host}:{port}")], &[&listen]);
    }
}
