//! Writes a Chat Completions request from the common form.

use crate::wire::{
    WireFormat,
    compose::{self, Arr, Obj},
    fields::Num,
    loss::{Losses, Refusal},
    models,
    replay::TokenKind,
    request::{
        Block, Effort, Media, MediaKind, OutputFormat, Request, Role, Sampling, Source, Tool, ToolCall, ToolChoice,
        ToolResult, Turn,
    },
    rules::{fit, mime_of, refuse_media, result_text, settle_opaque},
    schema,
    text::Text,
    translate::{Job, Options},
};
use std::borrow::Cow;

const CHAT: WireFormat = WireFormat::OpenaiChat;
/// The longest tool name and tool call id that OpenAI takes.
const MAX_NAME: usize = 64;
const MAX_ID: usize = 40;

/// Writes the body.
pub(crate) fn encode(request: Request<'_>, options: &Options<'_>, job: &mut Job) -> Result<Vec<u8>, Refusal> {
    check(&request, options, job)?;
    let mut result = Ok(());
    let mut out = job.output();
    compose::obj(&mut out, |o| {
        o.str("model", options.model);
        o.arr("messages", |a| {
            result = request.turns.iter().try_for_each(|turn| put_turn(a, turn, options, job));
        });
        put_settings(o, &request, options, job);
        put_tools(o, &request, options, job);
        if request.stream {
            o.bool("stream", true);
            o.obj("stream_options", |o| o.bool("include_usage", true));
        }
    });
    result.map(|()| out)
}

fn check(request: &Request<'_>, options: &Options<'_>, job: &mut Job) -> Result<(), Refusal> {
    for opaque in &request.opaque {
        settle_opaque(opaque, CHAT, &mut job.losses)?;
    }
    if request.turns.iter().all(|turn| turn.blocks.is_empty()) {
        return Err(Refusal::new("messages", "messages is empty: send at least one"));
    }
    if !request.sampling.stop.is_empty() && refuses_sampling(options) {
        return Err(Refusal::new("stop", "this model reasons, and such models take no stop sequences: remove them"));
    }
    if request.sampling.stop.len() > 4 {
        return Err(Refusal::new("stop", "this model's provider takes at most 4 stop sequences: send fewer"));
    }
    Ok(())
}

/// OpenAI's reasoning models take no sampling parameters; servers that imitate its format mostly do.
fn refuses_sampling(options: &Options<'_>) -> bool {
    models::is_openai_reasoning(options.model) && !options.compatible
}

fn put_settings(o: &mut Obj<'_>, request: &Request<'_>, options: &Options<'_>, job: &mut Job) {
    put_sampling(o, &request.sampling, options, &mut job.losses);
    put_output(o, &request.output);
    put_reasoning(o, request, options, job);
    let losses = &mut job.losses;
    o.some_str("verbosity", request.verbosity.as_deref());
    if let Some(user) = request.user.as_deref() {
        put_user_id(o, user, options, losses);
    }
    put_tier(o, request.tier.as_deref(), losses);
    // Chat Completions takes metadata only with answers that it stores.
    for (field, is_set) in [("metadata", request.metadata.is_some()), ("store", request.store == Some(true))] {
        if is_set {
            losses.dropped(field);
        }
    }
    o.some_str("prompt_cache_key", request.cache_key.as_deref());
}

fn put_sampling(o: &mut Obj<'_>, s: &Sampling<'_>, options: &Options<'_>, losses: &mut Losses) {
    let reasons = refuses_sampling(options);
    o.some_int(if options.compatible { "max_tokens" } else { "max_completion_tokens" }, s.max_tokens);
    if reasons {
        let plain = |n: &Option<Num>| n.as_ref().is_none_or(|n| n.as_f64() == 1.0);
        for (field, is_plain) in [("temperature", plain(&s.temperature)), ("top_p", plain(&s.top_p))] {
            if !is_plain {
                losses.dropped(field);
            }
        }
    } else {
        o.some_num("temperature", s.temperature.as_ref());
        o.some_num("top_p", s.top_p.as_ref());
    }
    if s.top_k.is_some() {
        losses.dropped("top_k");
    }
    o.some_int("n", s.n);
    if !s.stop.is_empty() {
        o.arr("stop", |a| s.stop.iter().for_each(|stop| a.str(stop)));
    }
    o.some_num("seed", s.seed.as_ref());
    for (field, penalty) in [("frequency_penalty", &s.frequency_penalty), ("presence_penalty", &s.presence_penalty)] {
        match penalty {
            Some(_) if reasons => losses.dropped(field),
            penalty => o.some_num(field, penalty.as_ref()),
        }
    }
    match s.logprobs {
        true if reasons => losses.dropped("logprobs"),
        true => {
            o.bool("logprobs", true);
            o.some_int("top_logprobs", s.top_logprobs());
        }
        false => {}
    }
}

