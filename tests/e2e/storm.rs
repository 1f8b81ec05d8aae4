//! A thousand requests against accounts that fail at random: no client notices, and nothing is left over.

use crate::{
    client::{self, Ask, Reply},
    faults,
    formats::{
        Format::{self, Anthropic, Chat, Gemini},
        Mode::{self, Array, Stream, Whole},
        WAYS, said,
    },
    gateway::{Gateway, account},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use sub2api::{
    account::schedule::mix,
    mock::{Matching, Mock, MockHandle, Options, Outcome, Play},
};
use tokio::{sync::Semaphore, task::JoinSet};

/// What is drawn follows from this alone.
const SEED: u64 = 0x5eed_0000_2026_1122;
const REQUESTS: u64 = 1_000;
/// With the healthy one as many as a request may try.
const FAILING: usize = 5;

/// Two models of a vendor: what an account does can then differ between whole answers and streams.
fn model(format: Format, mode: Mode) -> &'static str {
    match (format, mode) {
        (Format::Chat | Format::Responses, Whole) => "gpt-4.1",
        (Format::Chat | Format::Responses, _) => "gpt-4.1-mini",
        (Anthropic, Whole) => "claude-sonnet-4-5",
        (Anthropic, _) => "claude-haiku-4-5",
        (Gemini, Whole) => "gemini-2.5-flash",
        (Gemini, _) => "gemini-2.5-pro",
    }
}

/// Numbers that are the same in every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: usize) -> usize {
        self.0 += 1;
        usize::try_from(mix(SEED, self.0) % below as u64).unwrap()
    }
}

/// What the n-th failing account of a provider does with its next requests: mostly a fault, sometimes an answer.
fn plays(draw: &mut Draw, format: Format, mode: Mode, n: usize) -> Vec<Play> {
    let faults = faults::that_fail_over(format, mode);
    let mut plays = Vec::new();
    while plays.len() < 700 {
        let fault = faults[draw.next(faults.len())];
        // A refused key takes an account out for ten seconds, so that is for two of them, and once.
        let refuses_key = matches!(fault, "401" | "badkey") || (fault == "403" && format == Anthropic);
        // Silence costs the test's time.
        let is_rare = matches!(fault, "stallhead" | "prestall") && draw.next(3) > 0;
        if is_rare || refuses_key {
            continue;
        }
        plays.push(if draw.next(6) == 0 { Play::Answer } else { Play::Fault(fault) });
    }
    match n {
        0 => plays[3] = Play::Fault("401"),
        1 => plays[3] = Play::Fault("badkey"),
        _ => {}
    }
    plays
}

fn accounts(mock: &MockHandle) -> Vec<String> {
    let (mut accounts, mut draw) = (Vec::new(), Draw(0));
    for format in [Chat, Anthropic, Gemini] {
        let base = format.base(&mock.base_url());
        for n in 0..FAILING {
            let name = format!("{}-{n}", format.provider());
            for mode in [Whole, Stream] {
                let matching = Matching::any().key(&format!("sk-upstream-{name}")).model(model(format, mode));
                mock.script(matching, plays(&mut draw, format, mode, n)).unwrap();
            }
            let more = "priority: 1, timeouts: { first_byte: 2s, idle: 1s }";
            accounts.push(account(&name, format.provider(), &base, more));
        }
        accounts.push(account(&format!("{}-well", format.provider()), format.provider(), &base, "priority: 2"));
    }
    accounts
}

/// One request, with a text that belongs to it alone.
struct Job {
    format: Format,
    mode: Mode,
    over_h2: bool,
    text: String,
}

impl Job {
    fn new(number: u64, draw: &mut Draw) -> Job {
        let (format, mode) = WAYS[draw.next(WAYS.len())];
        let text = format!("marker {number} {:016x} with a few words behind it", mix(SEED, number));
        Job { format, mode, over_h2: draw.next(2) == 0, text }
    }

    fn ask(&self) -> Ask {
        self.format.ask(self.mode, model(self.format, self.mode), &format!("SAY: {}", self.text))
    }

    async fn send(&self, gateway: &Gateway) -> Reply {
        let ask = self.ask();
        let reply = if self.over_h2 {
            client::h2(gateway.address, &ask).await
        } else {
            client::h1(gateway.address, &ask).await
        };
        reply.unwrap_or_else(|error| panic!("{}: {error}", self.text))
    }

    /// What is wrong with the reply, if anything is.
    fn wrong(&self, reply: &Reply) -> Option<String> {
        let text = reply.text();
        let heard = said(self.format, self.mode, &text);
        let is_right = reply.status == 200 && reply.complete && heard == self.text && !text.contains("\"error\":{");
        let (format, mode, status) = (self.format, self.mode, reply.status);
        (!is_right).then(|| format!("{format:?} {mode:?} `{}`: {status} {text}", self.text))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_requests_to_accounts_that_fail_at_random_none_fails_and_each_is_answered_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mock = Mock::start(listener, Options::default()).unwrap();
    let more = "cooldown: { base: 1ms, max: 5ms, told_max: 5ms, money: 5ms }\n";
    let gateway = Arc::new(Gateway::start(&accounts(&mock), more).await);
    let (places, mut draw, mut running) = (Arc::new(Semaphore::new(16)), Draw(1 << 32), JoinSet::new());
    for number in 0..REQUESTS {
        let (gateway, places, job) = (gateway.clone(), places.clone(), Job::new(number, &mut draw));
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            let reply = job.send(&gateway).await;
            (job.wrong(&reply), job.text)
        });
    }
    let outcomes = running.join_all().await;
    let wrong: Vec<_> = outcomes.iter().filter_map(|(wrong, _)| wrong.clone()).collect();
    assert!(wrong.is_empty(), "{} of {REQUESTS} failed:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(gateway.left_over().await, [""; 0], "places or bytes were kept");
    check_upstream(&mock, outcomes.iter().map(|(_, text)| text.as_str()));
}

/// Every request was answered once upstream, and every fault took part.
fn check_upstream<'a>(mock: &MockHandle, texts: impl Iterator<Item = &'a str>) {
    let log = mock.log();
    let pending: Vec<_> = log.iter().filter(|entry| entry.outcome == Outcome::Pending).collect();
    assert!(pending.is_empty(), "still going on: {pending:?}");
    let mut answers: HashMap<String, u32> = HashMap::new();
    let mut struck: BTreeMap<&str, u32> = BTreeMap::new();
    for entry in &log {
        match entry.fault {
            Some(fault) => *struck.entry(fault).or_default() += 1,
            None if entry.outcome == Outcome::Completed => *answers.entry(entry.answer.clone()).or_default() += 1,
            None => {}
        }
    }
    for text in texts {
        assert_eq!(answers.get(text), Some(&1), "`{text}` was answered so often");
    }
    let unseen: Vec<_> = WAYS
        .iter()
        .flat_map(|(format, mode)| faults::that_fail_over(*format, if *mode == Array { Stream } else { *mode }))
        .filter(|fault| !struck.contains_key(fault))
        .collect();
    assert!(unseen.is_empty(), "these never struck: {unseen:?}\n{struck:?}");
    let strikes: u32 = struck.values().sum();
    // How many strike depends on how soon an account is asked again; a third of the requests is far from a fair-weather run.
    assert!(u64::from(strikes) >= REQUESTS / 3, "only {strikes} faults in {REQUESTS} requests");
    let longest = log.iter().filter_map(|entry| Some(entry.ended?.since(entry.at))).max();
    assert!(longest.is_some_and(|longest| longest < Duration::from_secs(20)), "{longest:?}");
}
