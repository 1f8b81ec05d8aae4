//! Rules that every request encoder shares: names, ids, arguments, media, results.
//!
//! Deterministic: the same input gives the same name and id in every turn, so that nothing has to be remembered.

use super::{
    WireFormat, compose,
    fields::is_object,
    loss::{Losses, Refusal},
    request::{Block, MediaKind, Opaque, Request, Role, Source, ToolResult},
    text::Text,
};
use std::{borrow::Cow, collections::HashMap};

/// The schema of a function that stands in for a free-text tool.
pub(crate) const FREE_TEXT_SCHEMA: &str =
    r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

/// FNV-1a.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The text itself where it has only letters, digits, `_` and `-` and is short enough; else a likeness of it with a hash,
/// so that different texts stay different.
pub(crate) fn fit(text: &str, max: usize) -> Cow<'_, str> {
    if !text.is_empty() && text.len() <= max && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let keep = max.saturating_sub(9);
    let like: String = text.bytes().take(keep).map(|b| if is_plain(b) { char::from(b) } else { '_' }).collect();
    Cow::Owned(format!("{like}_{:08x}", fnv(text.as_bytes()) as u32))
}

/// An id invented for a call that has none: the same for the same place in the same conversation.
pub(crate) fn invented_id(seed: u64, position: usize) -> String {
    format!("call_s2a{:012x}{position:02}", seed & 0xffff_ffff_ffff)
}

/// Whether an id is one of ours.
pub(crate) fn is_invented(id: &str) -> bool {
    id.starts_with("call_s2a")
}

/// An id in another format's fashion: the part after the first known prefix, behind `prefix`.
pub(crate) fn restyle_id(id: &str, prefix: &str) -> String {
    const KNOWN: [&str; 5] = ["chatcmpl-", "resp_", "msg_", "gen-", "req_"];
    if id.starts_with(prefix) {
        return id.to_owned();
    }
    let rest = KNOWN.iter().find_map(|known| id.strip_prefix(known)).unwrap_or(id);
    [prefix, rest].concat()
}

/// Tool names that had to be changed for the provider, to be changed back in the reply.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    changed: Vec<(String, String)>,
}

impl Names {
    /// The name that the provider is sent.
    pub(crate) fn fit<'n>(&mut self, name: &'n str, max: usize) -> Cow<'n, str> {
        let fitted = fit(name, max);
        if let Cow::Owned(sent) = &fitted
            && !self.changed.iter().any(|(s, _)| s == sent)
        {
            self.changed.push((sent.clone(), name.to_owned()));
        }
        fitted
    }

    /// The same for Gemini, whose names begin with a letter or `_`.
    pub(crate) fn fit_for_gemini<'n>(&mut self, name: &'n str, max: usize) -> Cow<'n, str> {
        if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return self.fit(name, max);
        }
        let marked = format!("_{}", fit(name, max.saturating_sub(1)));
        if !self.changed.iter().any(|(sent, _)| *sent == marked) {
            self.changed.push((marked.clone(), name.to_owned()));
        }
        Cow::Owned(marked)
    }

    /// The name that the client knows.
    pub(crate) fn restore<'n>(&'n self, sent: &'n str) -> &'n str {
        self.changed.iter().find(|(s, _)| s == sent).map_or(sent, |(_, name)| name)
    }
}

/// Call arguments as the text of a JSON object. Models and clients also write nothing, or broken JSON.
pub(crate) fn arguments_object<'t>(arguments: &'t str, losses: &mut Losses) -> Cow<'t, str> {
    let trimmed = arguments.trim();
    if trimmed.is_empty() || trimmed == "null" {
        return Cow::Borrowed("{}");
    }
    if is_object(trimmed) {
        return Cow::Borrowed(trimmed);
    }
    losses.approximated("tool_call.arguments");
    let mut wrapped = Vec::new();
    compose::obj(&mut wrapped, |o| o.str("arguments", arguments));
    Cow::Owned(String::from_utf8(wrapped).unwrap_or_default())
}

/// The arguments of a free-text call as the object that stands in for it.
pub(crate) fn free_text_input(text: &str) -> String {
    let mut out = Vec::new();
    compose::obj(&mut out, |o| o.str("input", text));
    String::from_utf8(out).unwrap_or_default()
}

/// The media type and the base64 text of a `data:` address.
pub(crate) fn data_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let mime = head.strip_suffix(";base64")?;
    Some((mime.split(';').next().unwrap_or(mime), data))
}

