use super::*;
use crate::wire::Usage;
use proptest::prelude::*;

/// Feeds pieces; gives what went on after each, and what came at the end.
fn run(tap: &mut Tap, pieces: &[&[u8]]) -> Vec<String> {
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    let mut out: Vec<String> = pieces.iter().map(|p| text(tap.feed(Bytes::copy_from_slice(p)))).collect();
    out.push(text(tap.finish()));
    out
}

fn anthropic(max: usize) -> Tap {
    Tap::new(WireFormat::Anthropic, Shape::Sse, max)
}

#[test]
fn whole_events_go_on_and_the_open_one_waits() {
    let mut tap = anthropic(1_000);
    let out = run(
        &mut tap,
        &[b"data: {\"type\":\"ping\"}\n\ndata: {\"ty", b"pe\":\"pi", b"ng\"}\n", b"\n: c\n\n", b"data: x"],
    );
    assert_eq!(out[0], "data: {\"type\":\"ping\"}\n\n");
    assert_eq!(out[1..4], ["", "", "data: {\"type\":\"ping\"}\n\n: c\n\n"]);
    assert_eq!(out[4..], ["", "data: x"]);
    assert_eq!(tap.seen.events, 2);
    assert!(!tap.at_boundary());
}

#[test]
fn a_chunk_of_whole_events_is_passed_without_a_copy() {
    let mut tap = anthropic(1_000);
    let chunk = Bytes::from_static(b"data: 1\n\ndata: 2\n\ndata: 3");
    let out = tap.feed(chunk.clone());
    assert_eq!((out.as_ptr(), out.len()), (chunk.as_ptr(), 18));
}

#[test]
fn a_long_event_passes_in_pieces_and_is_still_read() {
    let big = "x".repeat(300);
    let event = format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"delta\":{{\"text\":\"{big}\"}}}}\n\n"
    );
    let mut tap = anthropic(100);
    let (first, rest) = event.as_bytes().split_at(90);
    assert!(tap.feed(Bytes::copy_from_slice(first)).is_empty());
    assert!(tap.at_boundary());
    let (second, third) = rest.split_at(100);
    assert_eq!(tap.feed(Bytes::copy_from_slice(second)), [first, second].concat());
    assert!(!tap.at_boundary());
    assert_eq!(tap.feed(Bytes::copy_from_slice(third)), third);
    assert!(tap.at_boundary() && tap.seen.content);
    assert_eq!(tap.seen.events, 1);
}

#[test]
fn usage_at_the_end_of_a_long_event_is_found() {
    let output = "y".repeat(500_000);
    let event = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"id\":\"r\",\"model\":\"m\",\"output\":[\"{output}\"],\"usage\":{{\"input_tokens\":10,\"output_tokens\":4}}}}}}\n\n"
    );
    let mut tap = Tap::new(WireFormat::OpenaiResponses, Shape::Sse, 1_000);
    let pieces: Vec<&[u8]> = event.as_bytes().chunks(1_400).collect();
    assert_eq!(run(&mut tap, &pieces).concat(), event);
    assert_eq!(tap.seen.usage, Usage { input: Some(10), output: Some(4), ..Usage::default() });
    assert!(tap.seen.terminal && tap.at_boundary());
    assert_eq!((tap.seen.finish.as_deref(), tap.seen.model.as_deref()), (Some("completed"), Some("m")));
}

