//! What is measured: the workloads, and the figures each of them yields.

use crate::sandbox::Pinning::{self, OneCpu};

/// One kind of work that every proxy gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// So many streams that send as fast as they can.
    Bulk(usize),
    /// One client of small requests, while 4 bulk streams run.
    Beside,
    Redis {
        clients: u32,
        pipeline: u32,
    },
    /// Connect, one byte there and back, close; by so many clients at a time.
    Short(usize),
    /// From starting the process to its first echoed byte.
    Start,
    /// Memory of so many connections that do nothing.
    Idle(usize),
    /// How many connections 20,000 descriptors are enough for.
    Held,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) decimals: usize,
    pub(crate) rank: Rank,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// Where a figure is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    /// In every table.
    Headline,
    /// In the printed table of the pinned run, and in the JSON.
    Detail,
}

const fn figure(
    name: &'static str,
    unit: &'static str,
    better: Better,
    decimals: usize,
    rank: Rank,
) -> Figure {
    Figure { name, unit, better, decimals, rank }
}

use Better::{Higher, Lower};
use Rank::{Detail, Headline};

const BULK: [Figure; 3] = [
    figure("CPU", "s/GB", Lower, 3, Headline),
    figure("speed", "GB/s", Higher, 2, Headline),
    figure("charged CPU", "s/GB", Lower, 3, Detail),
];
const BESIDE: [Figure; 3] = [
    figure("p50", "us", Lower, 0, Headline),
    figure("p99", "us", Lower, 0, Headline),
    figure("bulk", "GB/s", Higher, 2, Detail),
];
const REDIS: [Figure; 4] = [
    figure("rate", "req/s", Higher, 0, Headline),
    figure("p50", "us", Lower, 0, Detail),
    figure("p99", "us", Lower, 0, Detail),
    figure("CPU", "us/req", Lower, 2, Detail),
];
const SHORT: [Figure; 3] = [
    figure("rate", "conn/s", Higher, 0, Headline),
    figure("p99", "us", Lower, 0, Detail),
    figure("CPU", "us/conn", Lower, 1, Detail),
];
const START: [Figure; 1] = [figure("", "ms", Lower, 1, Headline)];
const IDLE: [Figure; 2] =
    [figure("RSS", "KiB", Lower, 1, Headline), figure("with kernel", "KiB", Lower, 1, Headline)];
const HELD: [Figure; 2] =
    [figure("", "alive", Higher, 0, Headline), figure("lost", "count", Lower, 0, Detail)];

impl Workload {
    /// Those whose speed is compared in many rounds, pinned and free.
    pub(crate) const SPEED: [Self; 9] = [
        Self::Bulk(1),
        Self::Bulk(8),
        Self::Beside,
        Self::Redis { clients: 1, pipeline: 1 },
        Self::Redis { clients: 50, pipeline: 1 },
        Self::Redis { clients: 1, pipeline: 16 },
        Self::Redis { clients: 50, pipeline: 16 },
        Self::Short(1),
        Self::Short(16),
    ];

    /// Those that start every proxy afresh, and the rounds each gets: what they
    /// find hardly differs from round to round.
    pub(crate) const STILL: [(Self, usize); 4] =
        [(Self::Start, 9), (Self::Idle(1000), 3), (Self::Idle(5000), 1), (Self::Held, 1)];

    /// How often every proxy gets it in a round: several times where a must hangs on it and
    /// one reading differs from the next by a tenth.
    pub(crate) fn turns(self, pinning: Pinning) -> usize {
        match (self, pinning) {
            (Self::Bulk(8), _) => 3,
            (Self::Bulk(1) | Self::Short(1) | Self::Redis { clients: 1, pipeline: 1 }, OneCpu) => 3,
            _ => 1,
        }
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::SPEED.into_iter().chain(Self::STILL.map(|(workload, _)| workload))
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Bulk(streams) => format!("bulk-{streams}"),
            Self::Beside => "beside".into(),
            Self::Redis { clients, pipeline: 1 } => format!("redis-c{clients}"),
            Self::Redis { clients, pipeline } => format!("redis-c{clients}-p{pipeline}"),
            Self::Short(clients) => format!("short-c{clients}"),
            Self::Start => "start".into(),
            Self::Idle(connections) => format!("idle-{connections}"),
            Self::Held => "held".into(),
        }
    }

    /// How a table names it: at most 26 characters.
    pub(crate) fn title(self) -> String {
        match self {
            Self::Bulk(1) => "bulk, 1 stream".into(),
            Self::Bulk(streams) => format!("bulk, {streams} streams"),
            Self::Beside => "small beside 4 bulk".into(),
            Self::Redis { clients, pipeline: 1 } => format!("redis c={clients}"),
            Self::Redis { clients, pipeline } => format!("redis c={clients} P={pipeline}"),
            Self::Short(clients) => format!("short c={clients}"),
            Self::Start => "start to first byte".into(),
            Self::Idle(connections) => format!("1 of {connections} idle"),
            Self::Held => "held at nofile 20,000".into(),
        }
    }

    pub(crate) fn figures(self) -> &'static [Figure] {
        match self {
            Self::Bulk(_) => &BULK,
            Self::Beside => &BESIDE,
            Self::Redis { .. } => &REDIS,
            Self::Short(_) => &SHORT,
            Self::Start => &START,
            Self::Idle(_) => &IDLE,
            Self::Held => &HELD,
        }
    }
}
