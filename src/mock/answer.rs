//! The deterministic "model": from what is asked to what is answered.
//!
//! Words in the last user text command it (`CALL_TOOL`, `COUNT_TO 5`, …, see [`COMMANDS`]); without one it echoes. The
//! same request always gets the same answer, byte for byte; nothing here knows a provider's format.

use super::{
    ask::{Ask, Choice, PastCall, Role, Thinking, Tool, ToolResult, Turn, tokens},
    json,
    refusal::Dialect,
    schema, seal,
};
use serde_json::{Value, value::RawValue};
use std::time::Duration;

/// What the last user text can command, for `--help`.
pub const COMMANDS: &[(&str, &str)] = &[
    ("(anything else)", "ECHO: <last user text>"),
    ("CALL_TOOL[:name[:{json}]]", "one tool call: the first tool, arguments made from its schema"),
    ("CALL_PARALLEL", "two tool calls in one turn (Paris and London); add WITH_TEXT for a text before calls"),
    ("a turn that ends in tool results", "TOOL_RESULT: <first> | <second>"),
    ("SHOW_SYSTEM, SHOW_HISTORY, DESCRIBE_IMAGE", "what arrived"),
    ("COUNT_TO n, SAY:<text>, LONG_UNICODE, EMPTY", "that text"),
    ("SLOW_STREAM", "400 words, one event every 50 ms"),
    ("REFUSE", "a refusal in the provider's own form"),
    ("CACHED, CACHE_WRITE", "5 cached, 6 newly cached input tokens in the usage"),
];

/// An answer before it takes a provider's form.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The commands' text: what the user said last.
    pub(super) prompt: String,
    pub(super) thinking: Option<String>,
    pub(super) text: String,
    pub(super) calls: Vec<Call>,
    pub(super) finish: Finish,
    /// The stop sequence that ended the text.
    pub(super) stopped_by: Option<String>,
    pub(super) usage: Tokens,
    /// Characters of text in one event.
    pub(super) piece: usize,
    /// The wait between events.
    pub(super) pace: Duration,
}

/// A tool call to be made.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    /// The text of a JSON object, or free text for a custom tool.
    pub(super) input: String,
    pub(super) custom: bool,
}

impl Call {
    /// The input as a JSON object, as Anthropic and Gemini have it.
    pub(super) fn object(&self) -> String {
        if !self.custom {
            return self.input.clone();
        }
        json::object(|o| {
            o.text("input", &self.input);
        })
    }
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    StopSequence,
    Length,
    ToolCall,
    Refusal,
}

/// What an answer used. `output` includes `reasoning`; `input` includes both cache counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) input: u64,
    pub(super) cached: u64,
    pub(super) cache_write: u64,
    pub(super) output: u64,
    pub(super) reasoning: u64,
}

/// The turns after the model last spoke, and what the user said last.
struct Last<'a> {
    results: Vec<&'a ToolResult>,
    turn: Option<&'a Turn>,
    /// The texts that are not an agent's own context blocks.
    texts: Vec<&'a str>,
}

impl<'a> Last<'a> {
    fn of(turns: &'a [Turn]) -> Self {
        let start = turns.iter().rposition(|turn| turn.role == Role::Assistant).map_or(0, |at| at + 1);
        let tail = turns.get(start..).unwrap_or_default();
        let speaks = |turn: &&Turn| turn.role == Role::User && !(turn.texts.is_empty() && turn.images.is_empty());
        let turn = tail.last().filter(|turn| !turn.texts.is_empty()).or_else(|| turns.iter().rfind(speaks));
        let all: Vec<&str> = turn.map(|turn| turn.texts.iter().map(String::as_str).collect()).unwrap_or_default();
        let said: Vec<&str> = all.iter().copied().filter(|text| !is_context(text)).collect();
        let results = tail.iter().flat_map(|turn| &turn.results).collect();
        Last { results, turn, texts: if said.is_empty() { all } else { said } }
    }
}

/// Blocks that coding agents put before the user's words.
fn is_context(text: &str) -> bool {
    let tags = ["<system-reminder", "<environment_context", "<user_instructions", "<session_context"];
    tags.iter().any(|tag| text.trim_start().starts_with(tag))
}

