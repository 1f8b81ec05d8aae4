//! What is wrong with a configuration: where, what, and what would be right.
//!
//! Faults are collected, never thrown at the first one, so that an operator repairs a file in one go.
//! A fault never shows a secret: values are shown only through [`shown`].

use std::fmt;

/// The most faults that are kept; a file with more of them is broken at large, and the rest is only counted.
const KEPT: usize = 100;

/// One fault, or one warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The YAML path (`accounts[2].credentials.api_key`), empty for the file as a whole.
    pub path: String,
    /// The line, from 1; 0 where there is no place to point at.
    pub line: usize,
    /// The column, from 1; 0 where there is no place to point at.
    pub column: usize,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Fault {
    /// A fault of the configuration as a whole, without a place in a file.
    pub(crate) fn general(message: impl Into<String>) -> Self {
        Fault { path: String::new(), line: 0, column: 0, message: message.into() }
    }

    /// The place in front of the message: `line:column: path: `, as far as it is known.
    fn write_place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, "{}: ", self.path) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_place(f)?;
        f.write_str(&self.message)
    }
}

/// A list that takes faults as they are found.
#[derive(Debug, Default)]
pub(crate) struct FaultList {
    faults: Vec<Fault>,
    more: usize,
}

impl FaultList {
    /// Notes a fault; beyond [`KEPT`] it is only counted.
    pub(crate) fn push(&mut self, fault: Fault) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.faults.push(fault);
        }
    }

    /// Whether further faults are only counted, so that working out their text is a waste.
    pub(crate) fn is_full(&self) -> bool {
        self.faults.len() >= KEPT
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults in the order of the file.
    pub(crate) fn into_sorted(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| (fault.line, fault.column));
        if self.more > 0 {
            self.faults.push(Fault::general(format!("… and {} more faults", self.more)));
        }
        self.faults
    }
}

/// Everything that is wrong with a configuration; `Display` prints one line for each fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The file, or another word for where the configuration came from; may be empty.
    pub source: String,
    /// The faults in the order of the file, at least one.
    pub faults: Vec<Fault>,
}

impl Faults {
    /// The same faults, said to be of this file.
    pub(crate) fn of(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            let separator = match (self.source.is_empty(), fault.line) {
                (true, _) => "",
                (false, 0) => ": ",
                (false, _) => ":",
            };
            write!(f, "{line_break}{}{separator}{fault}", self.source)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A value from the file as a fault may show it: in quotes, or not at all where it could be a secret in the wrong place.
pub(crate) fn shown(value: &str) -> String {
    if may_be_secret(value) { "a value not shown here".to_owned() } else { format!("{value:?}") }
}

/// Whether a text is long, holds strange characters, or holds a word that looks like a key, so that it must not be shown.
pub(crate) fn may_be_secret(value: &str) -> bool {
    const KEY_BEGINNINGS: [&str; 12] =
        ["sk-", "sk_", "pk-", "gsk_", "xai-", "key-", "AIza", "AKIA", "eyJ", "ghp_", "Bearer", "Basic"];
    /// No word of a configuration has so many letters and digits without anything between them; keys do.
    const LONG_RUN: usize = 20;
    let is_key = |word: &str| KEY_BEGINNINGS.iter().any(|beginning| word.starts_with(beginning));
    let in_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    value.len() > 64
        || value.chars().any(char::is_control)
        || value.split(|c| !in_word(c)).any(is_key)
        || value.split(|c: char| !c.is_alphanumeric()).any(|run| run.len() >= LONG_RUN)
}

/// `, did you mean "…"?` with the candidate nearest to what was written, or nothing where none is near.
pub(crate) fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    if written.len() > 64 {
        return String::new();
    }
    let lower = written.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    let near = (written.chars().count() / 3).max(1);
    let best = candidates.into_iter().map(|candidate| (distance(candidate), candidate)).min_by_key(|(d, _)| *d);
    match best {
        Some((distance, candidate)) if distance <= near => format!(", did you mean {candidate:?}?"),
        Some(_) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_printed_with_file_line_column_and_path() {
        let fault = Fault { path: "accounts[0].provider".into(), line: 4, column: 15, message: "unknown".into() };
        let faults = Faults { source: "a.yaml".into(), faults: vec![fault, Fault::general("no accounts")] };
        assert_eq!(faults.to_string(), "a.yaml:4:15: accounts[0].provider: unknown\na.yaml: no accounts");
    }

    #[test]
    fn a_flood_of_faults_is_counted_but_not_kept() {
        let mut list = FaultList::default();
        for line in (1..=1_000).rev() {
            list.push(Fault { path: "x".into(), line, column: 1, message: "bad".into() });
        }
        let faults = list.into_sorted();
        assert_eq!(faults.len(), KEPT + 1);
        assert!(faults.windows(2).take(KEPT - 1).all(|pair| pair[0].line <= pair[1].line));
        assert_eq!(faults[KEPT].message, "… and 900 more faults");
    }

    #[test]
    fn what_looks_like_a_key_is_not_shown() {
        for secret in [
            "sk-abc",
            "api_key=sk-abc",
            "\"sk-abc\"",
            "AIzaSyB1234",
            "d41d8cd98f00b204e9800998ecf8427e",
            "two\nlines",
            &"x".repeat(65),
        ] {
            assert_eq!(shown(secret), "a value not shown here", "{secret}");
        }
        for plain in ["opnai", "claude-sonnet-4-5-20250929", "http://127.0.0.1:9100/v1", "5x"] {
            assert_eq!(shown(plain), format!("\"{plain}\""));
        }
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let words = ["openai", "anthropic", "gemini"];
        assert_eq!(did_you_mean("opnai", words), ", did you mean \"openai\"?");
        assert_eq!(did_you_mean("Anthropc", words), ", did you mean \"anthropic\"?");
        assert_eq!(did_you_mean("zzz", words), "");
        assert_eq!(did_you_mean("", words), "");
    }
}
