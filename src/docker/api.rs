//! What is read of Docker's answers, and no more: newer engines drop fields.
//!
//! Source: Docker Engine API 1.41 to 1.51, "Inspect a container", "Monitor events".

use std::collections::BTreeMap;

use serde::Deserialize;

/// Subscribes to what may change a registration. `health_status` and `exec_*`
/// events come with every health check, so events are filtered by the daemon.
///
/// The value of `filters` is the percent-encoded JSON
/// `{"type":["container"],"event":["start","kill","die","pause","unpause","rename","destroy"]}`.
pub(super) const EVENTS_PATH: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C\
    %22event%22%3A%5B%22start%22%2C%22kill%22%2C%22die%22%2C%22pause%22%2C%22unpause%22%2C\
    %22rename%22%2C%22destroy%22%5D%7D";

/// One container, as inspected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Container {
    pub(crate) id: String,
    /// With a leading slash.
    pub(super) name: String,
    pub(crate) state: State,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    pub(crate) running: bool,
    #[serde(default)]
    pub(crate) paused: bool,
    #[serde(default)]
    pub(crate) restarting: bool,
    /// When the container was started last: another value is another life.
    #[serde(default)]
    pub(crate) started_at: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    stop_signal: Option<String>,
    stop_timeout: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
}

/// One address of the host at which a port is published.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Binding {
    #[serde(default)]
    pub(crate) host_ip: String,
    /// Empty for a moment after a start.
    #[serde(default)]
    pub(crate) host_port: String,
}

/// SIGTERM's number: what `docker stop` sends unless the image says otherwise.
const SIGTERM: i32 = 15;

/// Longer stop timeouts count as this: a day is for ever.
const MAX_STOP_TIMEOUT_S: u64 = 24 * 60 * 60;

/// Docker's own default between the stop signal and SIGKILL, in seconds.
const DEFAULT_STOP_TIMEOUT_S: u64 = 10;

impl State {
    /// `started_at` in nanoseconds since 1970.
    pub(crate) fn started_ns(&self) -> Option<i64> {
        unix_ns(&self.started_at)
    }
}

/// `2026-11-22T17:08:32.361718364Z` in nanoseconds since 1970, also with an offset
/// such as `+01:00` in place of the `Z`.
///
/// Source: RFC 3339, 5.6; the days are counted as in its appendix B's calendar,
/// from March on, so that a leap day is the last of its year.
fn unix_ns(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [2200, 12, 31])?;
    let (time, offset_s) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => {
            let (time, offset) = time.split_at_checked(time.len().checked_sub(6)?)?;
            let (sign, offset) = match offset.split_at_checked(1)? {
                ("+", offset) => (1, offset),
                ("-", offset) => (-1, offset),
                _ => return None,
            };
            let [hours, minutes] = numbers(offset, ':', [23, 59])?;
            (time, sign * (hours * 3600 + minutes * 60))
        }
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    // A leap second is the 60th.
    let [hour, minute, second] = numbers(time, ':', [23, 59, 60])?;
    let ns = number(format!("{fraction:0<9}").get(..9)?)?;
    if year < 1970 || month < 1 || day < 1 {
        return None; // Docker's "never" is the year 1.
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    const DAYS_TO_1970: i64 = 719_468;
    let seconds = (days - DAYS_TO_1970) * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    seconds.checked_mul(1_000_000_000)?.checked_add(ns)
}

/// The numbers of `2026-11-22`, if there are as many as in `most` and none is larger.
fn numbers<const COUNT: usize>(
    text: &str,
    separator: char,
    most: [i64; COUNT],
) -> Option<[i64; COUNT]> {
    let numbers: Option<Vec<i64>> = text.split(separator).map(number).collect();
    let numbers: [i64; COUNT] = numbers?.try_into().ok()?;
    numbers.iter().zip(most).all(|(&number, most)| number <= most).then_some(numbers)
}

/// A number in digits only: `str::parse` alone takes a sign.
fn number(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl Container {
    /// The bindings of TCP port `port`: `None` if the container does not expose
    /// it, an empty list if it is exposed but not published.
    pub(crate) fn bindings(&self, port: u16) -> Option<&[Binding]> {
        let ports = self.network_settings.ports.as_ref()?;
        Some(ports.get(&format!("{port}/tcp"))?.as_deref().unwrap_or_default())
    }

    /// The published TCP ports of the container, as `6379/tcp`.
    pub(crate) fn published_ports(&self) -> Vec<&str> {
        let ports = self.network_settings.ports.iter().flatten();
        let published = ports.filter(|(port, bindings)| {
            port.ends_with("/tcp") && bindings.as_ref().is_some_and(|list| !list.is_empty())
        });
        published.map(|(port, _)| port.as_str()).collect()
    }

    /// The number of the signal that asks this container to stop.
    pub(crate) fn stop_signal(&self) -> i32 {
        let name = self.config.stop_signal.as_deref().unwrap_or_default();
        signal_number(name).unwrap_or(SIGTERM)
    }

    /// Seconds between the stop signal and SIGKILL.
    pub(crate) fn stop_timeout_s(&self) -> u64 {
        // -1 waits for ever.
        let seconds = self.config.stop_timeout.and_then(|seconds| seconds.try_into().ok());
        seconds.unwrap_or(DEFAULT_STOP_TIMEOUT_S).min(MAX_STOP_TIMEOUT_S)
    }
}

/// The daemon's host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    pub(super) name: String,
}

