//! Rough requests: whatever comes in, there is an answer or an end of the connection, and never a failure of our own.

use super::{
    Findings, Run, abuse,
    abuse::Abuse,
    frames, is_enough, watch,
    wire::{Got, HANGS, Wire},
    witness::{Asked, Told, Witness},
};
use crate::{
    client::{self, Ask},
    dice::Dice,
    gateway::{Gateway, account},
    seeds::{self, Seed},
};
use bytes::Bytes;
use std::{io::Error, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long an answer to a request that may be incomplete is waited for before the connection is half closed.
const GLANCE: Duration = Duration::from_millis(60);

/// The upstream's answer, always a good one: of the seed whose path is asked for.
fn told(seeds: &[Seed], asked: &Asked) -> Told {
    let target = asked.target.trim_end_matches('/');
    let streams = target.contains("alt=sse") || asked.body.windows(13).any(|w| w == b"\"stream\":true");
    let call =
        |path: &str| path.split('?').next().and_then(|p| p.rsplit(['/', ':']).next()).unwrap_or_default().to_owned();
    let fits = |seed: &&Seed| call(&seed.path) == call(target) && streams == (seed.reply_type != "application/json");
    let (kind, reply) = seeds
        .iter()
        .find(fits)
        .map_or(("application/json", &b"{\"object\":\"list\",\"data\":[]}"[..]), |seed| (seed.reply_type, &seed.reply));
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", reply.len()).into_bytes();
    bytes.extend_from_slice(reply);
    Told { pieces: vec![bytes], close: false }
}

async fn start(seeds: &Arc<Vec<Seed>>) -> (Witness, Gateway) {
    let shared = seeds.clone();
    let witness = Witness::start(move |asked| told(&shared, asked)).await;
    let url = format!("http://{}", witness.address);
    let accounts = [
        account("openai", "openai", &format!("{url}/v1"), ""),
        account("anthropic", "anthropic", &url, ""),
        account("gemini", "gemini", &url, ""),
        account("azure", "azure-openai", &url, ""),
    ];
    let gateway = Gateway::start(&accounts, "bounds: { client_read: 3s, client_write: 3s, requests: 500 }\n").await;
    (witness, gateway)
}

/// One worker's connections.
struct Worker {
    run: Run,
    address: SocketAddr,
    seeds: Arc<Vec<Seed>>,
    findings: Findings,
    from: u8,
    kept: Option<Wire>,
    h2: Option<::h2::client::SendRequest<Bytes>>,
}

impl Worker {
    async fn case(&mut self, case: u64) {
        let mut dice = self.run.dice(case);
        self.from = 2 + dice.below(200) as u8;
        match dice.below(20) {
            0 => self.h2_frames(case, &mut dice).await,
            1 => self.h2_request(case, &mut dice).await,
            _ => {
                let abuse = abuse::of(&mut dice, &self.seeds);
                let wrong = if abuse.sure { self.sound(&abuse).await } else { self.unsound(&abuse).await };
                if let Err(what) = wrong {
                    self.kept = None;
                    self.run.note(&self.findings, case, &format!("{}: {what}", abuse.kind), &abuse.bytes);
                }
            }
        }
    }

    /// A request whose framing is right, on a connection that is kept.
    async fn sound(&mut self, abuse: &Abuse) -> Result<(), String> {
        for _ in 0..2 {
            let (mut wire, reused) = match self.kept.take() {
                Some(wire) => (wire, true),
                None => (Wire::open(self.address, self.from).await.map_err(|e| e.to_string())?, false),
            };
            wire.send(&abuse.bytes, &abuse.cuts).await;
            match wire.receive(abuse.head_only, HANGS).await {
                Got::Reply(reply) if reply.status >= 500 => {
                    return Err(format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body)));
                }
                Got::Reply(reply) if !reply.whole => return Err(format!("a cut reply: {reply:?}")),
                Got::Reply(reply) => {
                    self.kept = (!reply.ends_connection()).then_some(wire);
                    return Ok(());
                }
                Got::Closed if reused => {}
                other => return Err(format!("{other:?}")),
            }
        }
        Err("closed twice".to_owned())
    }

    /// Bytes that may be anything: an answer, or the end, once no more is sent.
    async fn unsound(&mut self, abuse: &Abuse) -> Result<(), String> {
        let mut wire = Wire::open(self.address, self.from).await.map_err(|e| e.to_string())?;
        wire.send(&abuse.bytes, &abuse.cuts).await;
        let got = wire.receive(false, GLANCE).await;
        wire.half_close().await;
        let status = match got {
            Got::Reply(reply) => reply.status,
            Got::Closed | Got::Silent => 0,
            Got::Illegal(bytes) => return Err(format!("an illegal reply: {bytes}")),
        };
        if status >= 500 {
            return Err(status.to_string());
        }
        if wire.ends().await { Ok(()) } else { Err("the connection does not end".to_owned()) }
    }

    async fn h2_frames(&mut self, case: u64, dice: &mut Dice) {
        let bytes = frames::of(dice, &self.seeds);
        let Ok(mut wire) = Wire::open(self.address, self.from).await else { return };
        wire.send(&bytes, &[]).await;
        wire.soon(GLANCE / 2).await;
        wire.soon(GLANCE / 2).await;
        wire.half_close().await;
        match wire.rest().await {
            None => self.run.note(&self.findings, case, "h2 frames: the connection does not end", &bytes),
            Some(answer) if frames::has_failed(&answer) => {
                let what = format!("h2 frames: a 5xx: {}", answer.escape_ascii());
                self.run.note(&self.findings, case, &what, &bytes);
            }
            Some(_) => {}
        }
    }

    /// Legal HTTP/2 with headers and bodies that are not what anyone expects.
    async fn h2_request(&mut self, case: u64, dice: &mut Dice) {
        let seed = dice.pick(&self.seeds).clone();
        let mut body = seed.request;
        dice.mangle(&mut body);
        let mut request = http::Request::builder().method(*dice.pick(&["POST", "POST", "GET", "PUT"]));
        request = request.uri(format!("http://gateway.test{}", seed.path)).header("authorization", "Bearer sk-test");
        for name in
            ["anthropic-beta", "user-agent", "x-request-id", "accept", "openai-organization", "x-stainless-lang"]
        {
            if let Ok(value) = http::HeaderValue::from_bytes(&dice.noise(80)) {
                request = request.header(name, value);
            }
        }
        let request = request.body(()).unwrap();
        let shown = format!("{request:?}").into_bytes();
        let shown = [&shown[..], b" ", &body].concat();
        let leaves = dice.once_in(10);
        let outcome = timeout(HANGS, self.h2_exchange(request, body.into(), leaves)).await;
        match outcome {
            Err(_) => self.run.note(&self.findings, case, "h2 request: hangs", &shown),
            Ok(Ok(status)) if status >= 500 => {
                self.run.note(&self.findings, case, &format!("h2 request: {status}"), &shown);
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                self.h2 = None;
                self.run.note(&self.findings, case, &format!("h2 request: {error}"), &shown);
            }
        }
    }

    async fn h2_exchange(&mut self, request: http::Request<()>, body: Bytes, leaves: bool) -> std::io::Result<u16> {
        let mut sender = match self.h2.take() {
            Some(sender) => sender,
            None => {
                let stream = tokio::net::TcpStream::connect(self.address).await?;
                let (sender, connection) = ::h2::client::handshake(stream).await.map_err(Error::other)?;
                tokio::spawn(connection);
                sender
            }
        }
        .ready()
        .await
        .map_err(Error::other)?;
        let (answer, mut upload) = sender.send_request(request, false).map_err(Error::other)?;
        self.h2 = Some(sender);
        if leaves {
            // The client changes its mind half way.
            upload.send_data(body.slice(..body.len() / 2), false).map_err(Error::other)?;
            upload.send_reset(::h2::Reason::CANCEL);
            return Ok(0);
        }
        upload.send_data(body, true).map_err(Error::other)?;
        let answer = answer.await.map_err(Error::other)?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        while let Some(piece) = body.data().await {
            let length = piece.map_err(Error::other)?.len();
            let _ = body.flow_control().release_capacity(length);
        }
        Ok(status)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rough_requests_are_answered_or_ended_and_never_fail_by_our_fault() {
    watch::panics();
    let run = Run::new("requests", 3_000, 1.0);
    let seeds = Arc::new(seeds::load());
    let (witness, gateway) = start(&seeds).await;
    let address = gateway.address;
    let started = tokio::time::Instant::now();
    let found = run
        .work(|at, findings| {
            let seeds = seeds.clone();
            let mut worker = Worker { run, address, seeds, findings, from: 1, kept: None, h2: None };
            async move {
                for case in run.of_worker(at) {
                    if is_enough(&worker.findings) {
                        return;
                    }
                    worker.case(case).await;
                }
            }
        })
        .await;
    println!("rough requests: {} sent in {:?}, {} reached the upstream", run.cases, started.elapsed(), witness.asked());
    run.judge(&gateway, &found).await;
    let complaints = witness.complaints();
    assert!(complaints.is_empty(), "seed {}: {} complaints, the first: {}", run.seed, complaints.len(), complaints[0]);
    assert!(run.only.is_some() || witness.asked() as u64 > run.cases / 20, "too few were good enough to go on");
    let body = seeds[0].request.clone();
    for reply in [
        client::h1(address, &Ask::post(&seeds[0].path, body.clone())).await.unwrap(),
        client::h2(address, &Ask::post(&seeds[0].path, body)).await.unwrap(),
    ] {
        assert_eq!((reply.status, reply.complete), (200, true), "{}", reply.text());
    }
    if !seeds::are_recorded(&seeds) {
        println!(
            "skipped: rough_requests_are_answered_or_ended_and_never_fail_by_our_fault: shared traffic not present"
        );
    }
}
