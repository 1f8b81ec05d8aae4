//! What the admin listener answers.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// A status and a body.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    content_type: &'static str,
    body: Vec<u8>,
}

#[derive(Serialize)]
struct Fault<'a> {
    error: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

impl Answer {
    /// 200 with JSON.
    pub(super) fn json(value: &impl Serialize) -> Answer {
        match serde_json::to_vec(value) {
            Ok(body) => Answer { status: 200, content_type: "application/json", body },
            Err(_) => Answer::fault(500, "the answer cannot be written as JSON"),
        }
    }

    /// 200 with a text of this type.
    pub(super) fn text(content_type: &'static str, text: String) -> Answer {
        Answer { status: 200, content_type, body: text.into_bytes() }
    }

    /// An error, as `{"error":{"message":…}}`.
    pub(super) fn fault(status: u16, message: &str) -> Answer {
        let body = serde_json::to_vec(&Fault { error: Message { message } }).unwrap_or_default();
        Answer { status, content_type: "application/json", body }
    }

    /// The same with another status.
    pub(super) fn with_status(self, status: u16) -> Answer {
        Answer { status, ..self }
    }

    /// As Pingora writes it. Nothing of it may be kept, framed or guessed at by a browser.
    pub(super) fn into_response(self) -> Response<Vec<u8>> {
        const GUARDS: [(HeaderName, &str); 5] = [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            // The page brings all that it needs along.
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                 form-action 'none'; frame-ancestors 'none'",
            ),
        ];
        let length = self.body.len();
        let mut response = Response::new(self.body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        for (name, value) in GUARDS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
