//! Writes a Gemini generateContent request from the common form.

use crate::wire::{
    WireFormat,
    compose::{self, Arr, Obj},
    loss::Refusal,
    models,
    replay::{ReplayToken, TokenKind},
    request::{
        Block, Effort, Level, Media, MediaKind, OutputFormat, Request, Role, Source, ToolCall, ToolChoice, ToolResult,
        Turn,
    },
    rules::{
        FREE_TEXT_SCHEMA, arguments_object, free_text_input, is_invented, mime_of, refuse_media, result_text,
        settle_opaque,
    },
    schema,
    text::Text,
    translate::{Job, Options},
};
use std::{borrow::Cow, collections::HashMap};

const GEMINI: WireFormat = WireFormat::Gemini;
const MAX_NAME: usize = 64;
/// The largest thinking budget that every thinking Gemini 2.5 model takes.
const MAX_BUDGET: u64 = 24_576;
/// Google's documented value for calls that Gemini did not make itself, or whose signature was lost.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Writes the body.
pub(crate) fn encode(mut request: Request<'_>, options: &Options<'_>, job: &mut Job) -> Result<Vec<u8>, Refusal> {
    check(&request, job)?;
    let mut system = request.take_system();
    request.demote_system(&mut job.losses);
    request.order_results();
    if request.turns.is_empty() {
        let text = system.take().ok_or_else(|| Refusal::new("messages", "messages is empty: send at least one"))?;
        job.losses.emulated("messages.system");
        request.say(Role::User, Block::Text(Text::from(Cow::Owned(text))));
    }
    let calls = &request.names_of_calls();
    let known = Known { calls, options, is_gemini_3: models::is_gemini_3(options.model) };
    let mut result = Ok(());
    let mut out = job.output();
    compose::obj(&mut out, |o| {
        if let Some(system) = system {
            o.obj("systemInstruction", |o| {
                o.arr("parts", |a| a.obj(|o| o.str("text", &system)));
            });
        }
        o.arr("contents", |a| {
            result = request.turns.iter().try_for_each(|turn| put_turn(a, turn, known, job));
        });
        put_tools(o, &request, job);
        let mut config = Vec::new();
        compose::obj(&mut config, |o| put_config(o, &request, options, job));
        if config != b"{}" {
            o.key("generationConfig").extend_from_slice(&config);
        }
    });
    result.map(|()| out)
}

fn check(request: &Request<'_>, job: &mut Job) -> Result<(), Refusal> {
    for opaque in &request.opaque {
        settle_opaque(opaque, GEMINI, &mut job.losses)?;
    }
    if request.sampling.stop.len() > 5 {
        return Err(Refusal::new("stop", "this model's provider takes at most 5 stop sequences: send fewer"));
    }
    let unsaid = [
        ("user", request.user.is_some()),
        ("metadata", request.metadata.is_some()),
        ("service_tier", request.tier.as_deref().is_some_and(|t| t != "auto")),
        ("store", request.store == Some(true)),
        ("prompt_cache_key", request.cache_key.is_some()),
        ("verbosity", request.verbosity.is_some()),
        ("parallel_tool_calls", request.parallel_tools == Some(false) && !request.tools.is_empty()),
    ];
    unsaid.iter().filter(|(_, is_set)| *is_set).for_each(|(field, _)| job.losses.dropped(*field));
    Ok(())
}

