//! Reads how long an upstream asks to stay away.
//!
//! Only what is said counts: a zero, a time gone by and a window that is not used up say nothing. Sources: RFC 9110
//! (`retry-after`), OpenAI (`retry-after-ms`, `x-ratelimit-*`), Anthropic (`anthropic-ratelimit-*`), OpenRouter
//! (`x-ratelimit-reset`), Google (`RetryInfo` in the body).

use crate::{clock::Moment, wire::tap::UpstreamError};
use http::HeaderMap;
use std::time::{Duration, SystemTime};

/// No provider's window is longer; what lies beyond is a mistake, and would overflow clocks.
pub(super) const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

/// How long the provider asks to stay away, if it says so. Explicit words come first, then the windows that are used up:
/// all of them must have come back, so the latest of these counts.
pub(crate) fn told(headers: &HeaderMap, error: Option<&UpstreamError>, now: Moment) -> Option<Duration> {
    let now = by_their_clock(headers, now);
    retry_after_ms(headers)
        .or_else(|| wait_until(text(headers, "retry-after")?, now))
        .or_else(|| error?.retry_after.filter(|wait| !wait.is_zero()))
        .or_else(|| used_up_windows(headers, now))
        .map(|wait| wait.min(LONGEST))
}

/// Whether the headers say that a usage window of a subscription is used up, and how long it stays so.
/// With several windows used up, the one that comes back last counts.
pub(super) fn used_up_subscription(headers: &HeaderMap, now: Moment) -> Option<Option<Duration>> {
    const PREFIX: &str = "anthropic-ratelimit-unified-";
    if text(headers, "anthropic-ratelimit-unified-status")? != "rejected" {
        return None;
    }
    let now = by_their_clock(headers, now);
    let windows = headers.keys().filter_map(|name| name.as_str().strip_prefix(PREFIX)?.strip_suffix("-status"));
    let resets = windows
        .filter(|window| text(headers, &format!("{PREFIX}{window}-status")) == Some("rejected"))
        .filter_map(|window| wait_until(text(headers, &format!("{PREFIX}{window}-reset"))?, now));
    let wait = resets.max().or_else(|| wait_until(text(headers, "anthropic-ratelimit-unified-reset")?, now));
    Some(wait.or_else(|| told(headers, None, now)).map(|wait| wait.min(LONGEST)))
}

/// Now, as the provider sees it: dates in its headers mean its own clock, which the `date` header tells to the second.
pub(super) fn by_their_clock(headers: &HeaderMap, now: Moment) -> Moment {
    const AGREES: Duration = Duration::from_secs(2);
    let Some(theirs) = text(headers, "date").and_then(|date| httpdate::parse_http_date(date).ok()) else { return now };
    let apart = theirs.duration_since(now.wall).unwrap_or_else(|error| error.duration());
    if apart <= AGREES { now } else { Moment { wall: theirs, ..now } }
}

fn retry_after_ms(headers: &HeaderMap) -> Option<Duration> {
    let millis: f64 = text(headers, "retry-after-ms")?.parse().ok()?;
    seconds(millis / 1000.0)
}

/// The windows with nothing left: `x-ratelimit-{remaining,reset}[-name]` and `anthropic-ratelimit-name-{remaining,reset}`.
fn used_up_windows(headers: &HeaderMap, now: Moment) -> Option<Duration> {
    let resets = headers.iter().filter_map(|(name, left)| {
        let name = name.as_str();
        let reset = if let Some(window) = name.strip_prefix("x-ratelimit-remaining") {
            format!("x-ratelimit-reset{window}")
        } else {
            format!("{}-reset", name.strip_prefix("anthropic-ratelimit-")?.strip_suffix("-remaining")?)
        };
        let reset = if reset.starts_with("x-") { reset } else { format!("anthropic-ratelimit-{reset}") };
        let left: f64 = left.to_str().ok()?.trim().parse().ok()?;
        (left <= 0.0).then(|| wait_until(text(headers, &reset)?, now)).flatten()
    });
    resets.max()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A wait in any form that providers write one in: seconds, a span (`6m0.5s`), seconds or milliseconds since 1970, an
/// RFC 3339 or an HTTP date.
pub(super) fn wait_until(text: &str, now: Moment) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        return match number {
            n if n >= 1e11 => after(SystemTime::UNIX_EPOCH + seconds(n / 1000.0)?, now),
            n if n >= 1e9 => after(SystemTime::UNIX_EPOCH + seconds(n)?, now),
            n => seconds(n),
        };
    }
    span(text).or_else(|| after(rfc3339(text).or_else(|| httpdate::parse_http_date(text).ok())?, now))
}

