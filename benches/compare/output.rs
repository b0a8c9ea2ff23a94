//! The results as files: JSON for programs, the table for the README.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde_json::{Value, json};

use crate::{
    machine::Machine,
    peers::Peer,
    results::{Results, Series},
    sandbox::Pinning,
    table::Table,
    verdict::Verdict,
};

/// The README keeps what is between these two lines for this program.
const BEGIN: &str = "<!-- bench: begin, written by `make bench` -->";
const END: &str = "<!-- bench: end -->";

/// Of the prose around the table.
const WIDTH: usize = 118;

/// How to read the table.
const NOTE: &str = "Everything over loopback and on one CPU, unless it says unpinned; medians of \
    interleaved rounds. ↓ lower is better, ↑ higher. \"vs HAProxy\" is the median of \
    ambassador's value by the value of haproxy or hap-tuned (splice and 1 MiB pipes), whichever \
    is better on that line, in the same round. \"direct\" is no proxy at all. CPU of bulk is what \
    sender, proxy and receiver use together, less what they use without a proxy; other CPU and \
    memory are the proxy's own. Memory is per connection.";

pub(crate) fn json(
    file: &Path,
    machine: &Machine,
    results: &Results,
    verdicts: &[Verdict],
) -> io::Result<()> {
    let verdicts: Vec<Value> = verdicts
        .iter()
        .map(|verdict| {
            json!({
                "must": verdict.must, "found": verdict.found,
                "met": verdict.met, "stretch": verdict.stretch,
            })
        })
        .collect();
    let document = json!({
        "machine": {
            "processor": machine.processor,
            "cpus": machine.cpus,
            "kernel": machine.kernel,
            "versions": machine.versions.iter().cloned().collect::<BTreeMap<_, _>>(),
            "ambassador_bytes": machine.binary_bytes,
        },
        "figures": results.series.iter().flat_map(figures).collect::<Vec<_>>(),
        "verdicts": verdicts,
    });
    fs::write(file, format!("{document:#}\n"))
}

fn figures(series: &Series) -> impl Iterator<Item = Value> {
    series.workload.figures().iter().enumerate().map(|(index, figure)| {
        let peers = Peer::ALL.iter().filter_map(|&peer| {
            let value = series.median(peer, index)?;
            Some((
                peer.name().to_owned(),
                json!({
                    "median": value,
                    "rounds": series.rounds.iter()
                        .map(|round| round.get(&peer).and_then(|reading| reading[index]))
                        .collect::<Vec<_>>(),
                }),
            ))
        });
        json!({
            "workload": series.workload.name(),
            "figure": figure.name,
            "unit": figure.unit,
            "better": format!("{:?}", figure.better).to_lowercase(),
            "cpus": if series.pinning == Pinning::OneCpu { "one" } else { "all" },
            "haproxy": series.haproxy(index).map(Peer::name),
            "ratio_to_haproxy": series.ratio_to_haproxy(index),
            "peers": peers.collect::<serde_json::Map<_, _>>(),
        })
    })
}

/// Replaces what stands between the two markers, and nothing else.
pub(crate) fn readme(file: &Path, table: &Table, machine: &Machine) -> io::Result<()> {
    let text = fs::read_to_string(file)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        let message = format!("{}: the lines {BEGIN:?} and {END:?} are missing", file.display());
        return Err(io::Error::other(message));
    };
    let (table, machine) = (table.markdown(), wrap(&machine.describe()));
    let note = wrap(NOTE);
    fs::write(file, format!("{before}{BEGIN}\n\n{table}\n{note}\n\n{machine}\n\n{END}{after}"))
}

/// Breaks between words, so that no line is longer than `WIDTH`.
fn wrap(text: &str) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in text.split(' ') {
        let needed = word.chars().count() + 1;
        if length > 0 {
            lines.push(if length + needed > WIDTH { '\n' } else { ' ' });
            length = if length + needed > WIDTH { 0 } else { length };
        }
        lines += word;
        length += needed;
    }
    lines
}
