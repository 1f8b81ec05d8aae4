//! Writes a Responses request from the common form.

use crate::wire::{
    WireFormat,
    compose::{self, Arr, Obj},
    loss::Refusal,
    models,
    openai_chat::{decode_text, keeps_strict, put_tier, put_user_id},
    request::{
        Block, Effort, Media, MediaKind, OutputFormat, Request, Role, Source, Tool, ToolChoice, ToolResult, Turn,
    },
    rules::{fit, mime_of, refuse_media, result_text, settle_opaque},
    schema,
    text::Text,
    translate::{Job, Options},
};

const RESPONSES: WireFormat = WireFormat::OpenaiResponses;
const MAX_NAME: usize = 64;
const MAX_ID: usize = 64;
/// The least `max_output_tokens` that OpenAI takes.
const MIN_OUTPUT: u64 = 16;

/// Writes the body.
pub(crate) fn encode(mut request: Request<'_>, options: &Options<'_>, job: &mut Job) -> Result<Vec<u8>, Refusal> {
    check(&request, job)?;
    let instructions = request.take_system();
    let mut result = Ok(());
    let mut out = job.output();
    compose::obj(&mut out, |o| {
        o.str("model", options.model);
        o.some_str("instructions", instructions.as_deref());
        o.arr("input", |a| {
            result = request.turns.iter().try_for_each(|turn| put_turn(a, turn, options, job));
        });
        put_settings(o, &request, options, job);
        put_reasoning(o, &request, options, job);
        put_tools(o, &request, job);
        if request.stream {
            o.bool("stream", true);
        }
    });
    result.map(|()| out)
}

fn check(request: &Request<'_>, job: &mut Job) -> Result<(), Refusal> {
    for opaque in &request.opaque {
        settle_opaque(opaque, RESPONSES, &mut job.losses)?;
    }
    if request.turns.iter().all(|turn| turn.blocks.is_empty()) {
        return Err(Refusal::new("messages", "messages is empty: send at least one"));
    }
    if request.sampling.n.is_some() {
        return Err(Refusal::new("n", "this model gives one answer per request: ask for one"));
    }
    if !request.sampling.stop.is_empty() {
        return Err(Refusal::cannot_carry("stop", RESPONSES));
    }
    Ok(())
}

fn put_settings(o: &mut Obj<'_>, request: &Request<'_>, options: &Options<'_>, job: &mut Job) {
    let s = &request.sampling;
    let losses = &mut job.losses;
    if let Some(max) = s.max_tokens {
        if max < MIN_OUTPUT {
            losses.approximated("max_tokens");
        }
        o.int("max_output_tokens", max.max(MIN_OUTPUT));
    }
    let reasons = models::is_openai_reasoning(options.model) && !options.compatible;
    for (field, value) in [("temperature", &s.temperature), ("top_p", &s.top_p)] {
        match value {
            Some(value) if !reasons => o.num(field, value),
            Some(value) if value.as_f64() != 1.0 => losses.dropped(field),
            Some(_) | None => {}
        }
    }
    let unsaid = [
        ("top_k", s.top_k.is_some()),
        ("seed", s.seed.is_some()),
        ("frequency_penalty", s.frequency_penalty.is_some()),
        ("presence_penalty", s.presence_penalty.is_some()),
        ("logprobs", s.logprobs && reasons),
    ];
    unsaid.iter().filter(|(_, is_set)| *is_set).for_each(|(field, _)| losses.dropped(*field));
    o.some_int("top_logprobs", s.top_logprobs().filter(|_| !reasons));
    if let Some(user) = request.user.as_deref() {
        put_user_id(o, user, options, losses);
    }
    if let Some(metadata) = request.metadata {
        o.raw("metadata", metadata.get());
    }
    put_tier(o, request.tier.as_deref(), losses);
    o.some_str("prompt_cache_key", request.cache_key.as_deref());
    o.bool("store", request.store.unwrap_or(false));
    let plain = matches!(request.output, OutputFormat::Text);
    if !plain || request.verbosity.is_some() {
        o.obj("text", |o| {
            put_output(o, &request.output);
            o.some_str("verbosity", request.verbosity.as_deref());
        });
    }
}

