//! Finds what routing needs in a request body, and splices another model name into it.
//!
//! The body is scanned once and never re-serialised: all bytes outside the model's span go on as they came.

use super::Endpoint;
use bytes::Bytes;
use std::ops::Range;

/// What routing needs to know of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The model asked for, decoded; `None` where the body names none (Gemini has it in the path).
    pub model: Option<String>,
    /// Where the model's name stands in the body: the JSON string with its quotes, or the bare form field.
    pub model_spans: Vec<Range<usize>>,
    /// Whether the body asks for a stream.
    pub stream: bool,
    /// The most output tokens that the request allows, if it says so.
    pub max_output_tokens: Option<u64>,
}

/// Why a body cannot be read. `Display` says what and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    /// What is wrong, with its position.
    pub message: String,
    /// The field at fault, if one is.
    pub param: Option<String>,
}

/// Scans the body of a call. `content_type` is the request's header value, if any.
pub fn scan(endpoint: &Endpoint, content_type: Option<&str>, body: &[u8]) -> Result<Envelope, Malformed> {
    let _ = (endpoint, content_type, body);
    unimplemented!()
}

/// The body with `model` in place of what stands at the envelope's model spans; the very same bytes where it already does.
pub fn splice(body: &Bytes, envelope: &Envelope, model: &str) -> Bytes {
    let _ = (body, envelope, model);
    unimplemented!()
}
