//! One line of the log, as text or as JSON.

use std::{fmt, io::Write, time::SystemTime};

use log::Level;
use serde::Serialize;

use crate::report::Printable;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `LEVEL thread message`.
    Text,
    /// The same for the journal, which keeps the priority before it for itself.
    Journal,
    /// An object with `time`, `level`, `thread` and `message`.
    Json,
}

/// What was said, when and where. Nothing of it is escaped before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    time: SystemTime,
    pub(super) level: Level,
    thread: Box<str>,
    pub(super) message: Box<str>,
}

#[derive(Serialize)]
struct Object<'a> {
    time: String,
    level: &'a str,
    thread: &'a str,
    message: String,
}

impl Line {
    pub(crate) fn new(level: Level, thread: &str, message: fmt::Arguments<'_>) -> Self {
        let message = message.to_string().into();
        Line { time: SystemTime::now(), level, thread: thread.into(), message }
    }

    /// The same place says this now.
    pub(super) fn followed_by(&self, message: String) -> Self {
        Line { time: SystemTime::now(), message: message.into(), ..self.clone() }
    }

    /// Appends it to `out`: one line, whatever is in the message. In JSON too foreign
    /// characters are escaped as they are in text: a program that shows the message shows
    /// it as it is.
    pub(crate) fn write(&self, format: Format, out: &mut Vec<u8>) {
        let Line { time, level, thread, message } = self;
        let message = Printable(message);
        if format == Format::Json {
            let time = humantime::format_rfc3339_millis(*time).to_string();
            let message = message.to_string();
            let object = Object { time, level: level.as_str(), thread, message };
            serde_json::to_writer(&mut *out, &object)
                .expect("strings are JSON, and a Vec takes it");
            out.push(b'\n');
        } else {
            write_text(format, *level, format_args!("{level} {thread} {message}"), out);
        }
    }
}

/// Appends what a process says when it ends: like a line of the log in JSON, and in text
/// as other programs say it.
pub(super) fn write_last(format: Format, failure: &impl fmt::Display, out: &mut Vec<u8>) {
    match format {
        Format::Json => {
            Line::new(Level::Error, "main", format_args!("{failure}")).write(format, out)
        }
        Format::Text | Format::Journal => {
            let text = failure.to_string();
            let text = format_args!("ambassador: {}", Printable(&text));
            write_text(format, Level::Error, text, out);
        }
    }
}

fn write_text(format: Format, level: Level, text: fmt::Arguments<'_>, out: &mut Vec<u8>) {
    if format == Format::Journal {
        let priority = priority(level);
        let _ = write!(out, "<{priority}>"); // A Vec takes it.
    }
    let _ = writeln!(out, "{text}");
}

/// Source: sd-daemon(3), `SD_ERR` and its like, which are those of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(format: Format, level: Level, message: &str) -> String {
        let mut line = Line::new(level, "poller", format_args!("{message}"));
        line.time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_400_000_000_007);
        let mut out = Vec::new();
        line.write(format, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_text_text_for_the_journal_or_json() {
        let of = |format| written(format, Level::Warn, "no \"answer\"");
        assert_eq!(of(Format::Text), "WARN poller no \"answer\"\n");
        assert_eq!(of(Format::Journal), "<4>WARN poller no \"answer\"\n");
        assert_eq!(
            of(Format::Json),
            "{\"time\":\"2014-05-13T16:53:20.007Z\",\"level\":\"WARN\",\"thread\":\"poller\",\
             \"message\":\"no \\\"answer\\\"\"}\n"
        );
    }

    #[test]
    fn priorities_are_those_of_syslog() {
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
        assert_eq!(levels.map(priority), [3, 4, 6, 7, 7]);
    }

    #[test]
    fn a_message_cannot_forge_a_line_in_any_format() {
        let forged =
            "a\n<0>ERROR main b\"}\r\n{\"level\":\"ERROR\"\0\u{1b}[2J\u{9b}\u{202e}\u{2028}";
        for format in [Format::Text, Format::Journal, Format::Json] {
            let line = written(format, Level::Info, forged);
            assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
            assert_eq!(Printable(line.trim_end()).to_string(), line.trim_end());
        }
        let object: serde_json::Value =
            serde_json::from_str(&written(Format::Json, Level::Info, forged)).unwrap();
        assert_eq!(object["level"], "INFO");
        assert_eq!(object["message"], Printable(forged).to_string());
    }
}
