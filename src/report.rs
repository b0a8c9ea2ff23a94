//! How errors and foreign text are shown to people.

use std::{
    error::Error,
    fmt::{self, Write as _},
    io::{self, Write as _},
    time::Duration,
};

/// Why a role did not end as asked; decides the exit code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Wrong usage or configuration, exit code 2: a restart would not help.
    Usage(String),
    /// Failed while running, exit code 1.
    Running(String),
    /// There is no command to run, exit code 127, or it cannot be run, 126: what sh and
    /// env(1) end with then.
    NoCommand(String),
    NotExecutable(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Running(_) => 1,
            Failure::Usage(_) => 2,
            Failure::NotExecutable(_) => 126,
            Failure::NoCommand(_) => 127,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Usage(text)
        | Failure::Running(text)
        | Failure::NoCommand(text)
        | Failure::NotExecutable(text)) = self;
        Printable(text).fmt(f)
    }
}

/// Writes `text` to stdout. A reader that went away (`| head`) has seen enough.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_more(text).map(|_| ())
}

/// The same where more is to come: `false` once the reader has gone.
pub(crate) fn print_more(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Running(format!("stdout takes nothing: {error}"))),
    }
}

/// An error and its sources in one line, joined by `": "`.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !line.ends_with(&text) {
            let _ = write!(line, ": {text}");
        }
        source = cause.source();
    }
    line
}

/// Foreign text with its control characters escaped, so that nothing an
/// outsider writes can forge a line of the log or move a terminal's cursor.
#[derive(Debug)]
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() || is_reordering(character) {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Unicode's line separators, bidirectional controls and marks: not control
/// characters by category, but able to show another line than the one written.
fn is_reordering(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Foreign text for an error message: escaped and cut to a readable length.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARACTERS: usize = 160;
    let mut characters = text.chars();
    let head: String = characters.by_ref().take(MAX_CHARACTERS).collect();
    let ellipsis = if characters.next().is_some() { "…" } else { "" };
    format!("{}{ellipsis}", Printable(&head))
}

/// A duration for people: seconds or milliseconds, no more digits than help.
pub(crate) fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{:.1}s", duration.as_secs_f64()),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// How long an outage has lasted, as the end of its warning: nothing when it
/// begins.
pub(crate) fn lasting(lasted: Duration) -> String {
    if lasted.is_zero() { String::new() } else { format!(" (for {} now)", duration(lasted)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_joins_causes_and_repeats_none() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("no answer from etcd at http://127.0.0.1:1")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Outer(std::io::Error::other("connection refused"));
        assert_eq!(chain(&error), "no answer from etcd at http://127.0.0.1:1: connection refused");
    }

    #[test]
    fn control_characters_cannot_forge_a_line() {
        let text = "a\nERROR main \u{1b}[2J\u{202e}b";
        assert_eq!(Printable(text).to_string(), "a\\nERROR main \\u{1b}[2J\\u{202e}b");
    }

    #[test]
    fn long_foreign_text_is_cut_between_characters() {
        let text = "é".repeat(200);
        assert_eq!(excerpt(&text), format!("{}…", "é".repeat(160)));
    }

    #[test]
    fn durations_are_short() {
        let cases =
            [(0, "0ms"), (250, "250ms"), (1500, "1.5s"), (61_000, "1m01s"), (3_660_000, "1h01m")];
        for (ms, text) in cases {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
