//! Which engine answers, and whether it is new enough.

use std::fmt;

use serde::Deserialize;

/// The first API with all that is read here: events tell of actors since 1.22 (Docker
/// 1.10), containers of their health since 1.24 (Docker 1.12, of 2016).
///
/// Source: Docker Engine API, version history.
pub(crate) const OLDEST_API: Api = Api { major: 1, minor: 24 };

/// An engine, as it introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Version {
    version: String,
    #[serde(rename = "ApiVersion")]
    api: String,
    #[serde(default)]
    components: Option<Vec<Component>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    name: String,
}

/// A version of Docker's API. Later ones have what earlier ones have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Api {
    major: u32,
    minor: u32,
}

impl Version {
    /// The newest API that is offered, unless it is no version of one.
    pub(crate) fn api(&self) -> Option<Api> {
        let (major, minor) = self.api.split_once('.')?;
        Some(Api { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Docker calls itself just "Engine".
        let mut components = self.components.iter().flatten();
        let is_podman = components.any(|component| component.name.starts_with("Podman"));
        let name = if is_podman { "Podman" } else { "Docker" };
        write!(f, "{name} {}, API {}", self.version, self.api)
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_docker_unless_it_has_a_part_of_podman() {
        let shown = |components: &str| {
            let json = format!(r#"{{"Version":"4.9.3","ApiVersion":"1.41"{components}}}"#);
            serde_json::from_str::<Version>(&json).unwrap().to_string()
        };
        assert_eq!(shown(""), "Docker 4.9.3, API 1.41");
        assert_eq!(shown(r#","Components":null"#), "Docker 4.9.3, API 1.41");
        assert_eq!(shown(r#","Components":[{"Name":"Engine"}]"#), "Docker 4.9.3, API 1.41");
        let podman = r#","Components":[{"Name":"Podman Engine"},{"Name":"Conmon"}]"#;
        assert_eq!(shown(podman), "Podman 4.9.3, API 1.41");
    }

    #[test]
    fn versions_of_the_api_are_compared_by_their_numbers() {
        let api = |text: &str| {
            Version { version: String::new(), api: text.to_owned(), components: None }.api()
        };
        assert!(api("1.9") < api("1.24"));
        assert!(api("1.24") == Some(OLDEST_API) && api("2.0") > api("1.51"));
        for text in ["", "1", "1.", "1.x", "v1.24", "-1.24", "1.99999999999"] {
            assert_eq!(api(text), None, "{text}");
        }
    }
}
