//! Adds up what a request in the common form weighs.
//!
//! Gathers the texts first and counts them all at once, so that one bound holds for the whole request.

use super::{family::Family, media, vocabulary};
use crate::wire::request::{Block, Effort, OutputFormat, Request, Role, Schema, ToolChoice, Turn};
use std::borrow::Cow;

/// The input tokens of a request.
pub(super) fn request(request: &Request<'_>, family: &Family) -> u64 {
    let mut scale = Scale { family, texts: Vec::new(), schemas: Vec::new(), fixed: family.per_request() };
    let open = open_turn(&request.turns);
    for (at, turn) in request.turns.iter().enumerate() {
        scale.fixed += if turn.role == Role::System { 0 } else { family.per_turn() };
        for block in &turn.blocks {
            scale.block(block, at >= open);
        }
    }
    scale.tools(request);
    if let (OutputFormat::Schema { schema, description, .. }, Some(frame)) = (&request.output, family.answer_schema()) {
        scale.fixed += frame;
        scale.schema(schema.as_ref());
        scale.texts.extend(description.as_deref().map(Cow::Borrowed));
    }
    if request.reasoning.is_some_and(|reasoning| matches!(reasoning.effort, Effort::Budget(1..))) {
        scale.fixed += family.thinking();
    }
    let (texts, schemas) = (vocabulary::count(&scale.texts), vocabulary::count(&scale.schemas));
    family.scaled(texts) + family.scaled_schema(schemas) + scale.fixed
}

/// Where the turn begins that the model is still working on: behind the last word of the user. Providers leave out what
/// was thought before.
fn open_turn(turns: &[Turn<'_>]) -> usize {
    let spoken = |turn: &Turn<'_>| {
        turn.role == Role::User && turn.blocks.iter().any(|block| !matches!(block, Block::ToolResult(_)))
    };
    turns.iter().rposition(spoken).unwrap_or(0)
}

struct Scale<'r, 'f> {
    family: &'f Family,
    texts: Vec<Cow<'r, str>>,
    schemas: Vec<&'r str>,
    fixed: u64,
}

impl<'r> Scale<'r, '_> {
    fn block(&mut self, block: &'r Block<'r>, is_open: bool) {
        match block {
            Block::Text(text) => self.texts.push(text.read()),
            Block::Refusal(text) => self.texts.push(Cow::Borrowed(text)),
            Block::Thinking { text, .. } if is_open => self.texts.push(Cow::Borrowed(text)),
            Block::Thinking { .. } | Block::Opaque(_) => {}
            Block::Media(media) => match media::text(media) {
                Some(text) => self.texts.push(Cow::Borrowed(text)),
                None => self.fixed += media::tokens(media, self.family),
            },
            Block::ToolCall(call) => {
                self.fixed += self.family.per_call();
                self.texts.extend([&*call.name, &*call.arguments].map(Cow::Borrowed));
            }
            Block::ToolResult(result) => {
                self.fixed += self.family.per_call();
                self.texts.extend(result.object.as_ref().map(|object| Cow::Borrowed(object.json())));
                for block in result.content.iter().filter(|_| result.object.is_none()) {
                    self.block(block, is_open);
                }
            }
        }
    }

    fn tools(&mut self, request: &'r Request<'r>) {
        if request.tools.is_empty() {
            return;
        }
        let must_call = match &request.tool_choice {
            Some(ToolChoice::Any | ToolChoice::Named(_)) => true,
            Some(ToolChoice::Allowed { required, .. }) => *required,
            Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Validated { .. }) | None => false,
        };
        self.fixed += self.family.tool_instructions(must_call);
        for tool in &request.tools {
            self.fixed += self.family.per_tool();
            self.texts.push(Cow::Borrowed(&tool.name));
            self.texts.extend(tool.description.as_deref().map(Cow::Borrowed));
            self.schema(tool.schema.as_ref());
        }
    }

    fn schema(&mut self, schema: Option<&Schema<'r>>) {
        self.schemas.extend(schema.map(|schema| match schema {
            Schema::Json(raw) | Schema::Gemini(raw) => raw.get(),
        }));
    }
}