/// The answer to a request.
pub(super) fn plan(ask: &Ask) -> Answer {
    let last = Last::of(&ask.turns);
    let prompt = last.texts.join("\n");
    let calls = calls(ask, &last, &prompt);
    let mut answer = Answer {
        thinking: None,
        text: String::new(),
        finish: if calls.is_empty() { Finish::Stop } else { Finish::ToolCall },
        calls,
        stopped_by: None,
        usage: Tokens::default(),
        piece: 7,
        pace: Duration::ZERO,
        prompt,
    };
    speak(ask, &last, &mut answer);
    if answer.text.len() > 3000 {
        answer.piece = answer.piece.max(answer.text.chars().count() / 120);
    }
    if ask.thinking != Thinking::Off {
        let subject: String = last.texts.last().map(|text| text.chars().take(200).collect()).unwrap_or_default();
        answer.thinking = Some(format!("Thinking about: {subject}"));
    }
    cut(ask, &mut answer);
    answer.usage = usage(ask, &answer);
    answer
}

/// The tool calls of this turn.
fn calls(ask: &Ask, last: &Last, prompt: &str) -> Vec<Call> {
    let Some(first) = ask.tools.first() else { return Vec::new() };
    if ask.choice == Choice::None {
        return Vec::new();
    }
    if !last.results.is_empty() {
        return forced(ask, &last.results).map(|tool| call(ask, tool, 0, None)).into_iter().collect();
    }
    if let Some(at) = prompt.find("CALL_TOOL") {
        let (name, input) = command(prompt.get(at + "CALL_TOOL".len()..).unwrap_or_default());
        let chosen = match &ask.choice {
            Choice::Named(name) => name,
            Choice::Auto | Choice::None | Choice::Any => &first.name,
        };
        let tool = ask.tool(name.unwrap_or(chosen));
        return tool.map(|tool| call(ask, tool, 0, input)).into_iter().collect();
    }
    if prompt.contains("CALL_PARALLEL") {
        let tool = ask.tools.iter().find(|tool| tool.name.contains("weather")).unwrap_or(first);
        return (0..if ask.parallel { 2 } else { 1 }).map(|n| call(ask, tool, n, None)).collect();
    }
    forced(ask, &[]).map(|tool| call(ask, tool, 0, None)).into_iter().collect()
}

/// The tool that the request insists on; one without a result yet, where any will do.
fn forced<'a>(ask: &'a Ask, results: &[&ToolResult]) -> Option<&'a Tool> {
    match &ask.choice {
        Choice::Auto | Choice::None => None,
        Choice::Named(name) => ask.tool(name),
        Choice::Any => {
            let fresh = ask.tools.iter().find(|tool| results.iter().all(|result| result.name != tool.name));
            fresh.or(ask.tools.first())
        }
    }
}

/// Reads what follows `CALL_TOOL`: `:name` and `:{json}`, both optional.
fn command(rest: &str) -> (Option<&str>, Option<String>) {
    let (name, rest) = match rest.strip_prefix(':') {
        Some(tail) if !tail.starts_with('{') => {
            let end = tail.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))).unwrap_or(tail.len());
            let (name, rest) = tail.split_at(end);
            (Some(name).filter(|name| !name.is_empty()), rest)
        }
        _ => (None, rest),
    };
    let input = rest.strip_prefix(':').filter(|json| json.starts_with('{')).map(|text| {
        // Some agents pass the prompt on with its quotes escaped.
        leading_json(text).or_else(|| leading_json(&text.replace("\\\"", "\""))).unwrap_or_else(|| "{}".to_owned())
    });
    (name, input)
}

/// The JSON value at the start of the text, as written.
fn leading_json(text: &str) -> Option<String> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Box<RawValue>>();
    values.next()?.ok().map(|raw| raw.get().to_owned())
}

fn call(ask: &Ask, tool: &Tool, n: usize, input: Option<String>) -> Call {
    let prefix = match ask.dialect {
        Dialect::Chat | Dialect::Responses => "call_",
        Dialect::Anthropic => "toolu_01",
        Dialect::Gemini => "fc_",
    };
    let texts: Vec<String> = ask.turns.iter().map(Turn::text).collect();
    let parts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let id = format!("{prefix}{}{n}", seal::id(&parts, 10));
    let made = || match schema::instance(&tool.schema, n) {
        _ if tool.custom => "mock input".to_owned(),
        object if object.starts_with('{') => object,
        _ => "{}".to_owned(),
    };
    Call { id, name: tool.name.clone(), input: input.unwrap_or_else(made), custom: tool.custom }
}

