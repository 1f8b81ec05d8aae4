//! Every fault that the mock providers know, as a client of each format sees it: alone, and with a spare account.
//!
//! One row a fault. Bytes are compared with what the same mock sends to somebody who asks it directly.

use crate::{
    client::{self, Ask, Reply},
    formats::{
        Format::{self, Anthropic, Chat, Gemini, Responses},
        Mode::{self, Array, Stream, Whole},
        WAYS, said,
    },
    gateway::{Gateway, account},
};
use std::{collections::HashMap, fmt::Write as _, io::Read as _, sync::Arc, time::Duration};
use sub2api::{
    error::Reason::{self, LimitReached, Unavailable, UpstreamFailed, UpstreamSilent},
    mock::{Entry, FAULTS, Mock, MockHandle, Options, Outcome},
};
use tokio::{sync::Semaphore, task::JoinSet};

/// What a client sees where no other account is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// 200 with the provider's bytes.
    Passes,
    /// The same under the content type that the client asked for.
    Relabelled,
    /// 200 with the provider's words in the layout that the client asked for.
    Reshaped,
    /// The provider's own error with its bytes; nobody else is asked.
    AsIs,
    /// The same, but only after everybody else was asked.
    Elsewhere,
    /// An error of the gateway, with the seconds of its `Retry-After`.
    Refused(Reason, Wait),
    /// 200 and every whole event up to the break, then the format's own error.
    BreaksOff,
}

/// Least and most seconds of `Retry-After`; none for no such header.
type Wait = Option<(u64, u64)>;

use Sight::{AsIs, BreaksOff, Elsewhere, Passes, Refused, Relabelled, Reshaped};

/// A fault with what is seen of it in a whole answer and in a stream.
struct Row {
    fault: &'static str,
    whole: Sight,
    stream: Sight,
    /// Where a format differs.
    but: &'static [(Format, Mode, Sight)],
    because: &'static str,
}

const fn row(fault: &'static str, whole: Sight, stream: Sight, because: &'static str) -> Row {
    Row { fault, whole, stream, but: &[], because }
}

/// The same for both.
const fn both(fault: &'static str, sight: Sight, because: &'static str) -> Row {
    row(fault, sight, sight, because)
}

impl Row {
    const fn but(self, but: &'static [(Format, Mode, Sight)]) -> Row {
        Row { but, ..self }
    }

    fn sight(&self, format: Format, mode: Mode) -> Sight {
        let exception = self.but.iter().find(|(f, m, _)| (*f, *m) == (format, mode));
        exception.map_or(if mode == Whole { self.whole } else { self.stream }, |(_, _, sight)| *sight)
    }
}

const SECOND: Wait = Some((1, 1));
const TWO_SECONDS: Wait = Some((1, 2));
const HOUR: Wait = Some((3590, 3600));
const BROKEN: Sight = Refused(UpstreamFailed, None);
const SILENT: Sight = Refused(UpstreamSilent, None);
const LIMITED: Sight = Refused(LimitReached, SECOND);
const OVERLOADED: Sight = Refused(Unavailable, SECOND);
const PENNILESS: Sight = Refused(Unavailable, HOUR);
/// A refused key is looked at once more after ten seconds.
const KEYLESS: Sight = Refused(Unavailable, Some((9, 10)));

