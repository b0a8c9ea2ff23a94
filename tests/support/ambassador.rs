//! The real binary, as a user starts it.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::etcd::Api;
use super::process::{Guarded, send_signal};
use super::{DEADLINE, eventually, eventually_some, temp_dir};

/// Where cargo put the binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ambassador");

/// A command line and the environment it runs in: nothing but what the test sets.
pub(crate) struct Launch {
    program: PathBuf,
    before: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    has_reader: bool,
    /// What it reads; nothing if there is none.
    input: Option<PipeReader>,
    passed: Option<TcpListener>,
}

pub(crate) fn ambassador<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Launch {
    Launch::of(BINARY, args)
}

/// The binary under the name of one of the original images.
pub(crate) fn called<A: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = A>) -> Launch {
    let link = temp_dir("bin").join(name);
    symlink(BINARY, &link).unwrap();
    Launch { program: link, ..ambassador(args) }
}

impl Launch {
    /// Of a program that starts the binary.
    pub(crate) fn of<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Launch {
        Launch {
            program: program.into(),
            before: Vec::new(),
            args: args.into_iter().map(|arg| arg.as_ref().to_owned()).collect(),
            env: Vec::new(),
            has_reader: true,
            input: None,
            passed: None,
        }
    }

    /// Its standard input is what is written to the pipe.
    pub(crate) fn typed_input(mut self) -> (PipeWriter, Launch) {
        let (reader, writer) = io::pipe().unwrap();
        self.input = Some(reader);
        (writer, self)
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Launch {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Launch {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Launch {
        args.into_iter().fold(self, Launch::arg)
    }

    /// Has `wrapper`, such as `unshare --pid`, start it.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Launch {
        self.before = wrapper.iter().map(OsString::from).collect();
        self
    }

    /// Passes `socket` to it as systemd would, and keeps it too.
    pub(crate) fn passing(mut self, socket: &TcpListener) -> Launch {
        const AS_DESCRIPTOR_3: &str =
            r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@""#;
        self.passed = Some(socket.try_clone().unwrap());
        self.under(&["/bin/sh", "-c", AS_DESCRIPTOR_3])
    }

    /// Its standard output is a pipe that nobody reads any more.
    pub(crate) fn without_a_reader(mut self) -> Launch {
        self.has_reader = false;
        self
    }

    pub(crate) fn start(self) -> Ambassador {
        let has_level = self.env.iter().any(|(name, _)| name == "RUST_LOG");
        let launch = if has_level { self } else { self.env("RUST_LOG", "info,ambassador=debug") };
        launch.spawn()
    }

    /// Runs it to its end, with the log level users have.
    pub(crate) fn run(self) -> Ended {
        self.run_within(DEADLINE)
    }

    pub(crate) fn run_within(self, deadline: Duration) -> Ended {
        self.spawn().finish(deadline)
    }

    /// The API of etcd that the run is with, for what talks to etcd. What the test itself
    /// says wins; v2 need not be said.
    fn api(&self) -> Option<(&'static str, &'static str)> {
        const TALK_TO_ETCD: [&str; 8] = [
            "proxy",
            "register",
            "list",
            "env",
            "exec",
            "doctor",
            "docker-register",
            "dynamic-etcd-amb",
        ];
        let name = self.program.file_name();
        let talks = TALK_TO_ETCD
            .iter()
            .any(|role| name == Some(OsStr::new(role)) || self.args.iter().any(|arg| arg == role));
        let is_said = self.args.iter().any(|arg| arg == "--etcd-api");
        let api = Api::of_tests();
        (talks && !is_said && api != Api::V2).then(|| ("AMBASSADOR_ETCD_API", api.name()))
    }

    fn spawn(self) -> Ambassador {
        let api = self.api();
        let mut words = self.before.into_iter().chain([self.program.into()]).chain(self.args);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        let path = std::env::var_os("PATH").filter(|_| command.get_program() == "unshare");
        command.env_clear().envs(api).envs(self.env).envs(path.map(|path| ("PATH", path)));
        let passed = self.passed.map(|socket| Stdio::from(OwnedFd::from(socket)));
        let input = passed.or(self.input.map(Stdio::from)).unwrap_or_else(Stdio::null);
        command.stdin(input).stderr(Stdio::piped());
        let shown = format!("{command:?}");
        let (reader, writer) = io::pipe().unwrap();
        // Gone before the program starts, not some time after.
        let reader = self.has_reader.then_some(reader);
        let mut process = Guarded::spawn(command.stdout(writer));
        // Holds the other end of the pipe, which would never end.
        drop(command);
        let stdout = reader.map_or_else(Lines::none, Lines::of);
        let stderr = Lines::of(process.child().stderr.take().unwrap());
        Ambassador { shown, process, stdout, stderr }
    }
}

/// How a finished run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running ambassador; killed when dropped. What it logged is shown when the test fails.
pub(crate) struct Ambassador {
    shown: String,
    process: Guarded,
    stdout: Lines,
    stderr: Lines,
}

impl Ambassador {
    /// The address of the only listener.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        let lines = eventually_some(DEADLINE, "a `listening` line", || {
            Some(self.stdout.so_far()).filter(|lines| !lines.is_empty())
        });
        parse_listening(&lines[0]).1
    }

    /// The address of the listener called `name`.
    #[track_caller]
    pub(crate) fn address_of(&self, name: &str) -> SocketAddr {
        eventually_some(DEADLINE, &format!("listening {name}"), || {
            let lines = self.stdout.so_far();
            let mut listening = lines.iter().map(|line| parse_listening(line));
            listening.find(|(found, _)| found == name).map(|(_, address)| address)
        })
    }

    pub(crate) fn stdout(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.stderr.so_far()
    }

    /// The warnings so far that contain each of `words`.
    pub(crate) fn warnings(&self, words: &[&str]) -> Vec<String> {
        let is_match = |line: &String| {
            line.trim_start().starts_with("WARN") && words.iter().all(|word| line.contains(word))
        };
        self.log().into_iter().filter(is_match).collect()
    }

    #[track_caller]
    pub(crate) fn wait_for_warning(&self, words: &[&str]) {
        eventually(&format!("a warning with {words:?}"), || !self.warnings(words).is_empty());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().is_none()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Changes the limit on descriptors of the running process.
    pub(crate) fn limit_descriptors(&self, most: usize) {
        let (pid, limit) = (self.id().to_string(), format!("--nofile={most}:"));
        let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
        assert!(status.success(), "prlimit {limit}: {status}");
    }

    pub(crate) fn signal(&mut self, signal: &str) {
        self.process.signal(signal);
    }

    /// Asks it to stop and waits for its end.
    #[track_caller]
    pub(crate) fn terminate(mut self) -> Ended {
        self.signal("TERM");
        self.finish(DEADLINE)
    }

    /// As a power cut would.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }

    #[track_caller]
    pub(crate) fn finish(mut self, deadline: Duration) -> Ended {
        let status = self.process.wait(deadline);
        let status =
            status.unwrap_or_else(|| panic!("{} still runs after {deadline:?}", self.shown));
        let (stdout, stderr) = (self.stdout.read_to_end(), self.stderr.read_to_end());
        Ended { code: status.code(), stdout, stderr }
    }

    /// Sends `signal` to the process that a wrapper started.
    pub(crate) fn signal_child(&self, signal: &str) {
        let children = format!("/proc/{0}/task/{0}/children", self.id());
        let child = eventually_some(DEADLINE, "the wrapper's child", || {
            std::fs::read_to_string(&children).unwrap().trim().parse().ok()
        });
        send_signal(signal, child);
    }
}

