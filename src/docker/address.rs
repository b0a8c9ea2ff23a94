//! Where Docker is asked: `unix://PATH` or `tcp://HOST:PORT`.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::{address::HostPort, connect};

/// Where Docker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(HostPort),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => {
                if path.len() > connect::MAX_UNIX_PATH_BYTES {
                    let limit = connect::MAX_UNIX_PATH_BYTES;
                    return Err(format!("a socket's path has at most {limit} bytes"));
                }
                Ok(Address::Unix(path.into()))
            }
            Some(("unix", _)) => Err("the path must be absolute, as unix:///PATH".to_owned()),
            Some(("tcp", address)) => {
                let address = address.strip_suffix('/').unwrap_or(address);
                address.parse().map(Address::Tcp).map_err(|invalid| format!("{invalid}"))
            }
            _ => Err("expected unix:///PATH or tcp://HOST:PORT".to_owned()),
        }
    }
}

impl Default for Address {
    fn default() -> Self {
        Address::Unix("/var/run/docker.sock".into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_unix_path_or_a_tcp_address() {
        for text in ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:2375"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let long = format!("unix:///{}", "a".repeat(107));
        for text in [
            "",
            "/var/run/docker.sock",
            "unix://",
            "unix://a",
            "tcp://a",
            "http://a:1",
            "npipe:////./x",
            &long,
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?} was taken");
        }
    }
}
