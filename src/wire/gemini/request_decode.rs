//! Reads a Gemini generateContent request into the common form.
//!
//! Takes camelCase and snake_case, lone objects for lists, and enum names in any case, as the API does.

use crate::wire::{
    answer::Answer,
    fields::{Json, List, Num, Str, TextOr, wire_struct},
    in_place,
    loss::{Losses, Refusal},
    replay::{ReplayToken, TokenKind},
    request::{
        Block, Effort, Level, Media, MediaKind, Opaque, OutputFormat, Reasoning, Request, Role, Schema, Source, Tool,
        ToolCall, ToolChoice, ToolResult,
    },
    rules::{fnv, invented_id, kind_of_mime},
    text::Text,
    translate::Job,
};
use std::borrow::Cow;

wire_struct! {
    BodyIn {
        "model" => model: Str<'a>,
        "contents" | "content" => contents: List<ContentIn<'a>>,
        "systemInstruction" | "system_instruction" => system_instruction: TextOr<'a, ContentIn<'a>>,
        "tools" => tools: List<ToolIn<'a>>,
        "toolConfig" | "tool_config" => tool_config: ToolConfigIn<'a>,
        "generationConfig" | "generation_config" => generation_config: ConfigIn<'a>,
        "store" => store: bool,
    }
}
wire_struct! { ContentIn { "role" => role: Str<'a>, "parts" => parts: List<PartIn<'a>>, "text" => text: Str<'a> } }
wire_struct! {
    PartIn {
        "text" => text: Text<'a>,
        "thought" => thought: bool,
        "thoughtSignature" | "thought_signature" => signature: Str<'a>,
        "inlineData" | "inline_data" => inline_data: BlobIn<'a>,
        "fileData" | "file_data" => file_data: FileIn<'a>,
        "functionCall" | "function_call" => call: CallIn<'a>,
        "functionResponse" | "function_response" => response: ResponseIn<'a>,
    }
}
wire_struct! {
    BlobIn {
        "mimeType" | "mime_type" => mime: Str<'a>, "data" => data: Str<'a>, "displayName" | "display_name" => name: Str<'a>,
    }
}
wire_struct! { FileIn { "mimeType" | "mime_type" => mime: Str<'a>, "fileUri" | "file_uri" => uri: Str<'a> } }
wire_struct! { CallIn { "id" => id: Str<'a>, "name" => name: Str<'a>, "args" => args: Json<'a> } }
wire_struct! {
    ResponseIn {
        "id" => id: Str<'a>,
        "name" => name: Str<'a>,
        "response" => response: Answer<'a>,
        "parts" => parts: Box<List<PartIn<'a>>>,
    }
}
wire_struct! {
    ToolIn {
        "functionDeclarations" | "function_declarations" => functions: List<FunctionIn<'a>>,
        "googleSearch" | "google_search" | "googleSearchRetrieval" | "google_search_retrieval" => search: Json<'a>,
    }
}
wire_struct! {
    FunctionIn {
        "name" => name: Str<'a>,
        "description" => description: Str<'a>,
        "parameters" => parameters: Json<'a>,
        "parametersJsonSchema" | "parameters_json_schema" => json_schema: Json<'a>,
    }
}
wire_struct! {
    ToolConfigIn { "functionCallingConfig" | "function_calling_config" => calling: CallingIn<'a> }
}
wire_struct! {
    CallingIn {
        "mode" => mode: Str<'a>,
        "allowedFunctionNames" | "allowed_function_names" => names: List<Str<'a>>,
    }
}
wire_struct! {
    ConfigIn {
        "temperature" => temperature: Num,
        "topP" | "top_p" => top_p: Num,
        "topK" | "top_k" => top_k: Num,
        "maxOutputTokens" | "max_output_tokens" => max_output_tokens: Num,
        "stopSequences" | "stop_sequences" => stop: List<Str<'a>>,
        "candidateCount" | "candidate_count" => candidate_count: Num,
        "seed" => seed: Num,
        "frequencyPenalty" | "frequency_penalty" => frequency_penalty: Num,
        "presencePenalty" | "presence_penalty" => presence_penalty: Num,
        "responseLogprobs" | "response_logprobs" => logprobs: bool,
        "logprobs" => top_logprobs: Num,
        "responseMimeType" | "response_mime_type" => mime: Str<'a>,
        "responseSchema" | "response_schema" => schema: Json<'a>,
        "responseJsonSchema" | "response_json_schema" | "_responseJsonSchema" => json_schema: Json<'a>,
        "responseModalities" | "response_modalities" => modalities: List<Str<'a>>,
        "thinkingConfig" | "thinking_config" => thinking: ThinkingIn<'a>,
    }
}
wire_struct! {
    ThinkingIn {
        "includeThoughts" | "include_thoughts" => include: bool,
        "thinkingBudget" | "thinking_budget" => budget: Num,
        "thinkingLevel" | "thinking_level" => level: Str<'a>,
    }
}

/// Calls that wait for their results, which name them only by name and order.
#[derive(Default)]
struct Pending<'a> {
    calls: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    count: usize,
}

/// Reads the body.
pub(crate) fn decode<'a>(bytes: &'a [u8], job: &mut Job) -> Result<Request<'a>, Refusal> {
    let mut body = BodyIn::default();
    in_place::read_request(bytes, &mut body)?;
    let mut request = Request {
        model: body.model.map(|m| m.0).unwrap_or_default(),
        stream_usage: true,
        store: body.store,
        ..Request::default()
    };
    let config = body.generation_config.unwrap_or_default();
    take_config(config, &mut request, job);
    for tool in body.tools.unwrap_or_default() {
        take_tool(tool, &mut request, &mut job.losses);
    }
    if let Some(calling) = body.tool_config.and_then(|c| c.calling) {
        request.tool_choice = tool_choice(calling);
    }
    for (field, value) in body.extra {
        if matches!(value.get(), "[]" | "{}") {
            continue;
        }
        let essential = matches!(&*field, "cachedContent" | "cached_content");
        request.opaque(field, essential);
    }
    let mut pending = Pending::default();
    match body.system_instruction {
        Some(TextOr::Text(text)) => request.say(Role::System, Block::Text(text.0.into())),
        Some(TextOr::Parts(contents)) => {
            for content in contents {
                take_content(content, Some(Role::System), &mut request, &mut pending, job)?;
            }
        }
        None => {}
    }
    for content in body.contents.unwrap_or_default() {
        take_content(content, None, &mut request, &mut pending, job)?;
    }
    Ok(request)
}

fn take_config<'a>(config: ConfigIn<'a>, request: &mut Request<'a>, job: &mut Job) {
    let s = &mut request.sampling;
    (s.temperature, s.top_p, s.top_k, s.seed) = (config.temperature, config.top_p, config.top_k, config.seed);
    s.max_tokens = config.max_output_tokens.and_then(|n| n.as_count());
    s.stop = config.stop.unwrap_or_default().into_iter().map(|s| s.0).collect();
    s.n = config.candidate_count.and_then(|n| n.as_count()).filter(|n| *n > 1);
    s.frequency_penalty = config.frequency_penalty.filter(|p| p.as_f64() != 0.0);
    s.presence_penalty = config.presence_penalty.filter(|p| p.as_f64() != 0.0);
    s.logprobs = config.logprobs.unwrap_or(false);
    s.top_logprobs = config.top_logprobs.and_then(|n| n.as_count());
    let schema = config.json_schema.map(Schema::Json).or(config.schema.map(Schema::Gemini));
    request.output = match (config.mime.as_deref(), schema) {
        (Some("application/json"), Some(schema)) => {
            OutputFormat::Schema { name: None, description: None, schema: Some(schema), strict: None }
        }
        (Some("application/json"), None) => OutputFormat::Json,
        _ => OutputFormat::Text,
    };
    if let Some(mime) = config.mime.filter(|m| !matches!(&**m, "application/json" | "text/plain")) {
        request.opaque(format!("generationConfig.responseMimeType {}", &*mime), true);
    }
    let only_text = |list: &List<Str<'_>>| list.iter().all(|m| m.eq_ignore_ascii_case("text"));
    if config.modalities.is_some_and(|list| !only_text(&list)) {
        request.opaque("generationConfig.responseModalities", true);
    }
    if let Some(thinking) = config.thinking {
        let effort = match (thinking.level.as_deref().and_then(Level::parse), thinking.budget) {
            (Some(level), _) => Effort::Level(level),
            (None, Some(budget)) if budget.as_f64() < 0.0 => Effort::Dynamic,
            (None, Some(budget)) => match budget.as_count() {
                Some(0) | None => Effort::Level(Level::None),
                Some(tokens) => Effort::Budget(tokens),
            },
            (None, None) => Effort::Dynamic,
        };
        request.reasoning = Some(Reasoning { effort, visible: thinking.include });
        job.context.thinking_shown = thinking.include;
    }
    for (field, _) in config.extra {
        let essential = matches!(&*field, "speechConfig" | "speech_config");
        request.opaque(format!("generationConfig.{field}"), essential);
    }
}

fn take_tool<'a>(tool: ToolIn<'a>, request: &mut Request<'a>, losses: &mut Losses) {
    if let Some(search) = tool.search {
        request.web_search = true;
        if search.get().trim() != "{}" {
            losses.approximated("tools.googleSearch");
        }
    }
    for (field, _) in tool.extra {
        request.opaque(format!("tools.{field}"), true);
    }
    for function in tool.functions.into_iter().flatten() {
        for (field, _) in function.extra {
            losses.dropped(format!("functionDeclarations.{field}"));
        }
        request.tools.push(Tool {
            name: function.name.map(|n| n.0).unwrap_or_default(),
            description: function.description.map(|d| d.0),
            schema: function.json_schema.map(Schema::Json).or(function.parameters.map(Schema::Gemini)),
            strict: None,
            custom: false,
        });
    }
}

