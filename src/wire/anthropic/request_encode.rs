//! Writes an Anthropic Messages request from the common form.

use crate::wire::{
    WireFormat,
    compose::{self, Arr, Obj},
    fields::Num,
    loss::{Losses, Refusal},
    models::{self, Claude},
    openai_chat::decode_text,
    replay::TokenKind,
    request::{
        Block, Effort, Level, Media, MediaKind, OutputFormat, Request, Role, Sampling, Source, Tool, ToolChoice,
        ToolResult, Turn,
    },
    rules::{arguments_object, fit, free_text_input, mime_of, refuse_media, result_text, settle_opaque},
    schema,
    text::Text,
    translate::{Job, Options},
};
use std::borrow::Cow;

const ANTHROPIC: WireFormat = WireFormat::Anthropic;
const MAX_NAME: usize = 128;
const MAX_ID: usize = 64;
/// The least thinking budget that Anthropic takes.
const MIN_BUDGET: u64 = 1024;
/// The tool whose input is the structured answer, for models without structured output.
const ANSWER_TOOL: &str = "structured_answer";
const JSON_MODE: &str = "Answer with a single JSON object and nothing else: no prose, no code fence.";

/// Writes the body.
pub(crate) fn encode(mut request: Request<'_>, options: &Options<'_>, job: &mut Job) -> Result<Vec<u8>, Refusal> {
    let facts = models::claude(options.model);
    check(&request, &facts, job)?;
    let mut system = request.take_system();
    if !facts.mid_system {
        request.demote_system(&mut job.losses);
    }
    if request.turns.is_empty() {
        let text = system.take().ok_or_else(|| Refusal::new("messages", "messages is empty: send at least one"))?;
        job.losses.emulated("messages.system");
        request.say(Role::User, Block::Text(Text::from(Cow::Owned(text))));
    }
    if matches!(request.output, OutputFormat::Json) {
        job.losses.emulated("response_format");
        system = Some(system.map_or(JSON_MODE.to_owned(), |text| format!("{text}\n\n{JSON_MODE}")));
    }
    let max_tokens = most_tokens(&request, options, &facts);
    let thinking = Thinking::choose(&request, &facts, max_tokens, job);
    let mut result = Ok(());
    let mut out = job.output();
    compose::obj(&mut out, |o| {
        o.str("model", options.model);
        o.int("max_tokens", max_tokens);
        o.some_str("system", system.as_deref());
        o.arr("messages", |a| {
            result = request.turns.iter().try_for_each(|turn| put_turn(a, turn, options, job));
        });
        put_tools(o, &request, &facts, job);
        put_settings(o, &request, &facts, &thinking, job);
        if request.stream {
            o.bool("stream", true);
        }
    });
    result.map(|()| out)
}

/// The output limit: the client's, else the model's, which leaves room for an answer behind the thinking.
fn most_tokens(request: &Request<'_>, options: &Options<'_>, facts: &Claude) -> u64 {
    if let Some(asked) = request.sampling.max_tokens {
        return asked;
    }
    let filled = options.max_tokens.unwrap_or(facts.max_output);
    let budget = match request.reasoning.map(|r| r.effort) {
        Some(Effort::Budget(tokens)) if !facts.adaptive => tokens,
        Some(Effort::Level(level)) if !facts.adaptive => level.budget(),
        Some(Effort::Dynamic | Effort::Budget(_) | Effort::Level(_)) | None => 0,
    };
    // Of a model that is not known, only the client knows how much it can say.
    if filled > budget || facts.is_known { filled } else { budget.saturating_add(filled) }
}

fn check(request: &Request<'_>, facts: &Claude, job: &mut Job) -> Result<(), Refusal> {
    for opaque in &request.opaque {
        settle_opaque(opaque, ANTHROPIC, &mut job.losses)?;
    }
    if matches!(request.output, OutputFormat::Schema { description: Some(_), .. }) {
        job.losses.dropped("response_format.description");
    }
    if request.sampling.n.is_some() {
        return Err(Refusal::new("n", "this model gives one answer per request: ask for one"));
    }
    if request.sampling.logprobs {
        return Err(Refusal::cannot_carry("logprobs", ANTHROPIC));
    }
    if request.sampling.stop.iter().any(|stop| stop.trim().is_empty()) {
        return Err(Refusal::new("stop", "this model takes no stop sequence of white space only: remove it"));
    }
    if request.is_prefilled() && !facts.prefill {
        let message =
            "the last message is the assistant's, and this model does not continue it: end with a user message";
        return Err(Refusal::new("messages", message));
    }
    Ok(())
}

