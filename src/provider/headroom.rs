//! Reads what a reply says about how much of the account's limits is left.
//!
//! Pure; `now` is an argument. What cannot be read says nothing; nothing is guessed here. Sources: OpenAI, Groq, Cerebras,
//! Fireworks, xAI, Azure, OpenRouter (`x-ratelimit-{limit,remaining,reset}[-window]`), Anthropic
//! (`anthropic-ratelimit-window-{limit,remaining,reset}`, and the windows of subscriptions,
//! `anthropic-ratelimit-unified-window-{utilization,status,reset}`).

use super::hint;
use crate::clock::Moment;
use http::HeaderMap;
use std::time::Duration;

/// What a window counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// Requests; of a minute, mostly.
    Requests,
    /// Requests of a day.
    RequestsPerDay,
    /// All tokens together.
    Tokens,
    /// All tokens of a day.
    TokensPerDay,
    /// Input tokens.
    InputTokens,
    /// Output tokens.
    OutputTokens,
    /// The five hours of a subscription.
    FiveHours,
    /// The week of a subscription.
    Week,
    /// The week of a subscription, for a family of models.
    ModelWeek,
}

/// How many kinds of windows there are.
pub const WINDOW_KINDS: usize = 9;

impl WindowKind {
    /// All kinds.
    pub const ALL: [WindowKind; WINDOW_KINDS] = [
        WindowKind::Requests,
        WindowKind::RequestsPerDay,
        WindowKind::Tokens,
        WindowKind::TokensPerDay,
        WindowKind::InputTokens,
        WindowKind::OutputTokens,
        WindowKind::FiveHours,
        WindowKind::Week,
        WindowKind::ModelWeek,
    ];

    /// The name in explanations and metrics.
    pub fn name(self) -> &'static str {
        match self {
            WindowKind::Requests => "requests",
            WindowKind::RequestsPerDay => "requests_per_day",
            WindowKind::Tokens => "tokens",
            WindowKind::TokensPerDay => "tokens_per_day",
            WindowKind::InputTokens => "input_tokens",
            WindowKind::OutputTokens => "output_tokens",
            WindowKind::FiveHours => "5h",
            WindowKind::Week => "week",
            WindowKind::ModelWeek => "model_week",
        }
    }

    /// Whether it is told as a share only, in ten-thousandths.
    pub fn is_share(self) -> bool {
        match self {
            WindowKind::FiveHours | WindowKind::Week | WindowKind::ModelWeek => true,
            WindowKind::Requests
            | WindowKind::RequestsPerDay
            | WindowKind::Tokens
            | WindowKind::TokensPerDay
            | WindowKind::InputTokens
            | WindowKind::OutputTokens => false,
        }
    }

    /// Whether it holds for all models of the account together. Others are kept for each model.
    pub fn is_shared(self) -> bool {
        matches!(self, WindowKind::FiveHours | WindowKind::Week)
    }

    /// Its place in [`WindowKind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    fn of(name: &str) -> Option<WindowKind> {
        Some(match name {
            "" | "requests" | "requests-minute" => WindowKind::Requests,
            "requests-day" => WindowKind::RequestsPerDay,
            "tokens" | "tokens-minute" => WindowKind::Tokens,
            "tokens-day" => WindowKind::TokensPerDay,
            "input-tokens" | "tokens-prompt" => WindowKind::InputTokens,
            "output-tokens" | "tokens-generated" => WindowKind::OutputTokens,
            _ => return None,
        })
    }

    fn of_subscription(name: &str) -> Option<WindowKind> {
        match name {
            "5h" => Some(WindowKind::FiveHours),
            "7d" => Some(WindowKind::Week),
            _ => name.starts_with("7d_").then_some(WindowKind::ModelWeek),
        }
    }
}

/// One window as a reply tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// What it counts.
    pub kind: WindowKind,
    /// What it holds when it is whole, if that is told; for a share ten thousand.
    pub limit: Option<u64>,
    /// What is left of it, at most the limit.
    pub left: u64,
    /// How long until it is whole again, if that is told.
    pub reset: Option<Duration>,
}

