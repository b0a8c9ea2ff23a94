//! What goes wrong, when, and for how long: drawn from one seed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::history::Scope;
use super::world::{CONTAINERS, HOSTS, World};
use crate::support::etcd::MEMBERS;
use crate::support::fake_docker::{FakeDocker, Fault as Answer};
use crate::support::relay::{Link, Then};

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    ContainerRestarts(usize),
    ContainerCrashes(usize),
    ContainerIsPaused(usize),
    ContainerIsCreatedAnew(usize),
    ContainerIsRenamed(usize),
    /// Nobody hears of a restart, because the events stream is broken.
    ContainerRestartsUnheard(usize),
    RegistrarIsKilled(usize),
    RegistrarIsFrozen(usize),
    /// Longer than its entry lives.
    RegistrarIsFrozenWhileItsContainerRestarts(usize),
    RegistrarIsRestarted(usize),
    DockerIsAway(usize),
    DockerAnswersNonsense(usize),
    HostLosesPower(usize),
    MemberIsKilled(usize),
    MemberIsPaused(usize),
    MemberIsCutOff(usize),
    LeaderIsKilled,
    QuorumIsPaused,
    EtcdIsAway,
    EtcdIsWiped,
    ProxyLinkIsBad(usize),
    RegistrarLinkIsBad(usize),
    ProxiesAreCutOff,
}

/// What only one fault at a time may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Container(usize),
    Registrar(usize),
    Docker(usize),
    Etcd,
    ProxyLinks,
    RegistrarLinks,
}

/// A fault that has begun.
struct Active {
    fault: Fault,
    until: Instant,
    /// The member of etcd it hit, if any.
    member: usize,
}

/// Draws faults and undoes them.
pub(super) struct Faults {
    rng: Rng,
    active: Vec<Active>,
    /// Troubles that last, by their number, and until when.
    troubles: Vec<(usize, Instant)>,
    next: Instant,
    pub(super) counts: BTreeMap<String, usize>,
}