#[rustfmt::skip]
static ROWS: &[Row] = &[
    both("400", AsIs, "the request is at fault"),
    both("401", KEYLESS, "the key is refused"),
    both("402", PENNILESS, "money is gone until somebody pays"),
    both("403", Elsewhere, "this account may not, another one may")
        .but(&[(Anthropic, Whole, KEYLESS), (Anthropic, Stream, KEYLESS)]),
    both("404", AsIs, "something in the request is not there"),
    both("408", BROKEN, "the provider lost patience with the gateway, not with the client"),
    both("413", AsIs, "the request is too large everywhere"),
    both("422", AsIs, "the request is at fault"),
    both("429", LIMITED, "the header says when to come back"),
    both("429ms", LIMITED, "milliseconds are rounded up"),
    both("429date", Refused(LimitReached, TWO_SECONDS), "a date is a wait"),
    both("429reset", Refused(LimitReached, TWO_SECONDS), "a window that is used up says when it returns"),
    both("429bare", LIMITED, "without a hint the account rests for the shortest time"),
    both("429quota", PENNILESS, "a quota is no rate"),
    both("429raw", LIMITED, "text is understood by its status"),
    both("credit", PENNILESS, "each provider words it differently"),
    both("badkey", KEYLESS, "each provider words it differently"),
    both("500", BROKEN, "a server fault"),
    both("502", BROKEN, "a proxy's page is not shown"),
    both("503", OVERLOADED, "unavailable for a moment"),
    both("503html", OVERLOADED, "a proxy's page is not shown"),
    both("504", BROKEN, "a server fault"),
    both("529", OVERLOADED, "overloaded"),
    both("ctxlen", AsIs, "the request is too long for this model everywhere"),
    both("empty200", BROKEN, "nothing is no answer"),
    both("html200", BROKEN, "a login page is no answer"),
    both("error200", BROKEN, "an error is no answer, whatever its status")
        .but(&[(Anthropic, Whole, OVERLOADED), (Anthropic, Stream, OVERLOADED), (Gemini, Whole, OVERLOADED),
            (Gemini, Stream, OVERLOADED), (Gemini, Array, OVERLOADED)]),
    both("redirect", BROKEN, "a key follows no redirect"),
    both("resethead", BROKEN, "nothing came"),
    both("close", BROKEN, "nothing came"),
    both("stallhead", SILENT, "nothing comes"),
    both("slow-1", Passes, "slow is not broken"),
    both("nousage", Passes, "an answer needs no usage"),
    both("usageearly", Passes, "many servers do it"),
    row("finishnull", Passes, Passes, "odd, but it ended")
        .but(&[(Gemini, Stream, BreaksOff), (Gemini, Array, BreaksOff)]),
    row("nodone", Passes, BreaksOff, "an end without the end is a break"),
    both("dupdone", Passes, "what follows the end harms nobody"),
    row("miderror", Passes, Passes, "the provider's own error ends the stream"),
    row("lateerror", Passes, BROKEN, "an error before content fails over")
        .but(&[(Anthropic, Stream, OVERLOADED), (Gemini, Stream, OVERLOADED), (Gemini, Array, OVERLOADED)]),
    row("preerror", Passes, BROKEN, "a preamble is no content")
        .but(&[(Anthropic, Stream, OVERLOADED), (Gemini, Stream, OVERLOADED), (Gemini, Array, OVERLOADED)]),
    both("huge-1", Passes, "an event that is too long to hold passes in pieces"),
    both("slowhead-1", Passes, "slow is not broken"),
    row("stall", SILENT, BreaksOff, "silence is a break"),
    row("reset", BROKEN, BreaksOff, "half an answer is none"),
    row("truncated", BROKEN, BreaksOff, "half an answer is none"),
    row("cutevent", Passes, BreaksOff, "half an event is not shown"),
    row("badjson", BROKEN, Passes, "bytes pass as they are, but a whole answer must be one"),
    both("split", Passes, "packets mean nothing"),
    both("bytes", Passes, "packets mean nothing"),
    both("merge", Passes, "packets mean nothing"),
    both("crlf", Passes, "the line ends stay as they are"),
    both("cr", Passes, "the line ends stay as they are"),
    both("lf", Passes, "the line ends stay as they are"),
    both("nospace", Passes, "the space is optional"),
    both("comments", Passes, "comments are no events"),
    both("noevent", Passes, "the data says it as well"),
    both("bom", Passes, "a mark is no content"),
    both("multiline", Passes, "data in several lines is one event"),
    both("gzip", Passes, "the gateway does not ask for it"),
    both("gzipforce", Passes, "it is unpacked, since nobody asked for it"),
    both("http10", Passes, "an answer may end with its connection"),
    row("wrongct", Passes, Relabelled, "events are known by their look"),
    row("jsonforstream", Passes, Reshaped, "the client gets the layout that it asked for"),
    both("rawsep", Passes, "the bytes stay as they are"),
    both("preclose", BROKEN, "nothing was shown yet"),
    both("prereset", BROKEN, "nothing was shown yet"),
    both("prestall", SILENT, "nothing was shown yet"),
];

/// The faults after which another account can answer, for those who ask in this way.
pub(crate) fn that_fail_over(format: Format, mode: Mode) -> Vec<&'static str> {
    let rows = ROWS.iter().filter(|row| matches!(row.sight(format, mode), Refused(..) | Elsewhere));
    rows.map(|row| row.fault).collect()
}

/// Characters of several bytes, separators that break careless readers, and enough text for a dozen events.
const PROMPT: &str =
    "SAY: Zażółć gęślą jaźń 漢字かな交じり文 👩‍👩‍👧 \u{2028} every single word of this has to arrive unharmed";

