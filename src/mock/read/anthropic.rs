//! Reads a Messages request (and its token count) as strictly as Anthropic does.

use super::{
    anthropic_turns::{self, Marks},
    given, is_default_one, is_tool_name, is_within, object, stranger, text,
};
use crate::mock::{
    Options,
    ask::{Ask, Choice, Role, Thinking, Tool},
    refusal::{Checked, Dialect, Refusal, ensure},
    request::Request,
    schema,
};
use serde_json::{Map, Value};

#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "model", "messages", "max_tokens", "system", "tools", "tool_choice", "stream", "temperature", "top_p", "top_k",
    "stop_sequences", "metadata", "thinking", "service_tier", "container", "mcp_servers", "context_management",
    "output_config", "output_format", "cache_control", "inference_geo", "speed", "fallbacks", "diagnostics",
    "task_budget", "user_profile_id", "workspace_id",
];

/// Fields that need a beta header: the field, and the words in the header.
const BETA_FIELDS: &[(&str, &str)] = &[
    ("context_management", "context-management"),
    ("mcp_servers", "mcp-client"),
    ("speed", "fast-mode"),
    ("output_format", "structured-outputs"),
];

/// Fields that counting tokens does not take.
const NOT_COUNTED: &[&str] =
    &["max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "metadata", "service_tier"];

/// What the headers unlock or forbid.
pub(super) struct Rules<'a> {
    pub(super) beta: &'a str,
    /// The version in which sampling parameters are gone.
    pub(super) since_2026: bool,
    pub(super) options: &'a Options,
}

/// The complaint about a field that is not allowed here.
pub(super) fn extra(at: &str) -> Refusal {
    Refusal::bad(format!("{at}: Extra inputs are not permitted"))
}

/// Reads the body of `/v1/messages`, or of `/v1/messages/count_tokens` when only counting.
/// On Vertex the version stands in the body, where it has been looked at already.
pub(in crate::mock) fn read(
    body: &Value,
    (request, is_vertex): (&Request, bool),
    options: &Options,
    counting: bool,
) -> Checked<Ask> {
    let rules = rules(request, is_vertex, options)?;
    let body = object(body)?;
    let mut ask = Ask::new(Dialect::Anthropic);
    ask.model = text(body, "model").ok_or_else(|| Refusal::bad("model: Field required"))?.to_owned();
    let messages = body.get("messages").and_then(Value::as_array);
    let messages = messages.ok_or_else(|| Refusal::bad("messages: Field required"))?;
    ensure!(!messages.is_empty(), Refusal::bad("messages: at least one message is required"));
    if !counting {
        ask.max_tokens = Some(max_tokens(body)?);
    }
    fields(body, &rules, counting)?;
    ask.stream = body.get("stream") == Some(&Value::Bool(true));
    sampling(body, &rules, &ask.model)?;
    stop(body, &mut ask)?;
    let mut marks = Marks::default();
    system(body, &rules, &mut marks, &mut ask)?;
    anthropic_turns::read(body, &rules, &mut marks, &mut ask)?;
    tools(body, &rules, &mut marks, &mut ask)?;
    if let Some(mark) = given(body, "cache_control") {
        marks.add(mark, "cache_control", &rules)?;
    }
    marks.check()?;
    choice(body, &mut ask)?;
    let orphaned = ask.tools.is_empty() && ask.turns.iter().any(|turn| !turn.calls.is_empty());
    let message = "Requests which include `tool_use` or `tool_result` blocks must define tools";
    ensure!(!(orphaned && options.strict_tools), Refusal::bad(message));
    thinking(body, &rules, counting, &mut ask)?;
    output_config(body, &mut ask)?;
    Ok(ask)
}

fn rules<'a>(request: &'a Request, is_vertex: bool, options: &'a Options) -> Checked<Rules<'a>> {
    let version = if is_vertex { Some("2023-06-01") } else { request.header("anthropic-version") };
    let version = version.ok_or_else(|| Refusal::bad("anthropic-version: header is required"))?;
    let known = ["2023-01-01", "2023-06-01", "2026-10-21"];
    ensure!(known.contains(&version), Refusal::bad(format!("anthropic-version: \"{version}\" is not a valid version")));
    let beta = request.header("anthropic-beta").unwrap_or_default();
    Ok(Rules { beta, since_2026: version == "2026-10-21", options })
}

