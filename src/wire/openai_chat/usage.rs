//! Usage as OpenAI and all that imitate it write it, under either set of names.
//!
//! `prompt_tokens`/`completion_tokens` (chat, completions, embeddings) and `input_tokens`/`output_tokens` (Responses,
//! images, transcriptions) mean the same: both include what was cached and what was reasoned.

use crate::wire::{
    Usage,
    lenient::{Count, Maybe, facts},
};

facts! {
    /// A `usage` object.
    #[derive(Clone)]
    pub(crate) struct UsageObject {
        b"prompt_tokens" => prompt_tokens: Count,
        b"input_tokens" => input_tokens: Count,
        b"completion_tokens" => completion_tokens: Count,
        b"output_tokens" => output_tokens: Count,
        b"total_tokens" => total_tokens: Count,
        b"prompt_tokens_details" => prompt_tokens_details: Maybe<InputDetails>,
        b"input_tokens_details" => input_tokens_details: Maybe<InputDetails>,
        b"completion_tokens_details" => completion_tokens_details: Maybe<OutputDetails>,
        b"output_tokens_details" => output_tokens_details: Maybe<OutputDetails>,
        /// Moonshot, Together, Hugging Face.
        b"cached_tokens" => cached_tokens: Count,
        /// Mistral.
        b"num_cached_tokens" => num_cached_tokens: Count,
        /// DeepSeek.
        b"prompt_cache_hit_tokens" => prompt_cache_hit_tokens: Count,
        /// xAI.
        b"num_server_side_tools_used" => num_server_side_tools_used: Count,
        /// OpenRouter.
        b"server_tool_use_details" => server_tool_use_details: Maybe<ServerTools>,
    }
}

facts! {
    #[derive(Clone)]
    struct InputDetails {
        b"cached_tokens" => cached_tokens: Count,
        b"cache_write_tokens" => cache_write_tokens: Count,
    }
}

facts! {
    #[derive(Clone)]
    struct OutputDetails {
        b"reasoning_tokens" => reasoning_tokens: Count,
    }
}

facts! {
    #[derive(Clone)]
    struct ServerTools {
        b"web_search_requests" => web_search_requests: Count,
    }
}

impl UsageObject {
    /// The counts without overlap.
    pub(crate) fn counts(&self) -> Usage {
        let details = self.prompt_tokens_details.0.as_ref().or(self.input_tokens_details.0.as_ref());
        let cache_read = details
            .and_then(|d| d.cached_tokens.0)
            .max(self.cached_tokens.0)
            .max(self.num_cached_tokens.0)
            .max(self.prompt_cache_hit_tokens.0);
        let cache_write = details.and_then(|d| d.cache_write_tokens.0);
        let cached = cache_read.unwrap_or(0).saturating_add(cache_write.unwrap_or(0));
        let tools = self.server_tool_use_details.0.as_ref().and_then(|t| t.web_search_requests.0);
        Usage {
            input: self.all_input().map(|all| all.saturating_sub(cached)),
            cache_read,
            cache_write,
            cache_write_1h: None,
            output: self.all_output(),
            reasoning: self.reasoning(),
            server_tools: self.num_server_side_tools_used.0.or(tools),
            images: None,
        }
    }

    /// Input with what was cached. A server that only gives a total (Voyage, Jina) had no output.
    fn all_input(&self) -> Option<u64> {
        self.prompt_tokens.0.or(self.input_tokens.0).or(match self.named_output() {
            None => self.total_tokens.0,
            Some(output) => self.total_tokens.0.map(|total| total.saturating_sub(output)),
        })
    }

    /// Output with what was reasoned. xAI and Google's OpenAI endpoint leave the reasoning out of their output count, but
    /// not out of the total: what is missing to the total was produced, and is billed, too.
    fn all_output(&self) -> Option<u64> {
        let named = self.named_output()?;
        let by_total = self.total_tokens.0.zip(self.prompt_tokens.0.or(self.input_tokens.0));
        Some(named.max(by_total.map_or(0, |(total, input)| total.saturating_sub(input))))
    }

    fn named_output(&self) -> Option<u64> {
        self.completion_tokens.0.or(self.output_tokens.0)
    }

    fn reasoning(&self) -> Option<u64> {
        let details = self.completion_tokens_details.0.as_ref().or(self.output_tokens_details.0.as_ref());
        details.and_then(|d| d.reasoning_tokens.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(json: &str) -> Usage {
        serde_json::from_str::<UsageObject>(json).unwrap().counts()
    }

    #[test]
    fn cached_tokens_are_taken_out_of_the_input() {
        let usage = counts(
            r#"{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,"prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":10},"completion_tokens_details":{"reasoning_tokens":15}}"#,
        );
        let expected = Usage {
            input: Some(30),
            cache_read: Some(60),
            cache_write: Some(10),
            output: Some(20),
            reasoning: Some(15),
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        assert_eq!(usage.total_input(), 100);
        let responses = counts(
            r#"{"input_tokens":100,"input_tokens_details":{"cached_tokens":60,"cache_write_tokens":10},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":15},"total_tokens":120}"#,
        );
        assert_eq!(responses, expected);
    }

    #[test]
    fn more_cached_than_input_leaves_no_fresh_input() {
        assert_eq!(counts(r#"{"prompt_tokens":347,"prompt_tokens_details":{"cached_tokens":403}}"#).input, Some(0));
    }

    #[test]
    fn reasoning_that_is_missing_from_the_output_is_found_in_the_total() {
        let xai = counts(
            r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":303,"completion_tokens_details":{"reasoning_tokens":290}}"#,
        );
        assert_eq!((xai.output, xai.reasoning), (Some(291), Some(290)));
        let openai = counts(
            r#"{"prompt_tokens":12,"completion_tokens":300,"total_tokens":312,"completion_tokens_details":{"reasoning_tokens":290}}"#,
        );
        assert_eq!(openai.output, Some(300));
    }

    #[test]
    fn vendors_own_names_for_cached_tokens_are_understood() {
        for name in ["cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens"] {
            let usage =
                counts(&format!(r#"{{"prompt_tokens":50,"{name}":20,"prompt_tokens_details":{{"cached_tokens":0}}}}"#));
            assert_eq!((usage.input, usage.cache_read), (Some(30), Some(20)), "{name}");
        }
    }

    #[test]
    fn a_lone_total_is_input() {
        assert_eq!(counts(r#"{"total_tokens":9}"#), Usage { input: Some(9), ..Usage::default() });
        assert!(counts(r#"{"type":"duration","seconds":3}"#).is_empty());
        assert!(counts(r#"{"prompt_tokens":null,"completion_tokens":"x"}"#).is_empty());
    }
}
