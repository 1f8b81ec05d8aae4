//! Finds how long an error's text asks to wait.

use std::time::Duration;

/// Longer waits than this are not believed to be one.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// The phrases that come before a wait.
const PHRASES: [&str; 6] =
    ["try again in ", "try again after ", "retry in ", "retry after ", "retrying in ", "available in "];

/// The wait that a text names: "Please try again in 6m0.5s", "Please retry in 48.9s", "retry after 20 seconds".
pub(super) fn in_text(text: &str) -> Option<Duration> {
    // ASCII lower case keeps every byte where it was.
    let lower = text.to_ascii_lowercase();
    PHRASES.iter().find_map(|phrase| {
        let at = lower.find(phrase)?;
        parse(lower.get(at + phrase.len()..)?)
    })
}

/// The duration at the start of a text: `1.5s`, `20ms`, `1h2m3s`, `12 seconds`, `1 minute 5 seconds`.
/// A number without a unit is no duration here: "retry in 2 different regions".
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim_start();
    let mut total = None::<Duration>;
    while let Some((part, after)) = one_part(rest) {
        total = Some(total.unwrap_or_default().saturating_add(part));
        rest = after;
    }
    total.filter(|wait| *wait <= LONGEST)
}

fn one_part(text: &str) -> Option<(Duration, &str)> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let amount: f64 = text.get(..number_end)?.parse().ok()?;
    let rest = text.get(number_end..)?.trim_start();
    let unit_end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let seconds = match rest.get(..unit_end)? {
        "ms" | "millis" | "millisecond" | "milliseconds" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    let part = Duration::try_from_secs_f64(amount * seconds).ok()?;
    let after = rest.get(unit_end..)?.trim_start_matches([' ', ',']);
    Some((part, after.strip_prefix("and ").unwrap_or(after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_found_in_the_words_of_every_provider() {
        for (text, millis) in [
            ("Limit 30000. Please try again in 644ms. Visit https://x", 644),
            ("Please try again in 1.5s.", 1_500),
            ("Please try again in 6m0.5s.", 360_500),
            ("* Quota exceeded\nPlease retry in 48.9s.", 48_900),
            ("Please retry after 54 seconds. Please go here", 54_000),
            ("Try again in 1 minute and 5 seconds", 65_000),
            ("try again in 1h2m3s", 3_723_000),
            ("try again in 2 days", 172_800_000),
        ] {
            assert_eq!(in_text(text).map(|d| d.as_millis()), Some(millis), "{text}");
        }
    }

    #[test]
    fn texts_without_a_wait_give_none() {
        for text in [
            "",
            "try again later",
            "retry in 2 different regions",
            "try again in 9999999999999h",
            "try again in ...s",
            "é try again in é",
        ] {
            assert_eq!(in_text(text), None, "{text}");
        }
    }
}
