//! Which part of the program may know which: the arrows of ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The small tools: everyone may use them, and they know only each other.
const TOOLS: &[&str] = &[
    "address", "backoff", "command", "connect", "counters", "limits", "logging", "notify",
    "outage", "property", "pulse", "random", "report", "signals", "stop", "worker",
];

/// Every other part of the program, and which parts it may know beside the tools.
const PARTS: &[(&str, &[&str])] = &[
    ("main", &["cli", "roles"]),
    ("admin", &[]),
    ("fuzzing", &["cli", "registrar", "traffic", "etcd", "docker", "service"]),
    ("cli", &["roles", "registrar", "poller", "traffic", "etcd", "docker", "service"]),
    ("roles", &["admin", "registrar", "poller", "traffic", "etcd", "docker", "service"]),
    ("registrar", &["traffic", "etcd", "docker", "service"]),
    ("poller", &["traffic", "etcd", "service"]),
    ("traffic", &[]),
    ("etcd", &[]),
    ("docker", &[]),
    ("service", &[]),
];

#[test]
fn no_part_of_the_program_knows_another_against_the_arrows() {
    let mut against = Vec::new();
    for file in source_files() {
        let part = part_of(&file);
        let text = fs::read_to_string(source().join(&file)).unwrap();
        let depth = module_depth(&file);
        for other in mentioned_parts(&text, depth) {
            if other != part && !may_know(&part, &other) {
                against.push(format!("src/{}: {part} must not know {other}", file.display()));
            }
        }
    }
    assert!(against.is_empty(), "{}", against.join("\n"));
}

#[test]
fn every_part_of_the_program_stands_in_the_table_of_arrows() {
    let known: BTreeSet<_> =
        PARTS.iter().map(|(part, _)| *part).chain(TOOLS.iter().copied()).collect();
    for file in source_files() {
        let part = part_of(&file);
        assert!(
            known.contains(&part[..]),
            "src/{} is a part of the program that tests/arrows.rs does not know: \
             say in PARTS what it may import, or add it to TOOLS",
            file.display()
        );
    }
}

#[test]
fn mentions_are_found_in_every_form_in_which_they_can_be_written() {
    let found = |text: &str, depth| mentioned_parts(text, depth).into_iter().collect::<Vec<_>>();
    assert_eq!(found("use crate::etcd::Store;", 1), ["etcd"]);
    assert_eq!(
        found("use crate::{\n    docker::{self, Client},\n    stop::Stop,\n};", 1),
        ["docker", "stop"]
    );
    assert_eq!(found("fn f(x: &crate::service::Name) {}", 1), ["service"]);
    assert_eq!(found("pub(crate) use super::etcd;", 1), ["etcd"]);
    assert_eq!(found("use super::super::etcd::Store;", 2), ["etcd"]);
    assert_eq!(found("use super::copy::Copy;", 2), Vec::<String>::new());
    assert_eq!(
        found("// crate::etcd\n/* crate::etcd */ let s = \"crate::etcd\";", 1),
        Vec::<String>::new()
    );
    assert_eq!(found("let c = '\"'; use crate::etcd; let d = '\"';", 1), ["etcd"]);
    assert_eq!(found("let s = r#\"a\"crate::docker\"#; use crate::etcd;", 1), ["etcd"]);
}

fn may_know(part: &str, other: &str) -> bool {
    match PARTS.iter().find(|(name, _)| *name == part) {
        Some((_, allowed)) => TOOLS.contains(&other) || allowed.contains(&other),
        None => TOOLS.contains(&other),
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file below `src`, relative to it.
fn source_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![source()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(source()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no Rust file below {}", source().display());
    found
}

/// The first word of the module's path: `etcd` for `etcd/v2.rs`.
fn part_of(file: &Path) -> String {
    let first = file.components().next().unwrap().as_os_str().to_str().unwrap();
    let part = first.strip_suffix(".rs").unwrap_or(first);
    if part == "lib" { "main".to_owned() } else { part.to_owned() }
}

/// How many `super` lead from the file's module to the crate.
fn module_depth(file: &Path) -> usize {
    let is_root_of_its_directory = file.ends_with("mod.rs");
    file.components().count() - usize::from(is_root_of_its_directory)
}

/// The top-level modules that `text`, of a module `depth` below the crate, names.
fn mentioned_parts(text: &str, depth: usize) -> BTreeSet<String> {
    let code = without_comments_and_strings(text);
    let to_the_crate = "super::".repeat(depth);
    let mut found = BTreeSet::new();
    for root in ["crate::", "ambassador::", &to_the_crate] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            // Part of a longer word, or of a longer run of `super`.
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            found.extend(first_words(&code[at + root.len()..]));
        }
    }
    // `super::helper` inside a `mod tests` is as deep; only parts count.
    found.retain(|word| PARTS.iter().any(|(part, _)| part == word) || TOOLS.contains(&&word[..]));
    found
}

/// `a` of `a::b`, and `a` and `c` of `{a::{b}, c}`.
fn first_words(path: &str) -> Vec<String> {
    let word = |text: &str| {
        let text = text.trim_start();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        text[..end].to_owned()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let mut depth = 0;
    let mut words = vec![word(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => words.push(word(&group[at + 1..])),
            _ => {}
        }
    }
    words
}

/// Rust source with blanks in place of comments, strings and characters.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#") => raw_string(rest),
            '"' => quoted(rest, '"'),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// The length of the raw string `rest` begins with; 0 for a raw identifier.
fn raw_string(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|&c| c == '#').count();
    let start = 1 + hashes;
    if !rest[start..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = &rest[start + 1..];
    body.find(&end).map_or(rest.len(), |at| start + 1 + at + end.len())
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the character literal `rest` begins with; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => quoted(rest, '\''),
        (_, Some((at, '\''))) => at + 1,
        _ => 0,
    }
}
