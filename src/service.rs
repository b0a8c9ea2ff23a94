//! Names, keys and values of the registry: parsed at the edge, printed byte for byte.

mod formats;

use std::{fmt, num::NonZeroU16, str::FromStr};

use serde_json::Value;

pub(crate) use formats::Format;

use crate::{
    address::{Host, HostPort, port_number},
    report,
};

/// Longest service or instance name: a file name has 255 bytes, and a key holds two.
const MAX_NAME_BYTES: usize = 200;

/// Longest value read from the registry; ours have about a hundred bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 64 * 1024;

/// The name of a service: a directory of the registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceName(String);

/// The name of one instance of a service: the last part of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstanceName(String);

/// The directory that holds all services, for example `/services`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(String);

/// Why a name, an attribute or a stored value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid(String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

impl From<crate::address::Invalid> for Invalid {
    fn from(invalid: crate::address::Invalid) -> Self {
        Invalid(invalid.to_string())
    }
}

/// Names become keys, so nothing that etcd gives a meaning (`/`, `%2F`, `..`, a
/// leading `_`, which hides a key) may be in them.
fn check_name(text: &str, extra: &str) -> Result<(), Invalid> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || extra.contains(c);
    if text.is_empty()
        || text.len() > MAX_NAME_BYTES
        || text.starts_with(['.', '_'])
        || !text.chars().all(allowed)
    {
        let colon = if extra.is_empty() { "" } else { " :" };
        return Err(Invalid(format!(
            "a name has 1 to {MAX_NAME_BYTES} characters of A-Z a-z 0-9 . _ -{colon} \
             and does not begin with . or _"
        )));
    }
    Ok(())
}

impl FromStr for ServiceName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_name(text, "")?;
        Ok(ServiceName(text.to_owned()))
    }
}

/// Whether an instance of this name is a UDP port: registrator marks them so.
pub(crate) fn is_udp(instance: &str) -> bool {
    instance.ends_with(":udp")
}

impl FromStr for InstanceName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_name(text, ":")?;
        if is_udp(text) {
            return Err(Invalid("a name that ends in :udp stands for a UDP port".to_owned()));
        }
        Ok(InstanceName(text.to_owned()))
    }
}

impl FromStr for Prefix {
    type Err = Invalid;

    /// `services`, `/services` and `/services/` are the same directory.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            return Err(Invalid("expected a directory such as /services".to_owned()));
        }
        for part in &parts {
            check_name(part, "")?;
        }
        Ok(Prefix(format!("/{}", parts.join("/"))))
    }
}

impl Prefix {
    /// The directory of one service.
    pub(crate) fn service(&self, service: &ServiceName) -> String {
        format!("{}/{service}", self.0)
    }

    /// The key of one instance.
    pub(crate) fn instance(&self, service: &ServiceName, instance: &InstanceName) -> String {
        format!("{}/{service}/{instance}", self.0)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `KEY=VALUE` given to `register`, kept in the registration after the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) key: String,
    value: AttributeValue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AttributeValue {
    Integer(i64),
    Text(String),
}

impl FromStr for Attribute {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Invalid("expected KEY=VALUE, for example weight=5".to_owned()));
        };
        if key.is_empty() {
            return Err(Invalid("the key before '=' is empty".to_owned()));
        }
        if key == "host" || key == "port" {
            return Err(Invalid(format!("{key} is the address itself and cannot be set")));
        }
        // Only what JSON prints back as typed is a number: `007` and `+5` are text.
        let value = match value.parse::<i64>() {
            Ok(number) if number.to_string() == value => AttributeValue::Integer(number),
            _ => AttributeValue::Text(value.to_owned()),
        };
        Ok(Attribute { key: key.to_owned(), value })
    }
}

/// What a registrar stores under an instance's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) address: HostPort,
    pub(crate) attributes: Vec<Attribute>,
}

