//! The only state the control plane and the data plane share: what can be
//! dialled now, and what dialling has learned.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::IpAddr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    balance::{self, Balance},
    tally::{Clients, DialFailure, Tally},
};
use crate::{
    address::HostPort,
    outage::{Outage, QUIET},
};

/// One side that may be dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) address: HostPort,
    /// Dialled when `address` fails: the name behind a link variable, which
    /// Docker keeps up to date while the variable grows old.
    pub(crate) alternative: Option<HostPort>,
    /// Its share of new connections, among the weights of the others; 0 gets one
    /// only when all others fail.
    pub(crate) weight: u64,
    /// Where it was found, for people.
    pub(crate) origin: Option<String>,
}

impl Upstream {
    /// Of weight 1, without an alternative, from nowhere in particular.
    pub(crate) fn new(address: HostPort) -> Self {
        Upstream { address, alternative: None, weight: 1, origin: None }
    }
}

/// One immutable set of upstreams.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Grows by one with every set published.
    pub(super) generation: u64,
    upstreams: Vec<Upstream>,
    /// Whose turn it is, by index, again and again.
    schedule: Vec<usize>,
}

/// One address, and what is known of it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) address: HostPort,
    /// Absent when it is not an upstream's own address, or not any more.
    pub(crate) weight: Option<u64>,
    pub(crate) origin: Option<String>,
    /// For how long it has been known.
    pub(crate) age: Duration,
    /// For how long it has not been among the upstreams any more.
    pub(crate) left: Option<Duration>,
    /// For how long it is still tried last.
    pub(crate) ejected: Option<Duration>,
    /// Why it could not be dialled, if it has not answered since.
    pub(crate) problem: Option<String>,
    pub(crate) tally: Arc<Tally>,
}

/// What was counted of an address that left is told for so long: whoever collects it
/// comes by once a minute, or more often.
const REMEMBERED: Duration = Duration::from_secs(300);

/// So many changes are named in a log line.
const MOST_SHOWN: usize = 10;

/// What `publish` changed, as a log line shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    count: usize,
    added: Vec<HostPort>,
    removed: Vec<HostPort>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} instance{plural}", self.count)?;
        let added = self.added.iter().map(|address| format!("+{address}"));
        let removed = self.removed.iter().map(|address| format!("-{address}"));
        let mut changes: Vec<String> = added.chain(removed).collect();
        let more = changes.len().saturating_sub(MOST_SHOWN);
        if more > 0 {
            changes.truncate(MOST_SHOWN);
            changes.push(format!("and {more} more"));
        }
        if changes.is_empty() { Ok(()) } else { write!(f, " ({})", changes.join(" ")) }
    }
}

/// What ended a wait for news.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Changed,
    Nothing,
    /// The process is ending: there will be no more.
    Closed,
}

/// What dialling has learned.
#[derive(Debug, Default)]
struct Learned {
    /// Until when an address that failed is tried last.
    ejected: HashMap<HostPort, Instant>,
    /// Addresses that failed and have not answered since, and why.
    failing: HashMap<HostPort, String>,
    /// Every address that may be dialled, or could be lately.
    seen: HashMap<HostPort, Seen>,
    /// Since when nothing could be reached.
    outage: Outage,
    /// Whether the last failure in it was for want of something on our own side.
    outage_is_ours: bool,
}

/// One address, for as long as it is remembered.
#[derive(Debug)]
struct Seen {
    since: Instant,
    left: Option<Instant>,
    tally: Arc<Tally>,
}

impl Seen {
    fn new(left: Option<Instant>) -> Self {
        Seen { since: Instant::now(), left, tally: Arc::default() }
    }

    fn is_remembered(&self) -> bool {
        self.tally.open() > 0 || self.left.is_none_or(|left| left.elapsed() < REMEMBERED)
    }
}

/// The upstreams of one service.
#[derive(Debug)]
pub(crate) struct Pool {
    name: String,
    clients: Clients,
    current: RwLock<Arc<Snapshot>>,
    /// The upstream whose turn it is, counted without end.
    turn: AtomicUsize,
    balance: Balance,
    learned: Mutex<Learned>,
    /// The newest generation, and whether the pool is closed; a lock of its own
    /// because a condition needs a `Mutex`, and readers of `current` never wait.
    news: Mutex<(u64, bool)>,
    arrived: Condvar,
}

