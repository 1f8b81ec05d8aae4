//! The YAML document as a tree that knows the line of everything in it.
//!
//! Scalars stay the text that was written: what a text means is for the schema to say, not for YAML's guesses.
//! Never grows beyond its bounds, whatever aliases and nesting a file holds.

use super::fault::{Fault, FaultList, may_be_secret, shown};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::HashMap;

/// How deep a document may nest; the schema itself needs 6.
const MAX_DEPTH: usize = 32;
/// How much a document may weigh with its aliases expanded: its text, and [`NODE_WEIGHT`] for each node.
const MAX_WEIGHT: usize = 32 << 20;
/// What a node weighs besides its text, about its size in memory.
const NODE_WEIGHT: usize = 64;

/// A place in the file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The line.
    pub(crate) line: usize,
    /// The column, in characters.
    pub(crate) column: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where it begins.
    pub(crate) mark: Mark,
    /// The value.
    pub(crate) value: Value,
    weight: usize,
    depth: usize,
}

impl Node {
    /// Whether this is YAML's way to say "nothing".
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the file's order; no key occurs twice.
    Map(Vec<Entry>),
    /// A value with a fault that was reported already.
    Broken,
}

/// A single value.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    /// The text without its quotes.
    pub(crate) text: String,
    /// Whether it stands without quotes, so that an empty text or `null` means "not set".
    pub(crate) plain: bool,
    /// Whether some of the text came from the environment, so that it must not be shown.
    pub(crate) from_environment: bool,
}

impl Scalar {
    /// Whether this is YAML's way to say "nothing".
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) mark: Mark,
    /// The value.
    pub(crate) node: Node,
}

/// Reads a document. Faults that leave a tree (a key written twice) are noted and reading goes on;
/// `None` after those that leave none (bad syntax, bounds), or when the document is empty.
pub(crate) fn parse(text: &str, faults: &mut FaultList) -> Option<Node> {
    let mut builder = Builder { open: Vec::new(), root: None, anchors: HashMap::new(), weight: 0, faults };
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let step = match next {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => Err(stop(mark_of(error.marker()), format!("not valid YAML: {}", error.info()))),
        };
        match step {
            Ok(true) => {}
            Ok(false) => break,
            Err(fault) => {
                builder.faults.push(fault);
                return None;
            }
        }
    }
    builder.root
}

fn mark_of(marker: &saphyr_parser::Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}

fn stop(mark: Mark, message: impl Into<String>) -> Fault {
    Fault { path: String::new(), line: mark.line, column: mark.column, message: message.into() }
}

/// A list or mapping whose end has not come yet.
struct Open {
    mark: Mark,
    anchor: usize,
    weight_before: usize,
    /// How deep its content nests so far.
    depth: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashMap<String, Mark>, key: Option<Key> },
}

/// The key whose value comes next; without a name when it is at fault and its value is to be dropped.
struct Key {
    name: Option<String>,
    mark: Mark,
}

struct Builder<'f> {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    weight: usize,
    faults: &'f mut FaultList,
}

