//! Docker's socket: away, closed to us, deserted; and engines that are not as they should be.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use super::*;
use crate::support::fake_docker::{Fault, Version};
use crate::support::{is_root, skip_loudly};

const DEFAULT: &str = "/var/run/docker.sock";
const CHECK: &str = "docker";

#[test]
fn socket_that_is_named_and_not_there_is_a_failure() {
    let docker = FakeDocker::absent();
    let report = Report::of(without_etcd(&docker.address()));
    report.assert(CHECK, "FAIL", &["no socket at"], &["start Docker", "--docker"]);
    let etcd = refusing_address().to_string();
    for variable in ["DOCKER_HOST", "AMBASSADOR_DOCKER"] {
        let launch = ambassador(["doctor", "--etcd", &etcd]).env(variable, docker.address());
        Report::of(launch).assert(CHECK, "FAIL", &["no socket at"], &[]);
    }
    let address = format!("tcp://{}", refusing_address());
    let report = Report::of(without_etcd(&address));
    report.assert(CHECK, "FAIL", &[&address, "refused"], &["start Docker"]);
}

/// Who only forwards has no use for it.
#[test]
fn socket_that_is_not_there_and_that_nobody_named_is_only_warned_of() {
    let test = "socket_that_is_not_there_and_that_nobody_named_is_only_warned_of";
    let etcd = real_etcd::shared();
    let launch = ambassador(["doctor", "--etcd", &etcd.url(), "--host-ip", "10.0.0.7", "--json"]);
    // Without `--json` at the end, which `sh` would have to pass on.
    let launch = match (Path::new(DEFAULT).exists(), is_root()) {
        (false, _) => launch,
        (true, true) => launch.under(&[
            "unshare",
            "--mount",
            "/bin/sh",
            "-c",
            r#"mount -t tmpfs none /run && exec "$0" "$@""#,
        ]),
        (true, false) => return skip_loudly(test, "only root can hide this machine's Docker"),
    };
    let report = Report::of(launch);
    assert_eq!(report.states(), ["warn", "ok", "ok", "ok", "ok"], "{:#?}", report.findings);
    let advice = ["register needs it, proxy and forward do not", "-v /var/run/docker.sock"];
    report.assert(CHECK, "warn", &["no socket at /var/run/docker.sock"], &advice);
}

