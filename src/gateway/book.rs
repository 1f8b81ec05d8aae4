//! Writes down every attempt once: what it used, whether that was told or is estimated, and what it cost.
//!
//! A row is opened with its attempt and closed when the attempt's end is known: before the reply's last bytes leave, where
//! there are any. One that nobody closed (a panic in a hook) is written as lost when its exchange is dropped, so that no
//! attempt is ever left out. Never waits; the adapter and `settle` wait for the commit.

use super::{
    admission, estimate,
    exchange::{self, Attempt, Exchange, Request},
    reply::Reply,
    state::Shared,
};
use crate::{
    account::{Tokens, Took},
    clock::Moment,
    ledger::{Ack, Counts, Entry, Ledger, Outcome, Price},
    telemetry::clip,
    wire::Endpoint,
};
use serde::Deserialize;
use std::sync::Arc;

/// The row of an attempt under way: where it goes, if a ledger is kept. Without one it still says what budgets are charged
/// with.
pub(super) struct OpenRow(Option<Arc<Ledger>>);

/// Opens the row of the attempt that has just been chosen.
pub(super) fn open(shared: &Shared, exchange: &mut Exchange) {
    exchange.row = Some(OpenRow(shared.live.ledger.clone()));
}

/// Writes the row of the attempt under way as lost, if it is still open.
pub(super) fn lose(exchange: &mut Exchange) {
    let Some(OpenRow(Some(ledger))) = exchange.row.take() else { return };
    if let Some(attempt) = &exchange.attempt {
        ledger.submit(Entry { failure: "lost", ..begun(exchange, attempt) });
    }
}

/// What is known of an attempt from its beginning.
fn begun<'e>(exchange: &'e Exchange, attempt: &'e Attempt) -> Entry<'e> {
    let settings = &attempt.lease.candidate.account.settings;
    let caller = exchange.caller.as_ref();
    let request = exchange.request.as_ref();
    Entry {
        began: exchange.started.unix_millis(),
        exchange: exchange.number,
        attempt: exchange.attempts,
        request: &exchange.id,
        user: caller.map_or("", |caller| &caller.user.name),
        key: caller.map_or("", |caller| &caller.key_id),
        account: &settings.name,
        provider: settings.provider.name(),
        call: exchange.endpoint().map_or("", |endpoint| endpoint.name()),
        // A caller can ask for a model with a name of any length.
        model: request.map_or("", |request| clip(&request.model)),
        served: clip(&attempt.lease.candidate.upstream_model),
        client_format: exchange.format.name(),
        upstream_format: attempt.endpoint.format().name(),
        stream: request.is_some_and(|request| request.stream),
        bytes_in: request.map_or(0, |request| request.body.len() as u64),
        client: &exchange.client_shown,
        ..Entry::default()
    }
}

/// How the attempt under way has ended, by what is known of its exchange.
pub(super) fn ended(exchange: &Exchange) -> Outcome {
    let reply = exchange.attempt.as_ref().and_then(|attempt| attempt.reply.as_ref());
    match exchange.outcome {
        exchange::Outcome::Served if reply.is_some_and(|reply| reply.is_error()) => Outcome::Failed,
        exchange::Outcome::Served => Outcome::Served,
        exchange::Outcome::Refused => Outcome::Failed,
        exchange::Outcome::ClientGone => Outcome::ClientGone,
        exchange::Outcome::Broken => Outcome::Broken,
    }
}

