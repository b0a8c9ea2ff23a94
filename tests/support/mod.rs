//! What every test stands on: real servers, the real binary, and waiting with
//! a deadline.

pub(crate) mod ambassador;
pub(crate) mod browser;
pub(crate) mod bytes;
pub(crate) mod cgroup;
pub(crate) mod client;
pub(crate) mod engine;
pub(crate) mod engine_events;
pub(crate) mod etcd;
pub(crate) mod fake_docker;
pub(crate) mod http;
pub(crate) mod own_engine;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod redis;
pub(crate) mod relay;
pub(crate) mod roles;
pub(crate) mod tap;
pub(crate) mod upstream;
pub(crate) mod usage;
pub(crate) mod visitors;

use std::collections::HashSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that normally takes milliseconds.
///
/// Generous: on a busy machine of two cores a process may not run for seconds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// Waits until `condition` holds; panics naming `what` after [`DEADLINE`].
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(DEADLINE, what, condition);
}

/// Waits until `condition` holds; panics naming `what` after `deadline`.
#[track_caller]
pub(crate) fn within(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(deadline, what, || condition().then_some(()));
}

/// Waits until `probe` finds something; panics naming `what` after `deadline`.
#[track_caller]
pub(crate) fn eventually_some<T>(
    deadline: Duration,
    what: &str,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        // Decided before probing, so that a probe delayed past the deadline still counts once.
        let last_try = start.elapsed() >= deadline;
        if let Some(found) = probe() {
            return found;
        }
        assert!(!last_try, "after {deadline:?} still not: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Calls `each` with every element at the same time: most of it is waiting.
pub(crate) fn all_at_once<T: Send>(elements: Vec<T>, each: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        let threads: Vec<_> =
            elements.into_iter().map(|element| scope.spawn(|| each(element))).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

static COUNTER: AtomicU32 = AtomicU32::new(1);

/// A number no other caller in this process gets.
pub(crate) fn unique() -> u32 {
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

/// An etcd directory of this test alone, so that tests can share one server.
pub(crate) fn unique_prefix() -> String {
    format!("/test-{}", unique())
}

/// A directory of its own below the one the watchdog removes at the end.
pub(crate) fn temp_dir(name: &str) -> PathBuf {
    let dir = process::scratch().join(format!("{name}-{}", unique()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// A loopback address that no other server, and no other test process that
/// runs at the same time, uses: on it every port is free and stays free.
pub(crate) fn fresh_ip() -> Ipv4Addr {
    let process = (std::process::id() & 0xfff) << 10;
    let host = process | (unique() & 0x3ff);
    Ipv4Addr::from((127 << 24) | (64 << 16) | host)
}

/// An address that refuses connections, and will for the whole test.
pub(crate) fn refusing_address() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(fresh_ip()), 1)
}

/// A port that is free on every interface, for what cannot be told to listen
/// on port 0. Below the range the kernel picks outgoing ports from.
pub(crate) fn free_port() -> u16 {
    static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let mut taken = TAKEN.lock().unwrap();
    // Far from where a test process started next to this one begins.
    let first = std::process::id().wrapping_mul(97) % 16_000;
    (0..16_000)
        .map(|step| 12_000 + ((first + step) % 16_000) as u16)
        .find(|&port| {
            !taken.contains(&port) && TcpListener::bind(("0.0.0.0", port)).is_ok() && {
                taken.insert(port);
                true
            }
        })
        .expect("a free port between 12000 and 28000")
}

/// Says on the terminal, past the capture of the test harness, what did not run.
pub(crate) fn skip_loudly(test: &str, reason: &str) {
    // Losing this line must not fail the test.
    drop(writeln!(std::io::stderr(), "SKIPPED {test}: {reason}"));
}

/// Whether this process may do what only root may.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Lets time pass in which something could go wrong that must not. Never for
/// waiting until something has happened: that is what [`eventually`] is for.
pub(crate) fn proceed_after(pause: Duration) {
    thread::sleep(pause);
}
