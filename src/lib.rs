//! All of `ambassador` but the call of [`main`]: a library only so that `src/main.rs`
//! and the fuzz targets of `fuzz/` share the modules. It is no API, and nothing outside
//! of this repository may build on it. See ARCHITECTURE.md.

mod address;
mod backoff;
mod cli;
mod command;
mod connect;
mod docker;
mod etcd;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod limits;
mod logging;
mod notify;
mod outage;
mod poller;
#[cfg(any(test, fuzzing))]
mod property;
mod registrar;
mod report;
mod roles;
mod service;
mod signals;
mod stop;
mod traffic;
mod worker;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use crate::{
    cli::{Environment, Invocation, Refusal},
    report::Failure,
};

/// The program: its exit code says whether a restart would help.
pub fn main() -> ExitCode {
    let environment = Environment::new(env::vars_os());
    let outcome = match cli::parse(env::args_os(), &environment) {
        Ok(invocation) => run(invocation),
        Err(Refusal::Text(text)) => report::print(&text).map(|()| 0),
        Err(Refusal::Mistake(failure)) => Err(failure),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => fail(&failure),
    }
}

fn run(Invocation { filter, role }: Invocation) -> Result<u8, Failure> {
    // Dropped last: what the role has said is written before the process ends.
    let _log = logging::start(&filter)
        .map_err(|error| Failure::Running(format!("no thread for the log: {error}")))?;
    role.run()
}

/// One line on stderr, and the code that says whether a restart would help.
fn fail(failure: &Failure) -> ExitCode {
    let _ = writeln!(io::stderr(), "ambassador: {failure}");
    ExitCode::from(failure.exit_code())
}