fn max_tokens(body: &Map<String, Value>) -> Checked<u64> {
    let value = body.get("max_tokens").ok_or_else(|| Refusal::bad("max_tokens: Field required"))?;
    let whole = value.as_i64().ok_or_else(|| Refusal::bad("max_tokens: Input should be a valid integer"))?;
    let small = || Refusal::bad("max_tokens: Input should be greater than or equal to 1");
    u64::try_from(whole).ok().filter(|tokens| *tokens > 0).ok_or_else(small)
}

fn fields(body: &Map<String, Value>, rules: &Rules, counting: bool) -> Checked<()> {
    if let Some(name) = stranger(body, FIELDS) {
        return Err(extra(name));
    }
    for (name, beta) in BETA_FIELDS {
        ensure!(given(body, name).is_none() || rules.beta.contains(beta), extra(name));
    }
    let uncounted = NOT_COUNTED.iter().find(|name| counting && body.contains_key(**name));
    uncounted.map_or(Ok(()), |name| Err(extra(name)))
}

fn sampling(body: &Map<String, Value>, rules: &Rules, model: &str) -> Checked<()> {
    for name in ["temperature", "top_p", "top_k"] {
        ensure!(!rules.since_2026 || !body.contains_key(name), extra(name));
    }
    for name in ["temperature", "top_p"] {
        ensure!(is_within(body.get(name), 0.0, 1.0), Refusal::bad(format!("{name}: range: 0..1")));
    }
    ensure!(is_within(body.get("top_k"), 0.0, 1e9), Refusal::bad("top_k: Input should be greater than or equal to 0"));
    let both = given(body, "temperature").is_some() && given(body, "top_p").is_some();
    let one_only = ["opus-4-", "sonnet-4-", "haiku-4-"].iter().any(|series| {
        model.split_once(series).is_some_and(|(_, minor)| minor.starts_with(|c: char| ('1'..='9').contains(&c)))
    });
    let message = "`temperature` and `top_p` cannot both be specified for this model. Please use only one.";
    ensure!(!(both && one_only), Refusal::bad(message));
    let stranger = given(body, "metadata").and_then(Value::as_object).and_then(|data| stranger(data, &["user_id"]));
    stranger.map_or(Ok(()), |name| Err(extra(&format!("metadata.{name}"))))
}

fn stop(body: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    let Some(stops) = given(body, "stop_sequences") else { return Ok(()) };
    let invalid = || Refusal::bad("stop_sequences: Input should be a valid list");
    for stop in stops.as_array().ok_or_else(invalid)? {
        let stop = stop.as_str().ok_or_else(invalid)?;
        let blank = "stop_sequences: each stop sequence must contain non-whitespace";
        ensure!(!stop.trim().is_empty(), Refusal::bad(blank));
        ask.stop.push(stop.to_owned());
    }
    Ok(())
}

fn system(body: &Map<String, Value>, rules: &Rules, marks: &mut Marks, ask: &mut Ask) -> Checked<()> {
    match given(body, "system") {
        None => {}
        Some(Value::String(text)) => ask.system.clone_from(text),
        Some(Value::Array(blocks)) => {
            for (i, block) in blocks.iter().enumerate() {
                let at = format!("system.{i}");
                let block = anthropic_turns::block(block, &at)?;
                ensure!(
                    text(block, "type") == Some("text"),
                    Refusal::bad(format!("{at}.type: Input should be 'text'"))
                );
                if let Some(name) = stranger(block, &["type", "text", "cache_control", "citations"]) {
                    return Err(extra(&format!("{at}.{name}")));
                }
                let said = text(block, "text").filter(|text| !text.is_empty());
                ask.instruct(said.ok_or_else(|| Refusal::bad("system: text content blocks must be non-empty"))?);
                marks.of(block, &at, rules)?;
            }
        }
        Some(_) => return Err(Refusal::bad("system: Input should be a valid string or list")),
    }
    Ok(())
}

