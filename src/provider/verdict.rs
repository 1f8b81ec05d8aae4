//! Judges an upstream's answer: from status, headers and the body's code to a failure class.
//!
//! Pure; `now` is an argument. The table is in `docs/accounts.md`. Never reads a successful answer: a `retry-after` on a
//! 200 is no error. A verdict never holds the body's text, which may name the account.

use super::{
    hint,
    signs::{Signs, classify},
};
use crate::{clock::Moment, wire::tap::UpstreamError};
use std::time::Duration;

/// What a failed attempt says about the account, and what follows for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The account's rate limit is reached.
    Rate,
    /// The provider (or this model on it) is overloaded.
    Overload,
    /// Credit or quota is used up.
    MoneyGone,
    /// The key is refused.
    AuthDead,
    /// Transport or server fault.
    Fault,
    /// The account is well but has not what was asked for (the model, the deployment, an earlier response), or its limits
    /// could never hold the request: another account may serve it. If none does, the answer goes to the caller as it is.
    NotHere,
    /// The request itself is at fault; the answer goes to the caller as it is.
    Client,
}

impl FailureClass {
    /// Whether another account may serve the request.
    pub fn fails_over(self) -> bool {
        self != FailureClass::Client
    }

    /// Whether the answer is about the request, so that the caller is shown it as it is when nobody else can serve, and
    /// the account is not blamed.
    pub fn is_about_the_request(self) -> bool {
        matches!(self, FailureClass::NotHere | FailureClass::Client)
    }

    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            FailureClass::Rate => "rate",
            FailureClass::Overload => "overload",
            FailureClass::MoneyGone => "money_gone",
            FailureClass::AuthDead => "auth_dead",
            FailureClass::Fault => "fault",
            FailureClass::NotHere => "not_here",
            FailureClass::Client => "client",
        }
    }
}

/// The judgement of one failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The class.
    pub class: FailureClass,
    /// How long the provider asks to stay away, from headers or body; not yet clamped.
    pub retry_after: Option<Duration>,
    /// Whether only this model of the account is affected.
    pub model_only: bool,
    /// Whether no second sign is needed: the account itself is told, not an answer to one request.
    pub is_certain: bool,
    /// A short reason for logs and states: status and code, never the body's text.
    pub reason: String,
}

impl Verdict {
    /// What a connection that broke says: refused, reset, timed out, ended inside the body. `reason` says which.
    pub fn fault(reason: impl Into<String>) -> Verdict {
        let reason = reason.into();
        Verdict { class: FailureClass::Fault, retry_after: None, model_only: false, is_certain: false, reason }
    }
}