fn after(then: SystemTime, now: Moment) -> Option<Duration> {
    then.duration_since(now.wall).ok().filter(|wait| !wait.is_zero())
}

/// Seconds as a wait; `None` for zero, what is negative, and what is no number. Bounded, so that dates can be added to it.
fn seconds(number: f64) -> Option<Duration> {
    if !number.is_finite() {
        return None;
    }
    // Below a million years; a larger one would overflow `SystemTime`.
    Duration::try_from_secs_f64(number.min(3e13)).ok().filter(|wait| !wait.is_zero())
}

/// A span as Go writes it: `20ms`, `1.5s`, `6m0s`, `1h2m3s`, also `1d`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        total += number.parse::<f64>().ok()?
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
        rest = tail;
    }
    seconds(total)
}

/// A date such as `2026-01-01T00:00:12.5Z` or `…+02:00` (RFC 3339), from 1970 on.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let mut clock = clock.splitn(3, ':');
    let (hours, minutes) = (clock.next()?.parse::<u32>().ok()?, clock.next()?.parse::<u32>().ok()?);
    let secs: f64 = clock.next()?.parse().ok()?;
    if hours > 23 || minutes > 59 || !(0.0..61.0).contains(&secs) {
        return None;
    }
    let since_1970 = days_since_1970(year, month, day) * 86400 + i64::from(hours) * 3600 + i64::from(minutes) * 60;
    let since_1970 = since_1970 - zone_offset(zone)?;
    Some(SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(since_1970 as f64 + secs).ok()?)
}

