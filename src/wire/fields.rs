//! Reads JSON without copying: strings and raw values borrow from the input.
//!
//! Never builds a tree of values. Invariant: a value kept raw is the very text that came.

use super::{
    cursor::Cursor,
    in_place::{InPlace, list_or_one},
};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, marker::PhantomData, ops::Deref};

/// A value as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Json<'a>(pub(crate) &'a str);

impl Default for Json<'_> {
    fn default() -> Self {
        Json("null")
    }
}

impl<'a> Json<'a> {
    pub(crate) fn get(self) -> &'a str {
        self.0
    }
}

impl<'json: 'a, 'a> InPlace<'json> for Json<'a> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        self.0 = json.value()?;
        Some(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        <&'de RawValue>::deserialize(input).map(|raw| Json(raw.get()))
    }
}

/// A JSON string, borrowed from the input where it holds no escape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Str<'a>(pub(crate) Cow<'a, str>);

impl Deref for Str<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'json: 'a, 'a> InPlace<'json> for Str<'a> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        self.0 = json.string()?.said()?;
        Some(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;
        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Str<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(v.to_owned())))
            }
            fn visit_string<E>(self, v: String) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(v)))
            }
        }
        deserializer.deserialize_str(StrVisitor)
    }
}

/// A string where one stands; anything else is read over, as some events reuse a member for another shape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Soft<'a>(pub(crate) Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Soft<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SoftVisitor;
        impl<'de> Visitor<'de> for SoftVisitor {
            type Value = Soft<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Soft<'de>, E> {
                Ok(Soft(Some(Cow::Borrowed(v))))
            }
            fn visit_str<E>(self, v: &str) -> Result<Soft<'de>, E> {
                Ok(Soft(Some(Cow::Owned(v.to_owned()))))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Soft<'de>, E> {
                Ok(Soft(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Soft<'de>, E> {
                Ok(Soft(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Soft<'de>, E> {
                Ok(Soft(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Soft<'de>, E> {
                Ok(Soft(None))
            }
            fn visit_unit<E>(self) -> Result<Soft<'de>, E> {
                Ok(Soft(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Soft<'de>, A::Error> {
                de::IgnoredAny.visit_seq(seq).map(|_| Soft(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Soft<'de>, A::Error> {
                de::IgnoredAny.visit_map(map).map(|_| Soft(None))
            }
        }
        deserializer.deserialize_any(SoftVisitor)
    }
}

/// A list that may also come as a lone element. The first element is kept inline, so that the usual list of one costs
/// no allocation.
#[derive(Clone, Debug)]
pub(crate) struct List<T> {
    first: Option<T>,
    rest: Vec<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List { first: None, rest: Vec::new() }
    }
}

impl<T> List<T> {
    pub(crate) fn push(&mut self, item: T) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.rest.push(item),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(self.rest.iter())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl<T> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;
    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}

impl<'json, T: InPlace<'json>> InPlace<'json> for List<T> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        match json.peek()? {
            b'[' => json.elements(|json| {
                if self.first.is_none() {
                    return self.first.insert(T::default()).take(json);
                }
                self.rest.push(T::default());
                self.rest.last_mut()?.take(json)
            }),
            b'{' | b'"' => self.first.insert(T::default()).take(json),
            _ => None,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
                let mut list = List::default();
                while let Some(item) = seq.next_element()? {
                    list.push(item);
                }
                Ok(list)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<List<T>, A::Error> {
                let only = T::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(List { first: Some(only), rest: Vec::new() })
            }
            fn visit_borrowed_str<E: de::Error>(self, v: &'de str) -> Result<List<T>, E> {
                let only = T::deserialize(de::value::BorrowedStrDeserializer::new(v))?;
                Ok(List { first: Some(only), rest: Vec::new() })
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<List<T>, E> {
                let only = T::deserialize(de::value::StringDeserializer::new(v.to_owned()))?;
                Ok(List { first: Some(only), rest: Vec::new() })
            }
            fn visit_unit<E>(self) -> Result<List<T>, E> {
                Ok(List::default())
            }
        }
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

/// Text, or a list of parts: how most formats write content.
#[derive(Clone, Debug)]
pub(crate) enum TextOr<'a, T> {
    Text(Str<'a>),
    Parts(Vec<T>),
}

impl<T> Default for TextOr<'_, T> {
    fn default() -> Self {
        TextOr::Text(Str::default())
    }
}

impl<'json: 'a, 'a, T: InPlace<'json>> InPlace<'json> for TextOr<'a, T> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        *self = match json.peek()? {
            b'"' => TextOr::Text(Str(json.string()?.said()?)),
            _ => TextOr::Parts(list_or_one(json)?),
        };
        Some(())
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for TextOr<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for TextOrVisitor<T> {
            type Value = TextOr<'de, T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of content parts")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(Str(Cow::Borrowed(v))))
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(Str(Cow::Owned(v.to_owned()))))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut parts = Vec::new();
                while let Some(item) = seq.next_element()? {
                    parts.push(item);
                }
                Ok(TextOr::Parts(parts))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(TextOr::Parts(vec![T::deserialize(de::value::MapAccessDeserializer::new(map))?]))
            }
        }
        deserializer.deserialize_any(TextOrVisitor(PhantomData))
    }
}

