//! Reads the `messages` of an Anthropic request: roles, content blocks, tool calls with their results, signatures.

use super::{
    Pending,
    anthropic::{Rules, extra, takes_system_turns},
    given, pointed_at, stranger, strict_base64, text, warn,
};
use crate::mock::{
    ask::{Ask, Image, PastCall, Role, ToolResult, Turn},
    refusal::{Checked, Refusal, ensure},
    seal,
};
use serde_json::{Map, Value};

/// Every content block, with its fields.
#[rustfmt::skip]
const BLOCKS: &[(&str, &[&str])] = &[
    ("text", &["type", "text", "cache_control", "citations"]),
    ("image", &["type", "source", "cache_control"]),
    ("document", &["type", "source", "title", "context", "citations", "cache_control"]),
    ("search_result", &["type", "source", "title", "content", "citations", "cache_control"]),
    ("thinking", &["type", "thinking", "signature"]),
    ("redacted_thinking", &["type", "data"]),
    ("tool_use", &["type", "id", "name", "input", "cache_control", "caller"]),
    ("tool_result", &["type", "tool_use_id", "content", "is_error", "cache_control"]),
    ("server_tool_use", &["type", "id", "name", "input", "cache_control", "caller"]),
    ("web_search_tool_result", &["type", "tool_use_id", "content", "cache_control", "caller"]),
    ("web_fetch_tool_result", &["type", "tool_use_id", "content", "cache_control", "caller"]),
    ("advisor_tool_result", &["type", "tool_use_id", "content", "cache_control"]),
    ("code_execution_tool_result", &["type", "tool_use_id", "content", "cache_control"]),
    ("bash_code_execution_tool_result", &["type", "tool_use_id", "content", "cache_control"]),
    ("text_editor_code_execution_tool_result", &["type", "tool_use_id", "content", "cache_control"]),
    ("tool_search_tool_result", &["type", "tool_use_id", "content", "cache_control"]),
    ("mcp_tool_use", &["type", "id", "name", "server_name", "input", "cache_control"]),
    ("mcp_tool_result", &["type", "tool_use_id", "content", "is_error", "cache_control"]),
    ("tool_reference", &["type", "tool_name", "cache_control"]),
    ("container_upload", &["type", "file_id", "cache_control"]),
    ("compaction", &["type", "content", "encrypted_content", "cache_control"]),
    ("mid_conv_system", &["type", "content", "cache_control"]),
    ("fallback", &["type", "from", "to", "trigger"]),
];

/// How many blocks carry a cache mark; four are allowed.
#[derive(Debug, Default)]
pub(super) struct Marks(usize);

impl Marks {
    /// Counts and checks the mark of a block, if it has one.
    pub(super) fn of(&mut self, block: &Map<String, Value>, at: &str, rules: &Rules) -> Checked<()> {
        given(block, "cache_control").map_or(Ok(()), |mark| self.add(mark, &format!("{at}.cache_control"), rules))
    }

    pub(super) fn add(&mut self, mark: &Value, at: &str, rules: &Rules) -> Checked<()> {
        let fields = mark.as_object().filter(|mark| text(mark, "type") == Some("ephemeral"));
        let fields = fields.ok_or_else(|| Refusal::bad(format!("{at}.type: Input should be 'ephemeral'")))?;
        if let Some(name) = stranger(fields, &["type", "ttl", "scope"]) {
            return Err(extra(&format!("{at}.ephemeral.{name}")));
        }
        let ttl = given(fields, "ttl").is_none_or(|ttl| ttl == "5m" || ttl == "1h");
        ensure!(ttl, Refusal::bad(format!("{at}.ephemeral.ttl: Input should be '5m' or '1h'")));
        let scoped = given(fields, "scope").is_none() || rules.beta.contains("prompt-caching-scope");
        ensure!(scoped, extra(&format!("{at}.ephemeral.scope")));
        self.0 += 1;
        Ok(())
    }

    pub(super) fn check(&self) -> Checked<()> {
        let most = "A maximum of 4 blocks with cache_control may be provided.";
        ensure!(self.0 <= 4, Refusal::bad(format!("{most} Found {}.", self.0)));
        Ok(())
    }
}

/// An element that has to be an object.
pub(super) fn block<'a>(value: &'a Value, at: &str) -> Checked<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| Refusal::bad(format!("{at}: Input should be a valid dictionary")))
}