fn tool_choice(calling: CallingIn<'_>) -> Option<ToolChoice<'_>> {
    let mut names: Vec<Cow<'_, str>> = calling.names.unwrap_or_default().into_iter().map(|n| n.0).collect();
    match calling.mode.as_deref().unwrap_or("AUTO").to_ascii_uppercase().as_str() {
        "NONE" => Some(ToolChoice::None),
        "ANY" if names.len() == 1 => names.pop().map(ToolChoice::Named),
        "ANY" if names.is_empty() => Some(ToolChoice::Any),
        "ANY" => Some(ToolChoice::Allowed { names, required: true }),
        "VALIDATED" => Some(ToolChoice::Validated { names }),
        _ => Some(ToolChoice::Auto),
    }
}

fn take_content<'a>(
    content: ContentIn<'a>,
    role: Option<Role>,
    request: &mut Request<'a>,
    pending: &mut Pending<'a>,
    job: &mut Job,
) -> Result<(), Refusal> {
    let role = match (role, content.role.as_deref()) {
        (Some(role), _) => role,
        (None, Some("model")) => Role::Assistant,
        (None, None | Some("user" | "function" | "")) => Role::User,
        (None, Some("system")) => Role::System,
        (None, Some(_)) => return Err(Refusal::new("contents.role", "please use a valid role: user, model")),
    };
    request.open_turn(role);
    if let Some(text) = content.text {
        request.say(role, Block::Text(text.0.into()));
    }
    for part in content.parts.unwrap_or_default() {
        take_part(part, role, request, pending, &mut job.losses);
    }
    Ok(())
}

