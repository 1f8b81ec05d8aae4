//! The common request: what two or more formats can say, borrowed from the client's bytes.
//!
//! Holds nothing of a single format except as `Opaque`, which a foreign encoder turns into a loss. Invariant: schemas and
//! tool arguments are the client's own JSON text, never re-ordered, never re-numbered.

use super::{
    answer::Answer,
    fields::{Json, Num},
    replay::ReplayToken,
    text::Text,
};
use std::borrow::Cow;

/// A request in the common form.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request<'a> {
    /// The model in the body; empty where the body names none.
    pub(crate) model: Cow<'a, str>,
    pub(crate) stream: bool,
    /// Whether a chat client asked for usage in the stream.
    pub(crate) stream_usage: bool,
    pub(crate) turns: Vec<Turn<'a>>,
    pub(crate) tools: Vec<Tool<'a>>,
    /// Web search run by the provider.
    pub(crate) web_search: bool,
    pub(crate) tool_choice: Option<ToolChoice<'a>>,
    /// `Some(false)`: at most one tool call at a time.
    pub(crate) parallel_tools: Option<bool>,
    pub(crate) sampling: Sampling<'a>,
    pub(crate) output: OutputFormat<'a>,
    pub(crate) reasoning: Option<Reasoning>,
    pub(crate) verbosity: Option<Cow<'a, str>>,
    pub(crate) user: Option<Cow<'a, str>>,
    /// A string map, as JSON.
    pub(crate) metadata: Option<Json<'a>>,
    pub(crate) tier: Option<Cow<'a, str>>,
    pub(crate) store: Option<bool>,
    pub(crate) cache_key: Option<Cow<'a, str>>,
    /// What only the origin can say.
    pub(crate) opaque: Vec<Opaque<'a>>,
}

/// A field of one format.
#[derive(Clone, Debug)]
pub(crate) struct Opaque<'a> {
    pub(crate) field: Cow<'a, str>,
    /// Whether leaving it out would change what is asked, billed or parsed.
    pub(crate) essential: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
}

