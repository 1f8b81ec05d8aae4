//! Reads an error out of a provider's reply, in any of the shapes that providers use.
//!
//! One reader for all formats: proxies, CDNs and compatible servers answer in each other's shapes. It never fails: what
//! is no JSON at all becomes a message. Whether a document *is* an error is for the format to say.

mod shape;
mod status;
mod wait;

use super::tap::UpstreamError;
use serde::de::IgnoredAny;
use shape::{Fields, Said};
use std::time::Duration;

/// The most characters kept of a message inside JSON.
const MESSAGE_CHARS: usize = 1_000;
/// The most characters kept of a body that is no JSON.
const TEXT_CHARS: usize = 200;

/// The error that a body (or the data of an event) holds. Its message is never empty.
pub fn read(body: &[u8]) -> UpstreamError {
    let mut error = match serde_json::from_slice(body) {
        Ok(Said::Fields(fields)) => from_fields(&fields),
        Ok(Said::Text(text)) => with_message(&text),
        Ok(Said::Nothing) | Err(_) => UpstreamError::default(),
    };
    if error.message.is_empty() {
        error.message = plain_text(body);
    }
    error.retry_after = error.retry_after.or_else(|| wait::in_text(&error.message));
    error
}

/// Whether a stream event is named an error and is all there. Its data need not be JSON.
pub fn is_event(name: &[u8], data: &[u8]) -> bool {
    let is_cut = || data.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(data).is_err();
    name == b"error" && !is_cut()
}

/// The error for a whole reply that cannot be read: broken off, or no JSON. `fault` says where parsing stopped.
pub fn unreadable(body: &[u8], fault: &serde_json::Error) -> UpstreamError {
    let message = match body.trim_ascii_start().first() {
        // What was cut may be an answer, and an answer's text is not for error messages: only the place is told.
        Some(b'{' | b'[') => format!("the reply is not valid JSON: {fault}"),
        Some(_) | None => plain_text(body),
    };
    UpstreamError { retry_after: wait::in_text(&message), message, ..UpstreamError::default() }
}

fn from_fields(outer: &Fields<'_>) -> UpstreamError {
    let nested = [&outer.error, &outer.response].into_iter().find_map(|said| match said {
        Said::Fields(inner) => Some(from_fields(inner)),
        Said::Text(_) | Said::Nothing => None,
    });
    // An inner object that says nothing (`"response":{"error":null}`) leaves the outer one to speak.
    if let Some(inner) = nested.filter(|e| !e.message.is_empty() || !e.code.is_empty()) {
        return inner;
    }
    let mut error = with_message(outer.text().unwrap_or_default());
    // `"type":"error"` marks the document, it does not name the error.
    error.kind = outer.kind.as_str().filter(|kind| *kind != "error").unwrap_or_default().to_owned();
    name_code(&mut error, outer);
    error.status = status_of(outer, &error);
    for detail in &outer.details.0 {
        if let Some(reason) = detail.reason.as_str().or_else(|| detail.quota()) {
            error.kind = reason.to_owned();
            error.status = status::of_reason(reason).or(error.status);
        }
        error.retry_after = error.retry_after.or_else(|| detail.retry_delay.as_str().and_then(wait::parse));
    }
    error
}

fn with_message(text: &str) -> UpstreamError {
    UpstreamError { message: text.chars().take(MESSAGE_CHARS).collect(), ..UpstreamError::default() }
}

/// The most telling name: a worded code, Google's status word, the type, and a bare number only if there is nothing else.
fn name_code(error: &mut UpstreamError, fields: &Fields<'_>) {
    let code = fields.code.as_str();
    let worded = |word: &&str| word.parse::<u64>().is_err();
    // Google shouts its status (`RESOURCE_EXHAUSTED`); others put "error" or "failed" there.
    let google = fields.status.as_str().filter(|s| s.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
    let kind = Some(error.kind.as_str()).filter(|kind| !kind.is_empty());
    let named = code.filter(worded).or(google).or(kind);
    error.code = named.or(code).unwrap_or_default().to_owned();
}

fn status_of(fields: &Fields<'_>, error: &UpstreamError) -> Option<u16> {
    let numbers = [fields.status_code.as_str(), fields.code.as_str(), fields.status.as_str()];
    let named = numbers.into_iter().flatten().find_map(|n| n.parse().ok().filter(|n| (400..600).contains(n)));
    named.or_else(|| status::of_code(&error.code, &error.kind))
}

/// A body as text: markup and line breaks taken out, cut at 200 characters.
fn plain_text(body: &[u8]) -> String {
    let start = body.get(..body.len().min(8 * TEXT_CHARS)).unwrap_or(body);
    let text = String::from_utf8_lossy(start);
    let mut shown = String::with_capacity(TEXT_CHARS);
    let mut in_tag = false;
    for c in text.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                push_space(&mut shown);
            }
            _ if in_tag => {}
            c if c.is_whitespace() || c.is_control() => push_space(&mut shown),
            c => shown.push(c),
        }
    }
    let cut: String = shown.trim().chars().take(TEXT_CHARS).collect();
    if cut.is_empty() { "the reply has no readable text".to_owned() } else { cut }
}

fn push_space(text: &mut String) {
    if !text.is_empty() && !text.ends_with(' ') {
        text.push(' ');
    }
}

