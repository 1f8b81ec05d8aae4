//! The translate lane: a request or a reply of one wire format as the same in another.
//!
//! Pure bytes to bytes. Every pair is a decoder and an encoder that meet in the common form; no pair has code of its own.
//! Invariant: what does not get through is in the losses, or the request is refused; a reply never gets a finish that the
//! upstream did not tell.

mod choices;
mod document;
mod guard;
mod reply;

pub(crate) use document::Document;
pub use reply::ReplyTranslator;

use super::{
    Endpoint, WireFormat,
    collect::Collected,
    counting, embeddings, errors,
    loss::{Losses, Refusal},
    naming::in_terms_of,
    reply::{ErrorKind, ReplyDecoder, ReplyEncoder, ReplyError},
    request::Request,
    rules::Names,
};
use std::{sync::Arc, time::Duration};

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
    /// An estimate of the input tokens, for replies that must tell them where the provider does not.
    pub input_tokens: Option<u64>,
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
    /// How many answers were asked for; 0 counts as 1.
    pub(crate) choices: u64,
    /// What the reply is, where it is no turn of a conversation.
    pub(crate) document: Option<Document>,
    /// Request fields that a Responses reply repeats, as JSON.
    pub(crate) echo: Vec<(String, String)>,
}

impl Context {
    /// What is assumed of a client whose request is not known: that it can be shown everything.
    pub fn for_unknown_client() -> Context {
        Context { stream_usage: true, ..Context::default() }
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
    /// The size of the client's body, which the provider's will be near to.
    pub(crate) body_bytes: usize,
}

impl Job {
    /// Memory for the provider's body, so that it need not grow.
    pub(crate) fn output(&self) -> Vec<u8> {
        Vec::with_capacity(self.body_bytes + self.body_bytes / 8 + 1024)
    }

    /// Whether ids of uploaded files mean the same to both OpenAI formats.
    pub(crate) fn origin_is_openai(&self) -> bool {
        matches!(self.origin, Some(WireFormat::OpenaiChat | WireFormat::OpenaiResponses))
    }
}

fn translation(format: WireFormat) -> Option<&'static dyn Translate> {
    TRANSLATIONS.iter().copied().find(|t| t.id() == format)
}

/// Whether an OpenAI model takes the output limit only under its newer name, `max_completion_tokens`.
pub fn wants_new_limit(model: &str) -> bool {
    super::models::is_openai_reasoning(model)
}

/// How a call reaches an account: in the client's own format where the account speaks it, else in the first of the
/// account's formats, which stand in the order of what carries most. Only a format in which there is such a call and the
/// account `offers` it.
pub fn choose_lane(call: &Endpoint, spoken: &[WireFormat], offers: impl Fn(&Endpoint) -> bool) -> Option<WireFormat> {
    let own = spoken.iter().filter(|format| **format == call.format());
    let can = |format: &&WireFormat| call.in_format(**format, false).is_some_and(|there| offers(&there));
    own.chain(spoken).find(can).copied()
}

/// Translates the body of a call: a request for the next turn, a count of one, or texts to embed.
///
/// # Errors
/// A refusal names the field that cannot be carried, or what is wrong with the body.
pub fn translate_call(
    asked: &Endpoint,
    there: &Endpoint,
    body: &[u8],
    options: &Options<'_>,
) -> Result<Translated, Refusal> {
    if asked.generates() {
        translate_request(asked.format(), there.format(), body, options)
    } else if asked.is_counting() {
        counting::translate(asked, there, body, options)
    } else {
        embeddings::translate(asked, there, body, options)
    }
}

/// Translates a request for the next turn.
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
    let mut job = Job { origin: Some(from), body_bytes: body.len(), ..Job::default() };
    let mut request = source.decode_request(body, &mut job)?;
    request.check_media()?;
    request.stream = options.stream.unwrap_or(request.stream);
    let model = if options.model.is_empty() { request.model.to_string() } else { options.model.to_owned() };
    job.context.asked_model = request.model.to_string();
    job.context.model = model.clone();
    job.context.request_id = options.request_id.to_owned();
    job.context.now = options.now;
    job.context.stream = request.stream;
    job.context.stream_usage = request.stream_usage;
    job.context.choices = request.sampling.n.unwrap_or(1);
    if job.context.choices > choices::MOST {
        return Err(Refusal::new("n", format!("at most {} answers can be asked for at once", choices::MOST)));
    }
    job.context.has_free_text = request.tools.iter().any(|tool| tool.custom);
    if from != WireFormat::Anthropic || to != WireFormat::Anthropic {
        request.normalise();
    }
    if request.is_prefilled() && from == WireFormat::Anthropic && to != WireFormat::Anthropic {
        let message = "the last message is the assistant's, and this model cannot continue it: end with a user message";
        return Err(Refusal::new("messages", message).renamed(|field| in_terms_of(from, field), to));
    }
    let options = Options { model: &model, ..options.clone() };
    let name = |field: &str| in_terms_of(from, field);
    let body = target.encode_request(request, &options, &mut job).map_err(|refusal| refusal.renamed(name, to))?;
    job.losses.rename(name);
    if options.strict && !job.losses.is_empty() {
        return Err(Refusal::strict(&job.losses));
    }
    Ok(Translated { body, losses: job.losses, context: job.context })
}

/// What the reply side can know of a request that goes on in its own format; nothing where the body cannot be read.
pub fn context_of(format: WireFormat, body: &[u8], options: &Options<'_>) -> Context {
    let mut job = Job { origin: Some(format), ..Job::default() };
    let request = translation(format).and_then(|t| t.decode_request(body, &mut job).ok()).unwrap_or_default();
    Context {
        model: request.model.to_string(),
        asked_model: request.model.to_string(),
        request_id: options.request_id.to_owned(),
        now: options.now,
        stream_usage: request.stream_usage,
        choices: request.sampling.n.unwrap_or(1),
        has_free_text: request.tools.iter().any(|tool| tool.custom),
        // Whatever the provider shows of itself, its own client may see.
        thinking_shown: None,
        ..job.context
    }
}

/// Reads a request into the common form, for those who only want to know what is in it.
pub(crate) fn read_request(format: WireFormat, body: &[u8]) -> Result<Request<'_>, Refusal> {
    let source = translation(format).ok_or_else(|| Refusal::new("format", "this format is not translated"))?;
    source.decode_request(body, &mut Job { origin: Some(format), ..Job::default() })
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

/// The status and the body of an error reply in this format.
pub(crate) fn render_error(to: WireFormat, error: &ReplyError, request_id: &str) -> (u16, Vec<u8>) {
    translation(to).map_or((500, Vec::new()), |t| t.error_reply(error, request_id))
}
