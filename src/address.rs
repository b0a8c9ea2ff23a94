//! `HOST:PORT`: what is dialled, registered and typed.

use std::{fmt, net::IpAddr, num::NonZeroU16, str::FromStr};

/// Longest host name in DNS (RFC 1035, 2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// A host by address or by name, and a port that is not 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HostPort {
    pub(crate) host: Host,
    pub(crate) port: NonZeroU16,
}

/// A host as written; a name is resolved anew for every use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Host {
    /// Never an IPv4 address that is mapped into IPv6 (`::ffff:127.0.0.1`): it would be
    /// another value for the same host. `Host::from` sees to that.
    Ip(IpAddr),
    Name(String),
}

/// What is wrong with a text that should be an address. Displays as a clause
/// that follows the quoted text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid(&'static str);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Invalid {}

const NOT_HOST_PORT: Invalid =
    Invalid("expected HOST:PORT, for example 10.1.0.1:6379, db.local:5432 or [fd00::1]:6379");
const NOT_A_PORT: Invalid = Invalid("the port must be a number from 1 to 65535");
const NOT_A_HOST: Invalid =
    Invalid("the host must be an IP address or a name of letters, digits, '.', '-' and '_'");

impl Host {
    /// Whether nobody can be reached there: `0.0.0.0` or `::`.
    pub(crate) fn is_unspecified(&self) -> bool {
        matches!(self, Host::Ip(ip) if ip.is_unspecified())
    }

    /// Whether only this host itself can be reached there.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Host::Ip(ip) => ip.is_loopback(),
            Host::Name(name) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Host::Ip(ip.to_canonical())
    }
}

impl FromStr for Host {
    type Err = Invalid;

    /// An IP address, an IPv6 address in brackets, or a name.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return inner.parse().map(|ip| IpAddr::V6(ip).into()).map_err(|_| NOT_A_HOST);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(ip.into());
        }
        let is_name = !text.is_empty()
            && text.len() <= MAX_NAME_BYTES
            && !text.starts_with(['.', '-'])
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            // `1.2.3` or `10.1.0.300` is a mistyped address: resolvers read some of
            // these in surprising ways (inet_aton(3)), and no TLD is all digits.
            && text.rsplit('.').find(|label| !label.is_empty()).is_some_and(|label| {
                !label.bytes().all(|b| b.is_ascii_digit())
            });
        if is_name { Ok(Host::Name(text.to_owned())) } else { Err(NOT_A_HOST) }
    }
}

impl FromStr for HostPort {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (host, port) = text.rsplit_once(':').ok_or(NOT_HOST_PORT)?;
        // `fd00::1:6379` would be read as host `fd00::1`; brackets are required.
        if host.contains(':') && !host.starts_with('[') {
            return Err(NOT_HOST_PORT);
        }
        Ok(HostPort { host: host.parse()?, port: port_number(port)? })
    }
}

/// A port from 1 to 65535, in digits only and as it is printed (`str::parse` alone
/// takes `+80` and `080`).
pub(crate) fn port_number(text: &str) -> Result<NonZeroU16, Invalid> {
    if text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NOT_A_PORT);
    }
    text.parse().map_err(|_| NOT_A_PORT)
}

impl fmt::Display for Host {
    /// Without brackets: as stored in a registration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(ip) => ip.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_they_are_typed() {
        for text in ["10.1.0.1:6379", "[fd00::1]:80", "db.local:5432", "redis_1:1", "[::]:65535"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_ipv4_address_written_as_ipv6_is_that_ipv4_address() {
        for text in ["[::ffff:10.1.0.1]:80", "[::ffff:a01:1]:80"] {
            assert_eq!(text.parse::<HostPort>(), "10.1.0.1:80".parse(), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ":",
            ":80",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:080",
            "a: 80",
            "a b:80",
            "fd00::1:80",
            "[10.1.0.1]:80",
            "[fd00::1]",
            "10.1.0:80",
            "10.1.0.256:80",
            "-a:80",
            "a:80\n",
            "a/b:80",
            "é:80",
            "%2f:80",
            "[fd00::1%eth0]:80",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn addresses_nobody_else_can_reach_are_known() {
        let host = |text: &str| text.parse::<Host>().unwrap();
        for text in ["0.0.0.0", "::", "::ffff:0.0.0.0", "[::ffff:0.0.0.0]"] {
            assert!(host(text).is_unspecified(), "{text}");
        }
        for text in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost", "LocalHost"]
        {
            assert!(host(text).is_loopback(), "{text}");
        }
        assert!(!host("10.0.0.1").is_loopback() && !host("localhost.example").is_loopback());
    }
}