/// Seconds east of Greenwich.
fn zone_offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (hours.parse::<i64>().ok()?, minutes.parse::<i64>().ok()?);
    ((0..24).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Days of the Gregorian calendar, counted in years that begin in March so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use proptest::prelude::*;

    /// 2026-01-01T00:00:00Z.
    const NEW_YEAR: u64 = 1_767_225_600;

    fn now() -> Moment {
        Moment { wall: SystemTime::UNIX_EPOCH + Duration::from_secs(NEW_YEAR), ..ManualClock::new().now() }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn millis(pairs: &[(&'static str, &str)]) -> Option<u128> {
        told(&headers(pairs), None, now()).map(|wait| wait.as_millis())
    }

    #[test]
    fn every_way_of_writing_a_wait_is_read() {
        for (text, expected) in [
            ("12", Some(12_000)),
            ("0.5", Some(500)),
            ("20ms", Some(20)),
            ("1.5s", Some(1_500)),
            ("6m0s", Some(360_000)),
            ("6m0.5s", Some(360_500)),
            ("1h2m3s", Some(3_723_000)),
            ("1d", Some(86_400_000)),
            ("1767225660", Some(60_000)),
            ("1767225660000", Some(60_000)),
            ("2026-01-01T00:00:12Z", Some(12_000)),
            ("2026-01-01T00:00:12.250Z", Some(12_250)),
            ("2026-01-01T02:00:12+02:00", Some(12_000)),
            ("2025-12-31T23:30:12-00:30", Some(12_000)),
            ("Thu, 01 Jan 2026 00:00:30 GMT", Some(30_000)),
            ("0", None),
            ("0s", None),
            ("-5", None),
            ("1767225599", None),
            ("2025-12-31T23:59:59Z", None),
            ("Wed, 31 Dec 2025 00:00:00 GMT", None),
            ("", None),
            ("soon", None),
            ("5x", None),
            ("NaN", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-01T25:00:00Z", None),
        ] {
            assert_eq!(wait_until(text, now()).map(|wait| wait.as_millis()), expected, "{text:?}");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(2000, 2, 29), 11_016);
        assert_eq!(days_since_1970(2026, 1, 1) as u64 * 86_400, NEW_YEAR);
        assert_eq!(days_since_1970(2100, 3, 1) - days_since_1970(2100, 2, 28), 1, "2100 has no leap day");
    }

    #[test]
    fn the_finer_word_comes_before_the_coarser_one() {
        assert_eq!(millis(&[("retry-after-ms", "644"), ("retry-after", "1")]), Some(644));
        assert_eq!(millis(&[("retry-after-ms", "0"), ("retry-after", "1")]), Some(1_000), "a zero says nothing");
        assert_eq!(
            millis(&[("retry-after", "12"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "99")]),
            Some(12_000)
        );
    }

    #[test]
    fn only_windows_with_nothing_left_count_and_the_last_to_return_decides() {
        let mixed = [
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "24h0m0s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "644ms"),
        ];
        assert_eq!(millis(&mixed), Some(644), "a short limit is not stretched to the longest window");
        let anthropic = [
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:12Z"),
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-01-01T00:00:40Z"),
        ];
        assert_eq!(millis(&anthropic), Some(40_000));
        assert_eq!(millis(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1767225660000")]), Some(60_000));
        assert_eq!(millis(&[("x-ratelimit-remaining-tokens", "7"), ("x-ratelimit-reset-tokens", "1s")]), None);
    }

    #[test]
    fn a_date_is_meant_by_the_clock_of_who_wrote_it() {
        let date = ("date", "Thu, 01 Jan 2026 05:00:00 GMT");
        assert_eq!(millis(&[date, ("retry-after", "Thu, 01 Jan 2026 05:00:09 GMT")]), Some(9_000));
        assert_eq!(millis(&[date, ("retry-after", "7")]), Some(7_000), "a span needs no clock");
    }

    #[test]
    fn a_body_says_it_where_no_header_does() {
        let error = UpstreamError { retry_after: Some(Duration::from_millis(48_900)), ..Default::default() };
        assert_eq!(told(&HeaderMap::new(), Some(&error), now()), Some(Duration::from_millis(48_900)));
        assert_eq!(told(&headers(&[("retry-after", "3")]), Some(&error), now()), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_rejected_subscription_names_its_last_window() {
        let pairs = [
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-reset", "1767229200"),
            ("anthropic-ratelimit-unified-5h-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-reset", "1767229200"),
            ("anthropic-ratelimit-unified-7d-status", "rejected"),
            ("anthropic-ratelimit-unified-7d-reset", "1767312000"),
        ];
        let wait = |pairs: &[(&'static str, &str)]| used_up_subscription(&headers(pairs), now());
        assert_eq!(wait(&pairs), Some(Some(Duration::from_secs(86_400))));
        assert_eq!(wait(&pairs[..2]), Some(Some(Duration::from_secs(3_600))));
        assert_eq!(wait(&pairs[..1]), Some(None));
        assert_eq!(wait(&[("anthropic-ratelimit-unified-status", "allowed")]), None);
        assert_eq!(wait(&[]), None);
    }

    proptest! {
        #[test]
        fn no_header_text_panics_or_asks_for_more_than_the_longest_window(text in "[ -~]{0,40}", number in any::<f64>()) {
            for text in [text, number.to_string(), format!("{number}ms"), format!("{number:e}")] {
                let Ok(value) = text.parse() else { continue };
                let mut headers = HeaderMap::new();
                headers.insert("retry-after", value);
                prop_assert!(told(&headers, None, now()).is_none_or(|wait| wait <= LONGEST && !wait.is_zero()));
            }
        }
    }
}
