//! The manual page: one for all commands, in the words of `--help`.
//!
//! Source: groff_man(7).

use clap::{Arg, Command};

/// All of `command`, which is the root.
pub(super) fn page(mut command: Command) -> String {
    // Global options become options of each command, and usages get their names.
    command.build();
    let name = command.get_name().to_owned();
    let about = text(command.get_about());
    let mut page = format!(
        ".TH {} 1 \"\" \"{name} {}\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n",
        name.to_uppercase(),
        env!("CARGO_PKG_VERSION"),
        name,
        escaped(about.trim_end_matches('.')),
    );
    for command in command.get_subcommands_mut() {
        for usage in usages(command) {
            page.push_str(&format!(".PP\n{}\n", escaped(&usage)));
        }
    }
    page.push_str(".SH DESCRIPTION\n");
    page.push_str(&paragraphs(&text(command.get_after_help())));
    for command in command.get_subcommands() {
        page.push_str(&format!(".SH {}\n", command.get_name().to_uppercase()));
        let about = command.get_long_about().or(command.get_about());
        page.push_str(&paragraphs(&text(about)));
        let (options, words): (Vec<&Arg>, Vec<&Arg>) =
            command.get_arguments().partition(|arg| arg.get_long().is_some());
        for arg in words.into_iter().chain(options).filter(|arg| !arg.is_hide_set()) {
            page.push_str(&format!(".TP\n{}\n{}", head(arg), paragraphs(&explained(arg))));
        }
    }
    page.push_str(
        ".SH EXIT STATUS\n.TP\n\\fB0\\fR\nended as asked\n.TP\n\\fB1\\fR\nfailed while running\n\
         .TP\n\\fB2\\fR\nwrong usage or configuration; a restart would not help\n",
    );
    page
}

/// `Usage: ambassador forward ...`, without the first word, one a line.
fn usages(command: &mut Command) -> Vec<String> {
    let usage = command.render_usage().to_string();
    usage.trim_start_matches("Usage:").lines().map(|line| line.trim().to_owned()).collect()
}

/// `-v, --verbose` or `--wait DURATION`, as the format has it.
fn head(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default().join(" ");
    let italic = format!("\\fI{}\\fR", escaped(&values));
    let Some(long) = arg.get_long() else { return italic };
    let short = arg.get_short().map(|short| format!("\\fB\\-{short}\\fR, ")).unwrap_or_default();
    let head = format!("{short}\\fB\\-\\-{}\\fR", escaped(long));
    if arg.get_action().takes_values() { format!("{head} {italic}") } else { head }
}

/// The help, and what clap adds to it by itself.
fn explained(arg: &Arg) -> String {
    let mut help = text(arg.get_long_help().or(arg.get_help()));
    let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy());
    let allowed = arg.get_possible_values();
    let allowed = allowed.iter().map(|value| value.get_name().into());
    if arg.get_action().takes_values() {
        for (what, values) in [
            ("default", defaults.collect::<Vec<_>>()),
            ("possible values", allowed.collect::<Vec<_>>()),
        ] {
            if !values.is_empty() {
                help.push_str(&format!(" [{what}: {}]", values.join(", ")));
            }
        }
    }
    help
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

/// Each with its own space above, but for the first.
fn paragraphs(text: &str) -> String {
    let paragraphs: Vec<String> = text.trim().split("\n\n").map(escaped).collect();
    format!("{}\n", paragraphs.join("\n.PP\n"))
}

/// Nothing of it is taken as an order to the formatter.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let line = |line: &str| match line.trim() {
        line if line.starts_with(['.', '\'']) => format!("\\&{line}"),
        line => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_an_order_to_the_formatter() {
        assert_eq!(
            escaped(".so /etc/passwd\n'br\na-b \\n"),
            "\\&.so /etc/passwd\n\\&'br\na\\-b \\en"
        );
    }
}