/// Where the reader is.
struct Reader<'a> {
    rules: &'a Rules<'a>,
    marks: &'a mut Marks,
    pending: Pending,
    /// Whether thinking with a budget is on, which asks for thinking blocks before calls.
    thinks: bool,
    /// The index of the last user turn that is more than tool results.
    last_words: usize,
    count: usize,
    /// Whether the present message has said something, after which no tool result may come.
    spoke: bool,
}

/// A message under its index.
struct Message<'a> {
    at: String,
    index: usize,
    role: Role,
    last: bool,
    content: &'a Value,
}

/// Reads every message into the turns of `ask`.
pub(super) fn read(body: &Map<String, Value>, rules: &Rules, marks: &mut Marks, ask: &mut Ask) -> Checked<()> {
    let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let thinks = body.get("thinking").and_then(|t| t.get("type")).and_then(Value::as_str) == Some("enabled");
    let last_words = messages.iter().rposition(has_words).unwrap_or(0);
    let count = messages.len();
    let mut reader = Reader { rules, marks, pending: Pending::default(), thinks, last_words, count, spoke: false };
    let mut previous = None;
    for (index, value) in messages.iter().enumerate() {
        let at = format!("messages.{index}");
        let fields = block(value, &at)?;
        if text(fields, "role") == Some("system") {
            reader.system(fields, &at, previous, ask)?;
            continue;
        }
        let role = match text(fields, "role") {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            _ => return Err(Refusal::bad(format!("{at}.role: Input should be 'user' or 'assistant'"))),
        };
        if let Some(name) = stranger(fields, &["role", "content"]) {
            return Err(extra(&format!("{at}.{name}")));
        }
        let first = "messages: first message must use the \"user\" role";
        ensure!(index > 0 || role == Role::User, Refusal::bad(first));
        alternation(previous, role, rules, ask, &at)?;
        let content = fields.get("content").filter(|content| !content.is_null());
        let content = content.ok_or_else(|| Refusal::bad(format!("{at}.content: Field required")))?;
        let last = index + 1 == reader.count;
        reader.message(&Message { at, index, role, last, content }, ask)?;
        previous = Some(role);
    }
    let open = reader.pending.ids();
    ensure!(reader.pending.is_empty(), unanswered(count.saturating_sub(1), &open));
    Ok(())
}

/// Whether a message of the user says something itself.
fn has_words(message: &Value) -> bool {
    let by_user = message.get("role").and_then(Value::as_str) == Some("user");
    by_user
        && match message.get("content") {
            Some(Value::Array(blocks)) => {
                blocks.iter().any(|block| block.get("type").and_then(Value::as_str) != Some("tool_result"))
            }
            content => content.is_some(),
        }
}

fn alternation(previous: Option<Role>, role: Role, rules: &Rules, ask: &mut Ask, at: &str) -> Checked<()> {
    if previous != Some(role) {
        return Ok(());
    }
    let name = role.name();
    let message = format!(
        "messages: roles must alternate between \"user\" and \"assistant\", but found multiple \"{name}\" roles in a row"
    );
    ensure!(!rules.options.strict_alternation, Refusal::bad(message));
    warn(ask, format!("{at}: consecutive {name} turns (the real API merges them)"));
    Ok(())
}

fn unanswered(index: usize, ids: &str) -> Refusal {
    Refusal::bad(format!(
        "messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: {ids}. Each \
         `tool_use` block must have a corresponding `tool_result` block in the next message."
    ))
}

