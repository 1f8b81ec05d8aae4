//! What is known of models by their names, where a format's providers differ from model to model.
//!
//! A table of habits, not of models: an unknown name gets what the newest models of its format take.

use super::request::Level;

/// The version in a model's name: its first one or two numbers, dates left out.
fn version(model: &str) -> (u64, u64) {
    let mut numbers = model
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty() && digits.len() <= 2)
        .filter_map(|digits| digits.parse::<u64>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// What a Claude model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claude {
    /// Whether the name is one of Anthropic's, so that the facts are facts.
    pub(crate) is_known: bool,
    /// The most output tokens that may be asked for.
    pub(crate) max_output: u64,
    /// Can think at all.
    pub(crate) thinks: bool,
    /// Thinks by itself (`adaptive` and an effort) instead of by a budget.
    pub(crate) adaptive: bool,
    /// Takes temperature, top_p and top_k.
    pub(crate) sampling: bool,
    /// Takes temperature and top_p together.
    pub(crate) both_sampling: bool,
    /// Has `output_config.format`.
    pub(crate) structured: bool,
    /// Continues a last assistant turn.
    pub(crate) prefill: bool,
    /// Takes system turns in the middle.
    pub(crate) mid_system: bool,
    /// Takes the efforts beyond `high`.
    pub(crate) xhigh: bool,
}

/// What the Claude model of this name takes; other names behind the format get what is widely taken.
pub(crate) fn claude(model: &str) -> Claude {
    let name = model.to_ascii_lowercase();
    let Some(at) = name.find("claude") else {
        return Claude {
            is_known: false,
            max_output: 8192,
            thinks: true,
            adaptive: false,
            sampling: true,
            both_sampling: true,
            structured: true,
            prefill: true,
            mid_system: false,
            xhigh: false,
        };
    };
    let at_least = version(name.get(at..).unwrap_or_default());
    let opus = name.contains("opus");
    let max_output = match at_least {
        (0..=2, _) => 4096,
        (3, 0..=4) => 4096,
        (3, 5..=6) => 8192,
        (3, _) => 64_000,
        (4, 0..=1) if opus => 32_000,
        (4, 0..=5) => 64_000,
        (4, _) if !opus => 64_000,
        _ => 128_000,
    };
    Claude {
        is_known: true,
        max_output,
        thinks: at_least >= (3, 7),
        adaptive: at_least >= (4, 6),
        sampling: at_least < (5, 0) && !(opus && at_least >= (4, 7)),
        both_sampling: at_least < (4, 1),
        structured: at_least >= (4, 5) || (opus && at_least >= (4, 1)),
        prefill: at_least < (4, 6),
        mid_system: at_least >= (5, 0) || (opus && at_least >= (4, 8)),
        xhigh: at_least >= (4, 7),
    }
}

/// Whether an OpenAI model reasons, and so refuses sampling parameters.
pub(crate) fn is_openai_reasoning(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let o_series = name.strip_prefix('o').and_then(|n| n.chars().next()).is_some_and(|c| c.is_ascii_digit());
    let gpt = name.strip_prefix("gpt-").is_some_and(|rest| version(rest).0 >= 5 && !rest.contains("chat"));
    o_series || gpt
}

/// The word for an effort that an OpenAI model takes; `None` where leaving it out comes nearest.
pub(crate) fn openai_effort(model: &str, level: Level, compatible: bool) -> Option<&'static str> {
    if compatible {
        return match level {
            Level::None => None,
            Level::Minimal | Level::Low => Some("low"),
            Level::Medium => Some("medium"),
            Level::High | Level::Xhigh | Level::Max => Some("high"),
        };
    }
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let gpt = name.strip_prefix("gpt-").map_or((0, 0), version);
    Some(match level {
        Level::None if gpt >= (5, 1) => "none",
        Level::None | Level::Minimal if gpt == (5, 0) => "minimal",
        Level::None | Level::Minimal | Level::Low => "low",
        Level::Medium => "medium",
        Level::Xhigh | Level::Max if gpt >= (5, 2) => "xhigh",
        Level::High | Level::Xhigh | Level::Max => "high",
    })
}

/// Whether a Gemini model takes thinking levels and wants its signatures back: from 3 on.
pub(crate) fn is_gemini_3(model: &str) -> bool {
    let name = model.to_ascii_lowercase();
    name.find("gemini").is_some_and(|at| version(name.get(at..).unwrap_or_default()).0 >= 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_version_with_and_without_dates() {
        assert_eq!(claude("claude-3-5-sonnet-20241022").max_output, 8192);
        assert_eq!(claude("claude-sonnet-4-20250514").max_output, 64_000);
        assert_eq!(claude("claude-opus-4-1-20250805").max_output, 32_000);
        assert!(!claude("anthropic/claude-sonnet-4-5").adaptive);
        assert!(claude("claude-opus-5-5").adaptive && !claude("claude-opus-5-5").prefill);
        assert!(is_gemini_3("gemini-3-flash-preview") && !is_gemini_3("models/gemini-2.5-pro"));
        assert!(is_openai_reasoning("o3-mini") && is_openai_reasoning("gpt-5.1") && !is_openai_reasoning("gpt-4o"));
        assert!(!is_openai_reasoning("gpt-5-chat-latest") && !is_openai_reasoning("openchat"));
    }
}