/// Fills in the text, and with it what the commands change.
fn speak(ask: &Ask, last: &Last, answer: &mut Answer) {
    let prompt = answer.prompt.as_str();
    let has = |command: &str| prompt.contains(command);
    answer.text = if !answer.calls.is_empty() {
        if has("WITH_TEXT") { "Let me check.".to_owned() } else { String::new() }
    } else if let Some(schema) = &ask.schema {
        schema::instance(schema, 0)
    } else if !last.results.is_empty() {
        let results: Vec<&str> = last.results.iter().map(|result| result.text.as_str()).collect();
        format!("TOOL_RESULT: {}", results.join(" | ").chars().take(4000).collect::<String>())
    } else if ask.json_mode {
        r#"{"answer":"mock","number":7}"#.to_owned()
    } else if has("SHOW_SYSTEM") {
        format!("SYSTEM: {}", ask.system)
    } else if has("SHOW_HISTORY") {
        let turns = ask.turns.iter().map(|turn| format!("{}={}", turn.role.name(), turn.text()));
        format!("HISTORY: {}", turns.collect::<Vec<_>>().join(" || "))
    } else if has("DESCRIBE_IMAGE") {
        images(last.turn)
    } else if let Some(n) = counted(prompt) {
        (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(" ")
    } else if has("LONG_UNICODE") {
        answer.piece = 61;
        long_unicode()
    } else if has("SLOW_STREAM") {
        answer.piece = 5;
        answer.pace = Duration::from_millis(50);
        "slow ".repeat(400)
    } else if has("REFUSE") {
        answer.finish = Finish::Refusal;
        String::new()
    } else if has("EMPTY") {
        String::new()
    } else if let Some((_, said)) = prompt.split_once("SAY:") {
        said.trim_start().lines().next().unwrap_or_default().to_owned()
    } else {
        format!("ECHO: {}", last.texts.last().unwrap_or(&""))
    };
}

/// `COUNT_TO n`, at most to 100,000.
fn counted(prompt: &str) -> Option<u64> {
    let (_, rest) = prompt.split_once("COUNT_TO ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| rest.get(..end).unwrap_or_default());
    digits.parse().ok().map(|n: u64| n.min(100_000))
}

fn images(turn: Option<&Turn>) -> String {
    let images = turn.map(|turn| turn.images.as_slice()).unwrap_or_default();
    if images.is_empty() {
        return "IMAGE: none".to_owned();
    }
    let each = images.iter().map(|i| format!("{} {} {}", i.media_type, i.data.len(), seal::sha256(&i.data, 8)));
    format!("IMAGE: {}", each.collect::<Vec<_>>().join("; "))
}

/// Six thousand characters of scripts, emoji, directions, separators and quotes that break careless code.
fn long_unicode() -> String {
    let unit = "Zażółć 漢字かな交じり文 👩‍👩‍👧‍👦 🇵🇱 é ñ مرحبا שלום \u{202e}RTL\u{202c} \u{2028} 𝔘𝔫𝔦 \"q\\\\ \t</script> ₿ ";
    format!("LONG[{}]END", unit.chars().cycle().take(6000).collect::<String>())
}

/// Applies stop sequences and the token limit.
fn cut(ask: &Ask, answer: &mut Answer) {
    for stop in &ask.stop {
        if answer.finish != Finish::Stop {
            break;
        }
        if let Some(at) = answer.text.find(stop.as_str()) {
            answer.text.truncate(at);
            answer.finish = Finish::StopSequence;
            answer.stopped_by = Some(stop.clone());
        }
    }
    let Some(limit) = ask.max_tokens else { return };
    if matches!(answer.finish, Finish::Stop | Finish::StopSequence) && tokens(&answer.text) > limit {
        answer.text =
            answer.text.chars().take(usize::try_from(limit.saturating_mul(4)).unwrap_or(usize::MAX)).collect();
        answer.finish = Finish::Length;
        answer.stopped_by = None;
    }
}

fn usage(ask: &Ask, answer: &Answer) -> Tokens {
    let past = |call: &PastCall| call.arguments.chars().count();
    let turn = |turn: &Turn| {
        let texts: usize = turn.texts.iter().map(|text| text.chars().count()).sum();
        let results: usize = turn.results.iter().map(|result| result.text.chars().count()).sum();
        texts + results + turn.calls.iter().map(past).sum::<usize>()
    };
    let text = ask.system.chars().count() + ask.turns.iter().map(turn).sum::<usize>();
    let tools: u64 =
        ask.tools.iter().map(|tool| if tool.schema.is_null() { 0 } else { tokens(&tool.schema.to_string()) }).sum();
    let images: usize = ask.turns.iter().map(|turn| turn.images.len()).sum();
    let command = |name: &str, count: u64| if answer.prompt.contains(name) { count } else { 0 };
    let (cached, cache_write) = (command("CACHED", 5), command("CACHE_WRITE", 6));
    let reasoning = answer.thinking.as_deref().map_or(0, tokens);
    let calls: u64 = answer.calls.iter().map(|call| tokens(&call.input) + 4).sum();
    Tokens {
        input: (text as u64).div_ceil(4)
            + tools
            + 85 * images as u64
            + 3
            + if cached + cache_write > 0 { 20 } else { 0 },
        cached,
        cache_write,
        output: tokens(&answer.text) + calls + reasoning,
        reasoning,
    }
}

/// The text in pieces of so many characters.
pub(super) fn pieces(text: &str, size: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let nth = if size >= rest.len() { None } else { rest.char_indices().nth(size.max(1)) };
        let end = nth.map_or(rest.len(), |(at, _)| at);
        let (piece, tail) = rest.split_at(end);
        rest = tail;
        (!piece.is_empty()).then_some(piece)
    })
}

