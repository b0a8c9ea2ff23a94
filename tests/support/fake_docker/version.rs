//! Whose habits the fake engine has.

/// The engine it plays. `crate::engine` compares those that can be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    /// API 1.41: `die` comes before `stop`.
    #[default]
    V20,
    /// API 1.51: `stop` comes before `die`.
    V28,
    /// API 1.52, only documented: as 28; events have no `status`, `id` and `from`, inspect no
    /// address outside `Networks`, and the list has `Health`.
    ///
    /// Source: Engine API version history, v1.52.
    V29,
    /// Podman's Docker-compatible API, only documented: what differs most from Docker in any of
    /// its versions, all at once.
    ///
    /// Sources: podman-events(1) for `died` and `remove`; Podman's issue 12628 for `died` in this
    /// API, before 4.0; its pull request 10286 for times with an offset, before 3.2; its pull
    /// request 5031 for names without a slash, in 1.x and ever since in Podman's own API;
    /// pkg/api/handlers/compat and libpod/events.go for the rest.
    Podman,
}

impl Version {
    pub(super) fn api(self) -> &'static str {
        match self {
            Version::V20 | Version::Podman => "1.41",
            Version::V28 => "1.51",
            Version::V29 => "1.52",
        }
    }

    /// What the engine calls itself among its components.
    pub(super) fn engine(self) -> &'static str {
        match self {
            Version::V20 | Version::V28 | Version::V29 => "Engine",
            Version::Podman => "Podman Engine",
        }
    }

    /// `HostConfig.NetworkMode` of a container whose `docker run` line names no network.
    pub(super) fn default_network_mode(self) -> &'static str {
        match self {
            Version::V20 => "default",
            Version::V28 | Version::V29 | Version::Podman => "bridge",
        }
    }

    /// The network that such a container is in.
    pub(super) fn default_network(self) -> &'static str {
        match self {
            Version::V20 | Version::V28 | Version::V29 => "bridge",
            Version::Podman => "podman",
        }
    }
}
