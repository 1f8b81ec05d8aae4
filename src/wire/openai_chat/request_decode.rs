//! Reads a Chat Completions request into the common form.

use crate::wire::{
    fields::{Json, List, Num, Str, text_of, wire_struct},
    in_place,
    loss::{Losses, Refusal},
    replay::{ReplayToken, TokenKind, find_in_id},
    request::{
        Block, Effort, Level, Media, MediaKind, OutputFormat, Reasoning, Request, Role, Schema, Source, Tool, ToolCall,
        ToolChoice, ToolResult,
    },
    rules::source_of_url,
    text::{Content, Text},
    translate::Job,
};
use std::borrow::Cow;

wire_struct! {
    BodyIn {
        "model" => model: Str<'a>,
        "messages" => messages: Vec<MessageIn<'a>>,
        "stream" => stream: bool,
        "stream_options" => stream_options: StreamOptionsIn<'a>,
        "max_tokens" => max_tokens: Num,
        "max_completion_tokens" => max_completion_tokens: Num,
        "temperature" => temperature: Num,
        "top_p" => top_p: Num,
        "top_k" => top_k: Num,
        "stop" => stop: List<Str<'a>>,
        "n" => n: u64,
        "seed" => seed: Num,
        "frequency_penalty" => frequency_penalty: Num,
        "presence_penalty" => presence_penalty: Num,
        "logprobs" => logprobs: bool,
        "top_logprobs" => top_logprobs: u64,
        "response_format" => response_format: ResponseFormatIn<'a>,
        "tools" => tools: List<ToolIn<'a>>,
        "tool_choice" => tool_choice: Json<'a>,
        "parallel_tool_calls" => parallel_tool_calls: bool,
        "functions" => functions: List<FunctionIn<'a>>,
        "function_call" => function_call: Json<'a>,
        "reasoning_effort" => reasoning_effort: Str<'a>,
        "reasoning" => reasoning: ReasoningIn<'a>,
        "user" => user: Str<'a>,
        "safety_identifier" => safety_identifier: Str<'a>,
        "metadata" => metadata: Json<'a>,
        "service_tier" => service_tier: Str<'a>,
        "store" => store: bool,
        "prompt_cache_key" => prompt_cache_key: Str<'a>,
        "verbosity" => verbosity: Str<'a>,
        "web_search_options" => web_search_options: Json<'a>,
        "modalities" => modalities: List<Str<'a>>,
        "audio" => audio: Json<'a>,
    }
}
wire_struct! { StreamOptionsIn { "include_usage" => include_usage: bool } }
wire_struct! {
    MessageIn {
        "role" => role: Str<'a>,
        "content" => content: Content<'a, PartIn<'a>>,
        "tool_calls" => tool_calls: Vec<ToolCallIn<'a>>,
        "tool_call_id" => tool_call_id: Str<'a>,
        "name" => name: Str<'a>,
        "refusal" => refusal: Str<'a>,
        "function_call" => function_call: FunctionIn<'a>,
        "reasoning_content" => reasoning_content: Str<'a>,
        "reasoning" => reasoning: Str<'a>,
        "reasoning_details" => reasoning_details: Vec<Json<'a>>,
        "audio" => audio: Json<'a>,
        "annotations" => annotations: Json<'a>,
    }
}
wire_struct! {
    PartIn {
        "type" => kind: Str<'a>,
        "text" => text: Text<'a>,
        "refusal" => refusal: Str<'a>,
        "image_url" => image_url: Json<'a>,
        "input_audio" => input_audio: AudioIn<'a>,
        "file" => file: FileIn<'a>,
        "thinking" => thinking: Json<'a>,
    }
}
wire_struct! { ImageIn { "url" => url: Str<'a>, "detail" => detail: Str<'a> } }
wire_struct! { AudioIn { "data" => data: Str<'a>, "format" => format: Str<'a> } }
wire_struct! {
    FileIn { "file_data" => file_data: Str<'a>, "file_id" => file_id: Str<'a>, "filename" => filename: Str<'a> }
}
wire_struct! {
    ToolCallIn {
        "id" => id: Str<'a>,
        "function" => function: FunctionIn<'a>,
        "custom" => custom: FunctionIn<'a>,
        "extra_content" => extra_content: Json<'a>,
    }
}
wire_struct! {
    FunctionIn {
        "name" => name: Str<'a>,
        "arguments" => arguments: Json<'a>,
        "input" => input: Str<'a>,
        "description" => description: Str<'a>,
        "parameters" => parameters: Json<'a>,
        "strict" => strict: bool,
    }
}
wire_struct! {
    ToolIn {
        "type" => kind: Str<'a>,
        "function" => function: FunctionIn<'a>,
        "custom" => custom: FunctionIn<'a>,
    }
}
wire_struct! {
    ResponseFormatIn { "type" => kind: Str<'a>, "json_schema" => json_schema: JsonSchemaIn<'a> }
}
wire_struct! {
    JsonSchemaIn {
        "name" => name: Str<'a>,
        "description" => description: Str<'a>,
        "schema" => schema: Json<'a>,
        "strict" => strict: bool,
    }
}
wire_struct! {
    ReasoningIn {
        "effort" => effort: Str<'a>,
        "max_tokens" => max_tokens: u64,
        "enabled" => enabled: bool,
        "exclude" => exclude: bool,
    }
}
wire_struct! {
    ChoiceIn {
        "type" => kind: Str<'a>,
        "function" => function: FunctionIn<'a>,
        "custom" => custom: FunctionIn<'a>,
        "name" => name: Str<'a>,
        "allowed_tools" => allowed_tools: AllowedIn<'a>,
    }
}
wire_struct! { AllowedIn { "mode" => mode: Str<'a>, "tools" => tools: Vec<ToolIn<'a>> } }
wire_struct! {
    DetailIn { "type" => kind: Str<'a>, "text" => text: Str<'a>, "signature" => signature: Str<'a>, "data" => data: Str<'a> }
}

/// Reads the body.
pub(crate) fn decode<'a>(bytes: &'a [u8], job: &mut Job) -> Result<Request<'a>, Refusal> {
    let mut body = BodyIn::default();
    in_place::read_request(bytes, &mut body)?;
    let mut request = Request {
        model: body.model.map(|m| m.0).unwrap_or_default(),
        stream: body.stream.unwrap_or(false),
        stream_usage: body.stream_options.and_then(|o| o.include_usage).unwrap_or(false),
        web_search: body.web_search_options.is_some(),
        parallel_tools: body.parallel_tool_calls,
        user: body.safety_identifier.or(body.user).map(|u| u.0),
        metadata: body.metadata,
        tier: body.service_tier.map(|t| t.0),
        store: body.store,
        cache_key: body.prompt_cache_key.map(|k| k.0),
        verbosity: body.verbosity.map(|v| v.0),
        ..Request::default()
    };
    if body.web_search_options.is_some_and(|o| o.get().len() > 2) {
        job.losses.approximated("web_search_options");
    }
    let s = &mut request.sampling;
    s.max_tokens = body.max_completion_tokens.or(body.max_tokens).and_then(|n| n.as_count());
    (s.temperature, s.top_p, s.top_k, s.seed) = (body.temperature, body.top_p, body.top_k, body.seed);
    s.frequency_penalty = body.frequency_penalty.filter(|p| p.as_f64() != 0.0);
    s.presence_penalty = body.presence_penalty.filter(|p| p.as_f64() != 0.0);
    s.stop = body.stop.unwrap_or_default().into_iter().map(|s| s.0).filter(|s| !s.is_empty()).collect();
    s.n = body.n.filter(|n| *n > 1);
    s.logprobs = body.logprobs.unwrap_or(false);
    s.top_logprobs = body.top_logprobs.filter(|n| *n > 0);
    request.reasoning = reasoning(body.reasoning_effort.as_deref(), body.reasoning.as_ref());
    request.output = output_format(body.response_format);
    for tool in body.tools.unwrap_or_default() {
        take_tool(tool, &mut request, &mut job.losses);
    }
    for function in body.functions.unwrap_or_default() {
        request.tools.push(tool_of(function, false));
    }
    if let Some(raw) = body.tool_choice.or(body.function_call) {
        request.tool_choice = tool_choice(raw, &mut job.losses)?;
    }
    if body.modalities.is_some_and(|list| list.iter().any(|m| &**m != "text")) {
        request.opaque("modalities", true);
    } else if body.audio.is_some() {
        request.opaque("audio", false);
    }
    for (field, _) in body.extra {
        request.opaque(field, false);
    }
    let mut legacy = 0;
    for message in body.messages.unwrap_or_default() {
        take_message(message, &mut request, job, &mut legacy)?;
    }
    Ok(request)
}

