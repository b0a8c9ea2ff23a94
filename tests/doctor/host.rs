//! The address of this host, and its limits.

use super::*;

/// `doctor OPTIONS...` with nothing but `env`.
fn of_host(options: &[&str], env: &[(&str, &str)]) -> Report {
    let etcd = refusing_address().to_string();
    let fixed = ["doctor", "--etcd", &etcd, "--docker", "unix:///no/such.sock"];
    let launch = ambassador(fixed.iter().chain(options));
    Report::of(env.iter().fold(launch, |launch, (name, value)| launch.env(name, *value)))
}

#[test]
fn address_of_the_host_is_said_with_the_rule_that_chose_it() {
    const CHECK: &str = "host address";
    let both = [("COREOS_PRIVATE_IPV4", "10.9.9.8"), ("HOST_IP", "10.9.9.9")];
    let of_option = [("AMBASSADOR_HOST_IP", "10.9.9.7"), both[1]];
    for (options, env, words) in [
        (&["--host-ip", "10.0.0.7"][..], &both[..], ["10.0.0.7", "--host-ip"]),
        (&[], &of_option, ["10.9.9.7", "--host-ip"]),
        (&[], &both, ["10.9.9.9", "HOST_IP"]),
        (&[], &both[..1], ["10.9.9.8", "COREOS_PRIVATE_IPV4"]),
    ] {
        of_host(options, env).assert(CHECK, "ok", &words, &[]);
    }
    let none = ["--host-ip", "--interface", "HOST_IP"];
    of_host(&[], &[]).assert(CHECK, "warn", &["not known"], &none);
    let loopback = ["127.0.0.1", "no other host can reach"];
    for (options, env, by) in [
        (&["--host-ip", "127.0.0.1"][..], &[][..], "--host-ip"),
        (&[], &[("HOST_IP", "127.0.0.1")], "HOST_IP"),
        (&["--interface", "lo"], &[("HOST_IP", "10.9.9.9")], "--interface"),
    ] {
        let report = of_host(options, env);
        report.assert(CHECK, "warn", &[loopback[0], loopback[1], by], &none);
    }
    let report = of_host(&["--interface", "nope\u{1b}0"], &[]);
    report.assert(CHECK, "FAIL", &["--interface", "nope", "lo"], &none);
}

/// Interfaces of this machine that others may reach.
#[test]
fn addresses_of_this_host_are_proposed() {
    let command = std::process::Command::new("hostname").arg("-I").output();
    let Ok(own) = command else {
        return crate::support::skip_loudly(
            "addresses_of_this_host_are_proposed",
            "no hostname(1)",
        );
    };
    let own = String::from_utf8_lossy(&own.stdout).into_owned();
    let advice = of_host(&[], &[]).found("host address").advice.unwrap();
    assert!(!advice.contains("127.0.0.1"), "{advice}");
    let proposed = |ip: &str| advice.contains(&format!("{ip} ("));
    assert!(own.trim().is_empty() || own.split_whitespace().any(proposed), "{advice}: {own}");
}

#[test]
fn low_limit_is_warned_of_with_what_raises_it_and_to_how_much() {
    const CHECK: &str = "connections";
    let under = |limit: &str, options: &[&str]| {
        let launch = without_etcd("unix:///no/such.sock").args(options);
        Report::of(launch.under(&["prlimit", &format!("--nofile={limit}:{limit}"), "--"]))
    };
    let report = under("64", &[]);
    let knobs = ["LimitNOFILE=", "--ulimit nofile=", "--max-connections"];
    report.assert(CHECK, "warn", &["64 open files allow only", "not 2048"], &knobs);
    // What it says is enough, and a little less is not.
    let advice = report.found(CHECK).advice.unwrap();
    let needed: u32 = advice.split(' ').find_map(|word| word.parse().ok()).unwrap();
    under(&needed.to_string(), &[]).assert(CHECK, "ok", &["2048"], &[]);
    under(&(needed - 2).to_string(), &[]).assert(CHECK, "warn", &["allow only 2047"], &knobs);
    under("64", &["--max-connections", "3"]).assert(CHECK, "ok", &["3 at a time"], &[]);
    under("24", &[]).assert(CHECK, "FAIL", &["24 open files allow none"], &knobs);
}
