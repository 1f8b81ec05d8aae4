//! Reads single facts out of provider JSON, whatever type the provider gave them.
//!
//! A vendor that sends a number as text, or an object where others send a list, must not cost us the facts next to it:
//! none of these types ever fails on a well-formed document, and none allocates unless a string holds escapes.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// A count: any number that is whole and not negative; anything else reads as "not said".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) Option<u64>);

/// A short text, or a number as text; anything else, and the empty text, reads as "not said".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word<'a>(pub(crate) Option<Cow<'a, str>>);

/// Whether there is anything: not null, false, zero, or an empty text, list or object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filled(pub(crate) bool);

/// An object; anything else reads as "not said".
#[derive(Clone, Debug, Default)]
pub(crate) struct Maybe<T>(pub(crate) Option<T>);

/// The objects of a list; a lone object counts as a list of one, anything else as an empty one.
#[derive(Clone, Debug)]
pub(crate) struct Many<T>(pub(crate) Vec<T>);

impl<T> Default for Many<T> {
    fn default() -> Self {
        Many(Vec::new())
    }
}

impl Word<'_> {
    pub(crate) fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    pub(crate) fn owned(&self) -> Option<String> {
        self.as_str().map(str::to_owned)
    }
}

/// A document of at most so many bytes is checked to be UTF-8 as a whole, which is cheaper than each of its texts by itself;
/// a longer one holds long texts that nobody reads.
const MOST_CHECKED: usize = 4 * 1024;

/// Reads a document as an object; `None` if it is a valid document of another kind. Fails on what is no JSON.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<Option<T>, serde_json::Error> {
    // A derived type on its own would take a list for its fields in order.
    let text = if json.len() <= MOST_CHECKED { str::from_utf8(json).ok() } else { None };
    let read = text.map_or_else(|| serde_json::from_slice::<Maybe<T>>(json), serde_json::from_str);
    read.map(|read| read.0)
}

/// The parts of a visitor that are the same for all: what is not of the wanted type reads as the default.
macro_rules! otherwise_default {
    ($($kind:ident)*) => { $( otherwise_default!(@ $kind); )* };
    (@ bool) => { fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> { Ok(Self::Value::default()) } };
    (@ numbers) => {
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
    };
    (@ null) => { fn visit_unit<E>(self) -> Result<Self::Value, E> { Ok(Self::Value::default()) } };
    (@ text) => { fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> { Ok(Self::Value::default()) } };
    (@ list) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
    (@ object) => {
        fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
            while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

macro_rules! expecting_anything {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON value")
        }
    };
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Count;
            expecting_anything!();
            otherwise_default!(bool null text list object);
            fn visit_u64<E>(self, number: u64) -> Result<Count, E> {
                Ok(Count(Some(number)))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(number).ok()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Count, E> {
                Ok(Count(whole(number)))
            }
        }
        input.deserialize_any(Reader)
    }
}