fn tools(body: &Map<String, Value>, rules: &Rules, marks: &mut Marks, ask: &mut Ask) -> Checked<()> {
    let Some(tools) = given(body, "tools") else { return Ok(()) };
    let list = tools.as_array().ok_or_else(|| Refusal::bad("tools: Input should be a valid list"))?;
    for (i, tool) in list.iter().enumerate() {
        let at = format!("tools.{i}");
        let tool = anthropic_turns::block(tool, &at)?;
        marks.of(tool, &at, rules)?;
        match text(tool, "type").unwrap_or("custom") {
            "custom" => {
                let tool = custom(tool, &at)?;
                ensure!(ask.tool(&tool.name).is_none(), Refusal::bad("tools: Tool names must be unique."));
                ask.tools.push(tool);
            }
            kind => {
                #[rustfmt::skip]
                let server = [
                    "web_search", "web_fetch", "bash", "text_editor", "computer", "code_execution", "memory",
                    "tool_search", "mcp_toolset", "advisor",
                ];
                let unknown =
                    format!("{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags");
                ensure!(server.iter().any(|name| kind.starts_with(name)), Refusal::bad(unknown));
            }
        }
    }
    Ok(())
}

fn custom(tool: &Map<String, Value>, at: &str) -> Checked<Tool> {
    let name = text(tool, "name").ok_or_else(|| Refusal::bad(format!("{at}.custom.name: Field required")))?;
    let pattern = format!("{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'");
    ensure!(is_tool_name(name, 128), Refusal::bad(pattern));
    #[rustfmt::skip]
    let known = [
        "type", "name", "description", "input_schema", "cache_control", "strict", "input_examples", "defer_loading",
        "allowed_callers", "eager_input_streaming",
    ];
    if let Some(name) = stranger(tool, &known) {
        return Err(extra(&format!("{at}.custom.{name}")));
    }
    let schema = tool.get("input_schema").filter(|schema| schema.is_object());
    let schema = schema.ok_or_else(|| Refusal::bad(format!("{at}.custom.input_schema: Field required")))?;
    let kind = format!("{at}.custom.input_schema.type: Input should be 'object'");
    ensure!(schema.get("type").and_then(Value::as_str) == Some("object"), Refusal::bad(kind));
    Ok(Tool { name: name.to_owned(), schema: schema.clone(), custom: false })
}

