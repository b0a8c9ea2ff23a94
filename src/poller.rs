//! Follows one service's directory in etcd: listing → upstreams → pool.
//!
//! An event is only a hint to list again. So a deleted parent, a cleared history,
//! a store that was wiped and an event that got lost all heal in the same way.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use log::{debug, info, warn};

use crate::{
    backoff::Backoff,
    etcd::{self, Entry, Listing, Position, REQUEST_DEADLINE, Store},
    outage::{Outage, QUIET, Reach},
    pulse::Pulse,
    report,
    service::{self, Instance, Prefix, ServiceName},
    stop::Stop,
    traffic::{Pool, Upstream},
};

/// How long a poll may stay silent, give or take a tenth (so that pollers started
/// together drift apart). It bounds how long an etcd that hangs goes unnoticed, and a
/// connection that died without a word; a listing in between costs etcd next to nothing.
const POLL_PATIENCE: Duration = Duration::from_secs(15);

/// The same where there are other members to ask. One that is cut off from its peers
/// keeps its polls open and says nothing; the listing after the poll, which asks the
/// quorum, finds out. Sooner than clients give up, who are held for 10 s by default.
const POLL_PATIENCE_OF_SEVERAL: Duration = Duration::from_secs(5);

/// Two listings are at least this far apart, so that a burst of events costs a
/// few listings; the first event of a burst is acted on at once.
const LISTING_GAP: Duration = Duration::from_millis(20);

/// The registry as all pollers of a process see it, so that what is wrong with it is
/// said once, and not once a service.
#[derive(Debug)]
pub(crate) struct Followed {
    store: Store,
    prefix: Prefix,
    pools: Vec<Arc<Pool>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outage: Outage,
    /// The services whose last listing failed.
    failing: BTreeSet<String>,
    /// Whether it was said how etcd is talked to.
    is_introduced: bool,
    /// When another store was warned of.
    other_store: Option<Instant>,
}

impl Followed {
    /// `pools` are those of all services that are to be followed in `store`.
    pub(crate) fn new(store: Store, prefix: Prefix, pools: Vec<Arc<Pool>>) -> Self {
        Followed { store, prefix, pools, state: Mutex::default() }
    }

    /// One line for people; `None` if that would mean to wait.
    pub(crate) fn status(&self) -> Option<String> {
        let state = self.state.try_lock().ok()?;
        let (services, instances) = (self.pools.len(), self.known());
        let plural = |count| if count == 1 { "" } else { "s" };
        let etcd = match state.outage.reason() {
            Some(reason) => reason.to_owned(),
            None if state.is_introduced => format!("etcd at {} answers", self.store.member()),
            None => format!("etcd at {} has not answered yet", self.store.member()),
        };
        Some(format!(
            "{services} service{}, {instances} instance{}; {etcd}",
            plural(services),
            plural(instances)
        ))
    }

    /// How etcd does, and the services of which only the last known instances are known.
    pub(crate) fn etcd(&self) -> (Reach, BTreeSet<String>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (member, has_answered) = (self.store.member().to_string(), state.is_introduced);
        let reach = state.outage.reach(member, has_answered, self.store.requests());
        (reach, state.failing.clone())
    }

    /// How many instances clients may get.
    fn known(&self) -> usize {
        self.pools.iter().map(|pool| pool.count()).sum()
    }

    /// Notes that `pool` could not be listed.
    fn note_failure(&self, pool: &Pool, error: &etcd::Error, pause: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failing.insert(pool.name().to_owned());
        let text = report::chain(error);
        let Some(lasted) = state.outage.failed(Instant::now(), &text) else { return };
        let count = self.known();
        let plural = if count == 1 { "" } else { "s" };
        let (whose, lasting, pause) =
            (self.whose(pool), report::lasting(lasted), report::duration(pause));
        warn!(
            "{whose}: {text}{lasting}; still serving {count} known instance{plural}; \
             next attempt in {pause}"
        );
    }

    /// Notes that `pool` was listed.
    fn note_listing(&self, pool: &Pool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failing.remove(pool.name());
        if !mem::replace(&mut state.is_introduced, true) {
            info!("{}", self.store.introduction());
        }
        if state.failing.is_empty()
            && let Some(lasted) = state.outage.ended(Instant::now())
        {
            let (whose, lasted) = (self.whose(pool), report::duration(lasted));
            info!("{whose}: etcd at {} answers again after {lasted}", self.store.member());
        }
    }

    /// Notes that a listing cannot come after the one before it in one history. It is
    /// believed all the same: it is what a quorum says now.
    fn note_other_store(&self, before: &Position, now: &Position) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Every service is listed from it.
        if state.other_store.is_none_or(|said| said.elapsed() > QUIET) {
            let member = self.store.member();
            warn!(
                "etcd at {member} was wiped or restored, or is another one: at event {} of \
                 cluster {}, after event {} of cluster {}",
                now.index, now.cluster, before.index, before.cluster
            );
            state.other_store = Some(Instant::now());
        }
    }

    /// Whose log line it is: the service's, where there is only one.
    fn whose(&self, pool: &Pool) -> String {
        match self.pools.len() {
            1 => pool.name().to_owned(),
            count => format!("{count} services"),
        }
    }
}

