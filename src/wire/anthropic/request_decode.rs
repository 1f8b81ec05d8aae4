//! Reads an Anthropic Messages request into the common form.

use crate::wire::{
    fields::{Json, List, Num, Str, wire_struct},
    in_place,
    loss::{Losses, Refusal},
    replay::{ReplayToken, TokenKind, find_in_id},
    request::{
        Block, Effort, Level, Media, MediaKind, Opaque, OutputFormat, Reasoning, Request, Role, Schema, Source, Tool,
        ToolCall, ToolChoice, ToolResult,
    },
    rules::kind_of_mime,
    text::{Content, Text},
    translate::Job,
};
use std::borrow::Cow;

/// How deep blocks may stand in blocks: results hold documents, and those hold text.
const MAX_DEPTH: usize = 8;

wire_struct! {
    BodyIn {
        "model" => model: Str<'a>,
        "messages" => messages: Vec<MessageIn<'a>>,
        "system" => system: Content<'a, BlockIn<'a>>,
        "max_tokens" => max_tokens: Num,
        "temperature" => temperature: Num,
        "top_p" => top_p: Num,
        "top_k" => top_k: Num,
        "stop_sequences" => stop_sequences: List<Str<'a>>,
        "stream" => stream: bool,
        "tools" => tools: List<ToolIn<'a>>,
        "tool_choice" => tool_choice: ChoiceIn<'a>,
        "thinking" => thinking: ThinkingIn<'a>,
        "metadata" => metadata: MetadataIn<'a>,
        "service_tier" => service_tier: Str<'a>,
        "output_config" => output_config: OutputConfigIn<'a>,
        "output_format" => output_format: FormatIn<'a>,
    }
}
wire_struct! { MessageIn { "role" => role: Str<'a>, "content" => content: Content<'a, BlockIn<'a>> } }
wire_struct! {
    BlockIn {
        "type" => kind: Str<'a>,
        "text" => text: Text<'a>,
        "source" => source: Json<'a>,
        "id" => id: Str<'a>,
        "name" => name: Str<'a>,
        "input" => input: Json<'a>,
        "tool_use_id" => tool_use_id: Str<'a>,
        // What stands in a block is read when its turn comes, so that its depth can be counted.
        "content" => content: Content<'a, Json<'a>>,
        "is_error" => is_error: bool,
        "thinking" => thinking: Str<'a>,
        "signature" => signature: Str<'a>,
        "data" => data: Str<'a>,
        "title" => title: Str<'a>,
        "context" => context: Str<'a>,
        "citations" => citations: Json<'a>,
        "caller" => caller: Json<'a>,
    }
}
wire_struct! {
    SourceIn {
        "type" => kind: Str<'a>,
        "media_type" => media_type: Str<'a>,
        "data" => data: Str<'a>,
        "url" => url: Str<'a>,
        "file_id" => file_id: Str<'a>,
        "content" => content: Content<'a, BlockIn<'a>>,
    }
}
wire_struct! {
    ToolIn {
        "type" => kind: Str<'a>,
        "name" => name: Str<'a>,
        "description" => description: Str<'a>,
        "input_schema" => input_schema: Json<'a>,
        "strict" => strict: bool,
    }
}
wire_struct! {
    ChoiceIn {
        "type" => kind: Str<'a>,
        "name" => name: Str<'a>,
        "disable_parallel_tool_use" => disable_parallel_tool_use: bool,
    }
}
wire_struct! {
    ThinkingIn { "type" => kind: Str<'a>, "budget_tokens" => budget_tokens: u64, "display" => display: Str<'a> }
}
wire_struct! { MetadataIn { "user_id" => user_id: Str<'a> } }
wire_struct! { OutputConfigIn { "effort" => effort: Str<'a>, "format" => format: FormatIn<'a> } }
wire_struct! { FormatIn { "type" => kind: Str<'a>, "schema" => schema: Json<'a>, "name" => name: Str<'a> } }

/// Reads the body.
pub(crate) fn decode<'a>(bytes: &'a [u8], job: &mut Job) -> Result<Request<'a>, Refusal> {
    let mut body = BodyIn::default();
    in_place::read_request(bytes, &mut body)?;
    let config = body.output_config.unwrap_or_default();
    let mut request = Request {
        model: body.model.map(|m| m.0).unwrap_or_default(),
        stream: body.stream.unwrap_or(false),
        stream_usage: true,
        user: body.metadata.and_then(|m| m.user_id).map(|u| u.0),
        tier: body.service_tier.map(|t| t.0),
        reasoning: reasoning(body.thinking.as_ref(), config.effort.as_deref()),
        ..Request::default()
    };
    let thinks = body.thinking.as_ref().is_some_and(|t| t.kind.as_deref() != Some("disabled"));
    job.context.thinking_shown = Some(thinks);
    let s = &mut request.sampling;
    s.max_tokens = body.max_tokens.and_then(|n| n.as_count());
    (s.temperature, s.top_p, s.top_k) = (body.temperature, body.top_p, body.top_k);
    s.stop = body.stop_sequences.unwrap_or_default().into_iter().map(|s| s.0).collect();
    if let Some(format) = config.format.or(body.output_format).filter(|f| f.schema.is_some()) {
        let (name, schema) = (format.name.map(|n| n.0), format.schema.map(Schema::Json));
        request.output = OutputFormat::Schema { name, description: None, schema, strict: None };
    }
    for (field, _) in config.extra {
        request.opaque(format!("output_config.{field}"), false);
    }
    for tool in body.tools.unwrap_or_default() {
        take_tool(tool, &mut request, &mut job.losses);
    }
    if let Some(choice) = body.tool_choice {
        request.parallel_tools = choice.disable_parallel_tool_use.map(|disabled| !disabled);
        request.tool_choice = match (choice.kind.as_deref(), choice.name) {
            (Some("any"), _) => Some(ToolChoice::Any),
            (Some("none"), _) => Some(ToolChoice::None),
            (Some("tool"), Some(name)) => Some(ToolChoice::Named(name.0)),
            _ => Some(ToolChoice::Auto),
        };
    }
    for (field, _) in body.extra {
        let essential = &*field == "mcp_servers";
        request.opaque(field, essential);
    }
    take_text_or_blocks(body.system, Role::System, &mut request, &mut job.losses)?;
    for message in body.messages.unwrap_or_default() {
        let role = match message.role.as_deref() {
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            _ => Role::User,
        };
        request.open_turn(role);
        take_text_or_blocks(message.content, role, &mut request, &mut job.losses)?;
    }
    Ok(request)
}

fn reasoning(thinking: Option<&ThinkingIn<'_>>, effort: Option<&str>) -> Option<Reasoning> {
    let level = effort.and_then(Level::parse).map(Effort::Level);
    let Some(thinking) = thinking else {
        return level.map(|effort| Reasoning { effort, visible: None });
    };
    let visible = Some(thinking.display.as_deref() != Some("omitted"));
    let effort = match thinking.kind.as_deref() {
        Some("disabled") => return Some(Reasoning { effort: Effort::Level(Level::None), visible: Some(false) }),
        Some("enabled") => thinking.budget_tokens.map_or(Effort::Dynamic, Effort::Budget),
        _ => level.unwrap_or(Effort::Dynamic),
    };
    Some(Reasoning { effort, visible })
}

fn take_tool<'a>(tool: ToolIn<'a>, request: &mut Request<'a>, losses: &mut Losses) {
    let kind = tool.kind.map(|k| k.0).unwrap_or_default();
    if kind.starts_with("web_search") {
        if !tool.extra.is_empty() {
            losses.approximated("tools.web_search");
        }
        request.web_search = true;
        return;
    }
    if !kind.is_empty() && kind != "custom" {
        return request.opaque(format!("tools.{kind}"), true);
    }
    for (field, _) in tool.extra {
        losses.dropped(if field == "cache_control" { field.into_owned() } else { format!("tools.{field}") });
    }
    request.tools.push(Tool {
        name: tool.name.map(|n| n.0).unwrap_or_default(),
        description: tool.description.map(|d| d.0),
        schema: tool.input_schema.map(Schema::Json),
        strict: tool.strict,
        custom: false,
    });
}

fn take_text_or_blocks<'a>(
    content: Option<Content<'a, BlockIn<'a>>>,
    role: Role,
    request: &mut Request<'a>,
    losses: &mut Losses,
) -> Result<(), Refusal> {
    match content {
        None => Ok(()),
        Some(Content::Text(text)) => {
            request.say(role, Block::Text(text));
            Ok(())
        }
        Some(Content::Parts(blocks)) => {
            blocks.into_iter().try_for_each(|block| take_block(block, (role, 0), request, losses))
        }
    }
}

/// Takes what stands in a block of this depth.
fn take_inner<'a>(
    content: Option<Content<'a, Json<'a>>>,
    (role, depth): (Role, usize),
    request: &mut Request<'a>,
    losses: &mut Losses,
) -> Result<(), Refusal> {
    match content {
        None => {}
        Some(Content::Text(text)) => request.say(role, Block::Text(text)),
        Some(Content::Parts(_)) if depth >= MAX_DEPTH => {
            return Err(Refusal::new("messages.content", "messages.content is nested too deeply"));
        }
        Some(Content::Parts(blocks)) => {
            for raw in blocks {
                let block = in_place::read_inside("messages.content", raw)?;
                take_block(block, (role, depth + 1), request, losses)?;
            }
        }
    }
    Ok(())
}

fn take_block<'a>(
    block: BlockIn<'a>,
    (role, depth): (Role, usize),
    request: &mut Request<'a>,
    losses: &mut Losses,
) -> Result<(), Refusal> {
    for (field, _) in &block.extra {
        losses.dropped(field.clone().into_owned());
    }
    let kind = block.kind.map(|k| k.0).unwrap_or_default();
    let read = match &*kind {
        "text" => {
            if block.citations.is_some_and(|c| c.get().contains('{')) {
                losses.dropped("messages.citations");
            }
            Block::Text(block.text.unwrap_or_default())
        }
        "image" => Block::Media(media(block.source, MediaKind::Image, None)?),
        "document" => {
            if block.citations.is_some_and(|c| c.get().contains("true")) {
                losses.dropped("citations");
            }
            if let Some(context) = block.context {
                request.say(role, Block::Text(Text::from(context.0)));
            }
            let name = block.title.map(|t| t.0);
            Block::Media(media(block.source, MediaKind::Document, name)?)
        }
        "tool_use" => {
            let (id, token) = find_in_id(block.id.map(|id| id.0).unwrap_or_default());
            if let Some(token) = token {
                request.say(role, Block::Thinking { text: Cow::Borrowed(""), token: Some(token) });
            }
            let arguments = Cow::Borrowed(block.input.map_or("{}", Json::get));
            Block::ToolCall(ToolCall {
                id,
                name: block.name.map(|n| n.0).unwrap_or_default(),
                arguments,
                custom: false,
            })
        }
        "tool_result" => {
            let mut inner = Request::default();
            take_inner(block.content, (Role::User, depth), &mut inner, losses)?;
            Block::ToolResult(ToolResult {
                id: find_in_id(block.tool_use_id.map(|id| id.0).unwrap_or_default()).0,
                name: Cow::Borrowed(""),
                content: inner.turns.into_iter().flat_map(|turn| turn.blocks).collect(),
                object: None,
                is_error: block.is_error.unwrap_or(false),
                custom: false,
            })
        }
        "thinking" => {
            let signature = block.signature.map(|s| s.0).filter(|s| !s.is_empty());
            let token = signature.map(|s| ReplayToken::read(TokenKind::Signature, s));
            Block::Thinking { text: block.thinking.map(|t| t.0).unwrap_or_default(), token }
        }
        "redacted_thinking" => {
            let token = block.data.map(|data| ReplayToken::read(TokenKind::Redacted, data.0));
            Block::Thinking { text: Cow::Borrowed(""), token }
        }
        "search_result" => {
            losses.emulated("search_result");
            return take_inner(block.content, (role, depth), request, losses);
        }
        other => {
            let essential = other == "container_upload";
            Block::Opaque(Opaque { field: Cow::Owned(format!("messages.{other}")), essential })
        }
    };
    request.say(role, read);
    Ok(())
}