impl Pool {
    /// A pool called `name` in log lines, empty until something is published.
    pub(crate) fn new(name: String, balance: Balance) -> Self {
        Pool {
            name,
            clients: Clients::default(),
            current: RwLock::default(),
            turn: AtomicUsize::new(0),
            balance,
            learned: Mutex::default(),
            news: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What is counted of its clients.
    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// How many upstreams there are now.
    pub(crate) fn count(&self) -> usize {
        self.snapshot().upstreams.len()
    }

    /// The addresses of the upstreams there are now.
    pub(crate) fn addresses(&self) -> Vec<HostPort> {
        let snapshot = self.snapshot();
        snapshot.upstreams.iter().map(|upstream| upstream.address.clone()).collect()
    }

    /// The upstreams there are now, then what else was dialled lately, and what dialling
    /// has learned of all of them.
    pub(crate) fn known(&self) -> Vec<Known> {
        let (snapshot, now) = (self.snapshot(), Instant::now());
        let mut learned = self.learned();
        learned.seen.retain(|_, seen| seen.is_remembered());
        let Learned { ejected, failing, seen, .. } = &*learned;
        let known = |address: &HostPort, seen: &Seen| Known {
            address: address.clone(),
            weight: None,
            origin: None,
            age: now.saturating_duration_since(seen.since),
            left: seen.left.map(|left| now.saturating_duration_since(left)),
            ejected: ejected.get(address).and_then(|until| until.checked_duration_since(now)),
            problem: failing.get(address).cloned(),
            tally: Arc::clone(&seen.tally),
        };
        let upstream = |Upstream { address, weight, origin, .. }: &Upstream| {
            let known = known(address, seen.get(address)?);
            Some(Known { weight: Some(*weight), origin: origin.clone(), ..known })
        };
        let mut all: Vec<Known> = snapshot.upstreams.iter().filter_map(upstream).collect();
        let own: HashSet<&HostPort> = snapshot.upstreams.iter().map(|it| &it.address).collect();
        let mut others: Vec<(&HostPort, &Seen)> =
            seen.iter().filter(|(address, _)| !own.contains(address)).collect();
        others.sort_by_key(|(address, _)| address.to_string());
        all.extend(others.into_iter().map(|(address, seen)| known(address, seen)));
        all
    }

    /// Whether `address` is one that may be dialled now.
    pub(super) fn has(&self, address: &HostPort) -> bool {
        let snapshot = self.snapshot();
        snapshot.upstreams.iter().any(|upstream| {
            upstream.address == *address || upstream.alternative.as_ref() == Some(address)
        })
    }

    /// Replaces all upstreams at once and wakes every client that waits for one.
    /// Returns what changed; nothing happens if nothing did.
    pub(crate) fn publish(&self, mut upstreams: Vec<Upstream>) -> Option<Change> {
        // One address is one upstream, however many entries name it.
        let mut seen = HashSet::new();
        upstreams.retain(|upstream| seen.insert(upstream.address.clone()));
        // There is one publisher, so that all the work can be done before readers
        // are locked out.
        let current = self.snapshot();
        if current.generation > 0 && current.upstreams == upstreams {
            return None;
        }
        let before: HashSet<HostPort> =
            current.upstreams.iter().map(|upstream| upstream.address.clone()).collect();
        let change = Change {
            count: upstreams.len(),
            added: missing_in(&upstreams, &before),
            removed: missing_in(&current.upstreams, &seen),
        };
        let generation = current.generation + 1;
        let schedule = balance::schedule(&upstreams);
        let next = Arc::new(Snapshot { generation, upstreams, schedule });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        self.news.lock().unwrap_or_else(PoisonError::into_inner).0 = generation;
        // A registration is a sign of life: an address that comes back is tried
        // at once, whatever happened to its predecessor.
        let mut learned = self.learned();
        for address in &change.added {
            learned.ejected.remove(address);
            learned.failing.remove(address);
            let Seen { tally, .. } =
                learned.seen.remove(address).unwrap_or_else(|| Seen::new(None));
            learned.seen.insert(address.clone(), Seen { tally, ..Seen::new(None) });
        }
        for address in &change.removed {
            learned.seen.get_mut(address).expect("it was added").left = Some(Instant::now());
        }
        let Learned { failing, seen, .. } = &mut *learned;
        seen.retain(|_, seen| seen.is_remembered());
        // Of one that left, too: a dial may have been under way.
        failing.retain(|address, _| seen.get(address).is_some_and(|seen| seen.left.is_none()));
        drop(learned);
        self.arrived.notify_all();
        Some(change)
    }

    /// Ends all waiting, now and later.
    pub(crate) fn close(&self) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.arrived.notify_all();
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What there is newer than `generation`, now.
    pub(super) fn news(&self, generation: u64) -> News {
        self.wait_for_news(generation, Duration::ZERO)
    }

    /// Waits until there is something newer than `generation`, or for `patience`.
    pub(super) fn wait_for_news(&self, generation: u64, patience: Duration) -> News {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let (news, _) = self
            .arrived
            .wait_timeout_while(news, patience, |(newest, closed)| {
                *newest <= generation && !*closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        match *news {
            (_, true) => News::Closed,
            (newest, false) if newest > generation => News::Changed,
            _ => News::Nothing,
        }
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses to try for `client`, in order: as the balance says, and those
    /// ejected last.
    pub(super) fn candidates(&self, snapshot: &Snapshot, client: IpAddr) -> Vec<HostPort> {
        let Snapshot { upstreams, schedule, .. } = snapshot;
        if upstreams.is_empty() {
            return Vec::new();
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = schedule[turn % schedule.len()];
        let mut learned = self.learned();
        let now = Instant::now();
        learned.ejected.retain(|_, until| *until > now);
        let Learned { ejected, seen, .. } = &*learned;
        let open_now =
            |upstream: &Upstream| seen.get(&upstream.address).map_or(0, |seen| seen.tally.open());
        let order = balance::order(self.balance, upstreams, first, open_now, client);
        let addresses = order.into_iter().flat_map(|index| {
            let Upstream { address, alternative, .. } = &upstreams[index];
            [Some(address), alternative.as_ref()]
        });
        let (last, mut first): (Vec<HostPort>, Vec<HostPort>) =
            addresses.flatten().cloned().partition(|address| ejected.contains_key(address));
        first.extend(last);
        first
    }

    /// What is counted of `address`.
    fn tally(&self, learned: &mut Learned, address: &HostPort) -> Arc<Tally> {
        match learned.seen.get(address) {
            Some(seen) => Arc::clone(&seen.tally),
            None => self.see(learned, address),
        }
    }

    /// The first that is counted of `address`: another name of an upstream, or one that
    /// has left since it was chosen.
    #[cold]
    #[inline(never)]
    fn see(&self, learned: &mut Learned, address: &HostPort) -> Arc<Tally> {
        let seen = Seen::new((!self.has(address)).then(Instant::now));
        let tally = Arc::clone(&seen.tally);
        learned.seen.insert(address.clone(), seen);
        tally
    }

    /// Notes that `address` could not be dialled. What is not its own fault ejects nobody.
    /// Returns whether it was ejected, and that is news.
    pub(super) fn failed(
        &self,
        address: &HostPort,
        failure: DialFailure,
        problem: &str,
        period: Duration,
    ) -> bool {
        let mut learned = self.learned();
        let tally = self.tally(&mut learned, address);
        tally.failed(failure);
        if failure == DialFailure::OwnLimits {
            return false;
        }
        if learned.ejected.insert(address.clone(), Instant::now() + period).is_none() {
            tally.ejections.add(1);
        }
        learned.failing.insert(address.clone(), problem.to_owned()).is_none()
    }

    /// Notes that `address` answered, with a connection that is open from now on.
    /// Returns its tally, and how long nothing could be reached, if that ends with it.
    pub(super) fn opened(&self, address: &HostPort) -> (Arc<Tally>, Option<Duration>) {
        let mut learned = self.learned();
        learned.ejected.remove(address);
        learned.failing.remove(address);
        let tally = self.tally(&mut learned, address);
        tally.opened();
        let quiet = if learned.outage_is_ours { QUIET } else { Duration::ZERO };
        (tally, learned.outage.ended_for(Instant::now(), quiet))
    }

    /// Notes that nothing could be reached, for the want of something on our own side if
    /// `is_ours`: how long already, if that is to be said.
    pub(super) fn outage_lasts(
        &self,
        now: Instant,
        problem: &str,
        is_ours: bool,
    ) -> Option<Duration> {
        let mut learned = self.learned();
        learned.outage_is_ours = is_ours;
        learned.outage.failed(now, problem)
    }
}

fn missing_in(these: &[Upstream], those: &HashSet<HostPort>) -> Vec<HostPort> {
    let addresses = these.iter().map(|upstream| &upstream.address);
    addresses.filter(|address| !those.contains(address)).cloned().collect()
}

#[cfg(test)]
mod tests;
