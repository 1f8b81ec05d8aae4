//! Puts environment variables into the values of a configuration: `${NAME}` and `${NAME:-default}`; `$$` is a dollar sign.
//!
//! Works on values after the YAML was read, never on the file's text: whatever a variable holds, it stays one value
//! and cannot add keys, lines or comments. What a variable holds is not interpolated again.

use super::{
    fault::{Fault, FaultList},
    tree::{Node, Scalar, Value, push_key},
};

/// How deep defaults may nest (`${A:-${B:-c}}`).
const MAX_NESTING: usize = 8;
/// The longest value after interpolation, in bytes.
const MAX_VALUE_BYTES: usize = 64 << 10;
/// The most bytes that all variables together may add to a configuration.
const MAX_ADDED_BYTES: usize = 16 << 20;

/// Looks a variable up; `None` where it is not set.
pub(crate) type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Interpolates every value of the tree. A value that cannot be is reported, and left as [`Value::Broken`].
pub(crate) fn interpolate(root: &mut Node, environment: &Environment<'_>, faults: &mut FaultList) {
    let mut walk = Walk { environment, faults, path: String::new(), added: 0 };
    walk.node(root);
}

struct Walk<'w> {
    environment: &'w Environment<'w>,
    faults: &'w mut FaultList,
    path: String,
    added: usize,
}

impl Walk<'_> {
    fn node(&mut self, node: &mut Node) {
        let depth = self.path.len();
        match &mut node.value {
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{index}]"));
                    self.node(item);
                    self.path.truncate(depth);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    push_key(&mut self.path, &entry.key);
                    self.node(&mut entry.node);
                    self.path.truncate(depth);
                }
            }
            Value::Scalar(scalar) if scalar.text.contains('$') => {
                if !self.scalar(scalar, node.mark.line, node.mark.column) {
                    node.value = Value::Broken;
                }
            }
            Value::Scalar(_) | Value::Broken => {}
        }
    }

    fn scalar(&mut self, scalar: &mut Scalar, line: usize, column: usize) -> bool {
        let mut expansion =
            Expansion { environment: self.environment, out: String::new(), problems: Vec::new(), used: false };
        expansion.text(&scalar.text, 0);
        self.added = self.added.saturating_add(expansion.out.len());
        if self.added > MAX_ADDED_BYTES {
            expansion.problems.push("the variables of this file add up to more than 16 MiB".to_owned());
        }
        let whole = expansion.problems.is_empty();
        for message in expansion.problems {
            self.faults.push(Fault { path: self.path.clone(), line, column, message });
        }
        scalar.text = expansion.out;
        scalar.from_environment |= expansion.used;
        whole
    }
}

/// The text of one value as it is put together.
struct Expansion<'e> {
    environment: &'e Environment<'e>,
    out: String,
    problems: Vec<String>,
    used: bool,
}

impl Expansion<'_> {
    fn text(&mut self, text: &str, nesting: usize) {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            self.append(before);
            rest = match after.as_bytes().first() {
                Some(b'$') => {
                    self.append("$");
                    after.get(1..).unwrap_or_default()
                }
                Some(b'{') => self.reference(after.get(1..).unwrap_or_default(), nesting),
                Some(_) | None => {
                    self.append("$");
                    after
                }
            };
        }
        self.append(rest);
    }

    /// Reads a reference from behind its `${`; returns what follows its `}`.
    fn reference<'t>(&mut self, text: &'t str, nesting: usize) -> &'t str {
        let Some(end) = closing_brace(text) else {
            self.problem("`${` without its `}`; write `$$` for a dollar sign");
            return "";
        };
        let (inner, rest) = text.split_at(end);
        let rest = rest.get(1..).unwrap_or_default();
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_name(name) {
            self.problem("`${…}` takes `NAME` or `NAME:-default`, the name in letters, digits and `_`");
        } else if nesting >= MAX_NESTING {
            self.problem("defaults nest too deeply");
        } else {
            self.variable(name, default, nesting);
        }
        rest
    }

    fn variable(&mut self, name: &str, default: Option<&str>, nesting: usize) {
        match ((self.environment)(name), default) {
            (Some(value), None) => {
                self.used = true;
                self.append(&value);
            }
            (Some(value), Some(_)) if !value.is_empty() => {
                self.used = true;
                self.append(&value);
            }
            (_, Some(default)) => self.text(default, nesting + 1),
            (None, None) => {
                self.problems.push(format!(
                    "the environment variable {} is not set; set it, or give a default: ${{{0}:-…}}",
                    if name.len() <= 64 { name } else { "named here" }
                ));
            }
        }
    }

    fn append(&mut self, piece: &str) {
        if self.out.len() + piece.len() <= MAX_VALUE_BYTES {
            self.out.push_str(piece);
        } else {
            self.problem("longer than 64 KiB with its variables");
        }
    }

    fn problem(&mut self, message: &str) {
        if !self.problems.iter().any(|known| known == message) {
            self.problems.push(message.to_owned());
        }
    }
}

