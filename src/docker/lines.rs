//! The lines of a body that never ends.

use super::Problem;

/// Joins the pieces of a stream to lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// Longest line, with its end.
    limit: usize,
    /// What has arrived of the next line.
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Lines { limit, line: Vec::new() }
    }

    /// Calls `each` for every line that ends in `piece` and is not blank. A piece is not
    /// a line: it may hold a part of one, or several.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + part.len() > self.limit {
                return Err(Problem::EventTooLarge);
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                if !self.line.trim_ascii().is_empty() {
                    each(&self.line)?;
                }
                self.line.clear();
            }
        }
        Ok(())
    }
}
