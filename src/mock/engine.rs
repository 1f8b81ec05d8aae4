//! One request from its last byte to its reply: route, credentials, script, strict reading, answer, fault.
//!
//! Never waits and never touches a socket; the transports carry out the [`Reply`] and tell how it ended.

use super::{
    Options,
    answer::{self, Answer, Tokens},
    ask::Ask,
    bench::Bench,
    credential,
    damage::{Body, Envelope, Style},
    fault::{Counts, Effect, Events, FAULTS, Fault, Instead, Wire},
    instead::Setting,
    issuer::{self, Issuer},
    json,
    log::{Entry, Log, Outcome, Ticket, Usage},
    memory::Memory,
    other::{Ready, completions, embeddings, media, models, ranking},
    read,
    refusal::{Checked, Dialect, Refusal},
    reply::{Reply, Step},
    request::Request,
    route::{self, Call, Route},
    script::{Asked, Play, Scripts},
    write,
};
use crate::clock::Clock;
use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use serde_json::Value;
use std::{
    borrow::Cow,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

/// Everything that the connections of one mock share.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) options: Options,
    pub(super) clock: Clock,
    pub(super) log: Log,
    pub(super) scripts: Scripts,
    pub(super) open_connections: AtomicUsize,
    pub(super) connections: AtomicU64,
    counts: Counts,
    memory: Memory,
    bench: Bench,
    pub(super) issuer: Issuer,
}

/// A reply, and the hold on its log entry, if it has one.
pub(super) struct Exchange {
    pub(super) reply: Reply,
    pub(super) ticket: Option<Ticket>,
}

/// A request on its way through.
struct Case<'a> {
    request: &'a Request,
    route: &'a Route,
    ticket: &'a Ticket,
    key: &'a str,
    request_id: &'a str,
}

/// What a request leads to, before a fault.
enum Work {
    Answer(Box<(Ask, Answer)>),
    Ready(Box<Ready>),
}

impl Engine {
    pub(super) fn new(options: Options, log: Log) -> Self {
        Engine {
            options,
            clock: Clock::System,
            log,
            scripts: Scripts::default(),
            open_connections: AtomicUsize::new(0),
            connections: AtomicU64::new(0),
            counts: Counts::default(),
            memory: Memory::default(),
            bench: Bench::default(),
            issuer: Issuer::default(),
        }
    }

    /// Answers a request.
    pub(super) fn exchange(&self, request: Request) -> Exchange {
        if let Some(reply) = self.own(&request) {
            return Exchange { reply, ticket: None };
        }
        let route = route::find(&request);
        let prepared = route.as_ref().ok().and_then(|route| self.bench.reply(route, &request.body));
        if let Some(reply) = prepared {
            return Exchange { reply, ticket: None };
        }
        let request = Arc::new(request);
        let (ticket, number) = self.log.open(self.entry(&request, route.as_ref().ok()));
        let request_id = format!("req_mock{number:08}");
        let reply = match &route {
            Ok(route) => self.routed(&request, route, &ticket, &request_id),
            Err(refusal) => self.refused(&request, None, &request_id, refusal, &ticket),
        };
        ticket.note(|entry| entry.status = reply.status().unwrap_or(0));
        Exchange { reply, ticket: Some(ticket) }
    }

    /// The end of an exchange.
    pub(super) fn ended(&self, ticket: Option<&Ticket>, outcome: Outcome) {
        if let Some(ticket) = ticket {
            self.log.close(ticket, outcome, self.clock.now());
        }
    }

    /// Notes a request that broke off before its end.
    pub(super) fn unread(&self, request: Request, why: &str) {
        let (ticket, _) = self.log.open(self.entry(&Arc::new(request), None));
        ticket.note(|entry| entry.reject = Some(why.to_owned()));
        self.log.close(&ticket, Outcome::ClientGone, self.clock.now());
    }