/// Parses an address that may hold its data.
pub(crate) fn source_of_url(url: Cow<'_, str>) -> (Cow<'_, str>, Source<'_>) {
    match url {
        Cow::Borrowed(text) => match data_url(text) {
            Some((mime, data)) => (Cow::Borrowed(mime), Source::Base64(Cow::Borrowed(data))),
            None => (Cow::Borrowed(""), Source::Url(Cow::Borrowed(text))),
        },
        Cow::Owned(text) => match data_url(&text) {
            Some((mime, data)) => (Cow::Owned(mime.to_owned()), Source::Base64(Cow::Owned(data.to_owned()))),
            None => (Cow::Borrowed(""), Source::Url(Cow::Owned(text))),
        },
    }
}

/// The media type of base64 data by its first bytes, or of a file by its name; for clients that do not say.
pub(crate) fn mime_of(kind: MediaKind, data: &str, name: &str) -> &'static str {
    const MAGIC: [(&str, &str); 5] = [
        ("iVBOR", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lG", "image/gif"),
        ("UklGR", "image/webp"),
        ("JVBERi", "application/pdf"),
    ];
    const ENDINGS: [(&str, &str); 16] = [
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("gif", "image/gif"),
        ("webp", "image/webp"),
        ("heic", "image/heic"),
        ("pdf", "application/pdf"),
        ("txt", "text/plain"),
        ("md", "text/markdown"),
        ("html", "text/html"),
        ("csv", "text/csv"),
        ("json", "application/json"),
        ("mp3", "audio/mpeg"),
        ("wav", "audio/wav"),
        ("mp4", "video/mp4"),
        ("webm", "video/webm"),
    ];
    if let Some((_, mime)) = MAGIC.iter().find(|(magic, _)| data.starts_with(magic)) {
        return mime;
    }
    let path = name.split(['?', '#']).next().unwrap_or(name);
    let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    match ENDINGS.iter().find(|(known, _)| *known == ending) {
        Some((_, mime)) => mime,
        None => match kind {
            MediaKind::Image => "image/jpeg",
            MediaKind::Document => "application/pdf",
            MediaKind::Audio => "audio/wav",
            MediaKind::Video => "video/mp4",
        },
    }
}

/// What kind of thing a media type is.
pub(crate) fn kind_of_mime(mime: &str) -> MediaKind {
    match mime.split('/').next() {
        Some("image") => MediaKind::Image,
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        _ => MediaKind::Document,
    }
}

/// A tool result's texts, joined; errors are marked, as only Anthropic has a field for them.
pub(crate) fn result_text<'r>(result: &'r ToolResult<'_>) -> Text<'r> {
    if let Some(object) = &result.object {
        return object.text();
    }
    let mut texts = result.content.iter().filter_map(|block| match block {
        Block::Text(text) => Some(text),
        Block::Media(_)
        | Block::ToolCall(_)
        | Block::ToolResult(_)
        | Block::Thinking { .. }
        | Block::Refusal(_)
        | Block::Opaque(_) => None,
    });
    let mut all = texts.next().map(Text::by_ref).unwrap_or_default();
    texts.filter(|more| !more.is_empty()).for_each(|more| all.push(more));
    if result.is_error { Text::from(Cow::Owned(format!("Error: {}", all.read()))) } else { all }
}

/// Refuses what is essential and only the origin can say; the rest becomes a loss.
pub(crate) fn settle_opaque(opaque: &Opaque<'_>, to: WireFormat, losses: &mut Losses) -> Result<(), Refusal> {
    if opaque.essential {
        return Err(Refusal::cannot_carry(&opaque.field, to));
    }
    losses.dropped(opaque.field.clone().into_owned());
    Ok(())
}

fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "image",
        MediaKind::Document => "document",
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

/// The refusal of media that the target cannot take.
pub(crate) fn refuse_media(kind: MediaKind, why: &str, to: WireFormat) -> Refusal {
    let what = kind_name(kind);
    Refusal::new(
        what,
        format!("this {what} cannot be carried to this model, whose provider speaks {}: {why}", to.name()),
    )
}

fn is_empty(block: &Block<'_>) -> bool {
    match block {
        Block::Text(text) => text.is_empty(),
        Block::Refusal(text) => text.is_empty(),
        Block::Media(_) | Block::ToolCall(_) | Block::ToolResult(_) | Block::Thinking { .. } | Block::Opaque(_) => {
            false
        }
    }
}