/// How the model is told to think.
enum Thinking {
    Unsaid,
    Budget(u64),
    Adaptive(Option<&'static str>),
}

impl Thinking {
    fn choose(request: &Request<'_>, facts: &Claude, max_tokens: u64, job: &mut Job) -> Thinking {
        let Some(reasoning) = request.reasoning.filter(|r| !r.effort.is_off()) else { return Thinking::Unsaid };
        if !facts.thinks {
            job.losses.dropped("reasoning");
            return Thinking::Unsaid;
        }
        if facts.adaptive {
            let level = reasoning.effort.level();
            let word = level.map(|level| match level {
                Level::None | Level::Minimal | Level::Low => "low",
                Level::Medium => "medium",
                Level::High => "high",
                Level::Xhigh if facts.xhigh => "xhigh",
                Level::Xhigh => "high",
                Level::Max => "max",
            });
            if word != level.map(Level::name) || matches!(reasoning.effort, Effort::Budget(_)) {
                job.losses.approximated("reasoning");
            }
            return Thinking::Adaptive(word);
        }
        let forced = matches!(
            request.tool_choice,
            Some(ToolChoice::Any | ToolChoice::Named(_) | ToolChoice::Allowed { required: true, .. })
        );
        let answers_by_tool = matches!(request.output, OutputFormat::Schema { .. }) && !facts.structured;
        if forced || answers_by_tool || lacks_thinking(request, job) || max_tokens <= MIN_BUDGET {
            job.losses.dropped("reasoning");
            return Thinking::Unsaid;
        }
        let wanted = match reasoning.effort {
            Effort::Dynamic => Level::Medium.budget(),
            Effort::Level(level) => level.budget(),
            Effort::Budget(tokens) => tokens,
        };
        let budget = wanted.clamp(MIN_BUDGET, max_tokens - 1);
        if budget != wanted {
            job.losses.approximated("reasoning");
        }
        Thinking::Budget(budget)
    }

