//! Reads single facts out of provider JSON, whatever type the provider gave them.
//!
//! A vendor that sends a number as text, or an object where others send a list, must not cost us the facts next to it:
//! none of these types ever fails on a well-formed document, and none allocates unless a string holds escapes.
//!
//! Each is read in two ways: in place from a document that is as it should be, which is what nearly all are, and by
//! serde, which reads the others and says what is wrong with them. Invariant: what is read in place is what serde reads.

use super::{
    cursor::{Cursor, Escapes},
    fields::Json,
    in_place::{InPlace, in_place},
};
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

/// Reads a document as an object; `None` if it is a valid document of another kind. Fails on what is no JSON.
pub(crate) fn object<'a, T: InPlace<'a> + Deserialize<'a>>(json: &'a [u8]) -> Result<Option<T>, serde_json::Error> {
    let read = in_place(json).map_or_else(|| serde_json::from_slice::<Maybe<T>>(json), Ok);
    read.map(|read| read.0)
}

/// Reads over a value of another kind. Serde looks at one before it drops it, if not into it.
fn pass(json: &mut Cursor<'_>) -> Option<()> {
    match json.peek()? {
        b'"' => json.string()?.said().map(drop),
        b'{' => json.members(|json, _| json.skip()),
        b'-' | b'0'..=b'9' => Count::default().take(json),
        _ => json.skip(),
    }
}

impl<'json> InPlace<'json> for Count {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        if !matches!(json.peek()?, b'-' | b'0'..=b'9') {
            return pass(json);
        }
        *self = match json.count() {
            Some(number) => Count(Some(number)),
            None => serde_json::from_str(json.number()?).ok()?,
        };
        Some(())
    }
}

impl<'json: 'a, 'a> InPlace<'json> for Word<'a> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        match json.peek()? {
            b'"' => *self = Word(Some(json.string()?.said()?).filter(|text| !text.is_empty())),
            b'-' | b'0'..=b'9' => *self = serde_json::from_str(json.number()?).ok()?,
            _ => pass(json)?,
        }
        Some(())
    }
}

impl<'json> InPlace<'json> for Filled {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        let filled = &mut self.0;
        match json.peek()? {
            b'"' => {
                let text = json.string()?;
                *filled = !text.inside.is_empty();
                // Half a surrogate pair is no text.
                if text.escapes == Escapes::Numbers { text.said().map(drop) } else { Some(()) }
            }
            b'{' => json.members(|json, _| {
                *filled = true;
                json.skip()
            }),
            b'[' => json.elements(|json| {
                *filled = true;
                json.skip()
            }),
            b't' => {
                *filled = true;
                json.skip()
            }
            b'f' | b'n' => json.skip(),
            _ => {
                *self = serde_json::from_str(json.number()?).ok()?;
                Some(())
            }
        }
    }
}

impl<'json, T: InPlace<'json>> InPlace<'json> for Maybe<T> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        match json.peek()? {
            b'{' => self.0.insert(T::default()).take(json),
            _ => pass(json),
        }
    }
}

impl<'json, T: InPlace<'json>> InPlace<'json> for Many<T> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        let Many(items) = self;
        let mut item = |json: &mut Cursor<'json>| {
            items.push(T::default());
            items.last_mut()?.take(json)
        };
        match json.peek()? {
            b'{' => item(json),
            b'[' => json.elements(|json| if json.peek()? == b'{' { item(json) } else { pass(json) }),
            _ => pass(json),
        }
    }
}

/// Reads a member beside the answer, by `deserialize_with`: what is of another kind than it should be reads as "not said".
pub(crate) fn soft<'de, D: Deserializer<'de>, T: Deserialize<'de>>(input: D) -> Result<Option<T>, D::Error> {
    Json::deserialize(input).map(|raw| serde_json::from_str(raw.get()).unwrap_or(None))
}

