//! The signs of a failure: what status, code and words say, in the wording of each provider.
//!
//! Pure. Everything that is known of a provider's wording stands here; `verdict` turns it into a judgement.

use super::verdict::FailureClass;
use crate::wire::tap::UpstreamError;
use http::{HeaderMap, HeaderValue, header};

/// What an answer shows, in one case.
pub(super) struct Signs {
    pub(super) status: u16,
    code: String,
    kind: String,
    text: String,
    /// Whether there is an error in a form that the provider's own API has; a proxy's page is none.
    is_typed: bool,
}

impl Signs {
    /// `status` is the reply's; where that is a success, the error's own or what its code stands for takes its place.
    pub(super) fn new(status: u16, headers: &HeaderMap, error: Option<&UpstreamError>) -> Signs {
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
        let content_type =
            headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes).to_ascii_lowercase();
        let is_structured =
            content_type.starts_with(b"text/event-stream") || content_type.windows(4).any(|w| w == b"json");
        signs.is_typed = error.is_some() && (is_structured || !signs.code.is_empty() || !signs.kind.is_empty());
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

    /// Whether a word stands in the code, the kind or the text.
    fn names(&self, words: &[&str]) -> bool {
        words.iter().any(|word| [&self.text, &self.code, &self.kind].iter().any(|at| at.contains(word)))
    }

    /// Status and code: what may stand in a log. A code that is no plain word is left out.
    pub(super) fn reason(&self) -> String {
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
pub(super) fn classify(signs: &Signs, is_wait_told: bool) -> (FailureClass, bool) {
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
        "credits are depleted",
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
    let is_daily = signs.names(PER_DAY);
    // The same sentence stands over used-up money and over a limit per minute; only the latter tells a wait.
    let is_quota = signs.says(&["exceeded your current quota"]) && !is_wait_told;
    signs.says(PHRASES) || (signs.status == 429 && (is_daily || is_quota))
}

/// Whether a 401 is about the key, and not a proxy's.
fn names_key(signs: &Signs) -> bool {
    const WORDS: &[&str] =
        &["api key", "api-key", "apikey", "api_key", "subscription key", "credential", "authenti", "authoriz", "token"];
    signs.names(WORDS)
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
    signs.names(&["permodel", "per_model", ", model: ", "rate limit reached for ", "your requests to ", "limit_rpm/"])
}
