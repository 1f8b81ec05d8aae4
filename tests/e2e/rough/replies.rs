//! Rough replies: whatever an upstream says, the client gets a legal answer, an error in its format, or a broken
//! connection, and never a clean end of something that is not whole.

use super::{
    Findings, Run, is_enough, watch,
    wire::{Got, HANGS, Reply, Wire},
    witness::{Told, Witness},
};
use crate::{
    client::{self, Ask},
    dice::Dice,
    gateway::{Gateway, account},
    seeds::{self, Seed},
};
use bytes::Bytes;
use std::{net::SocketAddr, sync::Arc};
use sub2api::{
    account::health::State,
    config::Config,
    wire::{
        WireFormat,
        tap::{Shape, Tap},
    },
};

/// Header lines that an upstream may add.
const HEADERS: [&str; 22] = [
    "content-encoding: gzip",
    "content-encoding: identity",
    "transfer-encoding: identity",
    "connection: close",
    "retry-after: 99999999999999999999",
    "retry-after: -1",
    "retry-after: Sun, 06 Nov 1994 08:49:37 GMT",
    "retry-after: Fri, 31 Dec 9999 23:59:59 GMT",
    "retry-after-ms: 1e308",
    "x-ratelimit-remaining-tokens: 0",
    "x-ratelimit-reset-tokens: 9223372036854775807s",
    "anthropic-ratelimit-unified-status: rejected",
    "anthropic-ratelimit-unified-reset: 99999999999999",
    "content-length: 5",
    "content-type: text/html",
    "content-type: audio/mpeg",
    "set-cookie: a=b",
    "location: http://127.0.0.1:1/",
    "upgrade: h2c",
    "trailer: x",
    "x-request-id: theirs",
    "server: \x7f",
];

const STATUSES: [u16; 22] =
    [200, 200, 201, 204, 206, 301, 304, 307, 400, 402, 404, 408, 413, 422, 429, 500, 502, 503, 504, 529, 599, 999];

