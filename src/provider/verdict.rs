//! Judges an upstream's answer: from status, headers and the body's code to a failure class.
//!
//! Pure; `now` is an argument. The table is in `docs/accounts.md`. Never reads a successful answer: a `retry-after` on a
//! 200 is no error. A verdict never holds the body's text, which may name the account.

use super::hint;
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
    /// A short reason for logs and states: status and code, never the body's text.
    pub reason: String,
}

impl Verdict {
    /// What a connection that broke says: refused, reset, timed out, ended inside the body. `reason` says which.
    pub fn fault(reason: impl Into<String>) -> Verdict {
        Verdict { class: FailureClass::Fault, retry_after: None, model_only: false, reason: reason.into() }
    }
}

/// Judges an answer with an error status, or an error event inside a stream (then `status` is what the event stands for,
/// or the stream's own 200: the event's code decides).
pub fn judge(status: u16, headers: &http::HeaderMap, error: Option<&UpstreamError>, now: Moment) -> Verdict {
    let signs = Signs::new(status, error);
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
    Verdict { class, retry_after, model_only, reason: signs.reason() }
}

/// What an answer shows, in one case.
struct Signs {
    status: u16,
    code: String,
    kind: String,
    text: String,
    /// Whether there is an error in a form that the provider's own API has; a proxy's page is none.
    is_typed: bool,
}

impl Signs {
    fn new(status: u16, error: Option<&UpstreamError>) -> Signs {
        /// Enough for any provider's sentence, and a bound on what a hostile body costs.
        const MOST: usize = 4096;
        let lower = |text: &str| text.chars().take(MOST).flat_map(char::to_lowercase).collect::<String>();
        let mut signs = Signs {
            status,
            code: error.map_or_else(String::new, |e| lower(&e.code)),
            kind: error.map_or_else(String::new, |e| lower(&e.kind)),
            text: error.map_or_else(String::new, |e| lower(&e.message)),
            is_typed: false,
        };
        let is_page = ["<html", "<!doctype", "<head", "<body"].iter().any(|tag| signs.text.contains(tag));
        signs.is_typed = !is_page && !(signs.code.is_empty() && signs.kind.is_empty() && signs.text.is_empty());
        if status < 300 {
            signs.status = error.and_then(|e| e.status).filter(|s| *s >= 400).unwrap_or_else(|| signs.implied_status());
        }
        signs
    }

    fn is_code(&self, codes: &[&str]) -> bool {
        codes.iter().any(|code| *code == self.code || *code == self.kind)
    }

