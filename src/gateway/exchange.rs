//! All that belongs to one request: Pingora's `CTX`.
//!
//! Everything that must be given back (places, leases, bytes) is a guard in here, so that a panic in a filter gives it
//! back too.

use super::{
    admission::Estimate,
    book::{self, OpenRow},
    bounds::{BodyPermit, RequestPermit},
    downstream::Link,
    lane::{self, Translation},
    mask,
    reply::Reply,
    route::{Route, Target},
    span::Spans,
    state::Shared,
};
use crate::{
    account::{
        Claim, Lease,
        decision::Decision,
        pool::{Account, Candidates},
    },
    clock::Moment,
    config::secret::Secret,
    error::Rejection,
    ledger::Ack,
    limit::{limiter::Rates, permit::Permit},
    live::Snapshot,
    metrics::Overhead,
    provider::verdict::{FailureClass, Verdict},
    user::Caller,
    wire::{Endpoint, WireFormat, envelope::Envelope},
};
use bytes::Bytes;
use std::{net::IpAddr, sync::Arc, time::Duration};

/// One request, from its header to its log line.
pub struct Exchange {
    /// The id that both sides see.
    pub(super) id: Arc<str>,
    /// The gateway's own number for it: unlike the id, no client can send it twice.
    pub(super) number: u64,
    /// When it began.
    pub(super) started: Moment,
    /// The configuration and accounts that it keeps, whatever is reloaded meanwhile.
    pub(super) snapshot: Arc<Snapshot>,
    /// The format that errors are written in.
    pub(super) format: WireFormat,
    /// What the path asks for, once known.
    pub(super) route: Option<Route>,
    /// Who is calling, once known; `None` also where no users are kept.
    pub(super) caller: Option<Caller>,
    /// Where the caller is, as far as that is known.
    pub(super) client: Option<IpAddr>,
    /// The same as text; empty where there is none.
    pub(super) client_shown: String,
    /// What the request has taken of its caller's limits.
    pub(super) admission: Option<Permit>,
    /// What is left of the caller's rates.
    pub(super) rates: Rates,
    /// What the request was estimated at.
    pub(super) estimate: Estimate,
    /// Why a stream is ended before its end.
    pub(super) cut: Option<Rejection>,
    /// The request as it came.
    pub(super) request: Option<Request>,
    /// The ways to serve it.
    pub(super) plan: Option<Plan>,
    /// The attempt under way.
    pub(super) attempt: Option<Box<Attempt>>,
    /// The row of the attempt under way, until it is handed to the ledger.
    pub(super) row: Option<OpenRow>,
    /// Comes when the last row that was handed over is in the ledger.
    pub(super) ack: Option<Ack>,
    /// Attempts begun.
    pub(super) attempts: u32,
    /// The line to the adapter, while it is installed.
    pub(super) link: Option<Arc<Link>>,
    /// Why the last attempts failed; the most useful reason is told to the client.
    pub(super) failures: Vec<Failure>,
    /// The status that the client got, 0 for none.
    pub(super) status: u16,
    /// The account of the last attempt, for the log.
    pub(super) last_account: Option<Arc<Account>>,
    /// Why the exchange did not end well, for the log.
    pub(super) outcome: Outcome,
    /// Time to the first content.
    pub(super) first_content: Option<Duration>,
    /// The place among the requests at the same time.
    pub(super) permit: Option<RequestPermit>,
    /// Whether nothing may be lost in translation.
    pub(super) strict: bool,
    /// Our own refusal, to be written when Pingora gives up.
    pub(super) rejection: Option<Rejection>,
    /// Why the request cannot be said in an account's wire format; told where no other account can take it.
    pub(super) refused: Option<Rejection>,
    /// The upstream's answer, to be written when Pingora gives up.
    pub(super) answer: Option<Answer>,
    /// What a trace tells of it, where traces are switched on.
    pub(super) spans: Option<Box<Spans>>,
    /// The status of the last upstream's error.
    pub(super) upstream_status: Option<u16>,
    /// When what happened, for the gateway's own share of the time.
    pub(super) marks: Marks,
}

