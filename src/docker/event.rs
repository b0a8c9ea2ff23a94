//! What Docker tells of by itself.
//!
//! Source: Docker Engine API 1.41 to 1.51, "Monitor events".

use std::collections::BTreeMap;

use serde::Deserialize;

use super::signal;

/// Subscribes to what may change a registration. `exec_*` events come with every health
/// check, so events are filtered by the daemon.
///
/// The value of `filters` is the percent-encoded JSON `{"type":["container","network"],
/// "event":["start","kill","die","pause","unpause","rename","destroy","health_status",
/// "connect","disconnect","died","remove"]}`, of which the last two are Podman's words for
/// `die` and `destroy` (podman-events(1)).
pub(super) const PATH: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%2C\
    %22network%22%5D%2C%22event%22%3A%5B%22start%22%2C%22kill%22%2C%22die%22%2C%22pause%22%2C\
    %22unpause%22%2C%22rename%22%2C%22destroy%22%2C%22health_status%22%2C%22connect%22%2C\
    %22disconnect%22%2C%22died%22%2C%22remove%22%5D%7D";

/// A change of a container, or of a network it is in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Event {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    pub(crate) action: String,
    /// When it happened, in nanoseconds since 1970.
    #[serde(default, rename = "timeNano")]
    pub(crate) time_nano: Option<i64>,
    #[serde(default)]
    actor: Actor,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

impl Event {
    /// The id of the container it is about.
    pub(crate) fn container(&self) -> &str {
        match self.r#type.as_str() {
            // Podman has it in the place of the network's.
            "network" => self.actor.attributes.get("container").unwrap_or(&self.actor.id),
            _ => &self.actor.id,
        }
    }

    /// The names the container has, and had before a rename.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        // That of a network is no container's.
        let is_network = self.r#type == "network";
        let names = ["name", "oldName"].map(|name| match is_network {
            true => None,
            false => self.actor.attributes.get(name),
        });
        names.into_iter().flatten().map(|name| name.strip_prefix('/').unwrap_or(name))
    }

    /// The signal of a `kill`. Podman's events may have none.
    pub(crate) fn signal(&self) -> Option<i32> {
        signal::number(self.actor.attributes.get("signal")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_newer_engines_dropped_are_not_missed() {
        let event: Event = serde_json::from_str(
            r#"{"Type":"container","Action":"rename","Actor":{"ID":"ab","Attributes":
                {"name":"new","oldName":"/old","signal":"9"}},"time":1}"#,
        )
        .unwrap();
        assert_eq!(event.names().collect::<Vec<_>>(), ["new", "old"]);
        assert_eq!((event.container(), event.signal()), ("ab", Some(9)));
    }

    #[test]
    fn an_event_of_a_network_is_about_the_container_in_it() {
        let event: Event = serde_json::from_str(
            r#"{"Type":"network","Action":"connect","Actor":{"ID":"net","Attributes":
                {"container":"ab","name":"back"}}}"#,
        )
        .unwrap();
        assert_eq!((event.container(), event.names().count()), ("ab", 0));
    }
}
