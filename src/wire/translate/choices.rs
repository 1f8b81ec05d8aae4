//! Replies with several answers: each is translated as if it were the only one.
//!
//! What comes is taken apart by the answers' numbers, and what goes out is numbered again and put together, so that decoders
//! and encoders know of one answer only. Chat Completions and Gemini alone have several. Invariant: the client gets one end,
//! after all answers; an answer that broke off ends the reply with an error.

use super::{Context, ReplyTranslator, reply::Input};
use crate::wire::{
    WireFormat,
    compose::{Arr, Obj, arr, obj, put_raw},
    fields::{List, Members},
    frames::{EventTooLarge, SseReader},
    loss::Losses,
    reply::ReplyError,
    tap::Shape,
    usage::Usage,
};

/// The most answers of one request; OpenAI's own limit.
pub(super) const MOST: u64 = 128;

/// One answer on its way.
struct Lane {
    translator: ReplyTranslator,
    /// Whether the upstream has begun it.
    is_fed: bool,
}

/// All answers of one reply.
pub(super) struct Choices {
    lanes: Vec<Lane>,
    input: Input,
    to: WireFormat,
    shape: Shape,
    out: Vec<u8>,
    /// Whether the array that the client waits for is open.
    is_open: bool,
    /// The chunk that tells usage, which is the last.
    usage: Option<Vec<u8>>,
    /// The whole answers, by number.
    whole: Vec<(usize, Vec<u8>)>,
    losses: Losses,
    is_failed: bool,
    pub(super) ended: bool,
}

impl Choices {
    pub(super) fn new(from: WireFormat, to: WireFormat, shapes: (Shape, Shape), context: &Context) -> Option<Self> {
        let input = Input::of(shapes.0);
        let shape_in = if matches!(input, Input::Whole(_)) { Shape::Json } else { Shape::Sse };
        let is_streamed = matches!(shapes.1, Shape::Sse | Shape::JsonArray);
        let shape_out = if is_streamed { Shape::Sse } else { Shape::Json };
        let lane = |_| {
            let context = Context { choices: 1, ..context.clone() };
            let translator = ReplyTranslator::new(from, to, (shape_in, shape_out), context)?;
            Some(Lane { translator, is_fed: false })
        };
        let lanes = (0..context.choices.min(MOST)).map(lane).collect::<Option<Vec<Lane>>>()?;
        Some(Choices {
            lanes,
            input,
            to,
            shape: shapes.1,
            out: Vec::new(),
            is_open: false,
            usage: None,
            whole: Vec::new(),
            losses: Losses::default(),
            is_failed: false,
            ended: false,
        })
    }

