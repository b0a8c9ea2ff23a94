//! A process of the comparison: started in a group of its own, ended with it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::{cgroup::Cgroup, ledger};

/// Joins the control groups, lowers the limit of descriptors, and becomes the
/// program, so that the id stays the same. Should this run be killed with no
/// chance to clean up, the kernel ends the program too.
const ENTER: &str = r#"
limit=$1; shift
while [ "$1" != -- ]; do echo $$ >"$1" || exit 1; shift; done; shift
[ "$limit" = - ] || ulimit -n "$limit"
exec setpriv --pdeathsig KILL -- "$@"
"#;

#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Where its output goes: the first place to look when it does not start.
    pub(crate) log: PathBuf,
    /// Where its metrics are to be collected.
    pub(crate) admin: Option<SocketAddr>,
}

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Launch {
    /// Starts the program and nothing before it: for timing the start itself.
    pub(crate) fn bare(&self) -> io::Result<Process> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        self.start(&mut command)
    }

    /// Starts it inside `cgroup`, with a limit of open descriptors if one is given.
    pub(crate) fn within(
        &self,
        cgroup: Option<&Cgroup>,
        nofile: Option<u64>,
    ) -> io::Result<Process> {
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, "sh"]);
        command.arg(nofile.map_or("-".to_owned(), |limit| limit.to_string()));
        command.args(cgroup.map(Cgroup::entrances).unwrap_or_default());
        command.arg("--").arg(&self.program).args(&self.arguments);
        self.start(&mut command)
    }

    fn start(&self, command: &mut Command) -> io::Result<Process> {
        let log = File::create(&self.log)?;
        // An option of ambassador that is set in the environment would change
        // what is measured.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let (child, group) = ledger::start(command)
            .map_err(|err| io::Error::other(format!("{}: {err}", self.program.display())))?;
        Ok(Process { child, group, log: self.log.clone() })
    }
}

impl Process {
    pub(crate) fn group(&self) -> Pid {
        self.group
    }

    pub(crate) fn is_alive(&self) -> bool {
        // Looked at but not taken away: its id stays its own until it is dropped.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(self.group), look), Ok(None))
    }

    /// What it printed last, for a message about its failure.
    pub(crate) fn last_words(&self) -> String {
        last_lines(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        ledger::end(self.group);
        // Its parent has nothing to do with what it returned.
        let _ = self.child.wait();
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("; ")
}