/// Says which of the caller's users asks, in the field that OpenAI has for it now, or that others still have.
pub(crate) fn put_user_id(o: &mut Obj<'_>, user: &str, options: &Options<'_>, losses: &mut Losses) {
    o.str(if options.compatible { "user" } else { "safety_identifier" }, &fit_user(user, losses));
}

/// The tier of service, which both of OpenAI's formats name alike.
pub(crate) fn put_tier(o: &mut Obj<'_>, tier: Option<&str>, losses: &mut Losses) {
    match tier {
        None => {}
        Some("standard_only") => o.word("service_tier", "default"),
        Some(tier @ ("auto" | "default" | "flex" | "scale" | "priority" | "fast")) => o.str("service_tier", tier),
        Some(_) => losses.dropped("service_tier"),
    }
}

/// OpenAI takes at most 64 characters to tell users apart: longer ids become a hash.
fn fit_user<'u>(user: &'u str, losses: &mut Losses) -> Cow<'u, str> {
    if user.len() <= 64 {
        return Cow::Borrowed(user);
    }
    losses.approximated("user");
    Cow::Owned(format!("user_{:016x}", crate::wire::rules::fnv(user.as_bytes())))
}

fn put_output(o: &mut Obj<'_>, output: &OutputFormat<'_>) {
    match output {
        OutputFormat::Text => {}
        OutputFormat::Json => o.obj("response_format", |o| o.word("type", "json_object")),
        OutputFormat::Schema { name, description, schema, strict } => o.obj("response_format", |o| {
            o.word("type", "json_schema");
            o.obj("json_schema", |o| {
                o.str("name", &fit(name.as_deref().unwrap_or("response"), 64));
                o.some_str("description", description.as_deref());
                if let Some(schema) = schema {
                    schema::put(o.key("schema"), *schema);
                }
                if let Some(strict) = strict {
                    o.bool("strict", *strict);
                }
            });
        }),
    }
}

fn put_reasoning(o: &mut Obj<'_>, request: &Request<'_>, options: &Options<'_>, job: &mut Job) {
    let (origin, losses) = (job.origin, &mut job.losses);
    let Some(reasoning) = request.reasoning else { return };
    if origin == Some(WireFormat::OpenaiResponses) && reasoning.visible == Some(true) && !options.compatible {
        losses.dropped("reasoning.summary");
    }
    let Some(level) = reasoning.effort.level() else { return };
    if !options.compatible && !models::is_openai_reasoning(options.model) {
        if !reasoning.effort.is_off() {
            losses.dropped("reasoning");
        }
        return;
    }
    if matches!(reasoning.effort, Effort::Budget(1..)) {
        losses.approximated("reasoning");
    }
    let name = models::openai_effort(options.model, level, options.compatible);
    if let Some(name) = name {
        if name != level.name() {
            losses.approximated("reasoning");
        }
        o.str("reasoning_effort", name);
    }
}

