//! Reads single values: counts, durations, byte sizes, money and dates.
//!
//! Pure. An error says what is allowed and never repeats the value, since only the caller knows whether it may be shown.

use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A whole number; underscores may stand between digits (`50_000_000`).
pub(crate) fn count(text: &str) -> Result<u64, &'static str> {
    const ALLOWED: &str = "a whole number such as 60 or 50_000";
    let bytes = text.as_bytes();
    let digit_at_ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    if !digit_at_ends(bytes.first()) || !digit_at_ends(bytes.last()) || text.contains("__") {
        return Err(ALLOWED);
    }
    text.replace('_', "").parse().map_err(|_| ALLOWED)
}

/// A time span: `500ms`, `2s`, `1m30s`, `2h`, `7d`; a bare number means seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    const ALLOWED: &str = "a duration such as \"500ms\", \"2s\", \"1m30s\" or \"2h\" (a bare number means seconds)";
    if let Ok(seconds) = count(text) {
        return Ok(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or(ALLOWED)?;
        let (unit, after) = after.split_at(after.bytes().take_while(u8::is_ascii_alphabetic).count());
        let millis = unit_millis(unit).filter(|millis| *millis < last_unit).ok_or(ALLOWED)?;
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or(ALLOWED)?;
        total = total.checked_add(part).ok_or(ALLOWED)?;
        last_unit = millis;
        rest = after;
    }
    if text.is_empty() { Err(ALLOWED) } else { Ok(total) }
}

fn unit_millis(unit: &str) -> Option<u64> {
    match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    }
}

/// A number of bytes: `64MiB`, `10MB`, `512 KiB` or a bare number.
pub(crate) fn bytes(text: &str) -> Result<u64, &'static str> {
    const ALLOWED: &str = "a size such as \"64MiB\", \"10MB\" or a number of bytes";
    if let Ok(bytes) = count(text) {
        return Ok(bytes);
    }
    let (number, unit) = split_number(text).ok_or(ALLOWED)?;
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(ALLOWED),
    };
    number.checked_mul(factor).ok_or(ALLOWED)
}

/// The leading whole number, and what follows it.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let (digits, rest) = text.split_at(text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'_').count());
    Some((count(digits).ok()?, rest))
}

/// US dollars as whole nano-dollars, read exactly: `5`, `0.25`, `1_000.50`.
pub(crate) fn dollars(text: &str) -> Result<u64, &'static str> {
    const ALLOWED: &str = "an amount in US dollars such as 5 or 0.25, with at most 9 decimals";
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    if decimals.is_empty() || decimals.len() > 9 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ALLOWED);
    }
    let nanos: u64 = format!("{decimals:0<9}").parse().map_err(|_| ALLOWED)?;
    let whole = count(whole).ok().and_then(|whole| whole.checked_mul(1_000_000_000)).ok_or(ALLOWED)?;
    whole.checked_add(nanos).ok_or(ALLOWED)
}

/// An end in time as milliseconds since 1970: a date means the end of that day in UTC, else RFC 3339 to the second.
pub(crate) fn expiry(text: &str) -> Result<u64, &'static str> {
    const ALLOWED: &str =
        "a date such as 2026-12-31 (the last day, in UTC) or a time such as 2026-12-31T18:00:00Z, from 1970 on";
    const DAY_MILLIS: u64 = 86_400_000;
    let is_date = text.len() == "2026-12-31".len();
    let full = if is_date { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let moment = OffsetDateTime::parse(&full, &Rfc3339).map_err(|_| ALLOWED)?;
    let millis = u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).map_err(|_| ALLOWED)?;
    Ok(if is_date { millis + DAY_MILLIS } else { millis })
}

/// A switch: `true` or `false`.
pub(crate) fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err("true or false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_take_underscores_between_digits() {
        assert_eq!(count("50_000_000"), Ok(50_000_000));
        for wrong in ["", "_1", "1_", "1__0", "-1", "+1", "1.0", "1e3", "0x10", "99999999999999999999", "١"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_take_units_from_large_to_small() {
        let millis = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("2s"), Ok(2_000));
        assert_eq!(millis("1m30s"), Ok(90_000));
        assert_eq!(millis("1h1m1s1ms"), Ok(3_661_001));
        assert_eq!(millis("7d"), Ok(604_800_000));
        assert_eq!(millis("90"), Ok(90_000));
        for wrong in ["", "s", "2 s", "1.5s", "30s1m", "1s1s", "2S", "5x", "-1s", "99999999999999999d", "1s!"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_know_both_kinds_of_units() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("10MB"), Ok(10_000_000));
        assert_eq!(bytes("512 kib"), Ok(512 << 10));
        assert_eq!(bytes("4096"), Ok(4_096));
        for wrong in ["", "MiB", "64M", "1.5MiB", "64 mebibytes", "99999999999999GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn money_is_read_exactly() {
        assert_eq!(dollars("5"), Ok(5_000_000_000));
        assert_eq!(dollars("0.1"), Ok(100_000_000));
        assert_eq!(dollars("1_000.000000001"), Ok(1_000_000_000_001));
        for wrong in ["", ".", "5.", ".5", "$5", "-1", "0.0000000001", "1e3", "5.0_0", "99999999999"] {
            assert!(dollars(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_date_lasts_to_its_end_and_a_time_to_the_moment() {
        assert_eq!(expiry("1970-01-01"), Ok(86_400_000));
        assert_eq!(expiry("1970-01-02T00:00:00Z"), Ok(86_400_000));
        assert_eq!(expiry("1970-01-02T01:00:00.5+01:00"), Ok(86_400_500));
        for wrong in ["", "2026-13-01", "2026-02-30", "tomorrow", "1969-12-30", "2026-12-31 18:00", "31.12.2026"] {
            assert!(expiry(wrong).is_err(), "{wrong}");
        }
    }
}
