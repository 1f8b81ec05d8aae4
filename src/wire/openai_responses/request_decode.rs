//! Reads a Responses request into the common form.

use crate::wire::{
    cursor::Cursor,
    fields::{Json, List, Num, Str, TextOr, text_of, wire_struct},
    in_place::{self, InPlace},
    loss::{Losses, Refusal},
    openai_chat::word_choice,
    replay::{ReplayToken, TokenKind, find_in_id},
    request::{
        Block, Effort, Level, Media, MediaKind, Opaque, OutputFormat, Reasoning, Request, Role, Schema, Source, Tool,
        ToolCall, ToolChoice, ToolResult,
    },
    rules::source_of_url,
    text::{Content, Text},
    translate::Job,
};
use serde::de::{Deserialize, Deserializer, Error as _};
use std::borrow::Cow;

/// A field that a reply repeats: as it came, and as it is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Echoed<'a, T> {
    raw: Json<'a>,
    read: T,
}

impl<'json: 'a, 'a, T: InPlace<'json>> InPlace<'json> for Echoed<'a, T> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        self.raw = Json(json.written(|json| self.read.take(json))?);
        Some(())
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Echoed<'a, T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let raw = Json::deserialize(input)?;
        let read = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        Ok(Echoed { raw, read })
    }
}

fn read<T>(echoed: Option<Echoed<'_, T>>) -> Option<T> {
    echoed.map(|echoed| echoed.read)
}

wire_struct! {
    BodyIn {
        "model" => model: Str<'a>,
        "input" => input: TextOr<'a, ItemIn<'a>>,
        "instructions" => instructions: Echoed<'a, TextOr<'a, ItemIn<'a>>>,
        "tools" => tools: Echoed<'a, List<ToolIn<'a>>>,
        "tool_choice" => tool_choice: Echoed<'a, Json<'a>>,
        "parallel_tool_calls" => parallel_tool_calls: Echoed<'a, bool>,
        "max_output_tokens" => max_output_tokens: Echoed<'a, Num>,
        "temperature" => temperature: Echoed<'a, Num>,
        "top_p" => top_p: Echoed<'a, Num>,
        "top_logprobs" => top_logprobs: u64,
        "text" => text: Echoed<'a, TextConfigIn<'a>>,
        "reasoning" => reasoning: Echoed<'a, ReasoningIn<'a>>,
        "include" => include: List<Str<'a>>,
        "store" => store: bool,
        "stream" => stream: bool,
        "stream_options" => stream_options: Json<'a>,
        "truncation" => truncation: Echoed<'a, Str<'a>>,
        "background" => background: bool,
        "user" => user: Echoed<'a, Str<'a>>,
        "safety_identifier" => safety_identifier: Echoed<'a, Str<'a>>,
        "metadata" => metadata: Echoed<'a, Json<'a>>,
        "service_tier" => service_tier: Echoed<'a, Str<'a>>,
        "prompt_cache_key" => prompt_cache_key: Echoed<'a, Str<'a>>,
    }
}
wire_struct! {
    ItemIn {
        "type" => kind: Str<'a>,
        "role" => role: Str<'a>,
        "content" => content: Content<'a, PartIn<'a>>,
        "call_id" => call_id: Str<'a>,
        "name" => name: Str<'a>,
        "namespace" => namespace: Str<'a>,
        "arguments" => arguments: Str<'a>,
        "input" => input: Str<'a>,
        "output" => output: Content<'a, PartIn<'a>>,
        "summary" => summary: Vec<PartIn<'a>>,
        "encrypted_content" => encrypted_content: Str<'a>,
        "id" => id: Str<'a>,
        "status" => status: Str<'a>,
        "phase" => phase: Str<'a>,
    }
}
wire_struct! {
    PartIn {
        "type" => kind: Str<'a>,
        "text" => text: Text<'a>,
        "refusal" => refusal: Str<'a>,
        "image_url" => image_url: Str<'a>,
        "detail" => detail: Str<'a>,
        "file_id" => file_id: Str<'a>,
        "file_data" => file_data: Str<'a>,
        "file_url" => file_url: Str<'a>,
        "filename" => filename: Str<'a>,
        "annotations" => annotations: Json<'a>,
        "logprobs" => logprobs: Json<'a>,
    }
}
wire_struct! {
    ToolIn {
        "type" => kind: Str<'a>,
        "name" => name: Str<'a>,
        "description" => description: Str<'a>,
        "parameters" => parameters: Json<'a>,
        "strict" => strict: bool,
        "format" => format: Json<'a>,
        "tools" => tools: Vec<ToolIn<'a>>,
    }
}
wire_struct! { TextConfigIn { "format" => format: FormatIn<'a>, "verbosity" => verbosity: Str<'a> } }
wire_struct! {
    FormatIn {
        "type" => kind: Str<'a>,
        "name" => name: Str<'a>,
        "description" => description: Str<'a>,
        "schema" => schema: Json<'a>,
        "strict" => strict: bool,
    }
}
wire_struct! {
    ReasoningIn {
        "effort" => effort: Str<'a>,
        "summary" => summary: Str<'a>,
        "generate_summary" => generate_summary: Str<'a>,
    }
}
wire_struct! {
    ChoiceIn {
        "type" => kind: Str<'a>,
        "name" => name: Str<'a>,
        "mode" => mode: Str<'a>,
        "tools" => tools: Vec<ToolIn<'a>>,
    }
}