/// An upstream's answer for one case.
fn reply(dice: &mut Dice, seed: &Seed) -> Told {
    let mut body = seed.reply.clone();
    match dice.below(8) {
        0 => {}
        1 => body = dice.noise(500),
        _ => dice.mangle(&mut body),
    }
    let status = if dice.once_in(4) { *dice.pick(&STATUSES) } else { 200 };
    let kind = if dice.once_in(10) {
        *dice.pick(&["text/event-stream", "application/json", "text/plain", ""])
    } else {
        seed.reply_type
    };
    let mut head = format!("HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\n");
    for _ in 0..dice.below(3) * dice.below(2) {
        head += &format!("{}\r\n", dice.pick(&HEADERS));
    }
    let mut bytes;
    let mut close = dice.once_in(10);
    match dice.below(4) {
        0 => {
            close = true;
            bytes = format!("{head}\r\n").into_bytes();
            bytes.extend(body);
        }
        1 => {
            bytes = format!("{head}content-length: {}\r\n\r\n", body.len()).into_bytes();
            bytes.extend(body);
        }
        _ => {
            bytes = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
            for piece in body.chunks(1 + dice.below(body.len().max(1))) {
                bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
    }
    if dice.once_in(6) {
        // The frame itself is damaged: nobody knows any more where it ends.
        dice.mangle(&mut bytes);
        close = true;
    }
    if dice.once_in(40) {
        bytes = dice.noise(300);
        close = true;
    }
    let pieces = 1 + dice.below(6);
    Told { pieces: bytes.chunks(bytes.len().div_ceil(pieces).max(1)).map(<[u8]>::to_vec).collect(), close }
}

/// The configuration, with keys of this generation: other keys make other accounts, of which nothing bad is known.
fn yaml(address: SocketAddr, upstream: SocketAddr, generation: u64) -> String {
    let url = format!("http://{upstream}");
    let of = |name: &str, provider: &str, url: &str| {
        account(name, provider, url, "timeouts: { first_byte: 500ms, whole: 500ms, idle: 500ms, total: 4s }")
            .replace("sk-upstream-", &format!("sk-upstream-{generation}-"))
    };
    format!(
        "listen: [\"{address}\"]\nauth: none\n\
         cooldown: {{ base: 1ms, max: 1ms, told_max: 1ms, money: 1ms }}\nfailover: {{ attempts: 3 }}\n\
         queue: {{ timeout: 2s }}\naccounts:\n{}{}{}",
        of("openai", "openai", &format!("{url}/v1")),
        of("anthropic", "anthropic", &url),
        of("gemini", "gemini", &url)
    )
}

/// What is wrong with an answer, if anything is.
fn fault(seed: &Seed, reply: &Reply) -> Option<String> {
    let format = format_of(&seed.path);
    if !reply.whole {
        // Broken for everyone to see.
        return None;
    }
    if reply.header("content-encoding").is_some_and(|kind| kind != "identity") {
        return None;
    }
    let kind = reply.header("content-type").unwrap_or_default();
    if reply.header("x-request-id").is_none_or(|id| id == "theirs") {
        return Some("not our request id".to_owned());
    }
    if ["set-cookie", "server", "location"].iter().any(|name| reply.header(name).is_some()) {
        return Some("a header that should have stayed behind".to_owned());
    }
    if !(200..300).contains(&reply.status) || reply.status == 204 {
        return None;
    }
    if seed.path.contains("/images/") && !["application/json", "text/event-stream"].contains(&kind) {
        // A picture may be any bytes.
        return None;
    }
    let is_array = seed.path.contains(":streamGenerateContent") && !seed.path.contains("alt=sse");
    let shape = match kind {
        "text/event-stream" => Shape::Sse,
        "application/json" | "" if is_array => Shape::JsonArray,
        _ => Shape::Json,
    };
    let mut tap = Tap::new(format, shape, 1 << 20);
    tap.feed(Bytes::from(reply.body.clone()));
    tap.finish();
    (!tap.seen.terminal).then(|| "a clean end of something that is not whole".to_owned())
}

fn format_of(path: &str) -> WireFormat {
    match path {
        path if path.contains("/messages") => WireFormat::Anthropic,
        path if path.contains("/responses") => WireFormat::OpenaiResponses,
        path if path.contains("/models/") => WireFormat::Gemini,
        _ => WireFormat::OpenaiChat,
    }
}

/// A case's seed and the dice after it was chosen, the same for client and upstream.
fn chosen<'a>(run: &Run, seeds: &'a [Seed], case: u64) -> (&'a Seed, Dice) {
    let mut dice = run.dice(case);
    (dice.pick(seeds), dice)
}

struct Worker {
    run: Run,
    address: SocketAddr,
    seeds: Arc<Vec<Seed>>,
    findings: Findings,
    kept: Option<Wire>,
}

impl Worker {
    async fn case(&mut self, case: u64) {
        let seeds = self.seeds.clone();
        let (seed, mut dice) = chosen(&self.run, &seeds, case);
        let outcome = self.ask(seed, case).await;
        let wrong = match outcome {
            Ok(reply) => fault(seed, &reply).map(|what| {
                format!(
                    "{what}: {} {:?}\n    {}",
                    reply.status,
                    reply.headers,
                    reply.body[..reply.body.len().min(800)].escape_ascii()
                )
            }),
            Err(what) => Some(what),
        };
        if let Some(what) = wrong {
            let told = reply(&mut dice, seed);
            self.run.note(&self.findings, case, &format!("{}: {what}", seed.path), &told.pieces.concat());
        }
    }

    async fn ask(&mut self, seed: &Seed, case: u64) -> Result<Reply, String> {
        let mut bytes = format!(
            "POST {} HTTP/1.1\r\nhost: gateway.test\r\nx-request-id: case-{case}\r\ncontent-length: {}\r\n\r\n",
            seed.path,
            seed.request.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&seed.request);
        for _ in 0..2 {
            let (mut wire, reused) = match self.kept.take() {
                Some(wire) => (wire, true),
                None => (Wire::open(self.address, 2 + (case % 200) as u8).await.map_err(|e| e.to_string())?, false),
            };
            wire.send(&bytes, &[]).await;
            match wire.receive(false, HANGS).await {
                Got::Reply(reply) => {
                    self.kept = (!reply.ends_connection()).then_some(wire);
                    return Ok(reply);
                }
                Got::Closed if reused => {}
                other => return Err(format!("{other:?}")),
            }
        }
        Err("closed twice".to_owned())
    }
}

/// Puts other accounts in the place of suspended ones.
fn renew(gateway: &Gateway, upstream: SocketAddr, generation: u64) {
    let live = gateway.running.as_ref().unwrap().live();
    let snapshot = live.snapshot();
    let now = live.clock.now();
    let is_dead = |state| matches!(state, State::Suspended | State::Exhausted { .. });
    let of_models = |live: &sub2api::account::pool::Live| live.models(now).iter().any(|(_, state)| is_dead(*state));
    if snapshot.pool.accounts().iter().any(|a| is_dead(a.live.state(now)) || of_models(&a.live)) {
        let loaded = Config::parse(&yaml(gateway.address, upstream, generation), &|_| None).unwrap();
        live.reload(loaded.config);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rough_replies_reach_the_client_whole_or_as_an_error_or_broken() {
    watch::panics();
    let run = Run::new("replies", 1_500, 0.2);
    let seeds = Arc::new(seeds::load());
    let (shared, honest) = (seeds.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let is_honest = honest.clone();
    let witness = Witness::start(move |asked| {
        let case = asked.header("x-request-id").and_then(|id| id.strip_prefix("case-")?.parse().ok()).unwrap_or(0);
        let (seed, mut dice) = chosen(&run, &shared, case);
        if is_honest.load(std::sync::atomic::Ordering::SeqCst) {
            let body = &seed.reply;
            let mut bytes = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
                seed.reply_type,
                body.len()
            )
            .into_bytes();
            bytes.extend_from_slice(body);
            return Told { pieces: vec![bytes], close: false };
        }
        reply(&mut dice, seed)
    })
    .await;
    let upstream = witness.address;
    let text = yaml("127.0.0.1:0".parse().unwrap(), upstream, 0);
    let (_, rest) = text.split_once("auth: none\n").unwrap();
    let (more, accounts) = rest.split_once("accounts:\n").unwrap();
    let gateway = Arc::new(Gateway::start(&[accounts.to_owned()], &format!("auth: none\n{more}")).await);
    let started = tokio::time::Instant::now();
    let found = run
        .work(|at, findings| {
            let mut worker = Worker { run, address: gateway.address, seeds: seeds.clone(), findings, kept: None };
            let gateway = gateway.clone();
            async move {
                for case in run.of_worker(at) {
                    if is_enough(&worker.findings) {
                        return;
                    }
                    worker.case(case).await;
                    if at == 0 {
                        renew(&gateway, upstream, 1 + case);
                    }
                }
            }
        })
        .await;
    println!("rough replies: {} requests, {} replies in {:?}", run.cases, witness.asked(), started.elapsed());
    run.judge(&gateway, &found).await;
    let complaints = witness.complaints();
    assert!(complaints.is_empty(), "seed {}: {} complaints, the first: {}", run.seed, complaints.len(), complaints[0]);
    honest.store(true, std::sync::atomic::Ordering::SeqCst);
    let fresh = Config::parse(&yaml(gateway.address, upstream, u64::MAX), &|_| None).unwrap();
    gateway.running.as_ref().unwrap().live().reload(fresh.config);
    let (seed, _) = chosen(&run, &seeds, 0);
    let ask = Ask::post(&seed.path, seed.request.clone()).header("x-request-id", "case-0");
    let reply = client::h1(gateway.address, &ask).await.unwrap();
    assert_eq!((reply.status, reply.body == seed.reply), (200, true), "{}", reply.text());
    if !seeds::are_recorded(&seeds) {
        println!("skipped: rough_replies_reach_the_client_whole_or_as_an_error_or_broken: shared traffic not present");
    }
}