/// All windows that a reply tells, one of a kind at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headroom {
    windows: [Option<Reported>; WINDOW_KINDS],
}

impl Headroom {
    /// The windows of these headers.
    pub fn read(headers: &HeaderMap, now: Moment) -> Headroom {
        let mut drafts = Drafts::default();
        for (name, value) in headers {
            drafts.take(name.as_str(), value);
        }
        if !drafts.is_any {
            return Headroom::default();
        }
        let now = hint::by_their_clock(headers, now);
        Headroom { windows: WindowKind::ALL.map(|kind| drafts.window(kind, now)) }
    }

    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        self.windows.iter().all(Option::is_none)
    }

    /// The windows.
    pub fn windows(&self) -> impl Iterator<Item = &Reported> {
        self.windows.iter().flatten()
    }
}

/// The size of a window that is told as a share.
pub const WHOLE_SHARE: u64 = 10_000;

/// The headers of one window.
#[derive(Clone, Copy, Default)]
struct Draft<'h> {
    limit: Option<u64>,
    left: Option<u64>,
    reset: Option<&'h str>,
    used_share: Option<f64>,
    is_rejected: bool,
}

#[derive(Default)]
struct Drafts<'h> {
    drafts: [Draft<'h>; WINDOW_KINDS],
    is_any: bool,
    /// Whether the subscription as a whole refuses.
    refuses: bool,
}

impl<'h> Drafts<'h> {
    fn take(&mut self, name: &str, value: &'h http::HeaderValue) {
        let Some((kind, part)) = part_of(name) else {
            self.refuses |= name == "anthropic-ratelimit-unified-status" && value.as_bytes() == b"rejected";
            return;
        };
        let (Some(draft), Ok(text)) = (self.drafts.get_mut(kind.index()), value.to_str()) else { return };
        let text = text.trim();
        match part {
            "limit" => draft.limit = amount(text),
            "remaining" => draft.left = amount(text),
            "reset" => draft.reset = Some(text),
            "utilization" => draft.used_share = text.parse().ok().filter(|share: &f64| share.is_finite()),
            "status" => draft.is_rejected = text == "rejected",
            _ => return,
        }
        self.is_any = true;
    }

    fn window(&self, kind: WindowKind, now: Moment) -> Option<Reported> {
        let draft = self.drafts.get(kind.index())?;
        let reset = draft.reset.and_then(|text| hint::wait_until(text, now)).map(|wait| wait.min(hint::LONGEST));
        if kind.is_share() {
            let used = draft.used_share.map(|share| (share.clamp(0.0, 1.0) * WHOLE_SHARE as f64) as u64);
            let left = match used {
                // A window that is used up and served nevertheless (on extra credit) has a last bit left.
                Some(used) if !(draft.is_rejected && self.refuses) => (WHOLE_SHARE - used).max(1),
                Some(_) => 0,
                None if draft.is_rejected && self.refuses => 0,
                None => return None,
            };
            return Some(Reported { kind, limit: Some(WHOLE_SHARE), left, reset });
        }
        let limit = draft.limit.filter(|limit| *limit > 0);
        let left = draft.left?;
        // A limit of nothing is how some say that there is none.
        if draft.limit == Some(0) {
            return None;
        }
        Some(Reported { kind, limit, left: limit.map_or(left, |limit| left.min(limit)), reset })
    }
}

/// `x-ratelimit-remaining-tokens` → the tokens' `remaining`; `anthropic-ratelimit-tokens-remaining` → the same.
fn part_of(name: &str) -> Option<(WindowKind, &str)> {
    if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
        return match rest.strip_prefix("unified-") {
            Some(rest) => rest.rsplit_once('-').and_then(|(w, part)| Some((WindowKind::of_subscription(w)?, part))),
            None => rest.rsplit_once('-').and_then(|(w, part)| Some((WindowKind::of(w)?, part))),
        };
    }
    let rest = name.strip_prefix("x-").unwrap_or(name).strip_prefix("ratelimit-")?;
    let (part, window) = rest.split_once('-').unwrap_or((rest, ""));
    Some((WindowKind::of(window)?, part))
}

