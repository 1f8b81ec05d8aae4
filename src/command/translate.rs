//! `sub2api translate`: shows what a request or a reply becomes in another wire format, and what is lost on the way.
//!
//! Works on what it is given; opens no socket and needs no configuration. One body goes to the output and its losses to
//! the error output; in a batch every line is a body with its losses, and a bad line spoils only itself.

use super::{USAGE_ERROR, help};
use crate::wire::{
    WireFormat,
    loss::Losses,
    tap::Shape,
    translate::{Context, Options, ReplyTranslator, translate_error, translate_request},
};
use lexopt::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, Read, Write},
    process::ExitCode,
};

const HELP: &str = "\
sub2api translate --from FORMAT --to FORMAT [--kind KIND] [FILE]
sub2api translate --batch [FILE]

Writes what a body becomes in another wire format to the standard output, and what is lost to the standard error.
Reads FILE, or the standard input.

  FORMAT  openai_chat, openai_responses, anthropic or gemini
  KIND    request (the default), reply, stream or error
  --batch reads JSON lines {\"id\",\"kind\",\"from\",\"to\",\"body\"} and writes {\"id\",\"body\",\"loss\",\"error\"}";

/// The longest line of a batch, in bytes.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// The command line.
#[derive(Default)]
struct Arguments {
    from: Option<OsString>,
    to: Option<OsString>,
    kind: Option<OsString>,
    batch: bool,
    file: Option<OsString>,
}

pub(super) fn command(mut parser: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let mut given = Arguments::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("from") => given.from = Some(parser.value()?),
            Long("to") => given.to = Some(parser.value()?),
            Long("kind") => given.kind = Some(parser.value()?),
            Long("batch") => given.batch = true,
            Short('h') | Long("help") => return help(HELP),
            Value(file) if given.file.is_none() => given.file = Some(file),
            other => return Err(other.unexpected()),
        }
    }
    let task = if given.batch { None } else { Some(given.task()?) };
    match run(task, given.file.as_ref()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(fault) => {
            eprintln!("sub2api: {fault}");
            Ok(ExitCode::from(if fault.kind() == io::ErrorKind::InvalidInput { 1 } else { USAGE_ERROR }))
        }
    }
}

impl Arguments {
    fn task(&self) -> Result<Task, lexopt::Error> {
        let word = |value: &Option<OsString>| value.as_ref().map(|v| v.to_string_lossy().into_owned());
        let format = |value: &Option<OsString>, option: &str| {
            let name = word(value).ok_or_else(|| format!("say {option} FORMAT"))?;
            parse_format(&name).ok_or_else(|| format!("there is no format `{name}`"))
        };
        let kind = word(&self.kind).unwrap_or_else(|| "request".to_owned());
        let kind = Kind::parse(&kind).ok_or_else(|| format!("there is no kind `{kind}`"))?;
        Ok(Task { kind, from: format(&self.from, "--from")?, to: format(&self.to, "--to")? })
    }
}

fn run(task: Option<Task>, file: Option<&OsString>) -> io::Result<()> {
    let input: Box<dyn Read> = match file {
        Some(file) => Box::new(File::open(file)?),
        None => Box::new(io::stdin().lock()),
    };
    let (mut input, mut out) = (io::BufReader::new(input), io::BufWriter::new(io::stdout().lock()));
    match task {
        Some(task) => run_one(task, &mut input, &mut out, &mut io::stderr().lock())?,
        None => run_batch(&mut input, &mut out)?,
    }
    out.flush()
}

/// What is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request body.
    Request,
    /// A whole reply.
    Reply,
    /// A streamed reply.
    Stream,
    /// An error reply.
    Error,
}

impl Kind {
    /// The kind of this name.
    pub(super) fn parse(name: &str) -> Option<Kind> {
        match name {
            "request" => Some(Kind::Request),
            "reply" => Some(Kind::Reply),
            "stream" => Some(Kind::Stream),
            "error" => Some(Kind::Error),
            _ => None,
        }
    }
}

/// The wire format of this name: the name in configuration, or one by which people call it.
pub(super) fn parse_format(name: &str) -> Option<WireFormat> {
    match name {
        "chat" | "openai.chat" | "openai" | "chat_completions" => Some(WireFormat::OpenaiChat),
        "responses" | "openai.responses" => Some(WireFormat::OpenaiResponses),
        "messages" | "anthropic.messages" => Some(WireFormat::Anthropic),
        "gemini.generateContent" | "google" => Some(WireFormat::Gemini),
        name => WireFormat::parse(name),
    }
}

/// One translation that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    /// What is translated.
    pub(super) kind: Kind,
    /// The format that it is in.
    pub(super) from: WireFormat,
    /// The format that it is to be in.
    pub(super) to: WireFormat,
}

/// Translates one body.
///
/// # Errors
/// The text of the refusal, or of the error with which the reply ended.
pub(super) fn translate(task: Task, body: &[u8]) -> Result<(Vec<u8>, Losses), String> {
    let Task { kind, from, to } = task;
    if from == to {
        return Ok((body.to_vec(), Losses::default()));
    }
    match kind {
        Kind::Request => {
            let translated = translate_request(from, to, body, &Options::default()).map_err(|r| r.to_string())?;
            Ok((translated.body, translated.losses))
        }
        Kind::Reply => reply(task, (Shape::Json, Shape::Json), body),
        Kind::Stream => {
            let array = from == WireFormat::Gemini && body.trim_ascii_start().first() == Some(&b'[');
            reply(task, (if array { Shape::JsonArray } else { Shape::Sse }, Shape::Sse), body)
        }
        Kind::Error => Ok((translate_error(to, 0, body, "").body, Losses::default())),
    }
}