#[test]
fn every_fault_has_a_row() {
    let name = |row: &Row| row.fault.split('-').next().unwrap_or_default().to_owned();
    let rows: Vec<String> = ROWS.iter().map(name).collect();
    let missing: Vec<_> = FAULTS.iter().map(|fault| fault.name).filter(|f| !rows.iter().any(|row| row == f)).collect();
    assert!(missing.is_empty(), "no row says what a client sees of {missing:?}");
    let unknown: Vec<_> = rows.iter().filter(|row| !FAULTS.iter().any(|fault| fault.name == **row)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(ROWS.iter().all(|row| !row.because.is_empty()) && rows.len() == FAULTS.len());
}

/// The protocols on both sides of the gateway: the client's, then the provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    H1toH1,
    H2toH1,
    H1toH2,
}

/// One request of the table.
#[derive(Clone, Copy)]
struct Case {
    row: &'static Row,
    format: Format,
    mode: Mode,
    version: Version,
}

impl Case {
    /// All over HTTP/1.1. Over HTTP/2 on either side each fault in one format, so that each format sees a quarter.
    fn all() -> Vec<Case> {
        let mut cases = Vec::new();
        for (at, row) in ROWS.iter().enumerate() {
            for (format, mode) in WAYS {
                cases.push(Case { row, format, mode, version: Version::H1toH1 });
                if at % 4 == format as usize {
                    cases.push(Case { row, format, mode, version: Version::H2toH1 });
                }
                if (at + 2) % 4 == format as usize {
                    cases.push(Case { row, format, mode, version: Version::H1toH2 });
                }
            }
        }
        cases
    }

    /// The model that the client asks for, and the account's name; both are this case's alone.
    fn name(&self) -> String {
        format!("{}-{:?}-{:?}-{:?}", self.row.fault, self.format, self.mode, self.version).to_lowercase()
    }

    fn upstream_model(&self) -> String {
        format!("{}-fault-{}", self.format.vendor(), self.row.fault)
    }

    fn ask(&self) -> Ask {
        self.format.ask(self.mode, &self.name(), PROMPT)
    }

    async fn reply(&self, gateway: &Gateway) -> Result<Reply, String> {
        let answered = match self.version {
            Version::H1toH1 | Version::H1toH2 => client::h1(gateway.address, &self.ask()).await,
            Version::H2toH1 => client::h2(gateway.address, &self.ask()).await,
        };
        answered.map_err(|error| format!("no reply: {error}"))
    }
}

/// What the providers themselves send, by model, format and mode.
type Originals = HashMap<(String, Format, Mode), Reply>;

async fn mock() -> MockHandle {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    Mock::start(listener, Options::default()).unwrap()
}

