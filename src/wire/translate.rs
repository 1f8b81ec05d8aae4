//! The translate lane: a request or a reply of one wire format as the same in another.
//!
//! Pure bytes to bytes. Every pair is a decoder and an encoder that meet in the common form; no pair has code of its own.
//! Invariant: what does not get through is in the losses, or the request is refused; a reply never gets a finish that the
//! upstream did not tell.

use super::{
    WireFormat,
    collect::Collected,
    compose::put_escaped,
    errors,
    fields::{Members, text_of},
    frames::{ArrayReader, EventTooLarge, SseReader},
    grammar::Grammar,
    loss::{Losses, Refusal},
    reply::{BlockStart, Delta, ErrorKind, Event, Finish, FinishReason, ReplyDecoder, ReplyEncoder, ReplyError, Sink},
    request::Request,
    rules::Names,
    tap::Shape,
    usage::Usage,
};
use std::{borrow::Cow, sync::Arc, time::Duration};

/// What the gateway decides about a translation.
#[derive(Clone, Debug, Default)]
pub struct Options<'o> {
    /// The model that the provider is to serve.
    pub model: &'o str,
    /// Whether the client asked for a stream, where its body does not say (Gemini has it in the path).
    pub stream: Option<bool>,
    /// Refuse instead of losing anything.
    pub strict: bool,
    /// The output limit to name where the client names none and the provider wants one.
    pub max_tokens: Option<u64>,
    /// The provider only imitates its format: older and simpler field names are used.
    pub compatible: bool,
    /// Names the reply where the provider gives it no id.
    pub request_id: &'o str,
    /// The time in seconds since 1970, for formats whose replies tell it.
    pub now: u64,
}

/// What the reply side needs of the request.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The model that was asked of the provider.
    pub model: String,
    /// The model that the client named; empty where its body names none.
    pub asked_model: String,
    /// Names the reply where the provider gives it no id.
    pub request_id: String,
    /// The time in seconds since 1970.
    pub now: u64,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Whether a chat client wants usage at the stream's end.
    pub(crate) stream_usage: bool,
    pub(crate) names: Names,
    /// The tool that stands in for structured output, its input being the answer.
    pub(crate) output_tool: Option<String>,
    /// Free-text tools that the provider is given as functions with one string.
    pub(crate) custom_tools: Vec<String>,
    /// Whether the client itself sent free-text tools.
    pub(crate) has_free_text: bool,
    /// Nested tools of a Responses client: the flat name, the namespace and the name in it.
    pub(crate) namespaces: Vec<(String, String, String)>,
    /// Whether the client asked to see the model think; `None` when nothing is known of the request.
    pub(crate) thinking_shown: Option<bool>,
    /// Request fields that a Responses reply repeats, as JSON.
    pub(crate) echo: Vec<(String, String)>,
}

impl Context {
    /// What is assumed of a client of this format when its request is not known: that it can be shown everything.
    pub fn for_client(_to: WireFormat) -> Context {
        Context { stream_usage: true, has_free_text: false, ..Context::default() }
    }
}

/// A translated request.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The body for the provider.
    pub body: Vec<u8>,
    /// What did not get through as it was.
    pub losses: Losses,
    /// For the reply side.
    pub context: Context,
}

/// What a wire format brings to the translate lane.
pub(crate) trait Translate: Sync {
    /// Which format this is.
    fn id(&self) -> WireFormat;
    /// Reads a request; what even the common form cannot hold is opaque.
    fn decode_request<'a>(&self, body: &'a [u8], job: &mut Job) -> Result<Request<'a>, Refusal>;
    /// Writes a request.
    fn encode_request(&self, request: Request<'_>, options: &Options<'_>, job: &mut Job) -> Result<Vec<u8>, Refusal>;
    /// Whether this client can be given calls of free-text tools.
    fn knows_free_text(&self, context: &Context) -> bool;
    /// Reads replies.
    fn reply_decoder(&self, context: &Arc<Context>) -> Box<dyn ReplyDecoder>;
    /// Writes streamed replies; `array` asks for Gemini's JSON array.
    fn stream_encoder(&self, context: &Arc<Context>, array: bool) -> Box<dyn ReplyEncoder>;
    /// Writes a whole reply.
    fn whole_reply(&self, reply: &Collected, context: &Context) -> Vec<u8>;
    /// The status and the body of an error reply.
    fn error_reply(&self, error: &ReplyError, request_id: &str) -> (u16, Vec<u8>);
}

