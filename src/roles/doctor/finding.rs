//! What one check found, and how it is shown.

use serde::Serialize;

use crate::report::{Failure, Printable};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum State {
    #[serde(rename = "ok")]
    Ok,
    /// Something that works all the same, or that this host may do without.
    #[serde(rename = "warn")]
    Warn,
    #[serde(rename = "FAIL")]
    Fail,
}

/// One check and its outcome, as `--json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: String,
    pub(super) state: State,
    pub(super) finding: String,
    /// What to do, unless all is well.
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &str, finding: impl Into<String>) -> Self {
        Finding { check: check.to_owned(), state: State::Ok, finding: finding.into(), advice: None }
    }

    pub(super) fn warn(check: &str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Finding { state: State::Warn, advice, ..Finding::ok(check, finding) }
    }

    pub(super) fn fail(check: &str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding { state: State::Fail, ..Finding::warn(check, finding, advice) }
    }
}

/// Where lines are broken, if there is a blank to break them at.
const COLUMNS: usize = 80;
/// Where advice begins: below the check's name.
const ADVICE: usize = 6;
/// Where a finding begins: behind all names but those of members.
const FINDING: usize = 20;

/// For people: a line for each finding, and below it what to do.
pub(super) fn shown(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, state, finding, advice } in findings {
        let state = match state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        let (check, finding) = (Printable(check).to_string(), Printable(finding).to_string());
        let width = FINDING - ADVICE - 2;
        text.push_str(&wrapped(&format!("{state:4}  {check:width$}  "), &finding, FINDING));
        if let Some(advice) = advice {
            text.push_str(&wrapped(&" ".repeat(ADVICE), &Printable(advice).to_string(), ADVICE));
        }
    }
    text
}

/// `head`, then the words of `text` in lines of at most [`COLUMNS`], all but the first
/// `indent` blanks in.
fn wrapped(head: &str, text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut line = head.to_owned();
    let mut is_fresh = true;
    for word in text.split(' ') {
        let blank = usize::from(!is_fresh);
        if !is_fresh && line.chars().count() + blank + word.chars().count() > COLUMNS {
            lines.push_str(&line);
            lines.push('\n');
            line = " ".repeat(indent);
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(word);
        is_fresh = false;
    }
    lines + &line + "\n"
}

/// For programs.
pub(super) fn json(findings: &[Finding]) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(findings)
        .map_err(|error| Failure::Running(error.to_string()))?;
    Ok(format!("{json}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_its_advice_is_indented_below() {
        let findings = [
            Finding::ok("docker", "Docker 28.5.2, API 1.51"),
            Finding::fail("etcd http://10.1.0.9:2379", "no answer", "start it"),
        ];
        assert_eq!(
            shown(&findings),
            "ok    docker        Docker 28.5.2, API 1.51\n\
             FAIL  etcd http://10.1.0.9:2379  no answer\n      start it\n"
        );
    }

    #[test]
    fn lines_are_broken_at_blanks_after_80_columns_and_shown_without_control_characters() {
        let long = "x".repeat(100);
        let advice = format!("{} {long} a\u{1b}[2Jb", "word ".repeat(20).trim_end());
        let finding = "word ".repeat(30) + "\u{1b}]0;x\u{7}";
        let text = shown(&[Finding::warn("clock", finding, advice)]);
        let lines: Vec<&str> = text.lines().collect();
        let is_wide = |line: &&&str| line.chars().count() > COLUMNS;
        let wide: Vec<_> = lines.iter().filter(is_wide).collect();
        assert_eq!(wide, [&format!("      {long}")], "{text}");
        assert_eq!(lines[0].len(), 79, "{text}");
        assert!(lines[1].starts_with(&format!("{}word", " ".repeat(FINDING))), "{text}");
        assert_eq!(*lines.last().unwrap(), "      a\\u{1b}[2Jb");
        assert!(text.contains(" \\u{1b}]0;x\\u{7}\n"), "{text}");
        assert!(lines.iter().all(|line| *line == line.trim_end()), "{text}");
    }
}
