//! What runs on a host: every container is inspected when it may have changed, and not
//! otherwise, because a host may have hundreds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use log::{info, warn};

use super::{core::DOCKER_SILENCE, docker_watch::LOOK_INTERVAL};
use crate::{
    docker::{Client, Container, Error, Listed},
    report,
};

/// What a look at Docker is about. Requests that come while one waits add up.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    /// Nothing that was seen before counts.
    pub(super) everything: bool,
    /// Ids of containers that may have changed.
    pub(super) containers: BTreeSet<String>,
}

/// What a look has shown.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) containers: Vec<Container>,
    /// Whether no other runs, of which nothing is known because it cannot be inspected.
    pub(super) is_whole: bool,
}

/// So many containers that cannot be inspected are passed over in one look: each may take
/// as long as a request may, and if there are more it is Docker that is sick.
const MOST_SICK: usize = 3;

/// The containers of a host that run, by id.
#[derive(Debug, Default)]
pub(super) struct Running {
    known: BTreeMap<String, Known>,
    /// Those that Docker lists and cannot be asked about, and since when.
    sick: HashMap<String, Instant>,
    /// When all of them were listed; `None` if what is known is not all there is.
    listed: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    container: Container,
    /// What the last listing said of it.
    listed: Option<Listed>,
}

impl Running {
    /// When Docker is to be listed again, whatever it tells by itself.
    pub(super) fn until_listing(&self) -> Duration {
        self.listed.map_or(Duration::ZERO, |listed| LOOK_INTERVAL.saturating_sub(listed.elapsed()))
    }

    /// Looks at what `subject` names, or at whatever a new listing shows to be different.
    ///
    /// # Errors
    /// What was seen before does not count any more, because it is not known what changed.
    pub(super) fn look(&mut self, client: &mut Client, subject: &Subject) -> Result<Seen, Error> {
        let is_about_some = !subject.everything && !subject.containers.is_empty();
        let mut ids = subject.containers.iter();
        let is_done = is_about_some
            && !self.until_listing().is_zero()
            && ids.all(|id| self.look_at(client, id, None).is_ok());
        // Where one of them cannot be inspected, a listing says whether Docker can be asked.
        if !is_done && let Err(error) = self.look_at_all(client, subject) {
            self.listed = None;
            return Err(error);
        }
        let containers = self.known.values().map(|known| known.container.clone()).collect();
        let is_whole = self.sick.keys().all(|id| self.known.contains_key(id));
        Ok(Seen { containers, is_whole })
    }

    fn look_at_all(&mut self, client: &mut Client, subject: &Subject) -> Result<(), Error> {
        // After a failure nobody knows what was missed.
        let is_anew = subject.everything || self.listed.is_none();
        let listed = client.running()?;
        let ids: BTreeSet<&String> = listed.iter().map(|listed| &listed.id).collect();
        self.known.retain(|id, _| ids.contains(id));
        self.sick.retain(|id, _| ids.contains(id));
        let mut passed_over = 0;
        for listed in listed {
            let known = self.known.get(&listed.id);
            // What is not settled has not been seen whole.
            let is_known = known.is_some_and(|known| {
                known.listed.as_ref() == Some(&listed) && known.container.is_settled()
            });
            let is_named = subject.containers.contains(&listed.id);
            if is_known && !is_named && !is_anew {
                continue;
            }
            let id = listed.id.clone();
            if let Err(error) = self.look_at(client, &id, Some(listed)) {
                passed_over += 1;
                if passed_over > MOST_SICK || error.is_of_the_connection() {
                    return Err(error);
                }
                self.pass_over(&id, &error);
            }
        }
        self.listed = Some(Instant::now());
        Ok(())
    }

    fn look_at(
        &mut self,
        client: &mut Client,
        id: &str,
        listed: Option<Listed>,
    ) -> Result<(), Error> {
        match client.container_by_id(id)? {
            Some(container) if container.state.running => {
                self.known.insert(id.to_owned(), Known { container, listed });
            }
            Some(_) | None => {
                self.known.remove(id);
            }
        }
        if self.sick.remove(id).is_some() {
            info!("container {id} can be inspected again");
        }
        Ok(())
    }

    /// Docker answers for the others: what is known of this one is kept as long as it would
    /// be of a Docker that is silent.
    fn pass_over(&mut self, id: &str, error: &Error) {
        if !self.sick.contains_key(id) {
            let (error, silence) = (report::chain(error), report::duration(DOCKER_SILENCE));
            warn!(
                "container {id} cannot be inspected: {error}; what is known of it is kept for \
                 {silence}"
            );
        }
        let since = self.sick.entry(id.to_owned()).or_insert_with(Instant::now);
        match self.known.get_mut(id) {
            Some(_) if since.elapsed() >= DOCKER_SILENCE => drop(self.known.remove(id)),
            // To be asked about at every look.
            Some(known) => known.listed = None,
            None => {}
        }
    }
}