fn put_config(o: &mut Obj<'_>, request: &Request<'_>, options: &Options<'_>, job: &mut Job) {
    let s = &request.sampling;
    o.some_num("temperature", s.temperature.as_ref());
    o.some_num("topP", s.top_p.as_ref());
    o.some_num("topK", s.top_k.as_ref());
    o.some_int("maxOutputTokens", s.max_tokens);
    o.some_int("candidateCount", s.n);
    if !s.stop.is_empty() {
        o.arr("stopSequences", |a| s.stop.iter().for_each(|stop| a.str(stop)));
    }
    match &s.seed {
        Some(seed) if seed.0.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => o.num("seed", seed),
        Some(_) => job.losses.dropped("seed"),
        None => {}
    }
    o.some_num("frequencyPenalty", s.frequency_penalty.as_ref());
    o.some_num("presencePenalty", s.presence_penalty.as_ref());
    if s.logprobs {
        o.bool("responseLogprobs", true);
        o.some_int("logprobs", s.top_logprobs());
    }
    match &request.output {
        OutputFormat::Text => {}
        OutputFormat::Json => o.word("responseMimeType", "application/json"),
        OutputFormat::Schema { schema, description, .. } => {
            o.word("responseMimeType", "application/json");
            if description.is_some() {
                job.losses.dropped("response_format.description");
            }
            if let Some(schema) = schema {
                schema::put(o.key("responseJsonSchema"), *schema);
            }
        }
    }
    put_thinking(o, request, options, job);
}

fn put_thinking(o: &mut Obj<'_>, request: &Request<'_>, options: &Options<'_>, job: &mut Job) {
    let Some(reasoning) = request.reasoning else { return };
    let shown = reasoning.visible == Some(true) && !reasoning.effort.is_off();
    let mut config = Vec::new();
    compose::obj(&mut config, |o| {
        if models::is_gemini_3(options.model) {
            let level = reasoning.effort.level().map(|level| match level {
                Level::None | Level::Minimal if options.model.contains("flash") => Level::Minimal,
                Level::None | Level::Minimal | Level::Low => Level::Low,
                Level::Medium => Level::Medium,
                Level::High | Level::Xhigh | Level::Max => Level::High,
            });
            if level != reasoning.effort.level() || matches!(reasoning.effort, Effort::Budget(_)) {
                job.losses.approximated("reasoning");
            }
            o.some_str("thinkingLevel", level.map(Level::name));
        } else {
            let wanted = match reasoning.effort {
                Effort::Dynamic => None,
                Effort::Level(Level::Minimal) => Some(512),
                Effort::Level(level) => Some(level.budget()),
                Effort::Budget(tokens) => Some(tokens),
            };
            if wanted.is_some_and(|tokens| tokens > MAX_BUDGET) {
                job.losses.approximated("reasoning");
            }
            o.some_int("thinkingBudget", wanted.map(|tokens| tokens.min(MAX_BUDGET)));
        }
        if shown {
            o.bool("includeThoughts", true);
        }
    });
    if config != b"{}" {
        o.key("thinkingConfig").extend_from_slice(&config);
    }
}

fn put_tools(o: &mut Obj<'_>, request: &Request<'_>, job: &mut Job) {
    if request.tools.is_empty() && !request.web_search {
        return;
    }
    o.arr("tools", |a| {
        if !request.tools.is_empty() {
            a.obj(|o| {
                o.arr("functionDeclarations", |a| {
                    for tool in &request.tools {
                        let name = job.context.names.fit_for_gemini(&tool.name, MAX_NAME).into_owned();
                        a.obj(|o| {
                            o.str("name", &name);
                            o.some_str("description", tool.description.as_deref());
                            match (tool.custom, tool.schema) {
                                (true, _) => {
                                    job.losses.emulated("tools.custom");
                                    job.context.custom_tools.push(name.clone());
                                    o.raw("parametersJsonSchema", FREE_TEXT_SCHEMA);
                                }
                                (false, Some(schema)) => {
                                    schema::put_object(o.key("parametersJsonSchema"), Some(schema));
                                }
                                (false, None) => {}
                            }
                        });
                    }
                });
            });
        }
        if request.web_search {
            a.obj(|o| o.obj("googleSearch", |_| {}));
        }
    });
    put_choice(o, request, job);
}