/// A float that stands for a count, saturated at the largest integer.
pub(crate) fn whole(number: f64) -> Option<u64> {
    // The cast saturates, so that an absurdly large figure stays large.
    (number.is_finite() && number >= 0.0 && number.fract() == 0.0).then_some(number as u64)
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Word<'de>;
            expecting_anything!();
            otherwise_default!(bool null list object);
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Word<'de>, E> {
                Ok(Word((!text.is_empty()).then_some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Word<'de>, E> {
                Ok(Word((!text.is_empty()).then(|| Cow::Owned(text.to_owned()))))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Word<'de>, E> {
                Ok(Word(Some(Cow::Owned(number.to_string()))))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Word<'de>, E> {
                Ok(Word(Some(Cow::Owned(number.to_string()))))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Word<'de>, E> {
                Ok(Word(Some(Cow::Owned(number.to_string()))))
            }
        }
        input.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Filled {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Filled;
            expecting_anything!();
            otherwise_default!(null);
            fn visit_bool<E>(self, is: bool) -> Result<Filled, E> {
                Ok(Filled(is))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Filled, E> {
                Ok(Filled(number != 0))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Filled, E> {
                Ok(Filled(number != 0))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Filled, E> {
                Ok(Filled(number != 0.0))
            }
            fn visit_str<E>(self, text: &str) -> Result<Filled, E> {
                Ok(Filled(!text.is_empty()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Filled, A::Error> {
                let mut filled = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    filled = true;
                }
                Ok(Filled(filled))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Filled, A::Error> {
                let mut filled = false;
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    filled = true;
                }
                Ok(Filled(filled))
            }
        }
        input.deserialize_any(Reader)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Maybe<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Option<T>;
            expecting_anything!();
            otherwise_default!(bool numbers null text list);
            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Option<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(object)).map(Some)
            }
        }
        input.deserialize_any(Reader(PhantomData)).map(Maybe)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Vec<T>;
            expecting_anything!();
            otherwise_default!(bool numbers null text);
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(Maybe(item)) = list.next_element()? {
                    all.extend(item);
                }
                Ok(all)
            }
            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Vec<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(object)).map(|item| vec![item])
            }
        }
        input.deserialize_any(Reader(PhantomData)).map(Many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Thing<'a> {
        n: Count,
        #[serde(borrow)]
        w: Word<'a>,
        f: Filled,
    }

    fn read(text: &str) -> Thing<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_count_is_any_whole_number_and_nothing_else() {
        let counts =
            [("7", Some(7)), ("7.0", Some(7)), ("0", Some(0)), ("-1", None), ("1.5", None), ("1e30", Some(u64::MAX))];
        for (text, expected) in counts {
            assert_eq!(read(&format!(r#"{{"n":{text}}}"#)).n.0, expected, "{text}");
        }
        for text in ["null", "true", "\"7\"", "[1]", "{\"a\":[{}]}"] {
            assert_eq!(read(&format!(r#"{{"n":{text}}}"#)).n.0, None, "{text}");
        }
    }

    #[test]
    fn a_word_is_text_or_a_number() {
        assert_eq!(read(r#"{"w":"a\u0062c"}"#).w.as_str(), Some("abc"));
        assert_eq!(read(r#"{"w":401}"#).w.as_str(), Some("401"));
        for text in ["null", "\"\"", "[\"x\"]", "{}", "false"] {
            assert_eq!(read(&format!(r#"{{"w":{text}}}"#)).w.as_str(), None, "{text}");
        }
    }

    #[test]
    fn filled_means_that_something_is_there() {
        for (text, filled) in [
            ("null", false),
            ("\"\"", false),
            ("[]", false),
            ("{}", false),
            ("false", false),
            ("0", false),
            ("\"x\"", true),
            ("[null]", true),
            ("{\"a\":null}", true),
            ("true", true),
            ("0.5", true),
        ] {
            assert_eq!(read(&format!(r#"{{"f":{text}}}"#)).f.0, filled, "{text}");
        }
    }

    #[test]
    fn what_is_not_an_object_does_not_spoil_its_neighbours() {
        #[derive(Deserialize)]
        struct Outer<'a> {
            #[serde(borrow)]
            one: Maybe<Thing<'a>>,
            #[serde(borrow)]
            list: Many<Thing<'a>>,
            n: Count,
        }
        let outer: Outer =
            serde_json::from_str(r#"{"one":[1,{"n":2}],"list":[3,{"n":4},null,{"n":5}],"n":6}"#).unwrap();
        assert!(outer.one.0.is_none());
        assert_eq!(outer.list.0.iter().map(|t| t.n.0).collect::<Vec<_>>(), [Some(4), Some(5)]);
        assert_eq!(outer.n.0, Some(6));
        let lone: Outer = serde_json::from_str(r#"{"one":{"n":1},"list":{"n":2},"n":null}"#).unwrap();
        assert_eq!((lone.one.0.unwrap().n.0, lone.list.0.len(), lone.n.0), (Some(1), 1, None));
    }
}
