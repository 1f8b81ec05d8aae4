//! Good requests and replies to begin with: recorded ones where they are there, and a few of our own.

use serde_json::Value;
use std::{fs, path::Path};

/// One exchange as bytes.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    /// The path at the gateway, with its query.
    pub(crate) path: String,
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
    pub(crate) reply_type: &'static str,
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
/// Longer recordings only take time.
const LONGEST_FILE: u64 = 60_000;
/// So many recordings of each API.
const MOST_OF_ONE_KIND: usize = 40;

/// Seeds of every format; the recorded ones, if any, come last.
pub(crate) fn load() -> Vec<Seed> {
    let mut seeds = own();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/traffic/exchanges");
    let mut folders: Vec<_> = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders {
        let mut files: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().collect();
        files.retain(|file| file.metadata().is_ok_and(|meta| meta.len() < LONGEST_FILE));
        files.sort_by_key(fs::DirEntry::path);
        let step = files.len().div_ceil(MOST_OF_ONE_KIND).max(1);
        seeds.extend(files.iter().step_by(step).filter_map(|file| recorded(&file.path())));
    }
    seeds
}

/// Whether recorded traffic is among them.
pub(crate) fn are_recorded(seeds: &[Seed]) -> bool {
    seeds.len() > own().len()
}

fn recorded(file: &Path) -> Option<Seed> {
    let json: Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    let recorded = json["path"].as_str()?;
    let path = match json["api"].as_str()? {
        "openai.chat" => "/v1/chat/completions".to_owned(),
        "openai.responses" => "/v1/responses".to_owned(),
        "openai.completions" => "/v1/completions".to_owned(),
        "openai.embeddings" => "/v1/embeddings".to_owned(),
        "openai.moderations" => "/v1/moderations".to_owned(),
        "openai.images" => "/v1/images/generations".to_owned(),
        "openai.responses.compact" => "/v1/responses/compact".to_owned(),
        "openai.responses.input_tokens" => "/v1/responses/input_tokens".to_owned(),
        "anthropic.messages" => "/v1/messages".to_owned(),
        "anthropic.count_tokens" => "/v1/messages/count_tokens".to_owned(),
        api if api.starts_with("gemini.") && recorded.contains(":") => {
            format!("/v1beta/{}", &recorded[recorded.rfind("models/")?..])
        }
        _ => return None,
    };
    let (reply_type, reply) = match &json["response_body"] {
        Value::String(text) if json["response_kind"] == "sse" => (EVENTS, text.clone().into_bytes()),
        body => (JSON, serde_json::to_vec(body).ok()?),
    };
    if json["status"] != 200 || json["request_body"].is_null() {
        return None;
    }
    Some(Seed { path, request: serde_json::to_vec(&json["request_body"]).ok()?, reply, reply_type })
}

fn own() -> Vec<Seed> {
    let seed = |path: &str, request: &str, reply_type, reply: &str| Seed {
        path: path.to_owned(),
        request: request.as_bytes().to_vec(),
        reply: reply.as_bytes().to_vec(),
        reply_type,
    };
    vec![
        seed("/v1/chat/completions", CHAT, JSON, CHAT_REPLY),
        seed("/v1/chat/completions", &streamed(CHAT), EVENTS, CHAT_EVENTS),
        seed("/v1/responses", RESPONSES, JSON, RESPONSES_REPLY),
        seed("/v1/responses", &streamed(RESPONSES), EVENTS, RESPONSES_EVENTS),
        seed("/v1/messages", MESSAGES, JSON, MESSAGES_REPLY),
        seed("/v1/messages", &streamed(MESSAGES), EVENTS, MESSAGES_EVENTS),
        seed("/v1beta/models/gemini-2.5-flash:generateContent", GEMINI, JSON, GEMINI_REPLY),
        seed("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", GEMINI, EVENTS, GEMINI_EVENTS),
        seed("/v1beta/models/gemini-2.5-flash:streamGenerateContent", GEMINI, JSON, GEMINI_ARRAY),
        seed("/v1/embeddings", r#"{"model":"text-embedding-3-small","input":["a","b"]}"#, JSON, EMBEDDINGS_REPLY),
    ]
}

fn streamed(request: &str) -> String {
    request.replacen('{', r#"{"stream":true,"#, 1)
}

const CHAT: &str = r#"{"model":"gpt-4.1","temperature":0.5,"max_completion_tokens":100,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"Grüße \u00e9\n"}]}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"stream_options":{"include_usage":true}}"#;
const CHAT_REPLY: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"gpt-4.1","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4}}}"#;
const CHAT_EVENTS: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"finish_reason\":null}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\ndata: [DONE]\n\n";
const RESPONSES: &str = r#"{"model":"gpt-4.1","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}],"max_output_tokens":50,"reasoning":{"effort":"low"}}"#;
const RESPONSES_REPLY: &str = r#"{"id":"resp_1","object":"response","status":"completed","model":"gpt-4.1","output":[{"type":"message","id":"m","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hello","annotations":[]}]}],"usage":{"input_tokens":9,"output_tokens":2,"total_tokens":11}}"#;
const RESPONSES_EVENTS: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\"}}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"Hello\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"usage\":{\"input_tokens\":9,\"output_tokens\":2,\"total_tokens\":11}}}\n\n";
const MESSAGES: &str = r#"{"model":"claude-sonnet-4-5","max_tokens":64,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]}],"metadata":{"user_id":"u"}}"#;
const MESSAGES_REPLY: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":7,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3}}"#;
const MESSAGES_EVENTS: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const GEMINI: &str = r#"{"contents":[{"role":"user","parts":[{"text":"hi"},{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}]}],"generationConfig":{"maxOutputTokens":64,"thinkingConfig":{"thinkingBudget":0}},"systemInstruction":{"parts":[{"text":"s"}]}}"#;
const GEMINI_REPLY: &str = r#"{"candidates":[{"content":{"parts":[{"text":"Hello"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":3,"totalTokenCount":10},"modelVersion":"gemini-2.5-flash","responseId":"r"}"#;
const GEMINI_EVENTS: &str = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"Hel\"}],\"role\": \"model\"},\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 7}}\r\n\r\ndata: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"lo\"}],\"role\": \"model\"},\"finishReason\": \"STOP\",\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 7,\"candidatesTokenCount\": 3,\"totalTokenCount\": 10}}\r\n\r\n";
const GEMINI_ARRAY: &str = "[{\n  \"candidates\": [{\"content\": {\"parts\": [{\"text\": \"Hel\"}],\"role\": \"model\"},\"index\": 0}]\n}\n,\r\n{\n  \"candidates\": [{\"content\": {\"parts\": [{\"text\": \"lo\"}],\"role\": \"model\"},\"finishReason\": \"STOP\",\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 7,\"totalTokenCount\": 10}\n}\n]";
const EMBEDDINGS_REPLY: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-0.2]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":2,"total_tokens":2}}"#;