/// Asks the mock directly for what the gateway ought to pass on.
async fn originals(mock: &MockHandle, models: Vec<(String, Format, Mode)>) -> Originals {
    let mut asked = JoinSet::new();
    for (model, format, mode) in models {
        let address = mock.address();
        asked.spawn(async move {
            // Some faults give no reply at all.
            let mut reply = client::h1(address, &format.ask(mode, &model, PROMPT)).await.ok()?;
            if reply.header("content-encoding") == Some("gzip") {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(reply.body.as_slice()).read_to_end(&mut plain).unwrap();
                reply.body = plain;
            }
            Some(((model, format, mode), reply))
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

/// The accounts of these cases: each has one of its own that fails, and with `spare` a second choice that does not.
fn accounts(cases: &[Case], mock: &MockHandle, spare: bool) -> Vec<String> {
    let mut accounts = Vec::new();
    let mut spares: HashMap<&str, String> = HashMap::new();
    for case in cases {
        let (name, format) = (case.name(), case.format);
        let model = case.upstream_model();
        let more = format!("priority: 1, models: [{{ name: {name}, upstream: {model} }}]{}", more(case));
        accounts.push(account(&name, format.provider(), &format.base(&mock.base_url()), &more));
        let names = spares.entry(format.provider()).or_default();
        let _ = write!(names, "{{ name: {name}, upstream: {} }}, ", format.vendor());
    }
    for format in [Chat, Anthropic, Gemini].into_iter().filter(|_| spare) {
        let names = spares.get(format.provider()).cloned().unwrap_or_default();
        let more = format!("priority: 2, models: [{names}]");
        let name = format!("spare-{}", format.provider());
        accounts.push(account(&name, format.provider(), &format.base(&mock.base_url()), &more));
    }
    accounts
}

/// Short waits for those who are silent, and for nobody else, so that a busy machine is not taken for silence.
fn more(case: &Case) -> String {
    let timeouts = match case.row.fault {
        "stallhead" | "prestall" => ", timeouts: { first_byte: 1s }",
        "stall" => ", timeouts: { idle: 600ms }",
        _ => "",
    };
    let http2 = if case.version == Version::H1toH2 { ", http2: always" } else { "" };
    format!("{timeouts}{http2}")
}

/// Runs all cases on one gateway, some at a time, and gives back what was wrong.
async fn run(spare: bool) -> Vec<String> {
    let (mock, cases) = (mock().await, Case::all());
    let gateway = Arc::new(Gateway::start(&accounts(&cases, &mock, spare), "").await);
    let mut models: Vec<_> = cases.iter().map(|case| (case.upstream_model(), case.format, case.mode)).collect();
    models.extend(WAYS.map(|(format, mode)| (format.vendor().to_owned(), format, mode)));
    models.retain(|(model, ..)| !NEVER_END.iter().any(|fault| model.ends_with(&format!("-{fault}"))));
    models.sort_by_key(|(model, format, mode)| (model.clone(), *format as u8, *mode as u8));
    models.dedup();
    let originals = Arc::new(originals(&mock, models).await);
    let places = Arc::new(Semaphore::new(32));
    let mut running = JoinSet::new();
    for case in cases {
        let (gateway, originals, places) = (gateway.clone(), originals.clone(), places.clone());
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            let reply = case.reply(&gateway).await;
            let checked = reply.and_then(|reply| check(&case, &reply, &originals, spare));
            checked.err().map(|wrong| format!("{}: {wrong}", case.name()))
        });
    }
    let mut wrong: Vec<String> = running.join_all().await.into_iter().flatten().collect();
    wrong.extend(unsettled(&gateway, &mock).await);
    wrong
}

/// What is left over when every client has its answer: how often each failing account was asked, and what still goes on.
async fn unsettled(gateway: &Gateway, mock: &MockHandle) -> Vec<String> {
    let mut wrong = gateway.left_over().await;
    let patience = tokio::time::Instant::now() + Duration::from_secs(2);
    let pending = |entry: &&Entry| entry.outcome == Outcome::Pending;
    while mock.log().iter().any(|entry| pending(&entry)) && tokio::time::Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = mock.log();
    wrong.extend(log.iter().filter(pending).map(|entry| format!("{:?} still goes on upstream", entry.key())));
    let mut asked: HashMap<&str, u32> = HashMap::new();
    for entry in &log {
        *asked.entry(entry.key().unwrap_or_default()).or_default() += 1;
    }
    for case in Case::all() {
        let times = asked.get(format!("sk-upstream-{}", case.name()).as_str()).copied().unwrap_or(0);
        // A connection that was kept and then dies says nothing about the request, which is sent again. Over HTTP/2 it may
        // have been kept from a fault that breaks it a little later.
        let is_kept_in_vain = case.version == Version::H1toH2 || matches!(case.row.fault, "close" | "resethead");
        let most = if is_kept_in_vain { 4 } else { 1 };
        if !(1..=most).contains(&times) {
            wrong.push(format!("{} was asked {times} times", case.name()));
        }
    }
    wrong
}

/// Those that would keep a direct client waiting for ever; nothing of what they send is ever shown whole.
const NEVER_END: [&str; 3] = ["stallhead", "prestall", "stall"];

fn check(case: &Case, reply: &Reply, originals: &Originals, spare: bool) -> Result<(), String> {
    let Case { row, format, mode, .. } = *case;
    let original = |model: String| originals.get(&(model, format, mode));
    let sight = row.sight(format, mode);
    let is_saved = matches!(sight, Refused(..) | Elsewhere);
    if spare && is_saved {
        let good = original(format.vendor().to_owned()).ok_or("no original")?;
        return same(reply, good, 200).map_err(|wrong| format!("the spare account did not answer: {wrong}"));
    }
    let original = original(case.upstream_model());
    match sight {
        Passes => same(reply, original.ok_or("no original")?, 200),
        Relabelled => {
            let mut original = original.ok_or("no original")?.clone();
            let label = original.headers.iter_mut().filter(|(name, _)| name == "content-type");
            label.for_each(|(_, value)| *value = if mode == Stream { kind(mode).to_owned() } else { value.clone() });
            same(reply, &original, 200)
        }
        Reshaped => {
            let whole = said(format, Whole, &original.ok_or("no original")?.text());
            let is_right = reply.status == 200
                && reply.complete
                && reply.header("content-type").is_some_and(|label| label.starts_with(kind(mode)));
            match is_right && !whole.is_empty() && said(format, mode, &reply.text()) == whole {
                true => Ok(()),
                false => Err(format!("{} {}: not {whole:?}", reply.status, shown(&reply.body))),
            }
        }
        AsIs | Elsewhere => {
            let original = original.ok_or("no original")?;
            same(reply, original, original.status)
        }
        Refused(reason, wait) => {
            format.check_refusal(reply, reason)?;
            check_wait(reply, wait)?;
            check_secrets(reply, case)
        }
        BreaksOff => breaks_off(case, reply, original),
    }
}

/// The content type of what the client asked for.
fn kind(mode: Mode) -> &'static str {
    if mode == Stream { "text/event-stream" } else { "application/json" }
}

/// The same bytes, but for the number that the mock gives to every request.
fn same(reply: &Reply, original: &Reply, status: u16) -> Result<(), String> {
    let plain = |body: &[u8]| {
        let text = String::from_utf8_lossy(body).into_owned();
        match text.find("req_mock") {
            Some(at) if text.len() >= at + 16 => text[..at + 8].to_owned() + &text[at + 16..],
            Some(_) | None => text,
        }
    };
    if reply.status != status || !reply.complete || reply.header("content-type") != original.header("content-type") {
        let (status, kind, complete) = (reply.status, reply.header("content-type"), reply.complete);
        return Err(format!("{status} {kind:?}, complete: {complete}: {}", shown(&reply.body)));
    }
    if reply.body == original.body || plain(&reply.body) == plain(&original.body) {
        return Ok(());
    }
    let at = reply.body.iter().zip(&original.body).take_while(|(a, b)| a == b).count();
    let (came, sent) = (shown(&reply.body[at..]), shown(&original.body[at..]));
    Err(format!("other bytes from byte {at} on: {came:?}\ninstead of {sent:?}"))
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(1500)]).into_owned()
}