/// The formats of the translate lane, one row each.
static TRANSLATIONS: [&dyn Translate; 4] = [
    &super::openai_chat::OpenaiChat,
    &super::openai_responses::OpenaiResponses,
    &super::anthropic::Anthropic,
    &super::gemini::Gemini,
];

/// What is gathered while a request is translated.
#[derive(Debug, Default)]
pub(crate) struct Job {
    /// The client's format.
    pub(crate) origin: Option<WireFormat>,
    pub(crate) losses: Losses,
    pub(crate) context: Context,
}

impl Job {
    /// Whether ids of uploaded files mean the same to both OpenAI formats.
    pub(crate) fn origin_is_openai(&self) -> bool {
        matches!(self.origin, Some(WireFormat::OpenaiChat | WireFormat::OpenaiResponses))
    }
}

fn translation(format: WireFormat) -> Option<&'static dyn Translate> {
    TRANSLATIONS.iter().copied().find(|t| t.id() == format)
}

/// How a request reaches an account: the client's own format where the account speaks it, else the first of the
/// account's formats, which stand in the order of what carries most.
pub fn choose_lane(client: WireFormat, spoken: &[WireFormat]) -> Option<WireFormat> {
    if spoken.contains(&client) { Some(client) } else { spoken.first().copied() }
}

/// Translates a request body.
///
/// # Errors
/// A refusal names the field that cannot be carried, or what is wrong with the body.
pub fn translate_request(
    from: WireFormat,
    to: WireFormat,
    body: &[u8],
    options: &Options<'_>,
) -> Result<Translated, Refusal> {
    let (Some(source), Some(target)) = (translation(from), translation(to)) else {
        return Err(Refusal::new("format", "this format is not translated"));
    };
    let mut job = Job { origin: Some(from), ..Job::default() };
    let mut request = source.decode_request(body, &mut job)?;
    request.stream = options.stream.unwrap_or(request.stream);
    let model = if options.model.is_empty() { request.model.to_string() } else { options.model.to_owned() };
    job.context.asked_model = request.model.to_string();
    job.context.model = model.clone();
    job.context.request_id = options.request_id.to_owned();
    job.context.now = options.now;
    job.context.stream = request.stream;
    job.context.stream_usage = request.stream_usage;
    job.context.has_free_text = request.tools.iter().any(|tool| tool.custom);
    if from != WireFormat::Anthropic || to != WireFormat::Anthropic {
        request.normalise();
    }
    if request.is_prefilled() && from == WireFormat::Anthropic && to != WireFormat::Anthropic {
        let message = "the last message is the assistant's, and this model cannot continue it: end with a user message";
        return Err(Refusal::new("messages", message));
    }
    let options = Options { model: &model, ..options.clone() };
    let body = target.encode_request(request, &options, &mut job)?;
    if options.strict && !job.losses.is_empty() {
        return Err(Refusal::strict(&job.losses));
    }
    Ok(Translated { body, losses: job.losses, context: job.context })
}

/// An upstream's error as the client's format says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranslatedError {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// When to come back, where the upstream said so in its body.
    pub retry_after: Option<Duration>,
    /// What kind of failure it is.
    pub kind: ErrorKind,
}

/// Translates an upstream's error reply. Any body will do: what is not JSON is taken as the message.
pub fn translate_error(to: WireFormat, status: u16, body: &[u8], request_id: &str) -> TranslatedError {
    let error = errors::read(status, body);
    let (status, body) = render_error(to, &error, request_id);
    TranslatedError { status, body, retry_after: error.retry_after, kind: error.kind }
}

