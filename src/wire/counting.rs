//! The calls that only count tokens, which are requests for the next turn in another wrapping.

use super::{Endpoint, fields::Members};

/// The request whose tokens are to be counted: Gemini may wrap it.
pub fn request_in<'a>(endpoint: &Endpoint, body: &'a [u8]) -> &'a [u8] {
    if *endpoint != Endpoint::GeminiCountTokens {
        return body;
    }
    let members = serde_json::from_slice::<Members<'a>>(body).unwrap_or_default();
    let wrapped = members.find("generateContentRequest").or_else(|| members.find("generate_content_request"));
    wrapped.map_or(body, |request| request.get().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gemini_wraps_and_only_sometimes() {
        let wrapped = br#"{"generateContentRequest": {"contents": []}}"#;
        assert_eq!(request_in(&Endpoint::GeminiCountTokens, wrapped), br#"{"contents": []}"#);
        assert_eq!(request_in(&Endpoint::GeminiCountTokens, br#"{"contents":[]}"#), br#"{"contents":[]}"#);
        assert_eq!(request_in(&Endpoint::CountTokens, wrapped), wrapped);
        assert_eq!(request_in(&Endpoint::GeminiCountTokens, b"nonsense"), b"nonsense");
    }
}
