//! What runs on a host: every container is inspected when it may have changed, and not
//! otherwise, because a host may have hundreds.

use std::collections::{BTreeMap, BTreeSet};

use crate::docker::{Client, Container, Error, Listed};

/// What a look at Docker is about. Requests that come while one waits add up.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    /// Nothing that was seen before counts.
    pub(super) everything: bool,
    /// Ids of containers that may have changed.
    pub(super) containers: BTreeSet<String>,
}

/// The containers of a host that run, by id.
#[derive(Debug, Default)]
pub(super) struct Running {
    known: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    container: Container,
    /// What the last listing said of it.
    listed: Option<Listed>,
}

impl Running {
    /// Looks at what `subject` names, or at whatever a new listing shows to be different.
    ///
    /// # Errors
    /// What was seen before is forgotten, because it is not known what changed.
    pub(super) fn look(
        &mut self,
        client: &mut Client,
        subject: &Subject,
    ) -> Result<Vec<Container>, Error> {
        let looked = if subject.everything || subject.containers.is_empty() {
            self.look_at_all(client, subject.everything)
        } else {
            let mut ids = subject.containers.iter();
            ids.try_for_each(|id| self.look_at(client, id, None))
        };
        if let Err(error) = looked {
            self.known.clear();
            return Err(error);
        }
        Ok(self.known.values().map(|known| known.container.clone()).collect())
    }

    fn look_at_all(&mut self, client: &mut Client, is_anew: bool) -> Result<(), Error> {
        if is_anew {
            self.known.clear();
        }
        let listed = client.running()?;
        let ids: BTreeSet<&String> = listed.iter().map(|listed| &listed.id).collect();
        self.known.retain(|id, _| ids.contains(id));
        for listed in listed {
            let known = self.known.get(&listed.id);
            // What is not settled has not been seen whole.
            let is_known = known.is_some_and(|known| {
                known.listed.as_ref() == Some(&listed) && known.container.is_settled()
            });
            if !is_known {
                let id = listed.id.clone();
                self.look_at(client, &id, Some(listed))?;
            }
        }
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
        Ok(())
    }
}