impl BodyIn<'_> {
    /// What a reply repeats, in the request's own order.
    fn echo(&self) -> Vec<(String, String)> {
        fn raw<'a, T>(echoed: &Option<Echoed<'a, T>>) -> Option<&'a str> {
            echoed.as_ref().map(|echoed| echoed.raw.get())
        }
        let said = [
            ("instructions", raw(&self.instructions)),
            ("max_output_tokens", raw(&self.max_output_tokens)),
            ("metadata", raw(&self.metadata)),
            ("parallel_tool_calls", raw(&self.parallel_tool_calls)),
            ("prompt_cache_key", raw(&self.prompt_cache_key)),
            ("reasoning", raw(&self.reasoning)),
            ("safety_identifier", raw(&self.safety_identifier)),
            ("service_tier", raw(&self.service_tier)),
            ("temperature", raw(&self.temperature)),
            ("text", raw(&self.text)),
            ("tool_choice", raw(&self.tool_choice)),
            ("tools", raw(&self.tools)),
            ("top_p", raw(&self.top_p)),
            ("truncation", raw(&self.truncation)),
            ("user", raw(&self.user)),
        ];
        let mut said: Vec<(&str, &str)> = said.into_iter().filter_map(|(key, raw)| Some((key, raw?))).collect();
        said.sort_by_key(|(_, raw)| raw.as_ptr());
        said.into_iter().map(|(key, raw)| (key.to_owned(), raw.to_owned())).collect()
    }
}

/// A nested tool's name for formats without namespaces.
pub(crate) fn flat_name(namespace: &str, name: &str) -> String {
    format!("{namespace}__{name}")
}

