//! What a reply may amount to: a provider that never ends, or makes much of little, is given up.

use sub2api::wire::{
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    tap::Shape,
    translate::{Context, Options, ReplyTranslator, translate_request},
};

/// Feeds pieces until the translator gives up; returns how many bytes that took, at most `most`.
fn until_given_up(
    from: WireFormat,
    to: WireFormat,
    opening: &str,
    most: usize,
    piece: impl Fn(usize) -> String,
) -> usize {
    let shapes = (Shape::Sse, if to == OpenaiResponses { Shape::Sse } else { Shape::Json });
    let mut translator = ReplyTranslator::new(from, to, shapes, Context::for_unknown_client()).unwrap();
    translator.feed(opening.as_bytes());
    let mut fed = 0;
    for n in 0.. {
        let bytes = piece(n);
        fed += bytes.len();
        translator.feed(bytes.as_bytes());
        if translator.is_ended() {
            break;
        }
        assert!(fed < most, "{} bytes and no end", fed);
    }
    assert!(translator.error().is_some());
    fed
}

const MIB: usize = 1 << 20;
const STARTED: &str =
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"content\":[]}}\n\n";

#[test]
fn an_event_without_end_is_given_up() {
    for from in [OpenaiChat, OpenaiResponses, Anthropic, Gemini] {
        let to = if from == Anthropic { OpenaiChat } else { Anthropic };
        let fed = until_given_up(from, to, "data: {\"id\":\"", 40 * MIB, |_| "x".repeat(MIB));
        assert!(fed > 30 * MIB, "an event of {fed} bytes");
    }
}

#[test]
fn text_and_arguments_without_end_are_given_up() {
    let text = "x".repeat(MIB);
    let chat = format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    until_given_up(OpenaiChat, Anthropic, "", 70 * MIB, |_| chat.clone());
    let tool = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}}\n\n";
    let arguments = format!(
        "data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"input_json_delta\",\"partial_json\":\"{text}\"}}}}\n\n"
    );
    until_given_up(Anthropic, OpenaiResponses, &format!("{STARTED}{tool}"), 70 * MIB, |_| arguments.clone());
}

#[test]
fn arguments_that_are_put_together_are_given_up_by_their_size_and_by_their_number() {
    let call = |args: &str| {
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{\"name\":\"f\",\"partialArgs\":[{args}],\"willContinue\":true}}}}]}}}}]}}\r\n\r\n"
        )
    };
    let long = call(&format!("{{\"jsonPath\":\"$.a\",\"stringValue\":\"{}\",\"willContinue\":true}}", "x".repeat(MIB)));
    until_given_up(Gemini, OpenaiChat, "", 40 * MIB, |_| long.clone());
    // Each makes ten thousand values of thirty bytes.
    let fed = until_given_up(Gemini, OpenaiChat, "", MIB, |n| {
        call(&format!("{{\"jsonPath\":\"$.a{n}[10000]\",\"numberValue\":1}}"))
    });
    assert!(fed < MIB);
}

#[test]
fn calls_and_items_without_number_are_given_up() {
    let fed = until_given_up(OpenaiChat, Anthropic, "", 4 * MIB, |n| {
        format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":{n},\"id\":\"c{n}\",\"function\":{{\"name\":\"f\",\"arguments\":\"\"}}}}]}}}}]}}\n\n"
        )
    });
    assert!(fed < 4 * MIB);
    until_given_up(OpenaiResponses, Anthropic, "", 4 * MIB, |n| {
        format!(
            "data: {{\"type\":\"response.output_item.added\",\"output_index\":{n},\"item\":{{\"type\":\"message\"}}}}\n\n"
        )
    });
}

#[test]
fn blocks_without_number_are_given_up() {
    let block =
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    let stop = "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n";
    let many = format!("{block}{stop}").repeat(5_000);
    until_given_up(Anthropic, OpenaiChat, STARTED, 100 * MIB, |_| many.clone());
}

