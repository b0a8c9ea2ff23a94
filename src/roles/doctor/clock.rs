//! Clocks: of this host, and of the members of etcd.

use std::time::{Duration, SystemTime};

use super::{finding::Finding, members::Examined};
use crate::{etcd::Reading, report};

/// Clocks that NTP sets differ by milliseconds; HTTP tells whole seconds.
const TOLERANCE_MS: i64 = 2000;

/// By how much a clock is ahead of ours: somewhere between the two, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offset {
    least: i64,
    most: i64,
}

pub(super) fn judge(members: &[(String, Examined)]) -> Finding {
    let offsets = members.iter().filter_map(|(url, examined)| {
        let reading = examined.about.as_ref()?.clock?;
        Some((url.as_str(), Offset::of(reading)))
    });
    compare(&offsets.collect::<Vec<_>>())
}

fn compare(offsets: &[(&str, Offset)]) -> Finding {
    const CHECK: &str = "clock";
    let most_ahead = offsets.iter().map(|(_, offset)| offset.least).max();
    let most_behind = offsets.iter().map(|(_, offset)| offset.most).min();
    let (Some(most_ahead), Some(most_behind)) = (most_ahead, most_behind) else {
        return Finding::warn(
            CHECK,
            "not compared: no member of etcd has told its time",
            "make etcd answer first",
        );
    };
    let apart = most_ahead - most_behind;
    if apart > TOLERANCE_MS {
        return Finding::warn(
            CHECK,
            format!("members of etcd are {} apart", seconds(apart)),
            "let NTP set the clocks of all of them: with API v2 one member's clock begins a TTL \
             and another's ends it, so entries would vanish early or outlive their registrars",
        );
    }
    let worst = offsets.iter().max_by_key(|(_, offset)| offset.distance());
    match worst {
        Some((url, offset)) if offset.distance() > TOLERANCE_MS => {
            let where_to = if offset.least > 0 { "behind" } else { "ahead of" };
            let apart = seconds(offset.distance());
            Finding::warn(
                CHECK,
                format!("{apart} {where_to} that of {url}"),
                "let NTP set it: TTLs do not depend on it, etcd counts them, but whether \
                 certificates are valid does, and logs of several hosts are hard to read together",
            )
        }
        _ => Finding::ok(CHECK, "agrees with etcd's"),
    }
}

impl Offset {
    fn of(Reading { said, asked, answered }: Reading) -> Self {
        // It showed this second until the next one.
        let next = said + Duration::from_secs(1);
        Offset { least: milliseconds(answered, said), most: milliseconds(asked, next) }
    }

    /// How far apart the clocks are at least.
    fn distance(self) -> i64 {
        self.least.max(-self.most).max(0)
    }
}

/// From `earlier` to `later`; below zero if it is the other way round.
fn milliseconds(earlier: SystemTime, later: SystemTime) -> i64 {
    let whole = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4);
    match later.duration_since(earlier) {
        Ok(after) => whole(after),
        Err(before) => -whole(before.duration()),
    }
}

fn seconds(milliseconds: i64) -> String {
    report::duration(Duration::from_millis(milliseconds.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::doctor::finding::State;

    /// A clock that said second 1000 when ours was between `asked` and `answered`.
    fn offset(asked: u64, answered: u64) -> Offset {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        Offset::of(Reading { said: at(1_000_000), asked: at(asked), answered: at(answered) })
    }

    #[test]
    fn whole_seconds_and_a_slow_answer_are_no_difference() {
        for (asked, answered) in
            [(1_000_000, 1_000_000), (1_000_999, 1_000_999), (995_000, 1_005_000)]
        {
            assert_eq!(offset(asked, answered).distance(), 0, "{asked} {answered}");
        }
        assert_eq!(offset(1_003_500, 1_003_600).distance(), 2500);
        assert_eq!(offset(996_000, 996_100).distance(), 3900);
    }

    #[test]
    fn a_clock_is_warned_of_when_it_is_more_than_two_seconds_off() {
        let compared = |offset| compare(&[("http://a:1", offset)]);
        assert_eq!(compared(offset(1_003_000, 1_003_000)).state, State::Ok);
        assert_eq!(compared(offset(998_000, 998_000)).state, State::Ok);
        let ahead = compared(offset(1_003_001, 1_003_001));
        assert_eq!(ahead.state, State::Warn);
        assert_eq!(ahead.finding, "2.0s ahead of that of http://a:1");
        let behind = compared(offset(990_000, 990_000));
        assert_eq!(behind.finding, "10.0s behind that of http://a:1");
    }

    #[test]
    fn members_that_are_apart_are_warned_of_even_if_none_is_far_from_this_host() {
        let far = [("a", offset(1_002_500, 1_002_500)), ("b", offset(998_500, 998_500))];
        assert_eq!(compare(&far).finding, "members of etcd are 3.0s apart");
        let near = [("a", offset(1_002_000, 1_002_000)), ("b", offset(999_000, 999_000))];
        assert_eq!(compare(&near).state, State::Ok);
        assert_eq!(compare(&[]).state, State::Warn);
    }
}
