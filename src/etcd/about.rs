//! What a member says of itself to anybody: its version and its time.

use std::time::SystemTime;

use serde::Deserialize;

use super::{Error, transport::Attempt};

/// A member, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) version: String,
    /// None where something between here and etcd leaves it out.
    pub(crate) clock: Option<Reading>,
}

/// Another host's clock, in whole seconds that have passed, read at some moment between
/// two of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) said: SystemTime,
    pub(crate) asked: SystemTime,
    pub(crate) answered: SystemTime,
}

/// `GET /version`, which needs neither a user nor a quorum.
pub(super) fn about(attempt: Attempt<'_>) -> Result<About, Error> {
    #[derive(Deserialize)]
    struct Version {
        etcdserver: String,
    }
    let asked = SystemTime::now();
    let reply = attempt.get("/version", &[], &[])?;
    let answered = SystemTime::now();
    let date = reply.headers().get("Date").and_then(|value| value.to_str().ok());
    let clock = date.and_then(http_date).map(|said| Reading { said, asked, answered });
    let status = reply.status();
    let body = reply.body()?;
    if status != 200 {
        let text = String::from_utf8_lossy(&body);
        return Err(attempt.unusable(&format!("HTTP status {status}: {text}")));
    }
    let Version { etcdserver } = serde_json::from_slice(&body)
        .map_err(|error| attempt.unusable(&format!("an answer that is not etcd's: {error}")))?;
    Ok(About { version: etcdserver, clock })
}

/// `Sun, 22 Nov 2026 17:29:21 GMT`, the one form that is written today (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_date_is_what_http_writes_and_nothing_else() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), at(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), at(1_709_251_199));
        for text in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37 GMT and more",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
            "Sun, \u{666} Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(http_date(text), None, "{text}");
        }
    }
}
