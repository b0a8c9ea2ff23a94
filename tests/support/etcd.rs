//! A real etcd with its v2 API, and the few requests that tests make of it.

mod cluster;

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use cluster::{Cluster, MEMBERS};

use super::http::{self, Answer, percent_encode};
use super::process::Guarded;
use super::{DEADLINE, eventually, fresh_ip, temp_dir};

/// One etcd server: a cluster of one member, or a member of a [`Cluster`].
pub(crate) struct Etcd {
    address: SocketAddr,
    peer_address: SocketAddr,
    data: PathBuf,
    process: Option<Guarded>,
    name: String,
    /// Where its peers reach it, which is another address where a relay stands between.
    advertised_peer: SocketAddr,
    /// `NAME=URL` of every member; a cluster of one has only itself.
    initial_cluster: String,
    pace: Pace,
}

/// How soon a cluster notices that it has no leader.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As etcd has it: the leader is missed after 1 s.
    Default,
    /// Five times sooner, for tests that are not about time.
    Fast,
}

impl Pace {
    fn args(self) -> [&'static str; 4] {
        match self {
            Pace::Default => ["--heartbeat-interval", "100", "--election-timeout", "1000"],
            Pace::Fast => ["--heartbeat-interval", "20", "--election-timeout", "200"],
        }
    }
}

/// The server that tests share; each has its own `--prefix` in it.
pub(crate) fn shared() -> &'static Etcd {
    static SHARED: LazyLock<Etcd> = LazyLock::new(Etcd::start);
    &SHARED
}

impl Etcd {
    /// A server for one test, which may stop it.
    pub(crate) fn start() -> Etcd {
        let mut etcd = Etcd::absent();
        etcd.start_again();
        etcd
    }

    /// An address where etcd will be, but is not yet.
    pub(crate) fn absent() -> Etcd {
        let ip = fresh_ip();
        let peer_address = (ip, 2380).into();
        Etcd {
            address: (ip, 2379).into(),
            peer_address,
            data: temp_dir("etcd").join("data"),
            process: None,
            name: "test".to_owned(),
            advertised_peer: peer_address,
            initial_cluster: format!("test=http://{peer_address}"),
            pace: Pace::Fast,
        }
    }

    pub(crate) fn start_again(&mut self) {
        self.spawn();
        eventually("etcd answers", || self.has_quorum());
    }

    /// Starts the process, which may have to wait for other members.
    fn spawn(&mut self) {
        let client = self.url();
        let log = fs::File::create(self.data.with_file_name("log")).unwrap();
        let mut command = Command::new("etcd");
        command
            .args(["--name", &self.name, "--enable-v2=true", "--log-level", "error"])
            .arg("--data-dir")
            .arg(&self.data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &format!("http://{}", self.peer_address)])
            .arg("--initial-advertise-peer-urls")
            .arg(format!("http://{}", self.advertised_peer))
            .args(["--initial-cluster", &self.initial_cluster])
            .args(self.pace.args())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.process = Some(Guarded::spawn(&mut command));
    }

    /// Whether it answers for its whole cluster.
    fn has_quorum(&self) -> bool {
        /// A question that is asked while there is no leader is answered after 7 s, and
        /// one that is asked a moment later at once.
        const PATIENCE: Duration = Duration::from_millis(500);
        let answer = self.ask_within(PATIENCE, "GET", "/v2/keys/?quorum=true", None);
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// Ends it at once, as a power cut would; the data stay.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// Stops answering without closing anything.
    pub(crate) fn pause(&mut self) {
        self.process.as_mut().unwrap().signal("STOP");
    }

    pub(crate) fn resume(&mut self) {
        self.process.as_mut().unwrap().signal("CONT");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where its data are, which a test may remove while it is stopped.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.must("PUT", &path(key), Some(&format!("value={}", percent_encode(value))));
    }

    pub(crate) fn put_with_ttl(&self, key: &str, value: &str, ttl_s: u32) {
        let form = format!("ttl={ttl_s}&value={}", percent_encode(value));
        self.must("PUT", &path(key), Some(&form));
    }

    pub(crate) fn make_dir(&self, key: &str) {
        self.must("PUT", &path(key), Some("dir=true"));
    }

    pub(crate) fn delete(&self, key: &str) {
        self.must("DELETE", &format!("{}?recursive=true", path(key)), None);
    }

    /// The value stored under `key`, if there is one.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.node(key).map(|node| node["value"].as_str().unwrap().to_owned())
    }

    /// What is left of the time to live of `key`, in seconds.
    pub(crate) fn ttl_s(&self, key: &str) -> Option<i64> {
        self.node(key)?["ttl"].as_i64()
    }

    /// Changes with every write and every refresh of `key`.
    pub(crate) fn modified_index(&self, key: &str) -> Option<u64> {
        self.node(key)?["modifiedIndex"].as_u64()
    }

    /// Waits until `key` has been refreshed `times` times.
    #[track_caller]
    pub(crate) fn wait_for_refreshes(&self, key: &str, times: usize) {
        let mut seen = HashSet::new();
        eventually(&format!("{times} refreshes of {key}"), || {
            seen.extend(self.modified_index(key));
            seen.len() > times
        });
    }

    /// The keys directly below `directory`.
    pub(crate) fn list(&self, directory: &str) -> Vec<String> {
        self.node(directory).as_ref().map(keys).unwrap_or_default()
    }

    /// The same, if it answers within `patience`, for which it needs a quorum.
    pub(crate) fn list_within(&self, patience: Duration, directory: &str) -> Option<Vec<String>> {
        let target = format!("{}?quorum=true", path(directory));
        let answer = self.ask_within(patience, "GET", &target, None).ok()?;
        (answer.status == 200).then(|| keys(&answer.json()["node"]))
    }

    pub(crate) fn wait_for_value(&self, key: &str, value: &str) {
        let mut last = None;
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            last = self.get(key);
            if last.as_deref() == Some(value) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{key} holds {last:?} instead of {value:?} after {DEADLINE:?}");
    }

    pub(crate) fn wait_for_absence(&self, key: &str) {
        eventually(&format!("{key} is gone"), || self.get(key).is_none());
    }

    /// Records every event below `directory` from now on.
    pub(crate) fn watch(&self, directory: &str) -> Watch {
        let answer = self.ask("GET", "/v2/keys/", None).unwrap();
        let next = answer.header("X-Etcd-Index").unwrap().parse::<u64>().unwrap() + 1;
        Watch::start(self.address, directory.to_owned(), next)
    }

    fn node(&self, key: &str) -> Option<Value> {
        let answer = self.ask("GET", &format!("{}?quorum=true", path(key)), None).unwrap();
        (answer.status == 200).then(|| answer.json()["node"].take())
    }

    #[track_caller]
    fn must(&self, method: &str, target: &str, form: Option<&str>) {
        let answer = self.ask(method, target, form).unwrap();
        assert!(answer.status < 300, "{method} {target}: {} {}", answer.status, answer.body);
    }

    fn ask(&self, method: &str, target: &str, form: Option<&str>) -> io::Result<Answer> {
        self.ask_within(DEADLINE, method, target, form)
    }

    fn ask_within(
        &self,
        patience: Duration,
        method: &str,
        target: &str,
        form: Option<&str>,
    ) -> io::Result<Answer> {
        let stream = TcpStream::connect_timeout(&self.address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        http::ask(stream, method, target, form)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
        // Each server sets 64 MiB aside for its log. The watchdog removes what stays.
        drop(fs::remove_dir_all(self.data.parent().unwrap()));
    }
}

