//! Which conversation a request belongs to.
//!
//! By what the client says of it, else by the part of the request that stays the same from turn to turn: the system prompt,
//! the tools and the first user message. Hashes slices of the body, a few kilobytes of each, and builds no tree: long
//! conversations cost no more than short ones. Hashes are for placing requests only, and are not proof against a client
//! that wants two conversations to look like one: whoever uses them keeps users apart.

use super::{
    WireFormat,
    cursor::Cursor,
    telltale::{Key, key},
};
use std::borrow::Cow;

// What reasoning has that is signed or encrypted.
static SIGNATURE: Key = key!("signature");
static REDACTED: Key = key!("redacted_thinking");
static ENCRYPTED: Key = key!("encrypted_content");
static THOUGHT: Key = key!("thoughtSignature");
static THOUGHT_TOO: Key = key!("thought_signature");
static DETAILS: Key = key!("reasoning_details");

/// What a request says about its conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The session that the body names.
    pub session: Option<u64>,
    /// The part that stays the same from turn to turn.
    pub prefix: Option<u64>,
    /// The earlier response that it continues, which only the account that made it knows.
    pub previous: Option<u64>,
    /// Whether it holds what the account that made it can read best: signed or encrypted reasoning.
    pub is_bound: bool,
}

/// The values of a body that tell its conversation, as they stand there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns<'a> {
    /// `messages`, `input` or `contents`.
    pub(super) turns: Option<&'a str>,
    /// `system`, `instructions` or `systemInstruction`.
    pub(super) system: Option<&'a str>,
    pub(super) tools: Option<&'a str>,
    pub(super) metadata: Option<&'a str>,
    /// `prompt_cache_key` or `cachedContent`.
    pub(super) cache_key: Option<&'a str>,
    pub(super) previous_response_id: Option<&'a str>,
    pub(super) conversation: Option<&'a str>,
}

/// So much of a value is hashed at its beginning, and as much at its end.
const HASHED_BYTES: usize = 4_096;
/// So many turns are looked at for the first one of the user.
const MOST_LEADING_TURNS: usize = 16;
/// So much of the turns is searched, from the end, for reasoning that an account has signed: the last answer has it.
const SEARCHED_BYTES: usize = 32_768;

impl Conversation {
    /// Reads it out of a body's values.
    pub(super) fn of(format: WireFormat, turns: &Turns<'_>) -> Conversation {
        Conversation {
            session: session(turns),
            prefix: prefix(turns),
            previous: turns.previous_response_id.and_then(text).map(|id| hash_of(id.as_bytes())),
            is_bound: turns.turns.is_some_and(|turns| is_bound(format, turns)),
        }
    }
}

/// The hash of a session's name, wherever it stands.
pub fn hash_of(name: &[u8]) -> u64 {
    let mut hash = Hash::default();
    hash.add(name);
    hash.end()
}

/// One hash of several.
pub fn joined(hashes: &[u64]) -> u64 {
    let mut hash = Hash::default();
    hashes.iter().for_each(|part| hash.fold(*part));
    hash.end()
}

fn session(turns: &Turns<'_>) -> Option<u64> {
    let conversation = || {
        let value = turns.conversation?;
        text(value).or_else(|| field(value, "id").and_then(text))
    };
    let named = turns.cache_key.and_then(text).or_else(conversation);
    if let Some(name) = named.filter(|name| !name.is_empty()) {
        return Some(hash_of(name.as_bytes()));
    }
    let user = text(field(turns.metadata?, "user_id")?)?;
    // Claude Code writes its session into the user's id: as JSON today, at the end of a longer name earlier.
    if let Some(id) = field_inside(&user, "session_id").and_then(text) {
        return Some(hash_of(id.as_bytes()));
    }
    user.split_once("_session_").map(|(_, id)| hash_of(id.as_bytes()))
}

