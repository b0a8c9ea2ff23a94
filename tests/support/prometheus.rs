//! Prometheus: its tool that checks, and a server that scrapes.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::client::connect;
use super::process::Guarded;
use super::{eventually, fresh_ip, http, skip_loudly, temp_dir};

/// Whether both are there; said for `test` where they are not.
pub(crate) fn is_there(test: &str) -> bool {
    let is_there = |program: &str| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    let all = is_there("promtool") && is_there("prometheus");
    if !all {
        skip_loudly(test, "no prometheus: scripts/packages.sh prometheus:promtool");
    }
    all
}

/// What `promtool ARGS... <INPUT` complains of; empty if it has no complaint at all.
pub(crate) fn complaints(args: &[&str], input: &Path) -> String {
    let mut promtool = Command::new("promtool");
    let output = promtool.args(args).stdin(File::open(input).unwrap()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    match output.status.success() {
        true => said,
        false => format!("{}: {}{said}", output.status, String::from_utf8_lossy(&output.stdout)),
    }
}

/// A server with a configuration of its own.
pub(crate) struct Prometheus {
    address: SocketAddr,
    dir: PathBuf,
    process: Guarded,
}

impl Prometheus {
    pub(crate) fn start(config: &str) -> Prometheus {
        let (dir, address) = (temp_dir("prometheus"), SocketAddr::from((fresh_ip(), 9090)));
        let path = dir.join("prometheus.yml");
        fs::write(&path, config).unwrap();
        let log = File::create(dir.join("log")).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg("--config.file")
            .arg(path)
            .arg("--storage.tsdb.path")
            .arg(dir.join("data"))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level", "warn"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut prometheus = Prometheus { address, dir, process: Guarded::spawn(&mut command) };
        eventually("Prometheus is ready", || {
            let ended = prometheus.process.try_wait();
            assert!(ended.is_none(), "{}", prometheus.log());
            let answer = connect(address).and_then(|it| http::ask(it, "GET", "/-/ready", None));
            answer.is_ok_and(|answer| answer.status == 200)
        });
        prometheus
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// The data of the answer to a question of the API: `/query?query=up`.
    #[track_caller]
    pub(crate) fn ask(&self, question: &str) -> Value {
        let stream = connect(self.address).unwrap();
        let answer = http::ask(stream, "GET", &format!("/api/v1{question}"), None).unwrap();
        let mut said = answer.json();
        assert_eq!(said["status"], "success", "{question}: {said}");
        said["data"].take()
    }

    /// The series that `expression` has now, each as its labels.
    #[track_caller]
    pub(crate) fn query(&self, expression: &str) -> Vec<Value> {
        let query = http::percent_encode(expression);
        let mut data = self.ask(&format!("/query?query={query}"));
        let found = data["result"].as_array_mut().unwrap();
        found.iter_mut().map(|series| series["metric"].take()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill();
        drop(fs::remove_dir_all(&self.dir));
    }
}
