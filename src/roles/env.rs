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
        report::print(&variables(&self.alias, self.port, first))
    }
}

/// Source: Docker documentation, "Legacy container links", environment variables.
fn variables(alias: &str, port: NonZeroU16, row: &Row) -> String {
    let url = format!("tcp://{}", row.address);
    let name = format!("{alias}_PORT_{port}_TCP");
    format!(
        "{alias}_PORT={url}\n{name}={url}\n{name}_ADDR={}\n{name}_PORT={}\n{name}_PROTO=tcp\n",
        row.host, row.port
    )
}
