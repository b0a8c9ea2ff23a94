//! What a listing says of a container: enough to see whether it changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::api::Network;

/// One container of a listing. Two that are equal are of a container that need not be
/// inspected again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    pub(crate) id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    state: String,
    #[serde(default, rename = "Status", deserialize_with = "condition")]
    condition: String,
    #[serde(default, deserialize_with = "sorted")]
    ports: Vec<Port>,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Port {
    #[serde(rename = "IP")]
    ip: String,
    private_port: u16,
    public_port: u16,
    r#type: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    networks: Option<BTreeMap<String, Network>>,
}

/// `(healthy)` of `Up 28 seconds (healthy)`: the rest changes by itself.
fn condition<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let status = String::deserialize(deserializer)?;
    Ok(status.find('(').map_or("", |at| &status[at..]).to_owned())
}

/// Docker lists them in any order.
fn sorted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Port>, D::Error> {
    let ports: Option<Vec<Port>> = Deserialize::deserialize(deserializer)?;
    let mut ports = ports.unwrap_or_default();
    ports.sort();
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(status: &str, ports: &str) -> Listed {
        let json = format!(
            r#"{{"Id":"ab","Names":["/web"],"State":"running","Status":"{status}","Ports":{ports},
                "NetworkSettings":{{"Networks":{{"bridge":{{"IPAddress":"172.17.0.2"}}}}}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn time_and_order_are_no_change() {
        let one = r#"{"PrivatePort":80,"Type":"tcp"}"#;
        let other = r#"{"IP":"::","PrivatePort":81,"PublicPort":8081,"Type":"tcp"}"#;
        let before = listed("Up 28 seconds (healthy)", &format!("[{one},{other}]"));
        assert_eq!(before, listed("Up 2 hours (healthy)", &format!("[{other},{one}]")));
        assert_ne!(before, listed("Up 2 hours (unhealthy)", &format!("[{other},{one}]")));
        assert_ne!(before, listed("Up 2 hours (healthy)", &format!("[{one}]")));
        assert_ne!(before, listed("Up 2 hours (healthy)", "null"));
    }
}
