//! Loads the recorded exchanges.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};
use sub2api::wire::{Endpoint, tap::Shape};

/// One recorded exchange.
pub(crate) struct Exchange {
    pub(crate) id: String,
    pub(crate) api: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) request: Value,
    pub(crate) response: Value,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/traffic")
}

/// Every exchange, or `None` (said on the output) if the traffic is not there.
pub(crate) fn load(test: &str) -> Option<Vec<Exchange>> {
    let root = directory();
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in list(&root.join("exchanges")).into_iter().chain([root.join("errors_documented")]) {
        files.extend(list(&folder).into_iter().filter(|file| file.extension().is_some_and(|e| e == "json")));
    }
    if files.is_empty() {
        println!("skipped: {test}: shared traffic not present");
        return None;
    }
    files.sort();
    Some(files.iter().map(|file| read(file)).collect())
}

fn list(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

fn read(file: &Path) -> Exchange {
    let mut json: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    Exchange {
        id: text("id"),
        api: text("api"),
        path: text("path"),
        kind: text("response_kind"),
        status: json["status"].as_u64().unwrap() as u16,
        request: json["request_body"].take(),
        response: json["response_body"].take(),
    }
}

impl Exchange {
    /// The call, if it is one that the gateway knows.
    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        let action = self.path.split('?').next().unwrap_or_default().rsplit(':').next().unwrap_or_default();
        Some(match self.api.as_str() {
            "openai.chat" => Endpoint::ChatCompletions,
            "openai.completions" => Endpoint::Completions,
            "openai.embeddings" => Endpoint::Embeddings,
            "openai.images" => Endpoint::Images("generations"),
            "openai.moderations" => Endpoint::Moderations,
            "openai.responses" | "openai.responses.get" => Endpoint::Responses,
            "openai.responses.compact" => Endpoint::ResponsesCompact,
            "openai.responses.input_tokens" => Endpoint::ResponsesInputTokens,
            "anthropic.messages" => Endpoint::Messages,
            "anthropic.count_tokens" => Endpoint::CountTokens,
            "gemini.generateContent" if action == "streamGenerateContent" => {
                Endpoint::StreamGenerateContent { sse: self.kind == "sse" }
            }
            "gemini.generateContent" => Endpoint::GenerateContent,
            "gemini.countTokens" => Endpoint::GeminiCountTokens,
            "gemini.embedContent" if action == "batchEmbedContents" => Endpoint::BatchEmbedContents,
            "gemini.embedContent" => Endpoint::EmbedContent,
            "openai.models" | "gemini.models" => return None,
            other => panic!("unknown api {other}"),
        })
    }

    /// The request as bytes.
    pub(crate) fn request_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.request).unwrap()
    }

    /// The reply as bytes. A stream's text is kept as it came; a parsed document is written anew, the array form of a
    /// stream with Google's separators.
    pub(crate) fn reply_bytes(&self) -> Vec<u8> {
        match (&self.response, self.shape()) {
            (Value::String(text), _) => text.clone().into_bytes(),
            (Value::Array(elements), Shape::JsonArray) => {
                let elements: Vec<String> = elements.iter().map(|e| serde_json::to_string_pretty(e).unwrap()).collect();
                format!("[{}\r\n]", elements.join(",\r\n")).into_bytes()
            }
            (document, _) => serde_json::to_vec(document).unwrap(),
        }
    }

    /// How the reply is laid out.
    pub(crate) fn shape(&self) -> Shape {
        let array = self.status < 300 && self.response.is_array() && self.path.contains(":streamGenerateContent");
        match self.kind.as_str() {
            "sse" => Shape::Sse,
            _ if array => Shape::JsonArray,
            _ => Shape::Json,
        }
    }
}
