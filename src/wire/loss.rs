//! What a translation could not carry, so that nothing is ever lost in silence.
//!
//! Invariant: a field is listed once per kind, in the order in which it was met; the list is bounded.

use super::WireFormat;
use std::borrow::Cow;

/// The most fields that are listed by name; further ones are counted as `more`.
const MAX_LISTED: usize = 64;
/// The longest name of a field; what is longer is cut.
const MAX_NAME_CHARS: usize = 100;
/// The longest header; what does not fit is said as `more`.
const MAX_HEADER_BYTES: usize = 4096;

/// A field's name, cut where it is too long to be shown.
fn cut(field: Cow<'static, str>) -> Cow<'static, str> {
    match field.char_indices().nth(MAX_NAME_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}...", field.get(..end).unwrap_or_default())),
        None => field,
    }
}

/// What happened to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum How {
    /// The target format cannot say it: left out.
    Dropped,
    /// Said with less precision (a clamped number, the nearest of fewer values).
    Approximated,
    /// Said in another way that is meant to have the same effect.
    Emulated,
}

impl How {
    /// The word in the header.
    pub fn name(self) -> &'static str {
        match self {
            How::Dropped => "dropped",
            How::Approximated => "approximated",
            How::Emulated => "emulated",
        }
    }
}

/// One field that did not get through as it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// The field, as the format that it came from calls it.
    pub field: Cow<'static, str>,
    /// What happened to it.
    pub how: How,
}

/// The losses of one translation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    list: Vec<Loss>,
}

impl Losses {
    /// Notes a loss; a second note of the same loss changes nothing.
    pub fn note(&mut self, field: impl Into<Cow<'static, str>>, how: How) {
        let loss = Loss { field: cut(field.into()), how };
        if self.list.len() < MAX_LISTED && !self.list.contains(&loss) {
            self.list.push(loss);
        } else if self.list.len() == MAX_LISTED && !self.list.contains(&loss) {
            self.list.push(Loss { field: Cow::Borrowed("more"), how: How::Dropped });
        }
    }

    /// Notes that a field was left out.
    pub fn dropped(&mut self, field: impl Into<Cow<'static, str>>) {
        self.note(field, How::Dropped);
    }

    /// Notes that a field was said with less precision.
    pub fn approximated(&mut self, field: impl Into<Cow<'static, str>>) {
        self.note(field, How::Approximated);
    }

    /// Notes that a field was said in another way.
    pub fn emulated(&mut self, field: impl Into<Cow<'static, str>>) {
        self.note(field, How::Emulated);
    }

    /// Gives fields other names; `None` keeps one.
    pub(crate) fn rename(&mut self, name: impl Fn(&str) -> Option<&'static str>) {
        for loss in std::mem::take(&mut self.list) {
            self.note(name(&loss.field).map_or(loss.field, Cow::Borrowed), loss.how);
        }
    }

    /// Whether everything got through.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The losses, in the order in which they were met.
    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.list.iter()
    }

    /// Takes over the losses of another step.
    pub fn extend(&mut self, other: &Losses) {
        for loss in &other.list {
            self.note(loss.field.clone(), loss.how);
        }
    }

    /// The value of the `x-sub2api-loss` header, `None` when nothing was lost. Only visible ASCII comes out.
    pub fn header(&self) -> Option<String> {
        let mut header = String::new();
        for loss in &self.list {
            let word = format!("{}={}", loss.field.escape_default(), loss.how.name());
            let is_full = header.len() + word.len() > MAX_HEADER_BYTES;
            if !header.is_empty() {
                header.push_str(", ");
            }
            header.push_str(if is_full { "more=dropped" } else { &word });
            if is_full {
                break;
            }
        }
        Some(header).filter(|header| !header.is_empty())
    }
}

/// Why a request is not translated at all: answered with 400 in the caller's format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What cannot be carried and what to change, for a person.
    pub message: String,
    /// The field at fault, where one is.
    pub param: Option<String>,
}

impl Refusal {
    /// A refusal that names a field.
    pub fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Refusal { message: message.into(), param: Some(param.into()) }
    }

    /// The refusal of a field that the target format has no place for.
    pub fn cannot_carry(field: &str, to: WireFormat) -> Self {
        let message =
            format!("{field} cannot be carried to this model, whose provider speaks {}: remove {field}", to.name());
        Refusal::new(field, message)
    }

    /// The same refusal with the field under another name.
    pub(crate) fn renamed(self, name: impl Fn(&str) -> Option<&'static str>, to: WireFormat) -> Self {
        let Some((old, new)) = self.param.as_deref().and_then(|old| Some((old, name(old)?))) else { return self };
        match self.message == Refusal::cannot_carry(old, to).message {
            true => Refusal::cannot_carry(new, to),
            false => Refusal { param: Some(new.to_owned()), ..self },
        }
    }

    /// The refusal of a body that is not what its format asks for.
    pub(crate) fn unreadable(error: &serde_json::Error) -> Self {
        Refusal { message: format!("the request body cannot be read: {error}"), param: None }
    }

    /// The refusal of strict mode: names every field that would be lost.
    pub fn strict(losses: &Losses) -> Self {
        let fields: Vec<&str> = losses.iter().map(|l| &*l.field).collect();
        let message = format!(
            "strict translation: these fields cannot be carried to this model's provider as they are: {}. Remove them, or allow loss",
            losses.header().unwrap_or_default()
        );
        Refusal { message, param: fields.first().map(|f| (*f).to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_lists_each_field_once_and_is_ascii() {
        let mut losses = Losses::default();
        losses.dropped("seed");
        losses.dropped("seed");
        losses.approximated("temperature");
        losses.dropped("f\u{e9}\n".to_owned());
        assert_eq!(losses.header().as_deref(), Some("seed=dropped, temperature=approximated, f\\u{e9}\\n=dropped"));
        assert_eq!(Losses::default().header(), None);
    }

    #[test]
    fn the_list_is_bounded() {
        let mut losses = Losses::default();
        for n in 0..1000 {
            losses.dropped(format!("field{n}"));
        }
        assert_eq!(losses.iter().count(), MAX_LISTED + 1);
        assert_eq!(losses.iter().last().map(|l| &*l.field), Some("more"));
    }

    #[test]
    fn long_names_are_cut_and_so_is_the_header() {
        let mut losses = Losses::default();
        for n in 0..60 {
            losses.dropped(format!("{n}{}", "\u{e9}".repeat(10_000)));
        }
        let header = losses.header().unwrap();
        assert!(losses.iter().all(|loss| loss.field.chars().count() < 110) && header.len() < 4200);
        assert!(header.ends_with(", more=dropped"), "{header}");
    }
}