fn reasoning(effort: Option<&str>, object: Option<&ReasoningIn<'_>>) -> Option<Reasoning> {
    let level = effort.or(object.and_then(|o| o.effort.as_deref())).and_then(Level::parse);
    let visible = object.and_then(|o| o.exclude).map(|exclude| !exclude);
    let budget = object.and_then(|o| o.max_tokens).map(Effort::Budget);
    let switched =
        object.and_then(|o| o.enabled).map(|on| if on { Effort::Dynamic } else { Effort::Level(Level::None) });
    let effort = level.map(Effort::Level).or(budget).or(switched)?;
    // Who asks a chat model to think may read the thoughts where a provider shows them; clients that cannot skip the field.
    let visible = visible.or_else(|| (!effort.is_off()).then_some(true));
    Some(Reasoning { effort, visible })
}

fn output_format(format: Option<ResponseFormatIn<'_>>) -> OutputFormat<'_> {
    let Some(format) = format else { return OutputFormat::Text };
    match (format.kind.as_deref(), format.json_schema) {
        (Some("json_schema"), schema) => {
            let schema = schema.unwrap_or_default();
            OutputFormat::Schema {
                name: schema.name.map(|n| n.0),
                description: schema.description.map(|d| d.0),
                schema: schema.schema.map(Schema::Json),
                strict: schema.strict,
            }
        }
        (Some("json_object"), _) => OutputFormat::Json,
        _ => OutputFormat::Text,
    }
}

fn take_tool<'a>(tool: ToolIn<'a>, request: &mut Request<'a>, losses: &mut Losses) {
    let kind = tool.kind.map(|k| k.0).unwrap_or_default();
    match (tool.function, tool.custom) {
        (Some(function), _) => request.tools.push(tool_of(function, false)),
        (None, Some(custom)) => request.tools.push(tool_of(custom, true)),
        (None, None) if kind.contains("web_search") => {
            if !tool.extra.is_empty() {
                losses.approximated("tools.web_search");
            }
            request.web_search = true;
        }
        (None, None) => request.opaque(format!("tools.{kind}"), true),
    }
}

