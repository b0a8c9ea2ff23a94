//! What a running process takes of the machine, as /proc shows it.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::time::Duration;

/// A process, by its number.
#[derive(Clone, Copy)]
pub(crate) struct Usage(u32);

impl Usage {
    pub(crate) fn of(pid: u32) -> Usage {
        Usage(pid)
    }

    pub(crate) fn threads(self) -> usize {
        self.status("Threads:")
    }

    pub(crate) fn mappings(self) -> usize {
        self.read("maps").lines().count()
    }

    /// Open descriptors of any kind.
    pub(crate) fn descriptors(self) -> usize {
        fs::read_dir(self.path("fd")).unwrap().count()
    }

    /// Those among them that are an end of a pipe.
    pub(crate) fn pipes(self) -> usize {
        let links = fs::read_dir(self.path("fd")).unwrap().filter_map(|entry| {
            // One that was closed meanwhile is not open.
            fs::read_link(entry.ok()?.path()).ok()
        });
        links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
    }

    /// The number that the next descriptor will have.
    pub(crate) fn next_descriptor(self) -> usize {
        let directory = fs::read_dir(self.path("fd")).unwrap();
        let taken: HashSet<OsString> = directory.map(|entry| entry.unwrap().file_name()).collect();
        (0..).find(|number: &usize| !taken.contains(OsStr::new(&number.to_string()))).unwrap()
    }

    /// Memory that is in RAM and its own.
    pub(crate) fn resident_bytes(self) -> usize {
        self.status("VmRSS:") * 1024
    }

    /// Time on a CPU since it started, all threads together.
    pub(crate) fn cpu_time(self) -> Duration {
        /// Linux counts in these whatever it measures with: USER_HZ is 100.
        const TICK: Duration = Duration::from_millis(10);
        let stat = self.read("stat");
        // The second field is a name in brackets, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u32>().unwrap();
        // The 14th and the 15th, in user and in kernel mode (proc_pid_stat(5)).
        TICK * (ticks(11) + ticks(12))
    }

    fn status(self, field: &str) -> usize {
        let status = self.read("status");
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let value = value.unwrap_or_else(|| panic!("no {field} of a process that has ended"));
        value.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn read(self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|err| panic!("{path}: {err}"))
    }

    fn path(self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0)
    }
}
