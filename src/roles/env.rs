//! `env`: the variables that `docker run --link` set, for `--env-file`.

use std::num::NonZeroU16;

use super::{
    Registry,
    list::{self, Row},
};
use crate::{
    report::{self, Failure},
    service::ServiceName,
};

/// What `env` is asked to do.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) service: ServiceName,
    /// The port in the variables' names: the one the client was written for.
    pub(crate) port: NonZeroU16,
    /// The first part of the variables' names.
    pub(crate) alias: String,
    pub(crate) registry: Registry,
}

impl Env {
    pub(super) fn run(self) -> Result<(), Failure> {
        let rows = list::rows(&self.registry, Some(&self.service))?;
        let Some(first) = rows.first() else {
            return Err(list::none_registered(&self.registry, &self.service));
        };
        let Row { host, port, address, .. } = first;
        let address = address.to_string();
        let variables = variables(&self.alias, self.port, &address, host, *port);
        let lines = variables.iter().map(|(name, value)| format!("{name}={value}\n"));
        report::print(&lines.collect::<String>())
    }
}

/// Names and values for a link to `target`, which is `target_host:target_port`.
///
/// Source: Docker documentation, "Legacy container links", environment variables.
pub(super) fn variables(
    alias: &str,
    port: NonZeroU16,
    target: &str,
    target_host: &str,
    target_port: u16,
) -> Vec<(String, String)> {
    let url = format!("tcp://{target}");
    let name = format!("{alias}_PORT_{port}_TCP");
    vec![
        (format!("{alias}_PORT"), url.clone()),
        (name.clone(), url),
        (format!("{name}_ADDR"), target_host.to_owned()),
        (format!("{name}_PORT"), target_port.to_string()),
        (format!("{name}_PROTO"), "tcp".to_owned()),
    ]
}
