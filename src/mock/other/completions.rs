//! The old text completions, whole and streamed.

use super::Ready;
use crate::mock::{
    answer::{self, Finish, pieces},
    ask::{Ask, Role, Turn},
    damage::Body,
    json,
    read::{self, given, invalid, limit, sampling, stranger, text},
    refusal::{Checked, Dialect, ensure},
    seal,
    write::{CREATED, Event, Part, openai_chat::usage},
};
use serde_json::{Map, Value};

#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n",
    "presence_penalty", "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user",
];

/// `POST /v1/completions`; `path_model` is Azure's deployment.
pub(in crate::mock) fn read(body: &Value, path_model: Option<&str>) -> Checked<Ready> {
    let body = read::object(body)?;
    if let Some(name) = stranger(body, FIELDS) {
        return Err(invalid(format!("Unrecognized request argument supplied: {name}")));
    }
    let model = path_model.or_else(|| text(body, "model"));
    let model = model.ok_or_else(|| invalid("you must provide a model parameter"))?;
    sampling(body, "temperature", 0.0, 2.0)?;
    let mut ask = Ask::new(Dialect::Chat);
    ask.model = model.to_owned();
    ask.max_tokens = Some(limit(body, "max_tokens", 1)?.unwrap_or(16));
    ask.stop = match given(body, "stop") {
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let mut turn = Turn::new(Role::User);
    turn.texts.push(prompt(body)?);
    ask.turns.push(turn);
    let stream = body.get("stream") == Some(&Value::Bool(true));
    let counted =
        body.get("stream_options").and_then(|options| options.get("include_usage")) == Some(&Value::Bool(true));
    ensure!(
        stream || given(body, "stream_options").is_none(),
        invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.").at("stream_options")
    );
    Ok(ready(&ask, stream, counted))
}

fn prompt(body: &Map<String, Value>) -> Checked<String> {
    let missing = || invalid("you must provide a prompt parameter").at("prompt");
    match given(body, "prompt") {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(list)) if !list.is_empty() => match list.first() {
            Some(Value::String(text)) => Ok(text.clone()),
            _ => Ok(Value::Array(list.clone()).to_string()),
        },
        _ => Err(missing()),
    }
}

fn ready(ask: &Ask, stream: bool, counted: bool) -> Ready {
    let answer = answer::plan(ask);
    let finish = if answer.finish == Finish::Length { "length" } else { "stop" };
    let id = format!("cmpl-{}", seal::id(&[&answer.text, &ask.model], 12));
    let write = |text: Option<&str>, finish: Option<&str>, with_usage: bool| {
        json::object(|o| {
            o.text("id", &id).text("object", "text_completion").number("created", CREATED).text("model", &ask.model);
            o.list("choices", |l| {
                if let Some(text) = text {
                    l.object(|c| {
                        c.text("text", text).number("index", 0).null("logprobs").text_or_null("finish_reason", finish);
                    });
                }
            });
            if with_usage {
                o.raw("usage", &usage(&answer.usage));
            }
        })
    };
    let whole = write(Some(&answer.text), Some(finish), true);
    let mut events = Vec::new();
    if stream {
        let piece = |text| Event::new(Part::Content, write(Some(text), None, false));
        events.extend(pieces(&answer.text, answer.piece).map(piece));
        events.push(Event::new(Part::Finish, write(Some(""), Some(finish), false)));
        if counted {
            events.push(Event::new(Part::Usage, write(None, None, true)));
        }
        events.push(Event::new(Part::End, "[DONE]".into()));
    }
    Ready {
        model: ask.model.clone(),
        prompt: answer.prompt.clone(),
        usage: answer.usage,
        text: answer.text.clone(),
        body: Body { content_type: "application/json", data: whole.into_bytes(), chunked: false },
        events: stream.then_some(events),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_prompt_is_completed_to_its_limit() {
        let ready = read(&json!({"model": "m", "prompt": "COUNT_TO 99", "max_tokens": 2}), None).unwrap();
        let value: Value = serde_json::from_slice(&ready.body.data).unwrap();
        assert_eq!(value["choices"][0]["text"], "1 2 3 4 ");
        assert_eq!(value["choices"][0]["finish_reason"], "length");
        assert!(read(&json!({"model": "m"}), None).is_err());
        assert!(read(&json!({"model": "m", "prompt": "x", "messages": []}), None).is_err());
    }

    #[test]
    fn a_stream_ends_in_done() {
        let ready = read(
            &json!({"model": "m", "prompt": "x", "stream": true, "stream_options": {"include_usage": true}}),
            None,
        );
        let events = ready.unwrap().events.unwrap();
        assert_eq!(events.last().map(|event| event.data.as_str()), Some("[DONE]"));
        assert!(events.iter().any(|event| event.part == Part::Usage));
    }
}
