//! Readings, round by round, and what they come to.

use std::collections::BTreeMap;

use crate::{
    figures::{Better, Workload},
    peers::Peer,
    sandbox::Pinning,
    stats::median,
    workloads::Reading,
};

/// All rounds of one workload.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) workload: Workload,
    pub(crate) pinning: Pinning,
    pub(crate) rounds: Vec<BTreeMap<Peer, Reading>>,
}

#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) series: Vec<Series>,
}

impl Results {
    pub(crate) fn add(
        &mut self,
        workload: Workload,
        pinning: Pinning,
        round: BTreeMap<Peer, Reading>,
    ) {
        match self.series.iter_mut().find(|series| series.is(workload, pinning)) {
            Some(series) => series.rounds.push(round),
            None => self.series.push(Series { workload, pinning, rounds: vec![round] }),
        }
    }

    pub(crate) fn of(&self, workload: Workload, pinning: Pinning) -> Option<&Series> {
        self.series.iter().find(|series| series.is(workload, pinning))
    }
}

impl Series {
    fn is(&self, workload: Workload, pinning: Pinning) -> bool {
        (self.workload, self.pinning) == (workload, pinning)
    }

    /// One line of the table, by name.
    pub(crate) fn name_of(&self, figure: usize) -> String {
        let name = self.workload.figures().get(figure).map_or("", |figure| figure.name);
        format!("{} {name}", self.workload.title()).trim_end().to_owned()
    }

    pub(crate) fn median(&self, peer: Peer, figure: usize) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| value(round, peer, figure)))
    }

    /// Ambassador's value by the other's of the same round, all rounds.
    pub(crate) fn ratios(&self, to: Peer, figure: usize) -> Vec<f64> {
        let ratio = |round| {
            let (own, other) = (value(round, Peer::Ambassador, figure)?, value(round, to, figure)?);
            (other > 0.0).then_some(own / other)
        };
        self.rounds.iter().filter_map(ratio).collect()
    }

    pub(crate) fn ratio(&self, to: Peer, figure: usize) -> Option<f64> {
        median(self.ratios(to, figure))
    }

    /// Ambassador's rate while its metrics are collected by its rate while they are not, of
    /// all rounds.
    pub(crate) fn watched(&self) -> Vec<f64> {
        let rate = self.workload.figures().iter().position(|it| it.better == Better::Higher);
        rate.map_or(Vec::new(), |rate| {
            self.ratios(Peer::Watched, rate).into_iter().map(f64::recip).collect()
        })
    }

    /// HAProxy as it was better here: plain or tuned. By the medians, since
    /// the better of two readings in each round would favour luck.
    pub(crate) fn haproxy(&self, figure: usize) -> Option<Peer> {
        let candidates = [Peer::Haproxy, Peer::HaproxyTuned];
        let known = candidates.into_iter().filter_map(|peer| {
            let value = self.median(peer, figure)?;
            let order = match self.workload.figures().get(figure)?.better {
                Better::Lower => value,
                Better::Higher => -value,
            };
            Some((peer, order))
        });
        known.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(peer, _)| peer)
    }

    pub(crate) fn ratio_to_haproxy(&self, figure: usize) -> Option<f64> {
        self.ratio(self.haproxy(figure)?, figure)
    }
}

fn value(round: &BTreeMap<Peer, Reading>, peer: Peer, figure: usize) -> Option<f64> {
    round.get(&peer)?.get(figure).copied().flatten()
}
