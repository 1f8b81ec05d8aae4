//! What the limits of an account say about a request, whoever keeps them.

use crate::{clock::Moment, limit::terms::Window, provider::headroom::WindowKind};
use std::fmt;

/// A limit of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitName {
    /// A window that the provider told of.
    Told(WindowKind),
    /// `limits.rpm`.
    RequestsPerMinute,
    /// `limits.tpm`.
    TokensPerMinute,
    /// One of `quotas`.
    Quota(Window),
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitName::Told(kind) => f.write_str(kind.name()),
            LimitName::RequestsPerMinute => f.write_str("rpm"),
            LimitName::TokensPerMinute => f.write_str("tpm"),
            LimitName::Quota(window) => write!(f, "quota {}", window.name()),
        }
    }
}

/// What the limits say about a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    /// The smallest share that is left of a window, from 0 to 1.
    pub(super) share: f64,
    /// Of the limits without room for the request the one that has it last, and when, if ever.
    pub(super) blocked: Option<(LimitName, Option<Moment>)>,
    /// When all this may be otherwise.
    pub(super) review: Option<Moment>,
}

impl Outlook {
    pub(super) const CLEAR: Outlook = Outlook { share: 1.0, blocked: None, review: None };

    /// Both of two.
    pub(super) fn and(self, other: Outlook) -> Outlook {
        let blocked = match (self.blocked, other.blocked) {
            (Some(a), Some(b)) => {
                let b_is_later = a.1.is_some_and(|a| b.1.is_none_or(|b| b.mono > a.mono));
                Some(if b_is_later { b } else { a })
            }
            (a, b) => a.or(b),
        };
        let review = match (self.review, other.review) {
            (Some(a), Some(b)) => Some(if a.mono <= b.mono { a } else { b }),
            (a, b) => a.or(b),
        };
        Outlook { share: self.share.min(other.share), blocked, review }
    }
}
