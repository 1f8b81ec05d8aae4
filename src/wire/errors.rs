//! Sorts the errors of all providers into kinds that every format can say.
//!
//! `upstream_error` reads them; here it is told what kind they are. Takes any body and never fails.

use super::{
    fields::Json,
    reply::{ErrorKind, ReplyError},
    telltale::Key,
    upstream_error,
};

/// The words by which providers name a kind of error.
const WORDS: [(&str, ErrorKind); 36] = [
    ("insufficient_quota", ErrorKind::Quota),
    ("billing_error", ErrorKind::Quota),
    ("billing_hard_limit_reached", ErrorKind::Quota),
    ("context_length_exceeded", ErrorKind::ContextTooLong),
    ("API_KEY_INVALID", ErrorKind::Authentication),
    ("invalid_api_key", ErrorKind::Authentication),
    ("authentication_error", ErrorKind::Authentication),
    ("UNAUTHENTICATED", ErrorKind::Authentication),
    ("invalid_authentication_error", ErrorKind::Authentication),
    ("permission_error", ErrorKind::Permission),
    ("permission_denied", ErrorKind::Permission),
    ("PERMISSION_DENIED", ErrorKind::Permission),
    ("unsupported_country_region_territory", ErrorKind::Permission),
    ("not_found_error", ErrorKind::NotFound),
    ("model_not_found", ErrorKind::NotFound),
    ("DeploymentNotFound", ErrorKind::NotFound),
    ("NOT_FOUND", ErrorKind::NotFound),
    ("request_too_large", ErrorKind::TooLarge),
    ("rate_limit_error", ErrorKind::RateLimit),
    ("rate_limit_exceeded", ErrorKind::RateLimit),
    ("rate_limit_reached", ErrorKind::RateLimit),
    ("too_many_requests", ErrorKind::RateLimit),
    ("RESOURCE_EXHAUSTED", ErrorKind::RateLimit),
    ("overloaded_error", ErrorKind::Overloaded),
    ("overloaded", ErrorKind::Overloaded),
    ("UNAVAILABLE", ErrorKind::Overloaded),
    ("service_unavailable", ErrorKind::Overloaded),
    ("timeout_error", ErrorKind::Timeout),
    ("DEADLINE_EXCEEDED", ErrorKind::Timeout),
    ("server_error", ErrorKind::Server),
    ("api_error", ErrorKind::Server),
    ("INTERNAL", ErrorKind::Server),
    ("internal_server_error", ErrorKind::Server),
    ("invalid_request_error", ErrorKind::InvalidRequest),
    ("INVALID_ARGUMENT", ErrorKind::InvalidRequest),
    ("FAILED_PRECONDITION", ErrorKind::InvalidRequest),
];

/// Reads an error reply of any provider; status 0 where the error came inside a stream or a reply with status 200.
pub(crate) fn read(status: u16, body: &[u8]) -> ReplyError {
    let error = upstream_error::read(body);
    let status = if status >= 400 { status } else { error.status.unwrap_or(0) };
    let code = Some(error.code).filter(|code| !code.is_empty() && code.parse::<u16>().is_err());
    ReplyError {
        kind: kind_of(status, [&error.kind, code.as_deref().unwrap_or_default()], &error.message),
        code,
        message: error.message,
        retry_after: error.retry_after,
    }
}

/// Why a whole reply could not be read: the error that came in its place, or what is wrong with one that holds an answer.
pub(crate) fn read_unread(body: &[u8], answer: &Key, fault: &serde_json::Error) -> ReplyError {
    if answer.stands_in(body) { ReplyError::unreadable(fault) } else { read(0, body) }
}

/// Reads an error object.
pub(crate) fn read_raw(error: Json<'_>) -> ReplyError {
    read(0, error.get().as_bytes())
}

fn kind_of(status: u16, words: [&str; 2], message: &str) -> ErrorKind {
    const TOO_LONG: [&str; 4] =
        ["prompt is too long", "input token count", "maximum context length", "context length exceeded"];
    if matches!(status, 0 | 400 | 413 | 422) && TOO_LONG.iter().any(|words| message.contains(words)) {
        return ErrorKind::ContextTooLong;
    }
    let known = |word: &&str| WORDS.iter().find(|(w, _)| w == word).map(|(_, kind)| *kind);
    // A general word does not outweigh a telling status.
    let tells = |kind: &ErrorKind| match kind {
        ErrorKind::Server | ErrorKind::InvalidRequest => status < 400,
        ErrorKind::ContextTooLong
        | ErrorKind::Authentication
        | ErrorKind::Quota
        | ErrorKind::Permission
        | ErrorKind::NotFound
        | ErrorKind::TooLarge
        | ErrorKind::RateLimit
        | ErrorKind::Overloaded
        | ErrorKind::Timeout => true,
    };
    words.iter().filter_map(known).find(tells).unwrap_or_else(|| kind_of_status(status))
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Authentication,
        402 => ErrorKind::Quota,
        403 => ErrorKind::Permission,
        404 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::Timeout,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimit,
        503 | 529 => ErrorKind::Overloaded,
        400..=499 => ErrorKind::InvalidRequest,
        _ => ErrorKind::Server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_s_way_of_saying_it_is_understood() {
        for (status, body, kind, message) in [
            (
                401,
                r#"{"error":{"message":"bad key","type":"invalid_request_error","code":"invalid_api_key"}}"#,
                ErrorKind::Authentication,
                "bad key",
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#,
                ErrorKind::Authentication,
                "API key not valid",
            ),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                ErrorKind::Overloaded,
                "Overloaded",
            ),
            (
                0,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                ErrorKind::Overloaded,
                "Overloaded",
            ),
            (
                429,
                r#"{"error":{"message":"no money","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                ErrorKind::Quota,
                "no money",
            ),
            (422, r#"{"detail":"wrong"}"#, ErrorKind::InvalidRequest, "wrong"),
            (400, r#"{"code":"x","error":"text"}"#, ErrorKind::InvalidRequest, "text"),
            (404, r#"{"error":{"code":"404","message":"gone"}}"#, ErrorKind::NotFound, "gone"),
            (
                401,
                r#"{"error":{"message":"Unauthorized","type":"api_error"}}"#,
                ErrorKind::Authentication,
                "Unauthorized",
            ),
            (503, "upstream connect error", ErrorKind::Overloaded, "upstream connect error"),
            (502, "<html><h1>Bad</h1><p>gateway</p></html>", ErrorKind::Server, "Bad gateway"),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}"#,
                ErrorKind::ContextTooLong,
                "prompt is too long: 9 tokens > 8 maximum",
            ),
        ] {
            let error = read(status, body.as_bytes());
            assert_eq!((error.kind, &*error.message), (kind, message), "{body}");
        }
    }

    #[test]
    fn the_wait_that_google_names_is_kept() {
        let google = br#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"@type":"x"},{"retryDelay":"34.4s"}]}}]"#;
        let error = read(429, google);
        assert_eq!(error.kind, ErrorKind::RateLimit);
        assert_eq!(error.retry_after, Some(std::time::Duration::from_secs_f64(34.4)));
    }
}
