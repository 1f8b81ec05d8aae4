//! Rejections in OpenAI's shape, shared by both of OpenAI's formats.

use crate::{
    error::{Reason, Rejection},
    wire::json,
};
use serde::Serialize;

/// `{"error":{"message","type","param","code"}}`
#[derive(Serialize)]
struct Body<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
}

/// The JSON body.
pub(crate) fn body(rejection: &Rejection) -> Vec<u8> {
    let (kind, code) = names(rejection.reason);
    json::to_vec(&Body {
        error: Error { message: &rejection.message, r#type: kind, param: rejection.param.as_deref(), code },
    })
}

/// The type and the code of a reason. Where OpenAI has a code, it is OpenAI's, since clients decide by it.
pub(crate) fn names(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::MissingKey | Reason::UnknownKey => ("invalid_request_error", "invalid_api_key"),
        Reason::KeyDisabled => ("permission_error", "key_disabled"),
        Reason::KeyExpired => ("permission_error", "key_expired"),
        Reason::ModelNotAllowed => ("permission_error", "model_not_allowed"),
        Reason::AddressNotAllowed => ("permission_error", "address_not_allowed"),
        Reason::UnknownModel => ("invalid_request_error", "model_not_found"),
        Reason::UnknownPath => ("invalid_request_error", "unknown_url"),
        Reason::MethodNotAllowed => ("invalid_request_error", "method_not_supported"),
        Reason::Malformed => ("invalid_request_error", "invalid_request"),
        Reason::ClientTooSlow => ("invalid_request_error", "request_timeout"),
        Reason::TooLarge => ("invalid_request_error", "request_too_large"),
        Reason::HeadersTooLarge => ("invalid_request_error", "headers_too_large"),
        Reason::BudgetSpent => ("insufficient_quota", "insufficient_quota"),
        Reason::LimitReached => ("requests", "rate_limit_exceeded"),
        Reason::Unavailable => ("server_error", "service_unavailable"),
        Reason::UpstreamFailed => ("server_error", "upstream_failed"),
        Reason::UpstreamSilent => ("server_error", "upstream_timeout"),
        Reason::Internal => ("server_error", "internal_error"),
    }
}
