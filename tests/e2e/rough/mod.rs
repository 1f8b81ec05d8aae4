//! Many requests and replies that no sane peer would send.
//!
//! Each case follows from the run's seed and its own number alone. `SUB2API_ROUGH` sets how many cases are run,
//! `SUB2API_ROUGH_SEED` the seed, `SUB2API_ROUGH_ONLY` the one case to repeat.

mod abuse;
mod frames;
mod replies;
mod requests;
mod watch;
mod wire;
mod witness;

use crate::{dice::Dice, gateway::Gateway};
use std::{
    str::FromStr,
    sync::{Arc, Mutex},
};
use tokio::task::JoinSet;

/// One run's numbers.
#[derive(Clone, Copy, Debug)]
struct Run {
    name: &'static str,
    cases: u64,
    seed: u64,
    only: Option<u64>,
}

/// What was found wrong, with the case.
type Findings = Arc<Mutex<Vec<String>>>;

/// Enough to know that something is wrong.
const MOST_FINDINGS: usize = 12;
/// Connections at the same time.
const WORKERS: u64 = 8;

fn number<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

impl Run {
    /// The run as the environment asks for it. `share` of the cases are this run's, `few` if none are asked for.
    fn new(name: &'static str, few: u64, share: f64) -> Run {
        let cases = number::<u64>("SUB2API_ROUGH").map_or(few, |all| (all as f64 * share) as u64);
        let seed = number("SUB2API_ROUGH_SEED").unwrap_or(20_261_123);
        Run { name, cases, seed, only: number("SUB2API_ROUGH_ONLY") }
    }

    fn dice(&self, case: u64) -> Dice {
        let mut mixed = Dice::new(self.seed ^ case.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Dice::new(mixed.draw())
    }

    /// The cases of one worker.
    fn of_worker(&self, worker: u64) -> impl Iterator<Item = u64> + use<> {
        let only = self.only;
        (worker..self.cases).step_by(WORKERS as usize).filter(move |case| only.is_none_or(|only| only == *case))
    }

    /// Notes a finding; `sent` are the bytes that led to it.
    fn note(&self, findings: &Findings, case: u64, what: &str, sent: &[u8]) {
        let shown = sent[..sent.len().min(1200)].escape_ascii();
        let line = format!("{} seed {} case {case}: {what}\n    {shown}", self.name, self.seed);
        println!("{line}");
        findings.lock().unwrap().push(line);
    }

    /// Runs all workers and returns what they found.
    async fn work<F: Future<Output = ()> + Send + 'static>(&self, worker: impl Fn(u64, Findings) -> F) -> Vec<String> {
        let findings = Findings::default();
        let mut workers = JoinSet::new();
        for at in 0..WORKERS {
            workers.spawn(worker(at, findings.clone()));
        }
        while let Some(done) = workers.join_next().await {
            done.unwrap();
        }
        findings.lock().unwrap().clone()
    }

    /// Holds the end of the run against what it must be.
    async fn judge(&self, gateway: &Gateway, found: &[String]) {
        let left = watch::left_behind(gateway).await;
        let panics = watch::noted();
        assert!(panics.is_empty(), "seed {}: {} panics, the first: {}", self.seed, panics.len(), panics[0]);
        assert!(found.is_empty(), "seed {}: {} findings, the first: {}", self.seed, found.len(), found[0]);
        assert_eq!(left, None, "seed {}: requests, body bytes, waiting, in flight were not given back", self.seed);
    }
}

fn is_enough(findings: &Findings) -> bool {
    findings.lock().unwrap().len() >= MOST_FINDINGS
}