fn render_error(to: WireFormat, error: &ReplyError, request_id: &str) -> (u16, Vec<u8>) {
    translation(to).map_or((500, Vec::new()), |t| t.error_reply(error, request_id))
}

/// Translates one reply, streamed or whole on either side.
pub struct ReplyTranslator {
    input: Input,
    decoder: Box<dyn ReplyDecoder>,
    guard: Guard,
}

impl std::fmt::Debug for ReplyTranslator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyTranslator").field("losses", &self.guard.losses).finish_non_exhaustive()
    }
}

enum Input {
    Whole(Vec<u8>),
    Sse(SseReader),
    Array(ArrayReader),
}

/// The most bytes of a whole reply.
const MAX_WHOLE_BYTES: usize = 128 << 20;

impl ReplyTranslator {
    /// A translator for the reply of one request. `shape_in` is how the upstream answers, `shape_out` what the client
    /// waits for; `Opaque` is not translated and counts as `Json`.
    pub fn new(from: WireFormat, to: WireFormat, shapes: (Shape, Shape), context: Context) -> Option<Self> {
        let (source, target) = (translation(from)?, translation(to)?);
        let context = Arc::new(context);
        let input = match shapes.0 {
            Shape::Json | Shape::Opaque => Input::Whole(Vec::new()),
            Shape::Sse => Input::Sse(SseReader::default()),
            Shape::JsonArray => Input::Array(ArrayReader::default()),
        };
        let outlet = match shapes.1 {
            Shape::Json | Shape::Opaque => Outlet::Whole(Box::default()),
            Shape::Sse => Outlet::Stream(target.stream_encoder(&context, false)),
            Shape::JsonArray => Outlet::Stream(target.stream_encoder(&context, true)),
        };
        let guard = Guard {
            grammar: Grammar::new(),
            outlet,
            target,
            context: Arc::clone(&context),
            out: Vec::new(),
            losses: Losses::default(),
            usage: Usage::default(),
            error: None,
            ended: false,
            stand_in: StandIn::Nothing,
            answered: false,
            called: false,
        };
        Some(ReplyTranslator { input, decoder: source.reply_decoder(&context), guard })
    }

    /// Takes the next bytes of the upstream and returns what the client is to get for them.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (decoder, guard) = (&mut self.decoder, &mut self.guard);
        if guard.ended {
            return Vec::new();
        }
        let mut each = |name: &[u8], data: &[u8]| decoder.event(name, data, guard);
        let result = match &mut self.input {
            Input::Whole(body) => {
                body.extend_from_slice(bytes);
                if body.len() > MAX_WHOLE_BYTES { Err(EventTooLarge) } else { Ok(()) }
            }
            Input::Sse(reader) => reader.feed(bytes, &mut each),
            Input::Array(reader) => reader.feed(bytes, &mut each),
        };
        if let Err(EventTooLarge) = result {
            self.guard.too_large();
        }
        std::mem::take(&mut self.guard.out)
    }

    /// The upstream ended: returns the rest. A reply without its end gets the client format's error.
    pub fn finish(&mut self) -> Vec<u8> {
        let (decoder, guard) = (&mut self.decoder, &mut self.guard);
        let mut each = |name: &[u8], data: &[u8]| decoder.event(name, data, guard);
        match &mut self.input {
            Input::Whole(body) => {
                let body = std::mem::take(body);
                decoder.whole(&body, guard);
            }
            Input::Sse(reader) => {
                reader.finish(&mut each);
                decoder.finish(guard);
            }
            Input::Array(reader) => {
                if !reader.is_open() {
                    decoder.finish(guard);
                }
            }
        }
        self.guard.close();
        std::mem::take(&mut self.guard.out)
    }

    /// The upstream broke off: returns the client format's error for it, unless the reply had already ended.
    pub fn fail(&mut self, error: ReplyError) -> Vec<u8> {
        self.guard.event(Event::Error(error));
        std::mem::take(&mut self.guard.out)
    }

    /// What of the reply did not get through.
    pub fn losses(&self) -> &Losses {
        &self.guard.losses
    }

    /// The counts that the upstream reported so far.
    pub fn usage(&self) -> &Usage {
        &self.guard.usage
    }

    /// The error with which the reply ended.
    pub fn error(&self) -> Option<&ReplyError> {
        self.guard.error.as_ref()
    }

    /// The HTTP status for a whole reply that ended with an error.
    pub fn error_status(&self) -> Option<u16> {
        let error = self.guard.error.as_ref()?;
        Some(self.guard.target.error_reply(error, &self.guard.context.request_id).0)
    }

    /// Whether the reply has come to its end, so that nothing more will come out.
    pub fn is_ended(&self) -> bool {
        self.guard.ended
    }
}