fn put_tools(o: &mut Obj<'_>, request: &Request<'_>, options: &Options<'_>, job: &mut Job) {
    if request.web_search {
        if options.compatible { job.losses.dropped("web_search") } else { o.obj("web_search_options", |_| {}) }
    }
    if request.tools.is_empty() {
        return;
    }
    let strict = matches!(request.tool_choice, Some(ToolChoice::Validated { .. }));
    o.arr("tools", |a| request.tools.iter().for_each(|tool| put_tool(a, tool, strict, job)));
    if request.parallel_tools == Some(false) {
        o.bool("parallel_tool_calls", false);
    }
    let Some(choice) = &request.tool_choice else { return };
    match choice {
        ToolChoice::Auto => o.word("tool_choice", "auto"),
        ToolChoice::None => o.word("tool_choice", "none"),
        ToolChoice::Any => o.word("tool_choice", "required"),
        ToolChoice::Validated { names } if names.is_empty() => {
            job.losses.emulated("tool_choice");
            o.word("tool_choice", "auto");
        }
        ToolChoice::Named(name) => {
            let custom = request.tools.iter().any(|tool| tool.custom && tool.name == *name);
            let kind = if custom { "custom" } else { "function" };
            let name = job.context.names.fit(name, MAX_NAME);
            o.obj("tool_choice", |o| {
                o.str("type", kind);
                o.obj(kind, |o| o.str("name", &name));
            });
        }
        ToolChoice::Allowed { names, required } => put_allowed(o, (names, *required), &request.tools, job),
        ToolChoice::Validated { names } => put_allowed(o, (names, false), &request.tools, job),
    }
}

fn put_allowed(o: &mut Obj<'_>, allowed: (&[Cow<'_, str>], bool), tools: &[Tool<'_>], job: &mut Job) {
    let (names, required) = allowed;
    o.obj("tool_choice", |o| {
        o.word("type", "allowed_tools");
        o.obj("allowed_tools", |o| {
            o.str("mode", if required { "required" } else { "auto" });
            o.arr("tools", |a| {
                for name in names {
                    let custom = tools.iter().any(|tool| tool.custom && tool.name == *name);
                    let kind = if custom { "custom" } else { "function" };
                    let name = job.context.names.fit(name, MAX_NAME);
                    a.obj(|o| {
                        o.str("type", kind);
                        o.obj(kind, |o| o.str("name", &name));
                    });
                }
            });
        });
    });
}

fn put_tool(a: &mut Arr<'_>, tool: &Tool<'_>, strict: bool, job: &mut Job) {
    let name = job.context.names.fit(&tool.name, MAX_NAME);
    let kind = if tool.custom { "custom" } else { "function" };
    a.obj(|o| {
        o.str("type", kind);
        o.obj(kind, |o| {
            o.str("name", &name);
            o.some_str("description", tool.description.as_deref());
            if let Some(schema) = tool.schema {
                schema::put_object(o.key("parameters"), Some(schema));
            }
            if keeps_strict(tool, strict, job) {
                o.bool("strict", true);
            }
        });
    });
}

/// Whether a tool's calls can be held to its schema. OpenAI refuses schemas that are not made for it, so that others'
/// are sent loosely.
pub(crate) fn keeps_strict(tool: &Tool<'_>, all: bool, job: &mut Job) -> bool {
    let is_wanted = all || tool.strict == Some(true);
    let keeps = is_wanted && (job.origin_is_openai() || schema::is_strict(tool.schema));
    if is_wanted && !keeps {
        job.losses.dropped("tools.strict");
    }
    keeps
}

fn put_turn(a: &mut Arr<'_>, turn: &Turn<'_>, options: &Options<'_>, job: &mut Job) -> Result<(), Refusal> {
    match turn.role {
        Role::System => {
            a.obj(|o| {
                o.word("role", "system");
                compose::put_paragraphs(o.key("content"), texts(&turn.blocks));
            });
            Ok(())
        }
        Role::Assistant => put_assistant(a, turn, options, job),
        Role::User => put_user(a, turn, job),
    }
}

fn texts<'t>(blocks: &'t [Block<'t>]) -> impl Iterator<Item = &'t Text<'t>> {
    blocks.iter().filter_map(|block| match block {
        Block::Text(text) => Some(text),
        Block::Media(_)
        | Block::ToolCall(_)
        | Block::ToolResult(_)
        | Block::Thinking { .. }
        | Block::Refusal(_)
        | Block::Opaque(_) => None,
    })
}

