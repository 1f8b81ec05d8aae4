//! Recorded traffic through a running gateway: every request arrives and every reply comes back byte for byte, and the
//! access line tells the usage that the recording holds.

use crate::{
    client::{Ask, Connection, H2, Reply},
    expected,
    gateway::{Gateway, account},
    log,
    recording::{Case, Naming, as_answer, is_error},
    traffic::{self, Exchange},
    upstream::Upstream,
};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use sub2api::wire::{Usage, WireFormat};

/// Requests under way at a time.
const WORKERS: usize = 8;

/// What arrived at the provider: path and body, by request id.
type Arrivals = Arc<Mutex<HashMap<String, Vec<(String, Vec<u8>)>>>>;

/// A provider that answers each request with its recording.
async fn provider(cases: &Arc<Vec<Case>>) -> (Upstream, Arrivals) {
    let arrivals = Arrivals::default();
    let (log, cases) = (arrivals.clone(), cases.clone());
    let upstream = Upstream::start(move |_, seen| {
        let id = seen.header("x-request-id").unwrap_or_default().to_owned();
        let case = cases.iter().find(|case| case.id == id).unwrap_or_else(|| panic!("who is {id}?"));
        log.lock().unwrap().entry(id).or_default().push((seen.path().to_owned(), seen.body.clone()));
        case.acts()
    });
    (upstream.await, arrivals)
}

