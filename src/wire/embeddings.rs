//! Embeddings: OpenAI's `/v1/embeddings`, and Gemini's `:embedContent` and `:batchEmbedContents`, each as the other.
//!
//! Vectors go through as the numbers that came; only base64, which Gemini does not know, is packed and unpacked (as
//! little-endian 32-bit floats, OpenAI's form). Invariant: one vector for each input, in their order, or an error.

use super::{
    Endpoint, WireFormat,
    compose::{Arr, obj},
    fields::{Json, List, Members, Num, text_of},
    loss::{Losses, Refusal},
    reply::ReplyError,
    translate::{Context, Document, Options, Translated},
    usage::Usage,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::borrow::Cow;

/// What the reply side needs of the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// How many vectors.
    inputs: usize,
    /// Packed, or as numbers.
    base64: bool,
    /// Gemini's form for many.
    batch: bool,
    /// The tokens to name where the provider names none.
    input_tokens: Option<u64>,
}

/// A request in the common form.
#[derive(Debug, Default)]
struct Ask<'a> {
    inputs: Vec<Cow<'a, str>>,
    dimensions: Option<u64>,
    wanted: Wanted,
}

/// Translates a request for embeddings.
pub(crate) fn translate(
    asked: &Endpoint,
    there: &Endpoint,
    body: &[u8],
    options: &Options<'_>,
) -> Result<Translated, Refusal> {
    let mut losses = Losses::default();
    let mut ask = match asked.format() {
        WireFormat::Gemini => from_gemini(body, *asked == Endpoint::BatchEmbedContents, &mut losses)?,
        WireFormat::OpenaiChat | WireFormat::OpenaiResponses | WireFormat::Anthropic => from_openai(body, &mut losses)?,
    };
    if options.strict && !losses.is_empty() {
        return Err(Refusal::strict(&losses));
    }
    ask.wanted.inputs = ask.inputs.len();
    ask.wanted.input_tokens = options.input_tokens;
    let body = match there.format() {
        WireFormat::Gemini => to_gemini(&ask, options.model),
        WireFormat::OpenaiChat | WireFormat::OpenaiResponses | WireFormat::Anthropic => to_openai(&ask, options.model),
    };
    let context = Context {
        model: options.model.to_owned(),
        request_id: options.request_id.to_owned(),
        document: Some(Document::Embeddings(ask.wanted)),
        ..Context::default()
    };
    Ok(Translated { body, losses, context })
}

fn members<'a>(raw: Json<'a>, field: &str) -> Result<Members<'a>, Refusal> {
    serde_json::from_str(raw.get()).map_err(|_| Refusal::new(field, format!("`{field}` must be an object")))
}

fn count(raw: Json<'_>, field: &str) -> Result<u64, Refusal> {
    let number = serde_json::from_str::<Num>(raw.get()).ok().and_then(|number| number.as_count());
    number.ok_or_else(|| Refusal::new(field, format!("`{field}` must be a number")))
}

fn from_openai<'a>(body: &'a [u8], losses: &mut Losses) -> Result<Ask<'a>, Refusal> {
    let read = serde_json::from_slice::<Members<'a>>(body).map_err(|fault| Refusal::unreadable(&fault))?;
    let mut ask = Ask::default();
    for (key, value) in read.0.into_iter().filter(|(_, value)| value.get() != "null") {
        match &*key {
            "model" => {}
            "input" => ask.inputs = texts(value)?,
            "dimensions" => ask.dimensions = Some(count(value, "dimensions")?),
            "encoding_format" => match &*text_of(value) {
                "float" => {}
                "base64" => ask.wanted.base64 = true,
                _ => return Err(Refusal::new("encoding_format", "`encoding_format` must be float or base64")),
            },
            _ => losses.dropped(key.into_owned()),
        }
    }
    if ask.inputs.is_empty() {
        return Err(Refusal::new("input", "`input` must be a text or a list of texts, and not be empty"));
    }
    Ok(ask)
}

