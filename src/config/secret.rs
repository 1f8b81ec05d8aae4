//! A text that is never shown.

use std::fmt;
use subtle::ConstantTimeEq;

/// A secret: `Debug` and `Display` print `[redacted]`; only [`Secret::expose`] gives the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether a caller presented this very secret. The time taken tells at most how long the secret is.
    pub fn matches(&self, presented: &str) -> bool {
        self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_compared_but_never_printed() {
        let secret = Secret::new("sk-1");
        assert!(secret.matches("sk-1"));
        assert!(!secret.matches("sk-2") && !secret.matches("sk-") && !secret.matches("sk-11"));
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
    }
}
