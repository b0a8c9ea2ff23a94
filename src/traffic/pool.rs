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

use super::balance::{self, Balance};
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
}

impl Upstream {
    /// Of weight 1, without an alternative.
    pub(crate) fn new(address: HostPort) -> Self {
        Upstream { address, alternative: None, weight: 1 }
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

/// One upstream, and what is known of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) address: HostPort,
    pub(crate) weight: u64,
    /// Connections that are open.
    pub(crate) open: usize,
    /// For how long it is still tried last.
    pub(crate) ejected: Option<Duration>,
}

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
    /// Addresses that failed and have not answered since.
    failing: HashSet<HostPort>,
    /// Connections that are open now.
    open: HashMap<HostPort, usize>,
    /// Since when nothing could be reached.
    outage: Outage,
    /// Whether the last failure in it was for want of something on our own side.
    outage_is_ours: bool,
}

/// The upstreams of one service.
#[derive(Debug)]
pub(crate) struct Pool {
    name: String,
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

    /// How many upstreams there are now.
    pub(crate) fn count(&self) -> usize {
        self.snapshot().upstreams.len()
    }

    /// The addresses of the upstreams there are now.
    pub(crate) fn addresses(&self) -> Vec<HostPort> {
        let snapshot = self.snapshot();
        snapshot.upstreams.iter().map(|upstream| upstream.address.clone()).collect()
    }

