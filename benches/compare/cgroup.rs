//! A control group for one proxy: the exact CPU time of all its processes,
//! and the memory the kernel holds for it besides its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::ledger;

const ROOT: &str = "/sys/fs/cgroup";

/// One directory in the unified hierarchy, or one for each controller in the
/// older layout. Removed when dropped, after its processes have ended.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directories: Vec<PathBuf>,
    unified: bool,
}

impl Cgroup {
    /// `None` where control groups cannot be made, as without root.
    pub(crate) fn make() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ambassador-bench-{}-{number}", process::id());
        let root = Path::new(ROOT);
        let unified = root.join("cgroup.controllers").exists();
        let parents = if unified { &[""][..] } else { &["cpuacct", "memory"][..] };
        let mut cgroup = Self { directories: Vec::new(), unified };
        for parent in parents {
            let directory = root.join(parent).join(&name);
            ledger::make_directory(&directory).ok()?;
            cgroup.directories.push(directory);
        }
        Some(cgroup)
    }

    /// The files into which a process writes its id to join.
    pub(crate) fn entrances(&self) -> Vec<PathBuf> {
        self.directories.iter().map(|directory| directory.join("cgroup.procs")).collect()
    }

    pub(crate) fn cpu_s(&self) -> Option<f64> {
        if self.unified {
            let stat = fs::read_to_string(self.directories.first()?.join("cpu.stat")).ok()?;
            let usage_us = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
            return Some(usage_us.trim().parse::<f64>().ok()? / 1e6);
        }
        Some(self.number("cpuacct.usage")? / 1e9)
    }

    pub(crate) fn memory_kib(&self) -> Option<f64> {
        let file = if self.unified { "memory.current" } else { "memory.usage_in_bytes" };
        Some(self.number(file)? / 1024.0)
    }

    fn number(&self, file: &str) -> Option<f64> {
        let read = |directory: &PathBuf| fs::read_to_string(directory.join(file)).ok();
        self.directories.iter().find_map(read)?.trim().parse().ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            ledger::remove_directory(directory);
        }
    }
}