/// `None` where there is no turn of a user to tell one conversation from another.
fn prefix(turns: &Turns<'_>) -> Option<u64> {
    let mut hash = Hash::default();
    for part in [turns.system, turns.tools] {
        hash.part(part.unwrap_or_default().as_bytes());
    }
    let all = turns.turns?;
    if all.starts_with("\"") {
        hash.part(all.as_bytes());
        return Some(hash.end());
    }
    let (mut left, mut found) = (MOST_LEADING_TURNS, false);
    // Reading stops behind the first turn of the user.
    Cursor::again(all).elements(|cursor| {
        left = left.checked_sub(1)?;
        if cursor.peek()? != b'{' {
            return cursor.skip();
        }
        found = add_turn(&mut hash, cursor)?;
        (!found).then_some(())
    });
    found.then(|| hash.end())
}

/// Hashes a turn; whether it is the user's.
fn add_turn(hash: &mut Hash, cursor: &mut Cursor<'_>) -> Option<bool> {
    let (mut role, mut content) = (None, None);
    cursor.members(|cursor, name| {
        let place = match name.as_bytes() {
            b"role" => &mut role,
            b"content" | b"parts" => &mut content,
            _ => return cursor.skip(),
        };
        // Which one counts, were there two, is for the provider to say.
        place.replace(cursor.value()?).is_none().then_some(())
    })?;
    let said = |value: Option<_>| value.filter(|value| *value != "null");
    let role = said(role).unwrap_or("\"user\"");
    let role = role.strip_prefix("\"").and_then(|role| role.strip_suffix("\"")).unwrap_or(role);
    hash.part(role.as_bytes());
    if let Some(content) = said(content) {
        add_content(hash, content);
    }
    Some(role == "user")
}

/// Clients move `cache_control` on from turn to turn: it is left out of a turn's blocks.
fn add_content(hash: &mut Hash, content: &str) {
    let mut with_blocks = *hash;
    let blocks = Cursor::again(content).elements(|cursor| {
        if cursor.peek()? != b'{' {
            return cursor.skip();
        }
        cursor.members(|cursor, name| {
            let value = cursor.value()?;
            if name.as_bytes() != b"cache_control" {
                with_blocks.part(name.as_bytes());
                with_blocks.part(value.as_bytes());
            }
            Some(())
        })
    });
    match blocks {
        Some(()) => *hash = with_blocks,
        None => hash.part(content.as_bytes()),
    }
}

fn is_bound(format: WireFormat, turns: &str) -> bool {
    let tail = turns.get(turns.len().saturating_sub(SEARCHED_BYTES)..).unwrap_or(turns);
    let marks: &[&Key] = match format {
        WireFormat::Anthropic => &[&SIGNATURE, &REDACTED],
        WireFormat::OpenaiResponses => &[&ENCRYPTED],
        WireFormat::Gemini => &[&THOUGHT, &THOUGHT_TOO],
        WireFormat::OpenaiChat => &[&DETAILS],
    };
    marks.iter().any(|mark| mark.stands_in(tail.as_bytes()))
}

fn text(value: &str) -> Option<Cow<'_, str>> {
    Cursor::again(value).string()?.said()
}

/// A field of an object that stands in a text.
fn field_inside<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut cursor = Cursor::new(text.as_bytes())?;
    let found = find(&mut cursor, name)?;
    cursor.end().and(found)
}

/// One field of an object.
fn field<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    find(&mut Cursor::again(object), name)?
}

/// Walks over an object, looking for a field.
fn find<'a>(cursor: &mut Cursor<'a>, name: &str) -> Option<Option<&'a str>> {
    let mut found = None;
    cursor.members(|cursor, key| {
        let value = cursor.value()?;
        if key.as_bytes() == name.as_bytes() && found.is_none() {
            found = Some(value);
        }
        Some(())
    })?;
    Some(found)
}

/// A quick hash: sixteen bytes at a time, folded by a wide product.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Hash(0x9E37_79B9_7F4A_7C15)
    }
}

