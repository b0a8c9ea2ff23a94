//! How many connections the limits of this process allow.

use std::{fs, path::Path};

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

/// Descriptors kept free besides what is open at the start: requests to etcd and
/// Docker, name lookups.
const SPARE_FILES: u64 = 16;
/// How many are assumed to be open where /proc cannot tell.
const OPEN_FILES: u64 = 16;
/// Its poller's connection to etcd, and one for each thread that may wait for its next
/// client: accept(2) takes the descriptor before it waits.
const FILES_PER_LISTENER: u64 = 6;
const FILES_PER_PIPE: u64 = 2;
/// Pipes for busy streams: 64 of 1 MiB are what the kernel lets an unprivileged user
/// have (pipe(7), `fs.pipe-user-pages-soft`).
const MOST_PIPES: u64 = 64;
/// A client and an upstream.
const FILES_PER_CONNECTION: u64 = 2;

/// Threads for everything but connections and listeners.
const RESERVED_THREADS: u64 = 16;
/// Its acceptor, its poller, and the four that may wait for its next client.
const THREADS_PER_LISTENER: u64 = 6;
/// Copy up and copy down.
const THREADS_PER_CONNECTION: u64 = 2;

/// Mappings for everything but threads: the program and its heap.
const RESERVED_MAPS: u64 = 192;
/// A stack, an alternate signal stack and a guard for each. Beyond the limit std
/// aborts the whole process inside the new thread
/// (<https://github.com/rust-lang/rust/issues/78497>), so this one must hold.
const MAPS_PER_THREAD: u64 = 4;

/// What is limited, and how much of it a connection takes.
struct Kind {
    what: &'static str,
    raised_by: &'static str,
    each: u64,
}

const FILES: Kind = Kind {
    what: "open files",
    raised_by: "LimitNOFILE= in a unit, docker run --ulimit nofile=, ulimit -n",
    each: FILES_PER_CONNECTION,
};
const USERS_PROCESSES: Kind = Kind {
    what: "processes of this user",
    raised_by: "LimitNPROC= in a unit, docker run --ulimit nproc=, ulimit -u",
    each: THREADS_PER_CONNECTION,
};
const GROUPS_PROCESSES: Kind = Kind {
    what: "processes of the control group",
    raised_by: "TasksMax= in a unit, docker run --pids-limit",
    each: THREADS_PER_CONNECTION,
};
const PID_MAX: Kind = Kind {
    what: "kernel.pid_max",
    raised_by: "sysctl kernel.pid_max",
    each: THREADS_PER_CONNECTION,
};
const THREADS_MAX: Kind = Kind {
    what: "kernel.threads-max",
    raised_by: "sysctl kernel.threads-max",
    each: THREADS_PER_CONNECTION,
};
const MAPS: Kind = Kind {
    what: "vm.max_map_count",
    raised_by: "sysctl vm.max_map_count",
    each: THREADS_PER_CONNECTION * MAPS_PER_THREAD,
};

/// One limit, and the connections it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    /// What is limited, and by how much, for a log line.
    pub(crate) what: String,
    pub(crate) connections: u64,
    /// How many pipes may be used besides.
    pub(crate) pipes: usize,
    /// What raises it.
    pub(crate) raised_by: &'static str,
    /// What it must be for as many connections as are wanted.
    pub(crate) needed: u64,
}

/// The limit that allows the fewest connections, after the one on open files has
/// been raised as far as `wanted` connections need and the system lets us. To be
/// called when all listeners are open.
pub(crate) fn tightest(wanted: usize, listeners: usize) -> Limit {
    let open = fs::read_dir("/proc/self/fd").map_or(OPEN_FILES, |files| files.count() as u64);
    let listeners = listeners as u64;
    let reserved = open + FILES_PER_LISTENER * listeners + SPARE_FILES;
    let wanted = wanted as u64;
    raise_files(wanted * FILES_PER_CONNECTION + MOST_PIPES * FILES_PER_PIPE + reserved);
    let files = getrlimit(Resource::Nofile).current;
    let pipes = files.map_or(MOST_PIPES, |files| pipes(files.saturating_sub(reserved)));
    let threads = RESERVED_THREADS + THREADS_PER_LISTENER * listeners;
    let maps = RESERVED_MAPS + MAPS_PER_THREAD * threads;
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    // Root is not held to RLIMIT_NPROC (getrlimit(2)).
    let processes = if geteuid().is_root() { None } else { getrlimit(Resource::Nproc).current };
    let needed = |reserved: u64, kind: &Kind| reserved + wanted * kind.each;
    let with_pipes = |pipes: u64| reserved + pipes * FILES_PER_PIPE;
    let of_threads = |limit, kind: Kind| (limit, threads, needed(threads, &kind), kind);
    let limits = [
        (files, with_pipes(pipes), needed(with_pipes(MOST_PIPES), &FILES), FILES),
        of_threads(processes, USERS_PROCESSES),
        of_threads(pids_max(), GROUPS_PROCESSES),
        of_threads(number("/proc/sys/kernel/pid_max"), PID_MAX),
        of_threads(number("/proc/sys/kernel/threads-max"), THREADS_MAX),
        (number("/proc/sys/vm/max_map_count"), maps, needed(maps, &MAPS), MAPS),
    ];
    let allowed = limits.into_iter().filter_map(|(limit, reserved, needed, kind)| {
        let limit = limit?;
        let Kind { what, raised_by, each } = kind;
        let connections = limit.saturating_sub(reserved) / each;
        let what = format!("{limit} {what}");
        Some(Limit { what, connections, pipes: pipes as usize, raised_by, needed })
    });
    let unlimited = Limit {
        what: "nothing".to_owned(),
        connections: u64::MAX,
        pipes: pipes as usize,
        raised_by: "nothing",
        needed: 0,
    };
    allowed.min_by_key(|limit| limit.connections).unwrap_or(unlimited)
}

