//! Scans a JSON body.
//!
//! One pass that validates the whole document and keeps references to the few values that matter. Depth and size of the
//! rest cost nothing: what is ignored is skipped without recursion. What is no JSON is read once more, by serde, which
//! says what is wrong and where.

use super::{Envelope, Malformed, needs_model};
use crate::wire::{
    Endpoint, WireFormat,
    conversation::{Conversation, Turns},
    cursor::Cursor,
    fields::{Json, Str},
    lenient,
};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::{borrow::Cow, fmt, ops::Range};

/// The most models that one batch can name. Google's own limit is 100 requests.
const MAX_BATCH: usize = 10_000;

/// The longest name of a model.
pub(super) const MAX_MODEL: usize = 1_024;

/// Scans the body of a call.
pub(super) fn scan(endpoint: &Endpoint, body: &[u8]) -> Result<Envelope, Malformed> {
    let fields = Fields::of(body).map_or_else(|| Fields::of_odd(body), Ok)?;
    let format = endpoint.format();
    if let Some(name) = fields.twice.iter().find(|name| is_read(format, name)) {
        return Err(Malformed::at(name, format!("`{name}` stands in the request body twice")));
    }
    let mut envelope = Envelope { stream: fields.asks_for_stream(), ..Envelope::default() };
    if endpoint.generates() || matches!(endpoint, Endpoint::ResponsesCompact) {
        envelope.conversation = Conversation::of(format, &fields.told);
    }
    match format {
        WireFormat::OpenaiChat | WireFormat::OpenaiResponses | WireFormat::Anthropic => {
            envelope.max_output_tokens = fields.max_tokens();
            fields.name_model(endpoint, body, &mut envelope)?;
        }
        WireFormat::Gemini => {
            envelope.max_output_tokens = fields.generation_config.and_then(max_in_config);
            fields.name_google_models(body, &mut envelope)?;
        }
    }
    Ok(envelope)
}

/// Where the older name of a chat request's output limit stands, with its quotes, if the newer one does not.
pub(super) fn older_limit(body: &[u8]) -> Option<Range<usize>> {
    const NAME: &[u8] = b"\"max_tokens\"";
    let fields = Fields::of(body)?;
    let value = fields.max_tokens.filter(|value| *value != "null" && fields.max_completion_tokens.is_none())?;
    let before = body.get(..span(body, value)?.start)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    before.ends_with(NAME).then(|| before.len() - NAME.len()..before.len())
}

/// Whether a field means anything in a format. What means nothing may stand there as often as it likes.
fn is_read(format: WireFormat, name: &str) -> bool {
    let google = matches!(name, "generationConfig" | "requests" | "generateContentRequest");
    match format {
        WireFormat::OpenaiChat | WireFormat::OpenaiResponses | WireFormat::Anthropic => !google,
        WireFormat::Gemini => google || name == "model",
    }
}

/// The values that matter, as they stand in the body.
#[derive(Debug, Default)]
struct Fields<'a> {
    model: Option<&'a str>,
    stream: Option<&'a str>,
    max_tokens: Option<&'a str>,
    max_completion_tokens: Option<&'a str>,
    max_output_tokens: Option<&'a str>,
    prompt: Option<&'a str>,
    generation_config: Option<&'a str>,
    requests: Option<&'a str>,
    generate_content_request: Option<&'a str>,
    /// What tells the conversation.
    told: Turns<'a>,
    /// Those that came more than once.
    twice: Vec<&'static str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some((name, value)) = object.next_entry::<Str<'de>, Json<'de>>()? {
                    fields.note(name.as_bytes(), value.get());
                }
                Ok(fields)
            }
        }
        input.deserialize_map(Reader)
    }
}

impl<'a> Fields<'a> {
    /// Reads a whole document.
    fn of(body: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(body)?;
        let fields = Fields::take(&mut cursor)?;
        cursor.end().map(|()| fields)
    }

    /// Reads a document that could not be read, to say why.
    fn of_odd(body: &'a [u8]) -> Result<Self, Malformed> {
        serde_json::from_str(text(body)?).map_err(|fault| syntax_error(body, &fault))
    }

    /// Reads the object that comes next.
    fn take(cursor: &mut Cursor<'a>) -> Option<Self> {
        let mut fields = Fields::default();
        cursor.members(|cursor, name| cursor.value().map(|value| fields.note(name.as_bytes(), value)))?;
        Some(fields)
    }

