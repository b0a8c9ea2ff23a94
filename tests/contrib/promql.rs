//! Which metrics and labels an expression of PromQL asks for, and whether there are any.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::vec::IntoIter;

/// The samples that are exposed: by name, their labels with the values these have.
#[derive(Default)]
pub(super) struct Exposed(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Exposed {
    /// Adds what stands at /metrics, with what a scrape adds to it.
    pub(super) fn add(&mut self, text: &str) {
        let up = self.0.entry("up".to_owned()).or_default();
        of_a_scrape(up);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            // Its value may be a word too.
            let sample = Asked::of(line).selectors.into_iter().next().unwrap();
            let labels = self.0.entry(sample.name).or_default();
            of_a_scrape(labels);
            for (label, value) in sample.matchers {
                labels.entry(label).or_default().insert(value);
            }
        }
    }

    /// What `expression` asks for that nobody exposes: metrics, labels, and values.
    pub(super) fn missing(&self, expression: &str) -> Vec<String> {
        let (mut missing, asked) = (Vec::new(), Asked::of(expression));
        let mut known: BTreeSet<&str> = BTreeSet::new();
        for Selector { name, matchers } in &asked.selectors {
            let Some(labels) = self.0.get(name) else {
                missing.push(name.clone());
                continue;
            };
            known.extend(labels.keys().map(String::as_str));
            for (label, value) in matchers {
                match labels.get(label) {
                    None => missing.push(format!("{name}{{{label}}}")),
                    // A variable of Grafana.
                    Some(_) if value.contains('$') => {}
                    Some(values) => {
                        let alternatives = value.split('|').filter(|it| !values.contains(*it));
                        missing.extend(alternatives.map(|it| format!("{name}{{{label}={it}}}")));
                    }
                }
            }
        }
        let unknown = asked.grouped.iter().filter(|label| !known.contains(&label[..]));
        missing.extend(unknown.cloned());
        missing
    }
}

fn of_a_scrape(labels: &mut BTreeMap<String, BTreeSet<String>>) {
    labels.entry("instance".to_owned()).or_default();
    labels.entry("job".to_owned()).or_default().insert("ambassador".to_owned());
}

/// What an expression asks for.
pub(super) struct Asked {
    selectors: Vec<Selector>,
    /// The labels of `by (...)` and its like.
    grouped: Vec<String>,
}

struct Selector {
    name: String,
    /// Labels and what they are to be, or not to be.
    matchers: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

use Token::{Sign, Text, Word};

const OPERATORS: [&str; 4] = ["and", "or", "unless", "bool"];
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

impl Asked {
    pub(super) fn of(expression: &str) -> Asked {
        let mut asked = Asked { selectors: Vec::new(), grouped: Vec::new() };
        let mut rest = tokens(expression).into_iter().peekable();
        while let Some(token) = rest.next() {
            match token {
                Sign('[') => drop(until(&mut rest, ']')),
                Word(word) if GROUPINGS.contains(&&word[..]) => {
                    let labels = until(&mut rest, ')');
                    asked.grouped.extend(labels.into_iter().filter_map(|token| match token {
                        Word(label) => Some(label),
                        _ => None,
                    }));
                }
                Word(word)
                    if OPERATORS.contains(&&word[..])
                        || word.starts_with(|c: char| c.is_ascii_digit()) => {}
                Word(name) => match rest.peek() {
                    // A function.
                    Some(Sign('(')) => {}
                    Some(Word(next)) if GROUPINGS.contains(&&next[..]) => {}
                    Some(Sign('{')) => {
                        let matchers = matchers(until(&mut rest, '}'));
                        asked.selectors.push(Selector { name, matchers });
                    }
                    _ => asked.selectors.push(Selector { name, matchers: Vec::new() }),
                },
                Text(_) | Sign(_) => {}
            }
        }
        asked
    }

    /// Of its only selector, which is a series.
    #[track_caller]
    pub(super) fn labels(&self) -> BTreeMap<&str, &str> {
        let [Selector { matchers, .. }] = &self.selectors[..] else { panic!("not a series") };
        matchers.iter().map(|(label, value)| (&label[..], &value[..])).collect()
    }
}

fn until(rest: &mut Peekable<IntoIter<Token>>, end: char) -> Vec<Token> {
    rest.take_while(|token| *token != Sign(end)).collect()
}

fn matchers(tokens: Vec<Token>) -> Vec<(String, String)> {
    let (mut matchers, mut label) = (Vec::new(), String::new());
    for token in tokens {
        match token {
            Word(word) => label = word,
            Text(value) => matchers.push((label.clone(), value)),
            Sign(_) => {}
        }
    }
    matchers
}

fn tokens(text: &str) -> Vec<Token> {
    let is_of_a_word = |c: char| c.is_ascii_alphanumeric() || "_:.$".contains(c);
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '"' {
            let mut value = String::new();
            while let Some(c) = rest.next().filter(|c| *c != '"') {
                value.push(if c == '\\' { rest.next().unwrap() } else { c });
            }
            tokens.push(Text(value));
        } else if is_of_a_word(c) {
            let mut word = c.to_string();
            while let Some(c) = rest.next_if(|c| is_of_a_word(*c)) {
                word.push(c);
            }
            tokens.push(Word(word));
        } else if !c.is_whitespace() {
            tokens.push(Sign(c));
        }
    }
    tokens
}

#[test]
fn what_nobody_exposes_is_found_wherever_it_stands() {
    let mut exposed = Exposed::default();
    for line in ["# TYPE a gauge", r#"a{l="x",m="1 \" {"} 0"#, r#"a{l="y"} NaN"#, r#"b{le="1"} .5"#]
    {
        exposed.add(line);
    }
    for (expression, missing) in [
        (r#"sum by (l) (rate(a{l=~"x|y", m!="$m"}[5m])) > 0.5 or vector(0)"#, &[][..]),
        ("histogram_quantile(0.9, sum by (job, le) (rate(b[$__rate_interval])))", &[]),
        (r#"up{job="ambassador"} == 0 unless on (job, instance) a"#, &[]),
        ("sum(1 - c) / count(d_total)", &["c", "d_total"]),
        (r#"a{n="1"}"#, &["a{n}"]),
        (r#"a{l=~"x|z"}"#, &["a{l=z}"]),
        (r#"up{job="other"}"#, &["up{job=other}"]),
        ("sum without (n) (a) and ignoring(le) a == bool 1", &["n", "le"]),
    ] {
        assert_eq!(exposed.missing(expression), missing, "{expression}");
    }
}