/// Where a reply goes.
enum Outlet {
    Stream(Box<dyn ReplyEncoder>),
    Whole(Box<Collected>),
}

/// Holds a reply to the grammar on its way out.
struct Guard {
    grammar: Grammar,
    outlet: Outlet,
    target: &'static dyn Translate,
    context: Arc<Context>,
    out: Vec<u8>,
    losses: Losses,
    usage: Usage,
    error: Option<ReplyError>,
    ended: bool,
    stand_in: StandIn,
    /// Whether a structured answer came by way of a tool, and whether a real call came.
    answered: bool,
    called: bool,
}

impl Guard {
    fn close(&mut self) {
        let mut exit = Exit {
            outlet: &mut self.outlet,
            target: self.target,
            context: &self.context,
            out: &mut self.out,
            losses: &mut self.losses,
            usage: &mut self.usage,
            error: &mut self.error,
            ended: &mut self.ended,
        };
        self.grammar.close(&mut exit);
    }

    fn too_large(&mut self) {
        self.event(Event::Error(ReplyError::new(ErrorKind::Server, "the provider's reply is too large")));
    }
}

/// What stands in for something else in the block that is open.
#[derive(Debug, Default)]
enum StandIn {
    #[default]
    Nothing,
    /// The structured answer, given as the input of a tool.
    Answer,
    /// A free-text call, given as an object with one string; held back until it is whole.
    FreeText(String),
    /// The other way round: a free-text call that the client is given as an object with one string.
    Wrapped,
}

impl Sink for Guard {
    /// Undoes what the request side had to do: changed names, tools that stand in for something else.
    fn event(&mut self, event: Event<'_>) {
        match (event, &mut self.stand_in) {
            (Event::BlockStart(BlockStart::ToolCall { id, name, custom }), _) => self.start_call(&id, &name, custom),
            (Event::BlockStop, StandIn::FreeText(arguments)) => {
                let arguments = std::mem::take(arguments);
                self.stand_in = StandIn::Nothing;
                let text = free_text(&arguments);
                self.admit(Event::Delta(Delta::Arguments(text)));
                self.admit(Event::BlockStop);
            }
            (Event::BlockStop, StandIn::Answer) => {
                self.stand_in = StandIn::Nothing;
                self.admit(Event::BlockStop);
            }
            (Event::BlockStop, StandIn::Wrapped) => {
                self.stand_in = StandIn::Nothing;
                self.admit(Event::Delta(Delta::Arguments(Cow::Borrowed("\"}"))));
                self.admit(Event::BlockStop);
            }
            (Event::Delta(Delta::Arguments(text)), StandIn::Wrapped) => {
                let mut escaped = Vec::new();
                put_escaped(&mut escaped, &text);
                let escaped = String::from_utf8(escaped).unwrap_or_default();
                self.admit(Event::Delta(Delta::Arguments(Cow::Owned(escaped))));
            }
            (Event::Delta(Delta::Arguments(text)), StandIn::Answer) => self.admit(Event::Delta(Delta::Text(text))),
            (Event::Delta(Delta::Arguments(text)), StandIn::FreeText(held)) => held.push_str(&text),
            (Event::Finish(finish), _) if self.answered && finish.reason == FinishReason::ToolCalls => {
                let reason = if self.called { FinishReason::ToolCalls } else { FinishReason::Stop };
                self.admit(Event::Finish(Finish { reason, detail: None }));
            }
            (event, _) => self.admit(event),
        }
    }
}