/// Reads the body.
pub(crate) fn decode<'a>(bytes: &'a [u8], job: &mut Job) -> Result<Request<'a>, Refusal> {
    let mut body = BodyIn::default();
    in_place::read_request(bytes, &mut body)?;
    job.context.echo = body.echo();
    let mut request = Request {
        model: body.model.map(|m| m.0).unwrap_or_default(),
        stream: body.stream.unwrap_or(false),
        stream_usage: true,
        parallel_tools: read(body.parallel_tool_calls),
        user: read(body.safety_identifier).or(read(body.user)).map(|u| u.0),
        metadata: read(body.metadata).filter(|m| m.get() != "{}"),
        tier: read(body.service_tier).map(|t| t.0),
        store: body.store,
        cache_key: read(body.prompt_cache_key).map(|k| k.0),
        ..Request::default()
    };
    let s = &mut request.sampling;
    s.max_tokens = read(body.max_output_tokens).and_then(|n| n.as_count());
    (s.temperature, s.top_p) = (read(body.temperature), read(body.top_p));
    s.top_logprobs = body.top_logprobs.filter(|n| *n > 0);
    s.logprobs = s.top_logprobs.is_some();
    for wanted in body.include.unwrap_or_default() {
        match &*wanted {
            "message.output_text.logprobs" => s.logprobs = true,
            // Given where it can be, asked for or not.
            "reasoning.encrypted_content" => {}
            other => job.losses.dropped(format!("include.{other}")),
        }
    }
    request.reasoning = read(body.reasoning).and_then(|r| reasoning(r, &mut job.losses));
    let text = read(body.text).unwrap_or_default();
    request.verbosity = text.verbosity.map(|v| v.0);
    request.output = output_format(text.format);
    for tool in read(body.tools).unwrap_or_default() {
        take_tool(tool, &mut request, job);
    }
    if let Some(raw) = read(body.tool_choice) {
        request.tool_choice = tool_choice(raw, &mut job.losses)?;
    }
    if body.background == Some(true) {
        request.opaque("background", true);
    }
    if read(body.truncation).is_some_and(|t| &*t != "disabled") {
        request.opaque("truncation", false);
    }
    for (field, _) in body.extra {
        let essential = matches!(&*field, "previous_response_id" | "conversation" | "prompt");
        request.opaque(field, essential);
    }
    match read(body.instructions) {
        Some(TextOr::Text(text)) => {
            request.open_turn(Role::System);
            request.say(Role::System, Block::Text(text.0.into()));
        }
        Some(TextOr::Parts(items)) => take_items(items, &mut request, &mut job.losses)?,
        None => {}
    }
    match body.input {
        Some(TextOr::Text(text)) => request.say(Role::User, Block::Text(text.0.into())),
        Some(TextOr::Parts(items)) => take_items(items, &mut request, &mut job.losses)?,
        None => {}
    }
    Ok(request)
}

fn reasoning(config: ReasoningIn<'_>, losses: &mut Losses) -> Option<Reasoning> {
    for (field, _) in &config.extra {
        losses.dropped(format!("reasoning.{field}"));
    }
    let level = config.effort.as_deref().and_then(Level::parse);
    let visible = config.summary.or(config.generate_summary).map(|_| true);
    if level.is_none() && visible.is_none() {
        return None;
    }
    Some(Reasoning { effort: level.map_or(Effort::Dynamic, Effort::Level), visible })
}

fn output_format(format: Option<FormatIn<'_>>) -> OutputFormat<'_> {
    let Some(format) = format else { return OutputFormat::Text };
    match format.kind.as_deref() {
        Some("json_schema") => OutputFormat::Schema {
            name: format.name.map(|n| n.0),
            description: format.description.map(|d| d.0),
            schema: format.schema.map(Schema::Json),
            strict: format.strict,
        },
        Some("json_object") => OutputFormat::Json,
        _ => OutputFormat::Text,
    }
}

fn take_tool<'a>(tool: ToolIn<'a>, request: &mut Request<'a>, job: &mut Job) {
    let kind = tool.kind.as_deref().unwrap_or_default().to_owned();
    match &*kind {
        "function" => request.tools.push(tool_of(tool, false)),
        "custom" => {
            if tool.format.is_some_and(|f| !f.get().contains("\"text\"")) {
                job.losses.dropped("tools.format");
            }
            request.tools.push(tool_of(tool, true));
        }
        "namespace" => {
            let namespace = tool.name.map(|n| n.0).unwrap_or_default();
            job.losses.emulated("tools.namespace");
            for mut inner in tool.tools.unwrap_or_default() {
                let name = inner.name.take().map(|n| n.0).unwrap_or_default();
                let flat = flat_name(&namespace, &name);
                job.context.namespaces.push((flat.clone(), namespace.to_string(), name.into_owned()));
                inner.name = Some(Str(Cow::Owned(flat)));
                let custom = inner.kind.as_deref() == Some("custom");
                request.tools.push(tool_of(inner, custom));
            }
        }
        kind if kind.starts_with("web_search") => {
            if !tool.extra.is_empty() {
                job.losses.approximated("tools.web_search");
            }
            request.web_search = true;
        }
        kind => request.opaque(format!("tools.{kind}"), true),
    }
}