fn check_wait(reply: &Reply, wait: Wait) -> Result<(), String> {
    let told = reply.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    match (wait, told) {
        (None, None) => Ok(()),
        (Some((least, most)), Some(told)) if (least..=most).contains(&told) => Ok(()),
        _ => Err(format!("Retry-After is {:?} and not {wait:?}", reply.header("retry-after"))),
    }
}

/// Neither the account nor its address, key or words are shown.
fn check_secrets(reply: &Reply, case: &Case) -> Result<(), String> {
    let head: String = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let shown = head + &reply.text();
    for secret in [case.name().as_str(), "sk-upstream", "127.0.0.1", "mock", "Mock", "org-", "<html", "cloudflare"] {
        if shown.contains(secret) {
            return Err(format!("`{secret}` was shown: {shown}"));
        }
    }
    Ok(())
}

/// All whole events up to the break, and then the format's own error.
fn breaks_off(case: &Case, reply: &Reply, original: Option<&Reply>) -> Result<(), String> {
    let Case { format, mode, .. } = *case;
    let text = reply.text();
    if reply.status != 200 || !reply.complete {
        return Err(format!("{}, complete: {}: {text}", reply.status, reply.complete));
    }
    let begun = match original {
        Some(original) => {
            let sent = original.text();
            let (events, _cut) = format.events(mode, &sent);
            events.concat()
        }
        None => {
            // Only what the stream begins with is known, and that some of it must have come.
            let (events, _) = format.events(mode, &text);
            let farewell = if matches!(format, Chat | Responses) { 2 } else { 1 };
            let begun = events[..events.len().saturating_sub(farewell)].concat();
            if !begun.contains("Za") {
                return Err(format!("nothing was shown: {text}"));
            }
            begun
        }
    };
    match text.strip_prefix(&begun) {
        Some(tail) if format.is_farewell(mode, tail) => Ok(()),
        Some(tail) => Err(format!("the end is {tail:?}")),
        None => Err(format!("not all that came before the break was shown: {text}\nof {begun}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sees_of_each_fault_where_there_is_nobody_else() {
    let started = tokio::time::Instant::now();
    let wrong = run(false).await;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spare_account_answers_for_every_fault_before_content_and_for_no_other() {
    let wrong = run(true).await;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
