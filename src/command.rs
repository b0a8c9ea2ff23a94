//! A command that runs below us: started, told our signals, waited for.
//!
//! As PID 1 of a container we are also the parent of everything that lost its own, which
//! only we can wait for.

use std::{
    fs,
    io::{self, ErrorKind},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender};
use log::{debug, warn};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH},
    iterator::{
        SignalsInfo,
        exfiltrator::{WithOrigin, origin::Origin},
    },
    low_level::{siginfo::Cause, signal_name},
};

use crate::{
    limits::FileLimit,
    report::{self, Failure},
};

/// What is passed on: what asks a process to end or to do something, and can be caught.
/// Those that stop and continue a job reach the command from where they come.
const PASSED_ON: [i32; 7] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// How long a command that was killed may take to be gone.
const KILLED: Duration = Duration::from_secs(1);

/// Signals that are kept for a command, from before it is started, and what it inherits
/// that the process changes for itself.
#[derive(Debug)]
pub(crate) struct Signals {
    started: Sender<Arc<Process>>,
    files: FileLimit,
    ended: Receiver<u8>,
    requests: Receiver<()>,
}

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Running {
    process: Arc<Process>,
    ended: Receiver<u8>,
}

/// A child, and its number until it is waited for: after that it may be another's.
#[derive(Debug)]
struct Process(Mutex<Option<Pid>>);

impl Signals {
    /// Installs the handlers and starts the `signals` thread, which lasts as long as
    /// the process.
    ///
    /// What is ignored now stays so, and the command inherits that: a handler of ours
    /// would take back what `nohup` or a shell's `&` asked for.
    pub(crate) fn catch() -> io::Result<Self> {
        let ignored = ignored_signals();
        let wanted = PASSED_ON.into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
        let signals = SignalsInfo::<WithOrigin>::new(wanted.chain([SIGCHLD]))?;
        let (started, start) = crossbeam_channel::bounded::<Arc<Process>>(1);
        let (ended_in, ended) = crossbeam_channel::bounded(1);
        // More requests than this change nothing.
        let (requests_in, requests) = crossbeam_channel::bounded(8);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            // What comes before waits: its end also comes as a signal.
            if let Ok(process) = start.recv() {
                pass_on(signals, &process, &ended_in, &requests_in);
            }
        })?;
        Ok(Signals { started, files: FileLimit::now(), ended, requests })
    }

    /// Each SIGTERM and SIGINT that comes when the command has ended already.
    pub(crate) fn requests(&self) -> Receiver<()> {
        self.requests.clone()
    }

    /// Starts `command`, and passes on to it what came so far.
    ///
    /// # Errors
    /// As sh and env(1) tell them apart: there is no such command, or it cannot be run.
    pub(crate) fn start(self, command: &mut Command) -> Result<Running, Failure> {
        let child = self.files.during(|| command.spawn()).map_err(|error| {
            let name = report::excerpt(&command.get_program().to_string_lossy());
            let text = format!("exec: {name} cannot be run: {error}");
            match error.kind() {
                ErrorKind::NotFound => Failure::NoCommand(text),
                _ => Failure::NotExecutable(text),
            }
        })?;
        let process = Arc::new(Process(Mutex::new(Some(Pid::from_child(&child)))));
        // Only a thread that panicked does not take it, and then `ended` says so.
        let _ = self.started.send(Arc::clone(&process));
        Ok(Running { process, ended: self.ended })
    }
}

impl Running {
    /// Gets the exit code of the command, once.
    pub(crate) fn ended(&self) -> &Receiver<u8> {
        &self.ended
    }

    /// Asks the command to end, waits for `patience`, and kills it.
    pub(crate) fn end(&self, patience: Duration) {
        self.process.tell(Signal::TERM);
        if self.ended.recv_timeout(patience).is_err() {
            warn!("the command did not end within {}: it is killed", report::duration(patience));
            self.process.tell(Signal::KILL);
            let _ = self.ended.recv_timeout(KILLED);
        }
    }
}

impl Process {
    fn pid(&self) -> MutexGuard<'_, Option<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `signal`. Returns false if the command has ended.
    fn tell(&self, signal: Signal) -> bool {
        // Locked until it is sent, so that it is the command's number until then.
        let pid = self.pid();
        if let Some(pid) = *pid
            && let Err(error) = rustix::process::kill_process(pid, signal)
        {
            warn!("signal {} cannot be passed on to the command: {error}", signal.as_raw());
        }
        pid.is_some()
    }

    /// Waits for all children that have ended: the command, of which it returns the
    /// exit code, and orphans.
    fn reap(&self) -> Option<u8> {
        let mut pid = self.pid();
        let mut code = None;
        // It fails when there are no children any more.
        while let Ok(Some((ended, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if *pid == Some(ended) {
                *pid = None;
                code = Some(exit_code(status));
            }
        }
        code
    }
}

/// The life of the `signals` thread.
fn pass_on(
    mut signals: SignalsInfo<WithOrigin>,
    process: &Process,
    ended: &Sender<u8>,
    requests: &Sender<()>,
) {
    for origin in signals.forever() {
        if origin.signal == SIGCHLD {
            if let Some(code) = process.reap() {
                debug!("the command ended: exit code {code}");
                let _ = ended.send(code);
            }
            continue;
        }
        let name = signal_name(origin.signal).unwrap_or("a signal");
        if is_everybodys(&origin) {
            debug!("{name} is not passed on: it came from the terminal, which the command shares");
            continue;
        }
        debug!("{name} is passed on");
        let signal = Signal::from_named_raw(origin.signal).expect("PASSED_ON has no other");
        if !process.tell(signal) && matches!(origin.signal, SIGTERM | SIGINT) {
            // A full channel has more requests than anybody reads.
            let _ = requests.try_send(());
        }
    }
}

/// Whether the command got the signal too, which is in our process group.
///
/// The terminal's keys and its size are told to the whole group in the foreground, and
/// the kernel says that it was itself (sigaction(2), `SI_KERNEL`). So no process group
/// has to be made for the command, as tini and dumb-init do; Ctrl-Z goes on to work. Only
/// the hang-up of the terminal is told to the session's leader alone, which is us where
/// we are PID 1 of a container with a terminal (credentials(7), `SIGHUP`).
fn is_everybodys(origin: &Origin) -> bool {
    let is_leader = || rustix::process::getsid(None) == Ok(rustix::process::getpid());
    origin.cause == Cause::Kernel && !(origin.signal == SIGHUP && is_leader())
}

/// As shells have it.
fn exit_code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => unreachable!("it is not asked for those that only stopped"),
    };
    u8::try_from(code).expect("a status has 8 bits, and there are 64 signals")
}

/// The signals that this process ignores, signal 1 in the lowest bit. (proc(5), `SigIgn`.)
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