/// Declares what is read of an object: its fields by their keys. What it does not name is read over; a key that it names
/// must not stand there twice.
macro_rules! facts {
    ($(#[$meta:meta])* $vis:vis struct $name:ident $(<$life:lifetime>)? {
        $( $(#[$field_meta:meta])* $key:literal => $field_vis:vis $field:ident : $type:ty ),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        $vis struct $name $(<$life>)? {
            $( $(#[$field_meta])* $field_vis $field: $type, )*
        }

        const _: () = {
            /// Which fields were met.
            #[derive(Default)]
            struct Met { $( $field: bool, )* }

            impl<'json $(: $life, $life)?> $crate::wire::in_place::InPlace<'json> for $name $(<$life>)? {
                fn take(&mut self, json: &mut $crate::wire::cursor::Cursor<'json>) -> Option<()> {
                    let mut met = Met::default();
                    json.members(|json, key| match key.as_bytes() {
                        $( $key => {
                            if std::mem::replace(&mut met.$field, true) {
                                return None;
                            }
                            $crate::wire::in_place::InPlace::take(&mut self.$field, json)
                        } )*
                        _ => json.skip(),
                    })
                }
            }

            impl<'de $(: $life, $life)?> serde::Deserialize<'de> for $name $(<$life>)? {
                fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                    struct Reader<T>(std::marker::PhantomData<T>);
                    impl<'de $(: $life, $life)?> serde::de::Visitor<'de> for Reader<$name $(<$life>)?> {
                        type Value = $name $(<$life>)?;
                        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                            f.write_str("an object")
                        }
                        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                            let (mut read, mut met) = (Self::Value::default(), Met::default());
                            while let Some(key) = object.next_key::<$crate::wire::fields::Str<'de>>()? {
                                match key.as_bytes() {
                                    $( $key => {
                                        if std::mem::replace(&mut met.$field, true) {
                                            return Err(serde::de::Error::custom(format_args!("duplicate field `{}`", &*key)));
                                        }
                                        read.$field = object.next_value()?;
                                    } )*
                                    _ => drop(object.next_value::<serde::de::IgnoredAny>()?),
                                }
                            }
                            Ok(read)
                        }
                    }
                    input.deserialize_map(Reader::<Self>(std::marker::PhantomData))
                }
            }
        };
    };
}
pub(crate) use facts;

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
    use crate::wire::in_place::agree;
    use proptest::prelude::*;
    use serde::Deserialize;

    facts! {
        #[allow(dead_code, reason = "compared as it is shown")]
        struct All<'a> {
            b"n" => n: Count,
            b"w" => w: Word<'a>,
            b"f" => f: Filled,
            b"a" => a: Maybe<Box<All<'a>>>,
            b"l" => l: Many<All<'a>>,
        }
    }

    /// JSON that those fields may meet.
    fn value() -> impl Strategy<Value = String> {
        let number = prop_oneof!["-?[0-9]{1,20}", "-?[0-9]{1,2}\\.[0-9]{1,3}", "[1-9]e[0-9]{1,3}"];
        let text =
            prop_oneof!["\"[ -!#-\\[\\]-~]{0,40}\"", Just(r#""\u00e9\n""#.to_owned()), Just(r#""\ud800""#.to_owned())];
        let leaf = prop_oneof![number, text, "(null|true|false|\"\"|\\[\\]|\\{\\}|0|0\\.0)"];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let key = prop_oneof!["[nwfalx]", Just("\\u006e".to_owned()), Just("\\ud800".to_owned())];
            let object = prop::collection::vec((key, inner.clone()), 0..5).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\" : {value}")).collect();
                format!("{{{}}}", members.join(","))
            });
            let list = prop::collection::vec(inner, 0..4).prop_map(|values| format!("[{}]", values.join(", ")));
            prop_oneof![4 => object, 1 => list]
        })
    }

    proptest! {
        #[test]
        fn in_place_is_read_what_serde_reads(json in value()) {
            agree::<All<'_>>(json.as_bytes());
            // Only what serde refuses is left to it.
            let full = serde_json::from_str::<Maybe<All<'_>>>(&json);
            prop_assert_eq!(in_place::<Maybe<All<'_>>>(json.as_bytes()).is_some(), full.is_ok(), "{}", json);
        }
    }

    #[test]
    fn a_key_that_stands_there_twice_is_refused_by_both() {
        let twice = br#"{"n":1,"x":1,"x":2,"n":2}"#;
        assert!(in_place::<Maybe<All<'_>>>(twice).is_none());
        let fault = object::<All<'_>>(twice).unwrap_err().to_string();
        assert!(fault.starts_with("duplicate field `n` at line 1"), "{fault}");
    }

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
