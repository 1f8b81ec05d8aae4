//! The headers that tell a caller what is left of its rates: OpenAI's names on every answer, Anthropic's for its clients.

use crate::{
    clock::Moment,
    limit::{
        calendar::rfc3339,
        limiter::{Rates, Room},
    },
    wire::WireFormat,
};
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// The names of one kind of rate: OpenAI's limit, remaining and reset, then Anthropic's.
type Names = [[HeaderName; 3]; 2];

static REQUESTS: Names = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("anthropic-ratelimit-requests-limit"),
        HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
        HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    ],
];
static TOKENS: Names = [
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
    [
        HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
        HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
        HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    ],
];

/// Writes the headers of the rates that are limited.
pub(super) fn insert(headers: &mut HeaderMap, rates: &Rates, format: WireFormat, now: Moment) {
    if rates.requests.is_none() && rates.tokens.is_none() {
        return;
    }
    // All values of an answer share one piece of memory.
    let mut room = BytesMut::with_capacity(if format == WireFormat::Anthropic { 256 } else { 128 });
    for (rate, [openai, anthropic]) in [(rates.requests, &REQUESTS), (rates.tokens, &TOKENS)] {
        let Some(rate) = rate else { continue };
        span(rate.reset, &mut room);
        write(headers, openai, &rate, &mut room);
        if format == WireFormat::Anthropic {
            room.extend_from_slice(rfc3339(now.plus(rate.reset).unix_millis() + 999).as_bytes());
            write(headers, anthropic, &rate, &mut room);
        }
    }
}

/// Writes one rate under these names; when it resets is written already.
fn write(headers: &mut HeaderMap, [limit, remaining, until]: &[HeaderName; 3], rate: &Room, room: &mut BytesMut) {
    headers.insert(until, taken(room));
    for (name, count) in [(limit, rate.limit), (remaining, rate.remaining)] {
        room.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
        headers.insert(name, taken(room));
    }
}

/// What has been written, as a value.
fn taken(room: &mut BytesMut) -> HeaderValue {
    HeaderValue::from_maybe_shared(room.split().freeze()).unwrap_or(HeaderValue::from_static(""))
}

/// A time as OpenAI writes it: `17ms`, `8s`, `1m0s`.
fn span(time: Duration, room: &mut BytesMut) {
    let mut put = |number: u64, unit: &str| {
        room.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        room.extend_from_slice(unit.as_bytes());
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn times_are_written_as_openai_writes_them() {
        for (millis, text) in [(0, "0ms"), (17, "17ms"), (8_001, "9s"), (60_000, "1m0s"), (59_999, "1m0s")] {
            let mut room = BytesMut::new();
            span(Duration::from_millis(millis), &mut room);
            assert_eq!(room, text.as_bytes());
        }
    }

    #[test]
    fn only_anthropic_s_clients_get_its_names_and_only_limited_rates_are_told() {
        let rates =
            Rates { requests: Some(Room { limit: 60, remaining: 59, reset: Duration::from_secs(3) }), tokens: None };
        for (format, count) in [(WireFormat::OpenaiChat, 3), (WireFormat::Gemini, 3), (WireFormat::Anthropic, 6)] {
            let mut headers = HeaderMap::new();
            insert(&mut headers, &rates, format, ManualClock::new().now());
            assert_eq!(headers.len(), count, "{format:?}");
            assert_eq!(headers["x-ratelimit-limit-requests"], "60");
            assert_eq!(headers["x-ratelimit-remaining-requests"], "59");
            assert_eq!(headers["x-ratelimit-reset-requests"], "3s");
        }
    }
}
