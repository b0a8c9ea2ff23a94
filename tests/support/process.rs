//! Child processes that never outlive the test process, however it ends.

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Kills what is still on its list, and removes the scratch directory, when
/// its standard input ends: that is when the test process is gone, because
/// statics are not dropped and a killed process drops nothing.
const WATCHDOG: &str = r#"
pids=" "
last=:
while read -r verb what; do
    case $verb in
        guard) pids="$pids$what " ;;
        forget) case $pids in *" $what "*) pids="${pids%% $what *} ${pids#* $what }" ;; esac ;;
        finally) last="$last; $what" ;;
    esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
eval "$last"
rm -rf "$1"
"#;

struct Watchdog {
    orders: Mutex<ChildStdin>,
    scratch: PathBuf,
    /// Outlives this process, so nobody here waits for it.
    _process: Child,
}

static WATCHDOG_PROCESS: LazyLock<Watchdog> = LazyLock::new(|| {
    let scratch = std::env::temp_dir().join(format!("ambassador-tests-{}", std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    let mut process = Command::new("sh")
        .args(["-c", WATCHDOG, "watchdog"])
        .arg(&scratch)
        // A Ctrl-C at the terminal is for the tests; the watchdog cleans up after them.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let orders = Mutex::new(process.stdin.take().unwrap());
    Watchdog { orders, scratch, _process: process }
});

impl Watchdog {
    fn order(&self, verb: &str, what: impl Display) {
        writeln!(self.orders.lock().unwrap(), "{verb} {what}").unwrap();
    }
}

/// Has the shell run `command` when the test process is gone.
pub(crate) fn finally(command: &str) {
    WATCHDOG_PROCESS.order("finally", command);
}

/// The directory of this test process; gone when the process is.
pub(crate) fn scratch() -> &'static Path {
    &WATCHDOG_PROCESS.scratch
}

/// A child process; killed when this is dropped or the test process ends.
pub(crate) struct Guarded {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Guarded {
    pub(crate) fn spawn(command: &mut Command) -> Guarded {
        let child = command.spawn().unwrap_or_else(|err| panic!("{command:?}: {err}"));
        WATCHDOG_PROCESS.order("guard", child.id());
        Guarded { child, ended: None }
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&mut self, signal: &str) {
        if self.try_wait().is_none() {
            send_signal(signal, self.id());
        }
    }

    pub(crate) fn kill(&mut self) {
        if self.try_wait().is_none() {
            self.child.kill().unwrap();
            let status = self.child.wait().unwrap();
            self.note_end(status);
        }
    }

    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait().unwrap()
        {
            self.note_end(status);
        }
        self.ended
    }

    /// `None` when it still runs after `deadline`.
    pub(crate) fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            match self.try_wait() {
                Some(status) => return Some(status),
                None if start.elapsed() > deadline => return None,
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn note_end(&mut self, status: ExitStatus) {
        self.ended = Some(status);
        // The number may soon be another process's.
        WATCHDOG_PROCESS.order("forget", self.child.id());
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The shell's own `kill`, because a machine without procps has no other.
pub(crate) fn send_signal(signal: &str, pid: u32) {
    let kill = format!("kill -{signal} {pid}");
    let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(status.success(), "{kill}: {status}");
}