fn tool_of(function: FunctionIn<'_>, custom: bool) -> Tool<'_> {
    Tool {
        name: function.name.map(|n| n.0).unwrap_or_default(),
        description: function.description.map(|d| d.0),
        schema: function.parameters.map(Schema::Json),
        strict: function.strict,
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

pub(crate) fn word_choice(word: &str) -> Option<ToolChoice<'static>> {
    match word {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        "required" | "any" => Some(ToolChoice::Any),
        _ => None,
    }
}

fn object_choice(raw: Json<'_>) -> Result<Option<ToolChoice<'_>>, Refusal> {
    let choice: ChoiceIn<'_> = in_place::read_inside("tool_choice", raw)?;
    if let Some(allowed) = choice.allowed_tools {
        let names = allowed.tools.unwrap_or_default().into_iter();
        let names = names.filter_map(|t| t.function.or(t.custom)).filter_map(|f| f.name).map(|n| n.0).collect();
        return Ok(Some(ToolChoice::Allowed { names, required: allowed.mode.as_deref() == Some("required") }));
    }
    let named = choice.function.or(choice.custom).and_then(|f| f.name).or(choice.name);
    Ok(named.map(|name| ToolChoice::Named(name.0)))
}

fn take_message<'a>(
    message: MessageIn<'a>,
    request: &mut Request<'a>,
    job: &mut Job,
    legacy: &mut usize,
) -> Result<(), Refusal> {
    let losses = &mut job.losses;
    for (field, _) in &message.extra {
        losses.dropped(format!("messages.{field}"));
    }
    let role = message.role.as_deref().unwrap_or("user").to_owned();
    match &*role {
        "system" | "developer" => {
            request.open_turn(Role::System);
            take_content(message.content, Role::System, request, losses);
        }
        "user" => {
            if message.name.is_some() {
                losses.dropped("messages.name");
            }
            request.open_turn(Role::User);
            take_content(message.content, Role::User, request, losses);
        }
        "assistant" => take_assistant(message, request, losses, legacy),
        "tool" | "function" => {
            let id = match message.tool_call_id {
                Some(id) => find_in_id(id.0).0,
                None => Cow::Owned(format!("call_legacy{}", legacy.saturating_sub(1))),
            };
            let mut inner = Request::default();
            take_content(message.content, Role::User, &mut inner, losses);
            let content = inner.turns.into_iter().flat_map(|turn| turn.blocks).collect();
            let name = message.name.map(|n| n.0).unwrap_or_default();
            let result = ToolResult { id, name, content, object: None, is_error: false, custom: false };
            request.say(Role::User, Block::ToolResult(result));
        }
        other => {
            let message = format!("messages: the role {other} is not known: use system, user, assistant or tool");
            return Err(Refusal::new("messages.role", message));
        }
    }
    Ok(())
}

fn take_assistant<'a>(message: MessageIn<'a>, request: &mut Request<'a>, losses: &mut Losses, legacy: &mut usize) {
    request.open_turn(Role::Assistant);
    let mut has_token = false;
    for raw in message.reasoning_details.unwrap_or_default() {
        let block = detail(raw);
        has_token |= matches!(block, Block::Thinking { token: Some(_), .. });
        request.say(Role::Assistant, block);
    }
    let told = message.reasoning_content.or(message.reasoning).filter(|text| !has_token && !text.is_empty());
    if let Some(text) = told {
        request.say(Role::Assistant, Block::Thinking { text: text.0, token: None });
    }
    take_content(message.content, Role::Assistant, request, losses);
    if let Some(refusal) = message.refusal {
        request.say(Role::Assistant, Block::Refusal(refusal.0));
    }
    if message.audio.is_some() {
        losses.dropped("messages.audio");
    }
    if message.annotations.is_some_and(|list| list.get().contains('{')) {
        losses.dropped("messages.annotations");
    }
    for call in message.tool_calls.unwrap_or_default() {
        let custom = call.custom.is_some();
        let function = call.function.or(call.custom).unwrap_or_default();
        let (id, token) = find_in_id(call.id.map(|id| id.0).unwrap_or_default());
        let extra = call.extra_content.map(|raw| ReplayToken::native(TokenKind::CallExtra, Cow::Borrowed(raw.get())));
        if let Some(token) = extra.or(token.filter(|_| !has_token)) {
            request.say(Role::Assistant, Block::Thinking { text: Cow::Borrowed(""), token: Some(token) });
        }
        request.say(Role::Assistant, Block::ToolCall(call_of(function, id, custom)));
    }
    if let Some(function) = message.function_call {
        let id = Cow::Owned(format!("call_legacy{legacy}"));
        *legacy += 1;
        request.say(Role::Assistant, Block::ToolCall(call_of(function, id, false)));
    }
}

fn call_of<'a>(function: FunctionIn<'a>, id: Cow<'a, str>, custom: bool) -> ToolCall<'a> {
    let arguments = function.arguments.map(text_of).or(function.input.map(|i| i.0)).unwrap_or_default();
    ToolCall { id, name: function.name.map(|n| n.0).unwrap_or_default(), arguments, custom }
}

/// One element of `reasoning_details`: a sealed token of ours, or a chat provider's own.
fn detail(raw: Json<'_>) -> Block<'_> {
    let read: DetailIn<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
    let sealed = read.signature.as_ref().or(read.data.as_ref()).and_then(|text| ReplayToken::open(text));
    match sealed {
        Some(token) => Block::Thinking { text: read.text.map(|t| t.0).unwrap_or_default(), token: Some(token) },
        None => {
            let token = ReplayToken::native(TokenKind::Details, Cow::Borrowed(raw.get()));
            Block::Thinking { text: read.text.map(|t| t.0).unwrap_or_default(), token: Some(token) }
        }
    }
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
                    if !matches!(&**field, "file_url" | "document_url" | "video_url") {
                        losses.dropped(field.clone().into_owned());
                    }
                }
                let block = take_part(part);
                request.say(role, block);
            }
        }
    }
}