fn tool_of(tool: ToolIn<'_>, custom: bool) -> Tool<'_> {
    Tool {
        name: tool.name.map(|n| n.0).unwrap_or_default(),
        description: tool.description.map(|d| d.0),
        schema: tool.parameters.map(Schema::Json),
        strict: tool.strict,
        custom,
    }
}

fn tool_choice<'a>(raw: Json<'a>, losses: &mut Losses) -> Result<Option<ToolChoice<'a>>, Refusal> {
    let choice = if raw.get().starts_with('"') { word_choice(&text_of(raw)) } else { object_choice(raw)? };
    if choice.is_none() {
        losses.dropped("tool_choice");
    }
    Ok(choice)
}

fn object_choice(raw: Json<'_>) -> Result<Option<ToolChoice<'_>>, Refusal> {
    let choice: ChoiceIn<'_> = in_place::read_inside("tool_choice", raw)?;
    if let Some(tools) = choice.tools {
        let names = tools.into_iter().filter_map(|tool| tool.name).map(|n| n.0).collect();
        return Ok(Some(ToolChoice::Allowed { names, required: choice.mode.as_deref() == Some("required") }));
    }
    Ok(choice.name.map(|name| ToolChoice::Named(name.0)))
}

fn take_items<'a>(items: Vec<ItemIn<'a>>, request: &mut Request<'a>, losses: &mut Losses) -> Result<(), Refusal> {
    for item in items {
        take_item(item, request, losses)?;
    }
    Ok(())
}

fn take_item<'a>(item: ItemIn<'a>, request: &mut Request<'a>, losses: &mut Losses) -> Result<(), Refusal> {
    let kind = item.kind.as_deref().unwrap_or("message").to_owned();
    match &*kind {
        "message" => {
            let role = match item.role.as_deref() {
                Some("assistant") => Role::Assistant,
                Some("system" | "developer") => Role::System,
                _ => Role::User,
            };
            if role == Role::System {
                request.open_turn(role);
            }
            if item.phase.is_some() {
                losses.dropped("input.phase");
            }
            take_content(item.content, role, request, losses);
        }
        "function_call" | "custom_tool_call" => {
            let custom = kind == "custom_tool_call";
            let (id, token) = find_in_id(item.call_id.map(|id| id.0).unwrap_or_default());
            if let Some(token) = token {
                request.say(Role::Assistant, Block::Thinking { text: Cow::Borrowed(""), token: Some(token) });
            }
            let name = item.name.map(|n| n.0).unwrap_or_default();
            let name = match item.namespace {
                Some(namespace) => Cow::Owned(flat_name(&namespace, &name)),
                None => name,
            };
            let arguments = if custom { item.input } else { item.arguments };
            let arguments = arguments.map(|a| a.0).unwrap_or_default();
            request.say(Role::Assistant, Block::ToolCall(ToolCall { id, name, arguments, custom }));
        }
        "function_call_output" | "custom_tool_call_output" => {
            let mut inner = Request::default();
            take_content(item.output, Role::User, &mut inner, losses);
            request.say(
                Role::User,
                Block::ToolResult(ToolResult {
                    id: find_in_id(item.call_id.map(|id| id.0).unwrap_or_default()).0,
                    name: Cow::Borrowed(""),
                    content: inner.turns.into_iter().flat_map(|turn| turn.blocks).collect(),
                    object: None,
                    is_error: false,
                    custom: kind == "custom_tool_call_output",
                }),
            );
        }
        "reasoning" => take_reasoning(item, request),
        "item_reference" => {
            let message =
                "input refers to an item that lies with another provider: send the item itself (store: false)";
            return Err(Refusal::new("input.item_reference", message));
        }
        other => {
            let field = Cow::Owned(format!("input.{other}"));
            request.say(Role::Assistant, Block::Opaque(Opaque { field, essential: false }));
        }
    }
    Ok(())
}