/// Judges an answer with an error status, or an error event inside a stream (then `status` is what the event stands for,
/// or the stream's own 200: the event's code decides).
pub fn judge(status: u16, headers: &http::HeaderMap, error: Option<&UpstreamError>, now: Moment) -> Verdict {
    let signs = Signs::new(status, headers, error);
    let mut retry_after = hint::told(headers, error, now);
    let subscription = hint::used_up_subscription(headers, now).filter(|_| signs.status == 429);
    let (mut class, mut model_only) = match subscription {
        Some(reset) => {
            retry_after = reset;
            (FailureClass::MoneyGone, false)
        }
        None => classify(&signs, retry_after.is_some()),
    };
    let says_retry = headers.get("x-should-retry").is_some_and(|value| value.as_bytes() == b"true");
    if class == FailureClass::Client && says_retry {
        (class, model_only) = (FailureClass::Fault, false);
    }
    Verdict { class, retry_after, model_only, is_certain: false, reason: signs.reason() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::ManualClock,
        wire::{WireFormat, tap::Seen},
    };
    use FailureClass::*;
    use http::{HeaderMap, HeaderName};
    use std::{collections::BTreeMap, fs, path::Path};

    fn error(code: &str, kind: &str, message: &str) -> UpstreamError {
        UpstreamError { code: code.into(), kind: kind.into(), message: message.into(), ..Default::default() }
    }

    fn verdict(status: u16, pairs: &[(&'static str, &str)], error: Option<&UpstreamError>) -> Verdict {
        let headers: HeaderMap =
            pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        judge(status, &headers, error, ManualClock::new().now())
    }

    fn class(status: u16, code: &str, kind: &str, message: &str) -> FailureClass {
        verdict(status, &[("content-type", "application/json")], Some(&error(code, kind, message))).class
    }

    #[test]
    fn a_status_alone_has_a_class() {
        for (status, expected) in [
            (301, Fault),
            (307, Fault),
            (400, Client),
            (401, Fault),
            (402, MoneyGone),
            (403, Fault),
            (404, NotHere),
            (405, Client),
            (407, Fault),
            (408, Fault),
            (409, Fault),
            (410, NotHere),
            (413, Client),
            (415, Client),
            (422, Client),
            (424, Fault),
            (425, Fault),
            (429, Rate),
            (451, Client),
            (498, Overload),
            (499, Fault),
            (500, Fault),
            (501, Fault),
            (502, Fault),
            (503, Overload),
            (504, Fault),
            (520, Fault),
            (522, Fault),
            (526, Fault),
            (529, Overload),
            (599, Fault),
        ] {
            assert_eq!(verdict(status, &[], None).class, expected, "{status}");
        }
    }

    #[test]
    fn a_proxys_page_says_nothing_about_the_key_or_the_request() {
        let page = error("", "", "401 Authorization Required");
        for content_type in ["text/html; charset=UTF-8", "text/plain"] {
            for (status, expected) in [(401, Fault), (403, Fault), (404, NotHere), (502, Fault), (503, Overload)] {
                let judged = verdict(status, &[("content-type", content_type)], Some(&page));
                assert_eq!(judged.class, expected, "{status} {content_type}");
            }
        }
        let own_words = error("", "", "Invalid API Key");
        let judged = verdict(401, &[("content-type", "application/json")], Some(&own_words));
        assert_eq!(judged.class, AuthDead, "JSON is the provider's own, even without a code");
    }

    #[test]
    fn the_same_quota_sentence_is_money_without_a_wait_and_rate_with_one() {
        let quota = error("RESOURCE_EXHAUSTED", "", "You exceeded your current quota, please check your plan.");
        assert_eq!(verdict(429, &[], Some(&quota)).class, MoneyGone);
        let minute = UpstreamError { retry_after: Some(Duration::from_secs(34)), ..quota.clone() };
        assert_eq!(verdict(429, &[], Some(&minute)).class, Rate);
        assert_eq!(verdict(429, &[("retry-after", "7")], Some(&quota)).class, Rate);
        let day = UpstreamError { message: format!("{} GenerateRequestsPerDayPerModel", quota.message), ..minute };
        let judged = verdict(429, &[], Some(&day));
        assert_eq!((judged.class, judged.model_only), (MoneyGone, true));
    }

    #[test]
    fn typed_money_codes_count_whatever_their_status_and_wait() {
        for status in [200, 400, 401, 403, 429, 500] {
            assert_eq!(class(status, "insufficient_quota", "", ""), MoneyGone, "{status}");
        }
        let told = verdict(429, &[("retry-after", "1")], Some(&error("insufficient_quota", "", "")));
        assert_eq!(told.class, MoneyGone);
    }

    #[test]
    fn money_that_is_gone_is_known_by_each_providers_words() {
        for (status, message) in [
            (400, "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."),
            (400, "You have reached your specified API usage limits. You will regain access on 2026-02-01."),
            (429, "Your team has either used all available credits or reached its monthly spending limit."),
            (403, "Key limit exceeded (monthly limit)."),
            (429, "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing."),
            (402, "Insufficient Balance"),
            (429, "Your account is not active, please check your billing details on our website."),
        ] {
            assert_eq!(class(status, "", "invalid_request_error", message), MoneyGone, "{message}");
        }
    }

    #[test]
    fn a_used_up_subscription_window_is_exhausted_until_its_reset() {
        let pairs = [
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-reset", "9999999999"),
            ("retry-after", "10"),
        ];
        let error = error("", "rate_limit_error", "This request would exceed your account's rate limit.");
        let judged = verdict(429, &pairs, Some(&error));
        assert_eq!(judged.class, MoneyGone);
        assert!(judged.retry_after.unwrap() > Duration::from_secs(10));
        assert_eq!(verdict(529, &pairs, Some(&error)).class, Overload, "only a 429 is about the window");
    }

    #[test]
    fn a_key_is_dead_only_where_the_provider_says_so() {
        for (status, code, kind, message, expected) in [
            (401, "invalid_api_key", "invalid_request_error", "Incorrect API key provided: sk-x.", AuthDead),
            (401, "", "authentication_error", "invalid x-api-key", AuthDead),
            (400, "API_KEY_INVALID", "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", AuthDead),
            (400, "INVALID_ARGUMENT", "", "API key not valid. Please pass a valid API key.", AuthDead),
            (400, "invalid-argument", "", "Incorrect API key provided. You can obtain one.", AuthDead),
            (400, "", "invalid_request_error", "This organization has been disabled.", AuthDead),
            (
                403,
                "PERMISSION_DENIED",
                "",
                "Your API key was reported as leaked. Please use another API key.",
                AuthDead,
            ),
            (403, "PERMISSION_DENIED", "", "Method doesn't allow unregistered callers.", AuthDead),
            (401, "", "", "No cookie auth credentials found", AuthDead),
            (401, "", "api_error", "something else", Fault),
            (403, "PERMISSION_DENIED", "", "You do not have permission to access the File abc.", NotHere),
            (403, "", "invalid_request_error", "You are not allowed to sample from this model", NotHere),
            (403, "unsupported_country_region_territory", "", "Country not supported", NotHere),
            (403, "", "", "Your input was flagged by moderation.", Client),
            (400, "FAILED_PRECONDITION", "", "User location is not supported for the API use.", NotHere),
            (400, "content_filter", "", "The response was filtered", Client),
        ] {
            assert_eq!(class(status, code, kind, message), expected, "{status} {code} {message}");
        }
    }

    #[test]
    fn a_key_that_may_not_use_one_thing_is_dead_for_that_model_only() {
        let refused =
            error("", "permission_error", "Your API key does not have permission to use the specified resource.");
        let judged = verdict(403, &[], Some(&refused));
        assert_eq!((judged.class, judged.model_only), (AuthDead, true));
    }

    #[test]
    fn a_model_that_is_not_here_may_be_elsewhere() {
        for (status, code, message) in [
            (404, "model_not_found", "The model `x` does not exist or you do not have access to it."),
            (404, "", "model: claude-sonet-4-5"),
            (404, "NOT_FOUND", "models/gemini-x is not found for API version v1beta"),
            (404, "DeploymentNotFound", "The API deployment for this resource does not exist."),
            (400, "model_not_found", "The requested model 'x' does not exist."),
            (400, "", "Model nonexistent is not supported. Supported models are ['a']."),
            (400, "previous_response_not_found", "Previous response with id 'resp_1' not found."),
            (400, "invalid_encrypted_content", "The encrypted content could not be verified."),
            (429, "rate_limit_exceeded", "Request too large for gpt-4o on tokens per min (TPM): Limit 30000."),
        ] {
            let judged = class(status, code, "", message);
            assert_eq!(judged, NotHere, "{message}");
            assert!(judged.fails_over() && judged.is_about_the_request());
        }
    }

    #[test]
    fn the_clients_own_faults_stay_the_clients() {
        for (status, code, message) in [
            (400, "context_length_exceeded", "This model's maximum context length is 128000 tokens."),
            (400, "", "prompt is too long: 3333404 tokens > 200000 maximum"),
            (400, "unsupported_parameter", "Unsupported parameter: 'stop' is not supported with this model."),
            (400, "", "This model does not support effort level 'xhigh'."),
            (413, "request_too_large", "Request exceeds the maximum size"),
            (422, "", "Unprocessable"),
            (404, "", "Response with id 'resp_1' not found."),
        ] {
            let judged = class(status, code, "", message);
            assert_eq!(judged, Client, "{message}");
            assert!(!judged.fails_over());
        }
    }

    #[test]
    fn overload_is_known_by_word_as_well_as_by_status_and_is_the_models() {
        for (status, kind, message) in [
            (529, "overloaded_error", "Overloaded"),
            (500, "server_error", "The server is currently overloaded with other requests."),
            (429, "engine_overloaded_error", "The engine is currently overloaded, please try again later"),
            (503, "", "upstream connect error or disconnect/reset before headers"),
            (200, "overloaded_error", "Overloaded"),
        ] {
            let judged = verdict(status, &[], Some(&error("", kind, message)));
            assert_eq!((judged.class, judged.model_only), (Overload, true), "{status} {message}");
        }
    }

    #[test]
    fn an_error_inside_a_stream_is_judged_by_its_code() {
        for (code, kind, expected) in [
            ("insufficient_quota", "insufficient_quota", MoneyGone),
            ("", "rate_limit_error", Rate),
            ("rate_limit_exceeded", "tokens", Rate),
            ("UNAVAILABLE", "", Overload),
            ("", "invalid_request_error", Client),
            ("400", "", Client),
            ("502", "", Fault),
            ("server_error", "", Fault),
            ("", "api_error", Fault),
            ("", "", Fault),
        ] {
            assert_eq!(class(200, code, kind, ""), expected, "{code} {kind}");
        }
        let named = UpstreamError { status: Some(429), ..error("x", "", "") };
        assert_eq!(verdict(200, &[], Some(&named)).class, Rate);
    }

    #[test]
    fn a_limit_that_names_its_model_is_that_models() {
        for (message, expected) in [
            ("Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000", true),
            ("Your requests to gpt-4o for gpt-4o in westeurope have exceeded rate limit.", true),
            ("Quota exceeded for metric: input_token_count, limit: 1000000, model: gemini-2.5-flash", true),
            ("This request would exceed your organization's rate limit of 40,000 input tokens per minute.", false),
        ] {
            let judged = verdict(429, &[("retry-after", "2")], Some(&error("", "", message)));
            assert_eq!((judged.class, judged.model_only), (Rate, expected), "{message}");
        }
    }

    #[test]
    fn a_provider_that_says_try_again_is_not_answered_with_the_clients_fault() {
        assert_eq!(verdict(400, &[("x-should-retry", "true")], None).class, Fault);
        assert_eq!(verdict(400, &[("x-should-retry", "false")], None).class, Client);
    }

    #[test]
    fn the_reason_is_status_and_code_and_never_the_text() {
        let judged = verdict(401, &[], Some(&error("invalid_api_key", "", "Incorrect API key provided: sk-secret")));
        assert_eq!(judged.reason, "401 invalid_api_key");
        let odd = error("sk-secret in a sentence", "", "");
        assert_eq!(verdict(401, &[], Some(&odd)).reason, "401");
        assert_eq!(verdict(529, &[], Some(&error("", "overloaded_error", "x"))).reason, "529 overloaded_error");
        assert_eq!(Verdict::fault("connection reset").reason, "connection reset");
    }

    /// The error of a recorded reply, as the tap of its format reads it.
    fn recorded_error(exchange: &serde_json::Value) -> Option<UpstreamError> {
        let format = match exchange["api"].as_str().unwrap_or_default() {
            api if api.starts_with("anthropic") => WireFormat::Anthropic,
            api if api.starts_with("gemini") => WireFormat::Gemini,
            api if api.starts_with("openai.responses") => WireFormat::OpenaiResponses,
            _ => WireFormat::OpenaiChat,
        };
        let body = match &exchange["response_body"] {
            serde_json::Value::String(text) => text.clone(),
            tree => tree.to_string(),
        };
        let mut seen = Seen::default();
        format.behaviour().read_reply(body.as_bytes(), &mut seen);
        seen.error
    }

    fn json_files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                json_files(&path, found);
            } else if path.extension().is_some_and(|ext| ext == "json") {
                found.push(path);
            }
        }
    }

    /// The classes of every recorded and documented error: by rule where the status alone decides, by name elsewhere.
    #[test]
    fn recorded_errors_have_their_class() {
        let traffic = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/traffic");
        let mut files = Vec::new();
        json_files(&traffic.join("errors_documented"), &mut files);
        json_files(&traffic.join("exchanges"), &mut files);
        if files.is_empty() {
            println!("skipped: recorded_errors_have_their_class: shared traffic not present");
            return;
        }
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for file in files {
            let exchange: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            let Some(status @ 400..) = exchange["status"].as_u64() else { continue };
            let id = exchange["id"].as_str().unwrap_or_default().to_owned();
            let headers: HeaderMap = exchange["response_headers"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.as_str()?.parse().ok()?)))
                .collect();
            let error = recorded_error(&exchange);
            let judged = judge(status as u16, &headers, error.as_ref(), ManualClock::new().now());
            let message = error.map(|e| e.message).unwrap_or_default().to_lowercase();
            let expected = match (status, id.as_str()) {
                (_, "chat.429-quota") => MoneyGone,
                (_, "chat.429-too-large") => NotHere,
                (_, "gemini.400-precondition") => NotHere,
                (400, _) if message.contains("api key") => AuthDead,
                (400, _) if message.contains("does not exist") || message.contains("nonexistent") => NotHere,
                (403, _) if message.contains("not allowed to") => NotHere,
                (404, _) if message.contains("response with id") => Client,
                (404, _) if message.contains("resource not found") => Client,
                (401 | 403, _) => AuthDead,
                (402, _) => MoneyGone,
                (404, _) => NotHere,
                (429, _) => Rate,
                (503 | 529, _) => Overload,
                (500.., _) => Fault,
                _ => Client,
            };
            assert_eq!(judged.class, expected, "{id}: {status} {message}");
            *counts.entry(expected.name()).or_default() += 1;
        }
        println!("judged: {counts:?}");
        assert!(
            ["rate", "overload", "money_gone", "auth_dead", "fault", "not_here", "client"]
                .iter()
                .all(|name| counts.contains_key(name))
        );
    }

    #[test]
    fn documented_waits_are_found_where_they_stand() {
        let openai = [("retry-after-ms", "644"), ("retry-after", "1"), ("x-ratelimit-remaining-tokens", "0")];
        assert_eq!(verdict(429, &openai, None).retry_after, Some(Duration::from_millis(644)));
        assert_eq!(verdict(429, &[("retry-after", "12")], None).retry_after, Some(Duration::from_secs(12)));
        assert_eq!(verdict(429, &[], None).retry_after, None);
    }
}
