//! Chooses the account of the next attempt, and waits for one where that helps.
//!
//! `account` decides; this file holds the request's side of it: what has been tried, how long a wait may be, and what the
//! client is told when nothing is left.

use super::{
    book,
    bounds::WaitPermit,
    claim, estimate,
    exchange::{Attempt, Exchange, Plan, Request},
    internal,
    lane::Translation,
    route::{Route, Target},
    span,
    state::Shared,
};
use crate::{
    account::{
        Lease, Place, Pool,
        pool::{Candidate, Candidates, Demand, Unavailable},
    },
    clock::Moment,
    error::{Reason, Rejection},
    ledger::Unpriced,
    provider::{Call, verdict::FailureClass},
    telemetry,
    wire::{
        Endpoint, WireFormat, envelope,
        translate::{Options, translate_call, wants_new_limit},
    },
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Finds the ways to serve the request; refuses a model that nobody serves.
pub(super) fn plan(shared: &Shared, exchange: &mut Exchange, endpoint: &Endpoint) -> Result<(), Rejection> {
    let Some(request) = &exchange.request else { return Err(internal("the request was lost on its way")) };
    let model = request.model.as_str();
    if let Some(caller) = &exchange.caller {
        if model.is_empty() && !caller.allows(model) {
            let message = "the request names no model, and this API key may only use certain ones: name one";
            return Err(Rejection::new(Reason::ModelNotAllowed, message).at("model"));
        }
        caller.may_use(model)?;
    }
    let mut candidates = exchange.snapshot.pool.candidates(&Demand { model, endpoint });
    if candidates.is_empty() && !request.is_named {
        // No rule has the default's name; the provider will take it all the same.
        candidates = exchange.snapshot.pool.candidates(&Demand { model: "", endpoint });
    }
    // A count that nobody can be asked for is estimated.
    if candidates.is_empty() && !(endpoint.is_counting() && estimate::is_served(exchange, model)) {
        return Err(unknown_model(exchange, model, endpoint));
    }
    if exchange.snapshot.config.prices.unpriced == Unpriced::Refuse && !endpoint.is_counting() {
        candidates = priced(exchange, &candidates)?;
    }
    let claim = claim::claim(exchange, request);
    let decision = (exchange.snapshot.config.explain.requests > 0)
        .then(|| shared.live.decisions.begin(&exchange.id, model, candidates.clone(), &claim));
    exchange.plan = Some(Plan { candidates, tried: Vec::new(), last: None, claim, decision });
    Ok(())
}

/// The candidates whose model has a price; refuses where none has.
fn priced(exchange: &Exchange, candidates: &Arc<Candidates>) -> Result<Arc<Candidates>, Rejection> {
    let prices = &exchange.snapshot.config.prices;
    let has_price = |candidate: &&Candidate| candidate.price(prices).is_some();
    if candidates.iter().all(|candidate| has_price(&candidate)) {
        return Ok(candidates.clone());
    }
    let priced: Vec<Candidate> = candidates.iter().filter(has_price).cloned().collect();
    if priced.is_empty() {
        let message = "the model has no price, and this gateway serves only models that have one";
        return Err(Rejection::new(Reason::ModelNotAllowed, message).at("model"));
    }
    Ok(Arc::new(Candidates::new(priced)))
}

fn unknown_model(exchange: &Exchange, model: &str, endpoint: &Endpoint) -> Rejection {
    if model.is_empty() {
        let message = format!("no account offers {}", endpoint.name());
        return Rejection::new(Reason::UnknownModel, message).at("model");
    }
    let shown: String = model.chars().take(100).collect();
    let mut nearest = exchange.snapshot.pool.nearest(model);
    nearest.retain(|name| exchange.caller.as_ref().is_none_or(|caller| caller.may_use(name).is_ok()));
    let hint = if nearest.is_empty() { String::new() } else { format!(", did you mean {}?", nearest.join(" or ")) };
    let message = format!("no account serves the model `{shown}` for {}{hint}", endpoint.name());
    Rejection::new(Reason::UnknownModel, message).at("model")
}

/// Begins the next attempt, or says why there is none.
pub(super) async fn next(shared: &Shared, exchange: &mut Exchange) -> Result<(), Rejection> {
    span::attempt_over(shared, exchange);
    book::lose(exchange);
    exchange.attempt = None;
    let failover = exchange.snapshot.config.failover;
    loop {
        let late = exchange.attempts > 0 && exchange.age(shared.live.clock.now()) >= failover.within;
        if exchange.attempts >= failover.attempts || late {
            return Err(nothing_left(exchange, None));
        }
        if let Some(plan) = &mut exchange.plan {
            plan.tried.extend(plan.last.take());
        }
        let (lease, waited) = lease(shared, exchange).await?;
        exchange.marks.waited += waited;
        if let Some(plan) = &mut exchange.plan {
            let (pool, bounds) = (&exchange.snapshot.pool, &exchange.snapshot.config.explain);
            if let Some(decision) = &mut plan.decision {
                decision.chose(pool, (lease.index, &plan.tried, &plan.claim), (lease.begun, waited), bounds);
            }
            plan.last = Some(lease.index);
        }
        match attempt(shared, exchange, lease) {
            Ok(attempt) => {
                exchange.attempts += 1;
                exchange.last_account = Some(attempt.lease.candidate.account.clone());
                exchange.attempt = Some(attempt);
                book::open(shared, exchange);
                return Ok(());
            }
            // This account's format has no words for the request; another account may speak one that has.
            Err(Unsayable::Here(refused)) => exchange.refused = Some(refused),
            Err(Unsayable::Anywhere(rejection)) => return Err(rejection),
        }
    }
}

/// Why an attempt cannot be made.
enum Unsayable {
    /// The request cannot be said in this account's wire format.
    Here(Rejection),
    /// It cannot be made at all.
    Anywhere(Rejection),
}

/// The attempt at one account: the request in the account's wire format, and where it goes.
fn attempt(shared: &Shared, exchange: &Exchange, lease: Lease) -> Result<Box<Attempt>, Unsayable> {
    let lost = |what: &str| Unsayable::Anywhere(internal(what));
    let Some(request) = &exchange.request else { return Err(lost("the request was lost on its way")) };
    let Some(Route { target: Target::Call(asked), version, .. }) = &exchange.route else {
        return Err(lost("the route was lost on its way"));
    };
    let candidate = &lease.candidate;
    let settings = &candidate.account.settings;
    let (format, body, translation) = if candidate.format == asked.format() {
        (candidate.format, own_body(candidate, asked, request), None)
    } else {
        let (format, body, translation) =
            translate(shared, exchange, (candidate, asked), request).map_err(Unsayable::Here)?;
        (format, body, Some(Box::new(translation)))
    };
    let Some(endpoint) = asked.in_format(format, request.stream) else {
        return Err(lost("the account does not offer this call"));
    };
    let own = translation.is_none();
    let query = if own { request.query.as_deref() } else { gemini_query(&endpoint) };
    let version = version.filter(|_| own);
    let call = Call { endpoint: &endpoint, model: &candidate.upstream_model, stream: request.stream, version, query };
    let Some(path) = settings.provider.path(&settings.base_url, &call) else {
        return Err(lost("the account does not offer this call"));
    };
    let body = settings.provider.body(&endpoint, body);
    Ok(Box::new(Attempt {
        lease,
        body,
        path,
        bearer: None,
        is_renewed: false,
        endpoint,
        translation,
        reply: None,
        reported: false,
        connects_failed: 0,
        again: true,
        stale: 0,
    }))
}

/// The query that a translated stream needs at a Gemini account.
fn gemini_query(endpoint: &Endpoint) -> Option<&'static str> {
    matches!(endpoint, Endpoint::StreamGenerateContent { .. }).then_some("alt=sse")
}

