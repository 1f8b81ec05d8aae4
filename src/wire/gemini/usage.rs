//! Usage as Google writes it.

use crate::wire::{
    Usage,
    lenient::{Count, facts},
};

facts! {
    /// A `usageMetadata` object.
    pub(super) struct UsageMetadata {
        b"promptTokenCount" => pub(super) prompt_token_count: Count,
        b"toolUsePromptTokenCount" => pub(super) tool_use_prompt_token_count: Count,
        b"cachedContentTokenCount" => pub(super) cached_content_token_count: Count,
        b"candidatesTokenCount" => pub(super) candidates_token_count: Count,
        b"thoughtsTokenCount" => pub(super) thoughts_token_count: Count,
    }
}

impl UsageMetadata {
    /// The counts without overlap.
    pub(super) fn counts(&self) -> Usage {
        let sum = |a: Count, b: Count| match (a.0, b.0) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        let input = sum(self.prompt_token_count, self.tool_use_prompt_token_count);
        Usage {
            // What was cached is a part of the prompt's count.
            input: input.map(|all| all.saturating_sub(self.cached_content_token_count.0.unwrap_or(0))),
            cache_read: self.cached_content_token_count.0,
            output: sum(self.candidates_token_count, self.thoughts_token_count),
            reasoning: self.thoughts_token_count.0,
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(json: &str) -> Usage {
        serde_json::from_str::<UsageMetadata>(json).unwrap().counts()
    }

    #[test]
    fn thoughts_are_output_and_tool_prompts_are_input() {
        let usage = counts(
            r#"{"promptTokenCount":440,"toolUsePromptTokenCount":86,"candidatesTokenCount":10,"thoughtsTokenCount":27,"totalTokenCount":563}"#,
        );
        assert_eq!(usage, Usage { input: Some(526), output: Some(37), reasoning: Some(27), ..Usage::default() });
    }

    #[test]
    fn cached_tokens_are_taken_out_of_the_prompt() {
        let usage = counts(r#"{"promptTokenCount":1344,"cachedContentTokenCount":1274,"candidatesTokenCount":5}"#);
        assert_eq!((usage.input, usage.cache_read, usage.output), (Some(70), Some(1274), Some(5)));
    }

    #[test]
    fn what_google_leaves_out_was_not_said() {
        assert_eq!(
            counts(r#"{"promptTokenCount":8,"totalTokenCount":8}"#),
            Usage { input: Some(8), ..Usage::default() }
        );
        assert!(counts(r#"{"trafficType":"ON_DEMAND"}"#).is_empty());
    }
}
