//! Holds what clients saw against what really was.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use super::clients::{Outcome, Visit};
use super::history::{History, Scope};
use super::registry::Write;
use super::world::{CONTAINERS, TTL};

/// How long an entry may outlive what it stands for: its TTL, what etcd needs to
/// notice, and what the change needs to get to a proxy.
const STALE: Duration = Duration::from_millis(TTL.as_millis() as u64 + 1500);

/// How long a client is held, less what the clocks of two processes may differ.
const WAIT: Duration = Duration::from_millis(9800);

/// Once nothing is wrong any more, a service is reachable again within this: the
/// longest pauses between two attempts to reach Docker and etcd, and an election.
const RECOVERY: Duration = Duration::from_secs(6);

/// What came of all visits.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) visits: usize,
    pub(super) bytes: usize,
    /// Visits by what became of them.
    pub(super) counts: BTreeMap<&'static str, usize>,
    pub(super) longest_hold: Duration,
    pub(super) writes: usize,
    /// What must not have happened.
    pub(super) violations: Vec<String>,
}

pub(super) fn judge(visits: &[Visit], history: &History, began: Instant) -> Verdict {
    let mut verdict = Verdict::default();
    for visit in visits {
        verdict.visits += 1;
        verdict.bytes += visit.bytes;
        if let Some((at, _)) = &visit.server {
            verdict.longest_hold = verdict.longest_hold.max(*at - visit.began);
        }
        let at = (visit.began - began).as_secs_f64();
        for judged in [judge_server(visit, history), judge_end(visit, history)] {
            match judged {
                Ok(what) => verdict.count(what),
                Err(what) => verdict.violations.push(format!("at {at:.3} s: {what}: {visit:?}")),
            }
        }
        match judge_hold(visit, history) {
            None => {}
            Some(Ok(what)) => verdict.count(what),
            Some(Err(what)) => verdict.violations.push(format!("at {at:.3} s: {what}: {visit:?}")),
        }
    }
    verdict
}

