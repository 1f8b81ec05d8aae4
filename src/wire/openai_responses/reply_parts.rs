//! Writes the parts of a Responses reply that stand both in its stream and in the whole: items and the response itself.

use crate::wire::{
    WireFormat,
    collect::{Collected, Part},
    compose::Obj,
    logprobs,
    openai_chat::failure,
    reply::{Citation, FinishReason},
    rules::restyle_id,
    translate::Context,
};

/// The parts of one output item: consecutive texts and refusals make one message, all else stands alone.
pub(crate) struct Group<'p> {
    parts: &'p [Part],
    is_open: bool,
}

fn is_message(part: &Part) -> bool {
    matches!(part, Part::Text { .. } | Part::Refusal(_))
}

/// The item that begins with this part.
pub(crate) fn group_at(parts: &[Part], from: usize) -> Group<'_> {
    let rest = parts.get(from..).unwrap_or_default();
    let length = match rest.first() {
        Some(part) if is_message(part) => rest.iter().take_while(|part| is_message(part)).count(),
        Some(_) => 1,
        None => 0,
    };
    Group { parts: rest.get(..length).unwrap_or_default(), is_open: false }
}

impl<'p> Group<'p> {
    /// The item as it is announced, before its content.
    pub(crate) fn opening(parts: &'p [Part], from: usize) -> Group<'p> {
        Group { is_open: true, ..group_at(parts, from) }
    }

    /// The prefix of the item's id, which tells its kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self.parts.first() {
            Some(Part::Thinking { .. }) => "rs",
            Some(Part::Call { custom: true, .. }) => "ctc",
            Some(Part::Call { .. }) => "fc",
            Some(Part::Text { .. } | Part::Refusal(_)) | None => "msg",
        }
    }

    pub(crate) fn id(&self, reply_id: &str, index: u64) -> String {
        let suffix = restyle_id(reply_id, "resp_");
        format!("{}_{}_{index}", self.kind(), suffix.strip_prefix("resp_").unwrap_or(&suffix))
    }
}

/// Writes the members of an item.
pub(crate) fn put_item(o: &mut Obj<'_>, group: &Group<'_>, reply_id: &str, index: u64, context: &Context) {
    o.str("id", &group.id(reply_id, index));
    let status = if group.is_open { "in_progress" } else { "completed" };
    match group.parts.first() {
        Some(Part::Thinking { text, token }) => {
            o.word("type", "reasoning");
            o.arr("summary", |a| {
                if !text.is_empty() && !group.is_open {
                    a.obj(|o| {
                        o.word("type", "summary_text");
                        o.str("text", text);
                    });
                }
            });
            let sealed = token.as_ref().and_then(|token| match token.is_at_home(WireFormat::OpenaiResponses) {
                true => Some(token.data.to_string()),
                false => token.seal(&context.model),
            });
            o.some_str("encrypted_content", sealed.as_deref());
        }
        Some(Part::Call { id, name, arguments, custom }) => {
            o.str("type", if *custom { "custom_tool_call" } else { "function_call" });
            if !custom {
                o.str("status", status);
            }
            o.str("call_id", id);
            let nested = context.namespaces.iter().find(|(flat, _, _)| flat == name);
            o.str("name", nested.map_or(name, |(_, _, inner)| inner));
            o.some_str("namespace", nested.map(|(_, namespace, _)| &**namespace));
            o.str(if *custom { "input" } else { "arguments" }, if group.is_open { "" } else { arguments });
        }
        Some(Part::Text { .. } | Part::Refusal(_)) | None => {
            o.word("type", "message");
            o.str("status", status);
            o.word("role", "assistant");
            o.arr("content", |a| {
                if !group.is_open {
                    group.parts.iter().for_each(|part| a.obj(|o| put_part(o, part)));
                }
            });
        }
    }
}

/// Writes the members of a message's content part.
pub(crate) fn put_part(o: &mut Obj<'_>, part: &Part) {
    match part {
        Part::Refusal(text) => {
            o.word("type", "refusal");
            o.str("refusal", text);
        }
        Part::Text { text, citations, logprobs } => {
            o.word("type", "output_text");
            o.str("text", text);
            o.arr("annotations", |a| citations.iter().for_each(|citation| a.obj(|o| put_citation(o, citation))));
            logprobs::put_list(o.key("logprobs"), logprobs);
        }
        Part::Thinking { .. } | Part::Call { .. } => {}
    }
}

