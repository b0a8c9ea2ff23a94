//! Tables for people.

use std::fmt::Write;

use crate::report::Printable;

/// Columns as wide as they must be, two blanks apart. The first row is their heads.
///
/// What comes from elsewhere must not move the reader's cursor, so it is escaped.
pub(super) fn table<R: AsRef<[String]>>(rows: &[R]) -> String {
    let shown = |row: &R| row.as_ref().iter().map(|cell| Printable(cell).to_string()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut table = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}
