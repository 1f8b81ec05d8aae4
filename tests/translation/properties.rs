//! What holds for any input: no panic, no dependence on how bytes are cut, an end of every reply.

use proptest::prelude::*;
use sub2api::wire::{
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    tap::Shape,
    translate::{Context, Options, ReplyTranslator, translate_error, translate_request},
};

pub(super) const ALL: [WireFormat; 4] = [OpenaiChat, OpenaiResponses, Anthropic, Gemini];

/// One stream of each format with text, thoughts and calls, to be damaged.
fn seed(format: WireFormat) -> &'static str {
    match format {
        OpenaiChat => {
            "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"reasoning_content\":\"hm\"}}]}\n\ndata: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\u2028b\"}}]}\n\ndata: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}}]}}]}\n\ndata: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n"
        }
        OpenaiResponses => {
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"hi\"}\n\nevent: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":1,\"delta\":\"{}\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"hi\"}]},{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"}]}}\n\n"
        }
        Anthropic => {
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"content\":[]}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"s\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"x\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
        }
        Gemini => {
            "data: {\"responseId\":\"r\",\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\",\"thought\":true},{\"text\":\"b\"}]}}]}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\",\"args\":{\"a\":1}},\"thoughtSignature\":\"c2ln\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":3}}\r\n\r\n"
        }
    }
}

fn run(from: WireFormat, to: WireFormat, shapes: (Shape, Shape), pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut translator = ReplyTranslator::new(from, to, shapes, Context::for_unknown_client()).unwrap();
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(translator.feed(piece));
    }
    out.extend(translator.finish());
    (out, translator.is_ended())
}

/// The stream with bytes changed, dropped and doubled.
fn damaged(stream: &str, damage: &[(usize, u8, u8)]) -> Vec<u8> {
    let mut bytes = stream.as_bytes().to_vec();
    for (at, how, with) in damage {
        let at = at % bytes.len().max(1);
        match how % 4 {
            0 => bytes[at] = *with,
            1 => bytes.truncate(at.max(1)),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, *with),
        }
        if bytes.is_empty() {
            bytes.push(b'{');
        }
    }
    bytes
}

/// A stream of events as the elements of an array.
fn as_array(stream: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(stream).replace("\r\n\r\ndata: ", ",\r\n");
    format!("[{}]", text.trim_start_matches("data: ").trim_end()).into_bytes()
}

fn format() -> impl Strategy<Value = WireFormat> {
    prop::sample::select(ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_cut_of_any_stream_gives_the_same_output_and_an_end(
        damage in prop::collection::vec((0usize..4000, any::<u8>(), any::<u8>()), 0..4),
        cuts in prop::collection::vec(0usize..4000, 0..6),
    ) {
        for (from, to) in ALL.into_iter().flat_map(|from| ALL.map(|to| (from, to))).filter(|(from, to)| from != to) {
            let stream = damaged(seed(from), &damage);
            let array = as_array(&stream);
            for (stream, shape_in) in [(&stream, Shape::Sse), (&array, Shape::JsonArray)] {
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
                cuts.extend([0, stream.len()]);
                cuts.sort_unstable();
                let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
                for shape in [Shape::Sse, Shape::Json, Shape::JsonArray] {
                    let wanted = |format, shape| shape != Shape::JsonArray || format == Gemini;
                    if !wanted(from, shape_in) || !wanted(to, shape) {
                        continue;
                    }
                    let (at_once, ended) = run(from, to, (shape_in, shape), &[stream]);
                    prop_assert!(ended && !at_once.is_empty());
                    prop_assert_eq!(&at_once, &run(from, to, (shape_in, shape), &pieces).0);
                    prop_assert!(String::from_utf8(at_once).is_ok());
                }
            }
        }
    }

    #[test]
    fn a_delta_like_the_one_before_it_is_translated_as_any_other(
        words in prop::collection::vec((any::<bool>(), "[ a/\u{e9}\u{85}\u{2028}\n\"\\\\]{0,6}"), 1..8),
    ) {
        // A member that nobody reads, and that differs from event to event, makes no two of them alike.
        let stream = |differs: bool| {
            let delta = |(at, (is_thought, word)): (usize, &(bool, String))| {
                let key = if *is_thought { "reasoning_content" } else { "content" };
                let unread = if differs { at } else { 0 };
                let word = serde_json::to_string(word).unwrap();
                format!("data: {{\"id\":\"c\",\"unread\":{unread},\"choices\":[{{\"index\":0,\"delta\":{{\"{key}\":{word}}},\"finish_reason\":null}}]}}\n\n")
            };
            let deltas: String = words.iter().enumerate().map(delta).collect();
            format!("{deltas}data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n")
        };
        for to in [OpenaiResponses, Anthropic, Gemini] {
            let [alike, unlike] = [false, true].map(|differs| run(OpenaiChat, to, (Shape::Sse, Shape::Sse), &[stream(differs).as_bytes()]).0);
            prop_assert_eq!(String::from_utf8(alike).unwrap(), String::from_utf8(unlike).unwrap());
        }
    }

    #[test]
    fn no_body_makes_a_decoder_panic(
        from in format(),
        to in format(),
        body in prop::collection::vec(any::<u8>(), 0..200),
        text in "[\\[{}\\]:,\"a-z0-9]{0,60}",
    ) {
        for body in [&body[..], text.as_bytes()] {
            let _ = translate_request(from, to, body, &Options::default());
            let error = translate_error(to, 500, body, "req");
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&error.body).is_ok());
            if from != to {
                let (out, ended) = run(from, to, (Shape::Json, Shape::Json), &[body]);
                prop_assert!(ended && serde_json::from_slice::<serde_json::Value>(&out).is_ok());
            }
        }
    }

    #[test]
    fn a_text_and_a_call_survive_the_way_there_and_back(
        client in format(),
        provider in format(),
        words in "[^\\p{C}]{1,40}",
        key in "[a-z]{1,8}",
        value in any::<String>(),
        id in "[a-zA-Z0-9_-]{1,24}",
    ) {
        prop_assume!(client != provider && !words.trim().is_empty());
        let arguments = serde_json::json!({key: value});
        let request = serde_json::json!({"messages": [
            {"role": "user", "content": words},
            {"role": "assistant", "content": null, "tool_calls": [{"id": id, "type": "function", "function": {"name": "f", "arguments": arguments.to_string()}}]},
            {"role": "tool", "tool_call_id": id, "content": value}, {"role": "user", "content": "go on"}]});
        let options = Options { model: "claude-sonnet-4-5", ..Options::default() };
        let step = |from, to, body: &[u8]| -> Vec<u8> {
            if from == to { body.to_vec() } else { translate_request(from, to, body, &options).unwrap().body }
        };
        let there = step(client, provider, &step(OpenaiChat, client, request.to_string().as_bytes()));
        let back: serde_json::Value = serde_json::from_slice(&step(provider, OpenaiChat, &there)).unwrap();
        let messages = back["messages"].as_array().unwrap();
        prop_assert_eq!(messages[0]["content"].as_str(), Some(words.as_str()));
        let call = &messages[1]["tool_calls"][0];
        prop_assert_eq!(call["id"].as_str(), Some(id.as_str()));
        let got: serde_json::Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        prop_assert_eq!(got, arguments);
        prop_assert_eq!(messages[2]["tool_call_id"].as_str(), Some(id.as_str()));
    }
}