/// Keeps `pool` equal to what is registered for one service.
#[derive(Debug)]
pub(crate) struct Poller<'a> {
    followed: &'a Followed,
    directory: String,
    pool: &'a Pool,
    pulse: &'a Pulse,
    /// Entries that cannot be used, with the reason that was warned about.
    unusable: HashMap<String, String>,
    /// When it was last listed.
    listed: Option<Position>,
    /// Polls that fail while listings succeed.
    polls: Outage,
}

impl<'a> Poller<'a> {
    pub(crate) fn new(
        followed: &'a Followed,
        service: &ServiceName,
        pool: &'a Pool,
        pulse: &'a Pulse,
    ) -> Self {
        let directory = followed.prefix.service(service);
        let (unusable, polls) = (HashMap::new(), Outage::default());
        Poller { followed, directory, pool, pulse, unusable, listed: None, polls }
    }

    /// Follows until asked to stop. While etcd cannot be reached the pool keeps
    /// what it has; only a successful listing replaces it.
    pub(crate) fn run(mut self, stop: &Stop) {
        let mut listing_backoff = Backoff::for_requests();
        let mut poll_backoff = Backoff::for_requests();
        loop {
            self.pulse.within(REQUEST_DEADLINE);
            let listed = Instant::now();
            let pause = match self.followed.store.list(&self.directory) {
                Ok(listing) => {
                    listing_backoff.reset();
                    self.note_listing(&listing);
                    match self.poll(&listing.position) {
                        Ok(()) => {
                            poll_backoff.reset();
                            self.polls.ended(Instant::now());
                            (listed + LISTING_GAP).saturating_duration_since(Instant::now())
                        }
                        // Listing again says whether etcd is out of reach; if only
                        // polls fail, the backoff keeps this from spinning.
                        Err(error) => {
                            self.note_failed_poll(&error);
                            poll_backoff.next()
                        }
                    }
                }
                Err(error) => {
                    let pause = listing_backoff.next();
                    self.followed.note_failure(self.pool, &error, pause);
                    pause
                }
            };
            self.pulse.within(pause);
            if stop.wait(pause) {
                return;
            }
        }
    }

    fn note_listing(&mut self, listing: &Listing) {
        self.followed.note_listing(self.pool);
        let Listing { entries, position } = listing;
        if let Some(before) = self.listed.replace(position.clone())
            && !before.leads_to(position)
        {
            self.followed.note_other_store(&before, position);
        }
        self.publish(entries);
    }

    /// Waits for a change after what was `listed`.
    fn poll(&self, listed: &Position) -> Result<(), etcd::Error> {
        let patience = match self.followed.store.member_count() {
            1 => POLL_PATIENCE,
            _ => POLL_PATIENCE_OF_SEVERAL,
        };
        let patience = patience.mul_f64(0.9 + 0.2 * fastrand::f64());
        self.pulse.within(patience);
        match self.followed.store.wait(&self.directory, listed, patience) {
            // Refreshes of TTLs fill the history too: not worth a word.
            Err(etcd::Error::IndexCleared) => Ok(()),
            outcome => outcome,
        }
    }

    /// One poll that fails is the sign of a restart. When they go on failing,
    /// something between here and etcd cuts them.
    fn note_failed_poll(&mut self, error: &etcd::Error) {
        let (name, text) = (self.pool.name(), report::chain(error));
        match self.polls.failed(Instant::now(), "") {
            Some(lasted) if !lasted.is_zero() => {
                let lasted = report::duration(lasted);
                warn!("{name}: polls fail for {lasted} now: {text}; listing every 2 s instead");
            }
            _ => debug!("{name}: {text}"),
        }
    }

    fn publish(&mut self, entries: &[Entry]) {
        let mut unusable = HashMap::new();
        let mut upstreams = Vec::new();
        for entry in entries {
            if service::is_udp(entry.name()) {
                continue;
            }
            match read(entry) {
                Ok(instance) => {
                    let weight = instance.weight.unwrap_or(1);
                    let origin = Some(entry.key.clone());
                    upstreams.push(Upstream { weight, origin, ..Upstream::new(instance.address) });
                }
                Err(reason) => {
                    if self.unusable.get(&entry.key) != Some(&reason) {
                        warn!("{}: {} is skipped: {reason}", self.pool.name(), entry.key);
                    }
                    unusable.insert(entry.key.clone(), reason);
                }
            }
        }
        self.unusable = unusable;
        if let Some(change) = self.pool.publish(upstreams) {
            info!("{}: {change}", self.pool.name());
        }
    }
}

fn read(entry: &Entry) -> Result<Instance, String> {
    match &entry.value {
        None => Err("it is a directory, not a value".to_owned()),
        Some(value) => value.parse().map_err(|invalid| format!("{invalid}")),
    }
}
