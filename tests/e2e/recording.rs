//! A recorded exchange, made ready to be sent again.

use crate::{
    traffic::Exchange,
    upstream::{Act, chunk, end, with_headers},
};
use serde::Serialize;
use serde_json::{Value, json, ser::Formatter};
use std::io;
use sub2api::wire::{Endpoint, WireFormat, tap::Shape};

/// Which name the client asks by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The recorded one.
    Own,
    /// One that the gateway has to replace.
    Alias,
}

/// What stands for the model while a body is written.
const PLACE: &str = "the-place-of-the-model";

/// One recorded exchange, as it is sent and as it has to arrive.
pub(crate) struct Case {
    /// The request id that tells the cases apart.
    pub(crate) id: String,
    pub(crate) exchange: Exchange,
    pub(crate) endpoint: Endpoint,
    pub(crate) path_asked: String,
    pub(crate) path_arrives: String,
    pub(crate) sent: Vec<u8>,
    pub(crate) arrives: Vec<u8>,
    pub(crate) reply: Vec<u8>,
    /// The client's name of the model and the provider's.
    names: Option<(String, String)>,
}

impl Case {
    /// `None` for a call that no account serves.
    pub(crate) fn new(at: usize, exchange: Exchange, naming: Naming) -> Option<Case> {
        let endpoint = exchange.endpoint()?;
        let mut body = match &exchange.request {
            Value::Null => made_up(&endpoint, exchange.shape() == Shape::Sse),
            body => body.clone(),
        };
        let recorded = place_model(&mut body).or_else(|| model_in_path(&exchange.path));
        let (letter, asked) = match naming {
            Naming::Own => ("p", recorded.clone()),
            Naming::Alias => ("a", recorded.as_ref().map(|_| format!("alias-{at}"))),
        };
        let written = layout(&body, at);
        let named = |name: &Option<String>| written.replace(PLACE, name.as_deref().unwrap_or_default()).into_bytes();
        let path = |name: &Option<String>| path(&endpoint, name.as_deref().unwrap_or_default());
        Some(Case {
            id: format!("{}{letter}-{at}", crate::log::KEPT),
            path_asked: path(&asked),
            path_arrives: path(&recorded),
            sent: named(&asked),
            arrives: named(&recorded),
            reply: exchange.reply_bytes(),
            names: asked.zip(recorded),
            endpoint,
            exchange,
        })
    }

    /// A provider that serves the call.
    pub(crate) fn provider(&self) -> &'static str {
        match self.endpoint.format() {
            WireFormat::OpenaiChat | WireFormat::OpenaiResponses => "openai",
            WireFormat::Anthropic => "anthropic",
            WireFormat::Gemini => "gemini",
        }
    }

    /// The model rule, in YAML, of an account that serves this case.
    pub(crate) fn rule(&self) -> Option<String> {
        let (asked, recorded) = self.names.as_ref()?;
        Some(format!("{{ name: {}, upstream: {} }}", json!(asked), json!(recorded)))
    }

    /// Whether the call needs a model that only its recorded path named.
    pub(crate) fn names_no_model(&self) -> bool {
        self.names.is_none() && self.endpoint == Endpoint::ChatCompletions
    }

    pub(crate) fn content_type(&self) -> Option<&'static str> {
        match (self.exchange.shape(), self.exchange.kind.as_str()) {
            (Shape::Sse, _) => Some("text/event-stream; charset=utf-8"),
            (Shape::JsonArray | Shape::Json | Shape::Opaque, "text") => Some("text/plain"),
            (Shape::JsonArray | Shape::Json | Shape::Opaque, _) => Some("application/json"),
        }
    }

    /// Whether the recorded request asks for a stream, and the reply is whole, or the other way round.
    pub(crate) fn is_in_another_layout(&self) -> bool {
        let asks = serde_json::from_slice::<Value>(&self.sent).is_ok_and(|body| body["stream"] == true);
        self.endpoint.generates()
            && self.exchange.shape() != self.endpoint.shape_asked(asks || self.path_asked.contains(":stream"))
    }

    /// The recorded reply with headers that describe the account, streams in pieces that fall anywhere.
    pub(crate) fn acts(&self) -> Vec<Act> {
        let headers = [
            ("content-type", self.content_type().unwrap_or_default()),
            ("server", "a-provider"),
            ("via", "1.1 an-edge"),
            ("set-cookie", "account=secret"),
            ("openai-organization", "org-secret"),
            ("x-ratelimit-remaining-requests", "7"),
            ("anthropic-ratelimit-tokens-remaining", "7000"),
            ("x-request-id", "req_of_the_provider"),
            ("x-envoy-upstream-service-time", "12"),
        ];
        if self.exchange.shape() == Shape::Json {
            return with_headers(self.exchange.status, &headers, &self.reply);
        }
        let mut head = format!("HTTP/1.1 {} OK\r\ntransfer-encoding: chunked\r\n", self.exchange.status);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut acts = vec![Act::Send((head + "\r\n").into())];
        let piece = self.reply.len() / 7 + 1;
        acts.extend(self.reply.chunks(piece).map(chunk));
        acts.push(end());
        acts
    }
}

