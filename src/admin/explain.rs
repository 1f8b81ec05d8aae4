//! Why a request went where it went, or where one would go now.
//!
//! A dry run looks at all candidates and takes nothing; a past request is told as it was noted when it chose.

use super::{answer::Answer, route::Ask};
use crate::{
    account::{
        Claim, Explained,
        decision::{Choice, Decision},
        pool::{Candidate, Candidates, Demand},
    },
    clock::Moment,
    wire::Endpoint,
};
use serde::Serialize;

/// The calls that can be asked about, by their names in the log.
const CALLS: [Endpoint; 9] = [
    Endpoint::ChatCompletions,
    Endpoint::Responses,
    Endpoint::Messages,
    Endpoint::GenerateContent,
    Endpoint::StreamGenerateContent { sse: true },
    Endpoint::CountTokens,
    Endpoint::Embeddings,
    Endpoint::EmbedContent,
    Endpoint::Completions,
];

#[derive(Serialize)]
struct Explanation {
    /// The request's id; absent for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    model: String,
    /// Whether the request belongs to a conversation that is kept on its account.
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<bool>,
    /// One for each attempt; for a dry run the one choice that would be made now.
    choices: Vec<Chosen>,
}

#[derive(Serialize)]
struct Chosen {
    /// `None` where nobody can serve.
    account: Option<String>,
    at_ms: u64,
    waited_ms: u64,
    failed: Option<Failed>,
    candidates: Vec<Way>,
}

#[derive(Serialize)]
struct Failed {
    class: &'static str,
    reason: String,
}

/// How one candidate stood.
#[derive(Serialize)]
struct Way {
    account: String,
    model: String,
    format: &'static str,
    priority: u32,
    chosen: bool,
    reason: String,
    until_ms: Option<u64>,
    seconds_left: Option<f64>,
    /// The smallest share that is left of any of its limits, 0 to 1.
    headroom: f64,
    in_flight: u32,
}

impl Way {
    fn new(candidates: &Candidates, explained: &Explained, chosen: Option<usize>, at: Moment) -> Option<Way> {
        let candidate: &Candidate = candidates.get(explained.index)?;
        let chosen = chosen == Some(explained.index);
        let is_tie = !chosen && explained.reason == crate::account::Reason::Best;
        Some(Way {
            account: candidate.account.settings.name.clone(),
            model: candidate.upstream_model.to_string(),
            format: candidate.format.name(),
            priority: candidate.account.settings.priority,
            chosen,
            reason: if is_tie { "as good; the draw is by weight".to_owned() } else { explained.reason.to_string() },
            until_ms: explained.until.map(Moment::unix_millis),
            seconds_left: explained.until.map(|until| until.since(at).as_secs_f64()),
            headroom: explained.headroom,
            in_flight: explained.in_flight,
        })
    }
}

/// `GET /api/v1/explain?request=ID`, or `?model=M&call=C` for a dry run.
pub(super) fn explain(ask: &Ask) -> Answer {
    if let Some(id) = ask.parameter("request") {
        return match ask.live.decisions.find(&id) {
            Some(decision) => Answer::json(&past(&decision)),
            None => Answer::fault(404, "nothing is kept about this request; `explain.requests` says how many are"),
        };
    }
    let Some(model) = ask.parameter("model") else {
        return Answer::fault(400, "ask with `request=ID`, or with `model=NAME` and `call=CALL` for a dry run");
    };
    let call = ask.parameter("call").unwrap_or_else(|| "chat_completions".to_owned());
    let Some(endpoint) = CALLS.iter().find(|endpoint| endpoint.name() == call) else {
        let names: Vec<_> = CALLS.iter().map(Endpoint::name).collect();
        return Answer::fault(400, &format!("there is no call `{call}`; there are {}", names.join(", ")));
    };
    dry_run(ask, model, endpoint)
}

fn dry_run(ask: &Ask, model: String, endpoint: &Endpoint) -> Answer {
    let (snapshot, now) = (ask.live.snapshot(), ask.live.clock.now());
    let candidates = snapshot.pool.candidates(&Demand { model: &model, endpoint });
    if candidates.is_empty() {
        let near = snapshot.pool.nearest(&model);
        let hint = if near.is_empty() { String::new() } else { format!(", did you mean {}?", near.join(" or ")) };
        return Answer::fault(404, &format!("no account serves this model for {}{hint}", endpoint.name()));
    }
    let explained = snapshot.pool.explain(&candidates, &[], &Claim::default(), now);
    let chosen = explained.iter().find(|way| way.reason == crate::account::Reason::Best).map(|way| way.index);
    let ways = explained.iter().filter_map(|way| Way::new(&candidates, way, chosen, now)).collect();
    let account = chosen.and_then(|at| candidates.get(at)).map(|way| way.account.settings.name.clone());
    let at_ms = now.unix_millis();
    let choices = vec![Chosen { account, at_ms, waited_ms: 0, failed: None, candidates: ways }];
    Answer::json(&Explanation { request: None, model, conversation: None, choices })
}

fn past(decision: &Decision) -> Explanation {
    let choice = |choice: &Choice| {
        let ways = decision.explained(choice).iter();
        let ways = ways.filter_map(|way| Way::new(&decision.candidates, way, Some(choice.index), choice.at));
        Chosen {
            account: decision.candidates.get(choice.index).map(|way| way.account.settings.name.clone()),
            at_ms: choice.at.unix_millis(),
            waited_ms: u64::try_from(choice.waited.as_millis()).unwrap_or(u64::MAX),
            failed: choice.failed.clone().map(|(class, reason)| Failed { class, reason }),
            candidates: ways.collect(),
        }
    };
    Explanation {
        request: Some(decision.request.clone()),
        model: decision.model.clone(),
        conversation: Some(decision.has_conversation),
        choices: decision.choices.iter().map(choice).collect(),
    }
}
