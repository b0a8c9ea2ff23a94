//! Takes out everything at the end.

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use log::{debug, info, warn};

use crate::{
    etcd::{self, Store},
    report,
};

/// How long taking out our entries may hold up the end of the process.
pub(crate) const WITHDRAWAL: Duration = Duration::from_secs(2);

/// What is left of it for saying what could not be taken out.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// So many requests at a time: one after the other, those of a whole host would not be done
/// in time.
const AT_A_TIME: usize = 8;

/// Removes every key of `owned` that holds the value beside it. Best effort: what fails here
/// expires with its TTL.
pub(super) fn withdraw(store: &Store, owned: Vec<(String, String)>) {
    let deadline = Instant::now() + WITHDRAWAL - LAST_WORDS;
    let helpers = owned.len().clamp(1, AT_A_TIME) - 1;
    let left = Mutex::new(owned.into_iter());
    let next = || left.lock().ok()?.next();
    let remove = || {
        while let Some((key, value)) = next() {
            remove(store, &key, &value, deadline);
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers {
            let helper = thread::Builder::new().name("withdrawal".to_owned());
            // Without a thread the others do its part.
            let _ = helper.spawn_scoped(scope, remove);
        }
        remove();
    });
}

fn remove(store: &Store, key: &str, value: &str, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    match store.remove_if_within(key, value, left) {
        Ok(()) => info!("{key} removed"),
        Err(error @ (etcd::Error::NoSuchKey { .. } | etcd::Error::CompareFailed { .. })) => {
            debug!("{}", report::chain(&error));
        }
        Err(error) => {
            warn!("{}; {key} stays until its TTL ends", report::chain(&error));
        }
    }
}