fn put_choice(o: &mut Obj<'_>, request: &Request<'_>, job: &mut Job) {
    let strict = request.tools.iter().any(|tool| tool.strict == Some(true));
    if strict {
        job.losses.emulated("tools.strict");
    }
    let all: &[Cow<'_, str>] = &[];
    let (mode, names) = match &request.tool_choice {
        _ if request.tools.is_empty() => return,
        None if strict => ("VALIDATED", all),
        None => return,
        Some(ToolChoice::Auto) => (if strict { "VALIDATED" } else { "AUTO" }, all),
        Some(ToolChoice::None) => ("NONE", all),
        Some(ToolChoice::Any) => ("ANY", all),
        Some(ToolChoice::Named(name)) => ("ANY", std::slice::from_ref(name)),
        Some(ToolChoice::Allowed { names, required: true }) => ("ANY", names.as_slice()),
        Some(ToolChoice::Allowed { names, required: false } | ToolChoice::Validated { names }) => {
            ("VALIDATED", names.as_slice())
        }
    };
    o.obj("toolConfig", |o| {
        o.obj("functionCallingConfig", |o| {
            o.str("mode", mode);
            if !names.is_empty() {
                o.arr("allowedFunctionNames", |a| {
                    names.iter().for_each(|name| a.str(&job.context.names.fit_for_gemini(name, MAX_NAME)));
                });
            }
        });
    });
}

/// What is known beside a turn.
#[derive(Clone, Copy)]
struct Known<'k> {
    /// The names of the calls by their ids.
    calls: &'k HashMap<&'k str, &'k str>,
    options: &'k Options<'k>,
    is_gemini_3: bool,
}

fn put_turn(a: &mut Arr<'_>, turn: &Turn<'_>, known: Known<'_>, job: &mut Job) -> Result<(), Refusal> {
    let mut result = Ok(());
    a.obj_if(|o| {
        o.str("role", if turn.role == Role::Assistant { "model" } else { "user" });
        let mut is_empty = true;
        o.arr("parts", |a| {
            let mut marks = Marks { signature: None, unsigned: known.is_gemini_3 };
            result = turn.blocks.iter().try_for_each(|block| put_block(a, block, (&mut marks, known), job));
            is_empty = a.is_empty();
        });
        !is_empty
    });
    result
}

/// The signatures of a turn's calls.
struct Marks<'m> {
    /// Waits for the call that it sat on.
    signature: Option<&'m str>,
    /// Whether the next call is the turn's first, which must have one from Gemini 3 on.
    unsigned: bool,
}

fn put_call(a: &mut Arr<'_>, call: &ToolCall<'_>, marks: &mut Marks<'_>, job: &mut Job) {
    let name = job.context.names.fit_for_gemini(&call.name, MAX_NAME);
    let args = match call.custom {
        true => Cow::Owned(free_text_input(&call.arguments)),
        false => arguments_object(&call.arguments, &mut job.losses),
    };
    a.obj(|o| {
        o.obj("functionCall", |o| {
            o.some_str("id", Some(&*call.id).filter(|id| !is_invented(id)));
            o.str("name", &name);
            o.raw("args", &args);
        });
        let missing = std::mem::replace(&mut marks.unsigned, false).then_some(NO_SIGNATURE);
        o.some_str("thoughtSignature", marks.signature.take().or(missing));
    });
}

/// Writes a thought, or keeps its signature for the call behind it; says whether the provider can be given it at all.
fn put_thinking_block<'m>(
    a: &mut Arr<'_>,
    (text, token): (&str, Option<&'m ReplayToken<'_>>),
    marks: &mut Marks<'m>,
    model: &str,
) -> bool {
    let own = token.filter(|token| token.suits(GEMINI, model));
    match own.map(|token| (token.kind, &*token.data)) {
        Some((TokenKind::OnCall, data)) => marks.signature = Some(data),
        Some((TokenKind::OnText, data)) => a.obj(|o| {
            o.word("text", "");
            o.str("thoughtSignature", data);
        }),
        Some((_, data)) => a.obj(|o| {
            o.str("text", text);
            o.bool("thought", true);
            o.str("thoughtSignature", data);
        }),
        None => return false,
    }
    true
}

