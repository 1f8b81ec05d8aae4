//! Reads the `contents` of a Gemini request: roles, parts, calls with their responses, thought signatures.

use super::{
    gemini::{known, message, repeated},
    lenient_base64, text,
};
use crate::mock::{
    answer::as_text,
    ask::{Ask, Image, PastCall, Role, ToolResult, Turn},
    refusal::{Checked, Refusal, ensure},
    seal,
};
use serde_json::{Map, Value};

#[rustfmt::skip]
const PART_FIELDS: &[&str] = &[
    "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult",
    "thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata", "toolCall", "toolResponse",
];

/// The fields of a part of which exactly one is set.
#[rustfmt::skip]
const PART_DATA: &[&str] = &[
    "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult",
    "toolCall", "toolResponse",
];

/// Values that Google documents for calls that were made by another model.
const BYPASS: &[&str] = &["skip_thought_signature_validator", "context_engineering_is_the_way_to_go"];

/// The signature on a call of this function.
pub(in crate::mock) fn call_signature(name: &str) -> String {
    seal::signature(&format!("gemini call {name}"))
}

/// A content under its index.
struct Content<'a> {
    index: usize,
    at: String,
    by_model: bool,
    /// Whether its calls have to carry the signatures they were given.
    signs: bool,
    parts: &'a [Value],
}

/// Reads every content into the turns of `ask`.
pub(super) fn read(contents: &[Value], ask: &mut Ask) -> Checked<()> {
    let speaks = |content: &Value| {
        let by_user = content.get("role").and_then(Value::as_str).unwrap_or("user") == "user";
        by_user && repeated(content.get("parts")).iter().any(|part| part.get("text").is_some())
    };
    let last_words = contents.iter().rposition(speaks);
    let mut open_calls = 0;
    for (index, value) in contents.iter().enumerate() {
        let at = format!("contents[{index}]");
        let fields = message(value, &at)?;
        let role = text(fields, "role").filter(|role| !role.is_empty()).unwrap_or("user");
        let roles = ["user", "model", "function"];
        ensure!(roles.contains(&role), Refusal::bad("Please use a valid role: user, model."));
        known(fields, &["role", "parts"], &at)?;
        let parts = repeated(fields.get("parts"));
        let empty = || format!("* GenerateContentRequest.{at}.parts: contents.parts must not be empty.\n");
        ensure!(!parts.is_empty(), Refusal::bad(empty()));
        let signs = ask.model.starts_with("gemini-3") && last_words.is_none_or(|last| index > last);
        let content = Content { index, at, by_model: role == "model", signs, parts };
        let turn = content.turn()?;
        let counts = "Please ensure that the number of function response parts is equal to the number of function call parts \
                      of the function call turn.";
        ensure!(turn.results.len() == open_calls, Refusal::bad(counts));
        open_calls = turn.calls.len();
        ask.turns.push(turn);
    }
    Ok(())
}

impl Content<'_> {
    fn turn(&self) -> Checked<Turn> {
        let mut turn = Turn::new(if self.by_model { Role::Assistant } else { Role::User });
        for (j, value) in self.parts.iter().enumerate() {
            let at = format!("{}.parts[{j}]", self.at);
            let part = message(value, &at)?;
            known(part, PART_FIELDS, &at)?;
            self.part(part, &at, &mut turn)?;
        }
        Ok(turn)
    }

    fn part(&self, part: &Map<String, Value>, at: &str, turn: &mut Turn) -> Checked<()> {
        let set: Vec<&str> = PART_DATA.iter().copied().filter(|name| super::given(part, name).is_some()).collect();
        let oneof = || {
            format!("* GenerateContentRequest.{at}.data: required oneof field 'data' must have one initialized field\n")
        };
        match set.as_slice() {
            [] => ensure!(part.contains_key("thoughtSignature"), Refusal::bad(oneof())),
            ["text"] => {
                let is_thought = part.get("thought") == Some(&Value::Bool(true));
                turn.texts.extend(text(part, "text").filter(|_| !is_thought).map(str::to_owned));
            }
            ["inlineData"] => turn.images.push(inline(part, at)?),
            ["functionCall"] => self.call(part, at, turn)?,
            ["functionResponse"] => turn.results.push(response(part, at)?),
            [_] => {}
            _ => return Err(Refusal::bad(oneof())),
        }
        Ok(())
    }

    fn call(&self, part: &Map<String, Value>, at: &str, turn: &mut Turn) -> Checked<()> {
        let call = message(part.get("functionCall").unwrap_or(&Value::Null), at)?;
        known(call, &["name", "args", "id"], &format!("{at}.function_call"))?;
        let order = "Please ensure that function call turn comes immediately after a user turn or after a function response turn.";
        ensure!(self.by_model && self.index > 0, Refusal::bad(order));
        let fits = call.get("args").is_none_or(|args| args.is_object() || args.is_null());
        let shape = format!("Invalid value at '{at}.function_call.args' (type.googleapis.com/google.protobuf.Struct)");
        ensure!(fits, Refusal::bad(shape));
        let name = text(call, "name").unwrap_or_default();
        if self.signs && turn.calls.is_empty() {
            self.signed(text(part, "thoughtSignature"), name)?;
        }
        let id = text(call, "id").map_or_else(|| format!("{name}-{}-{}", self.index, turn.calls.len()), str::to_owned);
        let arguments = call.get("args").filter(|args| args.is_object()).map_or("{}".into(), Value::to_string);
        turn.calls.push(PastCall { id, arguments });
        Ok(())
    }

    /// The first call of a turn has to carry the signature it was given.
    fn signed(&self, signature: Option<&str>, name: &str) -> Checked<()> {
        let missing = format!(
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work \
             correctly, and missing thought_signature may lead to degraded model performance. Additional data, function \
             call `{name}` , position {}.",
            self.index + 1
        );
        let signature = signature.filter(|s| !s.is_empty()).ok_or_else(|| Refusal::bad(missing))?;
        let given = lenient_base64(signature);
        let bypass = BYPASS.iter().any(|word| signature == *word || given.as_deref() == Some(word.as_bytes()));
        let genuine = given.is_some() && given == lenient_base64(&call_signature(name));
        ensure!(bypass || genuine, Refusal::bad("Corrupted thought signature."));
        Ok(())
    }
}