fn take_part(part: PartIn<'_>) -> Block<'_> {
    if let Some(thinking) = part.thinking {
        return Block::Thinking { text: thinking_text(thinking), token: None };
    }
    if let Some(image) = part.image_url {
        let read: ImageIn<'_> = match image.get().starts_with('"') {
            true => ImageIn { url: Some(Str(text_of(image))), ..ImageIn::default() },
            false => serde_json::from_str(image.get()).unwrap_or_default(),
        };
        let (mime, source) = source_of_url(read.url.map(|u| u.0).unwrap_or_default());
        let detail = read.detail.map(|d| d.0);
        return Block::Media(Media { kind: MediaKind::Image, mime, source, name: None, detail });
    }
    if let Some(audio) = part.input_audio {
        let mime = match audio.format.as_deref() {
            Some("mp3") => Cow::Borrowed("audio/mp3"),
            other => Cow::Owned(format!("audio/{}", other.unwrap_or("wav"))),
        };
        let source = Source::Base64(audio.data.map(|d| d.0).unwrap_or_default());
        return Block::Media(Media { kind: MediaKind::Audio, mime, source, name: None, detail: None });
    }
    if let Some(file) = part.file {
        return file_block(file);
    }
    match (part.text, part.refusal) {
        (Some(text), _) => Block::Text(text),
        (None, Some(refusal)) => Block::Refusal(refusal.0),
        (None, None) => {
            let kind = part.kind.map(|k| k.0).unwrap_or_default();
            let field = Cow::Owned(format!("messages.content.{kind}"));
            Block::Opaque(crate::wire::request::Opaque { field, essential: true })
        }
    }
}

fn file_block(file: FileIn<'_>) -> Block<'_> {
    let name = file.filename.map(|n| n.0);
    let (mime, source) = match (file.file_data, file.file_id) {
        (Some(data), _) => match source_of_url(data.0) {
            (mime, Source::Url(bare)) => (mime, Source::Base64(bare)),
            (mime, source) => (mime, source),
        },
        (None, id) => (Cow::Borrowed(""), Source::File(id.map(|i| i.0).unwrap_or_default())),
    };
    Block::Media(Media { kind: MediaKind::Document, mime, source, name, detail: None })
}

/// Mistral writes thinking as a list of text parts.
fn thinking_text(raw: Json<'_>) -> Cow<'_, str> {
    match serde_json::from_str::<Content<'_, PartIn<'_>>>(raw.get()) {
        Ok(Content::Text(text)) => Cow::Owned(text.read().into_owned()),
        Ok(Content::Parts(parts)) => {
            Cow::Owned(parts.iter().filter_map(|part| part.text.as_ref()).map(Text::read).collect::<String>())
        }
        Err(_) => Cow::Borrowed(""),
    }
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