#[test]
fn a_last_event_without_its_blank_line_is_read_at_the_end() {
    let mut tap = anthropic(1_000);
    let out = run(&mut tap, &[b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n"]);
    assert_eq!(out.concat(), "event: message_stop\ndata: {\"type\":\"message_stop\"}\n");
    assert!(tap.seen.terminal && !tap.at_boundary());
}

#[test]
fn a_cut_event_is_no_end() {
    for cut in
        ["event: message_stop\n", "event: message_stop\ndata: {\"type\":\"mess", "data: {\"type\":\"message_stop\""]
    {
        let mut tap = anthropic(1_000);
        run(&mut tap, &[cut.as_bytes()]);
        assert!(!tap.seen.terminal, "{cut}");
    }
}

#[test]
fn a_long_event_that_is_cut_is_no_end() {
    let image = "QUJD".repeat(50_000);
    let whole = format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"inlineData\":{{\"data\":\"{image}\"}}}}]}},\"finishReason\":\"STOP\"}}]}}"
    );
    for (text, ends) in [(whole.as_str(), true), (&whole[..whole.len() - 3], false)] {
        let mut tap = Tap::new(WireFormat::Gemini, Shape::Sse, 1_000);
        run(&mut tap, &[text.as_bytes()]);
        assert_eq!(tap.seen.terminal, ends);
    }
}

#[test]
fn a_whole_reply_passes_at_once_and_is_read_at_the_end() {
    let mut tap = Tap::new(WireFormat::OpenaiChat, Shape::Json, 10);
    let body = br#"{"id":"c","model":"m","created":5,"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    let (a, b) = body.split_at(40);
    assert!(tap.at_boundary());
    assert_eq!(tap.feed(Bytes::copy_from_slice(a)), a);
    assert!(!tap.seen.content && !tap.at_boundary());
    assert_eq!(tap.feed(Bytes::copy_from_slice(b)), b);
    assert!(tap.finish().is_empty());
    assert!(tap.seen.content && tap.seen.terminal);
    assert_eq!((tap.seen.usage.input, tap.seen.created, tap.seen.finish.as_deref()), (Some(3), Some(5), Some("stop")));
}

#[test]
fn a_broken_whole_reply_is_an_error_that_does_not_quote_the_answer() {
    for body in ["{\"choices\":[{\"message\":{\"content\":\"secret", ""] {
        let mut tap = Tap::new(WireFormat::OpenaiChat, Shape::Json, 10);
        run(&mut tap, &[body.as_bytes()]);
        assert!(!tap.seen.terminal && !tap.seen.content, "{body}");
        let message = tap.seen.error.unwrap().message;
        assert!(!message.is_empty() && !message.contains("secret"), "{message}");
    }
}

#[test]
fn usage_after_megabytes_of_image_is_found_and_memory_stays_bounded() {
    let image = "QUJD".repeat(2_000_000);
    let body = format!(
        r#"{{"created":1,"data":[{{"b64_json":"{image}"}}],"usage":{{"input_tokens":50,"output_tokens":4000,"total_tokens":4050}}}}"#
    );
    for size in [16_384, 3_000_000] {
        let mut tap = Tap::new(WireFormat::OpenaiChat, Shape::Json, 10);
        for piece in body.as_bytes().chunks(size) {
            tap.feed(Bytes::copy_from_slice(piece));
        }
        tap.finish();
        assert_eq!((tap.seen.usage.input, tap.seen.usage.output), (Some(50), Some(4_000)));
        assert!(tap.seen.terminal && tap.seen.content);
    }
}

#[test]
fn the_array_form_can_be_closed_behind_any_element() {
    let mut tap = Tap::new(WireFormat::Gemini, Shape::JsonArray, 1_000);
    let out = run(
        &mut tap,
        &[
            b"[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\n,\r\n",
            b"{\"candidates\":[{\"finishReason\":\"STOP\"}]}",
            b"\r\n]",
        ],
    );
    assert!(out[0].ends_with("]}"), "the comma waits: {}", out[0]);
    assert!(out[1].starts_with("\n,\r\n{"));
    assert_eq!(out[2], "\r\n]");
    assert!(tap.seen.terminal && !tap.at_boundary());
    assert_eq!(tap.seen.events, 2);
}

#[test]
fn an_array_that_is_closed_before_the_answers_end_is_kept_open_for_the_error() {
    let mut tap = Tap::new(WireFormat::Gemini, Shape::JsonArray, 1_000);
    let begun = "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}";
    for closing in ["\r\n]", "\n", "\n"] {
        let passed = if closing == "\r\n]" { begun } else { "" };
        assert_eq!(tap.feed(Bytes::from([passed, closing].concat())), passed);
        assert!(tap.at_boundary() && !tap.seen.terminal);
    }
    assert_eq!(tap.finish(), "\r\n]\n\n");
}

#[test]
fn an_event_stream_labelled_as_json_is_read_as_one() {
    for shape in [Shape::Json, Shape::JsonArray] {
        let mut tap = Tap::new(WireFormat::Gemini, shape, 1_000);
        run(&mut tap, &[b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"STOP\"}]}\r\n\r\n"]);
        assert!(tap.seen.terminal && tap.seen.content);
        assert_eq!(tap.shape(), Shape::Sse);
    }
}

#[test]
fn space_before_a_reply_says_nothing_of_its_layout() {
    let document = "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"STOP\"}]}";
    let [events, array] = [format!("data: {document}\n\n"), format!("[{document}]")];
    for blank in [" ", "\r", "\r\n\n", "\n\n\n\t "] {
        for (text, shape) in [(document, Shape::Json), (&events, Shape::Sse), (&array, Shape::JsonArray)] {
            for label in [Shape::Json, Shape::Sse, Shape::JsonArray] {
                let mut tap = Tap::new(WireFormat::Gemini, label, 1_000);
                assert!(tap.feed(Bytes::from(blank)).is_empty() && !tap.has_begun());
                let passed = [tap.feed(Bytes::from(text.to_owned())), tap.finish()].concat();
                assert_eq!(passed, [blank, text].concat().as_bytes());
                assert_eq!((tap.shape(), tap.seen.terminal, tap.seen.content), (shape, true, true), "{label:?} {text}");
            }
        }
    }
    for (first, second) in [("d", events[1..].to_owned()), ("\u{feff} dat", events[3..].to_owned())] {
        let mut tap = Tap::new(WireFormat::Gemini, Shape::Json, 1_000);
        assert!(tap.feed(Bytes::from(first)).is_empty());
        assert_eq!(tap.feed(Bytes::from(second.clone())), [first, &second].concat());
        assert_eq!((tap.shape(), tap.seen.terminal), (Shape::Sse, true), "a label may be wrong in small pieces, too");
    }
    for label in [Shape::Json, Shape::Sse, Shape::JsonArray] {
        let mut tap = Tap::new(WireFormat::Gemini, label, 10_000);
        let passed = [tap.feed(Bytes::from(" ".repeat(700))), tap.feed(Bytes::from(" ".repeat(700))), tap.finish()];
        assert!(passed[0].is_empty() && tap.shape() == label, "after so much it is what the label says");
        assert_eq!(passed.concat(), " ".repeat(1_400).as_bytes());
    }
}

#[test]
fn an_array_that_begins_with_what_cannot_be_read_is_ended_as_one() {
    let rejection = crate::error::Rejection::new(crate::error::Reason::UpstreamFailed, "it broke");
    for begun in ["[\u{85}[0}", "\r [x}", "["] {
        let mut tap = Tap::new(WireFormat::Gemini, Shape::JsonArray, 1_000);
        let mut out = tap.feed(Bytes::from(begun)).to_vec();
        assert!(tap.at_boundary());
        out.extend(WireFormat::Gemini.behaviour().stream_error(&rejection, "r", &tap.seen, Shape::JsonArray));
        let mut reader = Tap::new(WireFormat::Gemini, Shape::JsonArray, 1_000);
        reader.feed(out.into());
        assert!(reader.seen.terminal && reader.seen.error.is_some(), "{begun}");
    }
}

#[test]
fn what_is_opaque_is_not_read() {
    let mut tap = Tap::new(WireFormat::OpenaiChat, Shape::Opaque, 10);
    assert_eq!(run(&mut tap, &[b"{\"error\":{\"message\":\"x\"}}"]).concat(), "{\"error\":{\"message\":\"x\"}}");
    assert_eq!(tap.seen, Seen::default());
}

#[test]
fn shapes_follow_status_and_type() {
    let chat = Endpoint::ChatCompletions;
    for (endpoint, status, content_type, shape) in [
        (&chat, 200, "text/event-stream; charset=utf-8", Shape::Sse),
        (&chat, 200, "application/json", Shape::Json),
        (&chat, 200, "text/html", Shape::Json),
        (&chat, 503, "text/plain", Shape::Json),
        (&Endpoint::StreamGenerateContent { sse: false }, 200, "application/json; charset=UTF-8", Shape::JsonArray),
        (&Endpoint::StreamGenerateContent { sse: false }, 429, "application/json", Shape::Json),
        (&Endpoint::Audio("speech"), 200, "audio/mpeg", Shape::Opaque),
        (&Endpoint::Audio("transcriptions"), 200, "text/plain", Shape::Opaque),
        (&Endpoint::Audio("speech"), 400, "application/json", Shape::Json),
    ] {
        assert_eq!(Shape::of(endpoint, status, Some(content_type)), shape, "{content_type}");
    }
}

use crate::wire::Endpoint;

/// A stream in which every event matters.
fn stream(format: WireFormat, nl: &str) -> String {
    let data: &[&str] = match format {
        WireFormat::OpenaiChat => &[
            r#"{"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"a \"usage\": {} \"error\": 1"},"finish_reason":null}],"usage":null}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#,
            "[DONE]",
        ],
        WireFormat::OpenaiResponses => &[
            r#"{"type":"response.created","response":{"id":"r","model":"m"}}"#,
            r#"{"type":"response.output_text.delta","delta":"hi"}"#,
            r#"{"type":"response.completed","response":{"id":"r","status":"completed","usage":{"input_tokens":7,"output_tokens":2}}}"#,
        ],
        WireFormat::Anthropic => &[
            r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":7,"output_tokens":1}}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}"#,
            r#"{"type":"message_stop"}"#,
        ],
        WireFormat::Gemini => &[
            r#"{"candidates":[{"content":{"parts":[{"text":"h"}]}}],"usageMetadata":{"promptTokenCount":7},"modelVersion":"m"}"#,
            r#"{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":2}}"#,
        ],
    };
    data.iter().map(|d| format!("data: {d}{nl}{nl}")).collect()
}

/// An event of an answer's midst: mostly a piece of it, at times something else.
fn more(format: WireFormat, kind: usize, text: &str, nl: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    let (name, data) = match (format, kind) {
        (_, 0) => ("", format!("{{\"error\":{{\"message\":{text}}}}}")),
        (WireFormat::OpenaiChat, 1) => ("", format!("{{\"choices\":[{{\"delta\":{{\"reasoning\":{text}}}}}]}}")),
        (WireFormat::OpenaiChat, _) => {
            ("", format!("{{\"choices\":[{{\"delta\":{{\"content\":{text}}}}}],\"obfuscation\":\"x\"}}"))
        }
        (WireFormat::OpenaiResponses, _) => {
            let n = text.len() * text.len();
            ("", format!("{{\"type\":\"response.output_text.delta\",\"delta\":{text},\"sequence_number\":{n}}}"))
        }
        (WireFormat::Anthropic, _) => (
            "event: content_block_delta",
            format!("{{\"type\":\"content_block_delta\",\"delta\":{{\"type\":\"text_delta\",\"text\":{text}}}}}"),
        ),
        (WireFormat::Gemini, _) => {
            ("", format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":{text}}}]}}}}]}}"))
        }
    };
    let name = if name.is_empty() { String::new() } else { format!("{name}{nl}") };
    format!("{name}data: {data}{nl}{nl}")
}