/// A count; some providers write it with decimals. A negative one is how some say that they do not know.
fn amount(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        (number.is_finite() && number >= 0.0).then_some(number as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use proptest::prelude::*;
    use std::time::SystemTime;

    /// 2026-01-01T00:00:00Z.
    const NEW_YEAR: u64 = 1_767_225_600;

    fn now() -> Moment {
        Moment { wall: SystemTime::UNIX_EPOCH + Duration::from_secs(NEW_YEAR), ..ManualClock::new().now() }
    }

    fn read(pairs: &[(&'static str, &str)]) -> Vec<(WindowKind, Option<u64>, u64, Option<u64>)> {
        let headers =
            pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap())).collect::<HeaderMap>();
        let headroom = Headroom::read(&headers, now());
        headroom.windows().map(|w| (w.kind, w.limit, w.left, w.reset.map(|r| r.as_millis() as u64))).collect()
    }

    #[test]
    fn openai_tells_requests_and_tokens_with_spans() {
        let told = [
            ("x-ratelimit-limit-requests", "5000"),
            ("x-ratelimit-limit-tokens", "160000"),
            ("x-ratelimit-remaining-requests", "4999"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-requests", "12ms"),
            ("x-ratelimit-reset-tokens", "6m0.5s"),
        ];
        let expected = [
            (WindowKind::Requests, Some(5000), 4999, Some(12)),
            (WindowKind::Tokens, Some(160_000), 149_984, Some(360_500)),
        ];
        assert_eq!(read(&told), expected);
    }

    #[test]
    fn every_way_of_writing_a_reset_is_read() {
        for (text, expected) in [
            ("2ms", Some(2)),
            ("1.5s", Some(1_500)),
            ("6m0.5s", Some(360_500)),
            ("59", Some(59_000)),
            ("59.70", Some(59_700)),
            ("1767225660000", Some(60_000)),
            ("1767225660", Some(60_000)),
            ("2026-01-01T00:00:12Z", Some(12_000)),
            ("0s", None),
            ("soon", None),
        ] {
            let told = [("x-ratelimit-remaining-requests", "3"), ("x-ratelimit-reset-requests", text)];
            assert_eq!(read(&told), [(WindowKind::Requests, None, 3, expected)], "{text}");
        }
    }

    #[test]
    fn anthropic_tells_four_windows_with_dates() {
        let told = [
            ("anthropic-ratelimit-requests-limit", "4000"),
            ("anthropic-ratelimit-requests-remaining", "3999"),
            ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:01Z"),
            ("anthropic-ratelimit-input-tokens-limit", "2000000"),
            ("anthropic-ratelimit-input-tokens-remaining", "1999000"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-01-01T00:00:03Z"),
            ("anthropic-ratelimit-output-tokens-limit", "400000"),
            ("anthropic-ratelimit-output-tokens-remaining", "400000"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-01-01T00:00:00Z"),
            ("anthropic-ratelimit-tokens-limit", "2400000"),
            ("anthropic-ratelimit-tokens-remaining", "2399000"),
        ];
        let expected = [
            (WindowKind::Requests, Some(4000), 3999, Some(1_000)),
            (WindowKind::Tokens, Some(2_400_000), 2_399_000, None),
            (WindowKind::InputTokens, Some(2_000_000), 1_999_000, Some(3_000)),
            (WindowKind::OutputTokens, Some(400_000), 400_000, None),
        ];
        assert_eq!(read(&told), expected);
    }

    #[test]
    fn a_subscription_tells_shares_of_its_windows() {
        let told = [
            ("anthropic-ratelimit-unified-status", "allowed"),
            ("anthropic-ratelimit-unified-reset", "1767229200"),
            ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
            ("anthropic-ratelimit-unified-5h-status", "allowed"),
            ("anthropic-ratelimit-unified-5h-utilization", "0.42"),
            ("anthropic-ratelimit-unified-5h-reset", "1767229200"),
            ("anthropic-ratelimit-unified-7d-status", "rejected"),
            ("anthropic-ratelimit-unified-7d-utilization", "1.03"),
            ("anthropic-ratelimit-unified-7d-reset", "1767312000"),
            ("anthropic-ratelimit-unified-7d_opus-utilization", "0.9"),
            ("anthropic-ratelimit-unified-fallback-percentage", "0.5"),
        ];
        let expected = |week| {
            [
                (WindowKind::FiveHours, Some(10_000), 5_800, Some(3_600_000)),
                (WindowKind::Week, Some(10_000), week, Some(86_400_000)),
                (WindowKind::ModelWeek, Some(10_000), 1_000, None),
            ]
        };
        assert_eq!(read(&told), expected(1), "it serves nevertheless");
        let mut refused = told;
        refused[0].1 = "rejected";
        assert_eq!(read(&refused), expected(0));
    }

    #[test]
    fn the_windows_of_smaller_providers_have_their_kind() {
        for (name, kind) in [
            ("x-ratelimit-remaining", WindowKind::Requests),
            ("ratelimit-remaining", WindowKind::Requests),
            ("x-ratelimit-remaining-requests-day", WindowKind::RequestsPerDay),
            ("x-ratelimit-remaining-tokens-minute", WindowKind::Tokens),
            ("x-ratelimit-remaining-tokens-prompt", WindowKind::InputTokens),
            ("x-ratelimit-remaining-tokens-generated", WindowKind::OutputTokens),
        ] {
            assert_eq!(read(&[(name, "7.0")]), [(kind, None, 7, None)], "{name}");
        }
    }

    #[test]
    fn a_provider_whose_clock_is_wrong_is_read_by_its_own_clock() {
        let told = [
            ("date", "Thu, 01 Jan 2026 03:00:00 GMT"),
            ("anthropic-ratelimit-requests-remaining", "1"),
            ("anthropic-ratelimit-requests-reset", "2026-01-01T03:00:30Z"),
        ];
        assert_eq!(read(&told), [(WindowKind::Requests, None, 1, Some(30_000))]);
    }

    #[test]
    fn what_says_nothing_is_no_window() {
        for (name, value) in [
            ("x-ratelimit-limit-requests", "10"),
            ("x-ratelimit-remaining-requests", "-1"),
            ("x-ratelimit-remaining-requests", "many"),
            ("x-ratelimit-remaining-project-tokens", "5"),
            ("anthropic-ratelimit-unified-5h-status", "allowed"),
            ("retry-after", "5"),
        ] {
            assert_eq!(read(&[(name, value)]), [], "{name}: {value}");
        }
        assert_eq!(read(&[("x-ratelimit-limit-tokens", "0"), ("x-ratelimit-remaining-tokens", "0")]), []);
    }

    #[test]
    fn every_kind_is_found_at_its_index() {
        assert!(WindowKind::ALL.iter().enumerate().all(|(at, kind)| kind.index() == at));
    }

    proptest! {
        #[test]
        fn no_header_text_panics_and_nothing_left_passes_its_limit(limit in "[ -~]{0,24}", left in "[ -~]{0,24}", number in any::<f64>()) {
            let mut headers = HeaderMap::new();
            for (name, text) in [
                ("x-ratelimit-limit-requests", &limit),
                ("x-ratelimit-remaining-requests", &left),
                ("x-ratelimit-reset-requests", &limit),
                ("x-ratelimit-limit-tokens", &number.to_string()),
                ("x-ratelimit-remaining-tokens", &left),
                ("anthropic-ratelimit-unified-5h-utilization", &number.to_string()),
                ("anthropic-ratelimit-unified-5h-reset", &left),
            ] {
                let Ok(value) = text.parse() else { continue };
                headers.insert(name, value);
            }
            for window in Headroom::read(&headers, now()).windows() {
                prop_assert!(window.limit.is_none_or(|limit| limit > 0 && window.left <= limit));
                prop_assert!(window.reset.is_none_or(|reset| !reset.is_zero() && reset <= hint::LONGEST));
            }
        }
    }
}
