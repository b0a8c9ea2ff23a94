//! What labels and variables of a container say of one of its ports, in registrator's words.
//!
//! Source: gliderlabs/registrator, "Services", "Container Overrides".

use std::{collections::BTreeMap, fmt, num::NonZeroU16};

use crate::{
    docker::Container,
    report,
    service::{Attribute, Invalid},
};

/// Words about the entry itself; all others are its attributes.
const NAME: &str = "name";
const ID: &str = "id";
const IGNORE: &str = "ignore";

/// What was said, each word under its key: `zone` of `SERVICE_ZONE` or `SERVICE_80_ZONE`.
#[derive(Debug)]
pub(super) struct Metadata<'a>(BTreeMap<String, Word<'a>>);

/// One thing that was said, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) value: &'a str,
    name: &'a str,
    source: Source,
    /// Whether it was said of this port, not of the container.
    is_of_port: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Variable,
    Label,
}

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            Source::Label => "label",
            Source::Variable => "variable",
        };
        write!(f, "{source} {}", report::excerpt(self.name))
    }
}

impl<'a> Metadata<'a> {
    /// What `container` says of `port`. What is said of the port goes before what is said of
    /// the container, and labels go before variables.
    pub(super) fn of(container: &'a Container, port: NonZeroU16) -> Self {
        let variables = container.variables().iter().map(|pair| (Source::Variable, pair));
        let labels = container.labels().iter().map(|pair| (Source::Label, pair));
        let said: Vec<(String, Word<'a>)> = variables
            .chain(labels)
            .filter_map(|(source, (name, value))| heard(source, name, value, port))
            .collect();
        let mut words = BTreeMap::new();
        for is_of_port in [false, true] {
            let later = said.iter().filter(|(_, word)| word.is_of_port == is_of_port);
            words.extend(later.cloned());
        }
        Metadata(words)
    }

    /// What was said under `key`. Nothing said is the same as not said.
    fn get(&self, key: &str) -> Option<Word<'a>> {
        self.0.get(key).copied().filter(|word| !word.value.is_empty())
    }

    pub(super) fn service(&self) -> Option<Word<'a>> {
        self.get(NAME)
    }

    /// Whether the name is the port's own, so that its number need not follow; also where
    /// nothing was said, as registrator takes it.
    pub(super) fn is_named_by_port(&self) -> bool {
        self.0.get(NAME).is_some_and(|word| word.is_of_port)
    }

    pub(super) fn instance(&self) -> Option<Word<'a>> {
        self.get(ID)
    }

    /// Any value will do, as registrator takes it.
    pub(super) fn ignore(&self) -> Option<Word<'a>> {
        self.get(IGNORE)
    }

    /// Everything else, sorted by key. `SERVICE_HOST` and `SERVICE_PORT`, which programs use
    /// for themselves, would be the address.
    pub(super) fn attributes(&self) -> Result<Vec<Attribute>, String> {
        let of_entry = [NAME, ID, IGNORE, "host", "port"];
        let words = self.0.iter().filter(|(key, _)| !of_entry.contains(&key.as_str()));
        let attribute = |(key, word): (&String, &Word<'_>)| {
            let refused = |problem: Invalid| format!("{word}: {problem}");
            format!("{key}={}", word.value).parse().map_err(refused)
        };
        words.map(attribute).collect()
    }
}

/// `SERVICE_80_NAME` is said of port 80 alone.
fn heard<'a>(
    source: Source,
    name: &'a str,
    value: &'a str,
    port: NonZeroU16,
) -> Option<(String, Word<'a>)> {
    let key = name.strip_prefix("SERVICE_")?;
    let of_port = key.split_once('_').filter(|(number, _)| number.parse::<u32>().is_ok());
    let (key, is_of_port) = match of_port {
        Some((number, key)) if number == port.to_string() => (key, true),
        Some(_) => return None,
        None => (key, false),
    };
    let word = Word { value, name, source, is_of_port };
    (!key.is_empty()).then(|| (key.to_ascii_lowercase(), word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(labels: &str, env: &str) -> Container {
        let json = format!(
            r#"{{"Id":"ab","Name":"/web","State":{{"Running":true}},
                "Config":{{"Labels":{labels},"Env":{env}}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn words(container: &Container, port: u16) -> String {
        let metadata = Metadata::of(container, NonZeroU16::new(port).unwrap());
        let said: Vec<String> =
            metadata.0.iter().map(|(key, word)| format!("{key}={}", word.value)).collect();
        said.join(" ")
    }

    #[test]
    fn the_port_goes_before_the_container_and_labels_before_variables() {
        let container = container(
            r#"{"SERVICE_NAME":"label","SERVICE_80_TAGS":"port-label","OTHER":"x"}"#,
            r#"["SERVICE_NAME=variable","SERVICE_81_NAME=port-variable","SERVICE_TAGS=a,b",
                "SERVICE_80_TAGS=port-variable","SECRET=s","PATH"]"#,
        );
        assert_eq!(words(&container, 80), "name=label tags=port-label");
        assert_eq!(words(&container, 81), "name=port-variable tags=a,b");
        assert_eq!(words(&container, 8), "name=label tags=a,b");
    }

    #[test]
    fn nothing_said_is_not_said() {
        let container = container(r#"{"SERVICE_IGNORE":"","SERVICE_NAME":""}"#, "null");
        let metadata = Metadata::of(&container, NonZeroU16::MIN);
        assert_eq!((metadata.ignore(), metadata.service()), (None, None));
        assert!(!metadata.is_named_by_port());
        let empty = r#"{"SERVICE_80_NAME":""}"#;
        let container = self::container(empty, "null");
        let metadata = Metadata::of(&container, NonZeroU16::new(80).unwrap());
        assert!(metadata.is_named_by_port() && metadata.service().is_none());
    }

    #[test]
    fn attributes_are_what_is_not_about_the_entry_itself() {
        let container = container(
            r#"{"SERVICE_ID":"i","SERVICE_ZONE":"a","SERVICE_Weight":"5","SERVICE_":"x"}"#,
            r#"["SERVICE_PORT=8080","SERVICE_HOST=h","SERVICE_CHECK_HTTP=/up"]"#,
        );
        let metadata = Metadata::of(&container, NonZeroU16::MIN);
        let attributes: Vec<String> =
            metadata.attributes().unwrap().into_iter().map(|attribute| attribute.key).collect();
        assert_eq!(attributes, ["check_http", "weight", "zone"]);
    }
}
