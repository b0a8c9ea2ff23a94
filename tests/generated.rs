//! Completions and the manual page: what is written of the command line in other places.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::ambassador::ambassador;
use crate::support::{skip_loudly, temp_dir};

const COMMANDS: [&str; 9] =
    ["forward", "register", "proxy", "list", "env", "exec", "doctor", "completions", "man"];

fn printed(words: &[&str]) -> String {
    let ended = ambassador(words).run();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{words:?}");
    ended.stdout
}

/// The long options that `--help` shows for `command`.
fn options(command: &str) -> BTreeSet<String> {
    let help = printed(&[command, "--help"]);
    let heads = help.lines().filter_map(|line| line.trim().split_once("--"));
    let named = heads.filter(|(before, _)| before.is_empty() || before.ends_with(", "));
    let is_name = |character: &char| character.is_ascii_lowercase() || *character == '-';
    let options: BTreeSet<String> =
        named.map(|(_, option)| option.chars().take_while(is_name).collect()).collect();
    assert!(options.contains("verbose"), "{help}");
    options
}

#[test]
fn manual_page_has_every_command_and_each_of_its_options() {
    let page = printed(&["man"]);
    for command in COMMANDS {
        let head = format!(".SH {}\n", command.to_uppercase());
        let (_, section) = page.split_once(&head).unwrap_or_else(|| panic!("no {head}"));
        let section = section.split(".SH ").next().unwrap();
        for option in options(command) {
            let head = format!("\\fB\\-\\-{}\\fR", option.replace('-', "\\-"));
            assert!(section.contains(&head), "{command} --{option} is not in the page");
        }
    }
    // `man` itself says what it does not understand.
    if !Path::new("/usr/bin/man").exists() {
        skip_loudly("manual_page_has_every_command_and_each_of_its_options", "no man(1)");
        return;
    }
    let mut man = Command::new("man");
    man.args(["--warnings", "-E", "UTF-8", "-l", "-"]).env("MANWIDTH", "80");
    man.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut man = man.spawn().unwrap();
    man.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let shown = man.wait_with_output().unwrap();
    let (text, complaints) = (shown.stdout, String::from_utf8_lossy(&shown.stderr));
    assert_eq!(complaints, "");
    assert!(String::from_utf8_lossy(&text).contains("wrong usage or configuration"));
}

#[test]
fn completions_of_every_shell_have_every_option() {
    for (shell, sign) in [
        ("bash", "complete -F _ambassador"),
        ("zsh", "#compdef ambassador"),
        ("fish", "complete -c ambassador"),
    ] {
        let script = printed(&["completions", shell]);
        assert!(script.contains(sign), "{shell}");
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
            for option in options(command) {
                let written = if shell == "fish" { format!("-l {option}") } else { option };
                assert!(script.contains(&written), "{shell}: {command} {written}");
            }
        }
    }
    let refused = ambassador(["completions", "tcsh"]).run();
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("bash, zsh, fish"), "{}", refused.stderr);
}

#[test]
fn bash_completes_commands_options_and_values() {
    let script = temp_dir("completions").join("ambassador");
    std::fs::write(&script, printed(&["completions", "bash"])).unwrap();
    for (words, expected) in [
        ("ambassador pro", "proxy"),
        ("ambassador proxy --on-r", "--on-remove"),
        ("ambassador proxy --on-remove pr", "probe"),
        ("ambassador completions zs", "zsh"),
    ] {
        let typed = format!(
            r#". "$0"; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _ambassador ambassador "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
            echo "${{COMPREPLY[*]}}""#
        );
        let mut bash = Command::new("bash");
        let said = bash.args(["--norc", "-c", &typed]).arg(&script).output().unwrap();
        let offered = String::from_utf8_lossy(&said.stdout);
        assert_eq!(offered.trim(), expected, "{words}: {}", String::from_utf8_lossy(&said.stderr));
    }
}