fn put_output(o: &mut Obj<'_>, output: &OutputFormat<'_>) {
    match output {
        OutputFormat::Text => {}
        OutputFormat::Json => o.obj("format", |o| o.word("type", "json_object")),
        OutputFormat::Schema { name, description, schema, strict } => o.obj("format", |o| {
            o.word("type", "json_schema");
            o.str("name", &fit(name.as_deref().unwrap_or("response"), 64));
            o.some_str("description", description.as_deref());
            match schema {
                Some(schema) => schema::put(o.key("schema"), *schema),
                None => o.obj("schema", |_| {}),
            }
            // Absent means strict here, which other formats' schemas are not made for.
            o.bool("strict", strict.unwrap_or(false));
        }),
    }
}

fn put_reasoning(o: &mut Obj<'_>, request: &Request<'_>, options: &Options<'_>, job: &mut Job) {
    let reasons = models::is_openai_reasoning(options.model);
    let shows_logprobs = request.sampling.logprobs && (!reasons || options.compatible);
    if reasons || shows_logprobs {
        o.arr("include", |a| {
            [("reasoning.encrypted_content", reasons), ("message.output_text.logprobs", shows_logprobs)]
                .iter()
                .filter(|(_, is_wanted)| *is_wanted)
                .for_each(|(what, _)| a.str(what));
        });
    }
    let Some(reasoning) = request.reasoning else { return };
    if !reasons && !options.compatible {
        if !reasoning.effort.is_off() {
            job.losses.dropped("reasoning");
        }
        return;
    }
    let level = reasoning.effort.level();
    let word = level.and_then(|level| models::openai_effort(options.model, level, options.compatible));
    if matches!(reasoning.effort, Effort::Budget(1..)) || word.is_some_and(|w| level.is_some_and(|l| l.name() != w)) {
        job.losses.approximated("reasoning");
    }
    let summary = reasoning.visible == Some(true) && !reasoning.effort.is_off();
    if word.is_none() && !summary {
        return;
    }
    o.obj("reasoning", |o| {
        o.some_str("effort", word);
        if summary {
            o.word("summary", "auto");
        }
    });
}

fn put_tools(o: &mut Obj<'_>, request: &Request<'_>, job: &mut Job) {
    if request.tools.is_empty() && !request.web_search {
        return;
    }
    let strict = matches!(request.tool_choice, Some(ToolChoice::Validated { .. }));
    o.arr("tools", |a| {
        request.tools.iter().for_each(|tool| put_tool(a, tool, strict, job));
        if request.web_search {
            a.obj(|o| o.word("type", "web_search"));
        }
    });
    if request.parallel_tools == Some(false) {
        o.bool("parallel_tool_calls", false);
    }
    let (names, required) = match &request.tool_choice {
        None => return,
        Some(ToolChoice::Auto) => return o.word("tool_choice", "auto"),
        Some(ToolChoice::None) => return o.word("tool_choice", "none"),
        Some(ToolChoice::Any) => return o.word("tool_choice", "required"),
        Some(ToolChoice::Validated { names }) if names.is_empty() => {
            job.losses.emulated("tool_choice");
            return o.word("tool_choice", "auto");
        }
        Some(ToolChoice::Named(name)) => {
            let custom = request.tools.iter().any(|tool| tool.custom && tool.name == *name);
            let name = job.context.names.fit(name, MAX_NAME);
            return o.obj("tool_choice", |o| {
                o.str("type", if custom { "custom" } else { "function" });
                o.str("name", &name);
            });
        }
        Some(ToolChoice::Allowed { names, required }) => (names, *required),
        Some(ToolChoice::Validated { names }) => (names, false),
    };
    o.obj("tool_choice", |o| {
        o.word("type", "allowed_tools");
        o.str("mode", if required { "required" } else { "auto" });
        o.arr("tools", |a| {
            for name in names {
                let custom = request.tools.iter().any(|tool| tool.custom && tool.name == *name);
                let name = job.context.names.fit(name, MAX_NAME);
                a.obj(|o| {
                    o.str("type", if custom { "custom" } else { "function" });
                    o.str("name", &name);
                });
            }
        });
    });
}

