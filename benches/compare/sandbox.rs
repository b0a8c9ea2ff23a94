//! Where the comparison runs: a network of its own, and one CPU or all.

use std::{
    env, fs, io,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
};

use rustix::{
    process::{Resource, Rlimit, geteuid, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Set for the second incarnation, the one inside the network namespace.
const INSIDE: &str = "COMPARE_IN_NAMESPACE";

/// Descriptors this program needs: two for each of 9,500 held connections.
const DESCRIPTORS: u64 = 40_000;

/// What is set inside the namespace, never on the host.
const SETTINGS: [(&str, &str); 3] = [
    // BBR, where it is the default, paces even loopback.
    ("net/ipv4/tcp_congestion_control", "reno"),
    // Hundreds of thousands of short connections must not run out of ports.
    ("net/ipv4/tcp_max_tw_buckets", "2000"),
    ("net/ipv4/ip_local_port_range", "20000 65000"),
];

/// Continues in a network namespace of this process's own if it may make one.
/// The namespace goes when the last process in it does.
pub(crate) fn enter() -> io::Result<()> {
    if env::var_os(INSIDE).is_some() {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
        if !up.success() {
            return Err(io::Error::other("cannot bring loopback up: `ip link set lo up` failed"));
        }
        for (setting, value) in SETTINGS {
            if let Err(err) = fs::write(format!("/proc/sys/{setting}"), value) {
                say!("{setting} stays as it is: {err}");
            }
        }
        return Ok(());
    }
    let allowed = geteuid().is_root()
        && Command::new("unshare")
            .args(["--net", "ip", "link", "set", "lo", "up"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    if !allowed {
        say!("no network namespace (not root, or not allowed): running in the host's");
        return Ok(());
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(env::current_exe()?).args(env::args_os().skip(1));
    Err(command.env(INSIDE, "1").exec())
}

/// Raises the limit of open descriptors, as far as that is allowed.
pub(crate) fn raise_descriptors() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let hard = now.maximum.unwrap_or(DESCRIPTORS);
    let wanted = Rlimit { current: Some(DESCRIPTORS), maximum: Some(hard.max(DESCRIPTORS)) };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        // What is left is what anybody may do: up to the hard limit.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, ..now });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(DESCRIPTORS)
}

/// On which CPUs the proxies, their clients and their upstreams run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pinning {
    /// Everything on one: sums all work, and is the steadiest.
    OneCpu,
    /// As the scheduler likes, which is what a user sees.
    Free,
}

#[derive(Clone)]
pub(crate) struct Cpus {
    all: CpuSet,
    one: CpuSet,
}

impl Cpus {
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let all = sched_getaffinity(None)?;
        let mut one = CpuSet::new();
        // Interrupts of a small machine tend to go to the first one.
        if let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|&cpu| all.is_set(cpu)) {
            one.set(last);
        }
        Ok(Self { all, one })
    }

    /// For the calling thread and all threads and processes it starts from now on.
    pub(crate) fn pin(&self, pinning: Pinning) -> io::Result<()> {
        let set = match pinning {
            Pinning::OneCpu => &self.one,
            Pinning::Free => &self.all,
        };
        Ok(sched_setaffinity(None, set)?)
    }

    pub(crate) fn count() -> usize {
        thread::available_parallelism().map_or(1, Into::into)
    }
}
