//! What a proxy uses: CPU time and memory of all its processes.

use std::fs;

use rustix::process::Pid;

use crate::cgroup::Cgroup;

/// Ticks a second in `/proc/PID/stat`: 100 on every Linux that Debian builds.
const TICKS: f64 = 100.0;

/// Reads a control group where there is one, `/proc` otherwise.
#[derive(Debug)]
pub(crate) struct Meter {
    cgroup: Option<Cgroup>,
    group: Pid,
}

impl Meter {
    pub(crate) fn new(cgroup: Option<Cgroup>, group: Pid) -> Self {
        Self { cgroup, group }
    }

    /// CPU seconds since the start, of processes that have ended too.
    pub(crate) fn cpu_s(&self) -> f64 {
        match self.cgroup.as_ref().and_then(Cgroup::cpu_s) {
            Some(seconds) => seconds,
            None => self.stats().iter().map(|stat| stat.ticks).sum::<f64>() / TICKS,
        }
    }

    /// Resident memory in KiB. Of several processes each page they share is
    /// counted once, else a forking proxy would seem far larger than it is.
    pub(crate) fn resident_kib(&self) -> Option<f64> {
        let stats = self.stats();
        let (file, field) = match stats.len() {
            1 => ("status", "VmRSS:"),
            _ => ("smaps_rollup", "Pss:"),
        };
        let sizes = stats.iter().filter_map(|stat| {
            let text = fs::read_to_string(format!("/proc/{}/{file}", stat.pid)).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(field))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        });
        let sum = sizes.sum::<f64>();
        (sum > 0.0).then_some(sum)
    }

    /// All memory charged to it in KiB, the kernel's for it included.
    pub(crate) fn charged_kib(&self) -> Option<f64> {
        self.cgroup.as_ref()?.memory_kib()
    }

    fn stats(&self) -> Vec<Stat> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Stat::of)
            .filter(|stat| stat.group == self.group.as_raw_nonzero().get())
            .collect()
    }
}

#[derive(Debug)]
struct Stat {
    pid: i32,
    group: i32,
    /// Of itself and of children it has waited for.
    ticks: f64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything, so count from
        // behind it: state, parent, group, and from the 11th on the times.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
        let ticks = (11..=14).map(number).sum::<Option<f64>>()?;
        Some(Self { pid, group: fields.get(2)?.parse().ok()?, ticks })
    }
}