/// The moments between which the gateway itself is at work.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// The last byte of the request came.
    pub received: Option<Moment>,
    /// The first attempt was ready to go.
    pub ready: Option<Moment>,
    /// Of the time between, what was spent waiting for an account.
    pub waited: Duration,
    /// The last byte of the upstream's answer came.
    pub answered: Option<Moment>,
}

impl Marks {
    /// The gateway's own share of an exchange that ends now; `None` where no upstream answered.
    pub(super) fn overhead(&self, now: Moment) -> Option<Overhead> {
        let request = self.ready?.since(self.received?).saturating_sub(self.waited);
        Some(Overhead { request, reply: now.since(self.answered?) })
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With a whole answer.
    #[default]
    Served,
    /// With a refusal of our own.
    Refused,
    /// The client went away before the end.
    ClientGone,
    /// The answer broke off after it had begun.
    Broken,
}

impl Outcome {
    /// The word in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Outcome::Served => "served",
            Outcome::Refused => "refused",
            Outcome::ClientGone => "client_gone",
            Outcome::Broken => "broken",
        }
    }
}

/// The request as the client sent it.
pub(super) struct Request {
    /// The body's bytes.
    pub body: Bytes,
    /// What routing needs of it.
    pub envelope: Envelope,
    /// The model asked for, else the call's default; empty where only the provider knows it.
    pub model: String,
    /// Whether the request itself names the model.
    pub is_named: bool,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// The session that the headers name, as a hash.
    pub session: Option<u64>,
    /// The caller's query without its key.
    pub query: Option<String>,
    /// Keeps the body's size counted among the bytes in flight.
    pub _permit: BodyPermit,
}

/// The ways to serve a request.
pub(super) struct Plan {
    /// All of them, in order.
    pub candidates: Arc<Candidates>,
    /// Which have been tried, but for the last one.
    pub tried: Vec<usize>,
    /// The last one that was tried: most requests need no list of them.
    pub last: Option<usize>,
    /// What the request brings along.
    pub claim: Claim,
    /// What was chosen and why, where that is kept.
    pub decision: Option<Box<Decision>>,
}

/// One attempt at one account.
pub(super) struct Attempt {
    /// The place at the account.
    pub lease: Lease,
    /// The body for this account.
    pub body: Bytes,
    /// Path and query at the provider.
    pub path: String,
    /// The access token, where the account uses one in the place of a key.
    pub bearer: Option<Secret>,
    /// Whether the provider has refused a token in this attempt already.
    pub is_renewed: bool,
    /// The call in the account's wire format.
    pub endpoint: Endpoint,
    /// The translation, where that is not the caller's.
    pub translation: Option<Box<Translation>>,
    /// The answer, once its header has come.
    pub reply: Option<Box<Reply>>,
    /// Whether the account has been told how it went.
    pub reported: bool,
    /// Connections to this account's host that failed in this attempt.
    pub connects_failed: usize,
    /// Whether the next connection belongs to this same attempt; true until the first one.
    pub again: bool,
    /// Connections kept from earlier that turned out to be dead.
    pub stale: u32,
}

/// Why an attempt failed.
pub(super) struct Failure {
    /// The judgement.
    pub verdict: Verdict,
    /// The upstream's own answer, where the client may see it.
    pub answer: Option<Answer>,
    /// Whether the upstream was silent for too long.
    pub silent: bool,
}

/// A whole answer of an upstream that can be given to the client as it is.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Its status.
    pub status: u16,
    /// Its content type.
    pub content_type: Option<http::HeaderValue>,
    /// Its body.
    pub body: Bytes,
}

impl Attempt {
    /// Whether an upstream's error answer can be given to the caller in the provider's own words.
    pub(super) fn is_in_client_format(&self, answer: &Answer) -> bool {
        let first = answer.body.trim_ascii_start().first();
        self.translation.is_none() && matches!(first, Some(b'{' | b'['))
    }

    /// An upstream's error answer as the caller's format says it, without what is the account's own affair.
    pub(super) fn in_client_format(&self, mut answer: Answer, request_id: &str) -> Answer {
        answer.body = mask::hide(answer.body, &self.lease.candidate.account.settings, self.bearer.as_ref());
        if self.is_in_client_format(&answer) {
            return answer;
        }
        if matches!(answer.body.trim_ascii_start().first(), Some(b'<') | None) {
            // The page of some machine on the way, or nothing at all: no words that would help the caller.
            answer.body = format!("the provider refused the request with status {}", answer.status).into();
        }
        match &self.translation {
            Some(translation) => translation.answer(&answer, request_id),
            None => lane::in_format(self.endpoint.format(), &answer, request_id),
        }
    }
}