    fn note(&mut self, name: &[u8], value: &'a str) {
        if let Some(place) = self.told(name) {
            *place = Some(value);
        } else if let Some((label, place)) = self.place(name) {
            let again = place.replace(value).is_some();
            if again && !self.twice.contains(&label) {
                self.twice.push(label);
            }
        }
    }

    fn place(&mut self, name: &[u8]) -> Option<(&'static str, &mut Option<&'a str>)> {
        Some(match name {
            b"model" => ("model", &mut self.model),
            b"stream" => ("stream", &mut self.stream),
            b"max_tokens" => ("max_tokens", &mut self.max_tokens),
            b"max_completion_tokens" => ("max_completion_tokens", &mut self.max_completion_tokens),
            b"max_output_tokens" | b"maxOutputTokens" => ("max_output_tokens", &mut self.max_output_tokens),
            b"prompt" => ("prompt", &mut self.prompt),
            b"generation_config" | b"generationConfig" => ("generationConfig", &mut self.generation_config),
            b"requests" => ("requests", &mut self.requests),
            b"generate_content_request" | b"generateContentRequest" => {
                ("generateContentRequest", &mut self.generate_content_request)
            }
            _ => return None,
        })
    }

    /// The places of what tells the conversation. It may stand there twice: which one counts is for the provider to say.
    fn told(&mut self, name: &[u8]) -> Option<&mut Option<&'a str>> {
        Some(match name {
            b"messages" | b"input" | b"contents" => &mut self.told.turns,
            b"system" | b"instructions" | b"systemInstruction" | b"system_instruction" => &mut self.told.system,
            b"tools" => &mut self.told.tools,
            b"metadata" => &mut self.told.metadata,
            b"prompt_cache_key" | b"cachedContent" | b"cached_content" => &mut self.told.cache_key,
            b"previous_response_id" => &mut self.told.previous_response_id,
            b"conversation" => &mut self.told.conversation,
            _ => return None,
        })
    }

    fn asks_for_stream(&self) -> bool {
        self.stream == Some("true")
    }

    fn max_tokens(&self) -> Option<u64> {
        let limits = [self.max_tokens, self.max_completion_tokens, self.max_output_tokens];
        limits.into_iter().flatten().filter_map(count).max()
    }

    fn name_model(&self, endpoint: &Endpoint, body: &[u8], envelope: &mut Envelope) -> Result<(), Malformed> {
        let Some(value) = self.model.filter(|value| *value != "null") else {
            // A stored prompt brings its own model.
            let by_prompt = matches!(endpoint, Endpoint::Responses) && self.prompt.is_some_and(|p| p != "null");
            if needs_model(endpoint) && !by_prompt {
                return Err(Malformed::at("model", "the request body names no `model`"));
            }
            return Ok(());
        };
        let Some(model) = string(value) else {
            return Err(Malformed::at("model", "`model` must be a string"));
        };
        if model.trim().is_empty() {
            return Err(Malformed::at("model", "`model` is empty"));
        }
        if model.len() > MAX_MODEL {
            return Err(Malformed::at("model", format!("`model` is longer than {MAX_MODEL} bytes")));
        }
        envelope.model_spans.extend(span(body, value));
        envelope.model = Some(model);
        Ok(())
    }

    /// Google's model stands in the path; some calls repeat it in the body, alone or in each request of a batch.
    fn name_google_models(&self, body: &[u8], envelope: &mut Envelope) -> Result<(), Malformed> {
        let mut named = Vec::new();
        named.extend(self.model);
        if let Some(inner) = self.generate_content_request.and_then(model_of) {
            named.push(inner);
        }
        if let Some(batch) = self.requests.and_then(Batch::of) {
            named.extend(batch.models);
            if batch.too_many {
                return Err(Malformed::at("requests", format!("`requests` holds more than {MAX_BATCH} models")));
            }
        }
        for value in named {
            // A model that is no name is refused by the provider, which knows the one in the path.
            let Some(model) = string(value).filter(|model| (1..=MAX_MODEL).contains(&model.len())) else { continue };
            let name = model.strip_prefix("models/").unwrap_or(&model);
            match &envelope.model {
                Some(first) if first != name => {
                    return Err(Malformed::at("model", format!("the body names two models, `{first}` and `{name}`")));
                }
                Some(_) => {}
                None => envelope.model = Some(name.to_owned()),
            }
            let whole = span(body, value);
            envelope.model_spans.extend(whole.map(|whole| behind_prefix(value, whole)));
        }
        envelope.model_spans.sort_by_key(|span| span.start);
        Ok(())
    }
}