impl fmt::Display for Registration {
    /// `{ "port": 49155, "host": "10.132.181.182", "weight": 5 }`: the bytes the
    /// 2014 `docker-register` wrote, with strings escaped as JSON asks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Value::String(self.address.host.to_string());
        write!(f, "{{ \"port\": {}, \"host\": {host}", self.address.port)?;
        for Attribute { key, value } in &self.attributes {
            let key = Value::String(key.clone());
            match value {
                AttributeValue::Integer(number) => write!(f, ", {key}: {number}")?,
                AttributeValue::Text(text) => {
                    write!(f, ", {key}: {}", Value::String(text.clone()))?
                }
            }
        }
        f.write_str(" }")
    }
}

/// A stored value as a reader sees it, whoever wrote it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instance {
    pub(crate) address: HostPort,
    pub(crate) weight: Option<u64>,
    /// Everything beside `host`, `port` and `weight`.
    pub(crate) attributes: serde_json::Map<String, Value>,
}

impl FromStr for Instance {
    type Err = Invalid;

    /// Reads a registration of ours, a SkyDNS record (any JSON object with `host`
    /// and `port`; the port may be a string), or registrator's plain `HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.len() > MAX_VALUE_BYTES {
            let bytes = text.len();
            return Err(Invalid(format!("value of {bytes} bytes, allowed are {MAX_VALUE_BYTES}")));
        }
        let trimmed = text.trim();
        let instance = if trimmed.starts_with('{') {
            Instance::from_json(trimmed)?
        } else {
            let address = trimmed
                .parse()
                .map_err(|invalid| Invalid(format!("{}: {invalid}", report::excerpt(trimmed))))?;
            Instance { address, weight: None, attributes: serde_json::Map::new() }
        };
        if instance.address.host.is_unspecified() {
            let host = &instance.address.host;
            return Err(Invalid(format!("host {host} is no address anybody can connect to")));
        }
        Ok(instance)
    }
}

impl Instance {
    fn from_json(text: &str) -> Result<Self, Invalid> {
        let mut fields: serde_json::Map<String, Value> =
            serde_json::from_str(text).map_err(|error| {
                Invalid(format!("not JSON: {}", report::excerpt(&error.to_string())))
            })?;
        let host = match fields.remove("host") {
            Some(Value::String(host)) => host.parse::<Host>().map_err(|invalid| {
                Invalid(format!("host {}: {invalid}", report::excerpt(&host)))
            })?,
            Some(_) => return Err(Invalid("host is not a string".to_owned())),
            None => return Err(Invalid("no host in it".to_owned())),
        };
        let port = match fields.remove("port") {
            Some(Value::Number(port)) => port_of(&port.to_string())?,
            Some(Value::String(port)) => port_of(&port)?,
            Some(_) => return Err(Invalid("port is not a number".to_owned())),
            None => return Err(Invalid("no port in it".to_owned())),
        };
        let weight = fields.get("weight").and_then(Value::as_u64);
        if weight.is_some() {
            fields.remove("weight");
        }
        Ok(Instance { address: HostPort { host, port }, weight, attributes: fields })
    }
}

