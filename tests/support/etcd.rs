//! A real etcd, and the few requests that tests make of it.

pub(crate) mod base64;
mod client;
mod cluster;
mod secure;
mod v2;
mod v3;
mod watch;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

pub(crate) use client::{Api, Client, User, expiries, is_poll, only_v2, requested_key};
pub(crate) use cluster::{Cluster, MEMBERS};
pub(crate) use secure::{Authority, Identity, KeyFormat, replace};
pub(crate) use watch::{Change, Poll, Watch};

use super::process::Guarded;
use super::{eventually, fresh_ip, temp_dir};

/// One etcd server: a cluster of one member, or a member of a [`Cluster`].
pub(crate) struct Etcd {
    program: OsString,
    /// Where those under test reach it.
    url: String,
    /// How the test itself asks it.
    client: Client,
    peer_address: SocketAddr,
    data: PathBuf,
    process: Option<Guarded>,
    name: String,
    /// Where its peers reach it, which is another address where a relay stands between.
    advertised_peer: SocketAddr,
    /// `NAME=URL` of every member; a cluster of one has only itself.
    initial_cluster: String,
    pace: Pace,
    /// Whether it has the v2 API, beside v3's, which it always has.
    has_v2: bool,
    /// More options, such as those of TLS.
    options: Vec<String>,
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
    static SHARED: LazyLock<Etcd> = LazyLock::new(|| {
        let mut etcd = Etcd::start();
        let process = etcd.process.take().unwrap();
        let log = etcd.log();
        thread::spawn(move || tell_of_its_end(process, &log));
        etcd
    });
    &SHARED
}

/// Nobody ends the shared server. If it ends, a hundred tests fail, and this line says why,
/// past the capture of the test harness.
fn tell_of_its_end(mut process: Guarded, log: &Path) {
    loop {
        if let Some(status) = process.try_wait() {
            let log = fs::read_to_string(log).unwrap_or_default();
            drop(writeln!(io::stderr(), "the shared etcd has ended: {status}\n{log}"));
            return;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

impl Etcd {
    /// A server for one test, which may stop it.
    pub(crate) fn start() -> Etcd {
        Etcd::absent().started()
    }

    /// An address where etcd will be, but is not yet.
    pub(crate) fn absent() -> Etcd {
        Etcd::absent_with(Api::of_tests())
    }

    /// The same for a test that is about one API. v2 is off where it is not asked for.
    pub(crate) fn absent_with(api: Api) -> Etcd {
        let ip = fresh_ip();
        let (address, peer_address) = (SocketAddr::from((ip, 2379)), (ip, 2380).into());
        Etcd {
            program: env::var_os("TEST_ETCD_BIN").unwrap_or_else(|| "etcd".into()),
            url: format!("http://{address}"),
            client: Client { address, api, user: None },
            peer_address,
            data: temp_dir("etcd").join("data"),
            process: None,
            name: "test".to_owned(),
            advertised_peer: peer_address,
            initial_cluster: format!("test=http://{peer_address}"),
            pace: Pace::Fast,
            has_v2: api == Api::V2,
            options: Vec::new(),
        }
    }

    /// With the v2 API, whichever the test itself uses.
    pub(crate) fn with_v2(mut self) -> Etcd {
        self.has_v2 = true;
        self
    }

    pub(crate) fn with_options<const N: usize>(mut self, options: [&str; N]) -> Etcd {
        self.options.extend(options.map(str::to_owned));
        self
    }

    /// The one in the PATH, which is Debian's 3.4, whatever the run uses.
    pub(crate) fn of_the_system(mut self) -> Etcd {
        self.program = "etcd".into();
        self
    }

    pub(crate) fn started(mut self) -> Etcd {
        self.start_again();
        self
    }

    pub(crate) fn start_again(&mut self) {
        self.spawn();
        eventually("etcd answers", || self.has_quorum());
    }

    /// Starts the process, which may have to wait for other members.
    fn spawn(&mut self) {
        let log = fs::File::create(self.log()).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["--name", &self.name, "--log-level", "error"]);
        if self.has_v2 {
            command.arg("--enable-v2=true");
        }
        command
            .arg("--data-dir")
            .arg(&self.data)
            .args(["--listen-client-urls", &self.client_urls().join(",")])
            .args(["--advertise-client-urls", &self.url])
            .args(["--listen-peer-urls", &format!("http://{}", self.peer_address)])
            .arg("--initial-advertise-peer-urls")
            .arg(format!("http://{}", self.advertised_peer))
            .args(["--initial-cluster", &self.initial_cluster])
            .args(self.pace.args())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.process = Some(Guarded::spawn(&mut command));
    }

    /// What it writes to its terminal.
    fn log(&self) -> PathBuf {
        self.data.with_file_name("log")
    }

    /// Where it listens: the test has a way of its own where it cannot take the other.
    fn client_urls(&self) -> Vec<String> {
        let mut urls = vec![self.url.clone(), format!("http://{}", self.client.address)];
        urls.dedup();
        urls
    }

    /// Whether it answers for its whole cluster.
    fn has_quorum(&self) -> bool {
        /// A question that is asked while there is no leader is answered after 7 s, and
        /// one that is asked a moment later at once.
        const PATIENCE: Duration = Duration::from_millis(500);
        self.position(PATIENCE).is_ok()
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

    /// Where those under test reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        let (_, address) = self.url.split_once("://").unwrap();
        address.parse().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Where its data are, which a test may remove while it is stopped.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// An empty directory, which only v2 has.
    pub(crate) fn make_dir(&self, key: &str) {
        v2::make_dir(self, key);
    }
}

impl Deref for Etcd {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
        // Each server sets 64 MiB aside for its log. The watchdog removes what stays.
        drop(fs::remove_dir_all(self.data.parent().unwrap()));
    }
}