/// One text or several. Tokens mean something to OpenAI's models only.
fn texts(raw: Json<'_>) -> Result<Vec<Cow<'_, str>>, Refusal> {
    let text = |raw: &'_ str| raw.starts_with('"');
    if text(raw.get()) {
        return Ok(vec![text_of(raw)]);
    }
    let list = serde_json::from_str::<Vec<Json<'_>>>(raw.get())
        .map_err(|_| Refusal::new("input", "`input` must be a text or a list of texts"))?;
    if list.iter().any(|element| !text(element.get())) {
        let message = "lists of tokens cannot be carried to this model, whose provider takes text only: send text";
        return Err(Refusal::new("input", message));
    }
    Ok(list.into_iter().map(text_of).collect())
}

fn from_gemini<'a>(body: &'a [u8], batch: bool, losses: &mut Losses) -> Result<Ask<'a>, Refusal> {
    let read = serde_json::from_slice::<Members<'a>>(body).map_err(|fault| Refusal::unreadable(&fault))?;
    let mut ask = Ask { wanted: Wanted { batch, ..Wanted::default() }, ..Ask::default() };
    if !batch {
        ask.take(read, losses)?;
        return Ok(ask);
    }
    let requests = read.find("requests").map(Json::get).unwrap_or("[]");
    let requests = serde_json::from_str::<List<Members<'a>>>(requests).map_err(|fault| Refusal::unreadable(&fault))?;
    for request in requests {
        ask.take(request, losses)?;
    }
    if ask.inputs.is_empty() {
        return Err(Refusal::new("requests", "`requests` must not be empty"));
    }
    Ok(ask)
}

impl<'a> Ask<'a> {
    /// Takes one of Gemini's requests.
    fn take(&mut self, request: Members<'a>, losses: &mut Losses) -> Result<(), Refusal> {
        let mut input = None;
        let mut dimensions = None;
        for (key, value) in request.0.into_iter().filter(|(_, value)| value.get() != "null") {
            match &*key {
                "model" => {}
                "content" => input = Some(content(value)?),
                "outputDimensionality" | "output_dimensionality" => dimensions = Some(count(value, &key)?),
                "embedContentConfig" | "embed_content_config" => {
                    for (key, value) in members(value, &key)?.0 {
                        match &*key {
                            "outputDimensionality" | "output_dimensionality" => dimensions = Some(count(value, &key)?),
                            _ => losses.dropped(key.into_owned()),
                        }
                    }
                }
                _ => losses.dropped(key.into_owned()),
            }
        }
        let input = input.ok_or_else(|| Refusal::new("content", "the request holds no `content`"))?;
        if !self.inputs.is_empty() && self.dimensions != dimensions {
            let message = "all requests of a batch must ask for the same `outputDimensionality` here";
            return Err(Refusal::new("outputDimensionality", message));
        }
        self.dimensions = dimensions;
        self.inputs.push(input);
        Ok(())
    }
}

/// The text of a Gemini content.
fn content(raw: Json<'_>) -> Result<Cow<'_, str>, Refusal> {
    let parts = members(raw, "content")?.find("parts").map(Json::get).unwrap_or("[]");
    let parts = serde_json::from_str::<List<Members<'_>>>(parts).map_err(|fault| Refusal::unreadable(&fault))?;
    let mut text: Option<Cow<'_, str>> = None;
    for part in parts {
        let next = part.find("text").map(text_of).ok_or_else(|| {
            Refusal::new("content.parts", "only text can be embedded by this model's provider: remove the other parts")
        })?;
        text = Some(match text {
            None => next,
            Some(before) => Cow::Owned(format!("{before}\n{next}")),
        });
    }
    text.ok_or_else(|| Refusal::new("content.parts", "the content holds no text"))
}

fn to_openai(ask: &Ask<'_>, model: &str) -> Vec<u8> {
    let mut out = Vec::new();
    obj(&mut out, |o| {
        o.str("model", model);
        match ask.inputs.as_slice() {
            [only] if !ask.wanted.batch => o.str("input", only),
            inputs => o.arr("input", |l| inputs.iter().for_each(|input| l.str(input))),
        }
        o.some_int("dimensions", ask.dimensions);
        o.word("encoding_format", "float");
    });
    out
}

fn to_gemini(ask: &Ask<'_>, model: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let model = if model.contains('/') { Cow::Borrowed(model) } else { Cow::Owned(format!("models/{model}")) };
    obj(&mut out, |o| {
        o.arr("requests", |l| {
            for input in &ask.inputs {
                l.obj(|o| {
                    o.str("model", &model);
                    o.obj("content", |o| o.arr("parts", |l| l.obj(|o| o.str("text", input))));
                    o.some_int("outputDimensionality", ask.dimensions);
                });
            }
        });
    });
    out
}

/// One vector, as it came.
enum Vector<'a> {
    Numbers(Json<'a>),
    Packed(Cow<'a, str>),
}

impl<'a> Vector<'a> {
    fn of(raw: Json<'a>) -> Vector<'a> {
        if raw.get().starts_with('"') { Vector::Packed(text_of(raw)) } else { Vector::Numbers(raw) }
    }

    fn packed(&self) -> Result<Cow<'_, str>, ReplyError> {
        match self {
            Vector::Packed(text) => Ok(Cow::Borrowed(text)),
            Vector::Numbers(raw) => {
                let numbers = serde_json::from_str::<Vec<f32>>(raw.get()).map_err(|f| ReplyError::unreadable(&f))?;
                let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                Ok(Cow::Owned(STANDARD.encode(bytes)))
            }
        }
    }

    fn put_numbers(&self, out: &mut Arr<'_>) -> Result<(), ReplyError> {
        let Vector::Packed(text) = self else { return Ok(()) };
        let bytes = STANDARD.decode(text.as_bytes()).map_err(|fault| ReplyError::unreadable(&fault))?;
        let (numbers, []) = bytes.as_chunks::<4>() else { return Err(ReplyError::unreadable(&"a torn vector")) };
        for number in numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)) {
            if !number.is_finite() {
                return Err(ReplyError::unreadable(&"a vector that holds no numbers"));
            }
            out.raw(&format!("{number:?}"));
        }
        Ok(())
    }

    fn put(&self, out: &mut Vec<u8>) -> Result<(), ReplyError> {
        if let Vector::Numbers(raw) = self {
            super::compose::put_raw(out, raw.get());
            return Ok(());
        }
        let mut done = Ok(());
        super::compose::arr(out, |l| done = self.put_numbers(l));
        done
    }
}