impl Builder<'_> {
    /// Takes one event; `Ok(false)` when the document is complete and the rest must not be read.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<bool, Fault> {
        let mark = mark_of(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.weigh(NODE_WEIGHT + text.len(), mark)?;
                let scalar =
                    Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain, from_environment: false };
                let value = if tag.is_some() { self.refuse_tag(mark) } else { Value::Scalar(scalar) };
                let weight = NODE_WEIGHT + value_text(&value);
                self.complete(Node { mark, value, weight, depth: 0 }, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(mark, anchor, tag.is_some(), Content::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Map { entries: Vec::new(), seen: HashMap::new(), key: None };
                self.begin(mark, anchor, tag.is_some(), content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::Alias(anchor) => self.alias(anchor, mark)?,
            Event::DocumentStart(_) if self.root.is_some() => {
                let message = "a second document begins here; a configuration is one document";
                self.faults.push(stop(mark, message));
                return Ok(false);
            }
            Event::DocumentStart(_) | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {}
        }
        Ok(true)
    }

    fn weigh(&mut self, weight: usize, mark: Mark) -> Result<(), Fault> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= MAX_WEIGHT {
            return Ok(());
        }
        Err(stop(mark, "too large: the document holds too many values, or its aliases expand to too many"))
    }

    fn refuse_tag(&mut self, mark: Mark) -> Value {
        let fault =
            Fault { path: self.path(), ..stop(mark, "tags (`!…`) have no meaning here; write the plain value") };
        self.faults.push(fault);
        Value::Broken
    }

    fn begin(&mut self, mark: Mark, anchor: usize, tagged: bool, content: Content) -> Result<(), Fault> {
        self.check_depth(1, mark)?;
        if tagged {
            self.refuse_tag(mark);
        }
        let weight_before = self.weight;
        self.weigh(NODE_WEIGHT, mark)?;
        self.open.push(Open { mark, anchor, weight_before, depth: 1, content });
        Ok(())
    }

    fn check_depth(&self, depth: usize, mark: Mark) -> Result<(), Fault> {
        if self.open.len() + depth <= MAX_DEPTH {
            return Ok(());
        }
        Err(stop(mark, format!("nested deeper than {MAX_DEPTH} levels")))
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(Open { mark, anchor, weight_before, depth, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        self.complete(Node { mark, value, weight: self.weight - weight_before, depth }, anchor)
    }

    /// The anchor's value once more. Weight and depth are checked before it is copied: that is what bounds alias bombs.
    fn alias(&mut self, anchor: usize, mark: Mark) -> Result<(), Fault> {
        let Some((weight, depth)) = self.anchors.get(&anchor).map(|node| (node.weight, node.depth)) else {
            return Err(stop(mark, "this alias stands inside the very value that it names"));
        };
        self.weigh(weight, mark)?;
        self.check_depth(depth, mark)?;
        match self.anchors.get(&anchor).cloned() {
            Some(node) => self.complete(node, 0),
            None => Ok(()),
        }
    }

    /// Puts a complete value where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.weigh(node.weight, node.mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.depth = open.depth.max(node.depth + 1);
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, key: key @ Some(_), .. } => {
                if let Some(Key { name: Some(name), mark }) = key.take() {
                    entries.push(Entry { key: name, mark, node });
                }
            }
            Content::Map { seen, key, .. } => {
                let mark = node.mark;
                let name = key_name(node, seen);
                *key = Some(Key { name: name.as_ref().ok().cloned(), mark });
                if let Err(message) = name {
                    self.faults.push(Fault { path: self.path(), ..stop(mark, message) });
                }
            }
        }
        Ok(())
    }

    /// The path of the value that comes next.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.content {
                Content::List(items) => path.push_str(&format!("[{}]", items.len())),
                Content::Map { key: Some(Key { name: Some(name), .. }), .. } => push_key(&mut path, name),
                Content::Map { .. } => {}
            }
        }
        path
    }
}

/// The name of a key; the error says why it cannot be one.
fn key_name(node: Node, seen: &mut HashMap<String, Mark>) -> Result<String, String> {
    let Value::Scalar(Scalar { text, .. }) = node.value else {
        return Err("a key must be a plain word".to_owned());
    };
    if let Some(first) = seen.get(&text) {
        return Err(format!("the key {} is written twice, first in line {}", shown(&text), first.line));
    }
    seen.insert(text.clone(), node.mark);
    Ok(text)
}

fn value_text(value: &Value) -> usize {
    match value {
        Value::Scalar(scalar) => scalar.text.len(),
        Value::List(_) | Value::Map(_) | Value::Broken => 0,
    }
}