fn put_user(a: &mut Arr<'_>, turn: &Turn<'_>, job: &mut Job) -> Result<(), Refusal> {
    let mut moved: Vec<&Media<'_>> = Vec::new();
    for block in &turn.blocks {
        if let Block::ToolResult(result) = block {
            put_result(a, result, &mut moved, job)?;
        }
    }
    let rest: Vec<&Block<'_>> = turn.blocks.iter().filter(|b| !matches!(b, Block::ToolResult(_))).collect();
    if rest.is_empty() && moved.is_empty() {
        return Ok(());
    }
    let mut result = Ok(());
    a.obj(|o| {
        o.word("role", "user");
        match (moved.is_empty(), rest.as_slice()) {
            (true, [Block::Text(text)]) => o.text("content", text),
            _ => o.arr("content", |a| result = put_parts(a, &moved, &rest, job)),
        }
    });
    result
}

fn put_parts(a: &mut Arr<'_>, moved: &[&Media<'_>], rest: &[&Block<'_>], job: &mut Job) -> Result<(), Refusal> {
    if !moved.is_empty() {
        put_text(a, "The images of the tool results above:");
    }
    moved.iter().try_for_each(|media| put_media(a, media, job))?;
    rest.iter().try_for_each(|block| put_user_block(a, block, job))
}

fn put_text(a: &mut Arr<'_>, text: &str) {
    a.obj(|o| {
        o.word("type", "text");
        o.str("text", text);
    });
}

fn put_user_block(a: &mut Arr<'_>, block: &Block<'_>, job: &mut Job) -> Result<(), Refusal> {
    match block {
        Block::Text(text) => a.obj(|o| {
            o.word("type", "text");
            o.text("text", text);
        }),
        Block::Refusal(text) => put_text(a, text),
        Block::Media(media) => put_media(a, media, job)?,
        Block::Opaque(opaque) => settle_opaque(opaque, CHAT, &mut job.losses)?,
        Block::ToolCall(_) | Block::ToolResult(_) | Block::Thinking { .. } => job.losses.dropped("messages.content"),
    }
    Ok(())
}

fn put_result<'r>(
    a: &mut Arr<'_>,
    result: &'r ToolResult<'_>,
    moved: &mut Vec<&'r Media<'r>>,
    job: &mut Job,
) -> Result<(), Refusal> {
    for block in &result.content {
        match block {
            Block::Media(media) => {
                job.losses.emulated("tool_result.media");
                moved.push(media);
            }
            Block::Opaque(opaque) => settle_opaque(opaque, CHAT, &mut job.losses)?,
            Block::Text(_) | Block::ToolCall(_) | Block::ToolResult(_) | Block::Thinking { .. } | Block::Refusal(_) => {
            }
        }
    }
    if result.is_error {
        job.losses.emulated("tool_result.is_error");
    }
    a.obj(|o| {
        o.word("role", "tool");
        o.str("tool_call_id", &fit(&result.id, MAX_ID));
        o.text("content", &result_text(result));
    });
    Ok(())
}

fn put_media(a: &mut Arr<'_>, media: &Media<'_>, job: &mut Job) -> Result<(), Refusal> {
    match (media.kind, &media.source) {
        (MediaKind::Image, Source::Url(url)) => put_image(a, url, media),
        (MediaKind::Image, Source::Base64(data)) => {
            let mime = if media.mime.is_empty() { mime_of(media.kind, data, "") } else { &media.mime };
            put_image(a, &format!("data:{mime};base64,{data}"), media);
        }
        (MediaKind::Audio, Source::Base64(data)) => {
            let format = match &*media.mime {
                "audio/mp3" | "audio/mpeg" => "mp3",
                "audio/wav" | "audio/x-wav" | "audio/wave" => "wav",
                _ => return Err(refuse_media(media.kind, "send it as wav or mp3", CHAT)),
            };
            a.obj(|o| {
                o.word("type", "input_audio");
                o.obj("input_audio", |o| {
                    o.str("data", data);
                    o.str("format", format);
                });
            });
        }
        (MediaKind::Document, Source::Base64(data)) if media.mime.starts_with("text/") => {
            put_text(a, &decode_text(data).ok_or_else(|| refuse_media(media.kind, "its text is not UTF-8", CHAT))?);
        }
        (MediaKind::Document, Source::Base64(data)) => {
            let mime = if media.mime.is_empty() { "application/pdf" } else { &*media.mime };
            a.obj(|o| {
                o.word("type", "file");
                o.obj("file", |o| {
                    o.str("filename", media.name.as_deref().unwrap_or("document.pdf"));
                    o.str("file_data", &format!("data:{mime};base64,{data}"));
                });
            });
        }
        (_, Source::Text(text)) => put_text(a, text),
        (MediaKind::Document, Source::File(id)) if job.origin_is_openai() => a.obj(|o| {
            o.word("type", "file");
            o.obj("file", |o| o.str("file_id", id));
        }),
        (MediaKind::Document, Source::Url(_)) => {
            return Err(refuse_media(media.kind, "send its data instead of its address", CHAT));
        }
        (MediaKind::Video, _) => return Err(refuse_media(media.kind, "it takes no video", CHAT)),
        (MediaKind::Audio, _) => return Err(refuse_media(media.kind, "send its data", CHAT)),
        (MediaKind::Image | MediaKind::Document, Source::File(_)) => {
            return Err(refuse_media(media.kind, "the file lies with another provider: send its data", CHAT));
        }
    }
    Ok(())
}

