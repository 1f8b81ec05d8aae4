//! Streams of text deltas in each format, as the providers themselves send them.

use sub2api::wire::WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses};

/// What a model says from delta to delta; some of it needs escapes.
const WORDS: [&str; 8] = [" The", " gateway", " answers", ":\\n\\n", " **so", " that**", " nobody", " waits."];

/// A whole stream with so many text deltas, event by event.
pub(crate) fn stream(format: WireFormat, deltas: usize) -> Vec<String> {
    let mut events = opening(format);
    events.extend((0..deltas).map(|n| delta(format, n)));
    events.extend(closing(format, deltas));
    events
}

fn opening(format: WireFormat) -> Vec<String> {
    let events: &[&str] = match format {
        OpenaiChat => &[
            r#"data: {"id":"chatcmpl-CdGr0EeaCKMNoLQ4cH79NjnMpgckv","object":"chat.completion.chunk","created":1763475614,"model":"gpt-5-mini-2025-08-07","service_tier":"default","system_fingerprint":null,"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"FmFxj1"}"#,
        ],
        OpenaiResponses => &[
            "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_0a02cdbf39789cc8016a85bef1\",\"object\":\"response\",\"created_at\":1763475614,\"status\":\"in_progress\",\"model\":\"gpt-5-mini-2025-08-07\",\"output\":[]}}",
            "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":1,\"output_index\":0,\"item\":{\"id\":\"msg_0a02cdbf39789cc8016a85bef153d0\",\"type\":\"message\",\"status\":\"in_progress\",\"content\":[],\"role\":\"assistant\"}}",
            "event: response.content_part.added\ndata: {\"type\":\"response.content_part.added\",\"sequence_number\":2,\"item_id\":\"msg_0a02cdbf39789cc8016a85bef153d0\",\"output_index\":0,\"content_index\":0,\"part\":{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\"\"}}",
        ],
        Anthropic => &[
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-5-20250929\",\"id\":\"msg_01XFDUDYJgAACzvnptvVoYEL\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":1}}}",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}",
        ],
        Gemini => &[],
    };
    events.iter().map(|event| format!("{event}{}", blank(format))).collect()
}

fn delta(format: WireFormat, n: usize) -> String {
    let word = WORDS[n % WORDS.len()];
    let event = match format {
        OpenaiChat => format!(
            r#"data: {{"id":"chatcmpl-CdGr0EeaCKMNoLQ4cH79NjnMpgckv","object":"chat.completion.chunk","created":1763475614,"model":"gpt-5-mini-2025-08-07","service_tier":"default","system_fingerprint":null,"choices":[{{"index":0,"delta":{{"content":"{word}"}},"logprobs":null,"finish_reason":null}}],"usage":null,"obfuscation":"FmFxj1"}}"#
        ),
        OpenaiResponses => format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"content_index\":0,\"delta\":\"{word}\",\"item_id\":\"msg_0a02cdbf39789cc8016a85bef153d0\",\"logprobs\":[],\"obfuscation\":\"tLyxMGDomEbDdjq\",\"output_index\":0,\"sequence_number\":{}}}",
            n + 3
        ),
        Anthropic => format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{word}\"}}         }}"
        ),
        Gemini => format!(
            r#"data: {{"candidates": [{{"content": {{"parts": [{{"text": "{word}"}}],"role": "model"}},"index": 0}}],"usageMetadata": {{"promptTokenCount": 25,"candidatesTokenCount": {n},"totalTokenCount": {},"promptTokensDetails": [{{"modality": "TEXT","tokenCount": 25}}]}},"modelVersion": "gemini-2.5-flash","responseId": "eb-FapqKAZ36nsEP49ya-As"}}"#,
            25 + n
        ),
    };
    event + blank(format)
}

fn closing(format: WireFormat, deltas: usize) -> Vec<String> {
    let events = match format {
        OpenaiChat => vec![
            r#"data: {"id":"chatcmpl-CdGr0EeaCKMNoLQ4cH79NjnMpgckv","object":"chat.completion.chunk","created":1763475614,"model":"gpt-5-mini-2025-08-07","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#.to_owned(),
            format!(r#"data: {{"id":"chatcmpl-CdGr0EeaCKMNoLQ4cH79NjnMpgckv","object":"chat.completion.chunk","created":1763475614,"model":"gpt-5-mini-2025-08-07","choices":[],"usage":{{"prompt_tokens":25,"completion_tokens":{deltas},"total_tokens":{}}}}}"#, 25 + deltas),
            "data: [DONE]".to_owned(),
        ],
        OpenaiResponses => vec![format!(
            "event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":{},\"response\":{{\"id\":\"resp_0a02cdbf39789cc8016a85bef1\",\"object\":\"response\",\"status\":\"completed\",\"output\":[],\"usage\":{{\"input_tokens\":25,\"output_tokens\":{deltas},\"total_tokens\":{}}}}}}}",
            deltas + 3, 25 + deltas
        )],
        Anthropic => vec![
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}".to_owned(),
            format!("event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\",\"stop_sequence\":null}},\"usage\":{{\"output_tokens\":{deltas}}}}}"),
            "event: message_stop\ndata: {\"type\":\"message_stop\"}".to_owned(),
        ],
        Gemini => vec![format!(
            r#"data: {{"candidates": [{{"content": {{"parts": [{{"text": ""}}],"role": "model"}},"finishReason": "STOP","index": 0}}],"usageMetadata": {{"promptTokenCount": 25,"candidatesTokenCount": {deltas},"totalTokenCount": {}}},"modelVersion": "gemini-2.5-flash","responseId": "eb-FapqKAZ36nsEP49ya-As"}}"#,
            25 + deltas
        )],
    };
    events.into_iter().map(|event| event + blank(format)).collect()
}

fn blank(format: WireFormat) -> &'static str {
    if format == Gemini { "\r\n\r\n" } else { "\n\n" }
}
