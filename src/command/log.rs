//! Sets the log up: where its lines go and what they look like.

use super::outlet::Outlet;
use crate::{
    clock::Clock,
    config::LogSettings,
    telemetry::{self, ACCESS},
};
use std::{cell::RefCell, io::Write as _, sync::Arc};

/// The log of this process: which records are shown, and where they go.
struct Log {
    filter: env_logger::Logger,
    outlet: Arc<Outlet>,
}

/// Starts the log of this process. `SUB2API_LOG` overrides the level (`debug`, or `sub2api=debug,pingora=info`).
pub(super) fn start(settings: &LogSettings) {
    telemetry::set_json(settings.json);
    let mut builder = env_logger::Builder::new();
    builder.filter_level(settings.level);
    // Pingora reports each start and stop of its threads at `info`.
    for noisy in ["pingora", "pingora_core", "pingora_proxy"] {
        builder.filter_module(noisy, settings.level.min(log::LevelFilter::Warn));
    }
    if let Ok(filters) = std::env::var("SUB2API_LOG") {
        builder.parse_filters(&filters);
    }
    let filter = builder.build();
    let level = filter.filter();
    let outlet = Outlet::new(Box::new(std::io::stderr()), settings.hold, settings.hold_bytes);
    // A second call, in a program that embeds us, keeps the first one's settings.
    if log::set_boxed_logger(Box::new(Log { filter, outlet })).is_ok() {
        log::set_max_level(level);
    }
}

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.filter.matches(record) {
            let is_access = record.target() == ACCESS;
            self.outlet.put(!is_access, |out| write_line(out, record, is_access));
        }
    }

    fn flush(&self) {
        self.outlet.flush();
    }
}

/// Appends a record as a line. Writing to memory does not fail.
fn write_line(out: &mut Vec<u8>, record: &log::Record<'_>, is_access: bool) {
    let (level, message) = (record.level(), record.args());
    if !telemetry::is_json() {
        put_time(out);
        let _ = match is_access {
            true => writeln!(out, " INFO  {message}"),
            false => writeln!(out, " {level:<5} {}", message.to_string().replace('\n', "\n    ")),
        };
        return;
    }
    out.extend_from_slice(b"{\"time\":\"");
    put_time(out);
    let _ = write!(out, "\",\"level\":\"{level}\",\"kind\":");
    if is_access {
        out.extend_from_slice(b"\"access\"");
        let fields = out.len();
        let _ = writeln!(out, "{message}");
        // The message is an object of its own: its fields go on behind ours.
        if let Some(brace) = out.get_mut(fields) {
            *brace = b',';
        }
    } else {
        let text = serde_json::to_string(&message.to_string()).unwrap_or_default();
        let _ = writeln!(out, "\"log\",\"message\":{text}}}");
    }
}

/// Appends the present as `2026-01-31T12:00:00.123Z`. All but the fraction is made once a second.
fn put_time(out: &mut Vec<u8>) {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let millis = Clock::System.now().unix_millis();
    let (second, fraction) = (millis / 1000, millis % 1000);
    SECOND.with_borrow_mut(|(known, text)| {
        if *known != second {
            (*known, *text) = (second, date_and_time(second));
        }
        out.extend_from_slice(text.as_bytes());
    });
    let digit = |of: u64| b'0' + (fraction / of % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
}

/// A second counted from 1970 as `2026-01-31T12:00:00`.
fn date_and_time(second: u64) -> String {
    let (days, of_day) = (second / 86_400, second % 86_400);
    let (year, month, day) = civil(days);
    let (hours, minutes, seconds) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}")
}

/// The date of a day counted from 1970-01-01 (proleptic Gregorian calendar, years that begin in March).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(59), (1970, 3, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_780), (2026, 11, 23));
        assert_eq!(date_and_time(1_795_478_399), "2026-11-23T23:59:59");
    }

    #[test]
    fn a_line_begins_with_its_time_and_ends_with_its_message() {
        let (mut out, args) = (Vec::new(), "a\nb");
        write_line(
            &mut out,
            &log::Record::builder().args(format_args!("{args}")).level(log::Level::Warn).build(),
            false,
        );
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.len(), "2026-01-31T12:00:00.123Z WARN  a\n    b\n".len());
        assert!(line.starts_with("20") && line.ends_with("Z WARN  a\n    b\n"), "{line}");
    }
}
