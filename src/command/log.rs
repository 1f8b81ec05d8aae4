//! Sets the log up: where its lines go and what they look like.

use crate::{
    clock::Clock,
    config::LogSettings,
    telemetry::{self, ACCESS},
};
use std::io::Write as _;

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
    builder.format(|out, record| {
        let time = timestamp();
        let message = record.args().to_string();
        if !telemetry::is_json() {
            return writeln!(out, "{time} {:<5} {}", record.level(), message.replace('\n', "\n    "));
        }
        if record.target() == ACCESS {
            let fields = message.strip_prefix('{').unwrap_or(&message);
            return writeln!(out, "{{\"time\":\"{time}\",\"level\":\"INFO\",\"kind\":\"access\",{fields}");
        }
        let text = serde_json::to_string(&message).unwrap_or_default();
        writeln!(out, "{{\"time\":\"{time}\",\"level\":\"{}\",\"kind\":\"log\",\"message\":{text}}}", record.level())
    });
    // A second call, in a program that embeds us, keeps the first one's settings.
    let _ = builder.try_init();
}

/// The present as `2026-01-31T12:00:00.123Z`.
fn timestamp() -> String {
    let millis = Clock::System.now().unix_millis();
    let (days, of_day) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = civil(days);
    let (hours, minutes, seconds) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", of_day % 1000)
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
    }
}
