//! Judges one port of one container. Pure.

use std::num::NonZeroU16;

use super::{
    host_ip::HostIp,
    wanted::{Judged, Target, Verdict, Wanted, instance_name},
};
use crate::{
    docker::{Container, Port, Protocol},
    report,
    service::{Attribute, Format, InstanceName, Registration, ServiceName},
};

/// One port of one container, and as what it is registered.
#[derive(Debug, Clone)]
pub(crate) struct One {
    pub(crate) container: String,
    pub(crate) port: NonZeroU16,
    pub(crate) service: ServiceName,
    /// Otherwise each format has a name of its own for it.
    pub(crate) instance: Option<InstanceName>,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) host_ip: HostIp,
}

impl One {
    pub(super) fn judge(
        &self,
        target: &Target,
        container: Option<&Container>,
        host_name: &str,
    ) -> Judged {
        let verdict = match container {
            None => Verdict::Absent(format!("there is no container {}", self.container)),
            Some(container) => self.verdict(target, container, host_name),
        };
        let port = Port { number: self.port, protocol: Protocol::Tcp };
        Judged { container: self.container.clone(), port: Some(port), verdict }
    }

    fn verdict(&self, target: &Target, container: &Container, host_name: &str) -> Verdict {
        let One { container: name, port, .. } = self;
        if let Some(obstacle) = container.state.obstacle() {
            return Verdict::Absent(format!("container {name} {obstacle}"));
        }
        let bindings = match container.bindings(port.get()) {
            None | Some([]) => {
                let ports = container.published_ports();
                let others = if ports.is_empty() {
                    "no TCP port".to_owned()
                } else {
                    report::excerpt(&ports.join(", "))
                };
                return Verdict::Mistake(format!(
                    "container {name} does not publish {port}/tcp; it publishes {others}"
                ));
            }
            Some(bindings) => bindings,
        };
        let address = match self.host_ip.address_of(bindings) {
            Ok(Some(address)) => address,
            Ok(None) => return Verdict::NotYet,
            Err(problem) => {
                return Verdict::Unreachable(format!(
                    "container {name} publishes {port}/tcp {problem}"
                ));
            }
        };
        let rule = self.host_ip.rule(&address.host);
        let attributes = self.attributes.clone();
        let registration = Registration { address, attributes };
        let write = |&format: &Format| -> Result<Wanted, String> {
            let instance = match (&self.instance, format.names_the_host()) {
                (Some(instance), _) => instance.clone(),
                (None, true) => instance_name(&format!("{host_name}:{name}:{port}"))?,
                (None, false) => instance_name(name)?,
            };
            let entry = target.entry(format, &self.service, &instance, &registration);
            Ok(entry.of(container))
        };
        match target.formats.iter().map(write).collect() {
            Ok(wanted) => {
                let published: Vec<String> = bindings.iter().map(|b| b.to_string()).collect();
                let published = published.join(", ");
                let rule = format!("container {name} publishes {port}/tcp at {published}; {rule}");
                Verdict::Present { wanted, rule }
            }
            Err(problem) => Verdict::Unreachable(problem),
        }
    }
}
