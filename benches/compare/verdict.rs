//! What the speed has to be, and whether it is.

use std::fmt;

use crate::{
    figures::{
        Better::{self, Higher, Lower},
        Workload::{self, Beside, Bulk, Held, Idle, Redis, Short, Start},
    },
    peers::Peer,
    results::{Results, Series},
    sandbox::Pinning::{self, Free, OneCpu},
    stats::median,
    table::{number, short},
};

/// A bound on one figure of ambassador.
struct Bound {
    workload: Workload,
    pinning: Pinning,
    /// Its place among the figures of the workload.
    figure: usize,
    of: Of,
    must: f64,
    stretch: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Its ratio to HAProxy, plain or tuned, whichever is better there.
    Ratio,
    /// The figure itself.
    Value,
}

const fn ratio(
    workload: Workload,
    pinning: Pinning,
    figure: usize,
    must: f64,
    stretch: f64,
) -> Bound {
    Bound { workload, pinning, figure, of: Of::Ratio, must, stretch: Some(stretch) }
}

const fn value(workload: Workload, figure: usize, must: f64, stretch: Option<f64>) -> Bound {
    Bound { workload, pinning: OneCpu, figure, of: Of::Value, must, stretch }
}

const BOUNDS: [Bound; 16] = [
    ratio(Bulk(1), OneCpu, 0, 1.10, 0.95),
    ratio(Bulk(8), OneCpu, 0, 1.10, 0.95),
    ratio(Bulk(8), Free, 1, 1.0, 1.1),
    Bound { stretch: None, ..ratio(Beside, OneCpu, 0, 0.1, 0.1) },
    ratio(Redis { clients: 1, pipeline: 1 }, OneCpu, 0, 1.08, 1.15),
    ratio(Redis { clients: 50, pipeline: 1 }, OneCpu, 0, 0.65, 0.9),
    ratio(Redis { clients: 50, pipeline: 16 }, OneCpu, 0, 0.65, 0.9),
    ratio(Short(1), OneCpu, 0, 1.08, 1.15),
    ratio(Short(16), OneCpu, 0, 0.82, 1.0),
    value(Idle(1000), 0, 17.0, Some(9.0)),
    value(Idle(1000), 1, 68.0, Some(56.0)),
    value(Idle(5000), 0, 17.0, Some(9.0)),
    value(Idle(5000), 1, 68.0, Some(56.0)),
    // How many is up to the limits it finds; this many it takes by default.
    value(Held, 0, 2048.0, Some(9500.0)),
    value(Held, 1, 0.0, None),
    value(Start, 0, 3.0, None),
];

/// Readings of two equal programs differ by as much.
const LEVEL: f64 = 0.03;

/// One line below the table.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) must: String,
    pub(crate) found: String,
    pub(crate) met: bool,
    /// Whether what would be better still is met too, if there is such a bound.
    pub(crate) stretch: Option<bool>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.met { "met   " } else { "MISSED" };
        let stretch = match self.stretch {
            Some(true) => ", and the stretch",
            _ => "",
        };
        write!(f, "{outcome}  {}: {}{stretch}", self.must, self.found)
    }
}

/// On everything that was measured.
pub(crate) fn all(results: &Results) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> =
        BOUNDS.iter().filter_map(|bound| bound.judge(results)).collect();
    // With a process for each connection there is no common limit to run into.
    let everything = |series: &Series, _: usize| series.workload != Held;
    let bulk_and_small =
        |series: &Series, figure| matches!((series.workload, figure), (Bulk(_) | Beside, 0));
    let one_short = |series: &Series, figure| (series.workload, figure) == (Short(1), 0);
    verdicts.extend(ahead_of(results, Peer::Socat, "every line", 0.0, everything));
    for peer in [Peer::Nginx, Peer::SocketProxyd, Peer::DockerProxy] {
        let what = "bulk CPU and small p50 beside bulk";
        verdicts.extend(ahead_of(results, peer, what, 0.0, bulk_and_small));
        verdicts.extend(ahead_of(results, peer, "short c=1", LEVEL, one_short));
    }
    verdicts.extend(cost_of_metrics(results));
    verdicts
}

/// What collecting metrics every second costs. Of all workloads together: the readings of
/// one differ by more than that.
fn cost_of_metrics(results: &Results) -> Option<Verdict> {
    const MUST: f64 = 0.98;
    let ratios: Vec<f64> = results.series.iter().flat_map(Series::watched).collect();
    let found = median(ratios.iter().copied())?;
    Some(Verdict {
        must: format!("rates while metrics are collected every second >= {MUST} of those without"),
        found: format!("{found:.3} (median of {} pairs)", ratios.len()),
        met: found >= MUST,
        stretch: None,
    })
}

impl Bound {
    fn judge(&self, results: &Results) -> Option<Verdict> {
        let series = results.of(self.workload, self.pinning)?;
        let figure = self.workload.figures().get(self.figure)?;
        let (found, of) = match self.of {
            Of::Ratio => (series.ratio_to_haproxy(self.figure)?, "of HAProxy's"),
            Of::Value => (series.median(Peer::Ambassador, self.figure)?, figure.unit),
        };
        let keeps = |bound: f64| match figure.better {
            Lower => found <= bound,
            Higher => found >= bound,
        };
        let sign = if figure.better == Lower { "<=" } else { ">=" };
        let place = if self.pinning == Free { ", unpinned" } else { "" };
        let text = match self.of {
            Of::Ratio => short(found) + &spread(series, self.figure),
            Of::Value => number(found, figure.decimals),
        };
        Some(Verdict {
            must: format!("{}{place} {sign} {} {of}", series.name_of(self.figure), self.must),
            found: text,
            met: keeps(self.must),
            stretch: self.stretch.map(keeps),
        })
    }
}

/// The least and the largest ratio of any round: how sure the median is.
fn spread(series: &Series, figure: usize) -> String {
    let Some(peer) = series.haproxy(figure) else { return String::new() };
    let ratios = series.ratios(peer, figure);
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    format!(" ({} to {})", short(least), short(most))
}

/// `None` where nothing of it was measured.
fn ahead_of(
    results: &Results,
    peer: Peer,
    what: &str,
    tolerance: f64,
    counts: impl Fn(&Series, usize) -> bool,
) -> Option<Verdict> {
    let mut lines = 0;
    let mut behind = Vec::new();
    for series in results.series.iter().filter(|series| series.pinning == OneCpu) {
        for (index, figure) in series.workload.figures().iter().enumerate() {
            let Some(ratio) = series.ratio(peer, index).filter(|_| counts(series, index)) else {
                continue;
            };
            lines += 1;
            if !is_ahead(figure.better, ratio, tolerance) {
                behind.push(format!("{} {}", series.name_of(index), short(ratio)));
            }
        }
    }
    let relation = if tolerance > 0.0 { "level with or ahead of" } else { "ahead of" };
    (lines > 0).then(|| Verdict {
        must: format!("{relation} {}, {what}", peer.name()),
        found: match behind.len() {
            0 => format!("{lines} of {lines}"),
            _ => format!("{} of {lines}, but not {}", lines - behind.len(), behind.join(", ")),
        },
        met: behind.is_empty(),
        stretch: None,
    })
}

fn is_ahead(better: Better, ratio: f64, tolerance: f64) -> bool {
    match better {
        Lower => ratio <= 1.0 + tolerance,
        Higher => ratio >= 1.0 - tolerance,
    }
}
