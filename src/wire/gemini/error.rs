//! Rejections in Google's shape.

use crate::{
    error::{Reason, Rejection},
    wire::json,
};
use serde::Serialize;
use std::time::Duration;

/// `{"error":{"code","message","status","details"}}`
#[derive(Serialize)]
struct Body<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    details: Vec<Detail<'a>>,
}

/// The typed details that Google's clients know.
#[derive(Serialize)]
#[serde(tag = "@type")]
enum Detail<'a> {
    #[serde(rename = "type.googleapis.com/google.rpc.ErrorInfo")]
    ErrorInfo { reason: &'static str, domain: &'static str },
    #[serde(rename = "type.googleapis.com/google.rpc.BadRequest", rename_all = "camelCase")]
    BadRequest { field_violations: [Violation<'a>; 1] },
    #[serde(rename = "type.googleapis.com/google.rpc.RetryInfo", rename_all = "camelCase")]
    RetryInfo { retry_delay: String },
}

#[derive(Serialize)]
struct Violation<'a> {
    field: &'a str,
    description: &'a str,
}

/// The JSON body.
pub(super) fn body(rejection: &Rejection) -> Vec<u8> {
    let mut details = Vec::new();
    if let Reason::MissingKey | Reason::UnknownKey = rejection.reason {
        details.push(Detail::ErrorInfo { reason: "API_KEY_INVALID", domain: "googleapis.com" });
    }
    if let Some(field) = rejection.param.as_deref() {
        details.push(Detail::BadRequest { field_violations: [Violation { field, description: &rejection.message }] });
    }
    if let Some(wait) = rejection.retry_after {
        details.push(Detail::RetryInfo { retry_delay: seconds(wait) });
    }
    let error =
        Error { code: rejection.status(), message: &rejection.message, status: status(rejection.reason), details };
    json::to_vec(&Body { error })
}

/// A duration as protobuf writes it: `12s`, `0.644s`.
fn seconds(wait: Duration) -> String {
    match wait.subsec_millis() {
        0 => format!("{}s", wait.as_secs()),
        millis => format!("{}.{millis:03}s", wait.as_secs()),
    }
}

fn status(reason: Reason) -> &'static str {
    match reason {
        Reason::MissingKey | Reason::UnknownKey => "UNAUTHENTICATED",
        Reason::KeyDisabled | Reason::KeyExpired | Reason::ModelNotAllowed | Reason::AddressNotAllowed => {
            "PERMISSION_DENIED"
        }
        Reason::UnknownModel | Reason::UnknownPath => "NOT_FOUND",
        Reason::MethodNotAllowed => "UNIMPLEMENTED",
        Reason::Malformed | Reason::TooLarge | Reason::HeadersTooLarge => "INVALID_ARGUMENT",
        Reason::BudgetSpent | Reason::LimitReached => "RESOURCE_EXHAUSTED",
        Reason::ClientTooSlow | Reason::UpstreamSilent => "DEADLINE_EXCEEDED",
        Reason::Unavailable => "UNAVAILABLE",
        Reason::UpstreamFailed | Reason::Internal => "INTERNAL",
    }
}