    fn is_on(&self) -> bool {
        !matches!(self, Thinking::Unsaid)
    }
}

/// Whether the turn that is to go on after its tool results has lost its thinking: with a budget such a request is refused.
fn lacks_thinking(request: &Request<'_>, job: &Job) -> bool {
    let [.., assistant, user] = request.turns.as_slice() else { return false };
    let goes_on = user.blocks.iter().any(|block| matches!(block, Block::ToolResult(_)));
    let usable = |block: &Block<'_>| matches!(block, Block::Thinking { token: Some(token), .. } if token.suits(ANTHROPIC, &job.context.model));
    goes_on && assistant.role == Role::Assistant && !assistant.blocks.first().is_some_and(usable)
}

fn put_sampling(o: &mut Obj<'_>, s: &Sampling<'_>, facts: &Claude, thinking: &Thinking, losses: &mut Losses) {
    let mut has_temperature = false;
    if let Some(temperature) = &s.temperature {
        let value = temperature.as_f64();
        if !facts.sampling || thinking.is_on() {
            if value != 1.0 {
                losses.dropped("temperature");
            }
        } else {
            has_temperature = true;
            if value > 1.0 {
                losses.approximated("temperature");
            }
            let most = Num(1u64.into());
            o.num("temperature", if value > 1.0 { &most } else { temperature });
        }
    }
    match &s.top_p {
        Some(top_p) if facts.sampling && !thinking.is_on() && (facts.both_sampling || !has_temperature) => {
            o.num("top_p", top_p);
        }
        Some(top_p) if top_p.as_f64() != 1.0 => losses.dropped("top_p"),
        _ => {}
    }
    match &s.top_k {
        Some(top_k) if facts.sampling && !thinking.is_on() => o.num("top_k", top_k),
        Some(_) => losses.dropped("top_k"),
        None => {}
    }
    if !s.stop.is_empty() {
        o.arr("stop_sequences", |a| s.stop.iter().for_each(|stop| a.str(stop)));
    }
}

fn put_settings(o: &mut Obj<'_>, request: &Request<'_>, facts: &Claude, thinking: &Thinking, job: &mut Job) {
    let s = &request.sampling;
    let losses = &mut job.losses;
    put_sampling(o, s, facts, thinking, losses);
    let unsaid = [
        ("seed", s.seed.is_some()),
        ("frequency_penalty", s.frequency_penalty.is_some()),
        ("presence_penalty", s.presence_penalty.is_some()),
        ("verbosity", request.verbosity.is_some()),
        ("metadata", request.metadata.is_some()),
        ("store", request.store == Some(true)),
        ("prompt_cache_key", request.cache_key.is_some()),
    ];
    unsaid.iter().filter(|(_, is_set)| *is_set).for_each(|(field, _)| losses.dropped(*field));
    if let Some(user) = request.user.as_deref() {
        let short: String = user.chars().take(512).collect();
        if short.len() != user.len() {
            losses.approximated("user");
        }
        o.obj("metadata", |o| o.str("user_id", &short));
    }
    match request.tier.as_deref() {
        None => {}
        Some("auto") => o.word("service_tier", "auto"),
        Some("default" | "standard_only") => o.word("service_tier", "standard_only"),
        Some(_) => losses.dropped("service_tier"),
    }
    put_thinking(o, request, facts, thinking);
}

fn put_thinking(o: &mut Obj<'_>, request: &Request<'_>, facts: &Claude, thinking: &Thinking) {
    let mut effort = None;
    match thinking {
        Thinking::Unsaid => {}
        Thinking::Budget(budget) => o.obj("thinking", |o| {
            o.word("type", "enabled");
            o.int("budget_tokens", *budget);
        }),
        Thinking::Adaptive(word) => {
            effort = *word;
            o.obj("thinking", |o| {
                o.word("type", "adaptive");
                if request.reasoning.and_then(|r| r.visible) == Some(true) {
                    o.word("display", "summarized");
                }
            });
        }
    }
    let schema = match &request.output {
        OutputFormat::Schema { schema: Some(schema), .. } if facts.structured => Some(*schema),
        OutputFormat::Schema { .. } | OutputFormat::Json | OutputFormat::Text => None,
    };
    if effort.is_some() || schema.is_some() {
        o.obj("output_config", |o| {
            o.some_str("effort", effort);
            if let Some(schema) = schema {
                o.obj("format", |o| {
                    o.word("type", "json_schema");
                    schema::put_closed(o.key("schema"), schema);
                });
            }
        });
    }
}

fn put_tools(o: &mut Obj<'_>, request: &Request<'_>, facts: &Claude, job: &mut Job) {
    let answer = match &request.output {
        OutputFormat::Schema { schema, .. } if !facts.structured => Some(*schema),
        OutputFormat::Schema { .. } | OutputFormat::Json | OutputFormat::Text => None,
    };
    let (allowed, strict) = match &request.tool_choice {
        Some(ToolChoice::Allowed { names, .. }) => (Some(names), false),
        Some(ToolChoice::Validated { names }) => (Some(names).filter(|n| !n.is_empty()), true),
        Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Any | ToolChoice::Named(_)) | None => (None, false),
    };
    if allowed.is_some() || strict {
        job.losses.emulated("tool_choice");
    }
    let tools = || request.tools.iter().filter(|tool| allowed.is_none_or(|names| names.contains(&tool.name)));
    if tools().next().is_none() && answer.is_none() && !request.web_search {
        return;
    }
    o.arr("tools", |a| {
        tools().for_each(|tool| put_tool(a, tool, (strict && facts.structured, facts.structured), job));
        if let Some(schema) = answer {
            job.losses.emulated("response_format");
            job.context.output_tool = Some(ANSWER_TOOL.to_owned());
            a.obj(|o| {
                o.str("name", ANSWER_TOOL);
                o.word("description", "Gives the final answer. Call it with the answer as input.");
                schema::put_object(o.key("input_schema"), schema);
            });
        }
        if request.web_search {
            a.obj(|o| {
                o.word("type", "web_search_20250305");
                o.word("name", "web_search");
            });
        }
    });
    put_choice(o, request, answer.is_some(), job);
}