impl Hash {
    /// A part, apart from the one before it: its length, its beginning and its end.
    fn part(&mut self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        if bytes.len() <= 2 * HASHED_BYTES {
            return self.add(bytes);
        }
        self.add(bytes.get(..HASHED_BYTES).unwrap_or_default());
        self.add(bytes.get(bytes.len() - HASHED_BYTES..).unwrap_or_default());
    }

    fn add(&mut self, bytes: &[u8]) {
        let (pairs, rest) = bytes.as_chunks::<16>();
        pairs.iter().for_each(|pair| self.fold_pair(u128::from_le_bytes(*pair)));
        let mut last = [0; 16];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.fold_pair(u128::from_le_bytes(last));
        self.fold(rest.len() as u64);
    }

    fn fold(&mut self, word: u64) {
        self.fold_pair(u128::from(word));
    }

    fn fold_pair(&mut self, pair: u128) {
        let (one, other) = (self.0 ^ pair as u64, 0xA076_1D64_78BD_642F ^ (pair >> 64) as u64);
        let product = u128::from(one) * u128::from(other);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn end(mut self) -> u64 {
        self.fold(0x8EBC_6AF0_9C88_C6E3);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::{
        Endpoint,
        conversation::{Conversation, hash_of},
        envelope::scan,
    };

    fn read(endpoint: &Endpoint, body: &str) -> Conversation {
        scan(endpoint, None, body.as_bytes()).unwrap().conversation
    }

    fn messages(body: &str) -> Conversation {
        read(&Endpoint::Messages, &format!(r#"{{"model":"m",{body}}}"#))
    }

    #[test]
    fn later_turns_of_a_conversation_have_the_prefix_of_its_first_in_every_format() {
        let stream = Endpoint::StreamGenerateContent { sse: true };
        for (endpoint, head, first, more, close) in [
            (
                Endpoint::Messages,
                r#"{"model":"m","system":"s","tools":[{"name":"t"}],"messages":["#,
                r#"{"role":"user","content":"hi"}"#,
                r#",{"role":"assistant","content":"yo"},{"role":"user","content":"b"}"#,
                "]}",
            ),
            (
                Endpoint::ChatCompletions,
                r#"{"model":"m","messages":[{"role":"system","content":"s"},"#,
                r#"{"role":"user","content":[{"type":"text","text":"hi"}]}"#,
                r#",{"role":"assistant","content":"yo"},{"role":"user","content":"b"}"#,
                "]}",
            ),
            (
                Endpoint::Responses,
                r#"{"model":"m","instructions":"s","input":["#,
                r#"{"role":"user","content":"hi"}"#,
                r#",{"type":"message","role":"assistant","content":[]},{"role":"user","content":"b"}"#,
                "]}",
            ),
            (
                stream,
                r#"{"systemInstruction":{"parts":[{"text":"s"}]},"contents":["#,
                r#"{"role":"user","parts":[{"text":"hi"}]}"#,
                r#",{"role":"model","parts":[]},{"role":"user","parts":[]}"#,
                "]}",
            ),
        ] {
            let one = read(&endpoint, &format!("{head}{first}{close}")).prefix;
            assert!(one.is_some());
            assert_eq!(read(&endpoint, &format!("{head}{first}{more}{close}")).prefix, one, "{endpoint:?}");
            let other = first.replace("hi", "ho");
            assert_ne!(read(&endpoint, &format!("{head}{other}{more}{close}")).prefix, one, "{endpoint:?}");
        }
    }

    #[test]
    fn system_tools_and_the_first_user_message_all_tell_conversations_apart() {
        let base =
            messages(r#""system":"s","tools":[{"name":"t"}],"messages":[{"role":"user","content":"hi"}]"#).prefix;
        for other in [
            r#""system":"z","tools":[{"name":"t"}],"messages":[{"role":"user","content":"hi"}]"#,
            r#""system":"s","tools":[{"name":"u"}],"messages":[{"role":"user","content":"hi"}]"#,
            r#""system":"s","tools":[{"name":"t"}],"messages":[{"role":"user","content":"ho"}]"#,
            r#""tools":[{"name":"t"}],"messages":[{"role":"user","content":"hi"}]"#,
        ] {
            assert_ne!(messages(other).prefix, base, "{other}");
        }
    }

    #[test]
    fn a_cache_mark_that_moves_on_does_not_change_the_prefix() {
        let marked = r#""messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}]}]"#;
        let moved = r#""messages":[{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":"x"}]"#;
        assert_eq!(messages(marked).prefix, messages(moved).prefix);
    }

    #[test]
    fn sessions_are_read_from_the_fields_that_clients_name_them_in() {
        let session = Some(hash_of(b"abc-1"));
        let quoted = r#"{\"device_id\":\"d\",\"account_uuid\":\"\",\"session_id\":\"abc-1\"}"#;
        for (endpoint, fields) in [
            (Endpoint::Messages, format!(r#""metadata":{{"user_id":"{quoted}"}}"#)),
            (Endpoint::Messages, r#""metadata":{"user_id":"user_0f_account__session_abc-1"}"#.to_owned()),
            (Endpoint::Responses, r#""prompt_cache_key":"abc-1""#.to_owned()),
            (Endpoint::Responses, r#""conversation":"abc-1""#.to_owned()),
            (Endpoint::Responses, r#""conversation":{"id":"abc-1"}"#.to_owned()),
            (Endpoint::ChatCompletions, r#""prompt_cache_key":"abc-1""#.to_owned()),
            (Endpoint::GenerateContent, r#""cachedContent":"abc-1""#.to_owned()),
        ] {
            assert_eq!(read(&endpoint, &format!(r#"{{"model":"m",{fields}}}"#)).session, session, "{fields}");
        }
        assert_eq!(messages(r#""metadata":{"user_id":"alice"}"#).session, None, "a user is not a session");
        let previous =
            read(&Endpoint::Responses, r#"{"model":"m","previous_response_id":"resp_1","input":"x"}"#).previous;
        assert_eq!(previous, Some(hash_of(b"resp_1")));
    }

    #[test]
    fn signed_and_encrypted_reasoning_binds_a_conversation() {
        let signed =
            r#""messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"c2ln"}]}]"#;
        assert!(messages(signed).is_bound);
        assert!(!messages(r#""messages":[{"role":"user","content":"my \"signature\" is x"}]"#).is_bound);
        let sealed = r#"{"model":"m","input":[{"type":"reasoning","encrypted_content":"gAAA"}]}"#;
        assert!(read(&Endpoint::Responses, sealed).is_bound);
        let thought = r#"{"contents":[{"role":"model","parts":[{"functionCall":{},"thoughtSignature":"a"}]}]}"#;
        assert!(read(&Endpoint::GenerateContent, thought).is_bound);
    }

    #[test]
    fn calls_without_turns_and_odd_bodies_have_no_conversation() {
        let embeddings = read(&Endpoint::Embeddings, r#"{"model":"m","input":"text"}"#);
        assert_eq!(embeddings, Conversation::default());
        for odd in [
            r#""messages":[]"#,
            r#""messages":7"#,
            r#""messages":[7,null]"#,
            r#""metadata":7"#,
            r#""metadata":{"user_id":5}"#,
        ] {
            assert_eq!(messages(odd), Conversation::default(), "{odd}");
        }
    }

    #[test]
    fn a_name_is_another_one_whatever_differs_in_it() {
        let names: Vec<_> = (0..40).map(|n| "x".repeat(n)).collect();
        let hashes: std::collections::HashSet<_> = names.iter().map(|name| hash_of(name.as_bytes())).collect();
        assert_eq!(hashes.len(), names.len());
    }
}