fn put_block<'m>(
    a: &mut Arr<'_>,
    block: &'m Block<'_>,
    (marks, known): (&mut Marks<'m>, Known<'_>),
    job: &mut Job,
) -> Result<(), Refusal> {
    match block {
        Block::Text(text) => a.obj(|o| o.text("text", text)),
        Block::Refusal(text) => a.obj(|o| o.str("text", text)),
        Block::Media(media) => put_media(a, media, job)?,
        Block::ToolResult(result) => put_result(a, result, known, job)?,
        Block::Opaque(opaque) => settle_opaque(opaque, GEMINI, &mut job.losses)?,
        Block::ToolCall(call) => put_call(a, call, marks, job),
        Block::Thinking { text, token } => {
            if !put_thinking_block(a, (text, token.as_ref()), marks, known.options.model) {
                job.losses.dropped("messages.reasoning");
            }
        }
    }
    Ok(())
}

fn put_result(a: &mut Arr<'_>, result: &ToolResult<'_>, known: Known<'_>, job: &mut Job) -> Result<(), Refusal> {
    let name = Some(&*result.name).filter(|name| !name.is_empty()).or_else(|| known.calls.get(&*result.id).copied());
    let Some(name) = name else {
        let message =
            format!("the tool result {} answers no tool call of the conversation: send the call, too", result.id);
        return Err(Refusal::new("messages.tool_call_id", message));
    };
    let name = job.context.names.fit_for_gemini(name, MAX_NAME);
    let mut media: Vec<&Media<'_>> = Vec::new();
    for block in &result.content {
        match block {
            Block::Media(found) => media.push(found),
            Block::Opaque(opaque) => settle_opaque(opaque, GEMINI, &mut job.losses)?,
            Block::Text(_) | Block::ToolCall(_) | Block::ToolResult(_) | Block::Thinking { .. } | Block::Refusal(_) => {
            }
        }
    }
    let inline = |media: &&Media<'_>| known.is_gemini_3 && matches!(media.source, Source::Base64(_));
    a.obj(|o| {
        o.obj("functionResponse", |o| {
            o.some_str("id", Some(&*result.id).filter(|id| !is_invented(id)));
            o.str("name", &name);
            o.obj("response", |o| {
                let text = result_text(result);
                match result.is_error.then(|| text.read()) {
                    Some(text) => o.str("error", text.strip_prefix("Error: ").unwrap_or(&text)),
                    None => o.text("result", &text),
                }
            });
            if media.iter().any(inline) {
                o.arr("parts", |a| media.iter().filter(|m| inline(m)).for_each(|m| put_inline(a, m)));
            }
        });
    });
    for moved in media.iter().filter(|m| !inline(m)) {
        job.losses.emulated("tool_result.media");
        put_media(a, moved, job)?;
    }
    Ok(())
}

fn put_inline(a: &mut Arr<'_>, media: &Media<'_>) {
    let Source::Base64(data) = &media.source else { return };
    let name = media.name.as_deref().unwrap_or_default();
    let mime = if media.mime.is_empty() { mime_of(media.kind, data, name) } else { &*media.mime };
    a.obj(|o| {
        o.obj("inlineData", |o| {
            o.str("mimeType", mime);
            o.str("data", data);
        });
    });
}

fn put_media(a: &mut Arr<'_>, media: &Media<'_>, job: &mut Job) -> Result<(), Refusal> {
    if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
        job.losses.dropped("image_url.detail");
    }
    if media.name.is_some() {
        job.losses.dropped("messages.filename");
    }
    match (&media.source, media.kind) {
        (Source::Base64(_), _) => put_inline(a, media),
        (Source::Text(text), _) => a.obj(|o| o.str("text", text)),
        (Source::Url(url), _) => {
            let mime = if media.mime.is_empty() { mime_of(media.kind, "", url) } else { &*media.mime };
            a.obj(|o| {
                o.obj("fileData", |o| {
                    o.str("mimeType", mime);
                    o.str("fileUri", url);
                });
            });
        }
        (Source::File(_), kind @ (MediaKind::Image | MediaKind::Document | MediaKind::Audio | MediaKind::Video)) => {
            return Err(refuse_media(kind, "the file lies with another provider: send its data", GEMINI));
        }
    }
    Ok(())
}