    /// Takes the next bytes of the upstream and returns what the client is to get for them.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> &[u8] {
        self.out.clear();
        if self.ended {
            return &[];
        }
        let mut input = std::mem::replace(&mut self.input, Input::Whole(Vec::new()));
        let mut each = |_: &[u8], data: &[u8]| self.take(data);
        let result = match &mut input {
            Input::Whole(body) => {
                body.extend_from_slice(bytes);
                if body.len() > super::reply::MAX_WHOLE_BYTES { Err(EventTooLarge) } else { Ok(()) }
            }
            Input::Sse(reader) => reader.feed(bytes, &mut each),
            Input::Array(reader) => reader.feed(bytes, &mut each),
        };
        self.input = input;
        if let Err(EventTooLarge) = result {
            self.break_off(ReplyError::unreadable(&"it is too large"));
        }
        &self.out
    }

    /// The upstream ended: returns the rest.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.out.clear();
        if !self.ended {
            let mut input = std::mem::replace(&mut self.input, Input::Whole(Vec::new()));
            match &mut input {
                Input::Whole(body) => self.take(body),
                Input::Sse(reader) => reader.finish(&mut |_, data| self.take(data)),
                Input::Array(_) => {}
            }
            self.end();
        }
        std::mem::take(&mut self.out)
    }

    /// The upstream broke off: returns the client format's error for it.
    pub(super) fn fail(&mut self, error: ReplyError) -> Vec<u8> {
        self.out.clear();
        self.break_off(error);
        std::mem::take(&mut self.out)
    }

    pub(super) fn losses(&self) -> &Losses {
        &self.losses
    }

    /// What the upstream counted for all answers together.
    pub(super) fn usage(&self) -> Option<&Usage> {
        self.lanes.first().map(|lane| lane.translator.usage())
    }

    pub(super) fn error(&self) -> Option<&ReplyError> {
        self.lanes.iter().find_map(|lane| lane.translator.error())
    }

    fn break_off(&mut self, error: ReplyError) {
        if self.ended {
            return;
        }
        let said = self.lanes.first_mut().map(|lane| lane.translator.fail(error)).unwrap_or_default();
        self.give(0, &said);
        self.close();
    }

    /// Takes one chunk, or the whole reply: each answer gets its own part of it, and the first one what belongs to all.
    fn take(&mut self, data: &[u8]) {
        if self.ended || data.trim_ascii() == b"[DONE]" {
            return;
        }
        let chunk = serde_json::from_slice::<Members<'_>>(data).unwrap_or_default();
        let elements = answers(&chunk);
        if elements.is_empty() {
            return self.put(0, data);
        }
        let mut is_told = false;
        for (at, element) in elements.iter().enumerate() {
            let index = number(element).unwrap_or(at);
            is_told |= index == 0;
            self.put(index, &only(&chunk, Some(element), index == 0));
        }
        if !is_told && USAGE.iter().any(|key| chunk.find(key).is_some()) {
            self.put(0, &only(&chunk, None, true));
        }
    }

    /// Gives an answer its part.
    fn put(&mut self, index: usize, json: &[u8]) {
        let is_whole = matches!(self.whole_input(), Shape::Json);
        let Some(lane) = self.lanes.get_mut(index) else { return self.losses.dropped("choices") };
        lane.is_fed = true;
        let said = if is_whole {
            lane.translator.feed(json).to_vec()
        } else {
            let mut event = b"data: ".to_vec();
            put_raw(&mut event, std::str::from_utf8(json).unwrap_or_default());
            event.extend_from_slice(b"\n\n");
            lane.translator.feed(&event).to_vec()
        };
        self.losses.extend(lane.translator.losses());
        self.give(index, &said);
    }

    /// How the answers' translators are fed.
    fn whole_input(&self) -> Shape {
        self.lanes.first().map_or(Shape::Json, |lane| lane.translator.input_shape())
    }

    /// Passes on what a translator wrote for an answer, with the answer's number.
    fn give(&mut self, index: usize, said: &[u8]) {
        if !matches!(self.shape, Shape::Sse | Shape::JsonArray) {
            if !said.is_empty() {
                self.whole.push((index, said.to_vec()));
            }
            return;
        }
        let mut reader = SseReader::default();
        let mut each = |_: &[u8], data: &[u8]| self.give_chunk(index, data);
        let fits = reader.feed(said, &mut each);
        reader.finish(&mut each);
        self.is_failed |= fits.is_err();
    }

    fn give_chunk(&mut self, index: usize, data: &[u8]) {
        let chunk = serde_json::from_slice::<Members<'_>>(data).unwrap_or_default();
        if self.is_failed || chunk.0.is_empty() {
            return;
        }
        if chunk.find("error").is_some() {
            self.is_failed = true;
            return self.frame(data);
        }
        let elements = answers(&chunk);
        if elements.is_empty() {
            if index == 0 {
                self.usage = Some(data.to_vec());
            }
            return;
        }
        let mut numbered = Vec::with_capacity(data.len() + 4);
        obj(&mut numbered, |o| with_answers(o, &chunk, |l| put_answer(l, elements.first(), index)));
        self.frame(&numbered);
    }

    fn frame(&mut self, data: &[u8]) {
        let is_open = std::mem::replace(&mut self.is_open, true);
        let (before, after): (&[u8], &[u8]) = match (self.shape, self.to, is_open) {
            (Shape::JsonArray, _, false) => (b"[", b""),
            (Shape::JsonArray, _, true) => (b",\r\n", b""),
            (_, WireFormat::Gemini, _) => (b"data: ", b"\r\n\r\n"),
            (_, WireFormat::OpenaiChat | WireFormat::OpenaiResponses | WireFormat::Anthropic, _) => {
                (b"data: ", b"\n\n")
            }
        };
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(data);
        self.out.extend_from_slice(after);
    }

    /// The upstream has nothing more. The first answer ends last, as what it tells of usage belongs to all.
    fn end(&mut self) {
        for index in (1..self.lanes.len()).chain([0]) {
            let Some(lane) = self.lanes.get_mut(index).filter(|lane| lane.is_fed || index == 0) else { continue };
            let said = lane.translator.finish();
            self.losses.extend(lane.translator.losses());
            self.give(index, &said);
            if self.is_failed {
                break;
            }
        }
        self.close();
    }

    fn close(&mut self) {
        self.ended = true;
        match self.shape {
            Shape::Sse | Shape::JsonArray => {
                if let Some(usage) = self.usage.take().filter(|_| !self.is_failed) {
                    self.frame(&usage);
                }
                match (self.shape, self.to) {
                    (Shape::JsonArray, _) => self.out.extend_from_slice(b"]"),
                    (_, WireFormat::OpenaiChat) => self.out.extend_from_slice(b"data: [DONE]\n\n"),
                    (_, WireFormat::Gemini | WireFormat::OpenaiResponses | WireFormat::Anthropic) => {}
                }
            }
            Shape::Json | Shape::Opaque => self.join(),
        }
    }

    /// Puts the whole answers into the reply of the first one.
    fn join(&mut self) {
        self.whole.sort_by_key(|(index, _)| *index);
        let failed = self.lanes.iter().position(|lane| lane.translator.error().is_some());
        if let Some((_, said)) = self.whole.iter().find(|(index, _)| Some(*index) == failed) {
            return self.out.extend_from_slice(said);
        }
        let replies: Vec<(usize, Members<'_>)> = self
            .whole
            .iter()
            .filter_map(|(index, said)| serde_json::from_slice(said).ok().map(|members| (*index, members)))
            .collect();
        let Some((_, first)) = replies.first() else { return };
        let mut all = Vec::new();
        obj(&mut all, |o| {
            with_answers(o, first, |l| {
                replies.iter().for_each(|(index, reply)| put_answer(l, answers(reply).first(), *index));
            });
        });
        self.out.extend_from_slice(&all);
    }
}

