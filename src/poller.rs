//! Follows one service's directory in etcd: listing → upstreams → pool.
//!
//! An event is only a hint to list again. So a deleted parent, a cleared history,
//! a store that was wiped and an event that got lost all heal in the same way.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use log::{debug, info, warn};

use crate::{
    backoff::Backoff,
    etcd::{self, Entry, Store},
    outage::Outage,
    report,
    service::{self, Instance, Prefix, ServiceName},
    stop::Stop,
    traffic::{Pool, Upstream},
};

/// How long a poll may stay silent, give or take a tenth (so that pollers started
/// together drift apart). It bounds how long a dead connection or a cut-off
/// member goes unnoticed.
const POLL_PATIENCE: Duration = Duration::from_secs(55);

/// Two listings are at least this far apart, so that a burst of events costs a
/// few listings; the first event of a burst is acted on at once.
const LISTING_GAP: Duration = Duration::from_millis(20);

/// Keeps `pool` equal to what is registered for one service.
#[derive(Debug)]
pub(crate) struct Poller<'a> {
    store: &'a Store,
    directory: String,
    pool: &'a Pool,
    /// Entries that cannot be used, with the reason that was warned about.
    unusable: HashMap<String, String>,
    outage: Outage,
    /// Polls that fail while listings succeed.
    polls: Outage,
}

impl<'a> Poller<'a> {
    pub(crate) fn new(
        store: &'a Store,
        prefix: &Prefix,
        service: &ServiceName,
        pool: &'a Pool,
    ) -> Self {
        let directory = prefix.service(service);
        let (outage, polls) = (Outage::default(), Outage::default());
        Poller { store, directory, pool, unusable: HashMap::new(), outage, polls }
    }

    /// Follows until asked to stop. While etcd cannot be reached the pool keeps
    /// what it has; only a successful listing replaces it.
    pub(crate) fn run(mut self, stop: &Stop) {
        let mut listing_backoff = Backoff::for_requests();
        let mut poll_backoff = Backoff::for_requests();
        loop {
            let listed = Instant::now();
            let pause = match self.store.list(&self.directory) {
                Ok(listing) => {
                    listing_backoff.reset();
                    self.publish(&listing.entries);
                    match self.poll(listing.index) {
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
                    self.warn_of(&error, pause);
                    pause
                }
            };
            if stop.wait(pause) {
                return;
            }
        }
    }

    /// Waits for a change after `index`.
    fn poll(&self, index: u64) -> Result<(), etcd::Error> {
        let patience = POLL_PATIENCE.mul_f64(0.9 + 0.2 * fastrand::f64());
        match self.store.wait(&self.directory, index, patience) {
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

    fn warn_of(&mut self, error: &etcd::Error, pause: Duration) {
        let text = report::chain(error);
        let Some(lasted) = self.outage.failed(Instant::now(), &text) else { return };
        let (name, count) = (self.pool.name(), self.pool.count());
        let plural = if count == 1 { "" } else { "s" };
        let pause = report::duration(pause);
        let lasting = report::lasting(lasted);
        warn!(
            "{name}: {text}{lasting}; still serving {count} known instance{plural}; next attempt in {pause}"
        );
    }

    fn publish(&mut self, entries: &[Entry]) {
        if let Some(lasted) = self.outage.ended(Instant::now()) {
            let (name, lasted) = (self.pool.name(), report::duration(lasted));
            info!("{name}: etcd at {} answers again after {lasted}", self.store.member());
        }
        let mut unusable = HashMap::new();
        let mut upstreams = Vec::new();
        for entry in entries {
            if service::is_udp(entry.name()) {
                continue;
            }
            match read(entry) {
                Ok(instance) => {
                    let weight = instance.weight.unwrap_or(1);
                    upstreams.push(Upstream { weight, ..Upstream::new(instance.address) });
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