/// Closes the row of the attempt under way, once, and keeps the word of its commit for whoever waits for it.
pub(super) fn close(shared: &Shared, exchange: &mut Exchange, outcome: Outcome, failure: &'static str) {
    let Some(OpenRow(ledger)) = exchange.row.take() else { return };
    let Some(attempt) = &exchange.attempt else { return };
    let now = shared.live.clock.now();
    let total_micros = exchange.age(now).as_micros() as u64;
    let mut entry = Entry { outcome, failure, total_micros, ..begun(exchange, attempt) };
    fill(&mut entry, exchange, attempt);
    let (counts, cost_nanos) = (entry.counts, entry.cost_nanos.unwrap_or(0));
    if cost_nanos > 0 {
        shared.live.metrics.cost((entry.account, entry.user, entry.served), cost_nanos);
    }
    let ack = ledger.and_then(|ledger| ledger.submit(entry));
    charge(exchange, (counts, cost_nanos), now);
    exchange.ack = ack.or_else(|| exchange.ack.take());
}

/// Charges what an attempt used where it counts: the caller's limits, and the account's. Both go by the row, so that
/// neither says anything else than the ledger.
fn charge(exchange: &mut Exchange, (counts, cost_nanos): (Counts, u64), now: Moment) {
    admission::charge(exchange, (counts.tokens(), cost_nanos), now);
    let Some(attempt) = &mut exchange.attempt else { return };
    if attempt.reply.as_ref().is_some_and(|reply| (200..300).contains(&reply.status)) {
        let used = counts.usage();
        let tokens = Tokens { input: used.total_input(), output: used.output.unwrap_or(0) };
        attempt.lease.took(Took { tokens, cost_nanos });
    }
}

/// Waits until what has been handed over is in the file, or for the longest time that a reply's end may be put off.
pub(super) async fn committed(exchange: &mut Exchange) {
    if let Some(ack) = exchange.ack.take() {
        wait(ack).await;
    }
}

/// Waits for one commit. A row that cannot be written waits on without its reply; the ledger raises the alarm.
pub(super) async fn wait(ack: Ack) {
    if !ack.committed().await {
        log::debug!("a reply ended before its row was in the ledger");
    }
}

fn fill(entry: &mut Entry<'_>, exchange: &Exchange, attempt: &Attempt) {
    if let Some(reply) = &attempt.reply {
        entry.status = reply.status;
        entry.bytes_out = reply.bytes() as u64;
        if let (Some(first), true) = (exchange.first_content, reply.committed) {
            entry.first_micros = Some(first.as_micros() as u64);
        }
        entry.counts = counts(entry, exchange, attempt, reply);
    }
    entry.cost_nanos = cost(entry, exchange, attempt);
}

/// What the attempt used: what the provider told, and estimates where it did not tell what it will charge.
fn counts(entry: &Entry<'_>, exchange: &Exchange, attempt: &Attempt, reply: &Reply) -> Counts {
    let endpoint = &attempt.endpoint;
    if endpoint.is_counting() {
        return Counts::default();
    }
    let seen = reply.seen();
    let mut counts = Counts::reported(&seen.usage);
    let is_answer =
        !reply.is_error() && (seen.content || matches!(entry.outcome, Outcome::Served | Outcome::ClientGone));
    let writes = endpoint.generates() || *endpoint == Endpoint::Completions;
    let is_whole = seen.finish.is_some() || (seen.terminal && seen.error.is_none());
    let is_told = seen.usage.output.is_some() && is_whole;
    // A stream can begin with a first count of its output, which says nothing of the rest.
    if writes && !is_told && (is_answer || seen.usage.output.is_some()) {
        counts.estimate_output(reply.output_tokens());
    }
    if !is_answer {
        return counts;
    }
    let Some(request) = &exchange.request else { return counts };
    if seen.usage.total_input() == 0 && seen.usage.input.is_none() {
        counts.estimate_input(input_tokens(exchange, attempt, request));
    }
    if matches!(endpoint, Endpoint::Images(_)) {
        counts.estimate_images(images_asked(&request.body));
    }
    counts
}

/// What it costs: unknown where the model has no price, nothing where nothing was used.
fn cost(entry: &Entry<'_>, exchange: &Exchange, attempt: &Attempt) -> Option<u64> {
    let is_free = entry.counts == Counts::default()
        && (attempt.endpoint.is_counting() || !matches!(entry.outcome, Outcome::Served));
    if is_free || attempt.reply.as_ref().is_some_and(|reply| reply.is_error()) {
        return Some(0);
    }
    let price = price(exchange, attempt)?;
    if entry.counts == Counts::default() && !price.is_free() {
        return None;
    }
    Some(price.cost_nanos(&entry.counts.usage()))
}

