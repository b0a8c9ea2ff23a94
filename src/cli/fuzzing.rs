//! What must hold of typed values with bounds.

use std::{str, time::Duration};

use super::values;
use crate::property::assert_is_one_line;

/// A duration is a number times its unit, and within the bounds of its option.
pub fn duration(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit_ms = match &text[digits.len()..] {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse::<u64>().ok().filter(|_| is_number);
    let expected = number.zip(unit_ms).map(|(number, unit)| u128::from(number) * unit);
    let longest = Duration::from_secs(u64::MAX).as_millis();

    let duration = values::duration(text);
    let ms = duration.as_ref().ok().map(Duration::as_millis);
    assert_eq!(ms, expected.filter(|&ms| ms <= longest), "{text:?}");
    if let Err(problem) = duration {
        assert_is_one_line(&problem);
    }
    for (taken, bounds) in [
        (values::connect_timeout(text), 1..=300_000),
        (values::up_to_an_hour(text), 0..=3_600_000),
        (values::idle_timeout(text), 1000..=86_400_000),
    ] {
        let ms = expected.filter(|ms| bounds.contains(ms));
        assert_eq!(taken.ok().map(|taken| taken.as_millis()), ms, "{text:?}");
    }
    let ttl = expected.filter(|ms| (3000..=3_600_000).contains(ms));
    let seconds = ttl.map(|ms| ms.div_ceil(1000) * 1000);
    assert_eq!(values::ttl(text).ok().map(|ttl| ttl.as_millis()), seconds, "{text:?}");
}
