//! `doctor`: what this host needs, and what to do about what is wrong.

mod clock;
mod engine;
mod finding;
mod host;
mod members;

use std::{
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use self::{
    finding::{Finding, State, shown},
    members::Examined,
};
use super::Registry;
use crate::{
    docker,
    etcd::Store,
    registrar::HostIp,
    report::{self, Failure},
};

/// For all answers. A party's requests have their own deadlines, which are sooner, but
/// looking up its name has not.
const PATIENCE: Duration = Duration::from_secs(9);

/// What `doctor` is asked to do.
#[derive(Debug)]
pub(crate) struct Doctor {
    pub(crate) json: bool,
    /// Where Docker is, if somebody says.
    pub(crate) docker: Option<docker::Address>,
    pub(crate) host_ip: HostIp,
    pub(crate) max_connections: usize,
    pub(crate) registry: Registry,
}

/// What a thread that asked one party found.
enum Told {
    Docker(Finding),
    Member(usize, Examined),
}

impl Doctor {
    /// Returns 1 if something failed.
    ///
    /// # Errors
    /// Wrong usage, when a certificate or a password cannot be read.
    pub(super) fn run(self) -> Result<u8, Failure> {
        let deadline = Instant::now() + PATIENCE;
        // Before there are descriptors and threads that no role would have.
        let connections = host::connections(self.max_connections);
        let told = self.ask()?;
        let late = format!("no answer within {}", report::duration(PATIENCE));
        let mut engine = engine::late(&late);
        let members = self.registry.members.iter();
        let mut members: Vec<(String, Examined)> =
            members.map(|member| (member.to_string(), Examined::late(&late))).collect();
        // Ends when the last of the threads has.
        while let Ok(told) = told.recv_deadline(deadline) {
            match told {
                Told::Docker(finding) => engine = finding,
                Told::Member(index, examined) => members[index].1 = examined,
            }
        }
        let mut findings = vec![engine];
        findings.extend(members::judge(&members));
        findings.push(clock::judge(&members));
        findings.push(host::address(self.host_ip));
        findings.push(connections);
        report::print(&match self.json {
            true => finding::json(&findings)?,
            false => shown(&findings),
        })?;
        Ok(u8::from(findings.iter().any(|finding| finding.state == State::Fail)))
    }

    /// Asks all parties at the same time. Nobody waits for a thread that is late: it ends
    /// with the process.
    fn ask(&self) -> Result<Receiver<Told>, Failure> {
        // One for each member, which turns to no other; all of them before anything is sent.
        let members = self.registry.members.iter();
        let stores = members.map(|member| {
            let alone = Registry { members: vec![member.clone()], ..self.registry.clone() };
            alone.store()
        });
        let stores = stores.collect::<Result<Vec<Store>, Failure>>()?;
        let (tell, told) = unbounded();
        let docker = self.docker.clone();
        start("docker".to_owned(), &tell, || Told::Docker(engine::examine(docker)))?;
        for (index, store) in stores.into_iter().enumerate() {
            let directory = self.registry.prefix.to_string();
            let ask = move || Told::Member(index, members::examine(&store, &directory));
            start(format!("etcd-{index}"), &tell, ask)?;
        }
        Ok(told)
    }
}

fn start(
    name: String,
    tell: &Sender<Told>,
    ask: impl FnOnce() -> Told + Send + 'static,
) -> Result<(), Failure> {
    let tell = tell.clone();
    let thread = thread::Builder::new().name(name).spawn(move || {
        // Nobody listens any more once it is too late.
        let _ = tell.send(ask());
    });
    thread.map(drop).map_err(|error| Failure::Running(format!("no thread to ask with: {error}")))
}