/// The members that tell usage, of all answers together.
const USAGE: [&str; 3] = ["usage", "usageMetadata", "x_groq"];

fn is_answers(key: &str) -> bool {
    matches!(key, "choices" | "candidates")
}

/// The answers in a chunk or in a whole reply.
fn answers<'a>(chunk: &Members<'a>) -> Vec<Members<'a>> {
    let list = chunk.0.iter().find(|(key, _)| is_answers(key));
    let list = list.and_then(|(_, raw)| serde_json::from_str::<List<Members<'a>>>(raw.get()).ok());
    list.into_iter().flatten().collect()
}

fn number(answer: &Members<'_>) -> Option<usize> {
    answer.find("index").and_then(|raw| raw.get().parse().ok())
}

/// The chunk with this answer alone, as if there were no other.
fn only(chunk: &Members<'_>, answer: Option<&Members<'_>>, is_first: bool) -> Vec<u8> {
    let mut out = Vec::new();
    obj(&mut out, |o| {
        for (key, value) in &chunk.0 {
            if is_answers(key) {
                arr(o.any_key(key), |l| put_answer(l, answer, 0));
            } else if is_first || !USAGE.contains(&&**key) {
                o.any_raw(key, value.get());
            }
        }
    });
    out
}

fn with_answers(o: &mut Obj<'_>, chunk: &Members<'_>, answers: impl FnOnce(&mut Arr<'_>)) {
    let mut answers = Some(answers);
    for (key, value) in &chunk.0 {
        match answers.take_if(|_| is_answers(key)) {
            Some(answers) => arr(o.any_key(key), answers),
            None => o.any_raw(key, value.get()),
        }
    }
}

fn put_answer(l: &mut Arr<'_>, answer: Option<&Members<'_>>, index: usize) {
    let Some(answer) = answer else { return };
    l.obj(|o| {
        o.int("index", index as u64);
        answer.0.iter().filter(|(key, _)| key != "index").for_each(|(key, value)| o.any_raw(key, value.get()));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::translate::{Options, translate_request};
    use WireFormat::{Gemini, OpenaiChat};
    use serde_json::{Value, json};

    /// What two answers of an upstream become for a client of the other format.
    fn run(from: WireFormat, to: WireFormat, shapes: (Shape, Shape), reply: &str, piece: usize) -> String {
        let context = Context { choices: 2, stream_usage: true, ..Context::default() };
        let mut translator = ReplyTranslator::new(from, to, shapes, context).unwrap();
        let mut out = Vec::new();
        for piece in reply.as_bytes().chunks(piece) {
            out.extend_from_slice(translator.feed(piece));
        }
        out.extend(translator.finish());
        String::from_utf8(out).unwrap()
    }

    fn chunks(stream: &str) -> Vec<Value> {
        let data = stream.split_terminator("\n\n").flat_map(|event| event.split("\r\n\r\n"));
        let data = data.filter_map(|event| event.trim().strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    fn chat_stream(ends: usize) -> String {
        let choice = |index: usize, delta: Value, finish: Value| {
            let choices = json!([{"index": index, "delta": delta, "finish_reason": finish}]);
            format!("data: {}\n\n", json!({"id": "c", "model": "m", "created": 5, "choices": choices}))
        };
        let mut stream = String::new();
        for word in ["a", "b"] {
            for index in 0..2 {
                stream += &choice(index, json!({"content": format!("{word}{index}")}), Value::Null);
            }
        }
        (0..ends).for_each(|index| stream += &choice(index, json!({}), json!("stop")));
        stream += "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":8,\"total_tokens\":11}}\n\n";
        stream + "data: [DONE]\n\n"
    }

    fn texts(chunks: &[Value], index: u64) -> String {
        let of = |chunk: &Value| {
            let answer = &chunk["candidates"][0];
            (answer["index"] == index).then(|| answer["content"]["parts"][0]["text"].as_str().unwrap().to_owned())
        };
        chunks.iter().filter_map(of).collect()
    }

    #[test]
    fn the_number_of_answers_is_asked_for_in_both_formats() {
        let options = Options { model: "m", ..Options::default() };
        let chat = br#"{"n":2,"messages":[{"role":"user","content":"hi"}]}"#;
        let asked = translate_request(OpenaiChat, Gemini, chat, &options).unwrap();
        assert!(String::from_utf8(asked.body).unwrap().contains(r#""candidateCount":2"#));
        assert_eq!(asked.context.choices, 2);
        let google = br#"{"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"candidateCount":3}}"#;
        let asked = translate_request(Gemini, OpenaiChat, google, &options).unwrap();
        assert!(String::from_utf8(asked.body).unwrap().contains(r#""n":3"#));
        let many = br#"{"n":1000,"messages":[{"role":"user","content":"hi"}]}"#;
        assert_eq!(translate_request(OpenaiChat, Gemini, many, &options).unwrap_err().param.as_deref(), Some("n"));
    }

    #[test]
    fn interleaved_answers_stay_apart_and_end_once() {
        let stream = chat_stream(2);
        for piece in [1, 7, stream.len()] {
            let out = run(OpenaiChat, Gemini, (Shape::Sse, Shape::Sse), &stream, piece);
            let chunks = chunks(&out);
            assert_eq!((texts(&chunks, 0), texts(&chunks, 1)), ("a0b0".into(), "a1b1".into()), "{out}");
            assert_eq!(chunks.iter().filter(|c| c["candidates"][0]["finishReason"] == "STOP").count(), 2, "{out}");
            assert_eq!(chunks.last().unwrap()["usageMetadata"]["candidatesTokenCount"], 8, "{out}");
        }
        let array = run(OpenaiChat, Gemini, (Shape::Sse, Shape::JsonArray), &stream, 9);
        let array: Vec<Value> = serde_json::from_str(&array).unwrap();
        assert_eq!(texts(&array, 1), "a1b1");
    }

    #[test]
    fn geminis_candidates_become_choices_with_one_usage_and_one_done() {
        let candidate = |index: u64, text: &str, more: &str| {
            format!(r#"{{"content":{{"parts":[{{"text":"{text}"}}],"role":"model"}},"index":{index}{more}}}"#)
        };
        let stop = r#","finishReason":"STOP""#;
        let usage = r#""usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":8}"#;
        let first = format!(r#"{{"candidates":[{},{}],{usage}}}"#, candidate(0, "a", ""), candidate(1, "b", ""));
        let last = format!(r#"{{"candidates":[{},{}],{usage}}}"#, candidate(1, "d", stop), candidate(0, "c", stop));
        let stream = format!("data: {first}\r\n\r\ndata: {last}\r\n\r\n");
        let out = run(Gemini, OpenaiChat, (Shape::Sse, Shape::Sse), &stream, 11);
        let text = |index: u64| -> String {
            let of = |c: &Value| (c["choices"][0]["index"] == index).then(|| c["choices"][0]["delta"].clone());
            chunks(&out).iter().filter_map(of).filter_map(|d| Some(d["content"].as_str()?.to_owned())).collect()
        };
        assert_eq!((text(0), text(1)), ("ac".to_owned(), "bd".to_owned()), "{out}");
        assert_eq!((out.matches("[DONE]").count(), out.matches("\"prompt_tokens\":3").count()), (1, 1), "{out}");
        assert!(out.ends_with("data: [DONE]\n\n"));
        let whole = format!(r#"{{"candidates":[{},{}],{usage}}}"#, candidate(0, "a", stop), candidate(1, "b", stop));
        let out = run(Gemini, OpenaiChat, (Shape::Json, Shape::Json), &whole, 50);
        let out: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&out["choices"][1]["index"], &out["choices"][1]["message"]["content"]), (&json!(1), &json!("b")));
        assert_eq!((out["choices"].as_array().unwrap().len(), &out["usage"]["completion_tokens"]), (2, &json!(8)));
    }

    #[test]
    fn an_answer_that_breaks_off_ends_the_reply_with_an_error() {
        let stream = chat_stream(1);
        let out = run(OpenaiChat, Gemini, (Shape::Sse, Shape::Sse), &stream, stream.len());
        assert_eq!(chunks(&out).iter().filter(|chunk| chunk.get("error").is_some()).count(), 1, "{out}");
        let refused = r#"data: {"error":{"message":"oops","type":"server_error"}}"#.to_owned() + "\n\n";
        let out = run(OpenaiChat, Gemini, (Shape::Sse, Shape::Sse), &refused, 5);
        assert_eq!(chunks(&out).len(), 1, "{out}");
        assert!(out.contains("oops"));
    }

    #[test]
    fn fewer_answers_than_asked_for_are_no_fault() {
        let whole = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}"#;
        let out: Value = serde_json::from_str(&run(Gemini, OpenaiChat, (Shape::Json, Shape::Json), whole, 99)).unwrap();
        assert_eq!(out["choices"].as_array().unwrap().len(), 1, "{out}");
    }
}