    fn says(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.text.contains(phrase))
    }

    /// The status that an error's code stands for, where the answer began with a 200.
    fn implied_status(&self) -> u16 {
        const CODES: &[(u16, &[&str])] = &[
            (529, &["overloaded_error", "overloaded", "server_overloaded"]),
            (503, &["unavailable", "service_unavailable", "slow_down"]),
            (429, &["rate_limit_error", "rate_limit_exceeded", "resource_exhausted", "too_many_requests", "tokens"]),
            (402, &["billing_error", "payment_required"]),
            (401, &["authentication_error", "invalid_api_key", "unauthenticated"]),
            (403, &["permission_error", "permission_denied"]),
            (404, &["not_found_error", "not_found", "model_not_found"]),
            (413, &["request_too_large"]),
            (504, &["timeout_error", "deadline_exceeded"]),
            (400, &["invalid_request_error", "invalid_argument", "failed_precondition", "context_length_exceeded"]),
            (400, &["content_filter", "content_policy_violation", "invalid_prompt", "out_of_range"]),
        ];
        let implied = CODES.iter().find(|(_, codes)| self.is_code(codes)).map(|(status, _)| *status);
        implied.or_else(|| self.code.parse().ok().filter(|s| (400..600).contains(s))).unwrap_or(500)
    }

    /// Status and code: what may stand in a log. A code that is no plain word is left out.
    fn reason(&self) -> String {
        let is_word = |word: &&str| {
            (1..=60).contains(&word.len())
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
                && *word != self.status.to_string()
        };
        match [self.code.as_str(), self.kind.as_str()].into_iter().find(is_word) {
            Some(word) => format!("{} {word}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// The class, and whether it is about one model only. Order matters: what the body says comes before what the status
/// says, since providers agree on the words more than on the numbers.
fn classify(signs: &Signs, is_wait_told: bool) -> (FailureClass, bool) {
    use FailureClass::*;
    if is_money_gone(signs, is_wait_told) {
        return (MoneyGone, names_model(signs));
    }
    match signs.status {
        ..400 | 407 | 408 | 409 | 424 | 425 | 499 => (Fault, false),
        401 => (if signs.is_typed && names_key(signs) { AuthDead } else { Fault }, false),
        402 => (MoneyGone, false),
        403 => classify_forbidden(signs),
        404 if !signs.is_typed || signs.says(&["model", "deployment"]) => (NotHere, true),
        404 | 400 | 422 if is_elsewhere(signs) => (NotHere, true),
        400 if is_key_refused(signs) => (AuthDead, false),
        410 => (NotHere, true),
        429 if is_overload(signs) => (Overload, true),
        429 if signs.says(&["request too large", "long context requests"]) => (NotHere, true),
        429 => (Rate, names_model(signs)),
        498 | 503 | 529 => (Overload, true),
        500.. if is_overload(signs) => (Overload, true),
        500.. => (Fault, false),
        _ => (Client, false),
    }
}

fn is_money_gone(signs: &Signs, is_wait_told: bool) -> bool {
    const CODES: &[&str] = &[
        "insufficient_quota",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_funds",
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_disabled",
        "credit_balance_too_low",
        "exceeded_current_quota_error",
        "payment_required",
        "spend_limit_exceeded",
        "1113",
    ];
    const PHRASES: &[&str] = &[
        "credit balance is too low",
        "insufficient balance",
        "insufficient credits",
        "insufficient funds",
        "purchase more credits",
        "used all available credits",
        "monthly spending limit",
        "billing hard limit",
        "please check your billing details",
        "reached your specified api usage limits",
        "key limit exceeded",
    ];
    /// Google's ids of daily quotas.
    const PER_DAY: &[&str] = &["perday", "per_day"];
    if signs.is_code(CODES) {
        return true;
    }
    // Elsewhere such words could only be an echo of the request.
    if !signs.is_typed || !matches!(signs.status, 400 | 401 | 403 | 412 | 429) {
        return false;
    }
    let is_daily = PER_DAY.iter().any(|id| [&signs.text, &signs.code, &signs.kind].iter().any(|at| at.contains(id)));
    // The same sentence stands over used-up money and over a limit per minute; only the latter tells a wait.
    let is_quota = signs.says(&["exceeded your current quota"]) && !is_wait_told;
    signs.says(PHRASES) || (signs.status == 429 && (is_daily || is_quota))
}

/// Whether a 401 is about the key, and not a proxy's.
fn names_key(signs: &Signs) -> bool {
    const WORDS: &[&str] =
        &["api key", "api-key", "apikey", "api_key", "subscription key", "credential", "authenti", "authoriz", "token"];
    WORDS.iter().any(|word| [&signs.text, &signs.code, &signs.kind].iter().any(|at| at.contains(word)))
}

/// Codes that refuse the key or the account behind it, whatever their status.
const KEY_CODES: &[&str] = &[
    "invalid_api_key",
    "api_key_invalid",
    "api_key_expired",
    "api_key_service_blocked",
    "api_key_ip_address_blocked",
    "api_key_http_referrer_blocked",
    "access_token_expired",
    "account_deactivated",
    "account_disabled",
    "account_suspended",
    "consumer_invalid",
    "consumer_suspended",
    "service_disabled",
    "authentication_error",
    "unauthenticated",
    "invalid_authentication_error",
];

/// Sentences that say that the account behind the key is shut.
const ACCOUNT_SHUT: &[&str] = &[
    "organization has been disabled",
    "account has been disabled",
    "account has been deactivated",
    "account has been suspended",
    "account is suspended",
    "account is disabled",
    "consumer has been suspended",
    "project has been denied",
    "has not been used in project",
];

/// Whether a 400 refuses the key: Google and xAI say so with that status.
fn is_key_refused(signs: &Signs) -> bool {
    const PHRASES: &[&str] = &["api key not valid", "incorrect api key", "invalid api key", "api key expired"];
    signs.is_code(KEY_CODES) || signs.says(PHRASES) || signs.says(ACCOUNT_SHUT)
}

/// A 403 can be about the key, about one model or resource, about the content, or about where the account is.
fn classify_forbidden(signs: &Signs) -> (FailureClass, bool) {
    const KEY: &[&str] = &["api key", "api-key", "api_key", "credential", "unregistered callers"];
    const ONE_RESOURCE: &[&str] = &["permission", "specified resource", "this model", "the model"];
    const CONTENT: &[&str] = &["flagged", "moderation", "content policy", "content_filter", "content management"];
    if !signs.is_typed {
        return (FailureClass::Fault, false);
    }
    if signs.says(CONTENT) || signs.is_code(&["content_filter", "content_policy_violation"]) {
        return (FailureClass::Client, false);
    }
    if signs.is_code(KEY_CODES) || signs.says(ACCOUNT_SHUT) {
        return (FailureClass::AuthDead, false);
    }
    if signs.says(KEY) || signs.is_code(&["permission_error"]) {
        // A key that may not use one thing may use the others.
        return (FailureClass::AuthDead, signs.says(ONE_RESOURCE) || signs.is_code(&["permission_error"]));
    }
    (FailureClass::NotHere, true)
}

/// Whether the thing asked for is not on this account but may be on another.
fn is_elsewhere(signs: &Signs) -> bool {
    const CODES: &[&str] = &[
        "model_not_found",
        "deploymentnotfound",
        "invalid_model",
        "model_not_available",
        "previous_response_not_found",
        "invalid_encrypted_content",
        "unsupported_country_region_territory",
    ];
    const PHRASES: &[&str] = &[
        "previous response with id",
        "user location is not supported",
        "encrypted content could not be",
        "invalid signature in thinking block",
    ];
    signs.is_code(CODES) || signs.says(PHRASES) || says_model_is_missing(&signs.text)
}

/// `… model `x` does not exist`, `model x is not supported`: the name directly before the words, since "not supported by
/// this model" is about something else.
fn says_model_is_missing(text: &str) -> bool {
    const MISSING: &[&str] = &[
        "does not exist",
        "not found",
        "is not found",
        "was not found",
        "is not supported",
        "is not available",
        "has been deprecated",
        "not exist",
    ];
    text.match_indices("model ").any(|(at, word)| {
        let after = text.get(at + word.len()..).unwrap_or("");
        let name_end = after.find(' ').unwrap_or(after.len());
        let rest = after.get(name_end..).unwrap_or("").trim_start();
        MISSING.iter().any(|missing| rest.starts_with(missing))
    })
}

fn is_overload(signs: &Signs) -> bool {
    const CODES: &[&str] = &[
        "overloaded_error",
        "engine_overloaded_error",
        "engine_overloaded",
        "server_overloaded",
        "server_busy",
        "slow_down",
        "nocapacity",
        "no_capacity",
        "service_tier_capacity_exceeded",
    ];
    const PHRASES: &[&str] = &["overloaded", "at capacity", "no capacity", "capacity exceeded", "server is busy"];
    signs.is_code(CODES) || (signs.is_typed && signs.says(PHRASES))
}

/// Whether a limit is one model's: how OpenAI, Google, Azure, Groq and OpenRouter word it.
fn names_model(signs: &Signs) -> bool {
    const PHRASES: &[&str] = &[
        "permodel",
        "per_model",
        ", model: ",
        "rate limit reached for ",
        "your requests to ",
        "limit_rpm/",
        "upstream. please retry",
    ];
    signs.says(PHRASES) || signs.code.contains("permodel")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
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
        verdict(status, &[], Some(&error(code, kind, message))).class
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
        let page = error("", "", "<html><head><title>401 Authorization Required</title></head></html>");
        for (status, expected) in [(401, Fault), (403, Fault), (404, NotHere), (502, Fault), (503, Overload)] {
            assert_eq!(verdict(status, &[], Some(&page)).class, expected, "{status}");
        }
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

    /// The error of a recorded reply, read as the taps of the wire formats do.
    fn recorded_error(body: &serde_json::Value) -> Option<UpstreamError> {
        let body = body.get(0).unwrap_or(body);
        let text = |at: Option<&serde_json::Value>| match at {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        if let serde_json::Value::String(page) = body {
            return Some(error("", "", page));
        }
        let Some(inner) = body.get("error").filter(|inner| inner.is_object()) else {
            let message = body.get("error").or_else(|| body.get("detail"));
            return message.map(|message| error(&text(body.get("code")), "", &text(Some(message))));
        };
        let details = inner.get("details").and_then(|d| d.as_array()).cloned().unwrap_or_default();
        let find = |field: &str| details.iter().find_map(|detail| detail.get(field));
        let code = match (find("reason"), inner.get("status")) {
            (Some(reason), _) => text(Some(reason)),
            (None, Some(status)) => text(Some(status)),
            (None, None) => text(inner.get("code")),
        };
        let delay = find("retryDelay").and_then(|delay| delay.as_str()?.strip_suffix('s')?.parse().ok());
        Some(UpstreamError {
            retry_after: delay.map(Duration::from_secs_f64),
            message: format!(
                "{} {}",
                text(inner.get("message")),
                text(find("violations").and_then(|v| v[0].get("quotaId")))
            ),
            ..error(&code, &text(inner.get("type").or_else(|| inner.get("status"))), "")
        })
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
            let error = recorded_error(&exchange["response_body"]);
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
