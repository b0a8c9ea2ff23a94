//! Who gets which work when: interleaved and rotated, so that what else the
//! machine does falls on all alike.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    figures::Workload,
    front::{Behind, Front},
    peers::Peer,
    redis::Redis,
    results::Results,
    sandbox::{Cpus, Pinning},
    upstream::Upstream,
    workloads::{self, HELD_GOAL, Reading, Scene, Subject},
};

/// What to run, and how much of it.
pub(crate) struct Plan<'a> {
    pub(crate) peers: &'a [Peer],
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
    pub(crate) scratch: &'a Path,
    pub(crate) cpus: &'a Cpus,
    /// How many connections can be held: two descriptors of this process each.
    pub(crate) descriptors: u64,
}

/// One proxy in front of each upstream.
struct Fronts {
    local: Front,
    redis: Option<Front>,
}

impl Plan<'_> {
    /// Compares speed until all rounds are done or the time is up.
    pub(crate) fn speed(
        &self,
        pinning: Pinning,
        wanted: &[Workload],
        until: Instant,
        results: &mut Results,
    ) -> io::Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        self.cpus.pin(pinning)?;
        let upstream = Upstream::start()?;
        let redis = Redis::start(self.scratch)?;
        let scene = self.scene(&upstream, redis.as_ref());
        let mut fronts = BTreeMap::new();
        for &peer in self.peers {
            match self.fronts(peer, &scene) {
                Ok(started) => drop(fronts.insert(peer, started)),
                Err(err) => say!("LEFT OUT: {} does not start: {err}", peer.name()),
            }
        }
        let mut longest = Duration::ZERO;
        for round in 0..self.rounds {
            let started = Instant::now();
            if started + longest > until {
                say!("the time is up: {round} of {} rounds", self.rounds);
                break;
            }
            say!("{pinning:?}, round {} of {}", round + 1, self.rounds);
            for &workload in wanted {
                let run = |peer: Peer| {
                    let Some(Fronts { local, redis }) = fronts.get(&peer) else {
                        return Err(io::Error::other("not running"));
                    };
                    let subject = Subject { local, redis: redis.as_ref() };
                    workloads::speed(workload, &scene, &subject)
                };
                let peers: Vec<Peer> = fronts.keys().copied().collect();
                for turn in 0..workload.turns(pinning) {
                    let mut readings = round_of(&peers, round + turn, workload, run);
                    workloads::compare(workload, &mut readings);
                    results.add(workload, pinning, readings);
                }
            }
            drop_the_dead(&mut fronts);
            longest = longest.max(started.elapsed());
        }
        Ok(())
    }

    /// Starting, idle memory and held connections: every proxy afresh each time.
    pub(crate) fn still(
        &self,
        workload: Workload,
        rounds: usize,
        results: &mut Results,
    ) -> io::Result<()> {
        self.cpus.pin(Pinning::OneCpu)?;
        let upstream = Upstream::start()?;
        let scene = self.scene(&upstream, None);
        let is_of_its_own = |peer: &Peer| !matches!(peer, Peer::Direct | Peer::Watched);
        let proxies: Vec<Peer> = self.peers.iter().copied().filter(is_of_its_own).collect();
        // Both ends of each are in this process.
        let most = (self.descriptors as usize).saturating_sub(200) / 2;
        say!("{}, {rounds} rounds", workload.name());
        for round in 0..rounds {
            let run = |peer| match workload {
                Workload::Idle(count) if count > most => {
                    Err(io::Error::other("too few descriptors are allowed"))
                }
                Workload::Idle(count) => workloads::idle(&scene, peer, count),
                Workload::Held => workloads::held(&scene, peer, HELD_GOAL.min(most)),
                _ => workloads::start(&scene, peer),
            };
            let readings = round_of(&proxies, round, workload, run);
            results.add(workload, Pinning::OneCpu, readings);
        }
        Ok(())
    }

    fn scene<'a>(&'a self, upstream: &'a Upstream, redis: Option<&'a Redis>) -> Scene<'a> {
        Scene { upstream, redis, scratch: self.scratch, window: self.window }
    }

    fn fronts(&self, peer: Peer, scene: &Scene) -> io::Result<Fronts> {
        let start = |behind| Front::start(peer, behind, self.scratch, None);
        let local = start(Behind::Upstream(scene.upstream.address))?;
        let redis = scene.redis.map(|redis| start(Behind::Redis(redis.address))).transpose()?;
        Ok(Fronts { local, redis })
    }
}

/// The same work for each, another one first in each round.
fn round_of(
    peers: &[Peer],
    round: usize,
    workload: Workload,
    run: impl Fn(Peer) -> io::Result<Reading>,
) -> BTreeMap<Peer, Reading> {
    let mut readings = BTreeMap::new();
    for turn in 0..peers.len() {
        let peer = peers[(turn + round) % peers.len()];
        match run(peer) {
            Ok(reading) => drop(readings.insert(peer, reading)),
            Err(err) => say!("NO READING: {} of {}: {err}", workload.name(), peer.name()),
        }
    }
    readings
}

fn drop_the_dead(fronts: &mut BTreeMap<Peer, Fronts>) {
    fronts.retain(|peer, fronts| {
        let alive = fronts.local.is_alive() && fronts.redis.as_ref().is_none_or(Front::is_alive);
        if !alive {
            say!("LEFT OUT from here on: {} has ended", peer.name());
        }
        alive
    });
}