fn put_tool(a: &mut Arr<'_>, tool: &Tool<'_>, strict: bool, job: &mut Job) {
    let name = job.context.names.fit(&tool.name, MAX_NAME);
    a.obj(|o| {
        o.str("type", if tool.custom { "custom" } else { "function" });
        o.str("name", &name);
        o.some_str("description", tool.description.as_deref());
        if !tool.custom {
            schema::put_object(o.key("parameters"), tool.schema);
            o.bool("strict", keeps_strict(tool, strict, job));
        }
    });
}

fn put_turn(a: &mut Arr<'_>, turn: &Turn<'_>, options: &Options<'_>, job: &mut Job) -> Result<(), Refusal> {
    let mut parts = Parts { role: turn.role, bytes: Vec::new() };
    for block in &turn.blocks {
        match block {
            Block::ToolResult(result) => {
                parts.flush(a);
                put_result(a, result, job)?;
            }
            Block::ToolCall(call) => {
                parts.flush(a);
                let name = job.context.names.fit(&call.name, MAX_NAME);
                a.obj(|o| {
                    o.str("type", if call.custom { "custom_tool_call" } else { "function_call" });
                    o.str("call_id", &fit(&call.id, MAX_ID));
                    o.str("name", &name);
                    let empty = !call.custom && call.arguments.trim().is_empty();
                    let arguments = if empty { "{}" } else { &*call.arguments };
                    o.str(if call.custom { "input" } else { "arguments" }, arguments);
                });
            }
            Block::Thinking { text, token } => {
                let own = token.as_ref().filter(|token| token.suits(RESPONSES, options.model));
                let Some(token) = own else {
                    job.losses.dropped("messages.reasoning");
                    continue;
                };
                parts.flush(a);
                a.obj(|o| {
                    o.word("type", "reasoning");
                    o.arr("summary", |a| {
                        if !text.is_empty() {
                            a.obj(|o| {
                                o.word("type", "summary_text");
                                o.str("text", text);
                            });
                        }
                    });
                    o.str("encrypted_content", &token.data);
                });
            }
            Block::Opaque(opaque) => settle_opaque(opaque, RESPONSES, &mut job.losses)?,
            Block::Media(_) if turn.role != Role::User => job.losses.dropped("messages.media"),
            Block::Media(media) => put_media(parts.open(), media, job)?,
            Block::Text(text) => {
                let kind = if turn.role == Role::Assistant { "output_text" } else { "input_text" };
                put_said(parts.open(), kind, text);
            }
            Block::Refusal(text) if turn.role == Role::Assistant => {
                put_text(parts.open(), "refusal", "refusal", text);
            }
            Block::Refusal(text) => put_text(parts.open(), "input_text", "text", text),
        }
    }
    parts.flush(a);
    Ok(())
}

/// The content parts of a message that is being gathered.
struct Parts {
    role: Role,
    bytes: Vec<u8>,
}

impl Parts {
    fn open(&mut self) -> &mut Vec<u8> {
        if !self.bytes.is_empty() {
            self.bytes.push(b',');
        }
        &mut self.bytes
    }

    fn flush(&mut self, a: &mut Arr<'_>) {
        if self.bytes.is_empty() {
            return;
        }
        a.obj(|o| {
            o.word("type", "message");
            o.str(
                "role",
                match self.role {
                    Role::System => "developer",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                },
            );
            let out = o.key("content");
            out.push(b'[');
            out.extend_from_slice(&self.bytes);
            out.push(b']');
        });
        self.bytes.clear();
    }
}

fn put_text(out: &mut Vec<u8>, kind: &str, key: &'static str, text: &str) {
    compose::obj(out, |o| {
        o.str("type", kind);
        o.str(key, text);
    });
}