fn unreadable(fault: serde_json::Error) -> ReplyError {
    ReplyError::unreadable(&fault)
}

fn list<'a>(raw: Json<'a>) -> Result<List<Members<'a>>, ReplyError> {
    serde_json::from_str(raw.get()).map_err(unreadable)
}

/// The vectors of a reply of either format, in the order of the inputs.
fn vectors<'a>(reply: &Members<'a>) -> Result<Vec<Vector<'a>>, ReplyError> {
    let lost = || ReplyError::unreadable(&"it holds no embedding");
    let mut found = Vec::new();
    if let Some(data) = reply.find("data") {
        for (at, entry) in (0..).zip(list(data)?) {
            let index = entry.find("index").and_then(|raw| raw.get().parse::<u64>().ok()).unwrap_or(at);
            found.push((index, Vector::of(entry.find("embedding").ok_or_else(lost)?)));
        }
        found.sort_by_key(|(index, _)| *index);
    } else {
        let entries = reply.find("embeddings").or_else(|| reply.find("embedding")).ok_or_else(lost)?;
        for (at, entry) in (0..).zip(list(entries)?) {
            found.push((at, Vector::of(entry.find("values").ok_or_else(lost)?)));
        }
    }
    Ok(found.into_iter().map(|(_, vector)| vector).collect())
}

