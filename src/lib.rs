//! All of `ambassador` but the call of [`main`]: a library only so that `src/main.rs`
//! and the fuzz targets of `fuzz/` share the modules. It is no API, and nothing outside
//! of this repository may build on it. See ARCHITECTURE.md.

mod address;
mod admin;
mod backoff;
mod cli;
mod command;
mod connect;
mod counters;
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
mod pulse;
mod registrar;
mod report;
mod roles;
mod service;
mod signals;
mod stop;
mod traffic;
mod worker;

use std::{env, process::ExitCode};

use crate::{
    cli::{Environment, Invocation, Refusal},
    logging::Format,
    report::Failure,
    roles::Inherited,
};

/// The program: its exit code says whether a restart would help.
pub fn main() -> ExitCode {
    // First: the descriptors of passed sockets must not be anybody else's.
    let inherited = Inherited::take();
    let environment = Environment::new(env::vars_os());
    let mut format = match environment.journal_stream() {
        Some(stream) if logging::is_stderr(stream) => Format::Journal,
        _ => Format::Text,
    };
    let outcome = match cli::parse(env::args_os(), &environment) {
        Ok(invocation) => {
            if invocation.is_json {
                format = Format::Json;
            }
            inherited.and_then(|inherited| run(invocation, format, inherited))
        }
        Err(Refusal::Text(text)) => report::print(&text).map(|()| 0),
        Err(Refusal::Mistake(failure)) => Err(failure),
    };
    // One line on stderr, and the code that says whether a restart would help.
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            logging::write_last(format, &failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(
    Invocation { filter, role, .. }: Invocation,
    format: Format,
    inherited: Inherited,
) -> Result<u8, Failure> {
    // Dropped last: what the role has said is written before the process ends.
    let _log = logging::start(&filter, format)
        .map_err(|error| Failure::Running(format!("no thread for the log: {error}")))?;
    role.run(inherited)
}
