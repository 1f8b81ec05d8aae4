//! Reads a document in one walk, straight into the types that serde would fill.
//!
//! Only documents that are as they should be, which is what nearly all are: any other is left to serde, which reads it or
//! says what is wrong with it. Invariant: what is read in place is what serde reads.

use super::{cursor::Cursor, fields::Json, loss::Refusal};
use serde::Deserialize;

/// What can be read in place. `None` leaves the document to serde.
pub(crate) trait InPlace<'json>: Default {
    /// Reads the next value into one that is as it was made.
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()>;
}

/// Reads a document in place.
pub(crate) fn in_place<'a, T: InPlace<'a>>(json: &'a [u8]) -> Option<T> {
    let mut read = T::default();
    fill(&mut read, json)?;
    Some(read)
}

fn fill<'a, T: InPlace<'a>>(read: &mut T, json: &'a [u8]) -> Option<()> {
    let mut cursor = Cursor::new(json)?;
    read.take(&mut cursor)?;
    cursor.end()
}

/// Reads a document in place, or by serde, into a value that is as it was made. Large ones are not moved that way.
pub(crate) fn read<'a, T: InPlace<'a> + Deserialize<'a>>(json: &'a [u8], read: &mut T) -> serde_json::Result<()> {
    if fill(read, json).is_none() {
        *read = serde_json::from_slice(json)?;
    }
    Ok(())
}

/// Reads a request body in place, or by serde, into a value that is as it was made. A refusal says what is wrong, and where.
pub(crate) fn read_request<'a, T: InPlace<'a> + Deserialize<'a>>(json: &'a [u8], read: &mut T) -> Result<(), Refusal> {
    if fill(read, json).is_none() {
        let mut input = serde_json::Deserializer::from_slice(json);
        *read = serde_path_to_error::deserialize(&mut input).map_err(|fault| refusal(&fault))?;
        input.end().map_err(|fault| Refusal::unreadable(&fault))?;
    }
    Ok(())
}

/// Says of a fault what it is and at which member; of one in the JSON itself, in which line.
fn refusal(fault: &Fault) -> Refusal {
    if !fault.inner().is_data() || fault.path().iter().next().is_none() {
        return Refusal::unreadable(fault.inner());
    }
    let (path, what) = located(fault);
    Refusal::new(&*path, format!("`{path}` cannot be read: {what}"))
}

/// Reads a value that was left as it was written.
pub(crate) fn read_inside<'a, T: Deserialize<'a>>(member: &str, json: Json<'a>) -> Result<T, Refusal> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json.get())).map_err(|fault| {
        let (path, what) = located(&fault);
        let path = if path == "." { member.to_owned() } else { format!("{member}.{path}") };
        Refusal::new(&*path, format!("`{path}` cannot be read: {what}"))
    })
}

/// Where in a body something is wrong, and what.
type Fault = serde_path_to_error::Error<serde_json::Error>;

/// Marks the place of a fault inside of a value that is read on its own.
const INSIDE: &str = "inside ";

/// The member at fault, and what is wrong with it.
fn located(fault: &Fault) -> (String, String) {
    let (mut path, said) = (fault.path().to_string(), fault.inner().to_string());
    let what = said.rsplit_once(" at line ").map_or(&*said, |(what, _)| what);
    match what.strip_prefix(INSIDE).and_then(|inside| inside.split_once(": ")) {
        Some((inside, what)) => {
            if !inside.starts_with('[') {
                path.push('.');
            }
            path.push_str(inside);
            (path, what.to_owned())
        }
        None => (path, what.to_owned()),
    }
}

/// Reads a value that stands in another one as it was written. The error of the whole body names the place in both.
pub(crate) fn inside<'de, T: Deserialize<'de>, E: serde::de::Error>(json: &'de str) -> Result<T, E> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json)).map_err(|fault| {
        let (path, what) = located(&fault);
        if path == "." { E::custom(what) } else { E::custom(format_args!("{INSIDE}{path}: {what}")) }
    })
}

impl<'json, T: InPlace<'json>> InPlace<'json> for Option<T> {
    /// A null says nothing.
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        if json.is_null() { Some(()) } else { self.insert(T::default()).take(json) }
    }
}

impl<'json, T: InPlace<'json>> InPlace<'json> for Box<T> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        (**self).take(json)
    }
}

impl<'json, T: InPlace<'json>> InPlace<'json> for Vec<T> {
    fn take(&mut self, json: &mut Cursor<'json>) -> Option<()> {
        json.elements(|json| {
            self.push(T::default());
            self.last_mut()?.take(json)
        })
    }
}