fn port_of(text: &str) -> Result<NonZeroU16, Invalid> {
    port_number(text)
        .map_err(|invalid| Invalid(format!("port {}: {invalid}", report::excerpt(text))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registration(address: &str, attributes: &[&str]) -> Registration {
        Registration {
            address: address.parse().unwrap(),
            attributes: attributes.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn the_value_is_the_articles_byte_for_byte() {
        let plain = registration("10.132.181.182:49155", &[]);
        assert_eq!(plain.to_string(), r#"{ "port": 49155, "host": "10.132.181.182" }"#);
        let with = registration("10.132.181.182:49155", &["weight=5", "zone=a", "n=007", "q=\"\n"]);
        assert_eq!(
            with.to_string(),
            r#"{ "port": 49155, "host": "10.132.181.182", "weight": 5, "zone": "a", "n": "007", "q": "\"\n" }"#
        );
    }

    #[test]
    fn every_known_writer_is_read() {
        for (text, address, weight) in [
            (r#"{ "port": 49155, "host": "10.132.181.182" }"#, "10.132.181.182:49155", None),
            (
                r#"{"host":"10.0.0.1","port":80,"priority":10,"weight":100}"#,
                "10.0.0.1:80",
                Some(100),
            ),
            (r#"{"port":"80","host":"db.local"}"#, "db.local:80", None),
            ("172.17.8.102:6379", "172.17.8.102:6379", None),
            (" [fd00::12]:8080\n", "[fd00::12]:8080", None),
            (r#"{"host":"127.0.0.1","port":1}"#, "127.0.0.1:1", None),
        ] {
            let instance: Instance = text.parse().unwrap();
            assert_eq!(instance.address.to_string(), address, "{text}");
            assert_eq!(instance.weight, weight, "{text}");
        }
    }

    #[test]
    fn values_that_cannot_be_dialled_are_refused_with_a_reason() {
        for (text, reason) in [
            ("", "expected HOST:PORT"),
            ("hello", "expected HOST:PORT"),
            ("{", "not JSON"),
            (r#"{ "port": 49155, "[": , "host": "0.0.0.0" }"#, "not JSON"),
            (r#"{ "port": 0, "host": "10.0.0.1" }"#, "port 0"),
            (r#"{ "port": 70000, "host": "10.0.0.1" }"#, "port 70000"),
            (r#"{ "port": 80.5, "host": "10.0.0.1" }"#, "port 80.5"),
            (r#"{ "port": 80 }"#, "no host"),
            (r#"{ "host": "10.0.0.1" }"#, "no port"),
            (r#"{ "port": 80, "host": "0.0.0.0" }"#, "0.0.0.0"),
            (r#"{ "port": 80, "host": "" }"#, "host"),
            ("[::]:80", "::"),
        ] {
            let reason_given = text.parse::<Instance>().unwrap_err().to_string();
            assert!(reason_given.contains(reason), "{text}: {reason_given}");
        }
        let long = format!("10.0.0.1:80{}", " ".repeat(MAX_VALUE_BYTES));
        assert!(long.parse::<Instance>().unwrap_err().to_string().contains("65547 bytes"));
    }

    #[test]
    fn names_that_would_not_be_one_plain_key_are_refused() {
        for name in ["redis-A", "redis.service", "a", "A_1", "9"] {
            assert!(name.parse::<ServiceName>().is_ok(), "{name}");
        }
        let long = "a".repeat(MAX_NAME_BYTES + 1);
        for name in ["", ".", "..", ".a", "_a", "a/b", "a%2Fb", "a b", "a\n", "é", "a:b", &long] {
            assert!(name.parse::<ServiceName>().is_err(), "{name}");
        }
        assert!("host:redis:6379".parse::<InstanceName>().is_ok());
    }

    #[test]
    fn a_prefix_is_one_directory_however_it_is_written() {
        for text in ["services", "/services", "/services/", "//services"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), "/services");
        }
        for text in ["", "/", "/a/../b", "/_hidden", "/a b"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn attributes_cannot_replace_the_address() {
        for text in ["weight", "=5", "host=a", "port=1"] {
            assert!(text.parse::<Attribute>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_stored_value_panics_the_reader(text in ".{0,200}") {
            let _ = text.parse::<Instance>();
        }

        #[test]
        fn what_is_written_reads_back_as_the_same_address(
            ip: std::net::IpAddr, port in 1..=u16::MAX, key in "[a-z]{1,9}", value in ".{0,20}",
        ) {
            let host = Host::from(ip);
            prop_assume!(!host.is_unspecified() && !["host", "port", "weight"].contains(&&*key));
            let address = HostPort { host, port: NonZeroU16::new(port).unwrap() };
            let attribute = format!("{key}={value}").parse().unwrap();
            let text = Registration { address: address.clone(), attributes: vec![attribute] }.to_string();
            let read: Instance = text.parse().unwrap();
            prop_assert_eq!(read.address, address);
            prop_assert!(read.attributes.contains_key(&key));
        }
    }
}