/// A value that is a JSON string already, or the JSON text of anything else.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(text: &str) -> Ask {
        let mut ask = Ask::new(Dialect::Chat);
        let mut turn = Turn::new(Role::User);
        turn.texts.push(text.to_owned());
        ask.turns.push(turn);
        ask
    }

    fn with_tool(text: &str) -> Ask {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let tool = Tool { name: "get_weather".into(), schema, custom: false };
        Ask { tools: vec![tool], ..ask(text) }
    }

    #[test]
    fn without_a_command_the_last_text_is_echoed() {
        assert_eq!(plan(&ask("hello")).text, "ECHO: hello");
        let mut agent = ask("<system-reminder>x</system-reminder>");
        agent.turns.first_mut().unwrap().texts.push("real".into());
        assert_eq!(plan(&agent).text, "ECHO: real");
    }

    #[test]
    fn commands_choose_the_answer() {
        assert_eq!(plan(&ask("COUNT_TO 4 now")).text, "1 2 3 4");
        assert_eq!(plan(&ask("SAY: one two\nthree")).text, "one two");
        assert_eq!(plan(&ask("REFUSE")).finish, Finish::Refusal);
        assert_eq!(plan(&ask("LONG_UNICODE")).text.chars().count(), 6000 + "LONG[]END".len());
        assert_eq!(plan(&ask("CACHED")).usage.cached, 5);
    }

    #[test]
    fn a_tool_is_called_with_arguments_from_its_schema_or_from_the_prompt() {
        let call = |text: &str| plan(&with_tool(text)).calls.into_iter().next().map(|call| (call.name, call.input));
        assert_eq!(call("CALL_TOOL"), Some(("get_weather".into(), r#"{"city":"Paris"}"#.into())));
        assert_eq!(call(r#"CALL_TOOL:get_weather:{"z": 1, "a": 2} x"#).unwrap().1, r#"{"z": 1, "a": 2}"#);
        assert_eq!(call(r#"CALL_TOOL:get_weather:{\"z\": 1} x"#).unwrap().1, r#"{"z": 1}"#);
        assert_eq!(call("CALL_TOOL:other"), None);
        let parallel = plan(&with_tool("CALL_PARALLEL")).calls;
        assert!(parallel.len() == 2 && parallel[0].id != parallel[1].id, "{parallel:?}");
    }

    #[test]
    fn tool_results_are_read_back_and_a_forced_choice_calls_again() {
        let mut turn = Turn::new(Role::Tool);
        turn.results.push(ToolResult { name: "get_weather".into(), text: "sunny".into() });
        let mut done = with_tool("CALL_TOOL");
        done.turns.push(Turn::new(Role::Assistant));
        done.turns.push(turn);
        assert_eq!(plan(&done).text, "TOOL_RESULT: sunny");
        done.choice = Choice::Named("get_weather".into());
        assert_eq!(plan(&done).finish, Finish::ToolCall);
    }

    #[test]
    fn stop_sequences_and_limits_cut_the_text() {
        let stopped = plan(&Ask { stop: vec!["HALT".into()], ..ask("SAY: one HALT two") });
        assert_eq!((stopped.text.as_str(), stopped.finish), ("one ", Finish::StopSequence));
        let long = plan(&Ask { max_tokens: Some(2), ..ask("COUNT_TO 50") });
        assert_eq!((long.text.as_str(), long.finish), ("1 2 3 4 ", Finish::Length));
    }

    #[test]
    fn pieces_cut_between_characters_and_join_to_the_text() {
        let text = "aé漢👩‍👩‍👧x";
        for size in 1..9 {
            assert_eq!(pieces(text, size).collect::<String>(), text);
        }
        assert_eq!(pieces("", 3).count(), 0);
    }
}
