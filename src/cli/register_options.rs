//! What `register` is asked to register, by its three forms.

use std::net::IpAddr;

use wildmatch::WildMatch;

use super::{
    Environment, Refusal,
    typed::{FormatName, TypedRegister},
    values,
};
use crate::{
    address::HostPort,
    docker,
    registrar::{self, One, Reach, Rules, Source, Target},
    report,
    roles::Register,
    service::{Attribute, Format, InstanceName, ServiceName},
};

impl TypedRegister {
    pub(super) fn resolve(self, environment: &Environment) -> Result<Register, Refusal> {
        self.refuse_options_of_other_forms()?;
        let source = match (&self.address, self.all) {
            (Some(_), true) => {
                return Err(Refusal::usage("--all and --address exclude each other"));
            }
            (Some(address), false) => self.fixed(address)?,
            (None, true) => self.host(environment)?,
            (None, false) => self.container(environment)?,
        };
        let registry = self.etcd.resolve(environment)?;
        let mut formats = Vec::new();
        for format in self.format {
            let format = match format {
                FormatName::Ambassador => Format::Ambassador,
                FormatName::Registrator => Format::Registrator,
                FormatName::Skydns => Format::Skydns,
            };
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        // Ours is named after the container alone, unless told otherwise; then both would be
        // the same key.
        let is_told = self.all || self.instance.is_some() || self.address.is_some();
        let has = |format| formats.contains(&format);
        if is_told && has(Format::Ambassador) && has(Format::Registrator) {
            let why = if self.all { "with --all" } else { "of one instance name" };
            return Err(Refusal::usage(&format!(
                "--format: ambassador and registrator {why} would write the same key; choose one"
            )));
        }
        let target = Target { prefix: registry.prefix.clone(), formats, source };
        let config = registrar::Config { target, ttl: self.ttl, has_check: self.check.is_some() };
        let supervisor = environment.supervisor();
        Ok(Register {
            config,
            registry,
            explain: self.explain,
            supervisor,
            admin: self.admin.admin,
        })
    }

    fn refuse_options_of_other_forms(&self) -> Result<(), Refusal> {
        let of_all = [
            ("--explicit", self.explicit),
            ("--internal", self.internal),
            ("--allow-service", !self.allow_service.is_empty()),
        ];
        if let Some((name, _)) = of_all.iter().find(|(_, is_given)| *is_given && !self.all) {
            return Err(Refusal::usage(&format!("{name}: only with --all")));
        }
        if self.network.is_some() && !self.internal {
            return Err(Refusal::usage("--network: only with --internal"));
        }
        if self.internal && (self.host.host_ip.is_some() || self.host.interface.is_some()) {
            return Err(Refusal::usage(
                "--internal: registers addresses of containers, so --host-ip and --interface \
                 have no place",
            ));
        }
        if self.host.interface.is_some() && self.address.is_some() {
            return Err(Refusal::usage("--interface: not with --address, which says the host"));
        }
        if self.all && self.instance.is_some() {
            return Err(Refusal::usage(
                "--instance: not with --all, where SERVICE_ID names an instance",
            ));
        }
        Ok(())
    }

    fn fixed(&self, address: &HostPort) -> Result<Source, Refusal> {
        let [service, attributes @ ..] = self.words.as_slice() else {
            return Err(Refusal::usage("register --address: expected SERVICE [KEY=VALUE...]"));
        };
        let address = reachable(address.clone(), self.host.host_ip)?;
        let instance = match &self.instance {
            Some(instance) => instance.clone(),
            None => by_default(&format!("{}:{}", address.host, address.port))?,
        };
        let attributes = parse_attributes(attributes)?;
        Ok(Source::Fixed { service: parse_service(service)?, instance, attributes, address })
    }

    fn container(&self, environment: &Environment) -> Result<Source, Refusal> {
        let [container, port, service, attributes @ ..] = self.words.as_slice() else {
            return Err(Refusal::usage(
                "register: expected CONTAINER PORT SERVICE [KEY=VALUE...], or --all",
            ));
        };
        let container =
            values::container(container).map_err(|e| Refusal::value("CONTAINER", container, e))?;
        let port = values::port(port).map_err(|e| Refusal::value("PORT", port, e))?;
        let service = parse_service(service)?;
        if self.instance.is_none() {
            by_default(&container)?;
        }
        let attributes = parse_attributes(attributes)?;
        let (instance, host_ip) = (self.instance.clone(), self.host.host_ip(environment)?);
        let one = One { container, port, service, instance, attributes, host_ip };
        Ok(Source::Container { one, docker: self.docker(environment)? })
    }

    fn host(&self, environment: &Environment) -> Result<Source, Refusal> {
        if let Some(word) = self.words.first() {
            let word = report::excerpt(word);
            return Err(Refusal::usage(&format!(
                "register --all: takes no arguments, and {word} is one"
            )));
        }
        let allowed = self.allow_service.iter().map(|glob| match glob.is_empty() {
            true => Err(Refusal::usage("--allow-service: a value is required")),
            false => Ok(WildMatch::new(glob)),
        });
        let allowed = allowed.collect::<Result<Vec<WildMatch>, Refusal>>()?;
        let reach = match self.internal {
            true => Reach::Internal { network: self.network.clone() },
            false => Reach::Published(self.host.host_ip(environment)?),
        };
        let rules = Rules { explicit: self.explicit, allowed, reach };
        Ok(Source::Host { rules, docker: self.docker(environment)? })
    }

    fn docker(&self, environment: &Environment) -> Result<docker::Address, Refusal> {
        Ok(self.host.docker(environment)?.unwrap_or_default())
    }
}

fn parse_service(text: &str) -> Result<ServiceName, Refusal> {
    text.parse().map_err(|e| Refusal::value("SERVICE", text, e))
}

/// The instance's name where none is given.
fn by_default(name: &str) -> Result<InstanceName, Refusal> {
    name.parse().map_err(|e| Refusal::value("--instance (by default)", name, e))
}

/// `--address` as it is registered: as given, but a loopback address at what
/// `--host-ip` says, because no other host can reach it unless the operator says so.
fn reachable(address: HostPort, host_ip: Option<IpAddr>) -> Result<HostPort, Refusal> {
    if !address.host.is_loopback() {
        return Ok(address);
    }
    match host_ip {
        Some(ip) => Ok(HostPort { host: ip.into(), port: address.port }),
        None => Err(Refusal::usage(&format!(
            "--address {address}: no other host can reach {}; to register it all the same, say \
             --host-ip 127.0.0.1",
            address.host
        ))),
    }
}

fn parse_attributes(words: &[String]) -> Result<Vec<Attribute>, Refusal> {
    let mut attributes: Vec<Attribute> = Vec::new();
    for word in words {
        let refuse = |problem: &str| Refusal::value("KEY=VALUE", word, problem);
        let attribute: Attribute =
            word.parse().map_err(|e| Refusal::value("KEY=VALUE", word, e))?;
        if attributes.iter().any(|earlier| earlier.key == attribute.key) {
            return Err(refuse("the key is given twice"));
        }
        attributes.push(attribute);
    }
    Ok(attributes)
}