impl Verdict {
    /// Judges what registrars wrote under `keys`, which are those of `CONTAINERS`.
    pub(super) fn judge_writes(
        &mut self,
        writes: &[Write],
        keys: &[String],
        history: &History,
        began: Instant,
    ) {
        for write in writes {
            self.writes += 1;
            let place = keys.iter().position(|key| *key == write.key);
            let judged = match place {
                Some(place) => judge_write(write, &CONTAINERS[place], history),
                None => Err("a key that nobody was asked to write".to_owned()),
            };
            if let Err(what) = judged {
                let at = (write.at - began).as_secs_f64();
                self.violations.push(format!("at {at:.3} s: {what}: {write:?}"));
            }
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

/// Whether the client may have reached the server that it did.
fn judge_server(visit: &Visit, history: &History) -> Result<&'static str, String> {
    let Some((at, id)) = &visit.server else { return Ok("not answered") };
    let run = history.run(id, *at).ok_or("a server that never was")?;
    let is_right = run.service == visit.service;
    let gone = if is_right {
        history.gone_for(run, visit.began, *at, &CONTROL)
    } else {
        // Its port was another's before.
        let before = history.predecessor(visit.service, run, *at);
        let before = before.ok_or("a server of another service, at an address never its own")?;
        Some(history.gone_for(before, visit.began, *at, &CONTROL).unwrap_or_default())
    };
    match gone {
        None => Ok("answered by an instance of the service"),
        Some(gone) if gone > STALE => Err(format!("a server that was gone for {gone:?}")),
        Some(_) if is_right => Ok("answered by one that had just left"),
        Some(_) => Ok("answered by another service, within the TTL"),
    }
}

/// Whether a registrar may have written this. One that stood still is no exception: it
/// has to look at Docker before it writes.
fn judge_write(
    write: &Write,
    place: &(&'static str, &str, usize),
    history: &History,
) -> Result<(), String> {
    let value: serde_json::Value =
        serde_json::from_str(&write.value).map_err(|error| format!("not JSON: {error}"))?;
    let address = format!("{}:{}", value["host"].as_str().unwrap_or_default(), value["port"]);
    let run = history.run_at(place.0, &address, write.at);
    let run = run.ok_or("an address that the container never had")?;
    let scopes = [Scope::Host(place.2), Scope::Etcd, Scope::RegistrarLinks];
    match history.gone_for(run, write.at, write.at, &scopes) {
        Some(gone) if gone > LATE => Err(format!("an address that was gone for {gone:?}")),
        _ => Ok(()),
    }
}

/// Between the end of a run and the last write of its address.
const LATE: Duration = Duration::from_millis(1500);

/// What stands between the end of an instance and the proxies' knowledge of it.
const CONTROL: [Scope; 2] = [Scope::Etcd, Scope::ProxyLinks];

/// Whether the client may have waited for its answer as long as it did, if that was long.
/// Proxies that
/// cannot reach etcd are no reason: they know what they knew.
fn judge_hold(visit: &Visit, history: &History) -> Option<Result<&'static str, String>> {
    let (at, id) = visit.server.as_ref()?;
    if *at - visit.began < HOLD {
        return None;
    }
    // One that is paused takes connections, and answers later.
    let was_paused = history.run(id, *at).is_some_and(|run| !run.was_there(visit.began, *at));
    let places = CONTAINERS.iter().filter(|(_, of, _)| *of == visit.service);
    let was_known = places.filter_map(|place| {
        let scopes = [&scopes_of(place)[..], &[Scope::Etcd]].concat();
        history.calm_since(*at, &scopes)
    });
    let mut was_known = was_known
        .map(|since| history.longest_calm(since, visit.began.max(since), &[Scope::ProxyLinks]));
    let was_known = was_known.any(|calm| calm > RECOVERY);
    if was_known && !was_paused {
        return Some(Err(format!(
            "held for {:?}, though an instance was known",
            *at - visit.began
        )));
    }
    Some(Ok("held for more than 2 s, and served"))
}

/// What may be wrong with one instance's way into etcd.
fn scopes_of((name, _, host): &(&'static str, &str, usize)) -> [Scope; 4] {
    let host = Scope::Host(*host);
    [Scope::Container(name), Scope::Registrar(name), host, Scope::RegistrarLinks]
}

/// A longer wait needs a reason.
const HOLD: Duration = Duration::from_secs(2);

/// Whether the connection may have ended as it did.
fn judge_end(visit: &Visit, history: &History) -> Result<&'static str, String> {
    let Visit { service, began, ended, .. } = visit;
    match &visit.outcome {
        Outcome::Whole => return Ok("whole"),
        Outcome::Wrong(what) => return Err(format!("wrong bytes: {what}")),
        Outcome::Failed(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            return Err("a hang".to_owned());
        }
        Outcome::Truncated | Outcome::Failed(_) => {}
    }
    let may_have_ended = match &visit.server {
        // One that restarts at that moment calls itself the same before and after.
        Some((_, id)) => {
            history.runs.iter().any(|run| run.id == *id && run.ended_between(*began, *ended))
        }
        // Whoever it was that accepted.
        None => history.runs.iter().any(|run| run.ended_between(*began, *ended)),
    };
    if may_have_ended {
        return Ok("cut with their instance");
    }
    if visit.server.is_none() && *ended - *began >= WAIT {
        let calm = CONTAINERS.iter().filter(|(_, of, _)| of == service);
        let calm = calm.map(|place| {
            let scopes = [&scopes_of(place)[..], &CONTROL].concat();
            history.longest_calm(*began, *ended, &scopes)
        });
        return match calm.max() {
            Some(calm) if calm > RECOVERY => {
                Err(format!("in vain, though all was well for {calm:?}"))
            }
            _ => Ok("in vain, while no instance could be reached for 10 s"),
        };
    }
    Err("lost".to_owned())
}
