//! Times as engines write them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970 and nanoseconds.
#[derive(Clone, Copy)]
pub(super) struct Time {
    pub(super) seconds: u64,
    pub(super) nanos: u64,
}

impl Time {
    pub(super) fn now() -> Time {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Time { seconds: now.as_secs(), nanos: now.subsec_nanos().into() }
    }

    /// As Docker writes it.
    pub(super) fn utc(self) -> String {
        format!("{}Z", self.local(0))
    }

    /// As it is written one hour east of Greenwich.
    pub(super) fn an_hour_east(self) -> String {
        format!("{}+01:00", self.local(3600))
    }

    fn local(self, offset_s: u64) -> String {
        let seconds = self.seconds + offset_s;
        let (mut days, mut year) = (seconds / 86_400, 1970);
        let is_leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        while days >= 365 + u64::from(is_leap(year)) {
            days -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let mut month = 0;
        let february = 28 + u64::from(is_leap(year));
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            month += 1;
            if days < length {
                break;
            }
            days -= length;
        }
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let nanos = self.nanos;
        format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}", days + 1)
    }
}
