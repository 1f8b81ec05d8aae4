//! What the fuzzers run, and what must hold for every input.
//!
//! Each function takes any bytes and panics where the project breaks a promise. `tests/fuzz_smoke.rs` calls the same
//! functions with seeds and a few thousand damaged ones, so that they stay right without a fuzzer.

use bytes::Bytes;
use serde::de::IgnoredAny;
use sub2api::{
    account::Pool,
    clock::ManualClock,
    config::Config,
    error::{Reason, Rejection},
    limit::{limiter::Limiter, opening::Opening},
    provider::verdict::judge,
    user::KeyRing,
    wire::{
        Endpoint, WireFormat,
        elements::Elements,
        envelope::{scan, splice},
        sse::{self, Boundaries},
        tap::{Seen, Shape, Tap},
        translate::{Context, Options, ReplyTranslator, translate_request},
        upstream_error,
    },
};

/// The calls, in the order of the first byte of an input of [`envelope`].
pub(crate) const ENDPOINTS: [Endpoint; 17] = [
    Endpoint::ChatCompletions,
    Endpoint::Responses,
    Endpoint::ResponsesInputTokens,
    Endpoint::ResponsesCompact,
    Endpoint::Messages,
    Endpoint::CountTokens,
    Endpoint::GenerateContent,
    Endpoint::StreamGenerateContent { sse: true },
    Endpoint::GeminiCountTokens,
    Endpoint::EmbedContent,
    Endpoint::BatchEmbedContents,
    Endpoint::Embeddings,
    Endpoint::Completions,
    Endpoint::Moderations,
    Endpoint::Rerank,
    Endpoint::Images("edits"),
    Endpoint::Audio("transcriptions"),
];

/// The content types, in the order of the second byte of an input of [`envelope`].
pub(crate) const CONTENT_TYPES: [Option<&str>; 6] = [
    Some("application/json"),
    None,
    Some("multipart/form-data; boundary=XX"),
    Some("multipart/form-data; boundary=\"X X\"; charset=utf-8"),
    Some("multipart/form-data"),
    Some("text/plain"),
];

/// The formats and shapes, in the order of the first byte of an input of [`reply`].
pub(crate) const LAYOUTS: [(WireFormat, Shape); 9] = [
    (WireFormat::OpenaiChat, Shape::Sse),
    (WireFormat::OpenaiChat, Shape::Json),
    (WireFormat::OpenaiResponses, Shape::Sse),
    (WireFormat::OpenaiResponses, Shape::Json),
    (WireFormat::Anthropic, Shape::Sse),
    (WireFormat::Anthropic, Shape::Json),
    (WireFormat::Gemini, Shape::Sse),
    (WireFormat::Gemini, Shape::Json),
    (WireFormat::Gemini, Shape::JsonArray),
];

/// A request body: endpoint, content type, body.
pub(crate) fn envelope(input: &[u8]) {
    let [endpoint, content_type, body @ ..] = input else { return };
    let endpoint = &ENDPOINTS[usize::from(*endpoint) % ENDPOINTS.len()];
    let content_type = CONTENT_TYPES[usize::from(*content_type) % CONTENT_TYPES.len()];
    let body = Bytes::copy_from_slice(body);
    let envelope = match scan(endpoint, content_type, &body) {
        Ok(envelope) => envelope,
        Err(fault) => return assert!(!fault.message.is_empty()),
    };
    let is_form = content_type.is_some_and(|kind| kind.starts_with("multipart/"));
    if !is_form {
        serde_json::from_slice::<IgnoredAny>(&body).expect("what was taken for JSON is JSON");
    }
    let mut from = 0;
    for span in &envelope.model_spans {
        assert!(from <= span.start && span.start <= span.end && span.end <= body.len(), "{envelope:?}");
        from = span.end;
    }
    let name = if is_form { "another-model" } else { "an\"other\\ \u{e9}\n" };
    let spliced = splice(&body, &envelope, name);
    if envelope.model_spans.is_empty() {
        return assert_eq!(spliced, body, "nothing to splice");
    }
    let again = scan(endpoint, content_type, &spliced).expect("a spliced body is as good as before");
    assert_eq!(again.model.as_deref(), Some(name));
    assert_eq!((again.stream, again.max_output_tokens), (envelope.stream, envelope.max_output_tokens));
    assert_eq!(again.model_spans.len(), envelope.model_spans.len());
    assert_eq!(outside(&body, &envelope.model_spans), outside(&spliced, &again.model_spans), "bytes outside the model");
    assert_eq!(splice(&spliced, &again, name).as_ptr(), spliced.as_ptr(), "a name that is there already");
}

fn outside(body: &[u8], spans: &[std::ops::Range<usize>]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut from = 0;
    for span in spans {
        kept.extend_from_slice(&body[from..span.start]);
        from = span.end;
    }
    kept.extend_from_slice(&body[from..]);
    kept
}