/// One turn: consecutive blocks of one speaker.
#[derive(Clone, Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) role: Role,
    pub(crate) blocks: Vec<Block<'a>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Block<'a> {
    Text(Text<'a>),
    Media(Media<'a>),
    ToolCall(ToolCall<'a>),
    ToolResult(ToolResult<'a>),
    /// Reasoning. The text may be empty and still matter, by its token.
    Thinking {
        text: Cow<'a, str>,
        token: Option<ReplayToken<'a>>,
    },
    Refusal(Cow<'a, str>),
    /// A block of one format that no other knows.
    Opaque(Opaque<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaKind {
    Image,
    Document,
    Audio,
    Video,
}

#[derive(Clone, Debug)]
pub(crate) struct Media<'a> {
    pub(crate) kind: MediaKind,
    /// Empty when it is not known.
    pub(crate) mime: Cow<'a, str>,
    pub(crate) source: Source<'a>,
    /// File name or title.
    pub(crate) name: Option<Cow<'a, str>>,
    /// OpenAI's image detail.
    pub(crate) detail: Option<Cow<'a, str>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Source<'a> {
    /// Base64 text.
    Base64(Cow<'a, str>),
    Url(Cow<'a, str>),
    /// The id or address of a file that lies with one provider.
    File(Cow<'a, str>),
    /// A document's plain text.
    Text(Cow<'a, str>),
}

#[derive(Clone, Debug)]
pub(crate) struct ToolCall<'a> {
    pub(crate) id: Cow<'a, str>,
    pub(crate) name: Cow<'a, str>,
    /// JSON text of an object; may be empty or broken, as clients echo what models wrote. Free text for a custom tool.
    pub(crate) arguments: Cow<'a, str>,
    pub(crate) custom: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct ToolResult<'a> {
    pub(crate) id: Cow<'a, str>,
    /// The tool's name where the format says it (Gemini), else empty.
    pub(crate) name: Cow<'a, str>,
    pub(crate) content: Vec<Block<'a>>,
    /// The result as an object where the format holds one (Gemini).
    pub(crate) object: Option<Answer<'a>>,
    pub(crate) is_error: bool,
    pub(crate) custom: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Tool<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) description: Option<Cow<'a, str>>,
    pub(crate) schema: Option<Schema<'a>>,
    pub(crate) strict: Option<bool>,
    pub(crate) custom: bool,
}

/// A JSON schema, in the dialect in which it came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Schema<'a> {
    Json(Json<'a>),
    /// Gemini's subset of OpenAPI: upper-case types, `nullable`, `propertyOrdering`.
    Gemini(Json<'a>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToolChoice<'a> {
    Auto,
    None,
    /// Any tool, but one.
    Any,
    Named(Cow<'a, str>),
    /// Only these; `required` when one must be called.
    Allowed {
        names: Vec<Cow<'a, str>>,
        required: bool,
    },
    /// Gemini's VALIDATED: free to call or not, arguments held to the schema.
    Validated {
        names: Vec<Cow<'a, str>>,
    },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Sampling<'a> {
    pub(crate) max_tokens: Option<u64>,
    pub(crate) temperature: Option<Num>,
    pub(crate) top_p: Option<Num>,
    pub(crate) top_k: Option<Num>,
    pub(crate) stop: Vec<Cow<'a, str>>,
    pub(crate) seed: Option<Num>,
    pub(crate) frequency_penalty: Option<Num>,
    pub(crate) presence_penalty: Option<Num>,
    /// How many answers; 1 is never stored.
    pub(crate) n: Option<u64>,
    pub(crate) logprobs: bool,
    pub(crate) top_logprobs: Option<u64>,
}

impl Sampling<'_> {
    /// How many likely tokens are asked for beside each one; no format gives more than 20.
    pub(crate) fn top_logprobs(&self) -> Option<u64> {
        self.top_logprobs.filter(|n| self.logprobs && *n > 0).map(|n| n.min(20))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) enum OutputFormat<'a> {
    #[default]
    Text,
    Json,
    Schema {
        name: Option<Cow<'a, str>>,
        description: Option<Cow<'a, str>>,
        schema: Option<Schema<'a>>,
        strict: Option<bool>,
    },
}

/// How much the model is to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Reasoning {
    pub(crate) effort: Effort,
    /// Whether the client wants to read the thoughts; `None` when it does not say.
    pub(crate) visible: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Effort {
    /// Switched on, the model decides how much.
    #[default]
    Dynamic,
    Level(Level),
    /// At most so many tokens.
    Budget(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Level {
    const NAMES: [(&'static str, Level); 7] = [
        ("none", Level::None),
        ("minimal", Level::Minimal),
        ("low", Level::Low),
        ("medium", Level::Medium),
        ("high", Level::High),
        ("xhigh", Level::Xhigh),
        ("max", Level::Max),
    ];

    pub(crate) fn parse(name: &str) -> Option<Level> {
        Level::NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, l)| *l)
    }

    pub(crate) fn name(self) -> &'static str {
        Level::NAMES.iter().find(|(_, l)| *l == self).map_or("medium", |(n, _)| n)
    }

    /// The thinking budget that stands for the level, in tokens: translation reference, rule 17. 0 is off.
    pub(crate) fn budget(self) -> u64 {
        match self {
            Level::None => 0,
            Level::Minimal => 1024,
            Level::Low => 2048,
            Level::Medium => 8192,
            Level::High => 16384,
            Level::Xhigh => 32768,
            Level::Max => 65536,
        }
    }

    /// The lowest level whose budget holds so many tokens.
    pub(crate) fn of_budget(tokens: u64) -> Level {
        match tokens {
            0 => Level::None,
            // Anthropic's least budget, 1,024, asks for thoughts; OpenAI's `minimal` gives hardly any.
            1..=512 => Level::Minimal,
            513..=2048 => Level::Low,
            2049..=8192 => Level::Medium,
            8193..=16384 => Level::High,
            16385..=32768 => Level::Xhigh,
            _ => Level::Max,
        }
    }
}

impl Effort {
    /// The effort as a level, `None` when the model decides.
    pub(crate) fn level(self) -> Option<Level> {
        match self {
            Effort::Dynamic => None,
            Effort::Level(level) => Some(level),
            Effort::Budget(tokens) => Some(Level::of_budget(tokens)),
        }
    }

    pub(crate) fn is_off(self) -> bool {
        self.level() == Some(Level::None)
    }
}

impl<'a> Request<'a> {
    /// Adds a block to the speaker's turn, opening one where another spoke last.
    pub(crate) fn say(&mut self, role: Role, block: Block<'a>) {
        match self.turns.last_mut() {
            Some(turn) if turn.role == role => turn.blocks.push(block),
            _ => self.turns.push(Turn { role, blocks: vec![block] }),
        }
    }

    /// Opens a new turn even where the same speaker spoke last.
    pub(crate) fn open_turn(&mut self, role: Role) {
        self.turns.push(Turn { role, blocks: Vec::new() });
    }

    /// Keeps a field that only its own format can say.
    pub(crate) fn opaque(&mut self, field: impl Into<Cow<'a, str>>, essential: bool) {
        self.opaque.push(Opaque { field: field.into(), essential });
    }
}