/// A change of a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Event {
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
        &self.actor.id
    }

    /// The names the container has, and had before a rename.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let names = [self.actor.attributes.get("name"), self.actor.attributes.get("oldName")];
        names.into_iter().flatten().map(|name| name.strip_prefix('/').unwrap_or(name))
    }

    /// The signal of a `kill`. Podman's events may have none.
    pub(crate) fn signal(&self) -> Option<i32> {
        signal_number(self.actor.attributes.get("signal")?)
    }
}

/// `15`, `TERM`, `SIGTERM` or `SIGRTMIN+3` as a number.
///
/// Source: signal(7), x86 and ARM; Docker takes the same forms (moby/sys/signal).
fn signal_number(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    // The C library keeps 32 and 33 for itself.
    const SIGRTMIN: i32 = 34;
    const SIGRTMAX: i32 = 64;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(above) = name.strip_prefix("RTMIN") {
        return if above.is_empty() {
            Some(SIGRTMIN)
        } else {
            Some(SIGRTMIN + i32::from(above.parse::<i8>().ok()?))
        };
    }
    if let Some(below) = name.strip_prefix("RTMAX") {
        return if below.is_empty() {
            Some(SIGRTMAX)
        } else {
            Some(SIGRTMAX + i32::from(below.parse::<i8>().ok()?))
        };
    }
    let position = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(position + 1).ok()
}

/// The text of an error: Docker's `{"message": …}`, or whatever stands there.
pub(super) fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    match serde_json::from_slice(body) {
        Ok(Message { message }) => message,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// Whether a 404 is about the container. Another one (a socket proxy's, a path
/// nobody serves) says nothing about it.
pub(super) fn says_no_such_container(body: &[u8]) -> bool {
    message(body).to_ascii_lowercase().contains("no such container")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_in_every_form_docker_writes() {
        for (text, number) in [
            ("15", 15),
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigquit", 3),
            ("SIGKILL", 9),
            ("SYS", 31),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(signal_number(text), Some(number), "{text}");
        }
        for text in ["", "SIG", "NOPE", "RTMIN+x", "RTMIN+2147483647"] {
            assert_eq!(signal_number(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_read_in_every_form_engines_write() {
        for (text, ns) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-22T17:29:22.803969591Z", 1_795_368_562_803_969_591),
            ("2026-11-22T18:29:22.8+01:00", 1_795_368_562_800_000_000),
            ("2024-02-29T23:59:59-00:30", 1_709_252_999_000_000_000),
            ("2024-03-01T00:00:00Z", 1_709_251_200_000_000_000),
        ] {
            assert_eq!(unix_ns(text), Some(ns), "{text}");
        }
        for text in [
            "",
            "0001-01-01T00:00:00Z",
            "2026-11-22",
            "2026-13-01T00:00:00Z",
            "é",
            "T",
            "2026-11-22Té",
            "2026-11-22-01T00:00:00Z",
            "2026-11-9223372036854775807T00:00:00Z",
            "2026-11-22T9223372036854775807:00:00Z",
            "2026-11-22T00:00:61Z",
            "2026-11-22T-1:00:00Z",
            "2026-11-22T00:00:00.-5Z",
            "2026-11-22T00:00:00 01:00",
            "2026-11-22T00:00:00-24:00",
        ] {
            assert_eq!(unix_ns(text), None, "{text}");
        }
    }

    #[test]
    fn only_dockers_own_404_means_that_the_container_is_gone() {
        assert!(says_no_such_container(br#"{"message":"No such container: redis"}"#));
        let podman = br#"{"cause":"no such container","message":"no container with name or ID \"r\" found: no such container","response":404}"#;
        assert!(says_no_such_container(podman));
        assert!(!says_no_such_container(br#"{"message":"page not found"}"#));
        assert!(!says_no_such_container(b"<html>404 Not Found</html>"));
    }

    #[test]
    fn fields_that_newer_engines_dropped_are_not_missed() {
        let container: Container = serde_json::from_str(
            r#"{"Id":"ab","Name":"/redis","State":{"Running":true,"StartedAt":"t"},
                "Config":{"StopSignal":"SIGINT","StopTimeout":1},
                "NetworkSettings":{"Ports":{"6379/tcp":[{"HostIp":"10.0.0.1","HostPort":"49155"}],
                "80/tcp":null,"53/udp":[{"HostIp":"0.0.0.0","HostPort":"1"}]}}}"#,
        )
        .unwrap();
        assert_eq!((container.stop_signal(), container.stop_timeout_s()), (2, 1));
        assert_eq!(container.published_ports(), ["6379/tcp"]);
        assert_eq!(container.bindings(6379).unwrap()[0].host_port, "49155");
        assert_eq!(container.bindings(80), Some(&[][..]));
        assert_eq!(container.bindings(53), None);
        let event: Event = serde_json::from_str(
            r#"{"Type":"container","Action":"rename","Actor":{"ID":"ab","Attributes":
                {"name":"new","oldName":"/old","signal":"9"}},"time":1}"#,
        )
        .unwrap();
        assert_eq!(event.names().collect::<Vec<_>>(), ["new", "old"]);
        assert_eq!((event.container(), event.signal()), ("ab", Some(9)));
    }
}