/// Sends every case, over connections that are kept.
async fn send_all(cases: &Arc<Vec<Case>>, address: SocketAddr, http2: bool) -> Vec<Reply> {
    let next = Arc::new(AtomicUsize::new(0));
    let replies = Arc::new(Mutex::new(vec![Reply::default(); cases.len()]));
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let (cases, next, replies) = (cases.clone(), next.clone(), replies.clone());
        workers.push(tokio::spawn(async move {
            let many = if http2 { Some(H2::open(address).await.unwrap()) } else { None };
            let mut one = Connection::open(address).await.unwrap();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(case) = cases.get(at) else { break };
                let ask = Ask::post(&case.path_asked, case.sent.clone()).header("x-request-id", &case.id);
                let reply = match &many {
                    Some(connection) => connection.ask(&ask).await.unwrap(),
                    None => {
                        one.send(&ask).await.unwrap();
                        one.receive().await.unwrap_or_else(|e| panic!("{}: {e}", case.exchange.id))
                    }
                };
                if reply.header("connection") == Some("close") {
                    one = Connection::open(address).await.unwrap();
                }
                replies.lock().unwrap()[at] = reply;
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    Arc::into_inner(replies).unwrap().into_inner().unwrap()
}

/// What came of a run: how many were checked, and what was not as recorded, by reason.
#[derive(Default)]
struct Tally {
    checked: usize,
    passed: usize,
    exceptions: BTreeMap<String, Vec<String>>,
}

impl Tally {
    fn except(&mut self, reason: impl Into<String>, id: &str) {
        self.exceptions.entry(reason.into()).or_default().push(id.to_owned());
    }

    fn print(&self, what: &str) {
        println!("{what}: {} checked, {} passed", self.checked, self.passed);
        for (reason, ids) in &self.exceptions {
            println!("  {} × {reason}: {}", ids.len(), ids.join(" "));
        }
    }
}

/// Every request has to have arrived once, as it was sent but for its model.
fn check_arrivals(cases: &[Case], arrivals: &Arrivals, what: &str) {
    let arrivals = arrivals.lock().unwrap();
    let mut tally = Tally::default();
    for case in cases {
        tally.checked += 1;
        let id = &case.exchange.id;
        match arrivals.get(&case.id).map(Vec::as_slice) {
            Some([(path, body)]) => {
                assert_eq!(path, &case.path_arrives, "{id}");
                assert!(*body == case.arrives, "{id}: another body arrived");
                tally.passed += 1;
            }
            Some(several) => panic!("{id}: arrived {} times", several.len()),
            None => {
                assert!(case.names_no_model(), "{id} never arrived");
                tally.except("the body names no model: Azure has it in the path", id);
            }
        }
    }
    tally.print(&format!("requests {what}"));
}

fn check_headers(case: &Case, reply: &Reply) {
    let id = &case.exchange.id;
    assert_eq!(reply.header("x-request-id"), Some(case.id.as_str()), "{id}");
    for (name, value) in &reply.headers {
        let name = name.as_str();
        let told = ["ratelimit", "organization", "project", "region", "envoy", "azure", "cf-", "apim", "server", "via"];
        assert!(!told.iter().any(|word| name.contains(word)) && name != "set-cookie", "{id}: {name}: {value}");
    }
}

/// A good reply has to come back as recorded, unless the recording breaks off or is an error in disguise.
fn check_good_reply(case: &Case, reply: &Reply, tally: &mut Tally) {
    let exchange = &case.exchange;
    let id = &exchange.id;
    if reply.status == 200 && reply.body == case.reply {
        assert!(reply.complete, "{id}");
        assert_eq!(reply.header("content-type"), case.content_type(), "{id}");
        tally.passed += 1;
    } else if reply.status == 200 && case.is_in_another_layout() {
        assert!(reply.complete && !reply.text().contains("event: error"), "{id}: {}", reply.text());
        tally.except("the recording has another layout than its request asks for, so that it is given in that one", id);
    } else if reply.status == 200 {
        // An error event has been added behind what was recorded, which has no end of its own.
        let same = reply.body.iter().zip(&case.reply).take_while(|(a, b)| a == b).count();
        let rest = String::from_utf8_lossy(&reply.body[same..]).into_owned();
        assert!(rest.contains("error") && same > 0 && reply.body.len() > same, "{id}: {rest}");
        assert!(case.reply.len() - same < 2_000, "{id}: cut at {same} of {}", case.reply.len());
        tally.except("the recording has no end, so that an error event is added", id);
    } else {
        let told = expected::documents(exchange).iter().any(|d| d["error"].is_object() || d["type"] == "error");
        let failed = expected::documents(exchange).iter().any(|d| d["type"] == "response.failed");
        assert!(told || failed, "{id}: {} {}", reply.status, reply.text());
        tally.except("the recording is an error under status 200 without content, so that it fails over", id);
    }
}

/// An error has to come back as recorded where it is about the request, else in our own words.
fn check_error(case: &Case, reply: &Reply, tally: &mut Tally) {
    let id = &case.exchange.id;
    if reply.body == case.reply {
        assert_eq!(reply.status, case.exchange.status, "{id}");
        assert_eq!(reply.header("content-type"), case.content_type(), "{id}");
        tally.passed += 1;
        tally.except(format!("{} as it is", reply.status), id);
        return;
    }
    let hidden = |(a, b): (&u8, &u8)| a == b || *a == b'*';
    if reply.body.len() == case.reply.len() && reply.body.iter().zip(&case.reply).all(hidden) {
        assert_eq!(reply.status, case.exchange.status, "{id}");
        tally.passed += 1;
        tally.except(format!("{} as it is but for the organisation's name", reply.status), id);
        return;
    }
    let format = case.endpoint.format();
    let error = &reply.json()["error"];
    assert!(error["message"].is_string(), "{id}: {}", reply.text());
    let kind = match format {
        WireFormat::Anthropic | WireFormat::OpenaiChat | WireFormat::OpenaiResponses => &error["type"],
        WireFormat::Gemini => &error["status"],
    };
    let told = ["sk-", "org-", "organization", "http"];
    assert!(!told.iter().any(|word| reply.text().contains(word)), "{id}: {}", reply.text());
    tally.passed += 1;
    tally.except(format!("{} told as {} {kind}", case.exchange.status, reply.status), id);
}

fn number(line: &serde_json::Value, name: &str) -> Option<u64> {
    line[name].as_u64()
}

async fn check_usage(cases: &[Case], replies: &[Reply]) {
    let mut tally = Tally::default();
    for (case, reply) in cases.iter().zip(replies) {
        let format = case.endpoint.format();
        let line = log::line(&case.id).await;
        let id = &case.exchange.id;
        assert_eq!(line["status"], reply.status, "{id}");
        assert_eq!(line["format"], format.name(), "{id}");
        assert_eq!(line["call"], case.endpoint.name(), "{id}");
        assert_eq!(number(&line, "bytes_in"), (!case.names_no_model()).then_some(case.sent.len() as u64).or(Some(0)));
        let whole = if case.exchange.status < 300 { expected::usage(format, &case.exchange) } else { Usage::default() };
        let written = whole.cache_write.is_some() || whole.cache_write_1h.is_some();
        let told = [
            ("input", whole.input),
            ("cache_read", whole.cache_read),
            ("cache_write", written.then(|| whole.cache_write.unwrap_or(0) + whole.cache_write_1h.unwrap_or(0))),
            ("output", whole.output),
            ("reasoning", whole.reasoning),
        ];
        if reply.status != 200 || case.names_no_model() {
            continue;
        }
        tally.checked += 1;
        for (name, value) in told {
            assert_eq!(number(&line, name), value, "{id}: {name}");
        }
        match whole.is_empty() {
            true => tally.except("the recording tells no usage", id),
            false => tally.passed += 1,
        }
    }
    tally.print("usage");
}

/// Every recorded call that the gateway serves through an account.
fn cases(exchanges: Vec<Exchange>, naming: Naming) -> Arc<Vec<Case>> {
    let cases = exchanges.into_iter().enumerate().filter_map(|(at, exchange)| Case::new(at, exchange, naming));
    Arc::new(cases.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_exchange_passes_with_its_model_spliced() {
    let Some(exchanges) = traffic::load("every_recorded_exchange_passes_with_its_model_spliced") else { return };
    log::keep();
    let all = exchanges.len();
    let cases = cases(exchanges, Naming::Alias);
    println!("recordings: {all}, of them {} are calls that an account serves (the others list models)", cases.len());
    let (upstream, arrivals) = provider(&cases).await;
    // A failing account is left alone for a while, so each recorded error has an account of its own.
    let mut accounts: Vec<String> = ["openai", "anthropic", "gemini"]
        .iter()
        .map(|provider| {
            let good = |case: &&Case| !is_error(&case.exchange) && case.provider() == *provider;
            let rules = cases.iter().filter(good).filter_map(Case::rule).collect::<Vec<_>>();
            account(provider, provider, &upstream.url(), &format!("models: [{}]", rules.join(", ")))
        })
        .collect();
    for case in cases.iter().filter(|case| is_error(&case.exchange)) {
        let rule = case.rule().map(|rule| format!("models: [{rule}]")).unwrap_or_default();
        accounts.push(account(&format!("for-{}", case.id), case.provider(), &upstream.url(), &rule));
    }
    let gateway = Gateway::start(&accounts, "").await;
    let replies = send_all(&cases, gateway.address, false).await;
    check_arrivals(&cases, &arrivals, "with an alias");
    let (mut good, mut errors) = (Tally::default(), Tally::default());
    for (case, reply) in cases.iter().zip(&replies) {
        check_headers(case, reply);
        if case.names_no_model() {
            assert_eq!(reply.status, 400, "{}", case.exchange.id);
        } else if case.exchange.status < 400 {
            good.checked += 1;
            check_good_reply(case, reply, &mut good);
        } else {
            errors.checked += 1;
            check_error(case, reply, &mut errors);
        }
    }
    good.print("replies");
    errors.print("errors");
    check_usage(&cases, &replies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_request_arrives_as_it_is_over_http2() {
    let Some(exchanges) = traffic::load("every_recorded_request_arrives_as_it_is_over_http2") else { return };
    log::keep();
    // What was answered with an error is answered with a recorded good reply here.
    let cases = cases(as_answer(exchanges), Naming::Own);
    let (upstream, arrivals) = provider(&cases).await;
    let accounts = ["openai", "anthropic", "gemini"].map(|kind| account(kind, kind, &upstream.url(), ""));
    let gateway = Gateway::start(&accounts, "").await;
    let replies = send_all(&cases, gateway.address, true).await;
    assert!(cases.iter().all(|case| case.names_no_model() || case.sent == case.arrives));
    check_arrivals(&cases, &arrivals, "under their own name");
    let mut good = Tally::default();
    for (case, reply) in cases.iter().zip(&replies) {
        check_headers(case, reply);
        if !case.names_no_model() {
            good.checked += 1;
            check_good_reply(case, reply, &mut good);
        }
    }
    good.print("replies over HTTP/2");
}