fn media<'a>(source: Option<Json<'a>>, kind: MediaKind, name: Option<Cow<'a, str>>) -> Result<Media<'a>, Refusal> {
    let source: SourceIn<'a> = match source {
        Some(source) => in_place::read_inside("source", source)?,
        None => SourceIn::default(),
    };
    let mime = source.media_type.map(|m| m.0).unwrap_or_default();
    let data = source.data.map(|d| d.0).unwrap_or_default();
    let read = match source.kind.as_deref() {
        Some("url") => Source::Url(source.url.map(|u| u.0).unwrap_or_default()),
        Some("file") => Source::File(source.file_id.map(|f| f.0).unwrap_or_default()),
        Some("text") => Source::Text(data),
        Some("content") => Source::Text(joined(source.content)),
        _ => Source::Base64(data),
    };
    let kind = if mime.is_empty() || kind == MediaKind::Document { kind } else { kind_of_mime(&mime) };
    Ok(Media { kind, mime, source: read, name, detail: None })
}

fn joined<'a>(content: Option<Content<'a, BlockIn<'a>>>) -> Cow<'a, str> {
    match content {
        None => Cow::Borrowed(""),
        Some(Content::Text(text)) => Cow::Owned(text.read().into_owned()),
        Some(Content::Parts(blocks)) => {
            let texts: Vec<Cow<'_, str>> =
                blocks.iter().filter_map(|block| block.text.as_ref()).map(Text::read).collect();
            Cow::Owned(texts.join("\n"))
        }
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