fn choice(body: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    let Some(choice) = given(body, "tool_choice") else { return Ok(()) };
    let tags = "tool_choice: Input tag does not match any of the expected tags: 'auto', 'any', 'tool', 'none'";
    let choice = choice.as_object().ok_or_else(|| Refusal::bad(tags))?;
    let kind = text(choice, "type").unwrap_or("null");
    ask.choice = match kind {
        "auto" => Choice::Auto,
        "any" => Choice::Any,
        "none" => Choice::None,
        "tool" => Choice::Named(text(choice, "name").unwrap_or("null").to_owned()),
        _ => return Err(Refusal::bad(tags)),
    };
    if let Some(name) = stranger(choice, &["type", "name", "disable_parallel_tool_use"]) {
        return Err(extra(&format!("tool_choice.{kind}.{name}")));
    }
    let has_tools = given(body, "tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty());
    let alone = "tool_choice: tool_choice may only be specified while providing tools";
    ensure!(has_tools || kind == "none", Refusal::bad(alone));
    if let Choice::Named(name) = &ask.choice {
        let declared = given(body, "tools").and_then(Value::as_array).into_iter().flatten();
        let found = declared.filter_map(|tool| tool.get("name")).any(|known| known == name.as_str());
        ensure!(found, Refusal::bad(format!("tool_choice.name: Tool '{name}' not found in provided tools")));
    }
    ask.parallel = choice.get("disable_parallel_tool_use") != Some(&Value::Bool(true));
    Ok(())
}

fn thinking(body: &Map<String, Value>, rules: &Rules, counting: bool, ask: &mut Ask) -> Checked<()> {
    let last = ask.turns.last().map(|turn| turn.role);
    let prefill =
        "This model does not support assistant message prefill. The conversation must end with a user message.";
    ensure!(!is_adaptive_only(&ask.model) || last != Some(Role::Assistant), Refusal::bad(prefill));
    let Some(thinking) = given(body, "thinking") else { return Ok(()) };
    let kind = thinking.get("type").and_then(Value::as_str).unwrap_or("null");
    let tags = format!(
        "thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'adaptive', 'disabled', 'enabled'"
    );
    let thinking = thinking.as_object().ok_or_else(|| Refusal::bad(tags.clone()))?;
    let mut known = match kind {
        "enabled" => vec!["type", "budget_tokens", "display"],
        "disabled" => vec!["type"],
        "adaptive" | "between_tools" => vec!["type", "display"],
        _ => return Err(Refusal::bad(tags)),
    };
    if rules.beta.contains("thinking-binding-controls") {
        known.push("block_binding");
    }
    if let Some(name) = stranger(thinking, &known) {
        return Err(extra(&format!("thinking.{kind}.{name}")));
    }
    if kind == "enabled" {
        budget(thinking, rules, ask, counting)?;
    }
    if kind != "disabled" {
        thinking_limits(body, ask, last, kind == "adaptive")?;
        let hidden = text(thinking, "display") == Some("omitted");
        ask.thinking = if hidden { Thinking::Hidden } else { Thinking::Shown };
    }
    Ok(())
}

fn budget(thinking: &Map<String, Value>, rules: &Rules, ask: &Ask, counting: bool) -> Checked<()> {
    let gone = "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \
                \"output_config.effort\" to control thinking behavior.";
    ensure!(!is_adaptive_only(&ask.model), Refusal::bad(gone));
    let budget = thinking.get("budget_tokens").and_then(Value::as_u64);
    let budget = budget.ok_or_else(|| Refusal::bad("thinking.enabled.budget_tokens: Field required"))?;
    let small = "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024";
    ensure!(budget >= 1024, Refusal::bad(small));
    let fits = counting || ask.max_tokens.is_some_and(|limit| limit > budget) || rules.beta.contains("interleaved");
    let large = "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at \
                 https://docs.claude.com/en/docs/build-with-claude/extended-thinking#max-tokens-and-context-window-size";
    ensure!(fits, Refusal::bad(large));
    Ok(())
}

/// What cannot go together with thinking. Only a model that decides for itself may be forced to call a tool.
fn thinking_limits(body: &Map<String, Value>, ask: &Ask, last: Option<Role>, adaptive: bool) -> Checked<()> {
    let temperature = "`temperature` may only be set to 1 when thinking is enabled. Please consult our documentation at \
                       https://docs.claude.com/en/docs/build-with-claude/extended-thinking";
    ensure!(is_default_one(body.get("temperature")), Refusal::bad(temperature));
    ensure!(given(body, "top_k").is_none(), Refusal::bad("`top_k` must be unset when thinking is enabled."));
    let free = adaptive || matches!(ask.choice, Choice::Auto | Choice::None);
    ensure!(free, Refusal::bad("Thinking may not be enabled when tool_choice forces tool use."));
    let prefill = "This model does not support assistant message prefill when thinking is enabled.";
    ensure!(last != Some(Role::Assistant), Refusal::bad(prefill));
    Ok(())
}

fn output_config(body: &Map<String, Value>, ask: &mut Ask) -> Checked<()> {
    let config = given(body, "output_config").and_then(Value::as_object);
    if let Some(name) = config.and_then(|config| stranger(config, &["effort", "format", "task_budget"])) {
        return Err(extra(&format!("output_config.{name}")));
    }
    let format = config.and_then(|config| given(config, "format")).or_else(|| given(body, "output_format"));
    let Some(format) = format else { return Ok(()) };
    let schema = format.get("schema").filter(|schema| schema.is_object());
    let typed = format.get("type").and_then(Value::as_str) == Some("json_schema");
    let required = || Refusal::bad("output_config.format.schema: Field required");
    let schema = schema.filter(|_| typed).ok_or_else(required)?;
    schema::check_anthropic(schema)?;
    ask.schema = Some(schema.clone());
    Ok(())
}

/// The digit after one of these model series.
fn generation(model: &str, series: &[&str]) -> Option<char> {
    let families = series.iter().filter_map(|name| model.split_once(&format!("claude-{name}-")));
    families.map(|(_, rest)| rest).find_map(|rest| rest.chars().next())
}

const FAMILIES: &[&str] = &["opus", "sonnet", "haiku", "fable", "mythos"];

/// Models without thinking budgets and prefill: Opus 4.7 and later.
fn is_adaptive_only(model: &str) -> bool {
    generation(model, &["opus-4"]).is_some_and(|minor| ('7'..='9').contains(&minor))
        || generation(model, FAMILIES).is_some_and(|major| ('5'..='9').contains(&major))
}

/// Models that take a system message after a user turn: Opus 4.8 and later.
pub(super) fn takes_system_turns(model: &str) -> bool {
    generation(model, &["opus-4"]).is_some_and(|minor| ('8'..='9').contains(&minor))
        || generation(model, FAMILIES).is_some_and(|major| ('5'..='9').contains(&major))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::request::Protocol;
    use bytes::Bytes;
    use serde_json::json;

    fn read_with(version: &str, beta: &str, extra: Value) -> Checked<Ask> {
        let mut body =
            json!({"model": "claude-sonnet-4-5", "max_tokens": 2048, "messages": [{"role": "user", "content": "hi"}]});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        let headers = [("anthropic-version", version), ("anthropic-beta", beta)];
        let headers = headers.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let (path, query) = Request::target("/v1/messages");
        let protocol = Protocol::Http11;
        let request =
            Request { connection: 0, protocol, method: "POST".into(), path, query, headers, body: Bytes::new() };
        read(&body, (&request, false), &Options::default(), false)
    }

    fn with(extra: Value) -> Checked<Ask> {
        read_with("2023-06-01", "", extra)
    }

    #[test]
    fn a_plain_request_is_read() {
        let ask = with(
            json!({"system": [{"type": "text", "text": "s"}], "thinking": {"type": "enabled", "budget_tokens": 1024}}),
        );
        let ask = ask.unwrap();
        assert!(ask.system == "s" && ask.thinking == Thinking::Shown && ask.max_tokens == Some(2048), "{ask:?}");
    }

    #[test]
    fn what_anthropic_refuses_is_refused_and_named() {
        let tool = |schema: Value| json!([{"name": "f", "input_schema": schema}]);
        for (extra, named) in [
            (json!({"max_tokens": null}), "max_tokens"),
            (json!({"max_tokens": 0}), "greater than"),
            (json!({"n": 1}), "n: Extra"),
            (json!({"temperature": 1.5}), "temperature: range"),
            (json!({"temperature": 0.5, "top_p": 0.5}), "only one"),
            (json!({"stop_sequences": [" "]}), "non-whitespace"),
            (json!({"metadata": {"user": "x"}}), "metadata.user"),
            (json!({"context_management": {}}), "context_management"),
            (json!({"tools": tool(json!({"type": "string"}))}), "input_schema.type"),
            (json!({"tool_choice": {"type": "auto"}}), "while providing tools"),
            (
                json!({"tools": tool(json!({"type": "object"})), "tool_choice": {"type": "tool", "name": "g"}}),
                "'g' not found",
            ),
            (json!({"thinking": {"type": "enabled", "budget_tokens": 4096}}), "greater than `thinking"),
            (json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "temperature": 0}), "temperature"),
            (json!({"model": "claude-opus-5-5", "thinking": {"type": "enabled", "budget_tokens": 1024}}), "adaptive"),
            (
                json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
                "additionalProperties",
            ),
        ] {
            let refusal = with(extra.clone()).unwrap_err();
            assert!(refusal.status == 400 && refusal.message.contains(named), "{extra}: {refusal:?}");
        }
    }

    #[test]
    fn headers_unlock_and_forbid_fields() {
        assert!(read_with("", "", json!({})).unwrap_err().message.contains("anthropic-version"));
        assert!(read_with("2020-01-01", "", json!({})).unwrap_err().message.contains("2020-01-01"));
        assert!(read_with("2026-10-21", "", json!({"temperature": 1})).unwrap_err().message.contains("temperature"));
        assert!(read_with("2023-06-01", "context-management-2025-06-27", json!({"context_management": {}})).is_ok());
    }
}