/// A number that some clients write as a string.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Num(pub(crate) serde_json::Number);

impl Num {
    pub(crate) fn as_f64(&self) -> f64 {
        self.0.as_f64().unwrap_or(0.0)
    }

    /// The value as a count; a fraction is cut off, a negative number is none.
    pub(crate) fn as_count(&self) -> Option<u64> {
        self.0.as_u64().or_else(|| self.0.as_f64().filter(|f| *f >= 0.0 && *f < 1e15).map(|f| f as u64))
    }
}

impl Default for Num {
    fn default() -> Self {
        Num(0.into())
    }
}

impl InPlace<'_> for Num {
    fn take(&mut self, json: &mut Cursor<'_>) -> Option<()> {
        self.0 = match json.count() {
            Some(count) => count.into(),
            // A number in quotes is left to serde, too.
            None => serde_json::from_str(json.number()?).ok()?,
        };
        Some(())
    }
}

impl<'de> Deserialize<'de> for Num {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumVisitor;
        impl Visitor<'_> for NumVisitor {
            type Value = Num;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_u64<E>(self, v: u64) -> Result<Num, E> {
                Ok(Num(v.into()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Num, E> {
                Ok(Num(v.into()))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Num, E> {
                serde_json::Number::from_f64(v).map(Num).ok_or_else(|| E::custom("not a finite number"))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Num, E> {
                v.trim().parse().map(Num).map_err(|_| E::custom("not a number"))
            }
        }
        deserializer.deserialize_any(NumVisitor)
    }
}

/// An object's members in their order, keys decoded, values raw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Members<'a> {
    pub(crate) fn find(&self, key: &str) -> Option<Json<'a>> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| *v)
    }
}

impl<'json: 'a, 'a> InPlace<'json> for Members<'a> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        json.members(|json, key| {
            self.0.push((key.into_text(), Json(json.value()?)));
            Some(())
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<Str<'de>, Json<'de>>()? {
                    members.push((key.0, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Declares a struct read from a JSON object: every field optional, null the same as absent, unknown members kept in
/// `extra` as they came. Unlike serde's `flatten` it buffers nothing.
macro_rules! wire_struct {
    ($(#[$meta:meta])* $name:ident { $( $($key:literal)|+ => $field:ident : $ty:ty ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name<'a> {
            $( pub(crate) $field: Option<$ty>, )*
            pub(crate) extra: Vec<(std::borrow::Cow<'a, str>, $crate::wire::fields::Json<'a>)>,
        }

        impl<'json: 'a, 'a> $crate::wire::in_place::InPlace<'json> for $name<'a> {
            fn take(&mut self, json: &mut $crate::wire::cursor::Cursor<'json>) -> Option<()> {
                json.members(|json, key| match key.as_bytes() {
                    $( name if $( name == $key.as_bytes() )||+ => $crate::wire::in_place::InPlace::take(&mut self.$field, json), )*
                    _ => {
                        let mut value = $crate::wire::fields::Json::default();
                        $crate::wire::in_place::InPlace::take(&mut value, json)?;
                        if value.get() != "null" {
                            self.extra.push((key.into_text(), value));
                        }
                        Some(())
                    }
                })
            }
        }

        impl<'de: 'a, 'a> serde::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct StructVisitor<'a>(std::marker::PhantomData<&'a ()>);
                impl<'de: 'a, 'a> serde::de::Visitor<'de> for StructVisitor<'a> {
                    type Value = $name<'a>;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name<'a>, A::Error> {
                        let mut read = $name::default();
                        while let Some(key) = map.next_key::<$crate::wire::fields::Str<'de>>()? {
                            match &*key {
                                $( $($key)|+ => if let Some(value) = map.next_value::<Option<$ty>>()? {
                                    read.$field = Some(value);
                                }, )*
                                _ => {
                                    let value = map.next_value::<$crate::wire::fields::Json<'de>>()?;
                                    if value.get() != "null" {
                                        read.extra.push((key.0, value));
                                    }
                                }
                            }
                        }
                        Ok(read)
                    }
                }
                deserializer.deserialize_map(StructVisitor(std::marker::PhantomData))
            }
        }
    };
}
pub(crate) use wire_struct;

/// A string's text where the raw value is one, else the JSON text itself.
pub(crate) fn text_of(json: Json<'_>) -> Cow<'_, str> {
    let mut cursor = Cursor::of(json.get());
    cursor.string().and_then(|text| text.said()).unwrap_or(Cow::Borrowed(json.get()))
}

/// Whether the text is one JSON object.
pub(crate) fn is_object(text: &str) -> bool {
    let mut cursor = Cursor::of(text);
    cursor.peek() == Some(b'{') && cursor.skip().and_then(|()| cursor.end()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_come_as_one_element_and_keeps_the_order() {
        let many: List<u64> = serde_json::from_str("[1,2,3]").unwrap();
        assert_eq!(many.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
        let lone: List<Members<'_>> = serde_json::from_str(r#"{"a":1}"#).unwrap();
        assert_eq!(lone.into_iter().count(), 1);
    }
}
