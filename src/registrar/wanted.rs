//! What should be registered: inspected containers → entries, or the reasons why there
//! are none. Pure.

use std::time::Duration;

use super::{all::Rules, one::One};
use crate::{
    address::HostPort,
    docker::{self, Container, Port},
    report,
    service::{Attribute, Format, InstanceName, Invalid, Prefix, Registration, ServiceName},
};

/// One entry that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) address: HostPort,
    /// Whether a connection to it can be tried.
    pub(super) is_tcp: bool,
    pub(super) life: Life,
    /// When that life began, in nanoseconds of Docker's clock.
    pub(super) started_ns: Option<i64>,
    /// The signal that asks the container to stop.
    pub(super) stop_signal: i32,
    /// Between that signal and SIGKILL.
    pub(super) stop_timeout: Duration,
}

impl Wanted {
    /// The same entry, as long as this run of `container` lasts.
    pub(super) fn of(self, container: &Container) -> Wanted {
        let state = &container.state;
        Wanted {
            life: Life { container: container.id.clone(), started_at: state.started_at.clone() },
            started_ns: state.started_ns(),
            stop_signal: container.stop_signal(),
            stop_timeout: Duration::from_secs(container.stop_timeout_s()),
            ..self
        }
    }
}

/// One run of a container, from start to end. All empty for a fixed address,
/// which lives as long as the registrar.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Life {
    pub(super) container: String,
    pub(super) started_at: String,
}

impl Life {
    pub(super) fn is_fixed(&self) -> bool {
        self.container.is_empty()
    }
}

/// What a registrar is asked to keep: one entry in each of `formats`.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) prefix: Prefix,
    pub(crate) formats: Vec<Format>,
    pub(crate) source: Source,
}

/// Where entries come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A service outside containers.
    Fixed {
        service: ServiceName,
        instance: InstanceName,
        attributes: Vec<Attribute>,
        address: HostPort,
    },
    /// One port of one container.
    Container { one: One, docker: docker::Address },
    /// Every container of the host.
    Host { rules: Rules, docker: docker::Address },
}

/// What an inspection says about one port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) container: String,
    /// Absent where the reason is the same for every port.
    pub(super) port: Option<Port>,
    pub(super) verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One entry a format, all with the same address, and the rule that made it so.
    Present { wanted: Vec<Wanted>, rule: String },
    /// No entry, as things are; the reason completes "not registered: ".
    Absent(String),
    /// The container can be used, and yet there is nothing to register: a mistake.
    Mistake(String),
    /// Docker has not filled in the port yet: ask again soon.
    NotYet,
    /// No other host can reach the published address: a mistake.
    Unreachable(String),
}

impl Target {
    /// The entries of a fixed address; `None` for those of containers.
    pub(super) fn fixed(&self) -> Option<Vec<Wanted>> {
        let Source::Fixed { service, instance, attributes, address } = &self.source else {
            return None;
        };
        let attributes = attributes.clone();
        let registration = Registration { address: address.clone(), attributes };
        let write = |&format: &Format| self.entry(format, service, instance, &registration);
        Some(self.formats.iter().map(write).collect())
    }

    /// Where Docker is, if it has to be asked.
    pub(super) fn docker(&self) -> Option<&docker::Address> {
        match &self.source {
            Source::Fixed { .. } => None,
            Source::Container { docker, .. } | Source::Host { docker, .. } => Some(docker),
        }
    }

    /// Whether Docker has to be asked for the name of its host.
    pub(super) fn names_the_host(&self) -> bool {
        match &self.source {
            Source::Fixed { .. } => false,
            Source::Container { one, .. } => {
                one.instance.is_none() && self.formats.iter().any(|format| format.names_the_host())
            }
            Source::Host { .. } => true,
        }
    }

    /// Judges what Docker says of the containers it was asked about, and of its host's name
    /// if that was asked for.
    pub(super) fn judge(&self, containers: &[Container], host_name: &str) -> Vec<Judged> {
        match &self.source {
            Source::Fixed { .. } => Vec::new(),
            Source::Container { one, .. } => {
                vec![one.judge(self, containers.first(), host_name)]
            }
            Source::Host { rules, .. } => rules.judge(self, containers, host_name),
        }
    }

    /// One entry, without a container behind it.
    pub(super) fn entry(
        &self,
        format: Format,
        service: &ServiceName,
        instance: &InstanceName,
        registration: &Registration,
    ) -> Wanted {
        let (key, value) = format.write(&self.prefix, service, instance, registration);
        Wanted {
            key,
            value,
            address: registration.address.clone(),
            is_tcp: true,
            life: Life::default(),
            started_ns: None,
            stop_signal: 0,
            stop_timeout: Duration::ZERO,
        }
    }
}

/// `name` as an instance's name, or what is wrong with it.
pub(super) fn instance_name(name: &str) -> Result<InstanceName, String> {
    name.parse().map_err(|problem: Invalid| {
        let name = report::excerpt(name);
        format!("instance '{name}': {problem}")
    })
}
