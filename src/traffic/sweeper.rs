//! Cuts connections that must not go on: idle for too long, to an instance that left
//! the registry, or reset where nobody looks. And does for those that last what would cost
//! short ones time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use log::info;

use super::{Connections, copy::Link, tally::DialFailure};
use crate::{address::HostPort, connect, logging, stop::Stop};

/// How often connections are looked through.
const TICK: Duration = Duration::from_millis(250);

/// An instance that left and still takes connections is tried again after this.
const PROBE_AGAIN: Duration = Duration::from_secs(5);

/// What becomes of open connections to an instance that left the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum OnRemove {
    Keep,
    /// Cut if a fresh dial fails: an instance that stops in order is left alone, and
    /// one whose host is dead does not hold its clients until TCP gives up.
    #[default]
    Probe,
    Close,
}

/// Looks through the connections of a process, again and again.
#[derive(Debug)]
pub(crate) struct Sweeper {
    connections: Arc<Connections>,
    on_remove: OnRemove,
    idle_timeout: Option<Duration>,
    connect_timeout: Duration,
    /// Bytes moved by a connection when it was last seen to move any, and when.
    moved: HashMap<u64, (u64, Instant)>,
    /// Instances that left and answered their probe, and when to try again.
    probed: HashMap<HostPort, Instant>,
}

impl Sweeper {
    pub(crate) fn new(
        connections: Arc<Connections>,
        on_remove: OnRemove,
        idle_timeout: Option<Duration>,
        connect_timeout: Duration,
    ) -> Self {
        let (moved, probed) = (HashMap::new(), HashMap::new());
        Sweeper { connections, on_remove, idle_timeout, connect_timeout, moved, probed }
    }

    pub(crate) fn run(mut self, stop: &Stop) {
        while !stop.wait(TICK) {
            logging::tell_names();
            self.look_through();
            if self.on_remove != OnRemove::Keep {
                self.cut_removed();
            }
        }
    }

    fn look_through(&mut self) {
        let open = self.connections.all();
        open.iter().for_each(|(_, link)| link.keep_alive());
        open.iter().filter(|(_, link)| link.has_lost_a_side()).for_each(|(_, link)| link.cut());
        if let Some(timeout) = self.idle_timeout {
            self.cut_idle(&open, timeout);
        }
    }

    fn cut_idle(&mut self, open: &[(u64, Arc<Link>)], timeout: Duration) {
        let now = Instant::now();
        let mut moved = HashMap::with_capacity(open.len());
        for (id, link) in open {
            // While it is dialled, --wait bounds it.
            if link.upstream.get().is_none() {
                continue;
            }
            let bytes = link.bytes();
            let since = match self.moved.get(id) {
                Some((before, since)) if *before == bytes => *since,
                _ => now,
            };
            moved.insert(*id, (bytes, since));
            if now.duration_since(since) >= timeout {
                link.cut();
            }
        }
        self.moved = moved;
    }

    fn cut_removed(&mut self) {
        let left = self.removed_targets();
        self.probed.retain(|target, _| left.contains(target));
        for target in left {
            let reason = match self.on_remove {
                OnRemove::Keep => continue,
                OnRemove::Close => "it left the registry".to_owned(),
                OnRemove::Probe => match self.probe(&target) {
                    None => continue,
                    Some(problem) => {
                        format!("it left the registry and cannot be reached: {problem}")
                    }
                },
            };
            self.cut_all_to(&target, &reason);
        }
    }

    /// Where connections go that must not. Without the connections, which are looked up
    /// again after a probe: whoever holds one puts off its end, and a probe takes its time.
    fn removed_targets(&self) -> HashSet<HostPort> {
        let open = self.connections.all();
        open.iter().filter_map(|(_, link)| link.removed_target().cloned()).collect()
    }

    fn cut_all_to(&self, target: &HostPort, reason: &str) {
        let open = self.connections.all();
        let mut left: BTreeMap<&str, Vec<&Link>> = BTreeMap::new();
        for (_, link) in &open {
            if link.removed_target() == Some(target) {
                left.entry(link.pool.name()).or_default().push(link);
            }
        }
        for (name, links) in left {
            info!("{name}: {} open connections to {target} are cut: {reason}", links.len());
            links.into_iter().for_each(Link::cut);
        }
    }

    /// Why `target` cannot be reached, if it is time to try and it cannot. Where we lack
    /// what a dial takes, nothing is known of it.
    fn probe(&mut self, target: &HostPort) -> Option<String> {
        let now = Instant::now();
        if self.probed.get(target).is_some_and(|again| *again > now) {
            return None;
        }
        match connect::to(target, self.connect_timeout) {
            Err(error) if DialFailure::of(&error) != DialFailure::OwnLimits => {
                Some(error.to_string())
            }
            _ => {
                self.probed.insert(target.clone(), Instant::now() + PROBE_AGAIN);
                None
            }
        }
    }
}