/// The client's own bytes, with the account's name of the model. OpenAI's reasoning models refuse the older name of the
/// output limit, which many clients still send.
fn own_body(candidate: &Candidate, asked: &Endpoint, request: &Request) -> Bytes {
    let body = envelope::splice(&request.body, &request.envelope, &candidate.upstream_model);
    let imitates = candidate.account.settings.provider.imitates();
    match asked {
        Endpoint::ChatCompletions if !imitates && wants_new_limit(&candidate.upstream_model) => {
            envelope::rename_limit(body)
        }
        _ => body,
    }
}

/// The request in a wire format of the account: the one that carries most, or the first that has words for all of it.
fn translate(
    shared: &Shared,
    exchange: &Exchange,
    (candidate, asked): (&Candidate, &Endpoint),
    request: &Request,
) -> Result<(WireFormat, Bytes, Translation), Rejection> {
    let first = translate_to(shared, exchange, (candidate, asked, candidate.format), request);
    let Err(refused) = first else { return first };
    let others = candidate.account.settings.formats.iter().filter(|format| **format != candidate.format);
    let mut others = others.map(|format| translate_to(shared, exchange, (candidate, asked, *format), request));
    others.find(Result::is_ok).unwrap_or(Err(refused))
}

fn translate_to(
    shared: &Shared,
    exchange: &Exchange,
    (candidate, asked, format): (&Candidate, &Endpoint, WireFormat),
    request: &Request,
) -> Result<(WireFormat, Bytes, Translation), Rejection> {
    let Some(there) = asked.in_format(format, request.stream) else {
        return Err(internal("the account does not offer this call"));
    };
    let options = Options {
        model: &candidate.upstream_model,
        stream: Some(request.stream),
        strict: exchange.strict,
        max_tokens: None,
        compatible: candidate.account.settings.provider.imitates(),
        request_id: &exchange.id,
        now: shared.live.clock.now().unix_millis() / 1000,
        // Gemini's older embedding models tell no usage, and OpenAI's replies always do.
        input_tokens: (there == Endpoint::BatchEmbedContents)
            .then(|| estimate::tokens_of(asked, &request.body, &candidate.upstream_model)),
    };
    let translated = translate_call(asked, &there, &request.body, &options)
        .map_err(|refusal| Rejection { param: refusal.param, ..Rejection::new(Reason::Malformed, refusal.message) })?;
    let shape = asked.shape_asked(request.stream);
    telemetry::lost(&exchange.id, (asked.format(), format), &translated.losses);
    shared.live.metrics.losses((asked.format(), format), &translated.losses);
    let formats = (format, asked.format());
    let translation = Translation::new(formats, shape, translated.losses, translated.context);
    Ok((format, translated.body.into(), translation))
}

