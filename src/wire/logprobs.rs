//! The log probabilities of a text's tokens.
//!
//! Kept as the elements of a JSON list in OpenAI's shape (`choices[].logprobs.content`), since only Gemini says them in
//! another. Invariant: every token has its `bytes` and its `top_logprobs`, which the Responses API wants.

use super::{
    compose::{self, Arr, Obj},
    fields::{Json, Num, Str, wire_struct},
};

wire_struct! {
    TokenIn {
        "token" => token: Str<'a>, "logprob" => logprob: Json<'a>, "bytes" => bytes: Json<'a>,
        "top_logprobs" => top: Vec<TokenIn<'a>>,
    }
}
wire_struct! { ChoiceIn { "content" => content: Json<'a>, "refusal" => refusal: Json<'a> } }
wire_struct! { ResultIn { "chosenCandidates" => chosen: Vec<ScoredIn<'a>>, "topCandidates" => top: Vec<TopIn<'a>> } }
wire_struct! { TopIn { "candidates" => candidates: Vec<ScoredIn<'a>> } }
wire_struct! { ScoredIn { "token" => token: Str<'a>, "logProbability" => logprob: Json<'a> } }

/// Reads a list in OpenAI's shape; `None` where it is none, an empty text where nothing is in it.
pub(crate) fn of_openai(list: Json<'_>) -> Option<String> {
    let tokens: Option<Vec<TokenIn<'_>>> = serde_json::from_str(list.get()).ok()?;
    elements(|a| tokens.iter().flatten().for_each(|token| a.obj(|o| put_token(o, token, Some(&token.top)))))
}

/// Reads a choice's `logprobs` of Chat Completions, and tells whether that is all of it: those of a refusal have no place
/// elsewhere, and some servers have a shape of their own.
pub(crate) fn of_choice(logprobs: Json<'_>) -> (String, bool) {
    let Ok(read) = serde_json::from_str::<Option<ChoiceIn<'_>>>(logprobs.get()) else { return (String::new(), false) };
    let read = read.unwrap_or_default();
    let tokens = read.content.map_or(Some(String::new()), of_openai);
    let is_all = tokens.is_some() && read.extra.is_empty() && read.refusal.is_none_or(|list| list.get() == "[]");
    (tokens.unwrap_or_default(), is_all)
}

/// Reads Gemini's `logprobsResult`.
pub(crate) fn of_gemini(result: Json<'_>) -> Option<String> {
    let result: ResultIn<'_> = serde_json::from_str(result.get()).ok()?;
    let mut tops = result.top.into_iter().flatten();
    elements(|a| {
        for chosen in result.chosen.into_iter().flatten() {
            let top = tops.next().and_then(|top| top.candidates).unwrap_or_default();
            let top = Some(top.into_iter().map(TokenIn::from).collect());
            a.obj(|o| put_token(o, &TokenIn::from(chosen), Some(&top)));
        }
    })
}

impl<'a> From<ScoredIn<'a>> for TokenIn<'a> {
    fn from(scored: ScoredIn<'a>) -> Self {
        TokenIn { token: scored.token, logprob: scored.logprob, ..TokenIn::default() }
    }
}

fn elements(fill: impl FnOnce(&mut Arr<'_>)) -> Option<String> {
    let mut list = Vec::new();
    compose::arr(&mut list, fill);
    let list = String::from_utf8(list).ok()?;
    Some(list.get(1..list.len() - 1)?.to_owned())
}

/// The probability of a token that the provider does not tell, in OpenAI's words: very unlikely.
const UNLIKELY: &str = "-9999.0";

/// Whether this JSON text is a number; it is kept as it came, to the last digit.
fn is_number(json: &str) -> bool {
    json.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

fn put_token(o: &mut Obj<'_>, token: &TokenIn<'_>, top: Option<&Option<Vec<TokenIn<'_>>>>) {
    let text = token.token.as_deref().unwrap_or_default();
    o.str("token", text);
    o.raw("logprob", token.logprob.map(Json::get).filter(|text| is_number(text)).unwrap_or(UNLIKELY));
    match token.bytes.filter(|bytes| bytes.get().starts_with('[')) {
        Some(bytes) => o.raw("bytes", bytes.get()),
        None => o.arr("bytes", |a| text.bytes().for_each(|byte| compose::put_int(a.item(), u64::from(byte)))),
    }
    if let Some(top) = top {
        o.arr("top_logprobs", |a| top.iter().flatten().for_each(|token| a.obj(|o| put_token(o, token, None))));
    }
}

/// Adds further tokens.
pub(crate) fn join(all: &mut String, more: &str) {
    if !all.is_empty() && !more.is_empty() {
        all.push(',');
    }
    all.push_str(more);
}

/// Writes the list in OpenAI's shape.
pub(crate) fn put_list(out: &mut Vec<u8>, tokens: &str) {
    compose::put_all(out, &[b"[", tokens.as_bytes(), b"]"]);
}

/// Writes a choice's `logprobs` of Chat Completions.
pub(crate) fn put_chat(out: &mut Vec<u8>, tokens: &str) {
    if tokens.is_empty() {
        return out.extend_from_slice(b"null");
    }
    out.extend_from_slice(b"{\"content\":");
    put_list(out, tokens);
    out.extend_from_slice(b",\"refusal\":null}");
}

/// Writes a Gemini candidate's `logprobsResult`, where there are tokens.
pub(crate) fn put_gemini(o: &mut Obj<'_>, tokens: &str) {
    if tokens.is_empty() {
        return;
    }
    let list = format!("[{tokens}]");
    let tokens: Vec<TokenIn<'_>> = serde_json::from_str(&list).unwrap_or_default();
    let put = |a: &mut Arr<'_>, token: &TokenIn<'_>| {
        a.obj(|o| {
            o.str("token", token.token.as_deref().unwrap_or_default());
            if let Some(logprob) = token.logprob {
                o.raw("logProbability", logprob.get());
            }
        });
    };
    o.obj("logprobsResult", |o| {
        if tokens.iter().any(|token| token.top.as_ref().is_some_and(|top| !top.is_empty())) {
            o.arr("topCandidates", |a| {
                for token in &tokens {
                    a.obj(|o| o.arr("candidates", |a| token.top.iter().flatten().for_each(|top| put(a, top))));
                }
            });
        }
        o.arr("chosenCandidates", |a| tokens.iter().for_each(|token| put(a, token)));
    });
}

/// The mean of log probabilities, which Gemini tells beside them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    /// Takes further tokens in.
    pub(crate) fn take(&mut self, tokens: &str) {
        if tokens.is_empty() {
            return;
        }
        let list = format!("[{tokens}]");
        let tokens: Vec<TokenIn<'_>> = serde_json::from_str(&list).unwrap_or_default();
        for logprob in tokens.iter().filter_map(|token| token.logprob?.get().parse::<f64>().ok()) {
            self.sum += logprob;
            self.count = self.count.saturating_add(1);
        }
    }

    /// Writes a Gemini candidate's `avgLogprobs`, where there were tokens.
    pub(crate) fn put(self, o: &mut Obj<'_>) {
        if let Some(mean) = serde_json::Number::from_f64(self.sum / f64::from(self.count)) {
            o.num("avgLogprobs", &Num(mean));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Json<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_openai_says_comes_back_and_what_is_missing_is_filled_in() {
        let full = r#"[{"token":"é","logprob":-0.0,"bytes":[195],"top_logprobs":[{"token":"a","logprob":-1.5,"bytes":[97]}]}]"#;
        assert_eq!(format!("[{}]", of_openai(raw(full)).unwrap()), full);
        let bare = of_openai(raw(r#"[{"token":"é","logprob":-1e-7,"bytes":null}]"#)).unwrap();
        assert_eq!(bare, r#"{"token":"é","logprob":-1e-7,"bytes":[195,169],"top_logprobs":[]}"#);
        assert_eq!(of_openai(raw("null")).as_deref(), Some(""));
        assert_eq!(of_openai(raw(r#"{"tokens":["a"]}"#)), None);
    }

    #[test]
    fn what_of_a_choice_has_no_place_elsewhere_is_noticed() {
        let token = r#"[{"token":"a","logprob":0,"bytes":[97],"top_logprobs":[]}]"#;
        let of = |json: String| of_choice(raw(&json));
        assert_eq!(
            of(format!(r#"{{"content":{token},"refusal":null}}"#)),
            (token[1..token.len() - 1].to_owned(), true)
        );
        assert!(of(format!(r#"{{"content":{token},"refusal":[]}}"#)).1);
        assert!(!of(format!(r#"{{"content":null,"refusal":{token}}}"#)).1);
        assert_eq!(of(r#"{"content":null,"refusal":null}"#.to_owned()), (String::new(), true));
        assert_eq!(of(r#"{"tokens":["a"],"token_logprobs":[-1]}"#.to_owned()), (String::new(), false));
        assert_eq!((of("null".to_owned()).1, of("[1]".to_owned()).1), (true, false));
    }

    #[test]
    fn geminis_result_becomes_openais_tokens_and_back() {
        let result = r#"{"topCandidates":[{"candidates":[{"token":"a","logProbability":-0.5},{"token":"b","logProbability":-2}]}],"chosenCandidates":[{"token":"a","logProbability":-0.5}]}"#;
        let tokens = of_gemini(raw(result)).unwrap();
        assert!(
            tokens.contains(r#""top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]},{"token":"b""#),
            "{tokens}"
        );
        let mut mean = Mean::default();
        mean.take(&tokens);
        mean.take(r#"{"token":"c","logprob":-1.5}"#);
        let mut out = Vec::new();
        compose::obj(&mut out, |o| {
            mean.put(o);
            put_gemini(o, &tokens);
        });
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out, format!(r#"{{"avgLogprobs":-1.0,"logprobsResult":{result}}}"#));
    }

    #[test]
    fn no_tokens_say_nothing() {
        let mut out = Vec::new();
        compose::obj(&mut out, |o| {
            Mean::default().put(o);
            put_gemini(o, "");
        });
        put_chat(&mut out, "");
        assert_eq!(out, b"{}null");
    }
}
