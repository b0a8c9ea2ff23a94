//! The machine a table was made on, without which it says little.

use std::{fs, path::Path};

use crate::{
    peers::{self, Peer},
    sandbox::Cpus,
};

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    /// Each program with its version.
    pub(crate) versions: Vec<(&'static str, String)>,
    pub(crate) binary_bytes: u64,
}

impl Machine {
    pub(crate) fn this(peers: &[Peer]) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let mut versions: Vec<_> = peers
            .iter()
            // The tuned one is the same program.
            .filter(|&&peer| peer != Peer::HaproxyTuned)
            .filter_map(|&peer| Some((peer.name(), peer.version()?)))
            .collect();
        versions.extend(peers::package_version("redis-server").map(|version| ("redis", version)));
        Self {
            processor: model.map_or("unknown processor", |(_, model)| model).trim().to_owned(),
            cpus: Cpus::count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            versions,
            binary_bytes: fs::metadata(peers::ambassador()).map_or(0, |metadata| metadata.len()),
        }
    }

    /// Two sentences for below the table.
    pub(crate) fn describe(&self) -> String {
        let versions: Vec<String> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "{}, {} CPUs, Linux {}. Versions: {}.",
            self.processor,
            self.cpus,
            self.kernel,
            versions.join(", ")
        )
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