/// How long the next attempt may still be waited for; without end for the first one, which the queue alone bounds.
fn time_left(shared: &Shared, exchange: &Exchange) -> Duration {
    match exchange.attempts {
        0 => Duration::MAX,
        _ => exchange.snapshot.config.failover.within.saturating_sub(exchange.age(shared.live.clock.now())),
    }
}

/// A lease of the best account left, and how long it was waited for: its turn where all are busy, or the first one's
/// return where that is soon.
async fn lease(shared: &Shared, exchange: &Exchange) -> Result<(Lease, Duration), Rejection> {
    let Some(plan) = &exchange.plan else { return Err(internal("the plan was lost on its way")) };
    let queue = exchange.snapshot.config.queue;
    let pool = &exchange.snapshot.pool;
    let begun = shared.live.clock.now();
    let mut place = pool.line_up(&plan.candidates, &plan.tried, plan.claim, begun);
    let deadline = Instant::from_std(begun.mono) + queue.timeout.min(time_left(shared, exchange));
    // So long the conversation's own account is waited for while others could serve.
    let patience = Instant::from_std(begun.mono) + queue.cooldown;
    let mut waiting = None;
    let mut now = begun;
    loop {
        let wake = match place.lease(shared.live.draw(), now) {
            Ok(lease) => return Ok((lease, now.since(begun))),
            Err(unavailable) => awaited(exchange, &place, unavailable, (now, deadline))?,
        };
        if Instant::now() >= patience && place.settle_for_another() {
            continue;
        }
        if Instant::now() >= deadline {
            return Err(busy("every account that serves this model is busy: try again", capacity(pool, wake)));
        }
        if waiting.is_none() {
            waiting = WaitPermit::take(&shared.live.counters, queue.length);
            if waiting.is_none() {
                let message = "every account is busy and the gateway's queue is full: try again";
                return Err(busy(message, capacity(pool, wake)));
            }
        }
        let wake = if place.is_bound() { wake.min(patience) } else { wake };
        tokio::select! {
            () = place.called() => {}
            () = sleep_until(wake.min(deadline)) => {}
        }
        now = shared.live.clock.now();
    }
}