/// Pieces of the input, as long as the bytes of `lengths` say, over and over.
fn pieces<'a>(lengths: &[u8], mut rest: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut lengths = lengths.iter().map(|length| usize::from(*length).max(1)).cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(lengths.next().unwrap_or(usize::MAX).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The framing of streams: four lengths of pieces, then the stream.
pub(crate) fn sse(input: &[u8]) {
    let [a, b, c, d, stream @ ..] = input else { return };
    let cut = pieces(&[*a, *b, *c, *d], stream);
    let (events, open) = split(&cut);
    let (whole, rest) = split(&[stream]);
    assert_eq!([events.concat(), open].concat(), stream);
    assert_eq!([whole.concat(), rest].concat(), stream);
    assert_eq!(said(&events), said(&whole), "a cut changes what is said");

    let (cut, closed) = elements(&cut);
    assert_eq!((cut, closed), elements(&[stream]), "a cut changes the elements");
}

/// The elements of an array up to its end, and whether that has come. What follows it comes as it comes.
fn elements(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut elements, mut found, mut open) = (Elements::default(), Vec::new(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        while !elements.is_closed()
            && let Some(end) = elements.next(rest)
        {
            open.extend_from_slice(&rest[..end]);
            found.push(std::mem::take(&mut open));
            rest = &rest[end..];
        }
        open.extend_from_slice(rest);
    }
    (found, elements.is_closed())
}

fn split(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut boundaries, mut events, mut open) = (Boundaries::default(), Vec::new(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        while let Some(end) = boundaries.next(rest) {
            assert!(end <= rest.len(), "a boundary outside of the piece");
            open.extend_from_slice(&rest[..end]);
            events.push(std::mem::take(&mut open));
            rest = &rest[end..];
        }
        open.extend_from_slice(rest);
    }
    (events, open)
}

fn said(events: &[Vec<u8>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut scratch = Vec::new();
    events
        .iter()
        .filter_map(|event| sse::read(event, &mut scratch).map(|e| (e.name.to_vec(), e.data.to_vec())))
        .collect()
}

fn tapped(format: WireFormat, shape: Shape, pieces: &[&[u8]], max_event_bytes: usize) -> (Tap, Vec<u8>, Vec<u8>) {
    let mut tap = Tap::new(format, shape, max_event_bytes);
    let mut out = Vec::new();
    let mut taken = 0;
    for piece in pieces {
        taken += piece.len();
        out.extend_from_slice(&tap.feed(Bytes::copy_from_slice(piece)));
        assert!(taken - out.len() <= max_event_bytes, "more is held back than allowed");
    }
    let tail = tap.finish().to_vec();
    (tap, out, tail)
}

/// A reply: layout, size of the longest event, three lengths of pieces, then the body.
pub(crate) fn reply(input: &[u8]) {
    let [layout, longest, a, b, c, body @ ..] = input else { return };
    let (format, shape) = LAYOUTS[usize::from(*layout) % LAYOUTS.len()];
    let cut = pieces(&[*a, *b, *c], body);

    let (tap, out, tail) = tapped(format, shape, &cut, 1 << 20);
    assert_eq!([&out[..], &tail].concat(), body, "bytes changed on their way");
    let (uncut, _, _) = tapped(format, shape, &[body], 1 << 20);
    assert_eq!(tap.seen, uncut.seen, "a cut changes what is seen");
    assert_eq!(tap.shape(), uncut.shape());
    errors(format, &tap, body);
    farewell(format, tap, out);

    let longest = usize::from(*longest);
    let (_, out, tail) = tapped(format, shape, &cut, longest);
    assert_eq!([out, tail].concat(), body, "bytes changed on their way in pieces of long events");
}

/// Whatever is said to have failed can be judged.
fn errors(format: WireFormat, tap: &Tap, body: &[u8]) {
    let now = ManualClock::new().now();
    let text = String::from_utf8_lossy(body);
    let mut headers = http::HeaderMap::new();
    for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-remaining", "content-type"] {
        if let Some(value) = text.lines().next().and_then(|line| http::HeaderValue::from_str(line).ok()) {
            headers.insert(name, value);
        }
    }
    let error = upstream_error::read(body);
    let mut seen = Seen::default();
    format.behaviour().read_reply(body, &mut seen);
    for status in [200, 400, 401, 403, 404, 429, 500, 529] {
        for error in [Some(&error), tap.seen.error.as_ref(), seen.error.as_ref(), None] {
            let verdict = judge(status, &headers, error, now);
            if let Some(wait) = verdict.retry_after {
                assert!(wait.as_secs() <= 400 * 24 * 3600, "a wait that overflows clocks: {wait:?}");
            }
        }
    }
}

