//! `make bench`: ambassador beside other TCP proxies, doing the same work in
//! the same minute on the same machine. Absolute numbers say something about
//! the machine; the ratios say something about the programs.
#![allow(
    clippy::disallowed_methods,
    reason = "its threads end with the measurement they belong to, and its waits are bounded"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

/// Tells whoever is watching; the table alone goes to stdout.
macro_rules! say {
    ($($argument:tt)*) => { eprintln!("compare: {}", format_args!($($argument)*)) };
}

mod args;
mod cgroup;
mod client;
mod figures;
mod front;
mod ledger;
mod machine;
mod meter;
mod output;
mod peers;
mod process;
mod redis;
mod results;
mod rounds;
mod sandbox;
mod scraper;
mod stats;
mod table;
mod upstream;
mod verdict;
mod workloads;

use std::{
    env, io,
    path::Path,
    process::{ExitCode, id},
    time::{Duration, Instant},
};

use clap::Parser;

use crate::{
    args::Args,
    figures::Workload,
    machine::Machine,
    peers::Peer,
    results::Results,
    rounds::Plan,
    sandbox::{Cpus, Pinning},
    table::Table,
};

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(err) = args.check() {
        say!("{err}");
        return ExitCode::from(2);
    }
    let outcome = sandbox::enter().and_then(|()| ledger::watch_signals()).and_then(|()| {
        let scratch = env::temp_dir().join(format!("ambassador-bench-{}", id()));
        ledger::make_directory(&scratch)?;
        let outcome = compare(&args, &scratch);
        ledger::remove_directory(&scratch);
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            say!("{err}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args, scratch: &Path) -> io::Result<()> {
    let peers = present();
    let machine = Machine::this(&peers);
    say!(
        "{} with {} bytes; {}",
        peers::ambassador().display(),
        machine.binary_bytes,
        machine.describe()
    );
    let cpus = Cpus::of_this_process()?;
    let plan = Plan {
        peers: &peers,
        rounds: args.rounds(),
        window: Duration::from_millis(if args.quick { 200 } else { 400 }),
        scratch,
        cpus: &cpus,
        descriptors: sandbox::raise_descriptors(),
    };
    let results = run(args, &plan)?;
    report(args, &machine, &results, &peers)
}

/// All that is asked for, the pinned rounds first.
fn run(args: &Args, plan: &Plan) -> io::Result<Results> {
    let mut results = Results::default();
    let started = Instant::now();
    // More rounds than usual may take longer than usual.
    let scale = (plan.rounds as u32).div_ceil(5);
    let minutes = |pinned, free| (started + pinned * scale, started + free * scale);
    let (pinned_until, free_until) = match args.quick {
        true => minutes(Duration::from_secs(65), Duration::from_secs(85)),
        false => minutes(Duration::from_secs(13 * 60), Duration::from_secs(19 * 60)),
    };
    let wanted: Vec<_> =
        Workload::SPEED.into_iter().filter(|&workload| args.wants(workload)).collect();
    plan.speed(Pinning::OneCpu, &wanted, pinned_until, &mut results)?;
    // A quick look takes from the free rounds what is worth most there.
    let free: Vec<_> =
        wanted.into_iter().filter(|&w| !args.quick || w == Workload::Bulk(8)).collect();
    plan.speed(Pinning::Free, &free, free_until, &mut results)?;
    let still =
        if args.quick && args.wants_all() { &QUICK_STILL[..] } else { &Workload::STILL[..] };
    for &(workload, rounds) in still {
        if args.wants(workload) {
            plan.still(workload, rounds, &mut results)?;
        }
    }
    say!("measured in {:.0} s", started.elapsed().as_secs_f64());
    Ok(results)
}

/// As `Workload::STILL`, of a quick run.
const QUICK_STILL: [(Workload, usize); 2] = [(Workload::Start, 5), (Workload::Idle(1000), 1)];

fn report(args: &Args, machine: &Machine, results: &Results, peers: &[Peer]) -> io::Result<()> {
    println!("{}", Table::new(results, peers, true).text());
    println!("{}\n", machine.describe());
    let verdicts = verdict::all(results);
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if let Some(file) = &args.json {
        output::json(file, machine, results, &verdicts)?;
    }
    if let Some(file) = &args.readme {
        output::readme(file, &Table::new(results, peers, false), machine)?;
    }
    Ok(())
}

/// Those that can run here; what is missing is said, so that a table with a
/// column less surprises nobody.
fn present() -> Vec<Peer> {
    let (present, absent): (Vec<_>, Vec<_>) =
        Peer::ALL.into_iter().partition(|peer| peer.missing().is_none());
    for peer in absent {
        say!("LEFT OUT: {}: {} is missing", peer.name(), peer.missing().unwrap_or_default());
    }
    present
}