/// Until when an account is waited for; a refusal where that is of no use.
fn awaited(
    exchange: &Exchange,
    place: &Place,
    unavailable: Unavailable,
    (now, deadline): (Moment, Instant),
) -> Result<Instant, Rejection> {
    let until = |moment: Moment| Instant::now() + moment.since(now) + Duration::from_millis(1);
    let is_first = exchange.plan.as_ref().is_some_and(|plan| plan.tried.is_empty());
    let longest = exchange.snapshot.config.queue.cooldown;
    match unavailable {
        // An estimate now is worth more than a count later.
        _ if !exchange.is_telling() => Err(nothing_left(exchange, None)),
        Unavailable::Busy { until: back } => Ok(back.map_or(deadline, until)),
        Unavailable::Cooling { until: back } => {
            let wait = back.map(|back| back.since(now));
            match back.zip(wait).filter(|(_, wait)| is_first && *wait <= longest) {
                Some((back, _)) if until(back) < deadline => Ok(until(back)),
                Some(_) | None if place.is_tied() && exchange.failures.is_empty() => Err(tied(wait)),
                Some(_) | None => Err(nothing_left(exchange, wait)),
            }
        }
    }
}

fn busy(message: &str, wait: Duration) -> Rejection {
    Rejection::new(Reason::Unavailable, message).after(Some(wait))
}

/// When there is a place for one more, about: an account's return, or the time in which the line moves up by its length.
fn capacity(pool: &Pool, back: Instant) -> Duration {
    const LEAST: Duration = Duration::from_secs(1);
    let line = pool.line();
    let moves = line.pace.saturating_mul(u32::try_from(line.waiting).unwrap_or(u32::MAX));
    moves.min(back.saturating_duration_since(Instant::now())).max(LEAST)
}

/// The refusal of a request that continues a response whose account is away.
fn tied(wait: Option<Duration>) -> Rejection {
    let message = "the response that `previous_response_id` names is kept by an account that cannot serve now: \
                   try again later, or send the whole conversation";
    Rejection::new(Reason::Unavailable, message).at("previous_response_id").after(wait)
}

/// What the client is told when no account is left to try.
pub(super) fn nothing_left(exchange: &Exchange, wait: Option<Duration>) -> Rejection {
    let told_max = exchange.snapshot.config.cooldown.told_max;
    let told = exchange.failures.iter().filter_map(|f| f.verdict.retry_after).min().map(|told| told.min(told_max));
    let wait = wait.or(told);
    if let Some(refused) = exchange.refused.clone().filter(|_| exchange.failures.is_empty()) {
        return refused;
    }
    let Some(failure) = exchange.worst() else {
        let message = "no account can serve this model now: all are cooling down or switched off";
        return Rejection::new(Reason::Unavailable, message).after(wait);
    };
    let tries = exchange.attempts;
    let (reason, message) = match failure.verdict.class {
        FailureClass::Rate => {
            (Reason::LimitReached, "the providers' rate limit is reached on every account that serves this model")
        }
        FailureClass::Overload => (Reason::Unavailable, "the provider is overloaded"),
        FailureClass::MoneyGone => (Reason::Unavailable, "the credit or quota of every account is used up"),
        FailureClass::AuthDead => (Reason::Unavailable, "the provider refuses the gateway's credentials"),
        FailureClass::Fault if failure.silent => (Reason::UpstreamSilent, "the provider did not answer in time"),
        FailureClass::Fault => (Reason::UpstreamFailed, "the provider failed to answer"),
        FailureClass::NotHere => (Reason::UnknownModel, "no account has the model"),
        FailureClass::Client => (Reason::Malformed, "the provider refuses the request"),
    };
    let wait = wait.filter(|_| !failure.verdict.class.is_about_the_request());
    Rejection::new(reason, format!("{message} ({tries} tried, last: {})", failure.verdict.reason)).after(wait)
}
