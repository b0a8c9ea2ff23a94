//! The address of a network interface of this host.

use std::net::IpAddr;

use super::host_ip::HostIp;
use crate::report::{self, Failure};

impl HostIp {
    /// The same with the address of `--interface` as the chosen one, as it is now.
    ///
    /// # Errors
    /// There is no such interface, or it has no address.
    pub(crate) fn on_interface(self) -> Result<HostIp, Failure> {
        match &self.interface {
            Some(name) => Ok(HostIp { chosen: Some(address_of(name)?), ..self }),
            None => Ok(self),
        }
    }
}

/// The addresses of this host that others may reach it at, each with its interface's name.
pub(crate) fn reachable_addresses() -> Vec<(String, IpAddr)> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default().into_iter();
    let reachable = interfaces.filter(|one| !one.is_loopback() && !one.is_link_local());
    reachable.map(|one| (one.name.clone(), one.ip())).collect()
}

/// The address of the interface called `name`, IPv4 before IPv6. One that holds only within
/// its link does not count.
///
/// # Errors
/// Wrong usage if there is none of that name; failure if it has no address, because it may
/// get one.
fn address_of(name: &str) -> Result<IpAddr, Failure> {
    let interfaces = if_addrs::get_if_addrs().map_err(|error| {
        Failure::Running(format!("--interface {name}: interfaces cannot be listed: {error}"))
    })?;
    let mut addresses: Vec<IpAddr> = interfaces
        .iter()
        .filter(|interface| interface.name == name && !interface.is_link_local())
        .map(|interface| interface.ip())
        .collect();
    addresses.sort();
    if let Some(address) = addresses.first() {
        return Ok(*address);
    }
    if interfaces.iter().any(|interface| interface.name == name) {
        return Err(Failure::Running(format!("--interface {name}: it has no address yet")));
    }
    let mut names: Vec<&str> = interfaces.iter().map(|interface| &interface.name[..]).collect();
    names.sort_unstable();
    names.dedup();
    let (name, names) = (report::excerpt(name), report::excerpt(&names.join(", ")));
    Err(Failure::Usage(format!("--interface: there is no {name} here; there are {names}")))
}
