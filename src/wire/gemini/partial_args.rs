//! Puts a function call together whose arguments Gemini streams value by value, each with its path.
//!
//! Bounded in depth and in size; a path that makes no sense is read over.

use crate::wire::{
    compose,
    fields::{Json, Str, wire_struct},
};

const MAX_DEPTH: usize = 32;
const MAX_INDEX: usize = 10_000;
/// What a value counts for beside its text.
const NODE_BYTES: usize = 64;

wire_struct! {
    /// One value, or a piece of a string.
    PartialIn {
        "jsonPath" => path: Str<'a>,
        "stringValue" => string: Str<'a>,
        "numberValue" => number: Json<'a>,
        "boolValue" => boolean: Json<'a>,
        "nullValue" => null: Json<'a>,
    }
}

/// A JSON value that grows.
#[derive(Debug, Default)]
pub(crate) enum Node {
    #[default]
    Null,
    Text(String),
    /// A number or a truth value.
    Plain(String),
    Object(Vec<(String, Node)>),
    Array(Vec<Node>),
}

impl Node {
    /// Takes one piece in, and takes what it amounts to from `room`; at 0 not all of it is there.
    pub(crate) fn take(&mut self, piece: &PartialIn<'_>, room: &mut usize) {
        let path = piece.path.as_deref().unwrap_or_default();
        let Some(place) = self.place(path.strip_prefix('$').unwrap_or(path), 0, room) else { return };
        let plain = piece.number.or(piece.boolean).map_or(0, |plain| plain.get().len());
        *room = room.saturating_sub(piece.string.as_deref().map_or(plain, str::len));
        if *room == 0 {
            return;
        }
        if let Some(text) = piece.string.as_deref() {
            match place {
                Node::Text(known) => known.push_str(text),
                Node::Null | Node::Plain(_) | Node::Object(_) | Node::Array(_) => *place = Node::Text(text.to_owned()),
            }
        } else if let Some(plain) = piece.number.or(piece.boolean) {
            *place = Node::Plain(plain.get().to_owned());
        }
    }

    /// The place that a path such as `.a[0].b` or `['a']` names, made if it is not there.
    fn place(&mut self, path: &str, depth: usize, room: &mut usize) -> Option<&mut Node> {
        if depth > MAX_DEPTH {
            return None;
        }
        if path.is_empty() {
            return Some(self);
        }
        let (key, rest) = match path.strip_prefix('.') {
            Some(path) => path.split_at(path.find(['.', '[']).unwrap_or(path.len())),
            None => path.strip_prefix('[')?.split_once(']')?,
        };
        if let Ok(index) = key.parse::<usize>() {
            if !matches!(self, Node::Array(_)) {
                *self = Node::Array(Vec::new());
            }
            let Node::Array(items) = self else { return None };
            if index >= items.len() && index <= MAX_INDEX {
                *room = room.saturating_sub((index + 1 - items.len()) * NODE_BYTES);
                if *room == 0 {
                    return None;
                }
                items.resize_with(index + 1, Node::default);
            }
            return items.get_mut(index)?.place(rest, depth + 1, room);
        }
        let key = key.trim_matches(['\'', '"']);
        if !matches!(self, Node::Object(_)) {
            *self = Node::Object(Vec::new());
        }
        let Node::Object(members) = self else { return None };
        let at = match members.iter().position(|(known, _)| known == key) {
            Some(at) => at,
            None => {
                *room = room.saturating_sub(key.len() + NODE_BYTES);
                if *room == 0 {
                    return None;
                }
                members.push((key.to_owned(), Node::Null));
                members.len() - 1
            }
        };
        members.get_mut(at)?.1.place(rest, depth + 1, room)
    }

    /// Writes the value.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Node::Null => out.extend_from_slice(b"null"),
            Node::Text(text) => compose::put_str(out, text),
            Node::Plain(plain) => compose::put_raw(out, plain),
            Node::Object(members) => {
                compose::obj(out, |o| members.iter().for_each(|(key, node)| node.put(o.any_key(key))))
            }
            Node::Array(items) => compose::arr(out, |a| items.iter().for_each(|node| node.put(a.item()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_one_object() {
        let mut node = Node::Object(Vec::new());
        for piece in [
            r#"{"jsonPath":"$.city","stringValue":"Bos","willContinue":true}"#,
            r#"{"jsonPath":"$.city","stringValue":"ton"}"#,
            r#"{"jsonPath":"$.days[1].n","numberValue":2}"#,
            r#"{"jsonPath":"$['ok']","boolValue":true}"#,
            r#"{"jsonPath":"$.days[99999999]","numberValue":2}"#,
        ] {
            node.take(&serde_json::from_str(piece).unwrap(), &mut 1_000_000);
        }
        let mut out = Vec::new();
        node.put(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"city":"Boston","days":[null,{"n":2}],"ok":true}"#);
    }
}