/// The keys directly below the directory `node`.
fn keys(node: &Value) -> Vec<String> {
    let nodes = node["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().map(|node| node["key"].as_str().unwrap().to_owned()).collect()
}

fn path(key: &str) -> String {
    format!("/v2/keys{}", percent_encode(key))
}

/// One change of the store, as etcd told it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) action: String,
    pub(crate) key: String,
    /// Of a write: what was written.
    pub(crate) value: Option<String>,
    /// When the test heard of it.
    pub(crate) at: Instant,
}

/// A thread that polls etcd and keeps every change it hears of.
pub(crate) struct Watch {
    changes: Arc<Mutex<Vec<Change>>>,
    current: Arc<Mutex<Option<TcpStream>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(address: SocketAddr, directory: String, mut next: u64) -> Watch {
        let changes = Arc::new(Mutex::new(Vec::new()));
        let current = Arc::new(Mutex::new(None));
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (changes, current, stopped) = (changes.clone(), current.clone(), stopped.clone());
            move || {
                while !stopped.load(Ordering::SeqCst) {
                    let Ok(event) = poll(address, &directory, next, &current) else {
                        thread::sleep(Duration::from_millis(20));
                        continue;
                    };
                    let node = &event["node"];
                    next = node["modifiedIndex"].as_u64().unwrap() + 1;
                    changes.lock().unwrap().push(Change {
                        action: event["action"].as_str().unwrap().to_owned(),
                        key: node["key"].as_str().unwrap().to_owned(),
                        value: node["value"].as_str().map(str::to_owned),
                        at: Instant::now(),
                    });
                }
            }
        });
        Watch { changes, current, stopped, thread: Some(thread) }
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.changes.lock().unwrap().clone()
    }

    /// Waits for a change of `key` and says when it was heard of.
    #[track_caller]
    pub(crate) fn wait_for(&self, actions: &[&str], key: &str) -> Instant {
        super::eventually_some(DEADLINE, &format!("{actions:?} of {key}"), || {
            let changes = self.changes.lock().unwrap();
            let mut matching = changes
                .iter()
                .filter(|change| actions.contains(&change.action.as_str()) && change.key == key);
            matching.next().map(|change| change.at)
        })
    }

    /// Every change until now as "action key": a mark is written below the
    /// directory and waited for, so nothing before it can be missing.
    pub(crate) fn so_far(&self, etcd: &Etcd, directory: &str) -> Vec<String> {
        let mark = format!("{directory}/mark-{}", super::unique());
        etcd.put(&mark, "");
        self.wait_for(&["set"], &mark);
        let changes = self.changes();
        let before = changes.iter().take_while(|change| change.key != mark);
        before.map(|change| format!("{} {}", change.action, change.key)).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(stream) = &*self.current.lock().unwrap() {
            drop(stream.shutdown(Shutdown::Both));
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn poll(
    address: SocketAddr,
    directory: &str,
    next: u64,
    current: &Mutex<Option<TcpStream>>,
) -> io::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    // Also bounds how late the thread sees a stop that came between two polls.
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    *current.lock().unwrap() = Some(stream.try_clone()?);
    let query = format!("wait=true&recursive=true&waitIndex={next}");
    write!(stream, "GET {}/?{query} HTTP/1.1\r\nHost: test\r\n\r\n", path(directory))?;
    let mut reader = BufReader::new(stream);
    let (status, _) = http::read_head(&mut reader)?;
    assert_eq!(status, 200, "poll of {directory} from {next}");
    let mut body = Vec::new();
    while let Some(chunk) = http::read_chunk(&mut reader)? {
        body.extend(chunk);
    }
    serde_json::from_slice(&body).map_err(io::Error::other)
}
