//! Parsers of single values. An error completes the sentence "VALUE: …" and says
//! what is allowed.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use crate::{
    address::{self, HostPort},
    etcd, report,
    roles::Alias,
    service::ServiceName,
    traffic::Listen,
};

const HOUR: Duration = Duration::from_secs(3600);

/// The value of `--etcd`; a type of its own because clap takes a `Vec` for
/// an option that may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Members(pub(super) Vec<etcd::Member>);

/// `URL[,URL...]`.
pub(super) fn members(text: &str) -> Result<Members, String> {
    let mut members = Vec::new();
    for url in text.split(',').map(str::trim) {
        let member =
            url.parse().map_err(|problem| format!("'{}': {problem}", report::excerpt(url)))?;
        if !members.contains(&member) {
            members.push(member);
        }
    }
    Ok(Members(members))
}

/// `500ms`, `10s`, `5m`, `1h`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a duration such as 500ms, 10s or 5m";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(EXPECTED.to_owned()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| EXPECTED.to_owned())
}

fn between(text: &str, min: (Duration, &str), max: (Duration, &str)) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration < min.0 || duration > max.0 {
        return Err(format!("allowed is {} to {}", min.1, max.1));
    }
    Ok(duration)
}

pub(super) fn connect_timeout(text: &str) -> Result<Duration, String> {
    between(text, (Duration::from_millis(1), "1ms"), (Duration::from_secs(300), "5m"))
}

pub(super) fn up_to_an_hour(text: &str) -> Result<Duration, String> {
    between(text, (Duration::ZERO, "0"), (HOUR, "1h"))
}

pub(super) fn idle_timeout(text: &str) -> Result<Duration, String> {
    between(text, (Duration::from_secs(1), "1s"), (24 * HOUR, "24h"))
}

/// etcd counts TTLs in whole seconds, so a fraction is rounded up.
pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = between(text, (Duration::from_secs(3), "3s"), (HOUR, "1h"))?;
    Ok(Duration::from_secs(ttl.as_millis().div_ceil(1000) as u64))
}

pub(super) fn max_connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=100_000) => Ok(count),
        _ => Err("allowed is a number from 1 to 100000".to_owned()),
    }
}

/// What tells how a process is concerns its host alone, unless somebody says otherwise.
pub(super) fn admin(text: &str) -> Result<SocketAddr, String> {
    match text.parse() {
        Ok(Listen::Any(port)) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Ok(Listen::At(address)) => Ok(address),
        Err(problem) => Err(problem.to_owned()),
    }
}

pub(super) fn port(text: &str) -> Result<NonZeroU16, String> {
    address::port_number(text).map_err(|invalid| invalid.to_string())
}

/// An address that can be dialled.
pub(super) fn upstream(text: &str) -> Result<HostPort, String> {
    let address: HostPort = text.parse().map_err(|invalid| format!("{invalid}"))?;
    if address.host.is_unspecified() {
        return Err(format!("{} is no address anybody can connect to", address.host));
    }
    Ok(address)
}

pub(super) fn host_ip(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if ip.is_unspecified() => {
            Err("no host can be reached at it; expected the address of this host".to_owned())
        }
        Ok(ip) => Ok(ip),
        Err(_) => Err("expected an IP address".to_owned()),
    }
}

/// Docker's own rule for names (moby, `daemon/names`): `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(super) fn container(text: &str) -> Result<String, String> {
    let is_name = text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("a container's name has 2 or more characters of A-Z a-z 0-9 . _ - and begins with \
             a letter or digit"
            .to_owned())
    }
}

/// The first part of link variables: what a shell takes as a variable's name.
pub(super) fn alias(text: &str) -> Result<String, String> {
    let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("expected letters, digits and _, not beginning with a digit".to_owned())
    }
}

/// The first part of link variables for a service or an alias that has other characters.
pub(super) fn in_variables(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}

/// The value of `--service`: which service, under which name, at which port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) service: ServiceName,
    pub(super) alias: Alias,
    /// 0 for a free one.
    pub(super) port: u16,
}

/// `SERVICE:ALIAS[:PORT]`.
pub(super) fn link(text: &str) -> Result<Link, String> {
    let mut words = text.split(':');
    let (Some(service), Some(typed), port, None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("expected SERVICE:ALIAS[:PORT], for example redis-A:db:6379".to_owned());
    };
    let service = service.parse().map_err(|invalid| format!("SERVICE: {invalid}"))?;
    let in_variables =
        alias(&in_variables(typed)).map_err(|invalid| format!("ALIAS: {invalid}"))?;
    let port = match port {
        Some(text) => self::port(text)?.get(),
        None => 0,
    };
    Ok(Link { service, alias: Alias { typed: typed.to_owned(), in_variables }, port })
}
