//! A Docker engine of the test's own, which may be stopped: in a network namespace of its
//! own, so that its addresses and rules are nobody else's.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::engine;
use super::process::{self, Guarded};
use super::{temp_dir, within};

/// Starting takes a second or two on a quiet machine, and stopping must end its containers.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon; ended, with all of its containers, when dropped.
pub(crate) struct OwnEngine {
    home: PathBuf,
    daemon: Option<Guarded>,
}

impl OwnEngine {
    /// One that knows the image of the shared engine.
    pub(crate) fn start() -> OwnEngine {
        // Short: a socket's path may not be long.
        let home = temp_dir("dk");
        // The machine's own settings are not for it.
        fs::write(home.join("settings"), "{}").unwrap();
        let mut engine = OwnEngine { home, daemon: None };
        process::finally(&engine.cleanup());
        engine.start_again();
        let load = format!(
            "docker save {} | docker -H unix://{} load",
            engine::image(),
            engine.socket().display()
        );
        engine::must(Command::new("sh").args(["-c", &load]));
        engine
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join("docker.sock")
    }

    /// `docker ARGS...`; its output, without the final newline.
    #[track_caller]
    pub(crate) fn docker<A: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> String {
        let host = format!("unix://{}", self.socket().display());
        engine::must(Command::new("docker").args(["-H", &host]).args(args))
    }

    pub(crate) fn start_again(&mut self) {
        let path = |name: &str| self.home.join(name);
        let log = fs::OpenOptions::new().create(true).append(true).open(path("log")).unwrap();
        let mut daemon = Command::new("unshare");
        daemon
            .args(["--net", "sh", "-c", r#"ip link set lo up && exec "$@""#, "dockerd", "dockerd"])
            .arg("--config-file")
            .arg(path("settings"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.daemon = Some(Guarded::spawn(&mut daemon));
        let socket = self.socket().display().to_string();
        within(
            PATIENCE,
            &format!("an engine at {socket} (see {}/log)", self.home.display()),
            || engine::get_from(&socket, "/version").is_ok(),
        );
    }

    /// As `systemctl stop docker`: it stops its containers first.
    pub(crate) fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.signal("TERM");
            assert!(daemon.wait(PATIENCE).is_some(), "the engine does not end");
        }
    }

    /// What ends its containers and unmounts what it mounted, after a daemon that was killed.
    fn cleanup(&self) -> String {
        let home = self.home.display();
        format!(
            "at={home}/exec/containerd/containerd; \
             [ -S $at.sock ] && for task in $(ctr -a $at.sock -n moby tasks ls -q); do \
                 ctr -a $at.sock -n moby tasks kill -s 9 $task; \
                 ctr -a $at.sock -n moby tasks rm -f $task; \
             done >/dev/null 2>&1; \
             [ -e $at.pid ] && kill -9 $(cat $at.pid) 2>/dev/null; \
             awk -v home={home}/ 'index($2, home) == 1 {{ print $2 }}' /proc/mounts | sort -r | \
                 xargs -r umount -l; rm -rf {home}"
        )
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.signal("TERM");
            daemon.wait(PATIENCE);
        }
        drop(Command::new("sh").args(["-c", &self.cleanup()]).output());
    }
}

/// A socket in front of an engine's that keeps what clients sent.
pub(crate) struct Recorder {
    socket: PathBuf,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    pub(crate) fn of(engine: &Path) -> Recorder {
        let socket = temp_dir("rec").join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
        // Both end with the process: the listener is never closed.
        thread::spawn({
            let (sent, engine) = (sent.clone(), engine.to_owned());
            move || {
                for client in listener.incoming().flatten() {
                    let (sent, engine) = (sent.clone(), engine.clone());
                    // An engine that is away is away for the client, too.
                    thread::spawn(move || drop(relay(client, &engine, &sent)));
                }
            }
        });
        Recorder { socket, sent }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The first line of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        let sent = self.sent.lock().unwrap();
        let text = String::from_utf8_lossy(&sent);
        let heads = text.split("\r\n\r\n").filter(|head| !head.is_empty());
        heads.map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
    }
}

fn relay(mut client: UnixStream, engine: &Path, sent: &Mutex<Vec<u8>>) -> io::Result<()> {
    let mut to_engine = UnixStream::connect(engine)?;
    let (mut from_engine, mut to_client) = (to_engine.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        drop(io::copy(&mut from_engine, &mut to_client));
        drop(to_client.shutdown(Shutdown::Both));
    });
    let mut piece = [0; 4096];
    loop {
        // A request of ours is one write, so pieces of two clients do not mix within one.
        let length = client.read(&mut piece)?;
        if length == 0 {
            return to_engine.shutdown(Shutdown::Both);
        }
        sent.lock().unwrap().extend_from_slice(&piece[..length]);
        to_engine.write_all(&piece[..length])?;
    }
}