/// Writes the members of a citation.
pub(crate) fn put_citation(o: &mut Obj<'_>, citation: &Citation<'_>) {
    let (from, to) = citation.span.unwrap_or((0, 0));
    o.word("type", "url_citation");
    o.int("start_index", from);
    o.int("end_index", to);
    o.str("url", &citation.url);
    o.str("title", &citation.title);
}

/// Writes the members of a response, with the request's fields repeated.
pub(crate) fn put_response(o: &mut Obj<'_>, reply: &Collected, context: &Context, status: &str) {
    let over = status != "in_progress";
    o.str("id", &restyle_id(&reply.id, "resp_"));
    o.word("object", "response");
    o.int("created_at", reply.created.unwrap_or(context.now));
    o.str("status", status);
    o.bool("background", false);
    match (&reply.error, reply.finish) {
        (Some(failure), _) => o.obj("error", |o| {
            o.str("code", failure::code(failure).unwrap_or("server_error"));
            o.str("message", &failure.message);
        }),
        (None, Some(FinishReason::Failed)) if over => o.obj("error", |o| {
            o.word("code", "server_error");
            o.word("message", "the provider stopped and gave no reason");
        }),
        _ => o.null("error"),
    }
    match status {
        "incomplete" => o.obj("incomplete_details", |o| {
            let filtered = reply.finish == Some(FinishReason::Refusal);
            o.str("reason", if filtered { "content_filter" } else { "max_output_tokens" });
        }),
        _ => o.null("incomplete_details"),
    }
    o.str("model", &reply.model);
    o.arr("output", |a| {
        let (mut from, mut index) = (0, 0);
        while over && from < reply.parts.len() {
            let group = group_at(&reply.parts, from);
            a.obj(|o| put_item(o, &group, &reply.id, index, context));
            from += group.parts.len();
            index += 1;
        }
    });
    put_echo(o, context);
    if over && reply.error.is_none() { put_usage(o, reply) } else { o.null("usage") }
}

/// What a client may read back of its request, with the API's own defaults where it said nothing.
fn put_echo(o: &mut Obj<'_>, context: &Context) {
    const DEFAULTS: [(&str, &str); 12] = [
        ("instructions", "null"),
        ("max_output_tokens", "null"),
        ("metadata", "{}"),
        ("parallel_tool_calls", "true"),
        ("previous_response_id", "null"),
        ("reasoning", r#"{"effort":null,"summary":null}"#),
        ("temperature", "1.0"),
        ("text", r#"{"format":{"type":"text"}}"#),
        ("tool_choice", "\"auto\""),
        ("tools", "[]"),
        ("top_p", "1.0"),
        ("truncation", "\"disabled\""),
    ];
    for (key, default) in DEFAULTS {
        let said = context.echo.iter().find(|(k, _)| k == key);
        o.raw(key, said.map_or(default, |(_, value)| value));
    }
    for (key, value) in &context.echo {
        if !DEFAULTS.iter().any(|(k, _)| k == key) {
            o.any_raw(key, value);
        }
    }
}

fn put_usage(o: &mut Obj<'_>, reply: &Collected) {
    let usage = &reply.usage;
    let (input, output) = (usage.total_input(), usage.output.unwrap_or(0));
    o.obj("usage", |o| {
        o.int("input_tokens", input);
        o.obj("input_tokens_details", |o| {
            o.int("cached_tokens", usage.cache_read.unwrap_or(0));
            let written = usage.cache_write.unwrap_or(0).saturating_add(usage.cache_write_1h.unwrap_or(0));
            o.int("cache_write_tokens", written);
        });
        o.int("output_tokens", output);
        o.obj("output_tokens_details", |o| o.int("reasoning_tokens", usage.reasoning.unwrap_or(0)));
        o.int("total_tokens", input.saturating_add(output));
    });
}
