//! What is told of a running role: gathered when somebody asks, and not before.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    admin::{
        Connections, Instance, Listener, Party, Process, Registration, Service, Source, Status,
    },
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
            process: Process::read(),
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
        self.connections.tally();
        let etcd = self.followed.as_ref().map(|followed| followed.etcd());
        // Several listeners may be of one service.
        let mut pools: Vec<&Arc<Pool>> = Vec::new();
        for pool in &self.pools {
            if !pools.iter().any(|known| Arc::ptr_eq(known, pool)) {
                pools.push(pool);
            }
        }
        for pool in pools {
            let stale_s = etcd.as_ref().and_then(|(reach, failing)| {
                let (lasted, _) = reach.silence.as_ref()?;
                failing.contains(pool.name()).then_some(lasted.as_secs())
            });
            let name = new_name(pool.name(), &status.services);
            let instances: Vec<Instance> = pool.known().into_iter().map(instance).collect();
            if !instances.iter().any(Instance::is_registered) {
                status = not_ready(status, format!("{name} has no instance"));
            }
            let clients = pool.clients();
            let (held, unserved, waits) =
                (clients.held(), by_name(clients.unserved()), clients.waits.read());
            status.services.push(Service { name, stale_s, held, unserved, waits, instances });
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

/// `name`, or what tells it from those that are called so already: several ports may be
/// forwarded to the same upstreams.
fn new_name(name: &str, services: &[Service]) -> String {
    let mut new = name.to_owned();
    let mut count = 1;
    while services.iter().any(|service| service.name == new) {
        count += 1;
        new = format!("{name} #{count}");
    }
    new
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
        docker: docker.map(|(reach, events)| Party { events: Some(events), ..party(reach) }),
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

fn instance(known: Known) -> Instance {
    let Known { address, weight, origin, age, left, ejected, problem, tally } = known;
    let seconds = |duration: Option<Duration>| duration.as_ref().map(Duration::as_secs);
    Instance {
        address: address.to_string(),
        origin,
        weight,
        age_s: age.as_secs(),
        left_s: seconds(left),
        open: tally.open(),
        ejected_s: seconds(ejected),
        problem,
        served: tally.served.get(),
        reset: tally.reset.get(),
        failures: by_name(tally.failures()),
        ejections: tally.ejections.get(),
        bytes_up: tally.bytes_up.get(),
        bytes_down: tally.bytes_down.get(),
        dials: tally.dials.read(),
        first_bytes: tally.first_bytes.read(),
    }
}

fn by_name(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).collect()
}

fn party(reach: Reach) -> Party {
    let Reach { address, has_answered, silence, since_answer, requests } = reach;
    let answers = match &silence {
        Some(_) => Some(false),
        None => has_answered.then_some(true),
    };
    let (silent_s, problem) = silence.map(|(lasted, why)| (lasted.as_secs(), why)).unzip();
    let since_answer_s = since_answer.as_ref().map(Duration::as_secs_f64);
    Party { address, answers, silent_s, problem, since_answer_s, requests, events: None }
}