impl Reader<'_> {
    /// A system message in mid-conversation, which only some models take, right after a user turn.
    fn system(&mut self, fields: &Map<String, Value>, at: &str, previous: Option<Role>, ask: &mut Ask) -> Checked<()> {
        ensure!(takes_system_turns(&ask.model), Refusal::bad("role 'system' is not supported on this model"));
        let placed = previous == Some(Role::User) && self.pending.is_empty();
        ensure!(placed, Refusal::bad(format!("{at}: a system message must directly follow a user turn")));
        let beta = self.rules.beta;
        let mut known = vec!["role", "content"];
        if beta.contains("mid-conversation-output-config") || beta.contains("per-turn-control") {
            known.push("output_config");
        }
        if beta.contains("mid-conversation-system-clear-at") {
            known.push("clear_at");
        }
        if let Some(name) = stranger(fields, &known) {
            return Err(extra(&format!("{at}.{name}")));
        }
        match fields.get("content") {
            Some(Value::String(text)) => ask.instruct(text),
            Some(Value::Array(blocks)) => {
                for (j, value) in blocks.iter().enumerate() {
                    let at = format!("{at}.content.{j}");
                    let block = block(value, &at)?;
                    let kind = text(block, "type").unwrap_or("null");
                    let tool_change = matches!(kind, "tool_addition" | "tool_removal");
                    let allowed = kind == "text" || tool_change && beta.contains("mid-conversation-tool-changes");
                    let message = format!("{at}: Input tag '{kind}' is not allowed in system messages");
                    ensure!(allowed, Refusal::bad(message));
                    self.marks.of(block, &at, self.rules)?;
                    ask.instruct(text(block, "text").unwrap_or_default());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn message(&mut self, message: &Message, ask: &mut Ask) -> Checked<()> {
        let Message { at, role, last, content, .. } = message;
        let may_be_empty = *role == Role::Assistant && *last;
        let empty = || {
            let rule = "all messages must have non-empty content except for the optional final assistant message";
            Refusal::bad(format!("{at}: {rule}"))
        };
        let mut turn = Turn::new(*role);
        let mut calls = Pending::default();
        self.spoke = false;
        match content {
            Value::String(text) => {
                ensure!(!text.is_empty() || may_be_empty, empty());
                ensure!(!(may_be_empty && text != text.trim_end()), trailing_space());
                turn.texts.push(text.clone());
            }
            Value::Array(blocks) => {
                ensure!(!blocks.is_empty() || may_be_empty, empty());
                for (j, value) in blocks.iter().enumerate() {
                    let at = format!("{at}.content.{j}");
                    self.block(block(value, &at)?, &at, message, (&mut turn, &mut calls))?;
                }
                self.thinks_before_calls(message, blocks, &calls)?;
            }
            _ => return Err(Refusal::bad(format!("{at}.content: Input should be a valid string or list"))),
        }
        let ids = self.pending.ids();
        ensure!(self.pending.is_empty(), unanswered(message.index.saturating_sub(1), &ids));
        self.pending = calls;
        ask.turns.push(turn);
        Ok(())
    }

    /// With a thinking budget, a turn that calls tools has to start with its thinking until the user speaks again.
    fn thinks_before_calls(&self, message: &Message, blocks: &[Value], calls: &Pending) -> Checked<()> {
        let bound = self.thinks && message.role == Role::Assistant && message.index > self.last_words;
        let first = blocks.first().and_then(|block| block.get("type")).and_then(Value::as_str).unwrap_or("null");
        let starts = matches!(first, "thinking" | "redacted_thinking");
        if !bound || starts || calls.is_empty() {
            return Ok(());
        }
        Err(Refusal::bad(format!(
            "{}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{first}`. When `thinking` is enabled, \
             a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and \
             `tool_result` blocks).",
            message.at
        )))
    }

    fn block(
        &mut self,
        block: &Map<String, Value>,
        at: &str,
        message: &Message,
        (turn, calls): (&mut Turn, &mut Pending),
    ) -> Checked<()> {
        let kind = text(block, "type").unwrap_or("null");
        let fields = BLOCKS.iter().find(|(name, _)| *name == kind).map(|(_, fields)| *fields);
        let Some(fields) = fields else {
            let tags: Vec<String> = BLOCKS.iter().map(|(name, _)| format!("'{name}'")).collect();
            let tags = tags.join(", ");
            let message =
                format!("{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags: {tags}");
            return Err(Refusal::bad(message));
        };
        if let Some(name) = stranger(block, fields) {
            return Err(extra(&format!("{at}.{kind}.{name}")));
        }
        self.marks.of(block, at, self.rules)?;
        self.placed(kind, block, at, message)?;
        self.spoke |= kind == "text" || kind == "image";
        match kind {
            "text" => turn.texts.push(said(block, at, message)?),
            "image" => turn.images.push(source(block, at)?),
            "tool_use" => calls.add_call(block, at, turn)?,
            "tool_result" => self.result(block, at, message, turn)?,
            "thinking" => signed(block, at)?,
            _ => {}
        }
        Ok(())
    }

    /// Which side may send which block.
    fn placed(&self, kind: &str, block: &Map<String, Value>, at: &str, message: &Message) -> Checked<()> {
        let by_user = message.role == Role::User;
        let wrong = match kind {
            "image" if !by_user => format!("{at}: image blocks are not allowed in assistant messages"),
            "tool_use" if by_user => format!("{}: `tool_use` blocks can only be in `assistant` messages", message.at),
            "tool_result" if !by_user => format!("{}: `tool_result` blocks can only be in `user` messages", message.at),
            "thinking" | "redacted_thinking" if by_user => {
                format!("{at}: thinking blocks can only be in assistant messages")
            }
            "document" if self.rules.since_2026 && !by_user => {
                format!("{at}: document blocks are not allowed in assistant messages")
            }
            "text" if self.rules.since_2026 && by_user && citations(block) => {
                format!("{at}.text.citations: citations are not allowed in user messages")
            }
            _ => return Ok(()),
        };
        Err(Refusal::bad(wrong))
    }

    fn result(&mut self, block: &Map<String, Value>, at: &str, message: &Message, turn: &mut Turn) -> Checked<()> {
        let id = text(block, "tool_use_id");
        let id = id.ok_or_else(|| Refusal::bad(format!("{at}.tool_result.tool_use_id: Field required")))?;
        let stray = format!(
            "{at}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a \
             corresponding `tool_use` block in the previous message."
        );
        let name = self.pending.take(id).ok_or_else(|| Refusal::bad(stray))?;
        ensure!(!self.spoke, unanswered(message.index, id));
        let mut said = String::new();
        match block.get("content") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => said.push_str(text),
            Some(Value::Array(parts)) => {
                for (q, part) in parts.iter().enumerate() {
                    said.push_str(&self.result_part(part, &format!("{at}.tool_result.content.{q}"), turn)?);
                }
            }
            Some(_) => {
                return Err(Refusal::bad(format!("{at}.tool_result.content: Input should be a valid string or list")));
            }
        }
        turn.results.push(ToolResult { name, text: said });
        Ok(())
    }

    fn result_part(&mut self, part: &Value, at: &str, turn: &mut Turn) -> Checked<String> {
        let part = block(part, at)?;
        let kind = text(part, "type").unwrap_or("null");
        let known = ["text", "image", "document", "search_result", "tool_reference"];
        let message = format!("{at}: Input tag '{kind}' does not match any of the expected tags");
        ensure!(known.contains(&kind), Refusal::bad(message));
        self.marks.of(part, at, self.rules)?;
        if kind == "image" {
            turn.images.push(source(part, at)?);
        }
        Ok(text(part, "text").unwrap_or_default().to_owned())
    }
}

impl Pending {
    fn add_call(&mut self, block: &Map<String, Value>, at: &str, turn: &mut Turn) -> Checked<()> {
        let id = text(block, "id").filter(|id| super::is_tool_name(id, 512));
        let pattern = format!("{at}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'");
        let id = id.ok_or_else(|| Refusal::bad(pattern))?;
        let input = block.get("input").filter(|input| input.is_object());
        let input =
            input.ok_or_else(|| Refusal::bad(format!("{at}.tool_use.input: Input should be a valid dictionary")))?;
        let name = text(block, "name").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Refusal::bad(format!("{at}.tool_use.name: Field required")))?;
        let unique = !turn.calls.iter().any(|call| call.id == id);
        ensure!(unique, Refusal::bad("messages: `tool_use` ids must be unique"));
        turn.calls.push(PastCall { id: id.to_owned(), arguments: input.to_string() });
        self.add(id, name);
        Ok(())
    }
}

fn citations(block: &Map<String, Value>) -> bool {
    given(block, "citations").is_some_and(|c| c.as_array().is_none_or(|list| !list.is_empty()))
}

fn trailing_space() -> Refusal {
    Refusal::bad("messages: final assistant content cannot end with trailing whitespace")
}

fn said(block: &Map<String, Value>, at: &str, message: &Message) -> Checked<String> {
    let said = text(block, "text").ok_or_else(|| Refusal::bad(format!("{at}.text.text: Field required")))?;
    ensure!(!said.is_empty(), Refusal::bad("messages: text content blocks must be non-empty"));
    let blank = "messages: text content blocks must contain non-whitespace text";
    ensure!(!said.trim().is_empty(), Refusal::bad(blank));
    let final_words = message.role == Role::Assistant && message.last;
    ensure!(!final_words || said == said.trim_end(), trailing_space());
    Ok(said.to_owned())
}

/// The source of an image, decoded.
fn source(block: &Map<String, Value>, at: &str) -> Checked<Image> {
    let source = block.get("source").and_then(Value::as_object);
    let kind = source.and_then(|source| text(source, "type")).unwrap_or("null");
    let tags = format!(
        "{at}.source.type: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'base64', 'url', 'file'"
    );
    let source = source.filter(|_| matches!(kind, "base64" | "url" | "file" | "text" | "content"));
    let source = source.ok_or_else(|| Refusal::bad(tags))?;
    if kind != "base64" {
        let pointer = ["url", "file_id", "data"].iter().find_map(|name| text(source, name));
        return Ok(pointed_at(pointer.unwrap_or_default()));
    }
    if let Some(name) = stranger(source, &["type", "media_type", "data"]) {
        return Err(extra(&format!("{at}.source.base64.{name}")));
    }
    let types = ["image/jpeg", "image/png", "image/gif", "image/webp", "application/pdf"];
    let media_type = text(source, "media_type").filter(|media_type| types.contains(media_type));
    let wrong = format!(
        "{at}.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
    );
    let media_type = media_type.ok_or_else(|| Refusal::bad(wrong))?.to_owned();
    let data = text(source, "data").and_then(strict_base64);
    let data = data.ok_or_else(|| Refusal::bad(format!("{at}.source.base64: invalid base64 data")))?;
    Ok(Image { media_type, data })
}

/// Thinking has to come back with the signature it was given; hidden thinking is empty and has a marked one.
fn signed(block: &Map<String, Value>, at: &str) -> Checked<()> {
    let signature = text(block, "signature");
    let signature = signature.ok_or_else(|| Refusal::bad(format!("{at}.thinking.signature: Field required")))?;
    let thinking = text(block, "thinking").unwrap_or_default();
    let hidden = thinking.is_empty() && signature.starts_with("omit");
    let genuine = hidden || signature == seal::signature(thinking);
    ensure!(genuine, Refusal::bad(format!("{at}: Invalid `signature` in `thinking` block")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{Options, refusal::Dialect};
    use serde_json::json;

    fn turns(messages: Value, thinking: bool) -> Checked<Ask> {
        let mut ask = Ask::new(Dialect::Anthropic);
        ask.model = "claude-sonnet-4-5".into();
        let mut body = json!({"messages": messages});
        if thinking {
            body["thinking"] = json!({"type": "enabled", "budget_tokens": 1024});
        }
        let options = Options::default();
        let rules = Rules { beta: "", since_2026: false, options: &options };
        read(body.as_object().unwrap(), &rules, &mut Marks::default(), &mut ask).map(|()| ask)
    }

    fn call() -> Value {
        json!({"type": "tool_use", "id": "t1", "name": "f", "input": {}})
    }

    fn result() -> Value {
        json!({"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "r"}]})
    }

    #[test]
    fn a_tool_turn_with_its_signed_thinking_is_read() {
        let thinking = json!({"type": "thinking", "thinking": "hm", "signature": seal::signature("hm")});
        let history = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": [thinking, call()]},
            {"role": "user", "content": [result(), {"type": "text", "text": "and?"}]}]);
        let ask = turns(history, true).unwrap();
        assert_eq!(ask.turns.last().unwrap().results.first().unwrap().text, "r");
    }

    #[test]
    fn broken_histories_are_refused() {
        let user = json!({"role": "user", "content": "x"});
        let calls = json!({"role": "assistant", "content": [call()]});
        let forged = json!({"type": "thinking", "thinking": "hm", "signature": "AAAA"});
        for (messages, thinking, named) in [
            (json!([{"role": "assistant", "content": "x"}]), false, "first message"),
            (json!([user, calls]), false, "t1"),
            (json!([user, calls, user]), false, "without `tool_result`"),
            (json!([user, {"role": "user", "content": [result()]}]), false, "unexpected `tool_use_id`"),
            (
                json!([user, calls, {"role": "user", "content": [{"type": "text", "text": "x"}, result()]}]),
                false,
                "immediately after",
            ),
            (json!([user, calls, {"role": "user", "content": [result()]}]), true, "Expected `thinking`"),
            (json!([user, {"role": "assistant", "content": [forged]}, user]), false, "signature"),
            (json!([{"role": "user", "content": ""}]), false, "non-empty"),
            (json!([{"role": "user", "content": [{"type": "text", "text": " "}]}]), false, "non-whitespace"),
            (json!([{"role": "user", "content": "x", "name": "y"}]), false, "messages.0.name"),
            (json!([{"role": "system", "content": "x"}]), false, "not supported on this model"),
            (json!([user, {"role": "assistant", "content": "so "}]), false, "trailing whitespace"),
        ] {
            let refusal = turns(messages.clone(), thinking).unwrap_err();
            assert!(refusal.message.contains(named), "{messages}: {refusal:?}");
        }
    }

    #[test]
    fn more_than_four_cache_marks_are_refused() {
        let options = Options::default();
        let rules = Rules { beta: "", since_2026: false, options: &options };
        let mut marks = Marks::default();
        for _ in 0..5 {
            marks.add(&json!({"type": "ephemeral"}), "x", &rules).unwrap();
        }
        assert!(marks.check().unwrap_err().message.contains("Found 5"));
    }
}