fn inline(part: &Map<String, Value>, at: &str) -> Checked<Image> {
    let inline = part.get("inlineData").and_then(Value::as_object);
    let media_type = inline.and_then(|inline| text(inline, "mimeType")).filter(|mime| !mime.is_empty());
    let data = inline.and_then(|inline| text(inline, "data"));
    let (Some(media_type), Some(data)) = (media_type, data) else {
        return Err(Refusal::bad(format!("Unable to process input image. {at}.inline_data.mime_type must be set")));
    };
    let wrong = format!("Invalid value at '{at}.inline_data.data' (TYPE_BYTES), Base64 decoding failed");
    let data = lenient_base64(data).ok_or_else(|| Refusal::bad(wrong))?;
    Ok(Image { media_type: media_type.to_owned(), data })
}

fn response(part: &Map<String, Value>, at: &str) -> Checked<ToolResult> {
    let function = message(part.get("functionResponse").unwrap_or(&Value::Null), at)?;
    let at = format!("{at}.function_response");
    known(function, &["name", "response", "id", "willContinue", "scheduling", "parts"], &at)?;
    let response = function.get("response").filter(|response| response.is_object());
    let shape = format!("Invalid value at '{at}.response' (type.googleapis.com/google.protobuf.Struct)");
    let response = response.ok_or_else(|| Refusal::bad(shape))?;
    let name = text(function, "name").filter(|name| !name.is_empty());
    let nameless = format!("* GenerateContentRequest.{at}.name: Name cannot be empty.\n");
    let name = name.ok_or_else(|| Refusal::bad(nameless))?.to_owned();
    let said = ["output", "result", "content", "return_value"].iter().find_map(|field| response.get(field));
    Ok(ToolResult { name, text: as_text(said.unwrap_or(response)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::refusal::Dialect;
    use serde_json::json;

    fn turns(model: &str, contents: Value) -> Checked<Ask> {
        let mut ask = Ask::new(Dialect::Gemini);
        ask.model = model.into();
        read(contents.as_array().unwrap(), &mut ask).map(|()| ask)
    }

    fn call(signature: Option<&str>) -> Value {
        let mut part = json!({"functionCall": {"name": "f", "args": {"a": 1}}});
        if let Some(signature) = signature {
            part["thoughtSignature"] = json!(signature);
        }
        json!({"role": "model", "parts": [part]})
    }

    fn answer() -> Value {
        json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "r"}}}]})
    }

    #[test]
    fn a_call_with_its_signature_and_response_is_read() {
        let user = json!({"parts": [{"text": "x"}]});
        let url_safe = call_signature("f").replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
        for signature in [call_signature("f").as_str(), url_safe.as_str(), BYPASS.first().unwrap()] {
            let ask = turns("gemini-3-pro", json!([user, call(Some(signature)), answer()])).unwrap();
            assert_eq!(ask.turns.last().unwrap().results.first().unwrap().text, "r");
        }
        assert!(turns("gemini-2.5-flash", json!([user, call(None), answer()])).is_ok());
    }

    #[test]
    fn broken_histories_are_refused() {
        let user = json!({"role": "user", "parts": [{"text": "x"}]});
        for (contents, named) in [
            (json!([user, call(None), answer()]), "missing a thought_signature"),
            (json!([user, call(Some("AAAA")), answer()]), "Corrupted"),
            (json!([user, call(Some(&call_signature("f"))), user]), "number of function response"),
            (json!([call(Some(&call_signature("f")))]), "immediately after a user turn"),
            (json!([{"role": "assistant", "parts": [{"text": "x"}]}]), "valid role"),
            (json!([{"parts": []}]), "must not be empty"),
            (json!([{"parts": [{"text": "x", "inlineData": {}}]}]), "oneof"),
            (json!([{"parts": [{"type": "text"}]}]), "\"type\""),
            (json!([{"parts": [{"functionResponse": {"name": "f", "response": "text"}}]}]), "Struct"),
            (json!([{"parts": [{"inlineData": {"mimeType": "image/png", "data": "*"}}]}]), "Base64"),
        ] {
            let refusal = turns("gemini-3-pro", contents.clone()).unwrap_err();
            assert!(refusal.message.contains(named), "{contents}: {refusal:?}");
        }
    }
}