fn take_part<'a>(
    part: PartIn<'a>,
    role: Role,
    request: &mut Request<'a>,
    pending: &mut Pending<'a>,
    losses: &mut Losses,
) {
    let thought = part.thought.unwrap_or(false);
    let kind = match (&part.call, thought) {
        (Some(_), _) => TokenKind::OnCall,
        (None, true) => TokenKind::OnThought,
        (None, false) => TokenKind::OnText,
    };
    let token = part.signature.map(|s| s.0).filter(|s| !s.is_empty()).map(|s| ReplayToken::read(kind, s));
    if thought {
        let text = part.text.map(Text::into_said).unwrap_or_default();
        return request.say(role, Block::Thinking { text, token });
    }
    let text_follows_token = token.as_ref().is_some_and(|t| t.kind != TokenKind::OnText);
    let (before, after) = if text_follows_token { (token, None) } else { (None, token) };
    let mark = |token| Block::Thinking { text: Cow::Borrowed(""), token: Some(token) };
    if let Some(token) = before {
        request.say(role, mark(token));
    }
    if let Some(text) = part.text {
        request.say(role, Block::Text(text));
    }
    if let Some(blob) = part.inline_data {
        request.say(role, Block::Media(blob_media(blob)));
    }
    if let Some(file) = part.file_data {
        request.say(role, Block::Media(file_media(file)));
    }
    if let Some(call) = part.call {
        let name = call.name.map(|n| n.0).unwrap_or_default();
        let id = call.id.map(|id| id.0).unwrap_or_else(|| {
            pending.count += 1;
            Cow::Owned(invented_id(fnv(name.as_bytes()), pending.count))
        });
        pending.calls.push((id.clone(), name.clone()));
        let arguments = Cow::Borrowed(call.args.map_or("{}", Json::get));
        request.say(role, Block::ToolCall(ToolCall { id, name, arguments, custom: false }));
    }
    if let Some(response) = part.response {
        request.say(Role::User, Block::ToolResult(result(response, pending)));
    }
    if let Some(token) = after {
        request.say(role, mark(token));
    }
    for (field, _) in part.extra {
        let essential = matches!(&*field, "videoMetadata" | "video_metadata");
        if essential {
            losses.dropped(field.into_owned());
        } else {
            let field = Cow::Owned(format!("parts.{field}"));
            request.say(role, Block::Opaque(Opaque { field, essential: false }));
        }
    }
}