/// Where the reference ends: the `}` that closes it, past those of references inside its default.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut previous = b' ';
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if previous == b'$' => depth += 1,
            b'}' if depth == 0 => return Some(index),
            b'}' => depth -= 1,
            _ => {}
        }
        previous = byte;
    }
    None
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    fn environment(name: &str) -> Option<String> {
        match name {
            "KEY" => Some("sk-1".into()),
            "EMPTY" => Some(String::new()),
            "NASTY" => Some("a\"\nusers: []\n# ${KEY} $$".into()),
            "LONG" => Some("x".repeat(60_000)),
            _ => None,
        }
    }

    /// The value after interpolation, or the faults.
    fn expand(text: &str) -> Result<String, Vec<String>> {
        let mut faults = FaultList::default();
        let yaml = format!("a: '{}'", text.replace('\'', "''"));
        let mut root = tree::parse(&yaml, &mut faults).unwrap();
        interpolate(&mut root, &environment, &mut faults);
        if !faults.is_empty() {
            return Err(faults.into_sorted().iter().map(Fault::to_string).collect());
        }
        let Value::Map(mut entries) = root.value else { panic!("no map") };
        let Value::Scalar(scalar) = entries.remove(0).node.value else { panic!("no scalar") };
        Ok(scalar.text)
    }

    #[test]
    fn variables_and_defaults_are_put_in() {
        assert_eq!(expand("${KEY}").unwrap(), "sk-1");
        assert_eq!(expand("<${KEY}/${NONE:-v1}>").unwrap(), "<sk-1/v1>");
        assert_eq!(expand("${NONE:-http://127.0.0.1:9100}/v1").unwrap(), "http://127.0.0.1:9100/v1");
        assert_eq!(expand("${NONE:-}").unwrap(), "");
    }

    #[test]
    fn an_empty_variable_counts_as_unset_only_where_there_is_a_default() {
        assert_eq!(expand("${EMPTY:-x}").unwrap(), "x");
        assert_eq!(expand("${EMPTY}").unwrap(), "");
    }

    #[test]
    fn defaults_may_hold_references() {
        assert_eq!(expand("${NONE:-${ALSO_NONE:-${KEY}}}!").unwrap(), "sk-1!");
    }

    #[test]
    fn two_dollar_signs_are_one_and_a_lone_one_stays() {
        assert_eq!(expand("$${KEY} costs 5$ or $x").unwrap(), "${KEY} costs 5$ or $x");
    }

    #[test]
    fn what_a_variable_holds_stays_one_value_and_is_not_read_again() {
        assert_eq!(expand("${NASTY}").unwrap(), "a\"\nusers: []\n# ${KEY} $$");
    }

    #[test]
    fn every_missing_variable_is_reported_with_its_place() {
        assert_eq!(
            expand("${ONE}${TWO}").unwrap_err(),
            [
                "1:4: a: the environment variable ONE is not set; set it, or give a default: ${ONE:-…}",
                "1:4: a: the environment variable TWO is not set; set it, or give a default: ${TWO:-…}",
            ]
        );
    }

    #[test]
    fn broken_references_are_refused() {
        for text in ["${", "${KEY", "${NONE:-${KEY}"] {
            assert!(expand(text).unwrap_err()[0].contains("without its `}`"), "{text}");
        }
        for text in ["${}", "${1A}", "${KEY:?x}", "${KEY-x}", "${ KEY }", "${:-x}"] {
            assert!(expand(text).unwrap_err()[0].contains("takes `NAME`"), "{text}");
        }
        let deep = format!("{}x{}", "${NONE:-".repeat(20), "}".repeat(20));
        assert!(expand(&deep).unwrap_err()[0].contains("too deeply"));
    }

    #[test]
    fn a_value_cannot_grow_without_bound() {
        assert!(expand("${LONG}${LONG}").unwrap_err()[0].contains("longer than 64 KiB"));
        let mut faults = FaultList::default();
        let yaml = format!("[{}]", vec!["\"${LONG}\""; 400].join(","));
        let mut root = tree::parse(&yaml, &mut faults).unwrap();
        interpolate(&mut root, &environment, &mut faults);
        assert!(faults.into_sorted()[0].message.contains("more than 16 MiB"));
    }
}