/// A request id of 24 hexadecimal digits.
fn new_id(first: u64, second: u64) -> Arc<str> {
    let mut id = *b"req_000000000000000000000000";
    let eights = [first >> 32, first, second >> 32].map(|eight| hexadecimal(eight as u32));
    let digits = eights.into_iter().flatten();
    id.iter_mut().skip("req_".len()).zip(digits).for_each(|(place, digit)| *place = digit);
    str::from_utf8(&id).unwrap_or_default().into()
}

/// The eight digits of a number, all at a time: one in each byte.
fn hexadecimal(number: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut digits = u64::from(number);
    digits = (digits & 0xffff_0000) << 16 | digits & 0xffff;
    digits = (digits & 0xff00_0000_ff00) << 8 | digits & 0x00ff_0000_00ff;
    digits = (digits & 0x00f0_00f0_00f0_00f0) << 4 | digits & 0x000f_000f_000f_000f;
    let is_letter = (digits + 6 * ONES) >> 4 & ONES;
    (digits + u64::from(b'0') * ONES + is_letter * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

impl Drop for Exchange {
    fn drop(&mut self) {
        book::lose(self);
    }
}

impl Exchange {
    /// A request that has just come.
    pub(super) fn new(shared: &Shared) -> Exchange {
        Exchange {
            id: new_id(shared.live.draw(), shared.live.draw()),
            number: shared.live.draw(),
            started: shared.live.clock.now(),
            snapshot: shared.live.snapshot(),
            format: WireFormat::OpenaiChat,
            route: None,
            caller: None,
            client: None,
            client_shown: String::new(),
            admission: None,
            rates: Rates::default(),
            estimate: Estimate::default(),
            cut: None,
            request: None,
            plan: None,
            attempt: None,
            row: None,
            ack: None,
            attempts: 0,
            link: None,
            failures: Vec::new(),
            status: 0,
            last_account: None,
            outcome: Outcome::default(),
            first_content: None,
            permit: None,
            strict: false,
            rejection: None,
            refused: None,
            answer: None,
            spans: None,
            upstream_status: None,
            marks: Marks::default(),
        }
    }

    /// The call that the path asks for.
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        match self.route.as_ref().map(|route| &route.target) {
            Some(Target::Call(endpoint)) => Some(endpoint),
            Some(Target::Models | Target::Model(_) | Target::Usage | Target::Live | Target::Ready) | None => None,
        }
    }

    /// The request's age.
    pub(super) fn age(&self, now: Moment) -> Duration {
        now.since(self.started)
    }

    /// The model asked for, or a dash.
    pub(super) fn model(&self) -> &str {
        self.request.as_ref().map(|r| r.model.as_str()).filter(|model| !model.is_empty()).unwrap_or("-")
    }

    /// Whether the call may change what is known of an account.
    pub(super) fn is_telling(&self) -> bool {
        !self.endpoint().is_some_and(Endpoint::is_counting)
    }

    /// The failure that tells the client most: the request's own fault, then limits, then silence, then faults.
    pub(super) fn worst(&self) -> Option<&Failure> {
        let rank = |f: &Failure| match f.verdict.class {
            FailureClass::Client | FailureClass::NotHere => 5,
            FailureClass::Rate => 4,
            FailureClass::Overload => 3,
            FailureClass::Fault => 2,
            FailureClass::MoneyGone => 1,
            FailureClass::AuthDead => 0,
        };
        self.failures.iter().max_by_key(|f| rank(f))
    }

    /// Books a refusal of our own.
    pub(super) fn refuse(&mut self, rejection: &Rejection) {
        self.outcome = Outcome::Refused;
        self.status = self.format.behaviour().error_status(rejection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_shows_its_numbers_in_hexadecimal() {
        assert_eq!(&*new_id(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210), "req_0123456789abcdeffedcba98");
        assert_eq!(&*new_id(1, 0), "req_000000000000000100000000");
    }
}
