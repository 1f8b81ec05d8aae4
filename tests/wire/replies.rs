//! Every recorded reply passes the tap, cut at random, byte for byte, and shows what the recording says.

use crate::{
    expected,
    traffic::{self, Exchange},
};
use bytes::Bytes;
use serde_json::Value;
use sub2api::wire::{
    WireFormat,
    tap::{Seen, Shape, Tap},
};

/// A small generator of piece lengths, the same in every run.
struct Cuts(u64);

impl Cuts {
    fn next(&mut self, longest: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + (self.0 >> 33) as usize % longest
    }
}

fn tapped(format: WireFormat, exchange: &Exchange, body: &[u8], longest: usize) -> Seen {
    let mut tap = Tap::new(format, exchange.shape(), 256 * 1024);
    let (mut cuts, mut rest, mut out) = (Cuts(longest as u64), body, Vec::new());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cuts.next(longest).min(rest.len()));
        out.extend_from_slice(&tap.feed(Bytes::copy_from_slice(piece)));
        rest = after;
    }
    out.extend_from_slice(&tap.finish());
    assert!(out == body, "{}: bytes changed at pieces up to {longest}", exchange.id);
    tap.seen
}

/// What a stream has to end with, told from its text.
fn ends_properly(format: WireFormat, exchange: &Exchange) -> bool {
    let Value::String(text) = &exchange.response else { return true };
    let documents = expected::documents(exchange);
    match format {
        WireFormat::OpenaiChat => {
            let finished =
                |d: &Value| d["choices"].as_array().is_some_and(|c| c.iter().any(|c| c["finish_reason"].is_string()));
            text.contains("data: [DONE]") || documents.iter().any(|d| finished(d) || d["error"].is_object())
        }
        WireFormat::OpenaiResponses => documents.iter().any(|d| {
            ["response.completed", "response.incomplete", "response.failed", "error"].iter().any(|t| d["type"] == *t)
        }),
        WireFormat::Anthropic => documents.iter().any(|d| d["type"] == "message_stop" || d["type"] == "error"),
        WireFormat::Gemini => documents.iter().any(|d| {
            d["promptFeedback"]["blockReason"].is_string()
                || d["candidates"][0]["finishReason"].is_string()
                || d["error"].is_object()
        }),
    }
}

#[test]
fn every_reply_passes_byte_for_byte_and_its_usage_is_read() {
    let Some(exchanges) = traffic::load("every_reply_passes_byte_for_byte_and_its_usage_is_read") else { return };
    let (mut passed, mut with_usage, mut streams) = (0, 0, 0);
    let (mut without_usage, mut failed) = (Vec::new(), Vec::new());
    for exchange in &exchanges {
        let Some(endpoint) = exchange.endpoint() else { continue };
        let format = endpoint.format();
        let body = exchange.reply_bytes();
        let seen = tapped(format, exchange, &body, body.len().max(1));
        for longest in [1, 7, 300, 5_000] {
            assert_eq!(tapped(format, exchange, &body, longest), seen, "{}: cut into {longest}", exchange.id);
        }
        assert_eq!(seen.usage, expected::usage(format, exchange), "{}", exchange.id);
        if seen.usage.is_empty() && exchange.status < 300 {
            without_usage.push(exchange.id.clone());
        }
        with_usage += usize::from(!seen.usage.is_empty());
        if exchange.status < 300 {
            assert_eq!(seen.terminal, ends_properly(format, exchange), "{}", exchange.id);
            match seen.error {
                None => assert!(seen.content, "{}", exchange.id),
                Some(error) => failed.push(format!("{} {} content={}", exchange.id, error.code, seen.content)),
            }
        }
        streams += usize::from(exchange.shape() != Shape::Json);
        passed += 1;
    }
    println!("replies: {passed} passed, {streams} of them streams, {with_usage} with usage");
    println!("replies: {} answers report no usage: {without_usage:?}", without_usage.len());
    println!("replies: {} fail although their status is 200: {failed:?}", failed.len());
    assert!(passed > 0);
}

#[test]
fn a_stream_that_is_cut_anywhere_before_its_end_is_not_terminal() {
    let Some(exchanges) = traffic::load("a_stream_that_is_cut_anywhere_before_its_end_is_not_terminal") else { return };
    let mut checked = 0;
    for exchange in exchanges.iter().filter(|e| e.shape() == Shape::Sse) {
        let Some(endpoint) = exchange.endpoint() else { continue };
        let body = exchange.reply_bytes();
        // Half of a stream never holds its end, wherever the cut falls inside an event.
        let mut cuts = Cuts(body.len() as u64);
        for _ in 0..5 {
            let cut = cuts.next(body.len() / 2);
            let half = String::from_utf8_lossy(&body[..cut]).into_owned();
            let part = Exchange { response: Value::String(half.clone()), ..clone_of(exchange) };
            let whole_events = half.rfind("\n\n").or_else(|| half.rfind("\n\r\n")).map_or("", |at| &half[..at]);
            let kept = Exchange { response: Value::String(whole_events.to_owned()), ..clone_of(exchange) };
            let seen = tapped(endpoint.format(), &part, &body[..cut], 50);
            assert_eq!(seen.terminal, ends_properly(endpoint.format(), &kept), "{} at {cut}", exchange.id);
            checked += 1;
        }
    }
    println!("cut streams: {checked} checked");
    assert!(checked > 0);
}

fn clone_of(e: &Exchange) -> Exchange {
    Exchange {
        id: e.id.clone(),
        api: e.api.clone(),
        path: e.path.clone(),
        kind: e.kind.clone(),
        status: e.status,
        request: Value::Null,
        response: Value::Null,
    }
}
