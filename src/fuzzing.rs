//! What the fuzz targets of `fuzz/` call: one function a target, named like it. Each
//! asserts a property, so that more than a panic is found. The unit test below runs
//! them over the seeds of `fuzz/corpus-seeds/`.
//!
//! What only one part of the program can see is asserted beside it, in a `fuzzing.rs`.

use std::{
    fmt::{Debug, Display},
    str::{self, FromStr},
};

use log::Level;
use serde_json::{Map, Value};

use crate::{
    address::{Host, HostPort},
    connect::MAX_UNIX_PATH_BYTES,
    docker, etcd,
    logging::{Format, Line},
    property::{assert_is_an_excerpt, assert_is_one_line, is_harmful},
    report::{self, Failure},
    service::{Attribute, Instance, MAX_VALUE_BYTES, Registration},
    traffic::Listen,
};

pub use crate::{
    cli::fuzzing::duration,
    docker::fuzzing::{docker_json, docker_time, events, http1},
    etcd::fuzzing::{etcd_body, etcd_v3},
    registrar::fuzzing::{host, verdict},
    traffic::fuzzing::proxy_header,
};

/// A stored value that is taken has an address somebody can connect to, and what a
/// registrar writes is read back as it was meant. In the second half the first line of
/// the input is a registrar's address, and each other one an attribute.
pub fn registration(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match text.parse::<Instance>() {
        Ok(Instance { address, .. }) => {
            assert!(text.len() <= MAX_VALUE_BYTES);
            assert!(!["0.0.0.0", "::"].contains(&&*address.host.to_string()), "{text}");
            assert_eq!(address.to_string().parse(), Ok(address.clone()));
            assert_eq!(written_and_read(address.clone(), Vec::new()).address, address);
        }
        Err(invalid) => assert_is_an_excerpt(&invalid.to_string()),
    }

    let (address, attributes) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(address) = address.parse::<HostPort>() else { return };
    if address.host.is_unspecified() {
        return;
    }
    let mut expected = Map::new();
    let mut typed = Vec::new();
    for line in attributes.lines() {
        let (Ok(attribute), Some((key, value))) = (line.parse::<Attribute>(), line.split_once('='))
        else {
            continue;
        };
        typed.push(attribute);
        let number = value.parse::<i64>().ok().filter(|number| number.to_string() == value);
        expected.insert(key.to_owned(), number.map_or_else(|| value.into(), Value::from));
    }
    let mut read = written_and_read(address.clone(), typed);
    assert_eq!(read.address, address);
    if let Some(weight) = read.weight {
        read.attributes.insert("weight".to_owned(), weight.into());
    }
    assert_eq!(read.attributes, expected);
}

fn written_and_read(address: HostPort, attributes: Vec<Attribute>) -> Instance {
    let value = Registration { address, attributes }.to_string();
    value.parse().unwrap_or_else(|invalid| panic!("{value} is not read: {invalid}"))
}

/// An address that is taken is shown in a form that is taken too, and means the same.
pub fn address(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Some(HostPort { host: Host::Name(name), .. }) = taken_again(text) {
        assert!((1..=253).contains(&name.len()), "DNS has no name {name:?}");
    }
    if let Some(docker::Address::Unix(path)) = taken_again(text) {
        assert!(path.is_absolute() && path.as_os_str().len() <= MAX_UNIX_PATH_BYTES);
    }
    if let Some(member) = taken_again::<etcd::Member>(text) {
        let url = format!("{member}/v2/keys/services/");
        assert!(url.parse::<ureq::http::Uri>().is_ok(), "{url}");
    }
    match text.parse() {
        Ok(Listen::Any(port)) => assert_eq!(text.parse(), Ok(port)),
        Ok(Listen::At(_)) => drop(taken_again::<Listen>(text)),
        Err(problem) => assert_is_one_line(problem),
    }
}

fn taken_again<T>(text: &str) -> Option<T>
where
    T: FromStr<Err: Debug + Display> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            let again = shown.parse::<T>();
            assert_eq!(again.as_ref().ok(), Some(&value), "{text:?} is shown as {shown:?}");
            Some(value)
        }
        Err(problem) => {
            assert_is_one_line(&Failure::Usage(problem.to_string()).to_string());
            None
        }
    }
}

/// One record is one line, whatever is in it, and harmless text stays as it is.
pub fn log_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut line = Vec::new();
    Line::new(Level::Warn, "main", format_args!("{text}")).write(Format::Text, &mut line);
    let line = String::from_utf8(line).expect("text is written as text");
    let record = line.strip_suffix('\n').expect("a record ends its line");
    assert_is_one_line(record);
    let message = record.strip_prefix("WARN ").and_then(|rest| rest.split_once(' '));
    let message = message.expect("level and thread come first").1;
    assert_eq!(message == text, !text.contains(is_harmful), "{text:?} is logged as {message:?}");
    assert_eq!(Failure::Running(text.to_string()).to_string(), message);
    assert_is_an_excerpt(&report::excerpt(&text));

    let mut json = Vec::new();
    Line::new(Level::Warn, "main", format_args!("{text}")).write(Format::Json, &mut json);
    let json = json.strip_suffix(b"\n").expect("a record ends its line");
    assert_is_one_line(str::from_utf8(json).expect("text is written as text"));
    let object: Value = serde_json::from_slice(json).expect("it is an object");
    assert_eq!(object["message"], message);
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs, panic,
        path::{Path, PathBuf},
    };

    use super::*;

    type Target = fn(&[u8]);
    const TARGETS: [(&str, Target); 13] = [
        ("address", address),
        ("docker_json", docker_json),
        ("docker_time", docker_time),
        ("duration", duration),
        ("etcd_body", etcd_body),
        ("etcd_v3", etcd_v3),
        ("events", events),
        ("http1", http1),
        ("log_line", log_line),
        ("proxy_header", proxy_header),
        ("registration", registration),
        ("host", host),
        ("verdict", verdict),
    ];

    fn fuzz() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    /// What is in `directory`, without extensions.
    fn names(directory: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz().join(directory)).unwrap();
        entries
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn every_target_holds_for_its_seeds() {
        for (name, target) in TARGETS {
            let mut seeds = 0;
            for seed in fs::read_dir(fuzz().join("corpus-seeds").join(name)).unwrap() {
                let path = seed.unwrap().path();
                let data = fs::read(&path).unwrap();
                let held = panic::catch_unwind(|| target(&data));
                assert!(held.is_ok(), "{name} does not hold for {}", path.display());
                seeds += 1;
            }
            assert!(seeds > 0, "fuzz/corpus-seeds/{name} is empty");
        }
    }

    #[test]
    fn no_target_is_without_a_file_a_binary_and_seeds() {
        let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names("fuzz_targets"), targets);
        assert_eq!(names("corpus-seeds"), targets);
        let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
        for name in targets {
            assert!(
                manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")),
                "{name}"
            );
            let file = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
            assert!(file.contains(&format!("fuzzing::{name}(data)")), "{name}");
        }
    }
}
