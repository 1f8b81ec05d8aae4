//! What a tool answered, where the format holds it in an object (Gemini).
//!
//! Read as text while it is walked over, since other formats want it as text. Invariant: what is no object, and what says
//! more than its result, is carried as the JSON that it is.

use super::{
    cursor::Cursor,
    fields::Json,
    in_place::{InPlace, in_place},
    text::Text,
};
use serde::de::{Deserialize, Deserializer};
use std::borrow::Cow;

/// What a tool answered: an object, as Google wants it, or what a client gives in place of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer<'a> {
    json: Json<'a>,
    /// Empty where it is no object.
    members: Vec<(Cow<'a, str>, Text<'a>)>,
}

impl<'json: 'a, 'a> InPlace<'json> for Answer<'a> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        if json.peek()? != b'{' {
            return self.json.take(json);
        }
        let written = json.written(|json| {
            json.members(|json, key| {
                let value = if json.peek()? == b'"' {
                    Text::of_quoted(json.string()?)?
                } else {
                    Text::from(Cow::Borrowed(json.value()?))
                };
                self.members.push((key.into_text(), value));
                Some(())
            })
        })?;
        self.json = Json(written);
        Some(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Answer<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(input)?;
        Ok(in_place(json.get().as_bytes()).unwrap_or(Answer { json, members: Vec::new() }))
    }
}

impl<'a> Answer<'a> {
    pub(crate) fn is_error(&self) -> bool {
        self.json.get().starts_with("{\"error\"")
    }

    /// As it is written.
    pub(crate) fn json(&self) -> &'a str {
        self.json.get()
    }

    /// As text: its one `result` or `output` member, or an `error`, or the object itself.
    pub(crate) fn text(&self) -> Text<'_> {
        let itself = || Text::from(Cow::Borrowed(self.json()));
        // Some SDKs say the tool's name beside the result, as the part that holds the object already does.
        let (key, text) = match self.members.as_slice() {
            [one] => one,
            [(name, _), content] | [content, (name, _)] if name == "name" && content.0 == "content" => content,
            _ => return itself(),
        };
        match &**key {
            "result" | "output" | "content" => text.by_ref(),
            "error" => Text::from(Cow::Owned(format!("Error: {}", text.read()))),
            _ => itself(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::in_place::agree;

    #[test]
    fn an_answer_is_the_text_of_its_one_result_or_the_json_itself() {
        for (json, text) in [
            (r#"{"result":"a\nb"}"#, "a\nb"),
            (r#" { "output" : {"x": 1} } "#, r#"{"x": 1}"#),
            (r#"{"error":"no"}"#, "Error: no"),
            (r#"{"name":"read","content":"c"}"#, "c"),
            (r#"{"content":[1],"name":"read"}"#, "[1]"),
            (r#"{"result":"a","more":1}"#, r#"{"result":"a","more":1}"#),
            (r#"{"other":"a"}"#, r#"{"other":"a"}"#),
            (r#"{"result":"\ud800"}"#, r#"{"result":"\ud800"}"#),
            ("{}", "{}"),
            ("[1]", "[1]"),
            ("\"plain\"", "\"plain\""),
        ] {
            let read: Answer<'_> = serde_json::from_str(json).unwrap();
            assert_eq!((&*read.text().read(), read.json()), (text, json.trim()), "{json}");
            assert_eq!(read.is_error(), json.starts_with("{\"error\""), "{json}");
            agree::<Answer<'_>>(json.as_bytes());
        }
    }
}
