//! What is said of containers that are not registered: once, and again only when it
//! changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use log::{Level, log};

use super::wanted::{Judged, Verdict};

/// So many mistakes are told at once: a host may have hundreds of containers, and one
/// reason for all of them.
const MOST_AT_ONCE: usize = 10;

/// What was said last, by container.
#[derive(Debug)]
pub(super) struct Remarks {
    said: BTreeMap<String, Said>,
    /// Of a container that is not there, or not in a state to be used.
    level_of_absence: Level,
}

#[derive(Debug, Default)]
struct Said {
    absence: BTreeSet<String>,
    /// Kept while the container is merely paused.
    mistakes: BTreeSet<String>,
}

impl Remarks {
    pub(super) fn new(level_of_absence: Level) -> Self {
        Remarks { said: BTreeMap::new(), level_of_absence }
    }

    /// Says what is new in `judged`, which is everything there is to say now.
    pub(super) fn note(&mut self, judged: &[Judged]) {
        let mut before = mem::take(&mut self.said);
        let mut mistakes: Vec<&str> = Vec::new();
        for of_container in judged.chunk_by(|a, b| a.container == b.container) {
            let name = &of_container[0].container;
            let old = before.remove(name).unwrap_or_default();
            let mut new = Said::default();
            let mut is_usable = false;
            for Judged { verdict, .. } in of_container {
                is_usable |= !matches!(verdict, Verdict::Absent(_));
                match verdict {
                    Verdict::Absent(why) => {
                        if !old.absence.contains(why) {
                            log!(self.level_of_absence, "not registered: {why}");
                        }
                        new.absence.insert(why.clone());
                    }
                    Verdict::Mistake(why) | Verdict::Unreachable(why) => {
                        if !old.mistakes.contains(why) {
                            mistakes.push(why);
                        }
                        new.mistakes.insert(why.clone());
                    }
                    Verdict::Present { .. } | Verdict::NotYet => {}
                }
            }
            if !is_usable {
                new.mistakes = old.mistakes;
            }
            self.said.insert(name.clone(), new);
        }
        for why in mistakes.iter().take(MOST_AT_ONCE) {
            log!(Level::Warn, "not registered: {why}");
        }
        if let Some(more @ 1..) = mistakes.len().checked_sub(MOST_AT_ONCE) {
            log!(Level::Warn, "not registered: {more} more ports; --explain says why");
        }
    }
}