    /// The upstreams there are now, and what dialling has learned of them.
    pub(crate) fn known(&self) -> Vec<Known> {
        let (snapshot, now) = (self.snapshot(), Instant::now());
        let learned = self.learned();
        let known = |Upstream { address, weight, .. }: &Upstream| Known {
            address: address.clone(),
            weight: *weight,
            open: learned.open.get(address).copied().unwrap_or(0),
            ejected: learned.ejected.get(address).and_then(|u| u.checked_duration_since(now)),
        };
        snapshot.upstreams.iter().map(known).collect()
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
        }
        for address in &change.removed {
            learned.failing.remove(address);
        }
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
                *newest == generation && !*closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        match *news {
            (_, true) => News::Closed,
            (newest, false) if newest != generation => News::Changed,
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
        let first = if schedule.is_empty() { 0 } else { schedule[turn % schedule.len()] };
        let mut learned = self.learned();
        let now = Instant::now();
        learned.ejected.retain(|_, until| *until > now);
        let Learned { ejected, open, .. } = &*learned;
        let open_now = |upstream: &Upstream| open.get(&upstream.address).copied().unwrap_or(0);
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

    /// Notes that `address` failed. Returns whether that is news.
    pub(super) fn eject(&self, address: &HostPort, period: Duration) -> bool {
        let mut learned = self.learned();
        learned.ejected.insert(address.clone(), Instant::now() + period);
        learned.failing.insert(address.clone())
    }

    /// Notes that `address` answered, with a connection that is open from now on.
    /// Returns how long nothing could be reached, if that ends with it.
    pub(super) fn opened(&self, address: &HostPort) -> Option<Duration> {
        let mut learned = self.learned();
        learned.ejected.remove(address);
        learned.failing.remove(address);
        *learned.open.entry(address.clone()).or_default() += 1;
        let quiet = if learned.outage_is_ours { QUIET } else { Duration::ZERO };
        learned.outage.ended_for(Instant::now(), quiet)
    }

    /// Notes that a connection to `address` has ended.
    pub(super) fn closed(&self, address: &HostPort) {
        let mut learned = self.learned();
        if let Some(open) = learned.open.get_mut(address) {
            *open -= 1;
            if *open == 0 {
                learned.open.remove(address);
            }
        }
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
mod tests {
    use super::*;

    fn upstream(address: &str) -> Upstream {
        Upstream::new(address.parse().unwrap())
    }

    fn pool(addresses: &[&str]) -> Pool {
        let pool = Pool::new("test".to_owned(), Balance::RoundRobin);
        pool.publish(addresses.iter().map(|address| upstream(address)).collect());
        pool
    }

    fn candidates(pool: &Pool) -> Vec<HostPort> {
        pool.candidates(&pool.snapshot(), [192, 0, 2, 1].into())
    }

    fn first_of(pool: &Pool) -> String {
        candidates(pool)[0].to_string()
    }

    #[test]
    fn upstreams_take_turns_and_ejected_ones_come_last() {
        let pool = pool(&["a:1", "b:1", "c:1"]);
        let turns: Vec<String> = (0..6).map(|_| first_of(&pool)).collect();
        assert_eq!(turns, ["a:1", "b:1", "c:1", "a:1", "b:1", "c:1"]);
        assert!(pool.eject(&"a:1".parse().unwrap(), Duration::from_secs(60)));
        assert!(!pool.eject(&"a:1".parse().unwrap(), Duration::from_secs(60)));
        for _ in 0..6 {
            let order = candidates(&pool);
            assert_eq!(order.len(), 3);
            assert_eq!(order[2].to_string(), "a:1");
        }
        pool.opened(&"a:1".parse().unwrap());
        assert!((0..3).any(|_| first_of(&pool) == "a:1"));
    }

    #[test]
    fn an_ejection_ends_with_its_period_and_with_a_new_registration() {
        let pool = pool(&["a:1", "b:1"]);
        let a = "a:1".parse().unwrap();
        pool.eject(&a, Duration::ZERO);
        assert!((0..2).any(|_| first_of(&pool) == "a:1"));
        pool.eject(&a, Duration::from_secs(60));
        pool.publish(vec![upstream("b:1")]);
        pool.publish(vec![upstream("a:1"), upstream("b:1")]);
        assert!((0..2).any(|_| first_of(&pool) == "a:1"));
    }

    #[test]
    fn the_least_loaded_upstream_is_tried_first() {
        let pool = Pool::new("test".to_owned(), Balance::LeastConn);
        pool.publish(vec![upstream("a:1"), upstream("b:1")]);
        let a: HostPort = "a:1".parse().unwrap();
        pool.opened(&a);
        assert!((0..4).all(|_| first_of(&pool) == "b:1"));
        pool.closed(&a);
        assert!((0..4).any(|_| first_of(&pool) == "a:1"));
    }

    #[test]
    fn an_alternative_is_tried_right_after_its_address() {
        let pool = Pool::new("test".to_owned(), Balance::RoundRobin);
        let alternative = Some("db:1".parse().unwrap());
        pool.publish(vec![Upstream { alternative, ..upstream("10.0.0.1:1") }, upstream("b:1")]);
        let order = candidates(&pool);
        let order: Vec<String> = order.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["10.0.0.1:1", "db:1", "b:1"]);
    }

    #[test]
    fn publishing_the_same_set_again_is_no_news() {
        let pool = Pool::new("test".to_owned(), Balance::RoundRobin);
        let set = || vec![upstream("a:1"), upstream("b:1"), upstream("a:1")];
        let change = pool.publish(set()).unwrap();
        assert_eq!(change.to_string(), "2 instances (+a:1 +b:1)");
        assert_eq!(pool.publish(set()), None);
        let change = pool.publish(vec![upstream("b:1")]).unwrap();
        assert_eq!(change.to_string(), "1 instance (-a:1)");
    }

    #[test]
    fn the_first_empty_answer_is_news_too() {
        let pool = Pool::new("test".to_owned(), Balance::RoundRobin);
        assert_eq!(pool.publish(vec![]).unwrap().to_string(), "0 instances");
    }

    #[test]
    fn a_waiting_client_is_woken_by_a_snapshot_and_by_the_end() {
        let pool = pool(&[]);
        let generation = pool.snapshot().generation;
        let hour = Duration::from_secs(3600);
        assert_eq!(pool.wait_for_news(generation, Duration::ZERO), News::Nothing);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.wait_for_news(generation, hour));
            pool.publish(vec![upstream("a:1")]);
            assert_eq!(waiting.join().unwrap(), News::Changed);
        });
        let newest = pool.snapshot().generation;
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.wait_for_news(newest, hour));
            pool.close();
            assert_eq!(waiting.join().unwrap(), News::Closed);
        });
    }
}