    /// The mock's own pages.
    fn own(&self, request: &Request) -> Option<Reply> {
        let reply = match request.path.as_str() {
            issuer::PATH => self.issuer.answer(request, &self.options.service_accounts, self.clock.now()),
            "/_log" => {
                let since = request.parameter("since").and_then(|since| since.parse().ok()).unwrap_or(0);
                let rows = self.log.rows(since, request.parameter("contains").unwrap_or_default());
                Reply::whole(200, vec![("content-type", "application/x-ndjson".into())], rows)
            }
            "/_reset" if request.method == "POST" => {
                self.reset();
                Reply::json(200, r#"{"ok":true}"#)
            }
            "/_reset" => Reply::json(405, r#"{"error":"POST"}"#),
            "/_health" => Reply::json(200, format!(r#"{{"ok":true,"log":{}}}"#, self.log.count())),
            "/_faults" => {
                Reply::json(200, json::object(|o| FAULTS.iter().for_each(|info| _ = o.text(info.name, info.about))))
            }
            _ => return None,
        };
        Some(reply)
    }

    /// Forgets the log, the counts, the stored conversations and the scripts.
    pub(super) fn reset(&self) {
        self.log.reset();
        self.counts.reset();
        self.memory.reset();
        self.issuer.reset();
        self.scripts.reset();
    }

    fn entry(&self, request: &Arc<Request>, route: Option<&Route>) -> Entry {
        Entry {
            number: 0,
            request: Arc::clone(request),
            at: self.clock.now(),
            kind: route.map(Route::kind),
            credentials: credential::found(request),
            model: None,
            stream: false,
            status: 0,
            fault: None,
            usage: None,
            reject: None,
            warnings: Vec::new(),
            last_user: String::new(),
            answer: String::new(),
            calls: Vec::new(),
            events_sent: 0,
            outcome: Outcome::Pending,
            ended: None,
        }
    }

    fn setting<'a>(&self, request: &'a Request, route: Option<&Route>, request_id: &'a str) -> Setting<'a> {
        let dialect = route.map_or(Dialect::Chat, |route| route.dialect);
        let array = route.is_some_and(|route| route.call == Call::Generate { stream: true, sse: false });
        Setting {
            dialect,
            azure: route.is_some_and(|route| route.azure),
            array,
            path: &request.path,
            request_id,
            headers: standard_headers(dialect, request_id),
            now: self.clock.now(),
        }
    }

    fn refused(&self, request: &Request, route: Option<&Route>, id: &str, refusal: &Refusal, ticket: &Ticket) -> Reply {
        ticket.note(|entry| entry.reject = Some(refusal.message.clone()));
        self.setting(request, route, id).refuse(refusal)
    }

    fn routed(&self, request: &Request, route: &Route, ticket: &Ticket, request_id: &str) -> Reply {
        let reply = self
            .credentialed(request, route)
            .and_then(|key| self.served(&Case { request, route, ticket, key: &key, request_id }));
        reply.unwrap_or_else(|refusal| self.refused(request, Some(route), request_id, &refusal, ticket))
    }

    fn credentialed(&self, request: &Request, route: &Route) -> Checked<String> {
        let key = credential::key(route, &credential::found(request), &self.options)?;
        if !self.issuer.takes(&key, self.clock.now()) {
            return Err(credential::wrong(route, &key));
        }
        match request.flaw() {
            Some(flaw) => Err(Refusal::bad(format!("mock: {flaw}"))),
            None => Ok(key),
        }
    }

    fn served(&self, case: &Case) -> Checked<Reply> {
        let body = self.decoded(case.request)?;
        let mut forced = None;
        if !self.scripts.is_empty() {
            let model = case.route.model.clone().or_else(|| model_of(&body)).unwrap_or_default();
            match self.scripts.next(&Asked { key: case.key, model: &model, path: &case.request.path }) {
                Some(Play::Reply(reply)) => {
                    case.ticket.note(|entry| entry.model = Some(model));
                    return Ok(reply);
                }
                Some(Play::Fault(name)) => forced = Fault::named(name),
                Some(Play::Answer) | None => {}
            }
        }
        if let Call::Models(id) = &case.route.call {
            let body = models::show(case.route.dialect, id.as_deref())?;
            let mut headers = standard_headers(case.route.dialect, case.request_id);
            headers.push(("content-type", "application/json".into()));
            return Ok(Reply::whole(200, headers, body));
        }
        let work = self.work(case, &body)?;
        Ok(self.reply(case, work, forced))
    }

    /// The body without its content encoding.
    fn decoded<'a>(&self, request: &'a Request) -> Checked<Cow<'a, [u8]>> {
        let limit = self.options.max_body_bytes as u64 + 1;
        let mut plain = Vec::new();
        let read = match request.header("content-encoding").unwrap_or("identity") {
            "identity" => return Ok(Cow::Borrowed(&request.body)),
            "gzip" => GzDecoder::new(request.body.as_ref()).take(limit).read_to_end(&mut plain),
            "deflate" => ZlibDecoder::new(request.body.as_ref()).take(limit).read_to_end(&mut plain),
            other => return Err(Refusal::new(415, format!("unsupported content-encoding {other}"))),
        };
        match read {
            Ok(size) if size as u64 >= limit => Err(Refusal::new(413, "the decoded body is too large")),
            Ok(_) => Ok(Cow::Owned(plain)),
            Err(_) => Err(Refusal::bad("the body does not fit its content-encoding")),
        }
    }

    /// Reads the request strictly and plans the answer.
    fn work(&self, case: &Case, body: &[u8]) -> Checked<Work> {
        let Case { request, route, .. } = case;
        let ready = |ready: Checked<Ready>| ready.map(|ready| Work::Ready(Box::new(ready)));
        let content_type = request.header("content-type").unwrap_or_default();
        match route.call {
            Call::Images { edit: true } => return ready(media::edit(content_type, body)),
            Call::Transcription => return ready(media::transcribe(content_type, body)),
            _ => {}
        }
        let mut value = self.json(case, content_type, body)?;
        if route.vertex && route.dialect == Dialect::Anthropic {
            read::vertex(&mut value, route)?;
        }
        let model = route.model.as_deref().or_else(|| value.get("model").and_then(Value::as_str));
        if let Some(model) = model {
            models::check(route.dialect, model, self.options.any_model)?;
        }
        if let Some(other) = other(route, &value)? {
            return Ok(Work::Ready(Box::new(other)));
        }
        let ask = self.conversation(case, &value)?;
        let ask = Ask { body: value, key: case.key.to_owned(), azure: route.azure, ..ask };
        let answer = answer::plan(&ask);
        Ok(match route.call {
            Call::InputTokens | Call::CountTokens | Call::GeminiCount | Call::Compact => {
                Work::Ready(Box::new(counted(&route.call, &ask, &answer)))
            }
            _ => Work::Answer(Box::new((ask, answer))),
        })
    }

    /// Reads the calls that are about a conversation.
    fn conversation(&self, Case { request, route, key, .. }: &Case, body: &Value) -> Checked<Ask> {
        let model = route.model.as_deref().unwrap_or_default();
        match &route.call {
            Call::Chat => read::openai_chat::read(body, route, &self.options),
            Call::Responses | Call::InputTokens | Call::Compact => {
                read::openai_responses::read(body, key, &self.memory)
            }
            Call::Messages => read::anthropic::read(body, (request, route.vertex), &self.options, false),
            Call::CountTokens => read::anthropic::read(body, (request, route.vertex), &self.options, true),
            Call::Generate { stream, .. } => read::gemini::read(body, model, *stream),
            Call::GeminiCount => read::gemini::read_count(body, model),
            _ => Err(Refusal::new(404, "Not found")),
        }
    }

    fn json(&self, case: &Case, content_type: &str, body: &[u8]) -> Checked<Value> {
        if !content_type.contains("application/json") {
            if case.route.dialect != Dialect::Gemini {
                let message = format!(
                    "Unsupported content type: '{content_type}'. This API method only accepts 'application/json' requests."
                );
                return Err(Refusal::bad(message).kind("invalid_request_error").code("unsupported_content_type"));
            }
            case.ticket.note(|entry| entry.warnings.push(format!("content-type '{content_type}'")));
        }
        let value: Value = serde_json::from_slice(body).map_err(|_| read::unreadable())?;
        if value.is_object() { Ok(value) } else { Err(read::unreadable()) }
    }

    /// The reply to what was read, with the fault that was asked for.
    fn reply(&self, case: &Case, work: Work, forced: Option<Fault>) -> Reply {
        let (model, prompt) = match &work {
            Work::Answer(both) => (both.0.model.as_str(), both.1.prompt.as_str()),
            Work::Ready(ready) => (ready.model.as_str(), ready.prompt.as_str()),
        };
        let fault = forced.or_else(|| self.counts.choose([model, case.key, prompt]));
        self.note(case, &work, fault);
        let setting = self.setting(case.request, Some(case.route), case.request_id);
        if let Some(reply) = fault.and_then(|fault| instead(&setting, fault)) {
            return reply;
        }
        let envelope = Envelope {
            dialect: case.route.dialect,
            headers: setting.headers,
            accepts_gzip: case.request.header("accept-encoding").is_some_and(|accepted| accepted.contains("gzip")),
            fault,
        };
        let reply = match work {
            Work::Answer(both) => self.answered(case, *both, &envelope),
            Work::Ready(ready) => sent(*ready, &envelope),
        };
        match fault {
            Some(Fault { info, argument }) if info.effect == Effect::Instead(Instead::Slow) => {
                reply.delayed(Duration::from_secs(argument.unwrap_or(3)))
            }
            _ => reply,
        }
    }

    fn answered(&self, case: &Case, (ask, mut answer): (Ask, Answer), envelope: &Envelope) -> Reply {
        let fault = envelope.fault;
        let effect = fault.map(|fault| fault.info.effect);
        if effect == Some(Effect::Events(Events::Huge)) {
            let megabytes = fault.and_then(|fault| fault.argument).unwrap_or(5).min(256);
            answer.text = "H".repeat(megabytes as usize * 1024 * 1024);
            answer.piece = answer.text.len();
        }
        if ask.dialect == Dialect::Responses && ask.body.get("store") != Some(&Value::Bool(false)) {
            let (id, output) = write::openai_responses::stored(&ask, &answer);
            self.memory.store(case.key, &id, ask.items.iter().cloned().chain(output).collect());
        }
        if ask.stream && effect != Some(Effect::Wire(Wire::JsonForStream)) {
            let array = case.route.call == Call::Generate { stream: true, sse: false };
            let style = if array { Style::Array } else { Style::Sse };
            return envelope.stream(&write::events(&ask, &answer, fault), style, answer.pace);
        }
        let text = write::whole(&ask, &answer, fault);
        let raw = effect == Some(Effect::Wire(Wire::RawSeparators));
        let text = if raw { text } else { json::hardened(text, ask.dialect == Dialect::Gemini) };
        let gemini = ask.dialect == Dialect::Gemini;
        let content_type = if gemini { "application/json; charset=utf-8" } else { "application/json" };
        let reply = envelope.whole(Body { content_type, data: text.into_bytes(), chunked: false });
        // A slow answer is slow as a whole, too.
        if answer.pace.is_zero() { reply } else { reply.delayed(answer.pace * 60) }
    }

    fn note(&self, case: &Case, work: &Work, fault: Option<Fault>) {
        let silent = fault.is_some_and(|fault| {
            matches!(fault.info.effect, Effect::Instead(instead) if instead != Instead::Slow)
                || fault.info.effect == Effect::Events(Events::NoUsage)
        });
        case.ticket.note(|entry| {
            entry.fault = fault.map(|fault| fault.info.name);
            let usage = match work {
                Work::Answer(both) => {
                    let (ask, answer) = both.as_ref();
                    entry.model = Some(ask.model.clone());
                    entry.stream = ask.stream;
                    entry.last_user = answer.prompt.chars().take(500).collect();
                    entry.answer = answer.text.chars().take(300).collect();
                    entry.calls = answer.calls.iter().map(|call| call.name.clone()).collect();
                    entry.warnings.extend(ask.warnings.iter().cloned());
                    answer.usage
                }
                Work::Ready(ready) => {
                    entry.model = Some(ready.model.clone());
                    entry.stream = ready.events.is_some();
                    entry.last_user = ready.prompt.chars().take(500).collect();
                    entry.answer = ready.text.chars().take(300).collect();
                    ready.usage
                }
            };
            entry.usage = (!silent).then_some(usage.into());
        });
    }
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        let Tokens { input, cached, cache_write, output, reasoning } = tokens;
        Usage { input, cached, cache_write, output, reasoning }
    }
}

/// Reads and answers the other calls with a JSON body; none for a conversation.
fn other(route: &Route, body: &Value) -> Checked<Option<Ready>> {
    let model = route.model.as_deref();
    let ready = match &route.call {
        Call::Embed { batch } => embeddings::gemini(body, model.unwrap_or_default(), *batch),
        Call::Embeddings => embeddings::openai(body, model),
        Call::Completions => completions::read(body, model),
        Call::Moderations => ranking::moderations(body),
        Call::Rerank => ranking::rerank(body),
        Call::Images { .. } => media::generate(body),
        Call::Speech => media::speech(body),
        _ => return Ok(None),
    };
    ready.map(Some)
}

/// The reply of a fault that puts something in the place of the answer.
fn instead(setting: &Setting, fault: Fault) -> Option<Reply> {
    match fault.info.effect {
        Effect::Instead(instead) => setting.fault(instead, fault.argument),
        Effect::Events(_) | Effect::Wire(_) => None,
    }
}

/// A call that is not a conversation, whole or streamed.
fn sent(ready: Ready, envelope: &Envelope) -> Reply {
    let Some(mut events) = ready.events else { return envelope.whole(ready.body) };
    write::disturb(&mut events, envelope.fault, |_| vec![write::error_event(envelope.dialect)]);
    envelope.stream(&events, Style::Sse, Duration::ZERO)
}

/// The replies that only count, or compact.
fn counted(call: &Call, ask: &Ask, answer: &Answer) -> Ready {
    let input = answer.usage.input;
    let text = match call {
        Call::CountTokens => format!(r#"{{"input_tokens":{input}}}"#),
        Call::GeminiCount => {
            format!(r#"{{"totalTokens":{input},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{input}}}]}}"#)
        }
        Call::Compact => write::openai_responses::compacted(ask, answer),
        _ => format!(r#"{{"object":"response.input_tokens","input_tokens":{input}}}"#),
    };
    Ready::json(&ask.model, answer.prompt.clone(), input, text)
}

/// The top-level `model` of a JSON body.
fn model_of(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        model: Option<String>,
    }
    serde_json::from_slice::<Named>(body).ok()?.model
}

/// The headers that the provider sends with every reply.
fn standard_headers(dialect: Dialect, request_id: &str) -> Vec<(&'static str, String)> {
    match dialect {
        Dialect::Anthropic => vec![
            ("request-id", request_id.to_owned()),
            ("anthropic-organization-id", "org-mock".into()),
            ("anthropic-ratelimit-requests-limit", "1000".into()),
            ("anthropic-ratelimit-requests-remaining", "999".into()),
            ("anthropic-ratelimit-requests-reset", "2030-01-01T00:00:00Z".into()),
        ],
        Dialect::Gemini => {
            vec![("server-timing", "gfet4t7; dur=12".into()), ("x-gemini-service-tier", "standard".into())]
        }
        Dialect::Chat | Dialect::Responses => vec![
            ("x-request-id", request_id.to_owned()),
            ("openai-processing-ms", "12".into()),
            ("openai-version", "2020-10-01".into()),
            ("x-ratelimit-limit-requests", "10000".into()),
            ("x-ratelimit-remaining-requests", "9999".into()),
            ("x-ratelimit-reset-requests", "6ms".into()),
        ],
    }
}

/// How an exchange ends when all its steps were carried out.
pub(super) fn outcome(reply: &Reply) -> Outcome {
    match reply.steps.last() {
        Some(Step::Reset | Step::Close) => Outcome::Broken,
        _ => Outcome::Completed,
    }
}

/// An empty request under which a broken one is logged.
pub(super) fn blank(connection: u64, protocol: super::request::Protocol) -> Request {
    Request {
        connection,
        protocol,
        method: String::new(),
        path: String::new(),
        query: Vec::new(),
        headers: Vec::new(),
        body: Bytes::new(),
    }
}
