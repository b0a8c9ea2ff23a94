//! What is told of a running role: gathered when somebody asks, and not before.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    admin::{Connections, Instance, Listener, Party, Registration, Service, Source, Status},
    outage::Reach,
    poller::Followed,
    registrar::{Overview, Questions},
    stop::Stop,
    traffic::{self, Known, Pool},
};

/// What the status of every role has.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) name: &'static str,
    pub(super) started: Instant,
    pub(super) stop: Stop,
}

/// What carries clients, and what it follows, if that is etcd.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) listeners: Vec<(String, SocketAddr)>,
    pub(super) pools: Vec<Arc<Pool>>,
    pub(super) connections: Arc<traffic::Connections>,
    pub(super) followed: Option<Arc<Followed>>,
}

impl Role {
    /// What is told of a role that carries clients.
    pub(super) fn carrying(self, carrier: Carrier) -> Source {
        Arc::new(move || carrier.status(self.status()))
    }

    /// What is told of a registrar.
    pub(super) fn registering(self, questions: Questions) -> Source {
        Arc::new(move || {
            let status = self.status();
            match questions.ask() {
                Some(overview) => of_registrar(overview, status),
                None => not_ready(status, "the registrar does not answer".to_owned()),
            }
        })
    }

    /// Of a role that does its work, unless it is ending.
    fn status(&self) -> Status {
        let draining = self.stop.is_asked();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: self.name.to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            ready: !draining,
            reason: draining.then(|| "it is draining".to_owned()),
            draining,
            listeners: Vec::new(),
            connections: None,
            services: Vec::new(),
            registrations: Vec::new(),
            etcd: None,
            docker: None,
        }
    }
}

impl Carrier {
    fn status(&self, mut status: Status) -> Status {
        let etcd = self.followed.as_ref().map(|followed| followed.etcd());
        // Several listeners may be of one service.
        let mut pools: Vec<&Arc<Pool>> = Vec::new();
        for pool in &self.pools {
            if !pools.iter().any(|known| Arc::ptr_eq(known, pool)) {
                pools.push(pool);
            }
        }
        for pool in pools {
            let name = pool.name().to_owned();
            let stale_s = etcd.as_ref().and_then(|(reach, failing)| {
                let (lasted, _) = reach.silence.as_ref()?;
                failing.contains(&name).then_some(lasted.as_secs())
            });
            let instances: Vec<Instance> = pool.known().into_iter().map(instance).collect();
            if instances.is_empty() {
                status = not_ready(status, format!("{name} has no instance"));
            }
            status.services.push(Service { name, stale_s, instances });
        }
        let listener = |(name, address): &(String, SocketAddr)| Listener {
            name: name.clone(),
            address: address.to_string(),
        };
        Status {
            listeners: self.listeners.iter().map(listener).collect(),
            connections: Some(Connections {
                open: self.connections.count(),
                max: self.connections.most(),
            }),
            etcd: etcd.map(|(reach, _)| party(reach)),
            ..status
        }
    }
}

fn of_registrar(overview: Overview, status: Status) -> Status {
    let Overview { has_reconciled, entries, etcd, docker } = overview;
    let registration = |(key, value, state): (String, String, &str)| Registration {
        key,
        value,
        state: state.to_owned(),
    };
    let status = Status {
        registrations: entries.into_iter().map(registration).collect(),
        etcd: Some(party(etcd)),
        docker: docker.map(party),
        ..status
    };
    if has_reconciled {
        return status;
    }
    let problem = |party: &Option<Party>| party.as_ref().and_then(|party| party.problem.clone());
    let why = problem(&status.docker).or_else(|| problem(&status.etcd));
    not_ready(status, why.unwrap_or_else(|| "not everything is registered yet".to_owned()))
}

/// For the first reason there is.
fn not_ready(status: Status, why: String) -> Status {
    Status { ready: false, reason: status.reason.or(Some(why)), ..status }
}

fn instance(Known { address, weight, open, ejected }: Known) -> Instance {
    let ejected_s = ejected.as_ref().map(Duration::as_secs);
    Instance { address: address.to_string(), weight, open, ejected_s }
}

fn party(Reach { address, has_answered, silence }: Reach) -> Party {
    let answers = match &silence {
        Some(_) => Some(false),
        None => has_answered.then_some(true),
    };
    let (silent_s, problem) = silence.map(|(lasted, why)| (lasted.as_secs(), why)).unzip();
    Party { address, answers, silent_s, problem }
}
