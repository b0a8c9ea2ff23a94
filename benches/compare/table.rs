//! The one table of all results, as text for a terminal and as Markdown.

use crate::{
    figures::{Better, Rank, Workload},
    peers::Peer,
    results::{Results, Series},
    sandbox::Pinning,
};

/// A heading, and rows of as many cells.
#[derive(Debug)]
pub(crate) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// All figures, or the headlines alone.
    pub(crate) fn new(results: &Results, peers: &[Peer], all: bool) -> Self {
        let is_column = |peer: &Peer| *peer != Peer::Watched;
        let peers: Vec<Peer> = peers.iter().copied().filter(is_column).collect();
        let mut heading = vec!["".to_owned(), "".into(), "vs HAProxy".into()];
        heading.extend(peers.iter().map(|peer| peer.name().to_owned()));
        let mut rows = Vec::new();
        for series in &results.series {
            for (index, figure) in series.workload.figures().iter().enumerate() {
                if figure.rank == Rank::Headline || (all && series.pinning == Pinning::OneCpu) {
                    rows.push(row(series, index, &peers));
                }
            }
        }
        Self { heading, rows }
    }

    pub(crate) fn text(&self) -> String {
        let widths = self.widths();
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells
                .iter()
                .enumerate()
                .map(|(column, cell)| pad(cell, widths[column], column))
                .collect();
            cells.join(" ").trim_end().to_owned() + "\n"
        };
        self.lines().map(line).collect()
    }

    pub(crate) fn markdown(&self) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for (number, cells) in self.lines().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                text += &format!("| {} ", pad(cell, widths[column], column));
            }
            text += "|\n";
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width.saturating_sub(1));
                    text +=
                        &if column < 2 { format!("| -{dashes} ") } else { format!("| {dashes}: ") };
                }
                text += "|\n";
            }
        }
        text
    }

    fn lines(&self) -> impl Iterator<Item = &[String]> {
        [self.heading.as_slice()].into_iter().chain(self.rows.iter().map(Vec::as_slice))
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            self.lines().map(|cells| cells[column].chars().count().max(3)).max().unwrap_or(3)
        };
        (0..self.heading.len()).map(width).collect()
    }
}

/// Words to the left, numbers to the right.
fn pad(cell: &str, width: usize, column: usize) -> String {
    if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
}

fn row(series: &Series, index: usize, peers: &[Peer]) -> Vec<String> {
    let figure = &series.workload.figures()[index];
    let place = match series.pinning {
        Pinning::Free => ", unpinned",
        Pinning::OneCpu => "",
    };
    let arrow = match figure.better {
        Better::Lower => '↓',
        Better::Higher => '↑',
    };
    let ratio = match series.workload {
        Workload::Held => None,
        _ => series.ratio_to_haproxy(index),
    };
    let mut cells = vec![
        format!("{}{place}", series.name_of(index)),
        format!("{} {arrow}", figure.unit),
        ratio.map_or("-".into(), short),
    ];
    cells.extend(peers.iter().map(|&peer| {
        let value = series.median(peer, index);
        value.map_or("-".into(), |value| number(value, figure.decimals))
    }));
    cells
}

/// Two decimals; one more for a small one, which would lose its meaning.
pub(crate) fn short(ratio: f64) -> String {
    if ratio < 0.1 { format!("{ratio:.3}") } else { format!("{ratio:.2}") }
}

/// With a comma between thousands, as `32,700`.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if decimals > 0 {
        return text;
    }
    let mut grouped = String::new();
    for (index, digit) in text.chars().enumerate() {
        if index > 0 && digit.is_ascii_digit() && (text.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