fn take_reasoning<'a>(item: ItemIn<'a>, request: &mut Request<'a>) {
    let mut texts: Vec<Cow<'a, str>> = Vec::new();
    texts.extend(item.summary.unwrap_or_default().into_iter().filter_map(|part| part.text).map(Text::into_said));
    if let (true, Some(Content::Parts(parts))) = (texts.is_empty(), item.content) {
        texts.extend(parts.into_iter().filter_map(|part| part.text).map(Text::into_said));
    }
    let text = match (texts.pop(), texts.is_empty()) {
        (Some(only), true) => only,
        (Some(last), false) => {
            texts.push(last);
            Cow::Owned(texts.join("\n\n"))
        }
        (None, _) => Cow::Borrowed(""),
    };
    let token = item.encrypted_content.map(|data| ReplayToken::read(TokenKind::Encrypted, data.0));
    request.say(Role::Assistant, Block::Thinking { text, token });
}

fn take_content<'a>(
    content: Option<Content<'a, PartIn<'a>>>,
    role: Role,
    request: &mut Request<'a>,
    losses: &mut Losses,
) {
    match content {
        None => {}
        Some(Content::Text(text)) => request.say(role, Block::Text(text)),
        Some(Content::Parts(parts)) => {
            for part in parts {
                for (field, _) in &part.extra {
                    losses.dropped(field.clone().into_owned());
                }
                if part.annotations.is_some_and(|list| list.get().contains('{')) {
                    losses.dropped("input.annotations");
                }
                request.say(role, take_part(part));
            }
        }
    }
}

fn take_part(part: PartIn<'_>) -> Block<'_> {
    let kind = part.kind.as_deref().unwrap_or_default().to_owned();
    let name = part.filename.map(|n| n.0);
    let detail = part.detail.map(|d| d.0);
    let (media_kind, mime, source) = match &*kind {
        "input_image" => match (part.image_url, part.file_id) {
            (Some(url), _) => {
                let (mime, source) = source_of_url(url.0);
                (MediaKind::Image, mime, source)
            }
            (None, id) => (MediaKind::Image, Cow::Borrowed(""), Source::File(id.map(|i| i.0).unwrap_or_default())),
        },
        "input_file" => {
            let (mime, source) = match (part.file_data, part.file_url) {
                (Some(data), _) => match source_of_url(data.0) {
                    (mime, Source::Url(bare)) => (mime, Source::Base64(bare)),
                    (mime, source) => (mime, source),
                },
                (None, Some(url)) => (Cow::Borrowed(""), Source::Url(url.0)),
                (None, None) => (Cow::Borrowed(""), Source::File(part.file_id.map(|i| i.0).unwrap_or_default())),
            };
            (MediaKind::Document, mime, source)
        }
        _ => {
            return match (part.text, part.refusal) {
                (Some(text), _) => Block::Text(text),
                (None, Some(refusal)) => Block::Refusal(refusal.0),
                (None, None) => {
                    let field = Cow::Owned(format!("input.{kind}"));
                    Block::Opaque(Opaque { field, essential: true })
                }
            };
        }
    };
    Block::Media(Media { kind: media_kind, mime, source, name, detail })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::damaged;

    #[test]
    fn recorded_and_damaged_requests_are_read_as_serde_reads_them() {
        damaged::each_request(|json| in_place::agree::<BodyIn<'_>>(json));
    }
}