#[test]
fn what_is_held_back_for_later_is_given_up_when_it_is_too_much() {
    let added = |n: usize| {
        format!(
            "data: {{\"type\":\"response.output_item.added\",\"output_index\":{n},\"item\":{{\"type\":\"function_call\",\"call_id\":\"c{n}\",\"name\":\"f\"}}}}\n\n"
        )
    };
    // The first item never ends, so that all of the second one has to wait: in small pieces, which cost more than they say.
    let small = "data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":1,\"delta\":\"x\"}\n\n"
        .repeat(1_000);
    let fed =
        until_given_up(OpenaiResponses, Anthropic, &format!("{}{}", added(0), added(1)), 60 * MIB, |_| small.clone());
    assert!(fed > MIB);
}

#[test]
fn citations_without_number_are_given_up() {
    let block =
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    let cited = "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"citations_delta\",\"citation\":{\"url\":\"https://example.org\",\"title\":\"t\"}}}\n\n".repeat(5_000);
    until_given_up(Anthropic, OpenaiChat, &format!("{STARTED}{block}"), 60 * MIB, |_| cited.clone());
    // A source of a megabyte that is named a thousand times would come to a gigabyte.
    let title = "t".repeat(MIB);
    let support = "{\"groundingChunkIndices\":[0,0,0,0,0,0,0,0,0,0]},".repeat(100);
    let grounded = format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"a\"}}]}},\"groundingMetadata\":{{\"groundingChunks\":[{{\"web\":{{\"uri\":\"u\",\"title\":\"{title}\"}}}}],\"groundingSupports\":[{}]}}}}]}}\r\n\r\n",
        support.trim_end_matches(',')
    );
    until_given_up(Gemini, OpenaiChat, "", 3 * MIB, |_| grounded.clone());
}

#[test]
fn a_loss_of_any_name_stays_small() {
    let mut translator =
        ReplyTranslator::new(Anthropic, OpenaiChat, (Shape::Sse, Shape::Sse), Context::for_unknown_client()).unwrap();
    translator.feed(STARTED.as_bytes());
    for n in 0..100 {
        let kind = format!("{n}{}", "x".repeat(100_000));
        translator.feed(
            format!(
                "data: {{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{{\"type\":\"{kind}\"}}}}\n\n"
            )
            .as_bytes(),
        );
    }
    assert!(translator.losses().header().unwrap().len() < 8192);
}

#[test]
fn a_request_of_any_depth_is_refused_and_not_followed() {
    let levels = 100_000;
    for (from, open, close) in [
        (Anthropic, r#"{"type":"tool_result","tool_use_id":"t","content":["#, "]}"),
        (Anthropic, r#"{"type":"search_result","content":["#, "]}"),
        (OpenaiChat, r#"{"type":"text","thinking":["#, "]}"),
        (OpenaiResponses, r#"{"type":"input_text","content":["#, "]}"),
    ] {
        let deep = format!("{}{}", open.repeat(levels), close.repeat(levels));
        for key in ["messages", "input"] {
            let body = format!("{{\"model\":\"m\",\"{key}\":[{{\"role\":\"user\",\"content\":[{deep}]}}]}}");
            let _ = translate_request(from, Gemini, body.as_bytes(), &Options::default());
        }
    }
    let parts = format!("{}{}", r#"{"functionResponse":{"parts":["#.repeat(levels), "]}}".repeat(levels));
    let body = format!("{{\"contents\":[{{\"parts\":[{parts}]}}]}}");
    assert!(translate_request(Gemini, Anthropic, body.as_bytes(), &Options::default()).is_err());
    let deep = format!("{}{}", r#"{"type":"tool_result","content":["#.repeat(9), "]}".repeat(9));
    let body = format!("{{\"messages\":[{{\"role\":\"user\",\"content\":[{deep}]}}]}}");
    let refusal = translate_request(Anthropic, Gemini, body.as_bytes(), &Options::default()).unwrap_err();
    assert!(refusal.message.contains("too deeply"), "{refusal}");
}