/// Adds a key to a path; one that could be a secret or a whole line in the wrong place becomes `?`.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    let is_word = key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let showable = is_word && !key.is_empty() && !may_be_secret(key);
    path.push_str(if showable { key } else { "?" });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str) -> Vec<String> {
        let mut faults = FaultList::default();
        parse(text, &mut faults);
        faults.into_sorted().iter().map(Fault::to_string).collect()
    }

    fn tree_of(text: &str) -> Node {
        let mut faults = FaultList::default();
        let tree = parse(text, &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        tree.unwrap()
    }

    #[test]
    fn every_value_knows_its_line_and_column() {
        let Value::Map(entries) = tree_of("# first\na: 1\nb:\n  - x\n  - y: é\n").value else { panic!("no map") };
        assert_eq!((entries[0].mark, entries[0].node.mark), (place(2, 1), place(2, 4)));
        let Value::List(items) = &entries[1].node.value else { panic!("no list") };
        assert_eq!(items[0].mark, place(4, 5));
        let Value::Map(inner) = &items[1].value else { panic!("no inner map") };
        assert_eq!((inner[0].mark, inner[0].node.mark), (place(5, 5), place(5, 8)));
    }

    fn place(line: usize, column: usize) -> Mark {
        Mark { line, column }
    }

    #[test]
    fn a_key_written_twice_is_reported_with_its_path_and_the_first_line() {
        let faults = faults_of("a:\n  - {b: 1}\n  - b: 1\n    c: 2\n    b: 3\n");
        assert_eq!(faults, ["5:5: a[1]: the key \"b\" is written twice, first in line 3"]);
    }

    #[test]
    fn a_key_that_looks_like_a_secret_is_not_shown() {
        assert_eq!(
            faults_of("sk-1: {x: 1, x: 2}\nsk-1: 2\n"),
            [
                "1:14: ?: the key \"x\" is written twice, first in line 1",
                "2:1: the key a value not shown here is written twice, first in line 1"
            ]
        );
    }

    #[test]
    fn a_list_or_mapping_cannot_be_a_key() {
        assert_eq!(faults_of("a:\n  ? [x]\n  : 1\n"), ["2:5: a: a key must be a plain word"]);
    }

    #[test]
    fn bad_syntax_is_reported_where_it_is() {
        let faults = faults_of("a: 1\nb: [1, 2\nc: 3\n");
        assert!(faults[0].starts_with("3:") || faults[0].starts_with("4:"), "{faults:?}");
        assert!(faults[0].contains("not valid YAML: "), "{faults:?}");
        assert!(faults_of("a: \"unclosed\n")[0].contains("not valid YAML"));
        assert!(faults_of("a: *nothing\n")[0].contains("not valid YAML"));
    }

    #[test]
    fn a_second_document_is_refused() {
        assert_eq!(
            faults_of("a: 1\n---\nb: 2\n"),
            ["2:1: a second document begins here; a configuration is one document"]
        );
        assert!(faults_of("---\na: 1\n...\n").is_empty());
    }

    #[test]
    fn tags_are_refused() {
        assert_eq!(faults_of("a: !!str 1\n"), ["1:4: a: tags (`!…`) have no meaning here; write the plain value"]);
    }

    #[test]
    fn an_anchor_can_be_used_again() {
        let Value::Map(entries) = tree_of("a: &x {b: 1}\nc: *x\n").value else { panic!("no map") };
        assert!(matches!(&entries[1].node.value, Value::Map(inner) if inner[0].key == "b"));
    }

    #[test]
    fn an_alias_bomb_is_refused_before_it_is_expanded() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..20 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        assert!(faults_of(&bomb)[0].contains("too large"), "{:?}", faults_of(&bomb));
    }

    #[test]
    fn nesting_is_bounded_also_when_aliases_build_it() {
        assert!(faults_of(&"[".repeat(100))[0].contains("nested deeper"));
        assert_eq!(faults_of(&"[".repeat(1_000_000)).len(), 1);
        assert_eq!(faults_of(&"- ".repeat(1_000_000)).len(), 1);
        let mut chain = String::from("a0: &a0 x\n");
        for level in 1..2_000 {
            chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert!(faults_of(&chain)[0].contains("nested deeper"), "{:?}", faults_of(&chain));
    }

    #[test]
    fn an_alias_within_its_own_anchor_is_refused() {
        assert!(faults_of("a: &x [1, *x]\n")[0].contains("inside the very value"));
    }

    #[test]
    fn an_empty_document_is_no_tree() {
        let mut faults = FaultList::default();
        assert!(parse("# nothing\n", &mut faults).is_none());
        assert!(faults.is_empty());
    }
}
