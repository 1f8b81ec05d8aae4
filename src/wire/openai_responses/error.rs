//! The end of a Responses stream that failed.

use crate::{
    error::{Reason, Rejection},
    wire::{json, openai_chat::error_names, tap::Seen},
};
use serde::Serialize;

/// The flat `error` event.
#[derive(Serialize)]
struct ErrorEvent<'a> {
    r#type: &'static str,
    code: &'static str,
    message: &'a str,
    param: Option<&'a str>,
    sequence_number: u64,
}

/// The `response.failed` event.
#[derive(Serialize)]
struct FailedEvent<'a> {
    r#type: &'static str,
    sequence_number: u64,
    response: Failed<'a>,
}

/// The response object: what was told of it, and the fields that clients' types require.
#[derive(Serialize)]
struct Failed<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    error: FailedError<'a>,
    incomplete_details: Option<()>,
    instructions: Option<()>,
    metadata: Option<()>,
    model: &'a str,
    output: [(); 0],
    parallel_tool_calls: bool,
    temperature: Option<f64>,
    tool_choice: &'static str,
    tools: [(); 0],
    top_p: Option<f64>,
    usage: Option<()>,
}

#[derive(Serialize)]
struct FailedError<'a> {
    code: &'static str,
    message: &'a str,
}

/// The `error` event and `response.failed`, numbered on from what went out.
pub(super) fn stream(rejection: &Rejection, request_id: &str, seen: &Seen) -> Vec<u8> {
    let (_, code) = error_names(rejection.reason);
    let error = ErrorEvent {
        r#type: "error",
        code,
        message: &rejection.message,
        param: rejection.param.as_deref(),
        sequence_number: seen.events,
    };
    let failed = FailedEvent {
        r#type: "response.failed",
        sequence_number: seen.events + 1,
        response: Failed {
            id: seen.id.as_deref().unwrap_or(request_id),
            object: "response",
            created_at: seen.created.unwrap_or(0),
            status: "failed",
            error: FailedError { code: failed_code(rejection.reason), message: &rejection.message },
            incomplete_details: None,
            instructions: None,
            metadata: None,
            model: seen.model.as_deref().unwrap_or_default(),
            output: [],
            parallel_tool_calls: true,
            temperature: None,
            tool_choice: "auto",
            tools: [],
            top_p: None,
            usage: None,
        },
    };
    let events = [("error", json::to_vec(&error)), ("response.failed", json::to_vec(&failed))];
    let mut out = Vec::new();
    for (name, data) in events {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(&data);
        out.extend_from_slice(b"\n\n");
    }
    out
}

/// The code inside a failed response is one of a closed set.
fn failed_code(reason: Reason) -> &'static str {
    match reason {
        Reason::LimitReached | Reason::BudgetSpent => "rate_limit_exceeded",
        Reason::Malformed
        | Reason::TooLarge
        | Reason::HeadersTooLarge
        | Reason::UnknownModel
        | Reason::UnknownPath
        | Reason::MethodNotAllowed => "invalid_prompt",
        Reason::MissingKey
        | Reason::UnknownKey
        | Reason::KeyDisabled
        | Reason::KeyExpired
        | Reason::ModelNotAllowed
        | Reason::AddressNotAllowed
        | Reason::ClientTooSlow
        | Reason::Unavailable
        | Reason::UpstreamFailed
        | Reason::UpstreamSilent
        | Reason::Internal => "server_error",
    }
}
