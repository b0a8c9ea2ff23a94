//! What `doctor` is to look at.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "comments on options are the text of --help, not markup"
)]

use clap::Args;

use super::{Environment, Refusal, host_options::TypedHost, typed::TypedEtcd, values};
use crate::roles::Doctor;

/// Checks what this host needs, and says what to do about what is wrong.
///
/// Asks Docker and each member of etcd, as the other commands with the same options would,
/// and changes nothing. Run it where they run: in the same container, as the same user.
/// Prints a line for each check: "ok"; "warn" where something would still work; "FAIL".
/// Exits with 1 if anything is FAIL. Takes at most 10 s. Whether a user of etcd may write is
/// not tried.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct TypedDoctor {
    /// For programs: an array of {check, state, finding, advice}.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) host: TypedHost,
    /// The open connections that proxy and forward are to have at the same time, 1 to 100000.
    #[arg(long, value_name = "N", default_value = "2048", value_parser = values::max_connections)]
    pub(super) max_connections: usize,
    #[command(flatten)]
    pub(super) etcd: TypedEtcd,
}

impl TypedDoctor {
    pub(super) fn resolve(self, environment: &Environment) -> Result<Doctor, Refusal> {
        Ok(Doctor {
            json: self.json,
            docker: self.host.docker(environment)?,
            host_ip: self.host.host_ip(environment)?,
            max_connections: self.max_connections,
            registry: self.etcd.resolve(environment)?,
        })
    }
}
