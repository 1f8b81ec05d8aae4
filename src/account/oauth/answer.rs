//! Reads what a token endpoint answers (RFC 6749, sections 5.1 and 5.2).
//!
//! Pure. Never repeats the endpoint's words but for an error code of plain letters, since they may hold a token.

use super::Trouble;
use crate::config::secret::Secret;
use serde::Deserialize;
use std::time::Duration;

/// The longest token that fits into a header.
const LONGEST_TOKEN: usize = 16 << 10;

/// A token that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The access token; fit for a header.
    pub access_token: Secret,
    /// Its life from the request on, where told.
    pub expires_in: Option<Duration>,
    /// The refresh token that takes the old one's place, where there is one.
    pub refresh_token: Option<Secret>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<Life>,
    /// The RFC's code is a text; other APIs have objects here.
    error: Option<serde_json::Value>,
}

/// Seconds, which some endpoints write as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Life {
    Number(f64),
    Text(String),
}

/// Judges an answer. `retry_after` is what its header of that name says.
pub fn read(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Result<Granted, Trouble> {
    let answer = serde_json::from_slice::<Answer>(body).ok();
    if !(200..300).contains(&status) {
        return Err(refusal(status, retry_after, answer));
    }
    let odd = |what: &str| Trouble::passing(format!("the token endpoint answers {what}"));
    let answer = answer.ok_or_else(|| odd("something that is no JSON object"))?;
    let usable =
        |token: &String| (1..=LONGEST_TOKEN).contains(&token.len()) && http::HeaderValue::from_str(token).is_ok();
    // Some endpoints report errors with 200.
    if answer.error.is_some() && answer.access_token.is_none() {
        return Err(refusal(400, retry_after, Some(answer)));
    }
    let access_token = answer.access_token.filter(usable).ok_or_else(|| odd("without a usable access token"))?;
    let expires_in = answer.expires_in.and_then(|life| match life {
        Life::Number(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Life::Text(text) => text.trim().parse().ok().map(Duration::from_secs),
    });
    let refresh_token = answer.refresh_token.filter(usable).map(Secret::new);
    Ok(Granted { access_token: Secret::new(access_token), expires_in, refresh_token })
}

fn refusal(status: u16, retry_after: Option<Duration>, answer: Option<Answer>) -> Trouble {
    const LASTING: [&str; 6] = [
        "invalid_grant",
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_request",
    ];
    let is_plain = |word: &&str| {
        (1..=40).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-'))
    };
    let error = answer.and_then(|answer| answer.error);
    let word = error.as_ref().and_then(|error| error.as_str()).filter(is_plain);
    let is_lasting = status < 500 && status != 429 && word.is_some_and(|word| LASTING.contains(&word));
    let reason = match word {
        Some(word) => format!("the token endpoint answers {status} {word}"),
        None => format!("the token endpoint answers {status}"),
    };
    Trouble { is_lasting, wait: retry_after, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn lives_are_read_as_numbers_and_as_texts() {
        for (life, expected) in [
            (r#","expires_in":3600"#, secs(3600)),
            (r#","expires_in":3599.0"#, secs(3599)),
            (r#","expires_in":"3600""#, secs(3600)),
            (r#","expires_in":"soon""#, None),
            (r#","expires_in":-1"#, None),
            (r#","expires_in":null"#, None),
            ("", None),
        ] {
            let body = format!(r#"{{"access_token":"at","token_type":"Bearer","refresh_token":"rt"{life}}}"#);
            let granted = read(200, None, body.as_bytes()).unwrap();
            assert_eq!(granted.expires_in, expected, "{life}");
            assert_eq!((granted.access_token.expose(), granted.refresh_token.unwrap().expose()), ("at", "rt"));
        }
    }

    #[test]
    fn only_a_refusal_of_the_grant_itself_is_lasting() {
        for (status, body, is_lasting) in [
            (400, r#"{"error":"invalid_grant","error_description":"hush"}"#, true),
            (401, r#"{"error":"invalid_client"}"#, true),
            (400, r#"{"error":"unauthorized_client"}"#, true),
            (200, r#"{"error":"invalid_grant"}"#, true),
            (400, r#"{"error":"temporarily_unavailable"}"#, false),
            (400, r#"{"error":{"message":"hush"}}"#, false),
            (400, r#"{"error":"hush hush hush"}"#, false),
            (403, "<html>hush</html>", false),
            (429, r#"{"error":"invalid_request"}"#, false),
            (500, r#"{"error":"invalid_grant"}"#, false),
            (503, "", false),
            (200, "", false),
            (200, "{}", false),
            (200, r#"{"access_token":""}"#, false),
            (200, "{\"access_token\":\"hush\\nhush\"}", false),
        ] {
            let trouble = read(status, None, body.as_bytes()).unwrap_err();
            assert_eq!(trouble.is_lasting, is_lasting, "{status} {body}");
            assert!(!trouble.reason.contains("hush"), "{}", trouble.reason);
        }
        assert!(read(400, None, br#"{"error":"invalid_grant"}"#).unwrap_err().reason.ends_with("400 invalid_grant"));
        assert_eq!(read(429, secs(7), b"").unwrap_err().wait, secs(7));
    }
}
