//! What a request asks for, whichever provider's words it used.
//!
//! The strict readers in `read` make it, `answer` plans from it, the writers in `write` echo from it. It owns its text:
//! this is a test double, and bodies are small or rare.

use super::refusal::Dialect;
use serde_json::Value;

/// A request for an answer, read and found valid.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) dialect: Dialect,
    pub(super) model: String,
    pub(super) system: String,
    pub(super) turns: Vec<Turn>,
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Choice,
    pub(super) parallel: bool,
    /// The JSON schema of structured output.
    pub(super) schema: Option<Value>,
    pub(super) json_mode: bool,
    pub(super) stop: Vec<String>,
    pub(super) max_tokens: Option<u64>,
    pub(super) thinking: Thinking,
    pub(super) stream: bool,
    /// Whether a stream carries a usage chunk (OpenAI chat).
    pub(super) include_usage: bool,
    /// How many choices (OpenAI chat).
    pub(super) choices: u64,
    /// Whether reasoning comes back encrypted (OpenAI Responses).
    pub(super) encrypted: bool,
    /// The input items with references resolved (OpenAI Responses), as they are stored.
    pub(super) items: Vec<Value>,
    pub(super) azure: bool,
    /// The account's key; sealed reasoning is bound to it.
    pub(super) key: String,
    /// The body as it came.
    pub(super) body: Value,
    /// What was odd but is not refused.
    pub(super) warnings: Vec<String>,
}

impl Ask {
    pub(super) fn new(dialect: Dialect) -> Self {
        Ask {
            dialect,
            model: String::new(),
            system: String::new(),
            turns: Vec::new(),
            tools: Vec::new(),
            choice: Choice::Auto,
            parallel: true,
            schema: None,
            json_mode: false,
            stop: Vec::new(),
            max_tokens: None,
            thinking: Thinking::Off,
            stream: false,
            include_usage: false,
            choices: 1,
            encrypted: false,
            items: Vec::new(),
            azure: false,
            key: String::new(),
            body: Value::Null,
            warnings: Vec::new(),
        }
    }

    pub(super) fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    /// Adds instructions on a line of their own.
    pub(super) fn instruct(&mut self, text: &str) {
        if !self.system.is_empty() {
            self.system.push('\n');
        }
        self.system.push_str(text);
    }
}

/// Whether the model thinks, and whether it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    Off,
    /// It thinks, and only a signature or a token count tells.
    Hidden,
    Shown,
}

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Assistant,
    /// A turn of tool results alone (OpenAI).
    Tool,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// One turn of the conversation.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) role: Role,
    pub(super) texts: Vec<String>,
    pub(super) images: Vec<Image>,
    pub(super) calls: Vec<PastCall>,
    pub(super) results: Vec<ToolResult>,
}

impl Turn {
    pub(super) fn new(role: Role) -> Self {
        Turn { role, texts: Vec::new(), images: Vec::new(), calls: Vec::new(), results: Vec::new() }
    }

    pub(super) fn text(&self) -> String {
        self.texts.join("\n")
    }
}

/// An image or document: its media type (`url` for one that is only pointed at) and its bytes.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) media_type: String,
    pub(super) data: Vec<u8>,
}

/// A tool call in the history.
#[derive(Clone, Debug)]
pub(super) struct PastCall {
    pub(super) id: String,
    pub(super) arguments: String,
}

/// A tool's result in the history.
#[derive(Clone, Debug)]
pub(super) struct ToolResult {
    pub(super) name: String,
    pub(super) text: String,
}

/// A tool on offer.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) schema: Value,
    /// Takes free text instead of JSON (OpenAI's custom tools).
    pub(super) custom: bool,
}

/// Whether a tool may, must or must not be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Auto,
    None,
    Any,
    Named(String),
}

/// The mock's token: four characters, rounded up.
pub(super) fn tokens(text: &str) -> u64 {
    let chars = if text.is_ascii() { text.len() } else { text.chars().count() };
    (chars as u64).div_ceil(4)
}

/// OpenAI's reasoning models, which refuse sampling parameters.
pub(super) fn is_reasoning_model(model: &str) -> bool {
    let o_series = ["o1", "o3", "o4"]
        .iter()
        .any(|series| model.strip_prefix(series).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')));
    model.starts_with("gpt-5") || o_series
}

/// Models of the compatible vendors, whose reasoning shows and whose servers take more than OpenAI's.
pub(super) fn is_compatible_model(model: &str) -> bool {
    ["deepseek", "reasoner", "think", "qwen", "glm", "kimi", "orouter"].iter().any(|part| model.contains(part))
}