/// The part of a string behind a plainly written `models/`, else all of it.
fn behind_prefix(raw: &str, whole: Range<usize>) -> Range<usize> {
    const PREFIX: &str = "\"models/";
    if raw.starts_with(PREFIX) { whole.start + PREFIX.len()..whole.end - 1 } else { whole }
}

/// The `model` values of a batch.
#[derive(Default)]
struct Batch<'a> {
    models: Vec<&'a str>,
    too_many: bool,
}

impl<'a> Batch<'a> {
    fn of(list: &'a str) -> Option<Self> {
        let mut batch = Batch::default();
        Cursor::again(list).elements(|cursor| {
            if cursor.peek()? != b'{' {
                return cursor.skip();
            }
            let Some(model) = Fields::take(cursor)?.model else { return Some(()) };
            batch.too_many |= batch.models.len() >= MAX_BATCH;
            if !batch.too_many {
                batch.models.push(model);
            }
            Some(())
        })?;
        Some(batch)
    }
}

fn model_of(request: &str) -> Option<&str> {
    Fields::take(&mut Cursor::again(request))?.model
}

fn max_in_config(config: &str) -> Option<u64> {
    Fields::take(&mut Cursor::again(config))?.max_output_tokens.and_then(count)
}

fn string(value: &str) -> Option<String> {
    Cursor::again(value).string()?.said().map(Cow::into_owned)
}

/// A whole number, however it is written.
fn count(number: &str) -> Option<u64> {
    number.parse().ok().or_else(|| number.parse().ok().and_then(lenient::whole))
}

/// Where a value borrowed from the body stands in it.
fn span(body: &[u8], value: &str) -> Option<Range<usize>> {
    let start = (value.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let end = start.checked_add(value.len())?;
    (end <= body.len()).then_some(start..end)
}

fn text(body: &[u8]) -> Result<&str, Malformed> {
    if body.trim_ascii().is_empty() {
        return Err(Malformed::new("the request body is empty"));
    }
    if body.starts_with(b"\xEF\xBB\xBF") {
        return Err(Malformed::new("the request body begins with a byte order mark, which JSON does not allow"));
    }
    std::str::from_utf8(body).map_err(|fault| {
        let offset = fault.valid_up_to();
        let (line, column) = position(body, offset);
        Malformed::new(format!("the request body is not UTF-8 at line {line} column {column} (byte {offset})"))
    })
}

/// What the parser says, with the place as line, column and byte.
fn syntax_error(body: &[u8], fault: &serde_json::Error) -> Malformed {
    let (line, column) = (fault.line(), fault.column());
    let said = fault.to_string();
    let what = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
    let line_start = memchr::memchr_iter(b'\n', body).nth(line.wrapping_sub(2)).map_or(0, |at| at + 1);
    let line_start = if line < 2 { 0 } else { line_start };
    let offset = (line_start + column.saturating_sub(1)).min(body.len());
    let place = format!("at line {line} column {column} (byte {offset})");
    Malformed::new(match fault.classify() {
        serde_json::error::Category::Data => format!("the request body must be a JSON object, not what stands {place}"),
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof | serde_json::error::Category::Io => {
            format!("the request body is not valid JSON: {what} {place}")
        }
    })
}

/// Line and column of a byte, both counted from 1.
fn position(body: &[u8], offset: usize) -> (usize, usize) {
    let before = body.get(..offset).unwrap_or(body);
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    (memchr::memchr_iter(b'\n', before).count() + 1, offset - line_start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::damaged;

    #[test]
    fn recorded_and_damaged_requests_are_read_as_serde_reads_them() {
        damaged::each_request(|body| {
            let (quick, full) = (Fields::of(body), Fields::of_odd(body).ok());
            assert_eq!(format!("{quick:?}"), format!("{full:?}"), "{}", body.escape_ascii());
        });
    }
}
