//! Rejections in Anthropic's shape.

use crate::{
    error::{Reason, Rejection},
    wire::json,
};
use serde::Serialize;

/// `{"type":"error","error":{"type","message"},"request_id"}`
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    error: Error<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Error<'a> {
    r#type: &'static str,
    message: &'a str,
}

/// The JSON body.
pub(super) fn body(rejection: &Rejection, request_id: &str) -> Vec<u8> {
    let error = Error { r#type: kind(rejection.reason), message: &rejection.message };
    json::to_vec(&Body { r#type: "error", error, request_id })
}

/// The type of a reason, out of Anthropic's closed set.
fn kind(reason: Reason) -> &'static str {
    match reason {
        Reason::MissingKey | Reason::UnknownKey => "authentication_error",
        Reason::KeyDisabled | Reason::KeyExpired | Reason::ModelNotAllowed | Reason::AddressNotAllowed => {
            "permission_error"
        }
        Reason::UnknownModel | Reason::UnknownPath => "not_found_error",
        Reason::MethodNotAllowed | Reason::Malformed | Reason::ClientTooSlow => "invalid_request_error",
        Reason::TooLarge | Reason::HeadersTooLarge => "request_too_large",
        Reason::BudgetSpent => "billing_error",
        Reason::LimitReached => "rate_limit_error",
        Reason::Unavailable => "overloaded_error",
        Reason::UpstreamSilent => "timeout_error",
        Reason::UpstreamFailed | Reason::Internal => "api_error",
    }
}