fn put_said(out: &mut Vec<u8>, kind: &str, text: &Text<'_>) {
    compose::obj(out, |o| {
        o.str("type", kind);
        o.text("text", text);
    });
}

fn put_result(a: &mut Arr<'_>, result: &ToolResult<'_>, job: &mut Job) -> Result<(), Refusal> {
    if result.is_error {
        job.losses.emulated("tool_result.is_error");
    }
    let mut parts = Vec::new();
    let has_media = result.content.iter().any(|block| matches!(block, Block::Media(_)));
    for block in &result.content {
        match block {
            Block::Text(text) if has_media && !text.is_empty() => {
                separate(&mut parts);
                put_said(&mut parts, "input_text", text);
            }
            Block::Media(media) => {
                separate(&mut parts);
                put_media(&mut parts, media, job)?;
            }
            Block::Opaque(opaque) => settle_opaque(opaque, RESPONSES, &mut job.losses)?,
            Block::Text(_) | Block::ToolCall(_) | Block::ToolResult(_) | Block::Thinking { .. } | Block::Refusal(_) => {
            }
        }
    }
    a.obj(|o| {
        o.str("type", if result.custom { "custom_tool_call_output" } else { "function_call_output" });
        o.str("call_id", &fit(&result.id, MAX_ID));
        if has_media {
            let out = o.key("output");
            out.push(b'[');
            out.extend_from_slice(&parts);
            out.push(b']');
        } else {
            o.text("output", &result_text(result));
        }
    });
    Ok(())
}

fn separate(out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.push(b',');
    }
}

fn put_media(out: &mut Vec<u8>, media: &Media<'_>, job: &mut Job) -> Result<(), Refusal> {
    let name = media.name.as_deref().unwrap_or_default();
    match (media.kind, &media.source) {
        (_, Source::Text(text)) => put_text(out, "input_text", "text", text),
        (MediaKind::Image, Source::Url(url)) => put_image(out, "image_url", url, media),
        (MediaKind::Image, Source::Base64(data)) => {
            let mime = if media.mime.is_empty() { mime_of(media.kind, data, name) } else { &*media.mime };
            put_image(out, "image_url", &format!("data:{mime};base64,{data}"), media);
        }
        (MediaKind::Image, Source::File(id)) if job.origin_is_openai() => put_image(out, "file_id", id, media),
        (MediaKind::Document, Source::File(id)) if job.origin_is_openai() => compose::obj(out, |o| {
            o.word("type", "input_file");
            o.str("file_id", id);
        }),
        (MediaKind::Document, Source::Url(url)) => compose::obj(out, |o| {
            o.word("type", "input_file");
            o.str("file_url", url);
        }),
        (MediaKind::Document, Source::Base64(data)) => {
            let mime = if media.mime.is_empty() { mime_of(media.kind, data, name) } else { &*media.mime };
            if let Some(text) = decode_text(data).filter(|_| mime.starts_with("text/")) {
                put_text(out, "input_text", "text", &text);
                return Ok(());
            }
            compose::obj(out, |o| {
                o.word("type", "input_file");
                o.str("filename", if name.is_empty() { "document.pdf" } else { name });
                o.str("file_data", &format!("data:{mime};base64,{data}"));
            });
        }
        (MediaKind::Image | MediaKind::Document, Source::File(_)) => {
            return Err(refuse_media(media.kind, "the file lies with another provider: send its data", RESPONSES));
        }
        (MediaKind::Audio | MediaKind::Video, _) => {
            return Err(refuse_media(media.kind, "it takes images and documents only", RESPONSES));
        }
    }
    Ok(())
}

fn put_image(out: &mut Vec<u8>, key: &'static str, value: &str, media: &Media<'_>) {
    compose::obj(out, |o| {
        o.word("type", "input_image");
        o.str(key, value);
        o.str("detail", media.detail.as_deref().unwrap_or("auto"));
    });
}