/// The string of a stand-in call's arguments.
fn free_text(arguments: &str) -> Cow<'_, str> {
    let members = serde_json::from_str::<Members<'_>>(arguments).unwrap_or_default();
    match members.find("input") {
        Some(input) => Cow::Owned(text_of(input).into_owned()),
        None => Cow::Borrowed(arguments),
    }
}

impl Guard {
    fn start_call(&mut self, id: &str, name: &str, custom: bool) {
        let context = Arc::clone(&self.context);
        if context.output_tool.as_deref() == Some(name) {
            self.stand_in = StandIn::Answer;
            self.answered = true;
            return self.admit(Event::BlockStart(BlockStart::Text));
        }
        self.called = true;
        let stands_in = context.custom_tools.iter().any(|tool| tool == name);
        if stands_in {
            self.stand_in = StandIn::FreeText(String::new());
        }
        let name = Cow::Borrowed(context.names.restore(name));
        let custom = custom || stands_in;
        let wrapped = custom && !stands_in && !self.target.knows_free_text(&context);
        let start = BlockStart::ToolCall { id: Cow::Borrowed(id), name, custom: custom && !wrapped };
        self.admit(Event::BlockStart(start));
        if wrapped {
            self.stand_in = StandIn::Wrapped;
            self.admit(Event::Delta(Delta::Arguments(Cow::Borrowed("{\"input\":\""))));
        }
    }

    fn admit(&mut self, event: Event<'_>) {
        let mut exit = Exit {
            outlet: &mut self.outlet,
            target: self.target,
            context: &self.context,
            out: &mut self.out,
            losses: &mut self.losses,
            usage: &mut self.usage,
            error: &mut self.error,
            ended: &mut self.ended,
        };
        self.grammar.admit(event, &mut exit);
    }
}

/// Takes what the grammar let through.
struct Exit<'g> {
    outlet: &'g mut Outlet,
    target: &'static dyn Translate,
    context: &'g Arc<Context>,
    out: &'g mut Vec<u8>,
    losses: &'g mut Losses,
    usage: &'g mut Usage,
    error: &'g mut Option<ReplyError>,
    ended: &'g mut bool,
}

impl Sink for Exit<'_> {
    fn event(&mut self, event: Event<'_>) {
        let ends = matches!(event, Event::End | Event::Error(_));
        match &event {
            Event::Lost(field) => return self.losses.dropped(field.clone()),
            Event::Usage(usage) => self.usage.update(usage),
            Event::Error(error) => *self.error = Some(error.clone()),
            Event::Finish(finish) => match finish.reason {
                FinishReason::Unknown | FinishReason::BrokenCall | FinishReason::Pause | FinishReason::Failed => {
                    self.losses.approximated("finish_reason");
                }
                FinishReason::Stop
                | FinishReason::StopSequence
                | FinishReason::Length
                | FinishReason::ContextFull
                | FinishReason::ToolCalls
                | FinishReason::Refusal => {}
            },
            Event::Start { .. } | Event::BlockStart(_) | Event::Delta(_) | Event::BlockStop | Event::End => {}
        }
        *self.ended |= ends;
        match self.outlet {
            Outlet::Stream(encoder) => encoder.event(event, self.out),
            Outlet::Whole(reply) => {
                let fits = reply.take(event);
                if ends || !fits {
                    *self.ended = true;
                    self.render_whole(fits);
                }
            }
        }
    }
}

impl Exit<'_> {
    fn render_whole(&mut self, fits: bool) {
        let Outlet::Whole(reply) = &*self.outlet else { return };
        let too_large = ReplyError::new(ErrorKind::Server, "the provider's reply is too large");
        let error = if fits { reply.error.as_ref() } else { Some(&too_large) };
        let body = match error {
            Some(error) => self.target.error_reply(error, &self.context.request_id).1,
            None => self.target.whole_reply(reply, self.context),
        };
        self.out.extend_from_slice(&body);
        if !fits {
            *self.error = Some(too_large);
        }
    }
}