fn reply(task: Task, shapes: (Shape, Shape), body: &[u8]) -> Result<(Vec<u8>, Losses), String> {
    let context = Context { stream: shapes.1 != Shape::Json, ..Context::for_unknown_client() };
    let mut translator =
        ReplyTranslator::new(task.from, task.to, shapes, context).ok_or("this format is not translated")?;
    let mut out = translator.feed(body).to_vec();
    out.extend(translator.finish());
    Ok((out, translator.losses().clone()))
}

/// Reads one body, writes its translation to `out` and its losses to `notes`, one a line.
///
/// # Errors
/// Failing input or output, or the refusal as `InvalidInput`.
pub(super) fn run_one(task: Task, input: &mut dyn Read, out: &mut dyn Write, notes: &mut dyn Write) -> io::Result<()> {
    let mut body = Vec::new();
    input.take(MAX_LINE_BYTES).read_to_end(&mut body)?;
    let (body, losses) = translate(task, &body).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
    out.write_all(&body)?;
    if !body.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    for loss in losses.iter() {
        writeln!(notes, "{}={}", loss.field, loss.how.name())?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct LineIn<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    kind: String,
    from: String,
    to: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// Reads JSON lines `{"id","kind","from","to","body"}` and writes one `{"id","body","loss","error"}` for each. A body is a
/// JSON value, or for a stream the string of it; so are the bodies written.
///
/// # Errors
/// Failing input or output; a line that cannot be translated says so in its own `error`.
pub(super) fn run_batch(mut input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if Read::take(&mut input, MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return out.flush();
        }
        if !line.trim_ascii().is_empty() {
            write_line(&line, out)?;
        }
    }
}

fn write_line(line: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let parsed = serde_json::from_slice::<LineIn<'_>>(line);
    let id = parsed.as_ref().ok().and_then(|line| line.id).map_or("null", RawValue::get).to_owned();
    let done = parsed.map_err(|e| format!("the line cannot be read: {e}")).and_then(|line| translate_line(&line));
    let (body, losses, error) = match done {
        Ok((body, losses)) => (body, losses, "null".to_owned()),
        Err(why) => ("null".to_owned(), Losses::default(), serde_json::to_string(&why)?),
    };
    let words: Vec<String> = losses.iter().map(|l| format!("{}={}", l.field, l.how.name())).collect();
    let loss = serde_json::to_string(&words)?;
    writeln!(out, "{{\"id\":{id},\"body\":{body},\"loss\":{loss},\"error\":{error}}}")
}

fn translate_line(line: &LineIn<'_>) -> Result<(String, Losses), String> {
    let format = |name: &str| parse_format(name).ok_or_else(|| format!("no such format: {name}"));
    let kind = Kind::parse(&line.kind).ok_or_else(|| format!("no such kind: {}", line.kind))?;
    let task = Task { kind, from: format(&line.from)?, to: format(&line.to)? };
    let text = serde_json::from_str::<String>(line.body.get());
    let body = text.as_deref().unwrap_or(line.body.get());
    let (body, losses) = translate(task, body.as_bytes())?;
    let body = String::from_utf8(body).map_err(|e| e.to_string())?;
    match kind {
        Kind::Stream => Ok((serde_json::to_string(&body).map_err(|e| e.to_string())?, losses)),
        Kind::Request | Kind::Reply | Kind::Error => Ok((body, losses)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(input: &str) -> String {
        let mut out = Vec::new();
        run_batch(&mut input.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_body_goes_to_the_output_and_its_losses_beside() {
        let task = Task { kind: Kind::Request, from: WireFormat::OpenaiChat, to: WireFormat::Anthropic };
        let body =
            br#"{"model":"claude-sonnet-4-5","seed":1,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        run_one(task, &mut &body[..], &mut out, &mut notes).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n"
        );
        assert_eq!(notes, b"seed=dropped\n");
    }

    #[test]
    fn a_bad_line_of_a_batch_spoils_only_itself() {
        let good = r#"{"id":7,"kind":"request","from":"openai_chat","to":"gemini","body":{"messages":[{"role":"user","content":"hi"}]}}"#;
        let out = batch(&format!(
            "nonsense\n{good}\n\n{{\"id\":\"x\",\"kind\":\"reply\",\"from\":\"a\",\"to\":\"b\",\"body\":1}}"
        ));
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with(r#"{"id":null,"body":null,"loss":[],"error":"the line cannot be read"#));
        assert_eq!(
            lines[1],
            r#"{"id":7,"body":{"contents":[{"role":"user","parts":[{"text":"hi"}]}]},"loss":[],"error":null}"#
        );
        assert_eq!(lines[2], r#"{"id":"x","body":null,"loss":[],"error":"no such format: a"}"#);
    }

    #[test]
    fn a_stream_is_a_string_on_both_sides() {
        let stream = "data: {\\\"candidates\\\":[{\\\"content\\\":{\\\"parts\\\":[{\\\"text\\\":\\\"hi\\\"}]},\\\"finishReason\\\":\\\"STOP\\\"}]}\\r\\n\\r\\n";
        let out = batch(&format!(r#"{{"id":1,"kind":"stream","from":"gemini","to":"anthropic","body":"{stream}"}}"#));
        assert!(
            out.contains("text_delta") && out.contains("message_stop") && out.ends_with("\"error\":null}\n"),
            "{out}"
        );
    }
}