impl Drop for Ambassador {
    fn drop(&mut self) {
        if thread::panicking() {
            self.process.kill();
            eprintln!("--- {}\n{}---", self.shown, self.stderr.read_to_end());
        }
    }
}

/// `listening NAME ADDR:PORT`, the only thing that may stand on standard output.
#[track_caller]
fn parse_listening(line: &str) -> (String, SocketAddr) {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["listening", name, address] => (name.to_owned(), address.parse().unwrap()),
        _ => panic!("not a `listening NAME ADDR:PORT` line: {line:?}"),
    }
}

/// What a pipe carried so far, line by line.
pub(crate) struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn none() -> Lines {
        Lines { lines: Arc::default(), reader: None }
    }

    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Lines {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let reader = thread::spawn({
            let lines = lines.clone();
            move || {
                for line in BufReader::new(pipe).split(b'\n') {
                    let Ok(line) = line else { break };
                    lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                }
            }
        });
        Lines { lines, reader: Some(reader) }
    }

    pub(crate) fn so_far(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Everything, once the writer has ended.
    pub(crate) fn read_to_end(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let ended = Instant::now() + Duration::from_secs(2);
            // A grandchild may hold the pipe open; then what came so far must do.
            while !reader.is_finished() && Instant::now() < ended {
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.so_far().iter().map(|line| format!("{line}\n")).collect()
    }
}