fn result<'a>(response: ResponseIn<'a>, pending: &mut Pending<'a>) -> ToolResult<'a> {
    let name = response.name.map(|n| n.0).unwrap_or_default();
    let given = response.id.map(|id| id.0);
    let at = match &given {
        Some(id) => pending.calls.iter().position(|(known, _)| known == id),
        None => pending.calls.iter().position(|(_, known)| *known == name),
    };
    let matched = at.map(|at| pending.calls.remove(at).0);
    let id = matched.or(given).unwrap_or_else(|| Cow::Owned(invented_id(fnv(name.as_bytes()), 0)));
    let media = response.parts.unwrap_or_default().into_iter().filter_map(|part| part.inline_data);
    let is_error = response.response.as_ref().is_some_and(Answer::is_error);
    ToolResult {
        id,
        name,
        content: media.map(|blob| Block::Media(blob_media(blob))).collect(),
        object: response.response,
        is_error,
        custom: false,
    }
}

fn blob_media(blob: BlobIn<'_>) -> Media<'_> {
    let mime = blob.mime.map(|m| m.0).unwrap_or_default();
    let source = Source::Base64(standard_base64(blob.data.map(|d| d.0).unwrap_or_default()));
    Media { kind: kind_of_mime(&mime), mime, source, name: blob.name.map(|n| n.0), detail: None }
}

/// Google's SDKs send the URL-safe alphabet, with or without padding; the other providers want the standard one.
fn standard_base64(data: Cow<'_, str>) -> Cow<'_, str> {
    let padded = data.len().is_multiple_of(4);
    if padded && memchr::memchr2(b'-', b'_', data.as_bytes()).is_none() {
        return data;
    }
    let mut standard = data.replace('-', "+").replace('_', "/");
    standard.extend(std::iter::repeat_n('=', data.len().next_multiple_of(4) - data.len()));
    Cow::Owned(standard)
}

fn file_media(file: FileIn<'_>) -> Media<'_> {
    let mime = file.mime.map(|m| m.0).unwrap_or_default();
    let uri = file.uri.map(|u| u.0).unwrap_or_default();
    let video = uri.contains("youtube.com/") || uri.contains("youtu.be/");
    let own = video || uri.starts_with("gs://") || uri.contains("generativelanguage.googleapis.com/");
    let kind = if video { MediaKind::Video } else { kind_of_mime(&mime) };
    let source = if own || !uri.starts_with("http") { Source::File(uri) } else { Source::Url(uri) };
    Media { kind, mime, source, name: None, detail: None }
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
