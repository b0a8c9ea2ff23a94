//! What may be typed after `cargo bench --bench compare --`.

use std::path::PathBuf;

use clap::Parser;

use crate::figures::Workload;

/// Compares ambassador with other TCP proxies, all on this machine and over loopback.
///
/// The rounds are interleaved: in each, every proxy gets the same work, in rotated order.
#[derive(Debug, Parser)]
#[command(name = "compare", max_term_width = 100)]
pub(crate) struct Args {
    /// Rounds of each speed measurement, 1 to 100. [default: 5; 3 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Shorter windows and fewer of them: under 2 minutes, for a first look.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only measurements whose name begins so; may be repeated. The names: bulk-1, bulk-8,
    /// beside, redis-c1, redis-c50, redis-c1-p16, redis-c50-p16, short-c1, short-c16,
    /// start, idle-1000, idle-5000, held.
    #[arg(long, value_name = "MEASURE")]
    only: Vec<String>,
    /// Write every reading, the medians and the verdicts there.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Rewrite the table between the two `bench` markers of this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) readme: Option<PathBuf>,
    /// What cargo adds to the arguments of every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 3 } else { 5 }, |rounds| rounds as usize)
    }

    /// Refuses a name that would measure nothing.
    pub(crate) fn check(&self) -> Result<(), String> {
        let fits = |wanted: &&String| {
            Workload::all().any(|workload| workload.name().starts_with(wanted.as_str()))
        };
        match self.only.iter().find(|wanted| !fits(wanted)) {
            Some(wanted) => Err(format!("--only {wanted:?}: no measurement begins so; see --help")),
            None => Ok(()),
        }
    }

    pub(crate) fn wants_all(&self) -> bool {
        self.only.is_empty()
    }

    pub(crate) fn wants(&self, workload: Workload) -> bool {
        let name = workload.name();
        self.only.is_empty() || self.only.iter().any(|wanted| name.starts_with(wanted.as_str()))
    }
}
