//! The headers that tell a caller what is left of its rates: OpenAI's names on every answer, Anthropic's for its clients.

use crate::{
    clock::Moment,
    limit::{
        calendar::rfc3339,
        limiter::{Rates, Room},
    },
    wire::WireFormat,
};
use pingora::{Result, http::ResponseHeader};
use std::time::Duration;

/// The names of one kind of rate: OpenAI's limit, remaining and reset, then Anthropic's.
type Names = [[&'static str; 3]; 2];

const REQUESTS: Names = [
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
    [
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ],
];
const TOKENS: Names = [
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    ["anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"],
];

/// Writes the headers of the rates that are limited.
pub(super) fn insert(header: &mut ResponseHeader, rates: &Rates, format: WireFormat, now: Moment) -> Result<()> {
    for (room, [openai, anthropic]) in [(rates.requests, REQUESTS), (rates.tokens, TOKENS)] {
        let Some(room) = room else { continue };
        write(header, openai, &room, span(room.reset))?;
        if format == WireFormat::Anthropic {
            write(header, anthropic, &room, rfc3339(now.plus(room.reset).unix_millis() + 999))?;
        }
    }
    Ok(())
}

fn write(header: &mut ResponseHeader, names: [&'static str; 3], room: &Room, reset: String) -> Result<()> {
    let [limit, remaining, until] = names;
    header.insert_header(limit, room.limit)?;
    header.insert_header(remaining, room.remaining)?;
    header.insert_header(until, reset)
}

/// A time as OpenAI writes it: `17ms`, `8s`, `1m0s`.
fn span(time: Duration) -> String {
    let mut text = String::with_capacity(16);
    let mut put = |number: u64, unit: &str| {
        text.push_str(itoa::Buffer::new().format(number));
        text.push_str(unit);
    };
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let seconds = millis.div_ceil(1_000);
    match (millis, seconds) {
        (..1_000, _) => put(millis, "ms"),
        (_, ..60) => put(seconds, "s"),
        _ => {
            put(seconds / 60, "m");
            put(seconds % 60, "s");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn times_are_written_as_openai_writes_them() {
        for (millis, text) in [(0, "0ms"), (17, "17ms"), (8_001, "9s"), (60_000, "1m0s"), (59_999, "1m0s")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn only_anthropic_s_clients_get_its_names_and_only_limited_rates_are_told() {
        let rates =
            Rates { requests: Some(Room { limit: 60, remaining: 59, reset: Duration::from_secs(3) }), tokens: None };
        for (format, count) in [(WireFormat::OpenaiChat, 3), (WireFormat::Gemini, 3), (WireFormat::Anthropic, 6)] {
            let mut header = ResponseHeader::build(200, None).unwrap();
            insert(&mut header, &rates, format, ManualClock::new().now()).unwrap();
            assert_eq!(header.headers.len(), count, "{format:?}");
            assert_eq!(header.headers["x-ratelimit-remaining-requests"], "59");
        }
    }
}
