//! Faults that put something else in the place of an answer: errors of every kind, odd 200s, silence, resets.

use super::{
    fault::{Instead, RetryHint},
    refusal::{Dialect, Refusal},
    reply::{Framing, Head, Reply, Step},
    write,
};
use crate::clock::Moment;
use std::time::{Duration, SystemTime};

/// What an error reply is made with.
pub(super) struct Setting<'a> {
    pub(super) dialect: Dialect,
    pub(super) azure: bool,
    /// Whether errors come in a JSON array (Gemini's stream without `alt=sse`).
    pub(super) array: bool,
    pub(super) path: &'a str,
    pub(super) request_id: &'a str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) now: Moment,
}

const HTML: &str = "<html><head><title>503 Service Temporarily Unavailable</title></head><body><center><h1>503 Service \
                    Temporarily Unavailable</h1></center><hr><center>cloudflare</center></body></html>";

impl Setting<'_> {
    /// The provider's error reply.
    pub(super) fn refuse(&self, refusal: &Refusal) -> Reply {
        self.refuse_with(refusal, Vec::new())
    }

    fn refuse_with(&self, refusal: &Refusal, more: Vec<(&'static str, String)>) -> Reply {
        let managed = self.azure && matches!(refusal.status, 401 | 404);
        let body = if managed { refusal.azure_body() } else { refusal.body(self.dialect, self.request_id) };
        let body = if self.array { format!("[{body}]") } else { body };
        self.reply(refusal.status, "application/json", body, more)
    }

    fn reply(&self, status: u16, content_type: &str, body: String, more: Vec<(&'static str, String)>) -> Reply {
        let mut headers = self.headers.clone();
        headers.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        headers.extend(more);
        headers.push(("content-type", content_type.to_owned()));
        Reply::whole(status, headers, body)
    }

    /// The reply of this fault; none for a fault that only delays.
    pub(super) fn fault(&self, fault: Instead, argument: Option<u64>) -> Option<Reply> {
        let reply = match fault {
            Instead::Status(status) => self.status(status, argument),
            Instead::RateLimit(hint) => self.rate_limit(hint, argument),
            Instead::Quota => self.refuse(&self.quota()),
            Instead::RawRateLimit => {
                self.reply(429, "text/plain", "slow down\n".into(), vec![("retry-after", "1".into())])
            }
            Instead::Credit => self.refuse(&self.credit()),
            Instead::BadKey => self.refuse(&self.bad_key()),
            Instead::ContextTooLong => self.refuse(&self.too_long()),
            Instead::Html(status) => self.html(status),
            Instead::Empty => self.reply(200, "application/json", String::new(), Vec::new()),
            Instead::ErrorBody => {
                let body = write::failure(self.dialect).body(self.dialect, self.request_id);
                self.reply(200, "application/json", body, Vec::new())
            }
            Instead::Redirect => {
                let location = format!("{}?r=1", self.path);
                self.reply(307, "application/json", String::new(), vec![("location", location)])
            }
            Instead::ResetHead => Reply::of([Step::Reset]),
            Instead::Close => Reply::of([Step::Close]),
            Instead::StallHead => Reply::of([Step::Pause(Duration::from_secs(argument.unwrap_or(600))), Step::Close]),
            Instead::Slow => return None,
        };
        Some(reply)
    }

    fn status(&self, status: u16, argument: Option<u64>) -> Reply {
        let message = match status {
            400 => "Mock invalid request.".to_owned(),
            401 => "Mock: invalid credentials.".to_owned(),
            529 => "Overloaded".to_owned(),
            other => format!("Mock error {other}."),
        };
        let mut more: Vec<(&'static str, String)> =
            argument.map(|s| ("retry-after", s.to_string())).into_iter().collect();
        if status == 529 {
            more.push(("x-should-retry", "true".into()));
        }
        self.refuse_with(&Refusal::new(status, message), more)
    }

    fn html(&self, status: u16) -> Reply {
        let headers =
            vec![("server", "cloudflare".to_owned()), ("content-type", "text/html; charset=UTF-8".to_owned())];
        let body = if status == 502 {
            HTML.replace("503 Service Temporarily Unavailable", "502 Bad Gateway")
        } else {
            HTML.into()
        };
        let framing = Framing::Length(body.len() as u64);
        Reply::of([Step::Head(Head { status, headers, framing }), Step::Data(body.into(), 0)])
    }

    fn rate_limit(&self, hint: RetryHint, argument: Option<u64>) -> Reply {
        let openai = self.dialect.is_openai();
        let mut refusal = Refusal::new(429, "Rate limit reached. This is a mock.");
        refusal.code = openai.then_some("rate_limit_exceeded");
        let seconds = |default| argument.unwrap_or(default);
        let more = match hint {
            RetryHint::Seconds => {
                let seconds = seconds(1);
                refusal.retry_seconds = Some(seconds);
                let millis = openai.then(|| ("retry-after-ms", (seconds * 1000).to_string()));
                [Some(("retry-after", seconds.to_string())), millis].into_iter().flatten().collect()
            }
            RetryHint::Millis => vec![("retry-after-ms", seconds(700).to_string())],
            RetryHint::Date => {
                let then = self.now.wall + Duration::from_secs(seconds(2));
                vec![("retry-after", httpdate::fmt_http_date(then))]
            }
            RetryHint::ResetHeaders => {
                refusal.retry_seconds = Some(seconds(2));
                self.reset_headers(seconds(2))
            }
            RetryHint::Nothing => Vec::new(),
        };
        self.refuse_with(&refusal, more)
    }

    fn reset_headers(&self, seconds: u64) -> Vec<(&'static str, String)> {
        match self.dialect {
            Dialect::Gemini => Vec::new(),
            Dialect::Chat | Dialect::Responses => vec![
                ("x-ratelimit-remaining-requests", "0".into()),
                ("x-ratelimit-reset-requests", format!("{seconds}s")),
                ("x-ratelimit-remaining-tokens", "0".into()),
                ("x-ratelimit-reset-tokens", format!("{}ms", seconds * 1000)),
            ],
            Dialect::Anthropic => vec![
                ("anthropic-ratelimit-requests-remaining", "0".into()),
                ("anthropic-ratelimit-requests-reset", rfc3339(self.now.wall + Duration::from_secs(seconds))),
            ],
        }
    }

    fn quota(&self) -> Refusal {
        let message = "You exceeded your current quota, please check your plan and billing details.";
        let refusal = Refusal::new(429, message);
        if self.dialect.is_openai() { refusal.code("insufficient_quota").kind("insufficient_quota") } else { refusal }
    }

    fn credit(&self) -> Refusal {
        match self.dialect {
            Dialect::Chat | Dialect::Responses => self.quota(),
            Dialect::Anthropic => Refusal::bad(
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or \
                 purchase credits.",
            ),
            Dialect::Gemini => Refusal::new(
                429,
                "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing.",
            ),
        }
    }

    fn bad_key(&self) -> Refusal {
        match self.dialect {
            Dialect::Chat | Dialect::Responses => {
                Refusal::new(401, "Incorrect API key provided: sk-mo***.").code("invalid_api_key")
            }
            Dialect::Anthropic => Refusal::new(401, "invalid x-api-key"),
            Dialect::Gemini => Refusal::bad("API key not valid. Please pass a valid API key.").code("API_KEY_INVALID"),
        }
    }

    fn too_long(&self) -> Refusal {
        match self.dialect {
            Dialect::Chat | Dialect::Responses => Refusal::bad(
                "This model's maximum context length is 128000 tokens. However, your messages resulted in 210000 tokens. \
                 Please reduce the length of the messages.",
            )
            .code("context_length_exceeded"),
            Dialect::Anthropic => Refusal::bad("prompt is too long: 210000 tokens > 200000 maximum"),
            Dialect::Gemini => Refusal::bad(
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            ),
        }
    }
}

/// A moment as Anthropic's reset headers write it, to the second.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years that all have the same length.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Clock, mock::fault::Effect, mock::fault::Fault};

    fn reply(dialect: Dialect, selector: &str) -> Reply {
        let headers = vec![("x-ratelimit-remaining-requests", "99".to_owned())];
        let now = Clock::System.now();
        let setting = Setting { dialect, azure: false, array: false, path: "/p", request_id: "r", headers, now };
        let fault = Fault::named(selector).unwrap();
        let Effect::Instead(instead) = fault.info.effect else { panic!("{selector}") };
        setting.fault(instead, fault.argument).unwrap()
    }

    fn head(reply: &Reply) -> &Head {
        match reply.steps.first() {
            Some(Step::Head(head)) => head,
            other => panic!("{other:?}"),
        }
    }

    fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
        head(reply).headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_rate_limit_can_tell_its_end_in_every_way() {
        assert_eq!(header(&reply(Dialect::Chat, "429-7"), "retry-after"), Some("7"));
        assert_eq!(header(&reply(Dialect::Chat, "429-7"), "retry-after-ms"), Some("7000"));
        assert_eq!(header(&reply(Dialect::Chat, "429ms"), "retry-after"), None);
        assert_eq!(header(&reply(Dialect::Chat, "429reset"), "x-ratelimit-remaining-requests"), Some("0"));
        assert!(header(&reply(Dialect::Anthropic, "429reset"), "anthropic-ratelimit-requests-reset").is_some());
        assert!(header(&reply(Dialect::Chat, "429date"), "retry-after").is_some_and(|date| date.ends_with("GMT")));
        assert_eq!(header(&reply(Dialect::Anthropic, "429bare"), "retry-after"), None);
    }

    #[test]
    fn statuses_and_broken_connections_are_what_they_are_called() {
        for (selector, status) in
            [("400", 400), ("402", 402), ("529", 529), ("503html", 503), ("502", 502), ("ctxlen", 400)]
        {
            assert_eq!(reply(Dialect::Anthropic, selector).status(), Some(status), "{selector}");
        }
        assert_eq!(reply(Dialect::Chat, "resethead").steps, [Step::Reset]);
        assert_eq!(reply(Dialect::Chat, "close").steps, [Step::Close]);
        assert_eq!(reply(Dialect::Gemini, "badkey").status(), Some(400));
        assert_eq!(reply(Dialect::Chat, "badkey").status(), Some(401));
    }

    #[test]
    fn dates_are_right() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_400_000), "2026-11-23T02:13:20Z");
    }
}