/// What the model of an attempt costs.
fn price<'a>(exchange: &'a Exchange, attempt: &Attempt) -> Option<&'a Price> {
    let table = &exchange.snapshot.config.prices;
    let known = exchange.plan.as_ref().and_then(|plan| plan.candidates.prices(table).get(attempt.lease.index));
    known.map_or_else(|| attempt.lease.candidate.price(table), Option::as_deref)
}

/// How many images a request asks for: one, unless it says otherwise. A form's number is not read.
fn images_asked(body: &[u8]) -> u64 {
    #[derive(Deserialize)]
    struct Asked {
        n: Option<u64>,
    }
    serde_json::from_slice::<Asked>(body).ok().and_then(|asked| asked.n).unwrap_or(1)
}

/// An estimate of a request's input, by the client's own words.
fn input_tokens(exchange: &Exchange, attempt: &Attempt, request: &Request) -> u64 {
    let endpoint = exchange.endpoint().unwrap_or(&attempt.endpoint);
    estimate::tokens_of(endpoint, &request.body, &attempt.lease.candidate.upstream_model)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{bounds::BodyPermit, dispatch, route},
        *,
    };
    use crate::{
        clock::Clock,
        config::Config,
        ledger::{
            LedgerError, LedgerSettings,
            query::{Filter, Page},
        },
        live::Live,
        wire::envelope,
    };
    use http::{HeaderMap, Method};

    /// A request whose first attempt has begun.
    async fn under_way(shared: &Shared) -> Exchange {
        let body = br#"{"model":"smart","messages":[]}"#;
        let mut exchange = Exchange::new(shared);
        let headers = HeaderMap::new();
        exchange.route = route::route(&Method::POST, "/v1/chat/completions", None, &headers).ok();
        let endpoint = exchange.endpoint().unwrap().clone();
        exchange.client_shown = "10.0.0.7".to_owned();
        exchange.request = Some(Request {
            body: body.as_slice().into(),
            envelope: envelope::scan(&endpoint, None, body).unwrap(),
            model: "smart".to_owned(),
            is_named: true,
            stream: false,
            session: None,
            query: None,
            _permit: BodyPermit::new(&shared.live.counters),
        });
        dispatch::plan(shared, &mut exchange, &endpoint).unwrap();
        dispatch::next(shared, &mut exchange).await.unwrap();
        exchange
    }

    #[tokio::test]
    async fn an_attempt_that_nobody_closes_is_written_down_as_lost() {
        let folder = std::env::temp_dir().join(format!("sub2api-book-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text =
            "auth: none\naccounts: [{ name: a, provider: openai, credentials: { api_key: k }, models: [smart] }]\n";
        let config = Config::parse(text, &|_| None).unwrap().config;
        let ledger = Arc::new(Ledger::open(&folder, LedgerSettings::default(), Clock::System).unwrap());
        let shared = Shared::new(Live::new(config, Some(ledger.clone()), Clock::System), None);
        drop(under_way(&shared).await);
        let mut again = under_way(&shared).await;
        dispatch::next(&shared, &mut again).await.unwrap_err();
        let mut rows = Vec::new();
        let read: Result<(), LedgerError> = ledger.reader().unwrap().rows(&Filter::default(), Page::default(), |row| {
            rows.push((row.account.clone(), row.model.clone(), row.outcome.clone(), row.failure.clone(), row.attempt));
            Ok(())
        });
        read.unwrap();
        let lost = |attempt| ("a".to_owned(), "smart".to_owned(), "lost".to_owned(), "lost".to_owned(), attempt);
        assert_eq!(rows, [lost(1), lost(1)]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
