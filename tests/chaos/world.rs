//! Two hosts with containers and their registrars, an etcd of three members, and two
//! proxies in front.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::clients::Door;
use super::history::{History, Run, Scope, Span, Trouble};
use super::machines::{FakeMachine, Machine, PORT, RealMachine};
use crate::support::ambassador::{Ambassador, ambassador};
use crate::support::etcd::{Cluster, MEMBERS, Pace};
use crate::support::relay::Relay;

/// The shortest there is, so that entries expire within a run.
pub(super) const TTL: Duration = Duration::from_secs(3);

/// Which containers there are: name, service, host.
pub(super) const CONTAINERS: [(&str, &str, usize); 5] = [
    ("web-0", "web", 0),
    ("web-1", "web", 0),
    ("web-2", "web", 1),
    ("db-0", "db", 0),
    ("cache-0", "cache", 1),
];

pub(super) const SERVICES: [&str; 3] = ["web", "db", "cache"];
pub(super) const HOSTS: usize = 2;

/// A container, and the registrar that looks after it.
pub(super) struct Place {
    /// What Docker calls it.
    pub(super) name: String,
    pub(super) service: &'static str,
    pub(super) host: usize,
    /// Which of `History::runs` it is now, or was last.
    run: usize,
    pub(super) registrar: Option<Ambassador>,
}

pub(super) struct World {
    pub(super) cluster: Cluster,
    /// Between etcd's members and the proxies, and the same for the registrars.
    pub(super) proxy_links: Vec<Relay>,
    pub(super) registrar_links: Vec<Relay>,
    pub(super) hosts: Vec<Box<dyn Machine>>,
    pub(super) places: Vec<Place>,
    pub(super) proxies: Vec<Ambassador>,
    pub(super) history: History,
    /// What registrars that have ended logged.
    pub(super) old_logs: Vec<String>,
}

impl World {
    /// Everything runs, and nothing is wrong yet.
    pub(super) fn start(is_engine_real: bool) -> World {
        let cluster = Cluster::start(Pace::Fast);
        let links = || {
            let members = (0..MEMBERS).map(|index| cluster.member(index));
            members.map(|member| Relay::to(member.address())).collect::<Vec<_>>()
        };
        let (proxy_links, registrar_links) = (links(), links());
        let machine = |_| -> Box<dyn Machine> {
            if is_engine_real { Box::new(RealMachine::new()) } else { Box::new(FakeMachine::new()) }
        };
        let hosts: Vec<Box<dyn Machine>> = (0..HOSTS).map(machine).collect();
        let place = |(name, service, host): (&str, _, usize)| Place {
            name: hosts[host].name_of(name),
            service,
            host,
            run: 0,
            registrar: None,
        };
        let places = CONTAINERS.into_iter().map(place).collect();
        let mut world = World {
            cluster,
            proxy_links,
            registrar_links,
            hosts,
            places,
            proxies: Vec::new(),
            history: History::default(),
            old_logs: Vec::new(),
        };
        for index in 0..world.places.len() {
            world.create(index);
            world.start_registrar(index);
        }
        for rotation in 0..2 {
            let mut urls: Vec<String> = world.proxy_links.iter().map(Relay::url).collect();
            urls.rotate_left(rotation);
            let words = ["proxy", "--etcd", &urls.join(",")].map(str::to_owned);
            let routes = SERVICES.map(|service| [service.to_owned(), "127.0.0.1:0".to_owned()]);
            let words = words.into_iter().chain(routes.into_iter().flatten());
            world.proxies.push(ambassador(words).env("RUST_LOG", "info").start());
        }
        world
    }

    /// Where clients of each service go, at each proxy.
    pub(super) fn doors(&self) -> Vec<Door> {
        let doors = |proxy: &Ambassador| {
            SERVICES.map(|service| Door { service, address: proxy.address_of(service) })
        };
        self.proxies.iter().flat_map(doors).collect()
    }

    /// Notes that something is broken from now on. Returns its number.
    pub(super) fn trouble_begins(&mut self, scope: Scope) -> usize {
        self.history.troubles.push(Trouble { scope, span: Span::starting(Instant::now()) });
        self.history.troubles.len() - 1
    }

    pub(super) fn trouble_ends(&mut self, number: usize) {
        self.history.troubles[number].span.until = Some(Instant::now());
    }

    // What can be done to a container, and what is noted of it.

    /// `docker run`.
    pub(super) fn create(&mut self, index: usize) {
        let place = &self.places[index];
        let id = format!("{}.{}", place.name, self.history.runs.len());
        let from = Instant::now();
        let address = self.hosts[place.host].run(&place.name, &id);
        self.note_run(index, id, address, from);
    }

    /// `docker start`.
    pub(super) fn start_container(&mut self, index: usize) {
        let from = Instant::now();
        let place = &self.places[index];
        let address = self.hosts[place.host].start(&place.name);
        self.note_run(index, self.run(index).id.clone(), address, from);
    }

    /// `docker stop`.
    pub(super) fn stop_container(&mut self, index: usize) {
        self.ending(index, |machine, name| machine.stop(name));
    }

    /// The server dies by itself.
    pub(super) fn crash_container(&mut self, index: usize) {
        self.ending(index, |machine, name| machine.kill(name));
    }

    /// `docker rm -f`.
    pub(super) fn remove_container(&mut self, index: usize) {
        self.ending(index, |machine, name| machine.remove(name));
    }

