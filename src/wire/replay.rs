//! Carries what a provider wants back next turn (signatures, encrypted reasoning) through formats without a place for it.
//!
//! Keeps no state: the token travels inside the client's own transcript. Where it hides in each client format:
//! Anthropic in a thinking block's `signature` (or a `redacted_thinking` block's `data`), Responses in a reasoning item's
//! `encrypted_content`, Gemini in `thoughtSignature` (as base64, since it is a byte field there), Chat in
//! `reasoning_details` and, for tool calls of clients that drop unknown fields, at the end of the tool call's id.
//! Invariant: a provider is never handed a token of another format or of another model, and never one of ours unopened.

use super::WireFormat;
use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use memchr::memmem::Finder;
use std::{borrow::Cow, sync::LazyLock};

/// The most bytes of a token that are carried; a longer one is dropped as a loss.
pub(crate) const MAX_TOKEN_BYTES: usize = 1 << 20;
/// The most bytes of a token that are hidden in a tool call's id.
pub(crate) const MAX_ID_TOKEN_BYTES: usize = 4096;

const PREFIX: &str = "s2a1.";
/// How `PREFIX` begins as base64, in both alphabets.
const PREFIX_BASE64: &str = "czJhMS";
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What kind of thing a token is, which decides where its own format takes it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Anthropic: the signature of a thinking block, belonging to the text beside it.
    Signature,
    /// Anthropic: a signature with its text behind it, for places where the text would not come back.
    SignedText,
    /// Anthropic: the data of a redacted thinking block.
    Redacted,
    /// Responses: encrypted reasoning content.
    Encrypted,
    /// Gemini: sat on a thought part.
    OnThought,
    /// Gemini: sat on the function call that follows.
    OnCall,
    /// Gemini: sat on a text part; given back on a part with empty text.
    OnText,
    /// Chat: one element of `reasoning_details`, as JSON.
    Details,
    /// Chat: the `extra_content` of the call that follows, as JSON (Google's endpoint puts a call's signature there).
    CallExtra,
}

impl TokenKind {
    const ALL: [(TokenKind, char); 9] = [
        (TokenKind::Signature, 's'),
        (TokenKind::SignedText, 'x'),
        (TokenKind::Redacted, 'r'),
        (TokenKind::Encrypted, 'e'),
        (TokenKind::OnThought, 'h'),
        (TokenKind::OnCall, 'c'),
        (TokenKind::OnText, 't'),
        (TokenKind::Details, 'd'),
        (TokenKind::CallExtra, 'g'),
    ];

    fn letter(self) -> char {
        TokenKind::ALL.iter().find(|(k, _)| *k == self).map_or('s', |(_, c)| *c)
    }

    /// The format whose providers issue such tokens.
    pub(crate) fn origin(self) -> WireFormat {
        match self {
            TokenKind::Signature | TokenKind::SignedText | TokenKind::Redacted => WireFormat::Anthropic,
            TokenKind::Encrypted => WireFormat::OpenaiResponses,
            TokenKind::OnThought | TokenKind::OnCall | TokenKind::OnText => WireFormat::Gemini,
            TokenKind::Details | TokenKind::CallExtra => WireFormat::OpenaiChat,
        }
    }
}

/// Something opaque that a provider wants back unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplayToken<'a> {
    pub(crate) kind: TokenKind,
    /// A tag of the model that issued it; 0 where it came natively, and so is not checked.
    pub(crate) model: u32,
    pub(crate) data: Cow<'a, str>,
}

impl<'a> ReplayToken<'a> {
    /// A token as its own format carries it.
    pub(crate) fn native(kind: TokenKind, data: Cow<'a, str>) -> Self {
        ReplayToken { kind, model: 0, data }
    }