/// What kind of thing stands there without its data and without an address.
fn bare_media(blocks: &[Block<'_>]) -> Option<MediaKind> {
    blocks.iter().find_map(|block| match block {
        Block::Media(media) => match &media.source {
            Source::Base64(text) | Source::Url(text) | Source::File(text) => text.is_empty().then_some(media.kind),
            Source::Text(_) => None,
        },
        Block::ToolResult(result) => bare_media(&result.content),
        Block::Text(_) | Block::Refusal(_) | Block::ToolCall(_) | Block::Thinking { .. } | Block::Opaque(_) => None,
    })
}

impl<'a> Request<'a> {
    /// Refuses media that nothing is said of: a provider's own words for it would name a field that the client never wrote.
    pub(crate) fn check_media(&self) -> Result<(), Refusal> {
        match self.turns.iter().find_map(|turn| bare_media(&turn.blocks)) {
            None => Ok(()),
            Some(kind) => {
                let what = kind_name(kind);
                Err(Refusal::new(
                    what,
                    format!("there is {what} content without data and without an address: send one of them"),
                ))
            }
        }
    }

    /// Puts a conversation into the shape that every strict provider takes: no empty text, no empty turn, no two turns of
    /// one speaker in a row, tool results first in their turn.
    pub(crate) fn normalise(&mut self) {
        let turns = std::mem::take(&mut self.turns);
        self.turns.reserve(turns.len());
        for mut turn in turns {
            turn.blocks.retain_mut(|block| {
                if let Block::Thinking { text, token: Some(token) } = block {
                    let (said, signature) = token.clone().split_text(std::mem::take(text));
                    (*text, *token) = (said, signature);
                }
                !is_empty(block)
            });
            match self.turns.last_mut() {
                Some(last) if last.role == turn.role => last.blocks.append(&mut turn.blocks),
                _ if turn.blocks.is_empty() => {}
                _ => self.turns.push(turn),
            }
        }
        self.mark_custom_results();
        for turn in &mut self.turns {
            if turn.role == Role::User {
                turn.blocks.sort_by_key(|block| !matches!(block, Block::ToolResult(_)));
            }
        }
    }

    /// Puts the results of each turn into the order of the calls that they answer: Gemini matches them by name and order.
    pub(crate) fn order_results(&mut self) {
        let mut calls: Vec<String> = Vec::new();
        for turn in &mut self.turns {
            match turn.role {
                Role::Assistant => {
                    let id = |block: &Block<'_>| match block {
                        Block::ToolCall(call) => Some(call.id.to_string()),
                        Block::Text(_)
                        | Block::Media(_)
                        | Block::ToolResult(_)
                        | Block::Thinking { .. }
                        | Block::Refusal(_)
                        | Block::Opaque(_) => None,
                    };
                    calls = turn.blocks.iter().filter_map(id).collect();
                }
                Role::User | Role::System => turn.blocks.sort_by_key(|block| match block {
                    Block::ToolResult(result) => calls.iter().position(|id| *id == result.id).unwrap_or(calls.len()),
                    Block::Text(_)
                    | Block::Media(_)
                    | Block::ToolCall(_)
                    | Block::Thinking { .. }
                    | Block::Refusal(_)
                    | Block::Opaque(_) => usize::MAX,
                }),
            }
        }
    }

    /// A result of a free-text call is one itself, which only some formats say.
    fn mark_custom_results(&mut self) {
        let mut custom: Vec<String> = Vec::new();
        for block in self.turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
            match block {
                Block::ToolCall(call) if call.custom => custom.push(call.id.to_string()),
                Block::ToolResult(result) => result.custom |= custom.iter().any(|id| *id == result.id),
                Block::ToolCall(_)
                | Block::Text(_)
                | Block::Media(_)
                | Block::Thinking { .. }
                | Block::Refusal(_)
                | Block::Opaque(_) => {}
            }
        }
    }

    /// Takes the leading system turns out, joined by an empty line.
    pub(crate) fn take_system(&mut self) -> Option<String> {
        let leading = self.turns.iter().take_while(|turn| turn.role == Role::System).count();
        let mut texts: Vec<String> = Vec::new();
        for turn in self.turns.drain(..leading) {
            texts.extend(turn.blocks.into_iter().filter_map(|block| match block {
                Block::Text(text) => Some(text.read().into_owned()),
                Block::Media(_)
                | Block::ToolCall(_)
                | Block::ToolResult(_)
                | Block::Thinking { .. }
                | Block::Refusal(_)
                | Block::Opaque(_) => None,
            }));
        }
        Some(texts.join("\n\n")).filter(|text| !text.is_empty())
    }

    /// Turns system turns in the middle into marked user text.
    pub(crate) fn demote_system(&mut self, losses: &mut Losses) {
        if !self.turns.iter().any(|turn| turn.role == Role::System) {
            return;
        }
        losses.emulated("messages.system");
        let turns = std::mem::take(&mut self.turns);
        for turn in turns {
            for block in turn.blocks {
                match block {
                    Block::Text(text) if turn.role == Role::System => {
                        self.say(
                            Role::User,
                            Block::Text(Text::from(Cow::Owned(format!(
                                "<system-reminder>\n{}\n</system-reminder>",
                                text.read()
                            )))),
                        );
                    }
                    block => {
                        let role = if turn.role == Role::System { Role::User } else { turn.role };
                        self.say(role, block);
                    }
                }
            }
        }
    }

    /// The name of the tool of every call, by the call's id; of two calls with one id the later one's.
    pub(crate) fn names_of_calls(&self) -> HashMap<&str, &str> {
        let mut names = HashMap::new();
        for block in self.turns.iter().flat_map(|turn| &turn.blocks) {
            match block {
                Block::ToolCall(call) => drop(names.insert(&*call.id, &*call.name)),
                Block::Text(_)
                | Block::Media(_)
                | Block::ToolResult(_)
                | Block::Thinking { .. }
                | Block::Refusal(_)
                | Block::Opaque(_) => {}
            }
        }
        names
    }

    /// Whether the conversation ends with words of the assistant, which only Anthropic continues.
    pub(crate) fn is_prefilled(&self) -> bool {
        self.turns.last().is_some_and(|turn| {
            turn.role == Role::Assistant && turn.blocks.iter().any(|b| matches!(b, Block::Text(t) if !t.is_empty()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_changed_back_and_stay_distinct() {
        let mut names = Names::default();
        let a = names.fit("files.read:all", 64).into_owned();
        let b = names.fit("files.read.all", 64).into_owned();
        assert_ne!(a, b);
        assert!(a.bytes().all(is_plain) && a.len() <= 64);
        assert_eq!(names.restore(&a), "files.read:all");
        assert_eq!(names.fit("plain", 64), "plain");
        assert_eq!(names.fit_for_gemini("3d_view", 64), "_3d_view");
        assert_eq!(names.restore("_3d_view"), "3d_view");
        assert_eq!(names.restore("plain"), "plain");
        assert!(fit(&"x".repeat(200), 64).len() <= 64);
    }

    #[test]
    fn arguments_are_always_an_object() {
        let mut losses = Losses::default();
        assert_eq!(arguments_object("", &mut losses), "{}");
        assert_eq!(arguments_object(" {\"a\":1.0}", &mut losses), "{\"a\":1.0}");
        assert!(losses.is_empty());
        assert_eq!(arguments_object("{\"a\":", &mut losses), r#"{"arguments":"{\"a\":"}"#);
        assert!(!losses.is_empty());
    }

    #[test]
    fn data_addresses_are_taken_apart() {
        assert_eq!(data_url("data:image/png;base64,AAAA"), Some(("image/png", "AAAA")));
        assert_eq!(data_url("https://example.org/a.png"), None);
        assert_eq!(mime_of(MediaKind::Image, "", "https://example.org/a.PNG?x=1.pdf"), "image/png");
    }

    #[test]
    fn results_stand_first_and_empty_text_goes() {
        let mut request = Request::default();
        request.say(Role::User, Block::Text(Text::default()));
        request.say(Role::User, Block::Text(Text::from(Cow::Borrowed("hi"))));
        let result = ToolResult {
            id: "1".into(),
            name: "".into(),
            content: vec![],
            object: None,
            is_error: false,
            custom: false,
        };
        request.open_turn(Role::User);
        request.say(Role::User, Block::ToolResult(result));
        request.normalise();
        assert_eq!(request.turns.len(), 1);
        assert!(matches!(request.turns[0].blocks[..], [Block::ToolResult(_), Block::Text(_)]));
    }
}
