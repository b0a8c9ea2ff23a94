//! How other registries write the same entry, for those who read theirs.

use serde_json::{Map, Value};

use super::{Attribute, AttributeValue, InstanceName, Prefix, Registration, ServiceName};

/// Which tree an entry is written to, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Ours: `PREFIX/SERVICE/INSTANCE` and JSON, as the 2014 `docker-register` wrote it.
    Ambassador,
    /// gliderlabs/registrator's `etcd://`: `PREFIX/SERVICE/HOSTNAME:CONTAINER:PORT` and
    /// `HOST:PORT`.
    Registrator,
    /// SkyDNS and CoreDNS: `/skydns/local/PREFIX/SERVICE/LABEL` and their JSON, which
    /// answers for `SERVICE.PREFIX.local`.
    Skydns,
}

impl Format {
    /// Whether an instance is named after its host, unless it is told its name.
    pub(crate) fn names_the_host(self) -> bool {
        match self {
            Format::Ambassador => false,
            Format::Registrator | Format::Skydns => true,
        }
    }

    /// The key and the value of an entry.
    pub(crate) fn write(
        self,
        prefix: &Prefix,
        service: &ServiceName,
        instance: &InstanceName,
        registration: &Registration,
    ) -> (String, String) {
        match self {
            Format::Ambassador => (prefix.instance(service, instance), registration.to_string()),
            Format::Registrator => {
                (prefix.instance(service, instance), registration.address.to_string())
            }
            Format::Skydns => {
                let parts = prefix.to_string();
                let parts = parts.split('/').filter(|part| !part.is_empty()).map(label);
                let service = label(&service.to_string());
                let key: Vec<String> =
                    parts.chain([service, label(&instance.to_string())]).collect();
                (format!("/skydns/local/{}", key.join("/")), record(registration))
            }
        }
    }
}

/// `text` as one label of a DNS name, which has neither dots nor colons. CoreDNS asks in
/// lower case.
fn label(text: &str) -> String {
    text.to_ascii_lowercase().replace([':', '.', '_'], "-")
}

/// Without blanks, as registrator's `skydns2://` writes it; attributes but the weight are
/// its text.
fn record(Registration { address, attributes }: &Registration) -> String {
    let mut record = Map::new();
    record.insert("host".to_owned(), Value::from(address.host.to_string()));
    record.insert("port".to_owned(), Value::from(address.port.get()));
    let mut text = Vec::new();
    for Attribute { key, value } in attributes {
        match value {
            AttributeValue::Integer(number) if key == "weight" => {
                record.insert("weight".to_owned(), Value::from(*number));
            }
            AttributeValue::Integer(number) => text.push(format!("{key}={number}")),
            AttributeValue::Text(value) => text.push(format!("{key}={value}")),
        }
    }
    if !text.is_empty() {
        record.insert("text".to_owned(), Value::from(text.join(" ")));
    }
    Value::Object(record).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, instance: &str, address: &str, attributes: &[&str]) -> [String; 2] {
        let registration = Registration {
            address: address.parse().unwrap(),
            attributes: attributes.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let prefix = "/services".parse().unwrap();
        let instance = instance.parse().unwrap();
        let (key, value) =
            format.write(&prefix, &"redis".parse().unwrap(), &instance, &registration);
        [key, value]
    }

    #[test]
    fn registrators_entries_are_written_byte_for_byte() {
        let id = "core-01:redis.0:6379";
        assert_eq!(
            written(Format::Registrator, id, "172.17.8.102:6379", &["zone=a"]),
            ["/services/redis/core-01:redis.0:6379", "172.17.8.102:6379"]
        );
        let [_, value] = written(Format::Registrator, id, "[fd00::12]:8080", &[]);
        assert_eq!(value, "[fd00::12]:8080");
    }

    #[test]
    fn records_of_dns_have_labels_and_no_blanks() {
        let id = "Core-01:redis.0:6379";
        assert_eq!(
            written(Format::Skydns, id, "172.17.8.102:6379", &[]),
            [
                "/skydns/local/services/redis/core-01-redis-0-6379",
                r#"{"host":"172.17.8.102","port":6379}"#
            ]
        );
        let [_, value] = written(Format::Skydns, id, "10.0.0.1:80", &["weight=5", "zone=a", "n=7"]);
        assert_eq!(value, r#"{"host":"10.0.0.1","port":80,"text":"zone=a n=7","weight":5}"#);
    }
}
