//! The errors that providers answer with, in each provider's own shape.
//!
//! A [`Refusal`] says what is wrong; [`Refusal::body`] writes it as the asked provider would. It never decides the status
//! by the dialect: where providers differ (a bad key is 400 for Gemini), the caller says so.

use super::json::{self, Object};

/// Whose manners an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Dialect {
    /// OpenAI Chat Completions, and OpenAI's calls other than Responses.
    Chat,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Anthropic,
    /// Gemini generateContent.
    Gemini,
}

impl Dialect {
    /// Whether this is one of OpenAI's two shapes, which share their errors.
    pub(super) fn is_openai(self) -> bool {
        match self {
            Dialect::Chat | Dialect::Responses => true,
            Dialect::Anthropic | Dialect::Gemini => false,
        }
    }
}

/// Why a request is refused, before it takes a provider's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
    /// OpenAI's `code`; for Gemini the `reason` of an `ErrorInfo` detail.
    pub(super) code: Option<&'static str>,
    /// The `type`, where it is not the status's usual one.
    pub(super) kind: Option<&'static str>,
    /// OpenAI's `param`.
    pub(super) param: Option<String>,
    /// Seconds to wait: the `RetryInfo` detail that Google puts into the body.
    pub(super) retry_seconds: Option<u64>,
}

/// What a check finds: nothing, or the reason to refuse.
pub(super) type Checked<T> = Result<T, Refusal>;

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Refusal { status, message: message.into(), code: None, kind: None, param: None, retry_seconds: None }
    }

    /// A 400.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Refusal::new(400, message)
    }

    pub(super) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub(super) fn kind(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    pub(super) fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The body of the error reply.
    pub(super) fn body(&self, dialect: Dialect, request_id: &str) -> String {
        match dialect {
            Dialect::Chat | Dialect::Responses => json::object(|o| {
                o.object("error", |e| self.openai_fields(e));
            }),
            Dialect::Anthropic => json::object(|o| {
                o.text("type", "error").object("error", |e| {
                    e.text("type", self.kind.unwrap_or(anthropic_type(self.status))).text("message", &self.message);
                });
                o.text("request_id", request_id);
            }),
            Dialect::Gemini => json::object(|o| {
                o.object("error", |e| self.google_fields(e));
            }),
        }
    }

    /// `message`, `type`, `param` and `code`, as OpenAI's error objects have them.
    pub(super) fn openai_fields(&self, e: &mut Object) {
        e.text("message", &self.message).text("type", self.openai_type());
        e.text_or_null("param", self.param.as_deref()).text_or_null("code", self.code);
    }

    pub(super) fn openai_type(&self) -> &'static str {
        self.kind.unwrap_or(match self.status {
            400 | 401 | 403 | 404 => "invalid_request_error",
            429 => "rate_limit_exceeded",
            _ => "server_error",
        })
    }

    /// Azure's API management answers with a string code and neither type nor param.
    pub(super) fn azure_body(&self) -> String {
        let code = self.status.to_string();
        json::object(|o| {
            o.object("error", |e| {
                e.text("code", self.code.unwrap_or(&code)).text("message", &self.message);
            });
        })
    }

    fn google_fields(&self, e: &mut Object) {
        e.number("code", self.status.into()).text("message", &self.message).text("status", google_status(self.status));
        if let Some(seconds) = self.retry_seconds {
            e.list("details", |l| {
                l.object(|d| {
                    d.text("@type", "type.googleapis.com/google.rpc.RetryInfo");
                    d.text("retryDelay", &format!("{seconds}s"));
                });
            });
        } else if let Some(reason) = self.code {
            e.list("details", |l| {
                l.object(|d| {
                    d.text("@type", "type.googleapis.com/google.rpc.ErrorInfo").text("reason", reason);
                    d.text("domain", "googleapis.com").object("metadata", |m| {
                        m.text("service", "generativelanguage.googleapis.com");
                    });
                });
            });
        }
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

fn google_status(status: u16) -> &'static str {
    match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        402 => "FAILED_PRECONDITION",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        503 | 529 => "UNAVAILABLE",
        _ => "UNKNOWN",
    }
}

/// Refuses with the given [`Refusal`] unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $refusal:expr $(,)?) => {
        if !$condition {
            return Err($refusal);
        }
    };
}
pub(super) use ensure;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn body(refusal: &Refusal, dialect: Dialect) -> Value {
        serde_json::from_str(&refusal.body(dialect, "req_1")).unwrap()
    }

    #[test]
    fn each_provider_words_the_same_refusal_in_its_own_shape() {
        let refusal = Refusal::new(429, "slow down").code("rate_limit_exceeded").at("x");
        let openai = body(&refusal, Dialect::Chat);
        assert_eq!(openai["error"]["code"], "rate_limit_exceeded");
        assert_eq!(openai["error"]["param"], "x");
        let anthropic = body(&refusal, Dialect::Anthropic);
        assert_eq!(anthropic["error"]["type"], "rate_limit_error");
        assert_eq!(anthropic["request_id"], "req_1");
        let gemini = body(&Refusal { retry_seconds: Some(7), ..refusal }, Dialect::Gemini);
        assert_eq!(gemini["error"]["status"], "RESOURCE_EXHAUSTED");
        assert_eq!(gemini["error"]["details"][0]["retryDelay"], "7s");
    }
}