/// Reads a list, or what stands in the place of one as its only element.
pub(crate) fn list_or_one<'json, T: InPlace<'json>>(json: &mut Cursor<'json>) -> Option<Vec<T>> {
    let mut list = Vec::new();
    if json.peek()? == b'[' {
        list.take(json)?;
    } else {
        let mut one = T::default();
        one.take(json)?;
        list.push(one);
    }
    Some(list)
}

impl InPlace<'_> for bool {
    fn take(&mut self, json: &mut Cursor<'_>) -> Option<()> {
        *self = json.flag()?;
        Some(())
    }
}

impl InPlace<'_> for u64 {
    fn take(&mut self, json: &mut Cursor<'_>) -> Option<()> {
        *self = json.count()?;
        Some(())
    }
}

impl InPlace<'_> for f64 {
    fn take(&mut self, json: &mut Cursor<'_>) -> Option<()> {
        *self = match json.count() {
            Some(count) => count as f64,
            None => serde_json::from_str(json.number()?).ok()?,
        };
        Some(())
    }
}

/// In place is read what serde reads, and only from good documents.
#[cfg(test)]
pub(crate) fn agree<'a, T: InPlace<'a> + Deserialize<'a> + std::fmt::Debug>(json: &'a [u8]) {
    if let Some(read) = in_place::<T>(json) {
        let full = serde_json::from_slice::<T>(json);
        assert_eq!(format!("{read:?}"), format!("{:?}", full.unwrap()), "{}", json.escape_ascii());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        fields::{Json, List, Members, Num, Str, TextOr, wire_struct},
        text::{Content, Text},
    };
    use proptest::prelude::*;

    wire_struct! {
        All {
            "s" => s: Str<'a>,
            "t" => t: Text<'a>,
            "c" => c: Content<'a, All<'a>>,
            "o" => o: TextOr<'a, All<'a>>,
            "l" => l: List<Str<'a>>,
            "v" => v: Vec<All<'a>>,
            "b" => b: bool,
            "u" => u: u64,
            "f" => f: f64,
            "n" => n: Num,
            "j" => j: Json<'a>,
            "m" => m: Members<'a>,
            "a" => a: Box<All<'a>>,
        }
    }

    /// JSON that those fields may meet.
    fn value() -> impl Strategy<Value = String> {
        let number = prop_oneof!["-?[0-9]{1,20}", "-?[0-9]{1,2}\\.[0-9]{1,3}", "[1-9]e[0-9]{1,3}"];
        let text = "\"([ a-f\u{e9}\u{85}]{0,9}|\\\\n|\\\\u00e9|\\\\ud83d\\\\ude00|\\\\ud800|\\\\\"){0,4}\"";
        let leaf = prop_oneof![number, text, "true|false|null"];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let member = ("[stcolvbufnjmax]", inner.clone()).prop_map(|(key, value)| format!("\"{key}\" : {value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
                prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",\n"))),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_read_in_place_is_what_serde_reads(json in value(), cut in 0usize..400) {
            agree::<All<'_>>(json.as_bytes());
            agree::<Content<'_, All<'_>>>(json.as_bytes());
            agree::<TextOr<'_, All<'_>>>(json.as_bytes());
            agree::<List<All<'_>>>(json.as_bytes());
            agree::<Option<Members<'_>>>(json.as_bytes());
            prop_assert!(json.len() <= cut || in_place::<All<'_>>(&json.as_bytes()[..cut]).is_none());
        }
    }

    #[test]
    fn good_documents_are_read_without_serde() {
        let json = r#" { "s" : "a\n\u00e9" , "t":"", "c":[{"t":"x"}], "o":{"s":"y"}, "l":"z", "v":[], "b":true, "u":7,
            "n":-0.5, "j":[{}], "m":{"k":null}, "a":{"a":{}}, "more":[1], "none":null, "n":null } "#;
        let read = in_place::<All<'_>>(json.as_bytes()).unwrap();
        assert_eq!(read.extra.len(), 1);
        assert_eq!(read.n.map(|n| n.as_f64()), Some(-0.5));
        agree::<All<'_>>(json.as_bytes());
    }

    #[test]
    fn what_lies_too_deep_is_left_to_serde() {
        let nested = |depth: usize| format!("{}{{}}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert!(in_place::<All<'_>>(nested(50).as_bytes()).is_some());
        assert!(in_place::<All<'_>>(nested(100_000).as_bytes()).is_none());
        assert!(read(nested(100_000).as_bytes(), &mut All::default()).is_err());
    }
}