#[test]
fn socket_that_may_not_be_opened_says_which_group_may() {
    let test = "socket_that_may_not_be_opened_says_which_group_may";
    const NOBODY: [&str; 4] =
        ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let docker = FakeDocker::start();
    let socket = docker.socket();
    let launch = || {
        let launch = without_etcd(&docker.address());
        if is_root() { launch.under(&NOBODY) } else { launch }
    };
    if is_root() {
        let may_enter = launch().arg("--help").run();
        if may_enter.code != Some(0) || !Path::new(NOBODY[0]).exists() {
            return skip_loudly(test, "nobody but root may run what is tested");
        }
        chown(socket, None, Some(4711)).unwrap();
    }
    let group = std::os::unix::fs::MetadataExt::gid(&fs::metadata(socket).unwrap());
    fs::set_permissions(socket, Permissions::from_mode(0o020)).unwrap();
    // A file's owner is not asked for the group's rights.
    let report = Report::of(launch());
    let advice = [&*format!("--group-add {group}"), &*format!("SupplementaryGroups={group}")];
    report.assert(CHECK, "FAIL", &["may not open", socket.to_str().unwrap()], &advice);
    fs::set_permissions(socket, Permissions::from_mode(0o000)).unwrap();
    Report::of(launch()).assert(CHECK, "FAIL", &["may not open"], &["as user"]);
    let dir = socket.parent().unwrap();
    fs::set_permissions(dir, Permissions::from_mode(0o000)).unwrap();
    Report::of(launch()).assert(CHECK, "FAIL", &["may not open"], &["as root"]);
    fs::set_permissions(dir, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn socket_at_which_nobody_listens_is_a_failure() {
    let docker = FakeDocker::start();
    docker.crash();
    let report = Report::of(without_etcd(&docker.address()));
    report.assert(CHECK, "FAIL", &["nobody listens at"], &["start Docker", "mount the directory"]);
    // What Docker makes of a socket that is to be mounted and not there.
    let dir = temp_dir("docker.sock");
    let report = Report::of(without_etcd(&format!("unix://{}", dir.display())));
    report.assert(CHECK, "FAIL", &["is no socket"], &["mount the directory"]);
}

#[test]
fn engine_is_named_with_its_version_and_one_that_is_too_old_is_a_failure() {
    let docker = FakeDocker::start();
    docker.run(Container::named("web"));
    docker.run(Container::named("db"));
    for (version, words) in [
        (Version::V20, "Docker fake, API 1.41; containers running: 2"),
        (Version::V29, "Docker fake, API 1.52"),
        (Version::Podman, "Podman fake, API 1.41"),
    ] {
        docker.set_version(version);
        Report::of(without_etcd(&docker.address())).assert(CHECK, "ok", &[words], &[]);
    }
    for api in ["1.23", "1.9", "0.99", "", "\\u001b[2J"] {
        let version = format!(r#"{{"Version":"1.11","ApiVersion":"{api}"}}"#);
        docker.set_fault(Some(Fault::Answer(200, "application/json", version.leak())));
        let report = Report::of(without_etcd(&docker.address()));
        report.assert(CHECK, "FAIL", &["Docker 1.11", "lacks", "API 1.24"], &["update"]);
    }
}

#[test]
#[ignore = "needs a Docker engine"]
fn real_engine_is_well_and_named_with_its_version() {
    let version = crate::support::engine::get("/version");
    let said = |name: &str| version[name].as_str().unwrap();
    let words = format!("Docker {}, API {}", said("Version"), said("ApiVersion"));
    let report = Report::of(without_etcd(&format!("unix://{DEFAULT}")));
    report.assert(CHECK, "ok", &[&words, "containers running: "], &[]);
}

#[test]
fn answer_that_is_refused_or_not_dockers_is_a_failure() {
    let docker = FakeDocker::on_tcp();
    let cases: Vec<(Fault, &str, &str)> = vec![
        (Fault::Answer(403, "text/plain", "Forbidden by proxy"), "403", "GET of /version"),
        (Fault::Answer(200, "text/html", "<html>"), "not Docker's", "Docker's own log"),
        (Fault::Answer(200, "application/json", "{}"), "not Docker's", "Docker's own log"),
        (Fault::HalfChunkThenClose, "no valid answer", "Docker's own log"),
        (Fault::Silence, "no answer", "Docker's own log"),
    ];
    for (fault, words, advice) in cases {
        docker.set_fault(Some(fault.clone()));
        let report = Report::of(without_etcd(&docker.address()));
        let found = report.found(CHECK);
        assert_eq!(found.state, "FAIL", "{fault:?}: {found:?}");
        report.assert(CHECK, "FAIL", &[words, &docker.address()], &[advice]);
    }
    docker.set_fault(None);
    docker.set_events_fault(Some(Fault::Answer(403, "text/plain", "no events")));
    let report = Report::of(without_etcd(&docker.address()));
    report.assert(CHECK, "FAIL", &["403", "no events"], &["/events"]);
}

/// Looking up a name takes as long as the resolver wants, which may be minutes.
#[test]
fn name_that_nobody_looks_up_in_time_is_given_up() {
    let test = "name_that_nobody_looks_up_in_time_is_given_up";
    if !is_root() {
        return skip_loudly(test, "only root can have another resolv.conf");
    }
    let silent = std::net::UdpSocket::bind((crate::support::fresh_ip(), 53)).unwrap();
    let file = temp_dir("resolver").join("resolv.conf");
    let server = silent.local_addr().unwrap().ip();
    fs::write(&file, format!("nameserver {server}\noptions attempts:5 timeout:5\n")).unwrap();
    let script = format!("mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"", file.display());
    let launch = doctor("http://etcd.example:2379", "tcp://docker.example:2375");
    let started = Instant::now();
    let report = Report::of(launch.under(&["unshare", "--mount", "/bin/sh", "-c", &script]));
    assert!(started.elapsed() > Duration::from_secs(8), "{:?}", started.elapsed());
    report.assert(CHECK, "FAIL", &["no answer within 9.0s"], &["looks up its name"]);
    let etcd = "etcd http://etcd.example:2379";
    report.assert(etcd, "FAIL", &["no answer within 3.0s"], &["log"]);
}
