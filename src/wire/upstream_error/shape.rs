//! The places in a JSON document where some provider puts a part of its error.

use crate::wire::lenient::{Many, Word};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use std::{borrow::Cow, fmt};

/// A text, or an object that says more; the first element speaks for a list.
#[derive(Debug, Default)]
pub(super) enum Said<'a> {
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Fields(Box<Fields<'a>>),
}

/// What an error object (or the document around it) can hold.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Fields<'a> {
    #[serde(borrow)]
    pub(super) error: Said<'a>,
    #[serde(borrow)]
    pub(super) response: Said<'a>,
    #[serde(borrow)]
    message: Said<'a>,
    #[serde(borrow)]
    detail: Said<'a>,
    #[serde(borrow)]
    msg: Said<'a>,
    #[serde(borrow)]
    errors: Said<'a>,
    #[serde(borrow)]
    title: Said<'a>,
    #[serde(borrow)]
    pub(super) code: Word<'a>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Word<'a>,
    #[serde(borrow)]
    pub(super) status: Word<'a>,
    #[serde(borrow, alias = "statusCode")]
    pub(super) status_code: Word<'a>,
    #[serde(borrow)]
    pub(super) details: Many<Detail<'a>>,
}

/// One of Google's typed details.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Detail<'a> {
    #[serde(borrow)]
    pub(super) reason: Word<'a>,
    #[serde(borrow, rename = "retryDelay")]
    pub(super) retry_delay: Word<'a>,
    #[serde(borrow)]
    violations: Many<Violation<'a>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Violation<'a> {
    #[serde(borrow, rename = "quotaId")]
    quota_id: Word<'a>,
}

impl Fields<'_> {
    /// The text for a person.
    pub(super) fn text(&self) -> Option<&str> {
        [&self.message, &self.error, &self.detail, &self.msg, &self.errors, &self.title]
            .into_iter()
            .find_map(Said::text)
    }
}

impl Said<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Said::Nothing => None,
            Said::Text(text) => Some(text),
            Said::Fields(fields) => fields.text(),
        }
    }
}

impl Detail<'_> {
    /// The first quota that was exceeded.
    pub(super) fn quota(&self) -> Option<&str> {
        self.violations.0.iter().find_map(|v| v.quota_id.as_str())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Said<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Said<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_unit<E>(self) -> Result<Said<'de>, E> {
                Ok(Said::Nothing)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Said<'de>, E> {
                Ok(Said::Nothing)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Said<'de>, E> {
                Ok(Said::Nothing)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Said<'de>, E> {
                Ok(Said::Nothing)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Said<'de>, E> {
                Ok(Said::Nothing)
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Said<'de>, E> {
                Ok(if text.trim().is_empty() { Said::Nothing } else { Said::Text(Cow::Borrowed(text)) })
            }
            fn visit_str<E>(self, text: &str) -> Result<Said<'de>, E> {
                Ok(if text.trim().is_empty() { Said::Nothing } else { Said::Text(Cow::Owned(text.to_owned())) })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Said<'de>, A::Error> {
                let first = list.next_element()?.unwrap_or_default();
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(first)
            }
            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Said<'de>, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(object)).map(|fields| Said::Fields(Box::new(fields)))
            }
        }
        input.deserialize_any(Reader)
    }
}