/// Puts a placeholder where the body names its model, and returns the name.
fn place_model(body: &mut Value) -> Option<String> {
    let mut found = None;
    let mut place = |value: Option<&mut Value>| {
        let Some(Value::String(text)) = value else { return };
        let name = text.strip_prefix("models/").unwrap_or(text);
        found = Some(name.to_owned());
        *text = format!("{}{PLACE}", &text[..text.len() - name.len()]);
    };
    place(body.get_mut("model"));
    place(body.get_mut("generateContentRequest").and_then(|inner| inner.get_mut("model")));
    for request in body.get_mut("requests").and_then(Value::as_array_mut).into_iter().flatten() {
        place(request.get_mut("model"));
    }
    found
}

fn model_in_path(path: &str) -> Option<String> {
    let (_, rest) = path.split_once("/models/")?;
    Some(rest.split([':', '/', '?']).next()?.to_owned()).filter(|_| rest.contains(':'))
}

/// A request for a reply that was recorded alone.
fn made_up(endpoint: &Endpoint, stream: bool) -> Value {
    let turn = json!([{ "role": "user", "content": "hi" }]);
    match endpoint.format() {
        WireFormat::OpenaiChat => json!({ "model": "recorded", "messages": turn, "stream": stream }),
        WireFormat::OpenaiResponses => json!({ "model": "recorded", "input": turn, "stream": stream }),
        WireFormat::Anthropic => json!({ "model": "recorded", "max_tokens": 9, "messages": turn, "stream": stream }),
        WireFormat::Gemini => json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }] }),
    }
}

fn path(endpoint: &Endpoint, model: &str) -> String {
    let call = match endpoint {
        Endpoint::ChatCompletions => "chat/completions",
        Endpoint::Responses => "responses",
        Endpoint::ResponsesInputTokens => "responses/input_tokens",
        Endpoint::ResponsesCompact => "responses/compact",
        Endpoint::Messages => "messages",
        Endpoint::CountTokens => "messages/count_tokens",
        Endpoint::Embeddings => "embeddings",
        Endpoint::Completions => "completions",
        Endpoint::Moderations => "moderations",
        Endpoint::Rerank => "rerank",
        Endpoint::Images(action) => return format!("/v1/images/{action}"),
        Endpoint::Audio(action) => return format!("/v1/audio/{action}"),
        Endpoint::GenerateContent => return format!("/v1beta/models/{model}:generateContent"),
        Endpoint::StreamGenerateContent { sse } => {
            let query = if *sse { "?alt=sse" } else { "" };
            return format!("/v1beta/models/{model}:streamGenerateContent{query}");
        }
        Endpoint::GeminiCountTokens => return format!("/v1beta/models/{model}:countTokens"),
        Endpoint::EmbedContent => return format!("/v1beta/models/{model}:embedContent"),
        Endpoint::BatchEmbedContents => return format!("/v1beta/models/{model}:batchEmbedContents"),
    };
    format!("/v1/{call}")
}

/// Writes a body as one of the clients' libraries would.
fn layout(body: &Value, at: usize) -> String {
    match at % 3 {
        0 => body.to_string(),
        1 => serde_json::to_string_pretty(body).unwrap() + "\r\n",
        _ => {
            let mut out = Vec::new();
            body.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)).unwrap();
            String::from_utf8(out).unwrap()
        }
    }
}

/// A space behind every comma and colon, and nothing but ASCII.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            if c.is_ascii() {
                out.write_all(&[c as u8])?;
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

/// Whether the recorded reply is an error, be it under status 200.
pub(crate) fn is_error(exchange: &Exchange) -> bool {
    let told = |d: &Value| d["error"].is_object() || d["type"] == "error" || d["type"] == "response.failed";
    exchange.status >= 400 || crate::expected::documents(exchange).iter().any(told)
}

/// The same exchanges with a good reply in place of each recorded error.
pub(crate) fn as_answer(mut exchanges: Vec<Exchange>) -> Vec<Exchange> {
    let good = |e: &&Exchange| !is_error(e) && e.endpoint().is_some();
    let donors: Vec<_> = exchanges
        .iter()
        .filter(good)
        .map(|e| (e.endpoint(), e.shape() == Shape::Json, e.kind.clone(), e.response.clone()))
        .collect();
    for exchange in exchanges.iter_mut().filter(|e| is_error(e)) {
        let (endpoint, whole) =
            (exchange.endpoint(), !matches!(exchange.endpoint(), Some(Endpoint::StreamGenerateContent { .. })));
        let donor = donors.iter().find(|(call, json, _, _)| *call == endpoint && *json == whole);
        if let Some((_, _, kind, response)) = donor {
            (exchange.status, exchange.kind, exchange.response) = (200, kind.clone(), response.clone());
        }
    }
    exchanges
}