#[test]
fn numbered_events_are_like_one_another() {
    let event = |n: u32| {
        format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{n},\"delta\":\"a\"}}\n\n"
        )
    };
    let mut tap = Tap::new(WireFormat::OpenaiResponses, Shape::Sse, 1_000);
    tap.feed(event(8).into());
    tap.feed(event(9).into());
    assert!((10..200).all(|n| tap.goes_on(event(n).as_bytes())));
    assert_eq!(tap.seen.events, 192);
}

#[test]
fn amid_an_answer_whole_events_like_the_last_one_go_on_at_once() {
    let event = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let mut tap = Tap::new(WireFormat::OpenaiChat, Shape::Sse, 1_000);
    for text in ["a", "b"] {
        assert!(!tap.goes_on(event(text).as_bytes()));
        tap.feed(event(text).into());
    }
    for (piece, goes_on) in [
        (event("c"), true),
        ([event("d"), event("a longer one, \\\"quoted\\\" and \u{e9}")].concat(), true),
        ([event("e"), "data: x".to_owned()].concat(), false),
        (event("f").trim_end().to_owned(), false),
        (event("a\nb"), false),
        ("data: [DONE]\n\n".to_owned(), false),
    ] {
        assert_eq!(tap.goes_on(piece.as_bytes()), goes_on, "{piece}");
    }
    assert_eq!(tap.seen.events, 5);
    tap.feed(Bytes::from_static(b"data: {"));
    assert!(!tap.is_amid() && !tap.goes_on(event("g").as_bytes()));
}

