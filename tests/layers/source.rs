//! Rust source as far as the layer rules need it: which paths does it name, and on which line.
//!
//! Never reads a file. Text, comments and code that only tests compile are left out.

/// One word or mark of the source.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// A path that the source names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Its segments; those of our own crate begin with `crate`, however the source wrote them.
    pub(crate) segments: Vec<String>,
    /// Where, counted from 1.
    pub(crate) line: usize,
}

/// Every path that the source of the module `module` (its names below the crate root) names outside its tests.
pub(crate) fn paths(source: &str, module: &[&str]) -> Vec<Path> {
    let tokens = without_tests(&tokens(source));
    let (mut found, mut inline, mut depth) = (Vec::new(), Vec::new(), 0);
    for (i, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => {
                depth += 1;
                if i >= 2 && tokens[i - 2].text == "mod" {
                    inline.push((depth, tokens[i - 1].text));
                }
            }
            "}" => {
                inline.retain(|(opened, _)| *opened != depth);
                depth -= 1;
            }
            _ if begins_path(&tokens, i) => {
                let mut leaves = Vec::new();
                read_tree(&tokens, i, &mut Vec::new(), &mut leaves);
                let here: Vec<&str> = module.iter().copied().chain(inline.iter().map(|(_, name)| *name)).collect();
                found.extend(leaves.into_iter().map(|(words, line)| Path { segments: resolve(&words, &here), line }));
            }
            _ => {}
        }
    }
    found
}

/// Whether a path of two segments or more, or one that is imported, begins at `i`.
fn begins_path(tokens: &[Token<'_>], i: usize) -> bool {
    let before = |n: usize| i.checked_sub(n).map_or("", |at| tokens[at].text);
    let goes_on = tokens.get(i + 1).is_some_and(|next| next.text == "::");
    let inside = before(1) == "." || (before(1) == "::" && (is_word(before(2)) || before(2) == ">"));
    is_word(tokens[i].text) && !inside && (goes_on || matches!(before(1), "use" | "crate") && before(2) != "(")
}

/// Reads the path at `at`, with all branches of a `use` group, and returns where it ends.
fn read_tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &mut Vec<&'a str>,
    leaves: &mut Vec<(Vec<&'a str>, usize)>,
) -> usize {
    let kept = prefix.len();
    while let Some(token) = tokens.get(at) {
        if token.text == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|t| t.text != "}") {
                let end = read_tree(tokens, at, prefix, leaves);
                at = end.max(at + 1);
            }
            prefix.truncate(kept);
            return at + 1;
        }
        if !is_word(token.text) && token.text != "*" {
            break;
        }
        prefix.push(token.text);
        at += 1;
        if tokens.get(at).is_none_or(|next| next.text != "::") {
            break;
        }
        at += 1;
    }
    if prefix.len() > kept {
        leaves.push((prefix.clone(), tokens[at - 1].line));
    }
    prefix.truncate(kept);
    // `as name` belongs to the branch that was read.
    if tokens.get(at).is_some_and(|next| next.text == "as") { at + 2 } else { at }
}

/// Turns `self::`, `super::` and the crate's own name into `crate::…`.
fn resolve(words: &[&str], module: &[&str]) -> Vec<String> {
    let mut absolute = match words.first() {
        Some(&"crate" | &"sub2api") => vec!["crate"],
        Some(&"self" | &"super") => std::iter::once("crate").chain(module.iter().copied()).collect(),
        _ => return words.iter().map(ToString::to_string).collect(),
    };
    for word in words {
        match *word {
            "crate" | "sub2api" | "self" => {}
            "super" => drop(absolute.pop()),
            name => absolute.push(name),
        }
    }
    absolute.into_iter().map(str::to_owned).collect()
}

/// Leaves out every item under `#[cfg(test)]` or `#[test]`.
fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        match test_attribute(&tokens[at..]) {
            Some(length) => at = item_end(tokens, at + length),
            None => {
                kept.push(tokens[at]);
                at += 1;
            }
        }
    }
    kept
}

/// The length of the attribute at the start of `tokens` if it means "only in tests".
fn test_attribute(tokens: &[Token<'_>]) -> Option<usize> {
    if tokens.first()?.text != "#" || tokens.get(1)?.text != "[" {
        return None;
    }
    let length = attribute_length(tokens);
    let words: Vec<&str> = tokens[2..length].iter().map(|t| t.text).filter(|text| is_word(text)).collect();
    let only_tests = match words.as_slice() {
        ["test"] | ["cfg", "test"] => true,
        ["cfg", "all", rest @ ..] => rest.contains(&"test") && !rest.contains(&"not") && !rest.contains(&"any"),
        _ => false,
    };
    only_tests.then_some(length)
}

fn attribute_length(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate() {
        match token.text {
            "[" => depth += 1,
            "]" if depth == 1 => return i + 1,
            "]" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Where the item that begins at `at` ends: after its `;` or its closing brace.
fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|t| t.text == "#") {
        at += attribute_length(&tokens[at..]);
    }
    let import = tokens.get(at).is_some_and(|t| t.text == "use");
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        match token.text {
            ";" if depth == 0 => return at + 1,
            "}" if depth == 0 => return at,
            "}" if depth == 1 && !import => return at + 1,
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphabetic())
}

/// Splits the source into words, `::`, single marks, and `"` in place of each text.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        let (length, kept) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), None),
            '/' if rest.starts_with("/*") => (block_comment(rest), None),
            '"' => (quoted(rest), Some("\"")),
            '\'' => (character(rest), None),
            _ if raw_text(rest).is_some() => (raw_text(rest).unwrap_or(1), Some("\"")),
            _ if first == '_' || first.is_alphanumeric() => {
                let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                (length, Some(&rest[..length]))
            }
            ':' if rest.starts_with("::") => (2, Some("::")),
            _ if first.is_whitespace() => (first.len_utf8(), None),
            _ => (first.len_utf8(), Some(&rest[..first.len_utf8()])),
        };
        tokens.extend(kept.map(|text| Token { text, line }));
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let (step, change) = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth = depth.saturating_add_signed(change);
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (i, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"`, `br##"…"##` and the like.
fn raw_text(rest: &str) -> Option<usize> {
    let letters = ["r", "br", "cr"]
        .into_iter()
        .find(|p| rest.strip_prefix(p).is_some_and(|after| after.trim_start_matches('#').starts_with('"')))?;
    let hashes = rest[letters.len()..].bytes().take_while(|b| *b == b'#').count();
    let open = letters.len() + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(rest[open..].find(&close).map_or(rest.len(), |i| open + i + close.len()))
}

/// A character literal, or only the mark of a lifetime.
fn character(rest: &str) -> usize {
    let mut after = rest.char_indices().skip(1);
    match after.next() {
        Some((_, '\\')) => after.nth(1).map_or(1, |(i, _)| rest[i - 1..].find('\'').map_or(1, |end| i + end)),
        Some(_) => after.next().filter(|(_, c)| *c == '\'').map_or(1, |(i, _)| i + 1),
        None => 1,
    }
}