/// The name of the kind, without what it hit.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{self:?}");
        let name = text.split('(').next().unwrap_or_default();
        for (index, c) in name.char_indices() {
            if index > 0 && c.is_ascii_uppercase() {
                f.write_str(" ")?;
            }
            write!(f, "{}", c.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

impl Faults {
    pub(super) fn new(rng: Rng) -> Faults {
        Faults {
            rng,
            active: Vec::new(),
            troubles: Vec::new(),
            next: Instant::now(),
            counts: BTreeMap::new(),
        }
    }

    /// Undoes what is due, and lets the next thing go wrong when it is time.
    pub(super) fn step(&mut self, world: &mut World) {
        self.undo_until(Instant::now(), world);
        if Instant::now() < self.next {
            return;
        }
        // Mostly many at a time; now and then a fault is alone.
        let pause = if self.rng.u8(..8) == 0 { 8000 } else { 0 };
        self.next = Instant::now() + self.millis(300 + pause, 1800 + pause);
        let fault = self.draw();
        let is_free = |resource: Resource| {
            // A real engine is not ours to break.
            let can_fail = match resource {
                Resource::Docker(host) => world.hosts[host].fake().is_some(),
                _ => true,
            };
            can_fail && !self.active.iter().any(|a| a.fault.resources().contains(&resource))
        };
        if fault.resources().into_iter().all(is_free) {
            *self.counts.entry(fault.to_string()).or_default() += 1;
            self.begin(fault, world);
        }
    }

    /// Undoes everything.
    pub(super) fn end(mut self, world: &mut World) -> BTreeMap<String, usize> {
        let ends = self.active.iter().map(|active| active.until);
        let ends = ends.chain(self.troubles.iter().map(|(_, until)| *until));
        if let Some(last) = ends.max() {
            self.undo_until(last, world);
        }
        self.counts
    }

    fn draw(&mut self) -> Fault {
        let (container, host) = (self.rng.usize(..CONTAINERS.len()), self.rng.usize(..HOSTS));
        let member = self.rng.usize(..MEMBERS);
        match self.rng.u8(..28) {
            0..4 => Fault::ContainerRestarts(container),
            4 => Fault::ContainerCrashes(container),
            5 => Fault::ContainerIsPaused(container),
            6 => Fault::ContainerIsCreatedAnew(container),
            7 => Fault::ContainerIsRenamed(container),
            8 => Fault::ContainerRestartsUnheard(container),
            9 | 10 => Fault::RegistrarIsKilled(container),
            11 => Fault::RegistrarIsFrozen(container),
            12 => Fault::RegistrarIsFrozenWhileItsContainerRestarts(container),
            13 => Fault::RegistrarIsRestarted(container),
            14 => Fault::DockerIsAway(host),
            15 => Fault::DockerAnswersNonsense(host),
            16 => Fault::HostLosesPower(host),
            17 => Fault::MemberIsKilled(member),
            18 => Fault::MemberIsPaused(member),
            19 => Fault::MemberIsCutOff(member),
            20 => Fault::LeaderIsKilled,
            21 => Fault::QuorumIsPaused,
            22 => Fault::EtcdIsAway,
            23 => Fault::EtcdIsWiped,
            24 | 25 => Fault::ProxyLinkIsBad(member),
            26 => Fault::RegistrarLinkIsBad(member),
            _ => Fault::ProxiesAreCutOff,
        }
    }

    fn begin(&mut self, fault: Fault, world: &mut World) {
        let (length, member) = (self.length(fault), fault.member(world));
        let until = Instant::now() + length;
        for (scope, lasts) in fault.troubles(length) {
            self.troubles.push((world.trouble_begins(scope), Instant::now() + lasts));
        }
        match fault {
            Fault::ContainerRestarts(index) => world.stop_container(index),
            Fault::ContainerCrashes(index) => world.crash_container(index),
            Fault::ContainerIsPaused(index) => world.pause_container(index),
            Fault::ContainerIsCreatedAnew(index) => world.remove_container(index),
            Fault::ContainerIsRenamed(index) => world.rename_away(index),
            Fault::ContainerRestartsUnheard(index) => {
                let docker = docker(world, CONTAINERS[index].2);
                docker.set_events_fault(Some(Answer::Silence));
                docker.end_events_streams();
                world.restart_unheard(index);
            }
            Fault::RegistrarIsKilled(index) => world.kill_registrar(index),
            Fault::RegistrarIsFrozen(index) => world.signal_registrar(index, "STOP"),
            Fault::RegistrarIsFrozenWhileItsContainerRestarts(index) => {
                world.signal_registrar(index, "STOP");
                world.stop_container(index);
                world.start_container(index);
            }
            Fault::RegistrarIsRestarted(index) => world.terminate_registrar(index),
            Fault::DockerIsAway(host) => docker(world, host).crash(),
            Fault::DockerAnswersNonsense(host) => {
                let answer = self.rng.choice(docker_answers());
                docker(world, host).set_fault(answer);
            }
            Fault::HostLosesPower(host) => world.power_off(host),
            Fault::MemberIsKilled(_) | Fault::LeaderIsKilled => world.cluster.stop(member),
            Fault::MemberIsPaused(_) => world.cluster.pause(member),
            Fault::MemberIsCutOff(_) => world.cluster.isolate(member, true),
            Fault::QuorumIsPaused => (1..MEMBERS).for_each(|other| world.cluster.pause(other)),
            Fault::EtcdIsAway => (0..MEMBERS).for_each(|each| world.cluster.stop(each)),
            Fault::EtcdIsWiped => world.cluster.wipe(),
            Fault::ProxyLinkIsBad(_) => world.proxy_links[member].set(self.bad_link()),
            Fault::RegistrarLinkIsBad(_) => world.registrar_links[member].set(self.bad_link()),
            Fault::ProxiesAreCutOff => {
                let bad = self.bad_link();
                world.proxy_links.iter().for_each(|link| link.set(bad.clone()));
            }
        }
        self.active.push(Active { fault, until, member });
    }

    fn undo_until(&mut self, now: Instant, world: &mut World) {
        let due: Vec<Active> = self.active.extract_if(.., |active| active.until <= now).collect();
        for active in due {
            undo(active.fault, active.member, world);
        }
        for (number, _) in self.troubles.extract_if(.., |(_, until)| *until <= now) {
            world.trouble_ends(number);
        }
    }

    fn length(&mut self, fault: Fault) -> Duration {
        match fault {
            Fault::ContainerRestarts(_) => self.millis(50, 1500),
            Fault::EtcdIsWiped | Fault::RegistrarIsRestarted(_) => self.millis(0, 200),
            // Also longer than entries live.
            Fault::RegistrarIsKilled(_) | Fault::RegistrarIsFrozen(_) => self.millis(200, 6000),
            Fault::RegistrarIsFrozenWhileItsContainerRestarts(_) => self.millis(3500, 6000),
            Fault::MemberIsCutOff(_) | Fault::ProxiesAreCutOff => self.millis(1000, 8000),
            _ => self.millis(300, 4000),
        }
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.u64(from..to))
    }

    fn bad_link(&mut self) -> Link {
        let answer = |text: &str, then| Link::Answers(text.to_owned(), then);
        match self.rng.u8(..9) {
            0 => Link::IsCut,
            1 => Link::Resets,
            2 => Link::LosesAnswers,
            3 => Link::Delays(self.millis(5, 2500)),
            4 => answer(
                "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 15\r\n\r\n<html>no</html>",
                Then::Fin,
            ),
            5 => answer(
                "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
                Then::Silence,
            ),
            6 => answer(
                "HTTP/1.1 200 OK\r\nX-Etcd-Index: 99\r\nContent-Length: 10\r\n\r\n{\"node\":",
                Then::Reset,
            ),
            7 => answer("\u{16}\u{3}\u{1}nonsense\r\n\r\n", Then::Fin),
            _ => answer(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                Then::Flood("5\r\nflood\r\n".to_owned()),
            ),
        }
    }
}

/// The Docker of a host, which `Faults::step` has seen to be a fake.
fn docker(world: &mut World, host: usize) -> &FakeDocker {
    &world.hosts[host].fake().expect("a fake").docker
}

fn docker_answers() -> [Answer; 5] {
    [
        Answer::Silence,
        Answer::HalfChunkThenClose,
        Answer::Answer(500, "application/json", r#"{"message":"no"}"#),
        Answer::Answer(200, "text/html", "<html>no</html>"),
        Answer::Answer(404, "application/json", r#"{"message":"page not found"}"#),
    ]
}

fn undo(fault: Fault, member: usize, world: &mut World) {
    match fault {
        Fault::ContainerRestarts(index) | Fault::ContainerCrashes(index) => {
            world.start_container(index);
        }
        Fault::ContainerIsPaused(index) => world.unpause_container(index),
        Fault::ContainerIsCreatedAnew(index) => world.create(index),
        Fault::ContainerIsRenamed(index) => world.rename_back(index),
        Fault::ContainerRestartsUnheard(index) => {
            let docker = docker(world, CONTAINERS[index].2);
            docker.set_events_fault(None);
            docker.end_events_streams();
        }
        Fault::RegistrarIsKilled(index) | Fault::RegistrarIsRestarted(index) => {
            world.start_registrar(index);
        }
        Fault::RegistrarIsFrozen(index)
        | Fault::RegistrarIsFrozenWhileItsContainerRestarts(index) => {
            world.signal_registrar(index, "CONT");
        }
        Fault::DockerIsAway(host) => docker(world, host).listen(),
        Fault::DockerAnswersNonsense(host) => docker(world, host).set_fault(None),
        Fault::HostLosesPower(host) => world.power_on(host),
        Fault::MemberIsKilled(_) | Fault::LeaderIsKilled => world.cluster.start_member(member),
        Fault::MemberIsPaused(_) => world.cluster.resume(member),
        Fault::MemberIsCutOff(_) => world.cluster.isolate(member, false),
        Fault::QuorumIsPaused => (1..MEMBERS).for_each(|other| world.cluster.resume(other)),
        Fault::EtcdIsAway => (0..MEMBERS).for_each(|each| world.cluster.start_member(each)),
        Fault::EtcdIsWiped => {}
        Fault::ProxyLinkIsBad(_) => world.proxy_links[member].set(Link::Passes),
        Fault::RegistrarLinkIsBad(_) => world.registrar_links[member].set(Link::Passes),
        Fault::ProxiesAreCutOff => {
            world.proxy_links.iter().for_each(|link| link.set(Link::Passes));
        }
    }
}

impl Fault {
    /// The member of etcd it hits.
    fn member(self, world: &World) -> usize {
        match self {
            Fault::MemberIsKilled(member)
            | Fault::MemberIsPaused(member)
            | Fault::MemberIsCutOff(member)
            | Fault::ProxyLinkIsBad(member)
            | Fault::RegistrarLinkIsBad(member) => member,
            Fault::LeaderIsKilled => world.cluster.leader(),
            _ => 0,
        }
    }

    fn resources(self) -> Vec<Resource> {
        match self {
            Fault::ContainerRestarts(index)
            | Fault::ContainerCrashes(index)
            | Fault::ContainerIsPaused(index)
            | Fault::ContainerIsCreatedAnew(index)
            | Fault::ContainerIsRenamed(index) => vec![Resource::Container(index)],
            Fault::ContainerRestartsUnheard(index) => {
                vec![Resource::Container(index), Resource::Docker(CONTAINERS[index].2)]
            }
            Fault::RegistrarIsKilled(index)
            | Fault::RegistrarIsFrozen(index)
            | Fault::RegistrarIsRestarted(index) => vec![Resource::Registrar(index)],
            Fault::RegistrarIsFrozenWhileItsContainerRestarts(index) => {
                vec![Resource::Container(index), Resource::Registrar(index)]
            }
            Fault::DockerIsAway(host) | Fault::DockerAnswersNonsense(host) => {
                vec![Resource::Docker(host)]
            }
            Fault::HostLosesPower(host) => {
                let on_it = (0..CONTAINERS.len()).filter(|index| CONTAINERS[*index].2 == host);
                let of = |index| [Resource::Container(index), Resource::Registrar(index)];
                on_it.flat_map(of).chain([Resource::Docker(host)]).collect()
            }
            Fault::MemberIsKilled(_)
            | Fault::MemberIsPaused(_)
            | Fault::MemberIsCutOff(_)
            | Fault::LeaderIsKilled
            | Fault::QuorumIsPaused
            | Fault::EtcdIsAway
            | Fault::EtcdIsWiped => vec![Resource::Etcd],
            Fault::ProxyLinkIsBad(_) | Fault::ProxiesAreCutOff => vec![Resource::ProxyLinks],
            Fault::RegistrarLinkIsBad(_) => vec![Resource::RegistrarLinks],
        }
    }

    /// Whom it troubles, and for how long: a fault that others are there for is over as
    /// soon as they should have taken over, whenever it ends itself.
    fn troubles(self, length: Duration) -> Vec<(Scope, Duration)> {
        /// A new leader, and a poll that has to end by itself before it is missed.
        const TAKE_OVER: Duration = Duration::from_secs(7);
        /// After a fault of all members, until they answer again.
        const ELECTION: Duration = Duration::from_secs(2);
        let name = |index: usize| CONTAINERS[index].0;
        match self {
            Fault::ContainerRestarts(index)
            | Fault::ContainerCrashes(index)
            | Fault::ContainerIsPaused(index)
            | Fault::ContainerIsCreatedAnew(index)
            | Fault::ContainerIsRenamed(index) => vec![(Scope::Container(name(index)), length)],
            Fault::ContainerRestartsUnheard(index) => vec![
                (Scope::Container(name(index)), length),
                (Scope::Host(CONTAINERS[index].2), length),
            ],
            Fault::RegistrarIsKilled(index)
            | Fault::RegistrarIsFrozen(index)
            | Fault::RegistrarIsFrozenWhileItsContainerRestarts(index)
            | Fault::RegistrarIsRestarted(index) => vec![(Scope::Registrar(name(index)), length)],
            Fault::DockerIsAway(host)
            | Fault::DockerAnswersNonsense(host)
            | Fault::HostLosesPower(host) => vec![(Scope::Host(host), length)],
            Fault::MemberIsKilled(_)
            | Fault::MemberIsPaused(_)
            | Fault::MemberIsCutOff(_)
            | Fault::LeaderIsKilled => vec![(Scope::Etcd, length.min(TAKE_OVER))],
            Fault::QuorumIsPaused | Fault::EtcdIsAway | Fault::EtcdIsWiped => {
                vec![(Scope::Etcd, length + ELECTION)]
            }
            Fault::ProxyLinkIsBad(_) => vec![(Scope::ProxyLinks, length.min(TAKE_OVER))],
            Fault::RegistrarLinkIsBad(_) => vec![(Scope::RegistrarLinks, length.min(TAKE_OVER))],
            Fault::ProxiesAreCutOff => vec![(Scope::ProxyLinks, length)],
        }
    }
}
