//! What the ledger says was used is what the upstreams say they served: for every pair of formats, whole and streamed, with
//! failovers, faults, answers that break off, and clients that leave.
//!
//! `SUB2API_CONSERVE=10000` sets the number of requests.

use crate::{
    client::{self, Ask, Connection},
    formats::{
        Format::{self, Anthropic, Chat, Gemini, Responses},
        Mode::{self, Whole},
        WAYS,
    },
    gateway::{Gateway, account},
    upstream::{Act, Upstream, chunk, end, stream_head, whole},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use sub2api::{
    account::schedule::mix,
    ledger::{
        Group, LedgerError, Reader,
        entry::Row,
        query::{Filter, Page},
    },
    mock::{Entry, Mock, MockHandle, Options, Outcome},
};
use tokio::{sync::Semaphore, task::JoinSet};

const SEED: u64 = 0x1ed6_e200_2026_1125;
/// The upstreams' formats, each under a model name of its own.
const UPSTREAMS: [(Format, &str, &str); 4] = [
    (Chat, "openai_chat", "gpt-4.1"),
    (Responses, "openai_responses", "gpt-4.1"),
    (Anthropic, "anthropic", "claude-sonnet-4-5"),
    (Gemini, "gemini", "gemini-2.5-flash"),
];
/// What goes wrong with one request in five. `x1` strikes once, so that another account can answer.
const FAULTS: [&str; 16] = [
    "429barex1",
    "500x1",
    "503x1",
    "529x1",
    "closex1",
    "preclosex1",
    "lateerrorx1",
    "errorbody",
    "reset",
    "truncated",
    "cutevent",
    "miderror",
    "nousage",
    "nodone",
    "400",
    "usageearly",
];

fn rows(reader: &Reader) -> Vec<Row> {
    let mut rows = Vec::new();
    let read: Result<(), LedgerError> = reader.rows(&Filter::default(), Page::default(), |row| {
        rows.push(row.clone());
        Ok(())
    });
    read.unwrap();
    rows
}

/// The file, with every row that has been taken in.
fn reader(gateway: &Gateway) -> Reader {
    gateway.live().ledger.as_ref().unwrap().reader().unwrap()
}

/// The rows, once as many as this are there.
async fn wait_for_rows(gateway: &Gateway, count: usize) -> Vec<Row> {
    let reader = reader(gateway);
    for _ in 0..500 {
        let found = rows(&reader);
        if found.len() >= count {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rows(&reader)
}

struct Job {
    format: Format,
    mode: Mode,
    model: String,
    user: &'static str,
    marker: String,
    prompt: String,
    /// Whether a Chat Completions stream is asked for its usage.
    with_usage: bool,
    leaves: bool,
}

impl Job {
    fn new(number: u64) -> Job {
        let draw = |salt: u64, below: usize| usize::try_from(mix(SEED ^ salt, number) % below as u64).unwrap();
        let (format, mode) = WAYS[draw(1, WAYS.len())];
        let (_, name, _) = UPSTREAMS[draw(2, UPSTREAMS.len())];
        let marker = format!("marker-{number}-{:08x}", mix(SEED, number) >> 32);
        let leaves = mode != Whole && draw(3, 25) == 0;
        let fault = (draw(4, 5) == 0 && !leaves).then(|| FAULTS[draw(5, FAULTS.len())]);
        let words = ["CACHED", "CACHE_WRITE", "COUNT_TO 40", "a few words", "CALL_TOOL"][draw(6, 5)];
        let command = if leaves { "SLOW_STREAM" } else { words };
        let fault = fault.map(|fault| format!(" [[fault-{fault}]]")).unwrap_or_default();
        Job {
            format,
            mode,
            model: format!("to-{name}"),
            user: ["ada", "bob"][draw(7, 2)],
            prompt: format!("{command} {marker}{fault}"),
            marker,
            with_usage: draw(8, 2) == 0,
            leaves,
        }
    }

    fn ask(&self) -> Ask {
        let ask = self.format.ask(self.mode, &self.model, &self.prompt);
        let ask = ask.header("authorization", &format!("Bearer sk-{}", self.user)).header("x-request-id", &self.marker);
        if self.format != Chat || self.mode == Whole || !self.with_usage {
            return ask;
        }
        let mut body: Value = serde_json::from_slice(&ask.body).unwrap();
        body["stream_options"] = json!({ "include_usage": true });
        Ask { body: body.to_string().into(), ..ask }
    }

    async fn send(&self, gateway: &Gateway) {
        if !self.leaves {
            let _ = client::h1(gateway.address, &self.ask()).await;
            return;
        }
        let mut connection = Connection::open(gateway.address).await.unwrap();
        connection.send(&self.ask()).await.unwrap();
        let _ = tokio::time::timeout(Duration::from_secs(5), connection.read_some(1_500)).await;
    }

    /// Whether the upstream was not asked to tell its usage, or cannot.
    fn is_untold(&self, upstream_format: &str) -> bool {
        let same = self.format == Chat && upstream_format == "openai_chat";
        same && self.mode != Whole && !self.with_usage
    }
}

fn key_hash(key: &str) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(key.as_bytes());
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn setup(mock: &MockHandle) -> (Vec<String>, String) {
    let accounts = UPSTREAMS.iter().flat_map(|(format, name, model)| {
        (0..3).map(move |n| {
            let more = format!(
                "formats: [{name}], models: [{{ name: to-{name}, upstream: {model} }}], \
                 timeouts: {{ first_byte: 5s, idle: 3s }}"
            );
            (format!("{name}-{n}"), *format, more)
        })
    });
    let accounts = accounts
        .map(|(name, format, more)| account(&name, format.provider(), &format.base(&mock.base_url()), &more))
        .collect();
    let users: String = ["ada", "bob"]
        .map(|user| format!("  - {{ name: {user}, keys: [\"{}\"] }}\n", key_hash(&format!("sk-{user}"))))
        .concat();
    (accounts, format!("cooldown: {{ base: 1ms, max: 5ms, told_max: 5ms, money: 5ms }}\nusers:\n{users}"))
}

/// The counts of an entry of the mock's log, as the ledger keeps them apart. Not every format can tell what was written
/// to a cache; where none does, it is fresh input.
fn counts(entry: &Entry, row: &Row) -> [u64; 4] {
    let usage = entry.usage.unwrap_or_default();
    let written = row.cache_write.map_or(0, |_| usage.cache_write);
    [usage.input - usage.cached - written, usage.cached, written, usage.output]
}

/// The input as one: how much of it came from a cache, Gemini tells at the end only.
fn all_input([input, cache_read, cache_write, _]: [u64; 4]) -> [u64; 4] {
    [input + cache_read + cache_write, 0, 0, 0]
}

fn row_counts(row: &Row) -> [u64; 4] {
    [row.input, row.cache_read, row.cache_write, row.output].map(Option::unwrap_or_default)
}

type Sums = BTreeMap<(String, String, String), [u64; 4]>;

fn add(sums: &mut Sums, key: (&str, &str, &str), counts: [u64; 4]) {
    let place = sums.entry((key.0.to_owned(), key.1.to_owned(), key.2.to_owned())).or_default();
    place.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_ledger_says_was_used_is_what_the_upstreams_say_they_served() {
    let requests: u64 = std::env::var("SUB2API_CONSERVE").ok().and_then(|n| n.parse().ok()).unwrap_or(600);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = Options { max_log_entries: 1 << 20, max_log_bytes: 1 << 30, ..Options::default() };
    let mock = Mock::start(listener, options).unwrap();
    let (accounts, more) = setup(&mock);
    let gateway = Arc::new(Gateway::start(&accounts, &more).await);
    let places = Arc::new(Semaphore::new(16));
    let mut running = JoinSet::new();
    let jobs: Arc<Vec<Job>> = Arc::new((0..requests).map(Job::new).collect());
    for at in 0..jobs.len() {
        let (gateway, places, jobs) = (gateway.clone(), places.clone(), jobs.clone());
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            jobs[at].send(&gateway).await;
        });
    }
    running.join_all().await;
    assert_eq!(gateway.left_over().await, [""; 0], "places or bytes were kept");
    let log = mock.log();
    compare(&jobs, &log, &wait_for_rows(&gateway, log.len()).await);
    let reader = reader(&gateway);
    let total = reader.total(&Filter::default()).unwrap();
    assert_eq!(total.attempts as usize, rows(&reader).len());
    let users = reader.sums(&Filter::default(), &[Group::User], Page::default()).unwrap();
    assert_eq!(users.iter().map(|line| line.sums.cost_nanos).sum::<u64>(), total.cost_nanos);
}

fn compare(jobs: &[Job], log: &[Entry], rows: &[Row]) {
    let mut served: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in log {
        let marker = entry.last_user.split(' ').find(|word| word.starts_with("marker-")).unwrap_or_default();
        served.entry(marker).or_default().push(entry);
    }
    let mut written: HashMap<&str, Vec<&Row>> = HashMap::new();
    rows.iter().for_each(|row| written.entry(row.request.as_str()).or_default().push(row));
    let (mut theirs, mut ours) = (Sums::new(), Sums::new());
    let (mut estimated, mut reported, mut parts) = (0, 0, 0);
    for job in jobs {
        let mut entries = served.remove(job.marker.as_str()).unwrap_or_default();
        let mut rows = written.remove(job.marker.as_str()).unwrap_or_default();
        rows.sort_by_key(|row| row.attempt);
        if entries.len() > rows.len() {
            // A kept connection that died before any byte is opened anew within the same attempt.
            entries.retain(|entry| entry.fault != Some("close"));
        }
        let say =
            |what: &str| format!("{what}: {} {:?} {:?}\n{entries:#?}\n{rows:#?}", job.prompt, job.format, job.mode);
        assert_eq!(entries.len(), rows.len(), "{}", say("attempts"));
        for (entry, row) in entries.iter().zip(&rows) {
            assert_eq!(entry.key(), Some(format!("sk-upstream-{}", row.account).as_str()), "{}", say("the account"));
            assert_eq!(row.user, job.user);
            let was_told = entry.usage.is_some()
                && entry.outcome == Outcome::Completed
                && entry.fault.is_none_or(|fault| fault == "usageearly")
                && !job.is_untold(&row.upstream_format);
            if was_told {
                assert_eq!(row.estimated, [""; 0], "{}", say("no estimate"));
                assert_eq!(row_counts(row), counts(entry, row), "{}", say("the counts"));
            }
            // An attempt that broke off before its content may have told its input, and will never tell the rest.
            let is_part = row.output.is_none() && entry.outcome != Outcome::Completed;
            if row.estimated.is_empty() && row.input.is_some() {
                let (mut told, mut kept) = (counts(entry, row), row_counts(row));
                if is_part {
                    (told, kept) = (all_input(told), all_input(kept));
                    assert_eq!(kept, told, "{}", say("the input of a part"));
                }
                *(if is_part { &mut parts } else { &mut reported }) += 1;
                add(&mut theirs, (&row.user, &row.account, &row.model), told);
                add(&mut ours, (&row.user, &row.account, &row.model), kept);
            }
            estimated += usize::from(!row.estimated.is_empty());
            assert!(row.cost_nanos.is_some(), "{}", say("a price"));
        }
    }
    assert!(written.is_empty() && served.keys().all(|marker| marker.is_empty()), "rows of nobody: {written:?}");
    println!(
        "{} attempts, {reported} with reported counts and {parts} with reported input (difference 0), {estimated} \
         estimated and marked",
        rows.len()
    );
    assert_eq!(ours, theirs);
    assert!(estimated > 0 && reported > jobs.len() / 2);
}

fn anthropic_stream(usage_at_end: &str) -> Vec<String> {
    let event = |name: &str, data: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\",{data}}}\n\n");
    vec![
        event(
            "message_start",
            r#""message":{"id":"m","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"usage":{"input_tokens":25,"cache_read_input_tokens":5,"cache_creation_input_tokens":30,"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"output_tokens":1}}"#,
        ),
        event("content_block_start", r#""index":0,"content_block":{"type":"text","text":""}"#),
        event(
            "content_block_delta",
            r#""index":0,"delta":{"type":"text_delta","text":"Hello there, this is some text."}"#,
        ),
        event("content_block_stop", r#""index":0"#),
        event("message_delta", &format!(r#""delta":{{"stop_reason":"end_turn"}},"usage":{usage_at_end}"#)),
        event("message_stop", r#""x":0"#),
    ]
}

fn message() -> Ask {
    let body = r#"{"model":"claude-x","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    Ask::post("/v1/messages", body).header("anthropic-version", "2023-06-01")
}

#[tokio::test]
async fn cache_writes_of_both_lifetimes_and_cached_tokens_are_counted_once() {
    let events = anthropic_stream(
        r#"{"input_tokens":25,"cache_read_input_tokens":5,"cache_creation_input_tokens":30,"output_tokens":40}"#,
    );
    let acts: Vec<Act> = [stream_head()].into_iter().chain(events.iter().map(chunk)).chain([end()]).collect();
    let upstream = Upstream::always(acts).await;
    let gateway = Gateway::start(&[account("a", "anthropic", &upstream.url(), "")], "").await;
    assert_eq!(client::h1(gateway.address, &message()).await.unwrap().status, 200);
    let row = &wait_for_rows(&gateway, 1).await[0];
    assert_eq!(
        (row.input, row.cache_read, row.cache_write, row.cache_write_1h),
        (Some(25), Some(5), Some(10), Some(20))
    );
    assert_eq!((row.output, row.estimated.len(), row.outcome.as_str()), (Some(40), 0, "served"));
}

#[tokio::test]
async fn a_zero_that_the_provider_tells_is_kept_and_not_estimated() {
    let reply = r#"{"id":"c","object":"chat.completion","model":"gpt-x","choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#;
    let upstream = Upstream::always(whole(200, "application/json", reply)).await;
    let url = format!("{}/v1", upstream.url());
    let gateway = Gateway::start(&[account("a", "openai-compatible", &url, "")], "").await;
    let ask = Ask::post("/v1/chat/completions", r#"{"model":"gpt-x","messages":[{"role":"user","content":"hi"}]}"#);
    client::h1(gateway.address, &ask).await.unwrap();
    let row = &wait_for_rows(&gateway, 1).await[0];
    assert_eq!((row.input, row.output, row.estimated.len()), (Some(0), Some(0), 0));
    assert_eq!(row.cost_nanos, None, "the model has no price, and is not free for that");
}

#[tokio::test]
async fn a_client_that_leaves_is_charged_what_came_until_then_marked_as_an_estimate() {
    let events = anthropic_stream("{}");
    let mut acts = vec![stream_head(), chunk(&events[0]), chunk(&events[1])];
    (0..5).for_each(|_| acts.push(chunk(&events[2])));
    acts.push(Act::Sleep(Duration::from_secs(30)));
    let upstream = Upstream::always(acts).await;
    let gateway = Gateway::start(&[account("a", "anthropic", &upstream.url(), "")], "").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(&message()).await.unwrap();
    let seen = String::from_utf8(connection.read_some(900).await.unwrap()).unwrap();
    assert!(seen.contains("Hello there"), "{seen}");
    drop(connection);
    let row = &wait_for_rows(&gateway, 1).await[0];
    assert_eq!((row.outcome.as_str(), row.input), ("client_gone", Some(25)));
    assert_eq!(row.estimated, ["output"]);
    assert!(row.output.is_some_and(|output| (5..200).contains(&output)), "{row:?}");
}

#[tokio::test]
async fn an_answer_that_ends_before_it_began_is_not_charged_and_the_next_one_is() {
    let upstream = Upstream::start(|at, _| match at {
        0 => vec![stream_head(), end()],
        _ => {
            let events = anthropic_stream(r#"{"output_tokens":40}"#);
            [stream_head()].into_iter().chain(events.iter().map(chunk)).chain([end()]).collect()
        }
    })
    .await;
    let accounts = [
        account("a", "anthropic", &upstream.url(), "priority: 1"),
        account("b", "anthropic", &upstream.url(), "priority: 2"),
    ];
    let gateway = Gateway::start(&accounts, "").await;
    assert_eq!(client::h1(gateway.address, &message()).await.unwrap().status, 200);
    let rows = wait_for_rows(&gateway, 2).await;
    let told: Vec<_> =
        rows.iter().map(|row| (row.attempt, row.account.as_str(), row.outcome.as_str(), row.output)).collect();
    assert_eq!(told, [(1, "a", "failed", None), (2, "b", "served", Some(40))]);
    assert_eq!(rows[0].cost_nanos, Some(0));
}

#[tokio::test]
async fn counting_tokens_is_written_down_and_costs_nothing() {
    let upstream = Upstream::always(whole(200, "application/json", r#"{"input_tokens":14}"#)).await;
    let more = "models: [claude-sonnet-4-5]";
    let gateway = Gateway::start(&[account("a", "anthropic", &upstream.url(), more)], "").await;
    let body = r#"{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"hi"}]}"#;
    client::h1(gateway.address, &Ask::post("/v1/messages/count_tokens", body)).await.unwrap();
    let row = &wait_for_rows(&gateway, 1).await[0];
    assert_eq!((row.call.as_str(), row.input, row.cost_nanos), ("count_tokens", None, Some(0)));
}

#[tokio::test]
async fn relayed_calls_are_written_down_too() {
    let embeddings = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1]}],"model":"m","usage":{"prompt_tokens":9,"total_tokens":9}}"#;
    let images = r#"{"created":1,"data":[{"url":"http://x/1.png"},{"url":"http://x/2.png"}]}"#;
    let upstream = Upstream::start(move |_, seen| match seen.path() {
        path if path.ends_with("embeddings") => whole(200, "application/json", embeddings),
        path if path.ends_with("speech") => whole(200, "audio/mpeg", [7_u8; 5_000]),
        _ => whole(200, "application/json", images),
    })
    .await;
    let url = format!("{}/v1", upstream.url());
    let gateway = Gateway::start(&[account("a", "openai", &url, "")], "").await;
    for (path, body) in [
        ("/v1/embeddings", r#"{"model":"text-embedding-3-small","input":"hello"}"#),
        ("/v1/images/generations", r#"{"model":"dall-e-3","prompt":"a cat","n":2}"#),
        ("/v1/audio/speech", r#"{"model":"gpt-4o-mini-tts","input":"hello there","voice":"alloy"}"#),
    ] {
        assert_eq!(client::h1(gateway.address, &Ask::post(path, body)).await.unwrap().status, 200, "{path}");
    }
    let rows = wait_for_rows(&gateway, 3).await;
    let by = |call: &str| rows.iter().find(|row| row.call == call).unwrap_or_else(|| panic!("{call}: {rows:#?}"));
    assert_eq!((by("embeddings").input, by("embeddings").cost_nanos), (Some(9), Some(180)));
    let images = by("images");
    assert_eq!((images.images, images.cost_nanos), (Some(2), Some(80_000_000)), "{images:?}");
    assert!(images.estimated.contains(&"images"));
    assert!(by("audio").estimated.contains(&"input"), "{:?}", by("audio"));
}

#[tokio::test]
async fn the_end_of_a_reply_comes_when_its_row_is_in_the_ledger() {
    let events = anthropic_stream(r#"{"output_tokens":40}"#);
    let acts: Vec<Act> = [stream_head()].into_iter().chain(events.iter().map(chunk)).chain([end()]).collect();
    let upstream = Upstream::always(acts).await;
    let gateway = Gateway::start(&[account("a", "anthropic", &upstream.url(), "")], "").await;
    for count in 1..=30 {
        let reply = client::h1(gateway.address, &message()).await.unwrap();
        assert!(reply.complete && reply.text().contains("message_stop"));
        // Nobody waits here: whoever has the whole reply finds its row.
        assert_eq!(rows(&reader(&gateway)).len(), count);
    }
}

#[tokio::test]
async fn a_locked_ledger_stops_no_request_and_gets_every_row_in_the_end() {
    let events = anthropic_stream(r#"{"output_tokens":40}"#);
    let acts: Vec<Act> = [stream_head()].into_iter().chain(events.iter().map(chunk)).chain([end()]).collect();
    let upstream = Upstream::always(acts).await;
    let more = "ledger: { queue: 10, commit_wait: 1s }\n";
    let gateway = Gateway::start(&[account("a", "anthropic", &upstream.url(), "")], more).await;
    let file = gateway.live().snapshot().config.data_dir.join(sub2api::ledger::FILE_NAME);
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut served = 0;
    while served < 10 {
        let reply = client::h1(gateway.address, &message()).await.unwrap();
        assert_eq!((reply.status, reply.complete), (200, true));
        served += 1;
    }
    // The room for waiting rows is taken: nothing more is begun that could not be written down.
    let refused = client::h1(gateway.address, &message()).await.unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text());
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(wait_for_rows(&gateway, served).await.len(), served);
    let reply = client::h1(gateway.address, &message()).await.unwrap();
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_where_the_policy_says_so() {
    let upstream = Upstream::always(whole(200, "application/json", "{}")).await;
    let more = "prices: { unpriced: refuse }\n";
    let gateway = Gateway::start(&[account("a", "anthropic", &upstream.url(), "")], more).await;
    let reply = client::h1(gateway.address, &message()).await.unwrap();
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(reply.text().contains("no price") && upstream.seen().is_empty(), "{}", reply.text());
}

#[tokio::test]
async fn a_large_whole_reply_ends_when_its_row_is_in_the_ledger_though_its_length_is_told() {
    let text = "x".repeat(3 << 20);
    let reply = format!(
        r#"{{"id":"m","type":"message","role":"assistant","model":"claude-x","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","usage":{{"input_tokens":3,"output_tokens":9}}}}"#
    );
    let upstream = Upstream::always(whole(200, "application/json", &reply)).await;
    let gateway = Gateway::start(&[account("a", "anthropic", &upstream.url(), "")], "").await;
    let body = r#"{"model":"claude-x","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}"#;
    for count in 1..=3 {
        let got = client::h1(gateway.address, &Ask::post("/v1/messages", body)).await.unwrap();
        assert!(got.complete && got.body == reply.as_bytes());
        let rows = rows(&reader(&gateway));
        assert_eq!((rows.len(), rows[count - 1].output), (count, Some(9)));
    }
}
