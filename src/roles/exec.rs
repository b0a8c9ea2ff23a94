//! `exec`: a command, and the services it is linked to.

use std::{
    ffi::OsString, net::SocketAddr, num::NonZeroU16, process::Command, sync::Arc, time::Duration,
};

use super::{
    Proxy,
    daemon::{self, Daemon},
    env,
};
use crate::{
    command::{Running, Signals},
    report::Failure,
    signals::StopRequests,
    traffic::Inherited,
};

/// What `exec` is asked to do.
#[derive(Debug)]
pub(crate) struct Exec {
    /// The first part of the variables of each of the proxy's routes, in their order.
    pub(crate) aliases: Vec<Alias>,
    pub(crate) proxy: Proxy,
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    /// The variables that say options of this command.
    pub(crate) options: Vec<String>,
}

/// Under which name a command knows a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alias {
    pub(crate) typed: String,
    /// The same as the first part of variables.
    pub(crate) in_variables: String,
}

/// What systemd says to one process, which is us: it takes a word about the state of the
/// unit from nobody else (`NotifyAccess=main`), and the sockets it hands over are for the
/// process of that number. A command that took these for its own would wait for an answer
/// or use descriptors that are something else.
///
/// Sources: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
const FOR_US: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
];

impl Exec {
    /// Returns the exit code of the command.
    pub(super) fn run(self, inherited: Inherited) -> Result<u8, Failure> {
        let signals = Signals::catch().map_err(daemon::no_signals)?;
        let requests = StopRequests::of(signals.requests());
        let mut daemon = Daemon::with(requests, &self.proxy.serving.supervisor);
        let drain = self.proxy.serving.drain;
        let mut command = Command::new(self.program);
        command.args(self.arguments);
        // Another ambassador among what the command starts would take them for its own:
        // the address of --admin, for one, is taken. Other variables of that beginning
        // may be anybody's.
        for variable in self.options.iter().map(String::as_str).chain(FOR_US) {
            command.env_remove(variable);
        }
        let (mut frontend, followed) = self.proxy.frontend(&mut daemon, inherited)?;
        for (alias, address) in self.aliases.iter().zip(frontend.addresses()) {
            command.envs(variables(alias, address));
        }
        frontend.observe(&mut daemon, "exec", Some(Arc::clone(&followed)))?;
        frontend.accept(&mut daemon)?;
        let running = signals.start(&mut command)?;
        let outcome = daemon.wait_for(running.ended(), frontend.acceptors(), || followed.status());
        let outcome = end_of(&running, outcome, drain);
        // What the command has sent is still on its way when it ends, and its exit code
        // says that all went well: its connections end by themselves within moments, now
        // that nobody is there to use them. Only what a process that the command left
        // behind holds open takes the whole drain, and is reset then.
        frontend.drain(daemon);
        outcome
    }
}

/// The exit code of the command, or why it must not go on: a listener that follows etcd
/// no more would lead it astray. It has `patience` to end by itself then.
fn end_of(
    running: &Running,
    outcome: Result<u8, Failure>,
    patience: Duration,
) -> Result<u8, Failure> {
    if outcome.is_err() {
        running.end(patience);
    }
    outcome
}

/// Those of `env`, and the one that says who is linked.
fn variables(alias: &Alias, address: SocketAddr) -> Vec<(String, String)> {
    let Alias { typed, in_variables } = alias;
    let port = NonZeroU16::new(address.port()).expect("a bound socket has a port");
    let host = address.ip().to_string();
    let mut variables = env::variables(in_variables, port, &address.to_string(), &host, port.get());
    // Docker has /CONTAINER/ALIAS.
    variables.push((format!("{in_variables}_NAME"), format!("/ambassador/{typed}")));
    variables
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        process::{self, Stdio},
        time::Instant,
    };

    use super::*;
    use crate::notify::Supervisor;

    /// The only test that catches signals: whoever does is told the end of all children.
    #[test]
    fn command_is_asked_to_end_and_then_killed_when_a_control_thread_dies() {
        let signals = Signals::catch().unwrap();
        let mut daemon = Daemon::with(StopRequests::of(signals.requests()), &Supervisor::default());
        let said = std::env::temp_dir().join(format!("ambassador-exec-{}", process::id()));
        // Ready once its output ends; then it stays, whatever it is told.
        let script = "trap 'echo $$ >$0' TERM; exec >&-; \
                      n=0; while [ $((n += 1)) -lt 1500 ]; do sleep 0.02; done";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(&said);
        let (mut ready, output) = std::io::pipe().unwrap();
        let running = signals.start(command.stdout(Stdio::from(output))).unwrap();
        drop(command);
        std::io::Read::read_to_end(&mut ready, &mut Vec::new()).unwrap();

        daemon.spawn("doomed", |_| panic!("on purpose")).unwrap();
        let (start, patience) = (Instant::now(), Duration::from_millis(500));
        let outcome = daemon.wait_for(running.ended(), &[], || None);
        let outcome = end_of(&running, outcome, patience);
        assert_eq!(outcome, Err(Failure::Running("thread doomed panicked".to_owned())));
        assert!(start.elapsed() >= patience);
        let id = fs::read_to_string(&said).expect("it was told");
        fs::remove_file(&said).unwrap();
        assert!(!Path::new("/proc").join(id.trim()).exists(), "its end was waited for");
    }
}
