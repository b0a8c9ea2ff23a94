//! The work itself: each gives one reading of one proxy.

mod bulk;
mod redis;
mod short;
mod still;

use std::{collections::BTreeMap, io, path::Path, time::Duration};

pub(crate) use self::still::{HELD_GOAL, held, idle, start};
use crate::{figures::Workload, front::Front, peers::Peer, redis::Redis, upstream::Upstream};

/// What a workload found, in the order of its figures; `None` where a figure
/// does not apply, as the CPU time of no proxy.
pub(crate) type Reading = Vec<Option<f64>>;

/// One proxy as a workload sees it.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) local: &'a Front,
    pub(crate) redis: Option<&'a Front>,
}

/// The far ends, and how long to look.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) upstream: &'a Upstream,
    pub(crate) redis: Option<&'a Redis>,
    pub(crate) scratch: &'a Path,
    pub(crate) window: Duration,
}

/// Runs one of `Workload::SPEED`.
pub(crate) fn speed(workload: Workload, scene: &Scene, subject: &Subject) -> io::Result<Reading> {
    match workload {
        Workload::Bulk(streams) => bulk::alone(scene, subject.local, streams),
        Workload::Beside => bulk::beside(scene, subject.local),
        Workload::Redis { clients, pipeline } => {
            let (Some(redis), Some(front)) = (scene.redis, subject.redis) else {
                return Err(io::Error::other("redis is not installed"));
            };
            redis::rate(redis, front, clients, pipeline, scene.window)
        }
        Workload::Short(clients) => short::rate(scene, subject.local, clients),
        Workload::Start | Workload::Idle(_) | Workload::Held => {
            Err(io::Error::other("not a matter of speed"))
        }
    }
}

/// What can only be said once every proxy has its reading of the round.
pub(crate) fn compare(workload: Workload, readings: &mut BTreeMap<Peer, Reading>) {
    if let Workload::Bulk(_) = workload {
        bulk::beyond_direct(readings);
    }
}
