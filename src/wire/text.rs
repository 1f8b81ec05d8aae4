//! A text of a request, which is carried as the client escaped it wherever nobody has to read it.
//!
//! Most of a request is text, and to take its escapes out only to put them in again would cost more than all the rest.
//! Invariant: what is carried escaped is the inside of a JSON string that every reader takes: escapes of one letter only.

use super::{
    cursor::{Cursor, Escapes, Quoted},
    fields::Json,
    in_place::{self, InPlace},
    unescape::{is_plain, unescape},
};
use serde::de::{Deserialize, Deserializer, Error as _};
use std::borrow::Cow;

/// A text.
#[derive(Clone, Debug)]
pub(crate) enum Text<'a> {
    /// What it says.
    Plain(Cow<'a, str>),
    /// The inside of a JSON string, in which escapes may be.
    Escaped(&'a str),
}

impl Default for Text<'_> {
    fn default() -> Self {
        Text::Plain(Cow::Borrowed(""))
    }
}

impl<'a> From<Cow<'a, str>> for Text<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Text::Plain(text)
    }
}

impl<'a> Text<'a> {
    /// What it says.
    pub(crate) fn read(&self) -> Cow<'_, str> {
        match self {
            Text::Plain(text) => Cow::Borrowed(text),
            Text::Escaped(inside) => said_by(inside),
        }
    }

    /// The same text, borrowed.
    pub(crate) fn by_ref(&self) -> Text<'_> {
        match self {
            Text::Plain(text) => Text::Plain(Cow::Borrowed(text)),
            Text::Escaped(inside) => Text::Escaped(inside),
        }
    }

    /// Whether it says nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Text::Plain(text) => text.is_empty(),
            Text::Escaped(inside) => inside.is_empty(),
        }
    }

    /// Whether it says nothing but white space.
    pub(crate) fn is_blank(&self) -> bool {
        match self {
            Text::Plain(text) => text.trim().is_empty(),
            // Anything but an escape at its beginning decides at once.
            Text::Escaped(inside) if inside.starts_with(|c: char| c != '\\' && !c.is_whitespace()) => false,
            Text::Escaped(_) => self.read().trim().is_empty(),
        }
    }

    /// Adds another text at the end.
    pub(crate) fn push(&mut self, more: &Text<'_>) {
        let mut all = std::mem::take(self).into_said();
        all.to_mut().push_str(&more.read());
        *self = Text::Plain(all);
    }

    /// What it says, for those who keep it.
    pub(crate) fn into_said(self) -> Cow<'a, str> {
        match self {
            Text::Plain(text) => text,
            Text::Escaped(inside) => said_by(inside),
        }
    }

    /// The text of a JSON string, which may be half of a surrogate pair, and thereby none.
    pub(crate) fn of_quoted(quoted: Quoted<'a>) -> Option<Self> {
        match quoted.escapes {
            Escapes::None | Escapes::Letters => Some(Text::Escaped(quoted.inside)),
            Escapes::Numbers => quoted.said().map(Text::Plain),
        }
    }
}

/// What the inside of a JSON string says.
fn said_by(inside: &str) -> Cow<'_, str> {
    if is_plain(inside) {
        return Cow::Borrowed(inside);
    }
    let mut said = String::with_capacity(inside.len());
    unescape(inside, &mut said);
    Cow::Owned(said)
}

impl<'json: 'a, 'a> InPlace<'json> for Text<'a> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        *self = Text::of_quoted(json.string()?)?;
        Some(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(input)?.get();
        match in_place::in_place(json.as_bytes()) {
            Some(text) => Ok(text),
            // Which says why.
            None => in_place::inside::<String, _>(json).map(|said| Text::Plain(Cow::Owned(said))),
        }
    }
}

/// Text, or a list of parts, or a lone part: where text is the rule.
#[derive(Clone, Debug)]
pub(crate) enum Content<'a, T> {
    Text(Text<'a>),
    Parts(Vec<T>),
}

impl<T> Default for Content<'_, T> {
    fn default() -> Self {
        Content::Text(Text::default())
    }
}

impl<'json: 'a, 'a, T: InPlace<'json>> InPlace<'json> for Content<'a, T> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        *self = match json.peek()? {
            b'"' => Content::Text(Text::of_quoted(json.string()?)?),
            b'[' | b'{' => Content::Parts(in_place::list_or_one(json)?),
            _ => return None,
        };
        Some(())
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Content<'a, T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(input)?.get();
        match json.as_bytes().first() {
            Some(b'"') => in_place::inside(json).map(Content::Text),
            Some(b'{') => in_place::inside(json).map(|part| Content::Parts(vec![part])),
            Some(b'[') => in_place::inside(json).map(Content::Parts),
            _ => Err(D::Error::custom("expected a string or a list of content parts")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::compose;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_text_is_refused() {
        for json in ["1", "null", "[]", r#""\ud800""#, r#""\ud800x""#] {
            assert!(serde_json::from_str::<Text<'_>>(json).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<Content<'_, u8>>("1").is_err());
        assert!(matches!(serde_json::from_str::<Content<'_, u8>>("[1]"), Ok(Content::Parts(parts)) if parts == [1]));
    }

    #[test]
    fn escapes_of_one_letter_stay_as_they_are() {
        let text: Text<'_> = serde_json::from_str(r#""a\n\"b\"\/""#).unwrap();
        assert!(matches!(&text, Text::Escaped(r#"a\n\"b\"\/"#)));
        assert_eq!(text.read(), "a\n\"b\"/");
    }

    proptest! {
        #[test]
        fn a_text_says_the_same_in_both_guises(said in "[ a\u{85}\u{2028}é\n\t\"\\\\\u{1}]{0,12}", more in "[a\n]{0,3}") {
            let json = serde_json::to_string(&said).unwrap();
            let mut text: Text<'_> = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&*text.read(), &said);
            prop_assert_eq!((text.is_empty(), text.is_blank()), (said.is_empty(), said.trim().is_empty()));
            let (mut out, mut plain) = (Vec::new(), Vec::new());
            compose::put_text(&mut out, &text);
            compose::put_str(&mut plain, &said);
            prop_assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8(plain).unwrap());
            text.push(&Text::from(Cow::Borrowed(&*more)));
            prop_assert_eq!(&*text.read(), said + &more);
        }
    }
}
