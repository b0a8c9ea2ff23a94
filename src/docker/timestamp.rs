//! Moments as engines write them.

/// `2026-11-22T17:08:32.361718364Z` in nanoseconds since 1970, also with an offset
/// such as `+01:00` in place of the `Z`.
///
/// Source: RFC 3339, 5.6; the days are counted as in its appendix B's calendar,
/// from March on, so that a leap day is the last of its year.
pub(super) fn unix_ns(text: &str) -> Option<i64> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