/// How many pipes the `files` for connections and pipes leave room for: a quarter of
/// them, because a connection can do without a pipe.
fn pipes(files: u64) -> u64 {
    (files / 4 / FILES_PER_PIPE).min(MOST_PIPES)
}

/// Raises the soft limit on open files towards `needed`. The low default (1024)
/// is for programs that use select(2); whoever may say more has said it in the
/// hard limit.
fn raise_files(needed: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(soft) = current.filter(|soft| *soft < needed) else { return };
    let raised = maximum.map_or(needed, |hard| hard.min(needed));
    if raised > soft {
        // What is refused shows in the limit that is read next.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
    }
}

/// The limit on open files as it was at some moment, for a program that is started later:
/// one that uses select(2), or closes every descriptor there might be, needs the low one.
#[derive(Debug)]
pub(crate) struct FileLimit(Rlimit);

impl FileLimit {
    pub(crate) fn now() -> Self {
        FileLimit(getrlimit(Resource::Nofile))
    }

    /// Does `what` under this limit. A client that connects meanwhile may have to wait.
    pub(crate) fn during<T>(self, what: impl FnOnce() -> T) -> T {
        let raised = getrlimit(Resource::Nofile);
        // Neither is refused: no hard limit is exceeded.
        let _ = setrlimit(Resource::Nofile, self.0);
        let outcome = what();
        let _ = setrlimit(Resource::Nofile, raised);
        outcome
    }
}

/// The lowest `pids.max` of this process's control group and those above it.
///
/// Source: cgroups(7); in version 1 the controller has a hierarchy of its own.
fn pids_max() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let roots = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match controllers {
            "" => Some(("/sys/fs/cgroup", path)),
            _ if controllers.split(',').any(|name| name == "pids") => {
                Some(("/sys/fs/cgroup/pids", path))
            }
            _ => None,
        }
    });
    roots.filter_map(|(root, path)| lowest_pids_max(Path::new(root), path)).min()
}

fn lowest_pids_max(root: &Path, path: &str) -> Option<u64> {
    // In a container the path may name a directory outside of what is mounted;
    // then the mounted root is the container's own group.
    let relative = path.trim_start_matches('/');
    let group = root.join(relative);
    let group = if group.is_dir() { group } else { root.to_owned() };
    let above = group.ancestors().take_while(|directory| directory.starts_with(root));
    above
        .filter_map(|directory| fs::read_to_string(directory.join("pids.max")).ok())
        .filter_map(|text| text.trim().parse().ok()) // "max" is no number, and no limit.
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_limit_is_known_and_allows_some_connections() {
        let limit = tightest(1, 1);
        assert!(limit.connections > 0 && limit.connections < u64::MAX, "{limit:?}");
    }

    #[test]
    fn pipes_take_a_quarter_of_few_files_and_a_fixed_number_of_many() {
        assert_eq!([0, 7, 8, 32, 512, 1 << 20].map(pipes), [0, 0, 1, 4, 64, 64]);
    }

    #[test]
    fn the_lowest_pids_max_on_the_way_up_counts() {
        let root = std::env::temp_dir().join(format!("ambassador-cgroup-{}", std::process::id()));
        let group = root.join("a/b");
        fs::create_dir_all(&group).unwrap();
        fs::write(root.join("a/pids.max"), "100\n").unwrap();
        fs::write(group.join("pids.max"), "max\n").unwrap();
        assert_eq!(lowest_pids_max(&root, "/a/b"), Some(100));
        fs::write(group.join("pids.max"), "7\n").unwrap();
        assert_eq!(lowest_pids_max(&root, "/a/b"), Some(7));
        assert_eq!(lowest_pids_max(&root, "/../elsewhere"), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
