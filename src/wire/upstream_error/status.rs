//! Which HTTP status an error's own name stands for.
//!
//! Needed where no status line tells it: an error event inside a stream that began with 200.

/// The status for a code and its coarser type. A code that says little gives way to the type.
pub(super) fn of_code(code: &str, kind: &str) -> Option<u16> {
    let (by_code, by_kind) = (of_word(code), of_word(kind));
    match (by_code, by_kind) {
        // `invalid_request_error` is what several servers put beside every other name.
        (Some(400) | None, Some(other)) => Some(other),
        (found, _) => found,
    }
}

/// The status for the reason in Google's `ErrorInfo`. Google answers 400 to a bad key.
pub(super) fn of_reason(reason: &str) -> Option<u16> {
    match reason {
        "API_KEY_INVALID" | "API_KEY_EXPIRED" | "ACCESS_TOKEN_EXPIRED" | "ACCESS_TOKEN_TYPE_UNSUPPORTED" => Some(401),
        "API_KEY_SERVICE_BLOCKED" | "SERVICE_DISABLED" | "CONSUMER_SUSPENDED" => Some(403),
        _ => None,
    }
}

fn of_word(word: &str) -> Option<u16> {
    // Azure writes RateLimitReached, xAI invalid-argument, Google INVALID_ARGUMENT.
    let plain: String = word.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
    let status = match plain.as_str() {
        "invalidrequesterror" | "invalidrequest" | "invalidargument" | "failedprecondition" | "outofrange" => 400,
        "badrequest" | "contextlengthexceeded" | "contentfilter" | "contentpolicyviolation" | "invalidprompt" => 400,
        "unsupportedparameter" | "unsupportedvalue" | "unknownparameter" | "missingrequiredparameter" => 400,
        "toomanyprompttokens" | "stringabovemaxlength" | "toolusefailed" => 400,
        "authenticationerror" | "invalidapikey" | "unauthorized" | "unauthenticated" | "invalidauthentication" => 401,
        "billingerror" | "paymentrequired" | "insufficientcredits" | "insufficientbalance" => 402,
        "permissionerror" | "permissiondenied" | "forbidden" | "accessdenied" | "accountdeactivated" => 403,
        "notfounderror" | "notfound" | "modelnotfound" | "deploymentnotfound" | "resourcenotfound" => 404,
        "requesttimeout" => 408,
        "conflict" | "alreadyexists" | "aborted" => 409,
        "requesttoolarge" | "payloadtoolarge" | "contenttoolarge" => 413,
        "unprocessableentity" => 422,
        "ratelimiterror" | "ratelimitexceeded" | "ratelimitreached" | "ratelimit" | "toomanyrequests" => 429,
        "resourceexhausted" | "insufficientquota" | "quotaexceeded" | "billinghardlimitreached" => 429,
        "requests" | "tokens" | "throttled" | "throttlingexception" => 429,
        "cancelled" => 499,
        "apierror" | "servererror" | "internal" | "internalerror" | "internalservererror" => 500,
        "unknown" | "dataloss" | "vectorstoretimeout" => 500,
        "unimplemented" => 501,
        "badgateway" => 502,
        "unavailable" | "serviceunavailable" | "serviceunavailableerror" | "serverisoverloaded" | "slowdown" => 503,
        "engineoverloaded" | "modeloverloaded" | "overloaded" | "capacityexceeded" | "enginecurrentlyunavailable" => {
            503
        }
        "timeouterror" | "timeout" | "deadlineexceeded" | "gatewaytimeout" => 504,
        "overloadederror" => 529,
        name if name.starts_with("invalid") || name.starts_with("unsupported") => 400,
        _ => return None,
    };
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_providers_names_stand_for_their_status() {
        for (word, status) in [
            ("overloaded_error", 529),
            ("rate_limit_error", 429),
            ("api_error", 500),
            ("authentication_error", 401),
            ("permission_error", 403),
            ("not_found_error", 404),
            ("request_too_large", 413),
            ("timeout_error", 504),
            ("billing_error", 402),
            ("invalid_request_error", 400),
            ("rate_limit_exceeded", 429),
            ("insufficient_quota", 429),
            ("server_error", 500),
            ("RESOURCE_EXHAUSTED", 429),
            ("UNAVAILABLE", 503),
            ("DEADLINE_EXCEEDED", 504),
            ("PERMISSION_DENIED", 403),
            ("RateLimitReached", 429),
            ("invalid-argument", 400),
            ("invalid_base64_image", 400),
        ] {
            assert_eq!(of_code(word, ""), Some(status), "{word}");
        }
        assert_eq!(of_code("something_new", ""), None);
    }

    #[test]
    fn a_code_that_says_little_gives_way_to_the_type() {
        assert_eq!(of_code("invalid_request_error", "authentication_error"), Some(401));
        assert_eq!(of_code("model_not_found", "invalid_request_error"), Some(404));
        assert_eq!(of_code("something_new", "server_error"), Some(500));
    }
}
