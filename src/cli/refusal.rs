//! What is printed instead of running.

use std::{error::Error as _, fmt::Display};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::environment::Inserted;
use crate::report::{self, Failure};

/// Help, a version, or what is wrong with the command line.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Asked for: to stdout, exit code 0. Completions and the manual page too.
    Text(String),
    /// A mistake: one line, exit code 2.
    Mistake(Failure),
}

impl Refusal {
    pub(super) fn usage(line: &str) -> Self {
        Refusal::Mistake(Failure::Usage(line.to_owned()))
    }

    /// `name` is the option, argument or variable that holds `value`.
    pub(super) fn value(name: &str, value: &str, problem: impl Display) -> Self {
        Refusal::usage(&format!("{name}: invalid value '{}': {problem}", report::excerpt(value)))
    }

    /// clap's errors span several lines with hints; ours is one line.
    pub(super) fn of_clap(error: &clap::Error, from_environment: &Inserted) -> Self {
        let kind = error.kind();
        if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return Refusal::Text(error.to_string());
        }
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.clone(),
            Some(ContextValue::Strings(texts)) => texts.join(", "),
            _ => String::new(),
        };
        let argument = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(argument)) => name_of(argument, from_environment),
            _ => text(ContextKind::InvalidArg),
        };
        match kind {
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                let value = text(ContextKind::InvalidValue);
                if value.is_empty() {
                    return Refusal::usage(&format!("{argument}: a value is required"));
                }
                let allowed = text(ContextKind::ValidValue);
                match error.source() {
                    Some(source) => Refusal::value(&argument, &value, source),
                    None => Refusal::value(&argument, &value, format!("expected {allowed}")),
                }
            }
            ErrorKind::UnknownArgument => Refusal::usage(&format!(
                "unknown option or one argument too many: {argument}; see --help"
            )),
            ErrorKind::InvalidSubcommand => {
                let command = report::excerpt(&text(ContextKind::InvalidSubcommand));
                Refusal::usage(&format!("unknown command {command}; {COMMANDS}"))
            }
            ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Refusal::usage(&format!("no command given; {COMMANDS}"))
            }
            ErrorKind::MissingRequiredArgument => {
                Refusal::usage(&format!("missing {argument}; see --help"))
            }
            ErrorKind::ArgumentConflict => {
                let other = text(ContextKind::PriorArg);
                Refusal::usage(&format!("{argument} and {other} exclude each other"))
            }
            ErrorKind::InvalidUtf8 => Refusal::usage("an argument is not valid UTF-8"),
            _ => Refusal::usage(&format!("{argument}: {kind}; see --help")),
        }
    }
}

const COMMANDS: &str = "expected forward, register, proxy, exec, list, env, status, doctor, completions or man; \
     see --help";

/// clap's `--ttl <DURATION>` or `<PORT>` as `--ttl`, `PORT`, or the variable it came from.
fn name_of(argument: &str, from_environment: &Inserted) -> String {
    let name = argument.split_once(" <").map_or(argument, |(option, _)| option);
    let name = name.trim_matches(['<', '>', '[', ']', '.']);
    let long = name.trim_start_matches('-');
    let variable = from_environment.iter().find(|(option, _)| option == long);
    variable.map_or_else(|| name.to_owned(), |(_, variable)| variable.clone())
}