/// What a reply of either format says it used.
fn usage(reply: &Members<'_>) -> Usage {
    let usage = reply.find("usage").or_else(|| reply.find("usageMetadata"));
    let usage = usage.and_then(|raw| serde_json::from_str::<Members<'_>>(raw.get()).ok()).unwrap_or_default();
    let told = usage.find("prompt_tokens").or_else(|| usage.find("promptTokenCount"));
    let input = told.and_then(|raw| serde_json::from_str::<Num>(raw.get()).ok()).and_then(|count| count.as_count());
    Usage { input, ..Usage::default() }
}

/// The client's reply for the upstream's.
pub(crate) fn reply(
    to: WireFormat,
    body: &[u8],
    (wanted, model): (&Wanted, &str),
    losses: &mut Losses,
) -> Result<(Vec<u8>, Usage), ReplyError> {
    let members = serde_json::from_slice::<Members<'_>>(body).map_err(unreadable)?;
    let (vectors, usage) = (vectors(&members)?, usage(&members));
    if vectors.len() != wanted.inputs {
        let message = format!("{} vectors came for {} inputs", vectors.len(), wanted.inputs);
        return Err(ReplyError::unreadable(&message));
    }
    let body = match to {
        WireFormat::Gemini => reply_to_gemini(&vectors, wanted, usage.input)?,
        WireFormat::OpenaiChat | WireFormat::OpenaiResponses | WireFormat::Anthropic => {
            if usage.input.is_none() {
                losses.approximated("usage");
            }
            reply_to_openai(&vectors, wanted, (model, usage.input.or(wanted.input_tokens).unwrap_or(0)))?
        }
    };
    Ok((body, usage))
}

fn reply_to_openai(
    vectors: &[Vector<'_>],
    wanted: &Wanted,
    (model, tokens): (&str, u64),
) -> Result<Vec<u8>, ReplyError> {
    let mut out = Vec::new();
    let mut done = Ok(());
    obj(&mut out, |o| {
        o.word("object", "list");
        o.arr("data", |l| {
            for (index, vector) in (0..).zip(vectors) {
                l.obj(|o| {
                    o.word("object", "embedding");
                    o.int("index", index);
                    let put = if wanted.base64 {
                        vector.packed().map(|text| o.str("embedding", &text))
                    } else {
                        vector.put(o.key("embedding"))
                    };
                    done = std::mem::replace(&mut done, Ok(())).and(put);
                });
            }
        });
        o.str("model", model);
        o.obj("usage", |o| {
            o.int("prompt_tokens", tokens);
            o.int("total_tokens", tokens);
        });
    });
    done.map(|()| out)
}

fn reply_to_gemini(vectors: &[Vector<'_>], wanted: &Wanted, tokens: Option<u64>) -> Result<Vec<u8>, ReplyError> {
    let mut out = Vec::new();
    let mut done = Ok(());
    let mut put = |out: &mut Vec<u8>, vector: &Vector<'_>| {
        obj(out, |o| {
            let put = vector.put(o.key("values"));
            done = std::mem::replace(&mut done, Ok(())).and(put);
        });
    };
    obj(&mut out, |o| {
        if wanted.batch {
            o.arr("embeddings", |l| vectors.iter().for_each(|vector| put(l.item(), vector)));
        } else if let Some(only) = vectors.first() {
            put(o.key("embedding"), only);
        }
        if let Some(tokens) = tokens {
            o.obj("usageMetadata", |o| o.int("promptTokenCount", tokens));
        }
    });
    done.map(|()| out)
}

/// The texts of a request for embeddings, for those who only want to know how long they are; `None` for what is not text.
pub fn texts_in(endpoint: &Endpoint, body: &[u8]) -> Option<Vec<String>> {
    let mut losses = Losses::default();
    let ask = match endpoint {
        Endpoint::Embeddings => from_openai(body, &mut losses).ok()?,
        Endpoint::EmbedContent | Endpoint::BatchEmbedContents => {
            from_gemini(body, *endpoint == Endpoint::BatchEmbedContents, &mut losses).ok()?
        }
        _ => return None,
    };
    Some(ask.inputs.into_iter().map(Cow::into_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(asked: &Endpoint, there: &Endpoint, body: &str) -> Result<Translated, Refusal> {
        let options = Options { model: "there", input_tokens: Some(7), ..Options::default() };
        translate(asked, there, body.as_bytes(), &options)
    }

    fn to_google(body: &str) -> Result<Translated, Refusal> {
        ask(&Endpoint::Embeddings, &Endpoint::BatchEmbedContents, body)
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    fn answer(to: WireFormat, asked: &Translated, body: &str) -> Result<(String, Losses), ReplyError> {
        let Some(Document::Embeddings(wanted)) = &asked.context.document else { panic!("no embeddings") };
        let mut losses = Losses::default();
        let (body, _) = reply(to, body.as_bytes(), (wanted, "there"), &mut losses)?;
        Ok((text(&body).to_owned(), losses))
    }

    #[test]
    fn openais_request_becomes_a_batch_in_order() {
        let asked = to_google(r#"{"model":"m","input":["a","b"],"dimensions":3,"user":"u"}"#).unwrap();
        let one = |input| {
            format!(
                r#"{{"model":"models/there","content":{{"parts":[{{"text":"{input}"}}]}},"outputDimensionality":3}}"#
            )
        };
        assert_eq!(text(&asked.body), format!(r#"{{"requests":[{},{}]}}"#, one("a"), one("b")));
        assert_eq!(asked.losses.header().as_deref(), Some("user=dropped"));
    }

    #[test]
    fn vectors_come_back_as_numbers_or_packed() {
        let google =
            r#"{"embeddings":[{"values":[0.5,-1]},{"values":[0.10,2e-7]}],"usageMetadata":{"promptTokenCount":2}}"#;
        let asked = to_google(r#"{"input":["a","b"]}"#).unwrap();
        let (plain, losses) = answer(WireFormat::OpenaiChat, &asked, google).unwrap();
        assert!(plain.contains(r#""index":1,"embedding":[0.10,2e-7]"#), "numbers stay as they came: {plain}");
        assert!(plain.ends_with(r#""usage":{"prompt_tokens":2,"total_tokens":2}}"#) && losses.is_empty());
        let asked = to_google(r#"{"input":["a","b"],"encoding_format":"base64"}"#).unwrap();
        let (packed, _) = answer(WireFormat::OpenaiChat, &asked, google).unwrap();
        assert!(packed.contains(r#""embedding":"AAAAPwAAgL8=""#), "{packed}");
    }

    #[test]
    fn usage_that_is_not_told_is_an_estimate_and_said_to_be_one() {
        let asked = to_google(r#"{"input":"a"}"#).unwrap();
        let (body, losses) = answer(WireFormat::OpenaiChat, &asked, r#"{"embeddings":[{"values":[1]}]}"#).unwrap();
        assert!(body.contains(r#""prompt_tokens":7"#), "{body}");
        assert_eq!(losses.header().as_deref(), Some("usage=approximated"));
    }

    #[test]
    fn geminis_request_becomes_openais_and_the_reply_comes_back_in_its_form() {
        let one = r#"{"content":{"parts":[{"text":"a"},{"text":"b"}]},"taskType":"RETRIEVAL_QUERY","outputDimensionality":2}"#;
        let asked = ask(&Endpoint::EmbedContent, &Endpoint::Embeddings, one).unwrap();
        assert_eq!(text(&asked.body), r#"{"model":"there","input":"a\nb","dimensions":2,"encoding_format":"float"}"#);
        assert_eq!(asked.losses.header().as_deref(), Some("taskType=dropped"));
        let openai = r#"{"object":"list","data":[{"index":0,"embedding":"AAAAPwAAgL8="}],"usage":{"prompt_tokens":2}}"#;
        let (body, _) = answer(WireFormat::Gemini, &asked, openai).unwrap();
        assert_eq!(body, r#"{"embedding":{"values":[0.5,-1.0]},"usageMetadata":{"promptTokenCount":2}}"#);
        let batch = r#"{"requests":[{"content":{"parts":{"text":"a"}}},{"content":{"parts":[{"text":"b"}]}}]}"#;
        let asked = ask(&Endpoint::BatchEmbedContents, &Endpoint::Embeddings, batch).unwrap();
        let openai = r#"{"data":[{"index":1,"embedding":[2]},{"index":0,"embedding":[1]}]}"#;
        let (body, _) = answer(WireFormat::Gemini, &asked, openai).unwrap();
        assert_eq!(body, r#"{"embeddings":[{"values":[1]},{"values":[2]}]}"#);
    }

    #[test]
    fn what_cannot_be_embedded_elsewhere_is_refused_by_name() {
        for (body, field) in [
            (r#"{"input":[1,2,3]}"#, "input"),
            (r#"{"input":[[1],[2]]}"#, "input"),
            (r#"{"input":[]}"#, "input"),
            (r#"{"model":"m"}"#, "input"),
            (r#"{"input":"a","encoding_format":"hex"}"#, "encoding_format"),
            (r#"{"input":"a","dimensions":"many"}"#, "dimensions"),
        ] {
            assert_eq!(to_google(body).unwrap_err().param.as_deref(), Some(field), "{body}");
        }
        let image = r#"{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]}}"#;
        let refused = ask(&Endpoint::EmbedContent, &Endpoint::Embeddings, image).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some("content.parts"));
    }

    #[test]
    fn a_vector_too_few_or_torn_is_no_answer() {
        let asked = to_google(r#"{"input":["a","b"]}"#).unwrap();
        for body in [r#"{"embeddings":[{"values":[1]}]}"#, "{}", "[]", "<html>", r#"{"embeddings":[{},{}]}"#] {
            assert!(answer(WireFormat::OpenaiChat, &asked, body).is_err(), "{body}");
        }
        let one = ask(&Endpoint::EmbedContent, &Endpoint::Embeddings, r#"{"content":{"parts":[{"text":"a"}]}}"#);
        let torn = r#"{"data":[{"embedding":"AAAAPwA="}]}"#;
        assert!(answer(WireFormat::Gemini, &one.unwrap(), torn).is_err());
    }
}
