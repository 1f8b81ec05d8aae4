//! Where the windows of budgets begin and end: days, weeks and months in a time zone, with its changes of the clock.
//!
//! Never reads a clock; times are milliseconds since 1970.

use super::terms::Window;
use jiff::{Timestamp, ToSpan, Zoned, civil::Weekday, tz::TimeZone};

const FIVE_HOURS_MILLIS: u64 = 5 * 60 * 60 * 1000;

/// A time zone by its IANA name (`Europe/Berlin`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Zone(TimeZone::UTC)
    }
}

/// A stretch of time, its end not included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// Milliseconds since 1970.
    pub start: u64,
    /// Milliseconds since 1970; the largest number for "never".
    pub end: u64,
}

impl Zone {
    /// The zone of this name, if there is one.
    pub fn find(name: &str) -> Option<Zone> {
        TimeZone::get(name).ok().map(Zone)
    }

    /// The zone's name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The window that holds this time; five hours begin at it.
    pub fn period(&self, window: Window, at: u64) -> Period {
        let calendar = match window {
            Window::FiveHours => return Period { start: at, end: at.saturating_add(FIVE_HOURS_MILLIS) },
            Window::Total => return Period { start: 0, end: u64::MAX },
            Window::Day | Window::Week | Window::Month => self.calendar(window, at),
        };
        // A time that no calendar holds: a window that never ends is the careful answer.
        calendar.unwrap_or(Period { start: 0, end: u64::MAX })
    }

    fn calendar(&self, window: Window, at: u64) -> Option<Period> {
        let now = Timestamp::from_millisecond(i64::try_from(at).ok()?).ok()?.to_zoned(self.0.clone());
        let today = now.date();
        let (first, next) = match window {
            Window::Day | Window::FiveHours | Window::Total => (today, today.tomorrow().ok()?),
            Window::Week => {
                let first = today.checked_sub(i64::from(today.weekday().since(Weekday::Monday)).days()).ok()?;
                (first, first.checked_add(7.days()).ok()?)
            }
            Window::Month => (today.first_of_month(), today.last_of_month().tomorrow().ok()?),
        };
        let millis = |day: jiff::civil::Date| -> Option<u64> {
            let start: Zoned = day.to_zoned(self.0.clone()).ok()?;
            Some(u64::try_from(start.timestamp().as_millisecond()).unwrap_or(0))
        };
        Some(Period { start: millis(first)?, end: millis(next)? })
    }
}

/// A time as RFC 3339 in UTC, to the second.
pub fn rfc3339(unix_millis: u64) -> String {
    let seconds = i64::try_from(unix_millis / 1000).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    fn span(zone: &str, window: Window, at: &str) -> (String, String) {
        let period = Zone::find(zone).unwrap().period(window, millis(at));
        (rfc3339(period.start), rfc3339(period.end))
    }

    #[test]
    fn windows_begin_where_the_zone_s_calendar_says() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let at = "2026-11-25T09:30:00Z";
        assert_eq!(span("UTC", Window::Day, at), pair("2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"));
        assert_eq!(span("UTC", Window::Week, at), pair("2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"));
        assert_eq!(span("UTC", Window::Month, at), pair("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"));
        assert_eq!(span("Asia/Tokyo", Window::Day, at), pair("2026-11-24T15:00:00Z", "2026-11-25T15:00:00Z"));
        assert_eq!(span("UTC", Window::FiveHours, at), pair(at, "2026-11-25T14:30:00Z"));
    }

    #[test]
    fn a_day_on_which_the_clocks_change_has_its_own_length() {
        let hours = |at| {
            let day = Zone::find("Europe/Berlin").unwrap().period(Window::Day, millis(at));
            (day.end - day.start) / 3_600_000
        };
        assert_eq!(hours("2026-03-29T10:00:00Z"), 23);
        assert_eq!(hours("2026-10-25T10:00:00Z"), 25);
        assert_eq!(hours("2026-10-26T10:00:00Z"), 24);
    }

    #[test]
    fn periods_follow_each_other_without_a_gap() {
        for zone in ["UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "Africa/Cairo"] {
            let zone = Zone::find(zone).unwrap();
            for window in [Window::Day, Window::Week, Window::Month] {
                let mut period = zone.period(window, millis("2026-01-01T12:00:00Z"));
                for _ in 0..400 {
                    let next = zone.period(window, period.end);
                    assert_eq!(next.start, period.end, "{window:?}");
                    assert_eq!(zone.period(window, period.end - 1), period, "{window:?}");
                    period = next;
                }
            }
        }
    }

    #[test]
    fn an_unknown_zone_is_none() {
        assert!(Zone::find("Mars/Olympus").is_none() && Zone::find("").is_none());
        assert_eq!(Zone::find("Europe/Berlin").unwrap().name(), "Europe/Berlin");
    }
}