/// A stream that broke off can be ended so that its reader knows.
fn farewell(format: WireFormat, tap: Tap, mut out: Vec<u8>) {
    let shape = tap.shape();
    let is_open = matches!(shape, Shape::Sse | Shape::JsonArray) && tap.at_boundary() && !tap.seen.terminal;
    if !is_open {
        return;
    }
    let rejection = Rejection::new(Reason::UpstreamFailed, "the answer \"broke\" off\n");
    let last = format.behaviour().stream_error(&rejection, "req_1", &tap.seen, shape);
    out.extend_from_slice(&last);
    let mut reader = Tap::new(format, shape, 1 << 20);
    reader.feed(out.into());
    reader.finish();
    assert!(reader.seen.terminal && reader.seen.error.is_some(), "the farewell is not understood");
}

/// The formats, by number.
pub(crate) const FORMATS: [WireFormat; 4] =
    [WireFormat::OpenaiChat, WireFormat::OpenaiResponses, WireFormat::Anthropic, WireFormat::Gemini];

/// Two formats, told by a byte.
fn pair(byte: u8) -> (WireFormat, WireFormat) {
    (FORMATS[usize::from(byte) % 4], FORMATS[usize::from(byte / 4) % 4])
}

fn call_of(format: WireFormat) -> Endpoint {
    match format {
        WireFormat::OpenaiChat => Endpoint::ChatCompletions,
        WireFormat::OpenaiResponses => Endpoint::Responses,
        WireFormat::Anthropic => Endpoint::Messages,
        WireFormat::Gemini => Endpoint::GenerateContent,
    }
}

/// A request to translate: both formats, switches, then the body.
pub(crate) fn request(input: &[u8]) {
    let [formats, switches, body @ ..] = input else { return };
    let (from, to) = pair(*formats);
    let options = Options {
        model: "served-model",
        stream: (switches & 1 != 0).then_some(switches & 2 != 0),
        strict: switches & 4 != 0,
        max_tokens: (switches & 8 != 0).then_some(1000),
        compatible: switches & 16 != 0,
        request_id: "req_1",
        now: 1_700_000_000,
        input_tokens: None,
    };
    let translated = match translate_request(from, to, body, &options) {
        Ok(translated) => translated,
        Err(refusal) => return assert!(!refusal.message.is_empty()),
    };
    let envelope = scan(&call_of(to), Some("application/json"), &translated.body).expect("a good request comes out");
    if to != WireFormat::Gemini {
        assert_eq!(envelope.model.as_deref(), Some("served-model"));
    }
    if let Some(losses) = translated.losses.header() {
        assert!(http::HeaderValue::from_str(&losses).is_ok() && losses.is_ascii(), "no header: {losses:?}");
        assert!(losses.len() < 8192, "a header of {} bytes", losses.len());
    }
}

/// A reply to translate: both formats, the shapes, three lengths of pieces, then the body.
pub(crate) fn translate(input: &[u8]) {
    let [formats, shapes, a, b, c, body @ ..] = input else { return };
    let (from, to) = pair(*formats);
    let shape = |format, number| match number % 3 {
        0 => Shape::Sse,
        1 if format == WireFormat::Gemini => Shape::JsonArray,
        _ => Shape::Json,
    };
    let shapes = (shape(from, shapes & 15), shape(to, shapes >> 4));
    let run = |pieces: &[&[u8]]| {
        let mut context = Context::for_unknown_client();
        "req_1".clone_into(&mut context.request_id);
        let mut translator = ReplyTranslator::new(from, to, shapes, context).expect("all pairs are translated");
        let mut out = Vec::new();
        pieces.iter().for_each(|piece| out.extend(translator.feed(piece)));
        out.extend(translator.finish());
        (out, *translator.usage(), translator.error().is_some())
    };
    let (out, usage, failed) = run(&pieces(&[*a, *b, *c], body));
    let (uncut, usage_uncut, failed_uncut) = run(&[body]);
    assert_eq!(out.escape_ascii().to_string(), uncut.escape_ascii().to_string(), "a cut changes what comes out");
    assert_eq!((usage, failed), (usage_uncut, failed_uncut), "a cut changes what is known");
    let mut reader = Tap::new(to, shapes.1, 64 << 20);
    reader.feed(out.clone().into());
    reader.finish();
    assert!(reader.seen.terminal, "what comes out has no end: {}", out.escape_ascii());
    assert_eq!(reader.seen.error.is_some(), failed, "errors are told, and only errors: {}", out.escape_ascii());
}

/// A configuration file.
pub(crate) fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match Config::parse(&text, &|name| (name.len() < 20).then(|| format!("value of {name}"))) {
        Ok(loaded) => {
            let now = ManualClock::new().now();
            let pool = Pool::new(&loaded.config, None, now);
            let _ = Pool::new(&loaded.config, Some(&pool), now);
            let _ = KeyRing::new(&loaded.config, &Limiter::new(1, now), &Opening::default());
        }
        Err(found) => {
            assert!(!found.faults.is_empty());
            // What does not begin like a key is a word as any other, such as `ask-secret`.
            let text = found.to_string();
            let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_');
            assert!(!words.any(|word| word.starts_with("sk-secret")), "a secret is told");
        }
    }
}
