//! Puts a member into a request's object in the place of its model, or beside it.
//!
//! All other bytes stay as they came. An object that has the member already keeps the client's own.

use super::{Endpoint, scan};
use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{collections::HashMap, ops::Range};

/// The body with a member of this name and text before its model, which goes unless it is kept. A body without a model,
/// or that is no JSON object, is left alone: the provider will say what is wrong with it.
pub fn put_beside_model(endpoint: &Endpoint, body: &Bytes, (name, text): (&str, &str), keeps_model: bool) -> Bytes {
    let Some(member) = model_member(endpoint, body) else { return body.clone() };
    let (range, new) = match (has_member(body, name), keeps_model) {
        (true, true) => return body.clone(),
        (true, false) => (with_comma(body, member), String::new()),
        (false, true) => (member.start..member.start, format!(r#""{name}":"{text}","#)),
        (false, false) => (member, format!(r#""{name}":"{text}""#)),
    };
    let mut out = Vec::with_capacity(body.len() + new.len());
    out.extend_from_slice(body.get(..range.start).unwrap_or_default());
    out.extend_from_slice(new.as_bytes());
    out.extend_from_slice(body.get(range.end..).unwrap_or_default());
    out.into()
}

/// From the key's quote to the end of its value.
fn model_member(endpoint: &Endpoint, body: &[u8]) -> Option<Range<usize>> {
    let value = scan(endpoint, None, body).ok()?.model_spans.first()?.clone();
    let before = body.get(..value.start)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    // However the key is spelled, there is no quote inside it: none of its letters is one.
    let inside = before.strip_suffix(b"\"")?;
    Some(memchr::memrchr(b'"', inside)?..value.end)
}

/// A member with the comma that parts it from the next one, else from the one before.
fn with_comma(body: &[u8], member: Range<usize>) -> Range<usize> {
    let after = body.get(member.end..).unwrap_or_default();
    let rest = after.trim_ascii_start();
    if rest.first() == Some(&b',') {
        return member.start..member.end + (after.len() - rest.len()) + 1;
    }
    let before = body.get(..member.start).unwrap_or_default().trim_ascii_end();
    let start = before.strip_suffix(b",").map_or(member.start, <[u8]>::len);
    start..member.end
}

fn has_member(body: &[u8], name: &str) -> bool {
    #[derive(Deserialize)]
    struct Members<'a>(#[serde(borrow)] HashMap<std::borrow::Cow<'a, str>, &'a RawValue>);
    memmem::find(body, name.as_bytes()).is_some()
        && serde_json::from_slice::<Members<'_>>(body).is_ok_and(|members| members.0.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(body: &str, keeps_model: bool) -> String {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let out = put_beside_model(&Endpoint::Messages, &body, ("v", "1"), keeps_model);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn the_model_goes_and_every_other_byte_stays() {
        for (body, expected) in [
            (r#"{"model":"m"}"#, r#"{"v":"1"}"#),
            ("{ \"a\":1 ,\n \"model\" :\t\"m\\\"\" , \"b\":[ ]}", "{ \"a\":1 ,\n \"v\":\"1\" , \"b\":[ ]}"),
            (r#"{"mod\u0065l":"m","x":{"v":2}}"#, r#"{"v":"1","x":{"v":2}}"#),
            (r#"{"x":{"model":"no"},"model":"m"}"#, r#"{"x":{"model":"no"},"v":"1"}"#),
        ] {
            assert_eq!(put(body, false), expected, "{body}");
        }
    }

    #[test]
    fn a_member_that_is_there_stays_the_clients() {
        for (body, expected) in [
            (r#"{"v":"2","model":"m"}"#, r#"{"v":"2"}"#),
            (r#"{"model":"m" , "v":"2"}"#, r#"{ "v":"2"}"#),
            (r#"{"a":1, "model":"m","v":"2"}"#, r#"{"a":1, "v":"2"}"#),
        ] {
            assert_eq!(put(body, false), expected, "{body}");
            assert_eq!(put(body, true), body);
        }
    }

    #[test]
    fn it_stands_before_a_model_that_is_kept() {
        assert_eq!(put(r#"{"a":1,"model":"m"}"#, true), r#"{"a":1,"v":"1","model":"m"}"#);
    }

    #[test]
    fn what_has_no_model_is_left_alone() {
        for body in ["", "[]", "{}", r#"{"a":"model"}"#, r#"{"model":5}"#] {
            assert_eq!(put(body, false), body);
        }
    }
}