/// Base64 data as text.
pub(crate) fn decode_text(data: &str) -> Option<String> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

fn put_image(a: &mut Arr<'_>, url: &str, media: &Media<'_>) {
    a.obj(|o| {
        o.word("type", "image_url");
        o.obj("image_url", |o| {
            o.str("url", url);
            o.some_str("detail", media.detail.as_deref().filter(|d| *d != "original"));
        });
    });
}

fn put_assistant(a: &mut Arr<'_>, turn: &Turn<'_>, options: &Options<'_>, job: &mut Job) -> Result<(), Refusal> {
    let mut text = Text::default();
    let mut refusal = None;
    let mut thoughts = String::new();
    let mut details = Vec::new();
    let (mut calls, mut extra) = (Vec::new(), None);
    for block in &turn.blocks {
        match block {
            Block::Text(more) if text.is_empty() => text = more.by_ref(),
            Block::Text(more) => text.push(more),
            Block::Refusal(said) => refusal = Some(&**said),
            Block::ToolCall(call) => calls.push((call, extra.take())),
            Block::Thinking { text, token } => match token.as_ref().filter(|token| token.suits(CHAT, options.model)) {
                Some(token) if token.kind == TokenKind::CallExtra => extra = Some(&*token.data),
                Some(token) => details.push(&*token.data),
                None if options.compatible && !text.is_empty() => thoughts.push_str(text),
                None => job.losses.dropped("messages.reasoning"),
            },
            Block::Opaque(opaque) => settle_opaque(opaque, CHAT, &mut job.losses)?,
            Block::Media(_) => job.losses.dropped("messages.assistant.media"),
            Block::ToolResult(_) => job.losses.dropped("messages.assistant.tool_result"),
        }
    }
    if text.is_empty() && refusal.is_none() && calls.is_empty() {
        return Ok(());
    }
    a.obj(|o| {
        o.word("role", "assistant");
        if text.is_empty() {
            o.null("content")
        } else {
            o.text("content", &text)
        }
        o.some_str("refusal", refusal);
        o.some_str("reasoning_content", Some(&*thoughts).filter(|t| !t.is_empty()));
        if !details.is_empty() {
            o.arr("reasoning_details", |a| details.iter().for_each(|detail| a.raw(detail)));
        }
        if !calls.is_empty() {
            o.arr("tool_calls", |a| {
                calls.into_iter().for_each(|(call, extra)| put_call(a, call, extra, job));
            });
        }
    });
    Ok(())
}

/// Writes a call of the history, with what its provider wants back with it.
fn put_call(a: &mut Arr<'_>, call: &ToolCall<'_>, extra: Option<&str>, job: &mut Job) {
    let name = job.context.names.fit(&call.name, MAX_NAME);
    let kind = if call.custom { "custom" } else { "function" };
    a.obj(|o| {
        o.str("id", &fit(&call.id, MAX_ID));
        o.str("type", kind);
        o.obj(kind, |o| {
            o.str("name", &name);
            let empty = !call.custom && call.arguments.trim().is_empty();
            let arguments = if empty { "{}" } else { &*call.arguments };
            o.str(if call.custom { "input" } else { "arguments" }, arguments);
        });
        if let Some(extra) = extra {
            o.raw("extra_content", extra);
        }
    });
}