fn put_choice(o: &mut Obj<'_>, request: &Request<'_>, answers_by_tool: bool, job: &mut Job) {
    let single = request.parallel_tools == Some(false);
    let mut named = None;
    let kind = match &request.tool_choice {
        _ if answers_by_tool && request.tools.is_empty() => {
            named = Some(Cow::Borrowed(ANSWER_TOOL));
            "tool"
        }
        _ if answers_by_tool => "any",
        Some(ToolChoice::Any | ToolChoice::Allowed { required: true, .. }) => "any",
        Some(ToolChoice::None) => "none",
        Some(ToolChoice::Named(name)) => {
            named = Some(job.context.names.fit(name, MAX_NAME));
            "tool"
        }
        Some(ToolChoice::Auto | ToolChoice::Allowed { .. } | ToolChoice::Validated { .. }) => "auto",
        None if single => "auto",
        None => return,
    };
    o.obj("tool_choice", |o| {
        o.str("type", kind);
        o.some_str("name", named.as_deref());
        if single && kind != "none" {
            o.bool("disable_parallel_tool_use", true);
        }
    });
}

/// `strict` tells whether all calls are to be held to their schemas, and whether the model can be told so.
fn put_tool(a: &mut Arr<'_>, tool: &Tool<'_>, strict: (bool, bool), job: &mut Job) {
    let name = job.context.names.fit(&tool.name, MAX_NAME);
    a.obj(|o| {
        o.str("name", &name);
        o.some_str("description", tool.description.as_deref());
        if tool.custom {
            job.losses.emulated("tools.custom");
            job.context.custom_tools.push(name.clone().into_owned());
            o.raw("input_schema", crate::wire::rules::FREE_TEXT_SCHEMA);
        } else if strict.0 {
            schema::put_closed_object(o.key("input_schema"), tool.schema);
        } else {
            schema::put_object(o.key("input_schema"), tool.schema);
        }
        match tool.strict {
            Some(true) if !strict.1 => job.losses.dropped("tools.strict"),
            Some(true) => o.bool("strict", true),
            Some(false) | None if strict.0 => o.bool("strict", true),
            Some(false) | None => {}
        }
    });
}

fn put_turn(a: &mut Arr<'_>, turn: &Turn<'_>, options: &Options<'_>, job: &mut Job) -> Result<(), Refusal> {
    let mut result = Ok(());
    a.obj_if(|o| {
        o.str(
            "role",
            match turn.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            },
        );
        if let [Block::Text(text)] = turn.blocks.as_slice() {
            o.text("content", text);
            return !text.is_blank();
        }
        let mut is_empty = true;
        o.arr("content", |a| {
            result = turn.blocks.iter().try_for_each(|block| put_block(a, block, turn.role, options, job));
            is_empty = a.is_empty();
        });
        !is_empty
    });
    result
}

fn put_text(a: &mut Arr<'_>, text: &Text<'_>) {
    if !text.is_blank() {
        a.obj(|o| {
            o.word("type", "text");
            o.text("text", text);
        });
    }
}

fn put_block(
    a: &mut Arr<'_>,
    block: &Block<'_>,
    role: Role,
    options: &Options<'_>,
    job: &mut Job,
) -> Result<(), Refusal> {
    match block {
        Block::Text(text) => put_text(a, text),
        Block::Refusal(text) => put_text(a, &Text::from(Cow::Borrowed(&**text))),
        Block::Media(media) if role == Role::User => put_media(a, media, job)?,
        Block::Media(_) => job.losses.dropped("messages.media"),
        Block::ToolResult(result) => put_result(a, result, job)?,
        Block::Opaque(opaque) => settle_opaque(opaque, ANTHROPIC, &mut job.losses)?,
        Block::ToolCall(call) => {
            let name = job.context.names.fit(&call.name, MAX_NAME);
            let input = match call.custom {
                true => Cow::Owned(free_text_input(&call.arguments)),
                false => arguments_object(&call.arguments, &mut job.losses),
            };
            a.obj(|o| {
                o.word("type", "tool_use");
                o.str("id", &fit(&call.id, MAX_ID));
                o.str("name", &name);
                o.raw("input", &input);
            });
        }
        Block::Thinking { text, token } => {
            let own = token.as_ref().filter(|token| token.suits(ANTHROPIC, options.model));
            match own {
                Some(token) if token.kind == TokenKind::Redacted => a.obj(|o| {
                    o.word("type", "redacted_thinking");
                    o.str("data", &token.data);
                }),
                Some(token) => a.obj(|o| {
                    o.word("type", "thinking");
                    o.str("thinking", text);
                    o.str("signature", &token.data);
                }),
                None => job.losses.dropped("messages.reasoning"),
            }
        }
    }
    Ok(())
}