    pub(crate) fn into_owned(self) -> ReplayToken<'static> {
        ReplayToken { kind: self.kind, model: self.model, data: Cow::Owned(self.data.into_owned()) }
    }

    /// A signature together with the text that it signs.
    pub(crate) fn with_text(&self, text: &str) -> ReplayToken<'static> {
        let data = Cow::Owned(format!("{} {text}", self.data));
        ReplayToken { kind: TokenKind::SignedText, model: self.model, data }
    }

    /// Takes the text out again, where the token holds one; else gives back the text beside it.
    pub(crate) fn split_text<'t>(self, beside: Cow<'t, str>) -> (Cow<'t, str>, ReplayToken<'a>) {
        if self.kind != TokenKind::SignedText {
            return (beside, self);
        }
        let (signature, text) = self.data.split_once(' ').unwrap_or((&self.data, ""));
        let (text, data) = (text.to_owned(), signature.to_owned());
        (Cow::Owned(text), ReplayToken { kind: TokenKind::Signature, model: self.model, data: Cow::Owned(data) })
    }

    /// Whether a provider of this format and model may be given the token.
    pub(crate) fn suits(&self, to: WireFormat, model: &str) -> bool {
        self.kind.origin() == to && (self.model == 0 || self.model == model_tag(model))
    }

    /// Whether it came natively and stays in its own format, where it is given as it is.
    pub(crate) fn is_at_home(&self, format: WireFormat) -> bool {
        self.model == 0 && self.kind.origin() == format
    }

    /// Whether it is longer than what is carried.
    pub(crate) fn is_too_long(&self) -> bool {
        PREFIX.len() + "r00000000.".len() + self.data.len() > MAX_TOKEN_BYTES
    }

    /// The token as text for a foreign format; `None` when it is too long.
    pub(crate) fn seal(&self, model: &str) -> Option<String> {
        let tag = if self.model == 0 { model_tag(model) } else { self.model };
        let sealed = format!("{PREFIX}{}{tag:08x}.{}", self.kind.letter(), self.data);
        Some(sealed).filter(|_| !self.is_too_long())
    }

    /// The token as base64 text, for Gemini's byte field.
    pub(crate) fn seal_base64(&self, model: &str) -> Option<String> {
        self.seal(model).map(|s| base64::engine::general_purpose::STANDARD.encode(s))
    }

    /// Opens a sealed token; `None` when the text is not one of ours.
    pub(crate) fn open(text: &str) -> Option<ReplayToken<'static>> {
        let mut decoded = None;
        if text.starts_with(PREFIX_BASE64) {
            let url_safe = text.replace('+', "-").replace('/', "_");
            decoded = LENIENT.decode(url_safe).ok().and_then(|b| String::from_utf8(b).ok());
        }
        let body = decoded.as_deref().unwrap_or(text).strip_prefix(PREFIX)?;
        let (head, data) = body.split_once('.')?;
        let mut letters = head.chars();
        let letter = letters.next()?;
        let (kind, _) = TokenKind::ALL.iter().find(|(_, c)| *c == letter)?;
        let model = u32::from_str_radix(letters.as_str(), 16).ok()?;
        Some(ReplayToken { kind: *kind, model, data: Cow::Owned(data.to_owned()) })
    }

    /// Reads a field of `kind`'s format: a sealed token of any origin, or else the format's own.
    pub(crate) fn read(kind: TokenKind, text: Cow<'a, str>) -> Self {
        ReplayToken::open(&text).unwrap_or_else(|| ReplayToken::native(kind, text))
    }
}

/// What stands between a tool call's id and the token hidden behind it.
const ID_MARK: &str = "__s2a__";
static MARK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(ID_MARK));

/// The id with the token behind it; `None` when that is too long to be safe.
pub(crate) fn hide_in_id(id: &str, token: &ReplayToken<'_>, model: &str) -> Option<String> {
    let sealed = token.seal_base64(model).filter(|s| s.len() <= MAX_ID_TOKEN_BYTES)?;
    let sealed = sealed.trim_end_matches('=').replace('+', "-").replace('/', "_");
    Some(format!("{id}{ID_MARK}{sealed}"))
}

/// Splits an id into the id that the provider knows and the token hidden behind it.
pub(crate) fn find_in_id(id: Cow<'_, str>) -> (Cow<'_, str>, Option<ReplayToken<'static>>) {
    let Some(at) = MARK.find(id.as_bytes()) else { return (id, None) };
    let token = id.get(at + ID_MARK.len()..).and_then(ReplayToken::open);
    let plain = match id {
        Cow::Borrowed(id) => Cow::Borrowed(id.get(..at).unwrap_or(id)),
        Cow::Owned(mut id) => {
            id.truncate(at);
            Cow::Owned(id)
        }
    };
    (plain, token)
}

/// A short tag of a model name: FNV-1a, never 0.
pub(crate) fn model_tag(model: &str) -> u32 {
    let tag = super::rules::fnv(model.as_bytes());
    ((tag ^ (tag >> 32)) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_every_hiding_place() {
        let token = ReplayToken::native(TokenKind::OnCall, "AY89a19+/d==".into());
        let plain = token.seal("gemini-3").unwrap();
        let base64 = token.seal_base64("gemini-3").unwrap();
        let (id, hidden) = find_in_id(hide_in_id("call_1", &token, "gemini-3").unwrap().into());
        assert_eq!(id, "call_1");
        for opened in [ReplayToken::open(&plain), ReplayToken::open(&base64), hidden] {
            let opened = opened.unwrap();
            assert_eq!((opened.kind, &*opened.data), (TokenKind::OnCall, "AY89a19+/d=="));
            assert!(opened.suits(WireFormat::Gemini, "gemini-3"));
            assert!(!opened.suits(WireFormat::Gemini, "gemini-2"), "a token of another model is not given back");
            assert!(!opened.suits(WireFormat::Anthropic, "gemini-3"));
        }
    }

    #[test]
    fn the_standard_alphabet_is_read_too() {
        let token = ReplayToken::native(TokenKind::Signature, "???>>>~~~".into());
        let sealed = token.seal_base64("m").unwrap().replace('-', "+").replace('_', "/");
        assert_eq!(ReplayToken::open(&sealed).unwrap().data, "???>>>~~~");
    }

    #[test]
    fn foreign_text_is_never_taken_for_a_token() {
        for text in ["", "s2a1.", "s2a1.q00000000.a", "czJhMS", "EqQBCkYIBRgCKkA", "s2a1.szz.a", "s2a1.s"] {
            assert_eq!(ReplayToken::open(text), None, "{text}");
        }
        assert_eq!(ReplayToken::read(TokenKind::Signature, "abc".into()).model, 0);
    }

    #[test]
    fn what_is_too_long_is_not_hidden() {
        let long = ReplayToken::native(TokenKind::OnCall, "x".repeat(MAX_TOKEN_BYTES).into());
        assert_eq!(long.seal("m"), None);
        let medium = ReplayToken::native(TokenKind::OnCall, "x".repeat(MAX_ID_TOKEN_BYTES).into());
        assert_eq!(hide_in_id("call_1", &medium, "m"), None);
    }
}
