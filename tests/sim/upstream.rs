//! A model of a provider's account: its true limits, what it tells of them, its clock, its bad hours.

use http::{HeaderMap, HeaderValue};
use std::time::{Duration, SystemTime};
use sub2api::wire::tap::UpstreamError;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    Requests,
    Tokens,
}

/// One true limit: so much in a period, whole again at its end, or filling up little by little.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    pub(crate) counts: Counts,
    pub(crate) size: f64,
    pub(crate) period: f64,
    pub(crate) fills_up: bool,
    left: f64,
    /// When it was last looked at; for a fixed window when it began.
    at: f64,
}

impl Limit {
    pub(crate) fn new(counts: Counts, size: f64, period: f64, fills_up: bool) -> Limit {
        Limit { counts, size, period, fills_up, left: size, at: 0.0 }
    }

    fn roll(&mut self, t: f64) {
        if self.fills_up {
            self.left = (self.left + (t - self.at) * self.size / self.period).min(self.size);
            self.at = t;
        } else if t >= self.at + self.period {
            self.at = (t / self.period).floor() * self.period;
            self.left = self.size;
        }
    }

    fn amount(&self, tokens: f64) -> f64 {
        match self.counts {
            Counts::Requests => 1.0,
            Counts::Tokens => tokens,
        }
    }

    fn has_room(&self, tokens: f64) -> bool {
        self.left + 1e-9 >= self.amount(tokens)
    }

    /// How long until it is whole.
    fn reset_in(&self, t: f64) -> f64 {
        match self.fills_up {
            true => (self.size - self.left) * self.period / self.size,
            false => self.at + self.period - t,
        }
    }

    /// How long until there is room.
    fn room_in(&self, tokens: f64, t: f64) -> f64 {
        match self.fills_up {
            true => (self.amount(tokens) - self.left).max(0.0) * self.period / self.size,
            false => self.at + self.period - t,
        }
    }
}

/// What a provider tells of its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Dates, by its own clock.
    Anthropic,
    /// Spans.
    Openai,
    /// Nothing but `retry-after`.
    Silent,
}

/// What goes wrong in an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Broken,
    Overloaded,
    KeyRefused,
    QuotaGone,
}

#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    pub(crate) style: Style,
    pub(crate) limits: Vec<Limit>,
    /// Its clock is ahead by so many seconds.
    pub(crate) skew: i64,
    /// From, until, and what goes wrong.
    pub(crate) outages: Vec<(f64, f64, Fault)>,
    pub(crate) cap: Option<u32>,
    pub(crate) in_flight: u32,
    pub(crate) calls: u32,
    pub(crate) refused: u32,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) error: Option<UpstreamError>,
}

impl Upstream {
    pub(crate) fn new(style: Style, limits: Vec<Limit>) -> Upstream {
        Upstream { style, limits, skew: 0, outages: Vec::new(), cap: None, in_flight: 0, calls: 0, refused: 0 }
    }

    /// Whether a request would be served, and the smallest share that is left.
    pub(crate) fn has_room(&mut self, tokens: f64, t: f64) -> Option<f64> {
        self.limits.iter_mut().for_each(|limit| limit.roll(t));
        let well = self.fault(t).is_none() && self.limits.iter().all(|limit| limit.has_room(tokens));
        well.then(|| self.limits.iter().map(|limit| limit.left / limit.size).fold(1.0, f64::min))
    }

    /// A request comes. `wall` is the true time.
    pub(crate) fn arrive(&mut self, tokens: f64, t: f64, wall: SystemTime) -> Reply {
        self.calls += 1;
        self.limits.iter_mut().for_each(|limit| limit.roll(t));
        if let Some((fault, until)) = self.fault(t) {
            return self.fail(fault, until - t, wall);
        }
        let short = self.limits.iter().filter(|limit| !limit.has_room(tokens));
        let wait = short.map(|limit| limit.room_in(tokens, t)).fold(0.0, f64::max);
        if wait > 0.0 {
            self.refused += 1;
            let mut headers = self.headers(t, wall);
            headers.insert("retry-after", HeaderValue::from(wait.ceil() as u64));
            return Reply { status: 429, headers, error: None };
        }
        for limit in &mut self.limits {
            limit.left -= limit.amount(tokens);
        }
        Reply { status: 200, headers: self.headers(t, wall), error: None }
    }

    fn fault(&self, t: f64) -> Option<(Fault, f64)> {
        self.outages
            .iter()
            .find(|(from, until, _)| (*from..*until).contains(&t))
            .map(|(_, until, fault)| (*fault, *until))
    }

    fn fail(&self, fault: Fault, wait: f64, wall: SystemTime) -> Reply {
        let error = |code: &str| Some(UpstreamError { code: code.into(), ..UpstreamError::default() });
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let (status, error) = match fault {
            Fault::Broken => (500, None),
            Fault::Overloaded => (529, error("overloaded_error")),
            Fault::KeyRefused => (401, error("invalid_api_key")),
            Fault::QuotaGone => {
                let theirs = self.their_time(wall);
                let reset = theirs + Duration::from_secs_f64(wait);
                let seconds = reset.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 1;
                headers.insert("date", httpdate::fmt_http_date(theirs).parse().unwrap());
                headers.insert("anthropic-ratelimit-unified-status", HeaderValue::from_static("rejected"));
                headers.insert("anthropic-ratelimit-unified-5h-status", HeaderValue::from_static("rejected"));
                headers.insert("anthropic-ratelimit-unified-5h-utilization", HeaderValue::from_static("1.0"));
                headers.insert("anthropic-ratelimit-unified-5h-reset", HeaderValue::from(seconds));
                (429, error("rate_limit_error"))
            }
        };
        Reply { status, headers, error }
    }

    fn their_time(&self, wall: SystemTime) -> SystemTime {
        match u64::try_from(self.skew) {
            Ok(ahead) => wall + Duration::from_secs(ahead),
            Err(_) => wall - Duration::from_secs(self.skew.unsigned_abs()),
        }
    }

    fn headers(&self, t: f64, wall: SystemTime) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let theirs = self.their_time(wall);
        for limit in &self.limits {
            let what = if limit.counts == Counts::Requests { "requests" } else { "tokens" };
            let reset = Duration::from_secs_f64(limit.reset_in(t).max(0.0));
            let (names, reset) = match self.style {
                Style::Silent => continue,
                Style::Anthropic => {
                    let name = |part: &str| format!("anthropic-ratelimit-{what}-{part}");
                    let date = jiff::Timestamp::try_from(theirs + reset).unwrap().round(jiff::Unit::Second).unwrap();
                    ([name("limit"), name("remaining"), name("reset")], date.to_string())
                }
                Style::Openai => {
                    let name = |part: &str| format!("x-ratelimit-{part}-{what}");
                    ([name("limit"), name("remaining"), name("reset")], format!("{}ms", reset.as_millis()))
                }
            };
            let values = [(limit.size as u64).to_string(), (limit.left as u64).to_string(), reset];
            for (name, value) in names.iter().zip(values) {
                headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
        }
        if self.style == Style::Anthropic {
            headers.insert("date", httpdate::fmt_http_date(theirs).parse().unwrap());
        }
        headers
    }
}