    /// A restart of which Docker tells nobody.
    pub(super) fn restart_unheard(&mut self, index: usize) {
        let from = Instant::now();
        self.run_mut(index).life.until = Some(from);
        let place = &self.places[index];
        let machine = self.hosts[place.host].fake().expect("a fake");
        let address = machine.restart_unheard(&place.name);
        self.run_mut(index).dead = Some(Instant::now());
        self.note_run(index, self.run(index).id.clone(), address, from);
    }

    pub(super) fn pause_container(&mut self, index: usize) {
        self.run_mut(index).away.push(Span::starting(Instant::now()));
        let place = &self.places[index];
        self.hosts[place.host].pause(&place.name);
    }

    pub(super) fn unpause_container(&mut self, index: usize) {
        self.end_absence(index);
        let place = &self.places[index];
        self.hosts[place.host].unpause(&place.name);
    }

    /// `docker rename`, away from the name it is registered by.
    pub(super) fn rename_away(&mut self, index: usize) {
        self.run_mut(index).away.push(Span::starting(Instant::now()));
        let place = &self.places[index];
        self.hosts[place.host].rename(&place.name, &elsewhere(&place.name));
    }

    pub(super) fn rename_back(&mut self, index: usize) {
        self.end_absence(index);
        let place = &self.places[index];
        self.hosts[place.host].rename(&elsewhere(&place.name), &place.name);
    }

    /// Everything on a host ends at once, as in a power cut.
    pub(super) fn power_off(&mut self, host: usize) {
        let places = self.places_on(host);
        for index in &places {
            self.run_mut(*index).life.until = Some(Instant::now());
            self.kill_registrar(*index);
        }
        self.hosts[host].fake().expect("a fake").power_off();
        for index in places {
            self.run_mut(index).dead = Some(Instant::now());
        }
    }

    /// The host is back: Docker gives each container a port that another one had.
    pub(super) fn power_on(&mut self, host: usize) {
        let from = Instant::now();
        let places = self.places_on(host);
        let names = places.iter().map(|index| &self.places[*index].name[..]).collect::<Vec<_>>();
        let addresses = self.hosts[host].fake().expect("a fake").power_on(&names);
        for (index, address) in places.into_iter().zip(addresses) {
            self.note_run(index, self.run(index).id.clone(), address, from);
            self.start_registrar(index);
        }
    }

    fn ending(&mut self, index: usize, end: impl FnOnce(&mut dyn Machine, &str)) {
        self.run_mut(index).life.until = Some(Instant::now());
        let place = &self.places[index];
        end(&mut *self.hosts[place.host], &place.name);
        self.run_mut(index).dead = Some(Instant::now());
    }

    /// Noted before it is done: a registrar may hear of it before the test does.
    fn end_absence(&mut self, index: usize) {
        self.run_mut(index).away.last_mut().unwrap().until = Some(Instant::now());
    }

    fn note_run(&mut self, index: usize, id: String, address: SocketAddr, from: Instant) {
        let place = &mut self.places[index];
        place.run = self.history.runs.len();
        let (service, life) = (place.service, Span::starting(from));
        self.history.runs.push(Run {
            service,
            container: CONTAINERS[index].0,
            id,
            address,
            life,
            dead: None,
            away: Vec::new(),
        });
    }

    fn run(&self, index: usize) -> &Run {
        &self.history.runs[self.places[index].run]
    }

    fn run_mut(&mut self, index: usize) -> &mut Run {
        &mut self.history.runs[self.places[index].run]
    }

    pub(super) fn places_on(&self, host: usize) -> Vec<usize> {
        (0..self.places.len()).filter(|index| self.places[*index].host == host).collect()
    }

    // What can be done to a registrar.

    pub(super) fn start_registrar(&mut self, index: usize) {
        let urls: Vec<String> = self.registrar_links.iter().map(Relay::url).collect();
        let place = &mut self.places[index];
        let machine = &self.hosts[place.host];
        let (urls, docker, ip) = (urls.join(","), machine.docker(), machine.ip().to_string());
        let (name, port, ttl) = (&place.name[..], PORT.to_string(), format!("{}s", TTL.as_secs()));
        let words = ["register", "--etcd", &urls, "--docker", &docker, "--ttl", &ttl];
        let words = words.into_iter().chain(["--host-ip", &ip, name, &port, place.service]);
        place.registrar = Some(ambassador(words).env("RUST_LOG", "info").start());
    }

    pub(super) fn signal_registrar(&mut self, index: usize, signal: &str) {
        if let Some(registrar) = &mut self.places[index].registrar {
            registrar.signal(signal);
        }
    }

    pub(super) fn kill_registrar(&mut self, index: usize) {
        if let Some(registrar) = self.places[index].registrar.take() {
            self.old_logs.extend(registrar.log());
            registrar.kill();
        }
    }

    /// Ends it in order; it has 2 s for its entry.
    pub(super) fn terminate_registrar(&mut self, index: usize) {
        if let Some(registrar) = self.places[index].registrar.take() {
            let ended = registrar.terminate();
            assert_eq!(ended.code, Some(0), "{ended:?}");
            self.old_logs.extend(ended.stderr.lines().map(str::to_owned));
        }
    }

    pub(super) fn key(&self, index: usize) -> String {
        let place = &self.places[index];
        format!("/services/{}/{}", place.service, place.name)
    }

    /// Every key, in the order of `CONTAINERS`.
    pub(super) fn keys(&self) -> Vec<String> {
        (0..self.places.len()).map(|index| self.key(index)).collect()
    }

    /// Where the container is, or was last.
    pub(super) fn address(&self, index: usize) -> SocketAddr {
        self.run(index).address
    }
}

fn elsewhere(name: &str) -> String {
    format!("{name}-elsewhere")
}
