//! Control groups, for what an administrator may forbid a process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use super::process::finally;
use super::{is_root, unique};

/// A control group of one test; removed when dropped or when the test process ends.
///
/// To be dropped after the process in it, which keeps it busy.
pub(crate) struct Cgroup {
    directory: PathBuf,
    version: u8,
}

impl Cgroup {
    /// One that limits what `controller` knows of, or why there can be none.
    ///
    /// Below the root of its hierarchy: in version 2 a group that holds processes
    /// can have no children with limits.
    pub(crate) fn new(controller: &str) -> Result<Cgroup, String> {
        if !is_root() {
            return Err("only root may make a control group".to_owned());
        }
        let (root, version) = hierarchy(controller)?;
        let directory = root.join(format!("ambassador-{}-{}", std::process::id(), unique()));
        finally(&remove_command(&directory));
        fs::create_dir(&directory).map_err(|err| format!("{}: {err}", directory.display()))?;
        let group = Cgroup { directory, version };
        if group.file(&group.limit(controller)).is_file() {
            Ok(group)
        } else {
            Err(format!("{} has no {}", group.directory.display(), group.limit(controller)))
        }
    }

    /// So many processes and threads.
    pub(crate) fn limit_threads(&self, most: impl ToString) {
        self.write(&self.limit("pids"), &most.to_string());
    }

    pub(crate) fn limit_memory(&self, bytes: usize) {
        self.write(&self.limit("memory"), &bytes.to_string());
    }

    /// How often it had no room for one more process or thread.
    pub(crate) fn refused_threads(&self) -> u32 {
        let events = fs::read_to_string(self.file("pids.events")).unwrap();
        events.lines().find_map(|line| line.strip_prefix("max ")).unwrap().parse().unwrap()
    }

    pub(crate) fn add(&self, pid: u32) {
        self.write("cgroup.procs", &pid.to_string());
    }

    /// What, put before a command line, starts it in here.
    pub(crate) fn wrapper(&self) -> [String; 4] {
        let script = format!("echo $$ >{} && exec \"$@\"", self.file("cgroup.procs").display());
        ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]
    }

    fn limit(&self, controller: &str) -> String {
        match (controller, self.version) {
            ("memory", 1) => "memory.limit_in_bytes".to_owned(),
            _ => format!("{controller}.max"),
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.file(name);
        fs::write(&path, text).unwrap_or_else(|err| panic!("{text} to {}: {err}", path.display()));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that was killed leaves it a moment after its parent was told.
        let start = Instant::now();
        let is_busy = |outcome: io::Result<()>| {
            outcome.is_err_and(|err| err.kind() == io::ErrorKind::ResourceBusy)
        };
        while is_busy(fs::remove_dir(&self.directory)) && start.elapsed() < Duration::from_secs(2) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Where `controller` is mounted, and which version of control groups that is.
fn hierarchy(controller: &str) -> Result<(PathBuf, u8), String> {
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(controller);
    if own.join("cgroup.procs").is_file() {
        return Ok((own, 1));
    }
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    if !controllers.split_whitespace().any(|name| name == controller) {
        return Err(format!("no {controller} controller below {}", root.display()));
    }
    // What is there already may be written again.
    fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"))
        .map_err(|err| format!("{controller} cannot be handed to a group: {err}"))?;
    Ok((root.to_owned(), 2))
}

/// For when the test process died: then the watchdog has killed what was in there
/// only just now.
fn remove_command(directory: &Path) -> String {
    let directory = directory.display();
    format!("for n in 1 2 3 4 5; do [ ! -d {directory} ] || rmdir {directory} || sleep 0.2; done")
}
