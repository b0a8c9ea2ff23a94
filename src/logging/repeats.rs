//! Says what repeats once, and then how often it came.
//!
//! What is known to repeat, such as an outage, is said rarely where it arises. This is
//! for what nobody thought of: a line in a loop must drown neither the log nor the disk.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use log::Level;

use super::Line;

/// How long a line is not repeated.
const WINDOW: Duration = Duration::from_secs(10);

/// So many lines are remembered; of more that take turns, the oldest is said again.
const REMEMBERED: usize = 32;

/// How long to wait where nothing has to be said: any long time.
const NOTHING: Duration = Duration::from_secs(3600);

/// The lines of the last [`WINDOW`], the oldest first.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    recent: VecDeque<Recent>,
}

#[derive(Debug)]
struct Recent {
    line: Box<Line>,
    since: Instant,
    /// How often it came after it was written.
    count: u64,
}

impl Repeats {
    /// Writes `line`, unless it was written a moment ago. The thread is not compared:
    /// each connection has its own.
    ///
    /// Debug lines are written as they come: whoever asks for them wants each one, and
    /// there may be many.
    pub(super) fn pass(&mut self, line: Box<Line>, now: Instant, write: &mut impl FnMut(&Line)) {
        if line.level > Level::Info {
            return write(&line);
        }
        let is_same = |other: &Line| other.level == line.level && other.message == line.message;
        match self.recent.iter_mut().find(|recent| is_same(&recent.line)) {
            Some(recent) => recent.count += 1,
            None => {
                write(&line);
                if self.recent.len() == REMEMBERED {
                    self.forget_oldest(now, write);
                }
                self.recent.push_back(Recent { line, since: now, count: 0 });
            }
        }
    }

    /// Says how often lines came whose time is over. Those that did are remembered on.
    pub(super) fn say_due(&mut self, now: Instant, write: &mut impl FnMut(&Line)) {
        while let Some(oldest) = self.recent.front()
            && now.duration_since(oldest.since) >= WINDOW
        {
            if let Some(line) = self.forget_oldest(now, write) {
                self.recent.push_back(Recent { line, since: now, count: 0 });
            }
        }
    }

    /// The same for all lines, at the end.
    pub(super) fn say_rest(&mut self, now: Instant, write: &mut impl FnMut(&Line)) {
        while !self.recent.is_empty() {
            self.forget_oldest(now, write);
        }
    }

    /// Until `say_due` has something to say.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        let first = self.recent.iter().find(|recent| recent.count > 0);
        first.map_or(NOTHING, |recent| WINDOW.saturating_sub(now.duration_since(recent.since)))
    }

    /// Says how often the oldest line came, if it did. Returns the line then.
    fn forget_oldest(&mut self, now: Instant, write: &mut impl FnMut(&Line)) -> Option<Box<Line>> {
        let Recent { line, since, count } = self.recent.pop_front()?;
        if count == 0 {
            return None;
        }
        let (message, seconds) = (&line.message, now.duration_since(since).as_secs().max(1));
        let times = if count == 1 { "time" } else { "times" };
        write(&line.followed_by(format!("{message} (repeated {count} {times} in {seconds}s)")));
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes warnings, each at its millisecond, and returns what is written, with the
    /// second in which it is.
    fn written(lines: impl IntoIterator<Item = (u64, String)>) -> Vec<(u64, String)> {
        let start = Instant::now();
        let mut repeats = Repeats::default();
        let mut written = Vec::new();
        let mut end = 0;
        for (ms, message) in lines {
            end = ms;
            let now = start + Duration::from_millis(ms);
            let mut write = |line: &Line| written.push((ms / 1000, line.message.to_string()));
            repeats.say_due(now, &mut write);
            let line = Line::new(Level::Warn, "up-1", format_args!("{message}"));
            repeats.pass(Box::new(line), now, &mut write);
        }
        let now = start + Duration::from_millis(end);
        repeats.say_rest(now, &mut |line| written.push((end / 1000, line.message.to_string())));
        written
    }

    fn said(second: u64, message: &str) -> (u64, String) {
        (second, message.to_owned())
    }

    #[test]
    fn a_line_that_repeats_is_said_once_and_counted_every_ten_seconds() {
        let lines = (0..250).map(|step| (step * 100, "full".to_owned()));
        assert_eq!(
            written(lines),
            [
                said(0, "full"),
                said(10, "full (repeated 99 times in 10s)"),
                said(20, "full (repeated 100 times in 10s)"),
                said(24, "full (repeated 50 times in 4s)"),
            ]
        );
    }

    #[test]
    fn others_are_said_between_and_what_comes_after_a_pause_is_new() {
        let lines = [(0, "a"), (1, "b"), (2, "a"), (9999, "c"), (10_000, "c"), (25_000, "a")];
        let lines = lines.map(|(ms, message)| (ms, message.to_owned()));
        assert_eq!(
            written(lines),
            [
                said(0, "a"),
                said(0, "b"),
                said(9, "c"),
                said(10, "a (repeated 1 time in 10s)"),
                said(25, "c (repeated 1 time in 15s)"),
                said(25, "a"),
            ]
        );
    }

    #[test]
    fn only_so_many_are_remembered_and_none_is_lost() {
        let count = REMEMBERED as u64 + 1;
        let lines = (0..2 * count).map(|step| (step, format!("line {}", step % count)));
        let written = written(lines);
        assert_eq!(written.len() as u64, 2 * count, "{written:?}");
    }

    #[test]
    fn debug_lines_are_all_written_and_levels_are_kept_apart() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        let mut levels = Vec::new();
        for level in [Level::Debug, Level::Debug, Level::Info, Level::Warn, Level::Info] {
            let line = Line::new(level, "main", format_args!("same"));
            repeats.pass(Box::new(line), now, &mut |line| levels.push(line.level));
        }
        assert_eq!(levels, [Level::Debug, Level::Debug, Level::Info, Level::Warn]);
        assert!(repeats.patience(now) <= WINDOW);
        assert_eq!(Repeats::default().patience(now), NOTHING);
    }
}