fn put_result(a: &mut Arr<'_>, result: &ToolResult<'_>, job: &mut Job) -> Result<(), Refusal> {
    let is_plain = result.content.iter().all(|block| matches!(block, Block::Text(_)));
    let mut put = Ok(());
    a.obj(|o| {
        o.word("type", "tool_result");
        o.str("tool_use_id", &fit(&result.id, MAX_ID));
        if is_plain {
            let text = result_text(result);
            match result.is_error.then(|| text.read()) {
                Some(text) => o.str("content", text.strip_prefix("Error: ").unwrap_or(&text)),
                None => o.text("content", &text),
            }
        } else {
            o.arr("content", |a| put = result.content.iter().try_for_each(|block| put_inner(a, block, job)));
        }
        if result.is_error {
            o.bool("is_error", true);
        }
    });
    put
}

/// One block of a tool result.
fn put_inner(a: &mut Arr<'_>, block: &Block<'_>, job: &mut Job) -> Result<(), Refusal> {
    match block {
        Block::Text(text) => put_text(a, text),
        Block::Media(media) => put_media(a, media, job)?,
        Block::Opaque(opaque) => settle_opaque(opaque, ANTHROPIC, &mut job.losses)?,
        Block::ToolCall(_) | Block::ToolResult(_) | Block::Thinking { .. } | Block::Refusal(_) => {}
    }
    Ok(())
}

fn put_media(a: &mut Arr<'_>, media: &Media<'_>, job: &mut Job) -> Result<(), Refusal> {
    let kind = match media.kind {
        MediaKind::Image => "image",
        MediaKind::Document => "document",
        MediaKind::Audio | MediaKind::Video => {
            return Err(refuse_media(media.kind, "it takes images and documents only", ANTHROPIC));
        }
    };
    if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
        job.losses.dropped("image_url.detail");
    }
    let mut source = Vec::new();
    match &media.source {
        Source::File(_) => {
            return Err(refuse_media(media.kind, "the file lies with another provider: send its data", ANTHROPIC));
        }
        Source::Url(url) => compose::obj(&mut source, |o| {
            o.word("type", "url");
            o.str("url", url);
        }),
        Source::Text(text) => put_plain(&mut source, text),
        Source::Base64(data) => {
            let name = media.name.as_deref().unwrap_or_default();
            let mime = if media.mime.is_empty() { mime_of(media.kind, data, name) } else { &*media.mime };
            if media.kind == MediaKind::Document && mime != "application/pdf" {
                let text = decode_text(data).filter(|_| mime.starts_with("text/") || mime.ends_with("json"));
                let why = "it takes PDF and plain text documents only";
                put_plain(&mut source, &text.ok_or_else(|| refuse_media(media.kind, why, ANTHROPIC))?);
            } else {
                compose::obj(&mut source, |o| {
                    o.word("type", "base64");
                    o.str("media_type", if mime == "image/jpg" { "image/jpeg" } else { mime });
                    o.str("data", data);
                });
            }
        }
    }
    a.obj(|o| {
        o.str("type", kind);
        o.key("source").extend_from_slice(&source);
        if media.kind == MediaKind::Document {
            o.some_str("title", media.name.as_deref());
        }
    });
    Ok(())
}

fn put_plain(out: &mut Vec<u8>, text: &str) {
    compose::obj(out, |o| {
        o.word("type", "text");
        o.word("media_type", "text/plain");
        o.str("data", text);
    });
}
