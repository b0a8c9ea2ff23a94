//! The options that say where Docker is, and where others reach this host.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "comments on options are the text of --help, not markup"
)]

use std::net::IpAddr;

use clap::Args;

use super::{Environment, Refusal, values};
use crate::{docker, registrar::HostIp};

#[derive(Debug, Args)]
pub(super) struct TypedHost {
    /// Docker's API: unix://PATH or tcp://HOST:PORT.
    /// [default: DOCKER_HOST, then unix:///var/run/docker.sock]
    #[arg(long, value_name = "ADDR")]
    pub(super) docker: Option<docker::Address>,
    /// The address other hosts reach this host at. [default: the published address; for
    /// ports published everywhere HOST_IP, then COREOS_PRIVATE_IPV4]
    #[arg(long, value_name = "IP", value_parser = values::host_ip)]
    pub(super) host_ip: Option<IpAddr>,
    /// The network interface whose address --host-ip is, as it is at start; IPv4 before IPv6.
    /// [default: none]
    #[arg(long, value_name = "NAME", conflicts_with = "host_ip")]
    pub(super) interface: Option<String>,
}

impl TypedHost {
    /// Where Docker is, if anybody says.
    pub(super) fn docker(
        &self,
        environment: &Environment,
    ) -> Result<Option<docker::Address>, Refusal> {
        match &self.docker {
            Some(address) => Ok(Some(address.clone())),
            None => environment.docker(),
        }
    }

    pub(super) fn host_ip(&self, environment: &Environment) -> Result<HostIp, Refusal> {
        let (chosen, interface) = (self.host_ip, self.interface.clone());
        Ok(HostIp { chosen, interface, ambient: environment.host_ip()? })
    }
}