/// How long a text asks to wait: "try again in 1.5s", "retry after 20 seconds".
pub fn wait_in_text(text: &str) -> Option<Duration> {
    wait::in_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (status, code, kind, message, wait in ms)
    fn facts(body: &str) -> (Option<u16>, String, String, String, Option<u128>) {
        let e = read(body.as_bytes());
        (e.status, e.code, e.kind, e.message, e.retry_after.map(|d| d.as_millis()))
    }

    fn expect(body: &str, status: Option<u16>, code: &str, kind: &str, message: &str) {
        let (s, c, k, m, _) = facts(body);
        assert_eq!((s, c.as_str(), k.as_str(), m.as_str()), (status, code, kind, message), "{body}");
    }

    #[test]
    fn the_shapes_of_the_three_providers_are_read() {
        expect(
            r#"{"error":{"message":"no","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
            Some(429),
            "rate_limit_exceeded",
            "tokens",
            "no",
        );
        expect(
            r#"{"error":{"message":"oops","type":"server_error","param":null,"code":null}}"#,
            Some(500),
            "server_error",
            "server_error",
            "oops",
        );
        expect(
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#,
            Some(529),
            "overloaded_error",
            "overloaded_error",
            "Overloaded",
        );
        expect(
            r#"{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}"#,
            Some(503),
            "UNAVAILABLE",
            "",
            "busy",
        );
        expect(
            r#"[{"error":{"code":429,"message":"busy","status":"RESOURCE_EXHAUSTED"}}]"#,
            Some(429),
            "RESOURCE_EXHAUSTED",
            "",
            "busy",
        );
    }

    #[test]
    fn a_bad_google_key_is_told_by_its_reason_although_the_status_is_400() {
        expect(
            r#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"@type":"t/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#,
            Some(401),
            "INVALID_ARGUMENT",
            "API_KEY_INVALID",
            "API key not valid.",
        );
    }

    #[test]
    fn google_names_the_quota_and_the_delay() {
        let body = r#"{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[
            {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"PerMinute"}]},
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.4s"}]}}"#;
        let (status, code, kind, _, wait) = facts(body);
        assert_eq!(
            (status, code.as_str(), kind.as_str(), wait),
            (Some(429), "RESOURCE_EXHAUSTED", "PerMinute", Some(34_400))
        );
    }

    #[test]
    fn the_shapes_of_compatible_servers_are_read() {
        expect(r#"{"detail":"Invalid API Key"}"#, None, "", "", "Invalid API Key");
        expect(
            r#"{"detail":[{"loc":["body"],"msg":"field required","type":"missing"}]}"#,
            None,
            "",
            "",
            "field required",
        );
        expect(
            r#"{"code":"invalid-argument","error":"Incorrect API key provided."}"#,
            Some(400),
            "invalid-argument",
            "",
            "Incorrect API key provided.",
        );
        expect(
            r#"{"object":"error","message":"too many","type":"rate_limit_error","code":"1300"}"#,
            Some(429),
            "rate_limit_error",
            "rate_limit_error",
            "too many",
        );
        expect(
            r#"{"error":{"code":"404","message":"Resource not found"}}"#,
            Some(404),
            "404",
            "",
            "Resource not found",
        );
        expect(
            r#"{"error":{"message":"Missing Authentication header","code":401}}"#,
            Some(401),
            "401",
            "",
            "Missing Authentication header",
        );
        expect(
            r#"{"error":{"message":"m","type":"invalid_request_error","code":"tool_use_failed","status_code":400}}"#,
            Some(400),
            "tool_use_failed",
            "invalid_request_error",
            "m",
        );
        expect(
            r#"{"error":{"message":"bad key","type":"authentication_error","code":"invalid_request_error"}}"#,
            Some(401),
            "invalid_request_error",
            "authentication_error",
            "bad key",
        );
        expect(r#"{"statusCode":401,"message":"Access denied"}"#, Some(401), "", "", "Access denied");
        expect(r#"{"error":"model not loaded"}"#, None, "", "", "model not loaded");
        expect(r#"{"errors":[{"message":"first"},{"message":"second"}]}"#, None, "", "", "first");
    }

    #[test]
    fn stream_events_of_the_responses_format_are_read_flat_and_nested() {
        expect(
            r#"{"type":"error","code":"server_error","message":"sorry","param":null,"sequence_number":3}"#,
            Some(500),
            "server_error",
            "",
            "sorry",
        );
        let failed = r#"{"type":"response.failed","response":{"id":"r","status":"failed","error":{"code":"insufficient_quota","message":"pay"}}}"#;
        let (status, code, _, message, _) = facts(failed);
        assert_eq!((status, code.as_str(), message.as_str()), (Some(429), "insufficient_quota", "pay"));
    }

    #[test]
    fn text_and_html_become_a_short_message() {
        expect("upstream connect error\r\nreset", None, "", "", "upstream connect error reset");
        expect(
            "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>",
            None,
            "",
            "",
            "502 Bad Gateway 502 Bad Gateway",
        );
        expect("", None, "", "", "the reply has no readable text");
        assert_eq!(read("é".repeat(5_000).as_bytes()).message.chars().count(), TEXT_CHARS);
        assert_eq!(read(&[0xff; 64]).message.chars().count(), 64);
    }

    #[test]
    fn a_cut_error_event_is_not_yet_one() {
        assert!(is_event(b"error", br#"{"error":1}"#) && is_event(b"error", b"it broke"));
        assert!(!is_event(b"error", br#"{"error":{"mess"#) && !is_event(b"message", br#"{"error":1}"#));
    }

    #[test]
    fn a_wait_in_the_message_is_found() {
        let (.., wait) = facts(
            r#"{"error":{"message":"Rate limit reached. Please try again in 644ms. Visit x","code":"rate_limit_exceeded"}}"#,
        );
        assert_eq!(wait, Some(644));
    }

    #[test]
    fn a_document_nested_too_deep_still_gives_a_message() {
        let deep = format!("{}{}", "{\"error\":".repeat(5_000), "}".repeat(5_000));
        assert!(!read(deep.as_bytes()).message.is_empty());
    }
}