proptest! {
    #[test]
    fn any_cut_shows_the_same_and_passes_every_byte(
        format in 0usize..4,
        nl in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        max in prop::sample::select(vec![1usize, 60, 100_000]),
        cuts in prop::collection::vec(0usize..900, 0..20),
    ) {
        let format = crate::wire::FORMATS[format].id();
        let text = stream(format, nl);
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|c| *c < text.len()).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            pieces.push(&text.as_bytes()[from..cut]);
            from = cut;
        }
        let mut tap = Tap::new(format, Shape::Sse, max);
        prop_assert_eq!(run(&mut tap, &pieces).concat(), text.clone());
        prop_assert!(tap.seen.content && tap.seen.terminal && tap.seen.error.is_none());
        if max == 100_000 {
            let mut whole = Tap::new(format, Shape::Sse, max);
            run(&mut whole, &[text.as_bytes()]);
            prop_assert_eq!(&tap.seen, &whole.seen);
            prop_assert_eq!(tap.seen.usage, Usage { input: Some(7), output: Some(2), ..Usage::default() });
        }
    }

    #[test]
    fn the_short_way_amid_an_answer_sees_the_same(
        format in 0usize..4,
        nl in prop::sample::select(vec!["\n", "\r\n"]),
        events in prop::collection::vec((0usize..8, "[a-c \u{e9}\n\"\\\\\u{1}]{0,20}"), 0..24),
        cuts in prop::collection::vec(0usize..3_000, 0..6),
    ) {
        let format = crate::wire::FORMATS[format].id();
        let whole: String = events.iter().map(|(kind, text)| more(format, *kind, text, nl)).collect();
        let text = format!("{}{whole}{}", stream(format, nl), stream(format, nl));
        let mut ends: Vec<usize> = text.match_indices(&[nl, nl].concat()).map(|(at, end)| at + end.len()).collect();
        ends.extend(cuts.into_iter().filter(|cut| *cut < text.len()));
        ends.sort_unstable();
        let (mut short, mut long) = (Tap::new(format, Shape::Sse, 100_000), Tap::new(format, Shape::Sse, 100_000));
        let mut from = 0;
        for end in ends {
            let piece = &text.as_bytes()[from..end];
            let amid = short.is_amid();
            let passed = long.feed(Bytes::copy_from_slice(piece));
            if short.goes_on(piece) {
                prop_assert!(amid && passed == piece);
            } else {
                prop_assert_eq!(short.feed(Bytes::copy_from_slice(piece)), passed);
            }
            prop_assert_eq!(&short.seen, &long.seen);
            prop_assert_eq!(short.at_boundary(), long.at_boundary());
            from = end;
        }
    }

    #[test]
    fn random_bytes_pass_unchanged_and_never_panic(
        format in 0usize..4,
        shape in 0usize..4,
        pieces in prop::collection::vec(prop::collection::vec(prop::sample::select(b"data: {}[]\"\\\r\n,:eusagrtype\xff".to_vec()), 0..40), 0..12),
    ) {
        let shape = [Shape::Json, Shape::Sse, Shape::JsonArray, Shape::Opaque][shape];
        let mut tap = Tap::new(crate::wire::FORMATS[format].id(), shape, 64);
        let mut out = Vec::new();
        for piece in &pieces {
            out.extend_from_slice(&tap.feed(Bytes::copy_from_slice(piece)));
        }
        out.extend_from_slice(&tap.finish());
        prop_assert_eq!(out, pieces.concat());
    }
}

#[test]
fn a_cut_between_cr_and_lf_changes_nothing_of_what_is_seen() {
    let event = |text: &str| {
        let data = format!(
            "{{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}"
        );
        format!("event: content_block_delta\r\ndata: {data}\r\n\r\n")
    };
    let stream = ["a", "bc", "def"].map(event).concat();
    let seen = |pieces: &[&str]| {
        let mut tap = Tap::new(WireFormat::Anthropic, Shape::Sse, 1 << 20);
        pieces.iter().for_each(|piece| drop(tap.feed(Bytes::copy_from_slice(piece.as_bytes()))));
        tap.finish();
        tap.seen
    };
    let whole = seen(&[&stream]);
    assert!(whole.content && whole.volume.tokens() > 0);
    for at in 1..stream.len() {
        let (a, b) = stream.split_at(at);
        assert_eq!(seen(&[a, b]), whole, "{a:?}");
    }
}
