//! What this run has started and made, so that it takes back exactly that:
//! also when it is interrupted, and nothing else.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{self, Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Process groups that were started here, and directories that were made.
#[derive(Debug)]
struct Ledger {
    groups: Vec<Pid>,
    directories: Vec<PathBuf>,
}

/// One for the process: the thread of signals has to see it whatever `main` does.
static LEDGER: Mutex<Ledger> = Mutex::new(Ledger { groups: Vec::new(), directories: Vec::new() });

fn ledger() -> MutexGuard<'static, Ledger> {
    // A list of what to take back is good even when its last writer panicked.
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts `command`, which must be a process group of its own.
pub(crate) fn start(command: &mut Command) -> io::Result<(Child, Pid)> {
    // The lock is held over the start: none may escape the thread of signals.
    let mut ledger = ledger();
    let child = command.spawn()?;
    let group = Pid::from_child(&child);
    ledger.groups.push(group);
    Ok((child, group))
}

/// Ends a whole group: a forking proxy has a process for each connection. The
/// leader must not have been waited for, so that its id is still its own.
pub(crate) fn end(group: Pid) {
    let mut ledger = ledger();
    // Fails only when the group is gone.
    let _ = kill_process_group(group, Signal::KILL);
    ledger.groups.retain(|&known| known != group);
}

pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    let mut ledger = ledger();
    fs::create_dir(path)?;
    ledger.directories.push(path.to_path_buf());
    Ok(())
}

/// Removes a directory that was made here, once what was in it is gone.
pub(crate) fn remove_directory(path: &Path) {
    remove(path);
    ledger().directories.retain(|known| known != path);
}

/// Takes everything back and ends the process when it is asked to stop.
pub(crate) fn watch_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Never released: nothing new is started while this one ends.
            let ledger = ledger();
            for &group in &ledger.groups {
                let _ = kill_process_group(group, Signal::KILL);
                // So that none is left for init. `main` may have been faster.
                let _ = waitpid(Some(group), WaitOptions::empty());
            }
            for directory in ledger.directories.iter().rev() {
                remove(directory);
            }
            process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// A control group cannot be removed before the last of its processes is
/// gone, which is a moment after it was killed; its files go with it. Other
/// directories hold configuration and logs of the proxies.
fn remove(path: &Path) {
    for _ in 0..200 {
        if fs::remove_dir(path).is_ok() || !path.exists() {
            return;
        }
        if !path.starts_with("/sys") {
            let _ = fs::remove_dir_all(path);
        }
        thread::sleep(Duration::from_millis(10));
    }
}
