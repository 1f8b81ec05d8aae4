//! Usage as Anthropic writes it.

use crate::wire::{
    Usage,
    lenient::{Count, Maybe, facts},
};

facts! {
    /// A `usage` object.
    pub(super) struct UsageObject {
        b"input_tokens" => input_tokens: Count,
        b"cache_read_input_tokens" => cache_read_input_tokens: Count,
        b"cache_creation_input_tokens" => cache_creation_input_tokens: Count,
        b"cache_creation" => cache_creation: Maybe<CacheCreation>,
        b"output_tokens" => output_tokens: Count,
        b"output_tokens_details" => output_tokens_details: Maybe<OutputDetails>,
        b"server_tool_use" => server_tool_use: Maybe<ServerTools>,
    }
}

facts! {
    struct CacheCreation {
        b"ephemeral_5m_input_tokens" => ephemeral_5m_input_tokens: Count,
        b"ephemeral_1h_input_tokens" => ephemeral_1h_input_tokens: Count,
    }
}

facts! {
    struct OutputDetails {
        b"thinking_tokens" => thinking_tokens: Count,
    }
}

facts! {
    struct ServerTools {
        b"web_search_requests" => web_search_requests: Count,
    }
}

impl UsageObject {
    /// Replaces the counts known so far by what this snapshot names.
    pub(super) fn apply(&self, usage: &mut Usage) {
        let (cache_write, cache_write_1h) = self.cache_writes(usage);
        usage.update(&Usage {
            input: self.input_tokens.0,
            cache_read: self.cache_read_input_tokens.0,
            cache_write,
            cache_write_1h,
            output: self.output_tokens.0,
            reasoning: self.output_tokens_details.0.as_ref().and_then(|d| d.thinking_tokens.0),
            server_tools: self.server_tool_use.0.as_ref().and_then(|s| s.web_search_requests.0),
            images: None,
        });
    }

    /// The cache writes by lifetime (5 minutes, 1 hour). Their sum is the total that is written beside them: a later
    /// snapshot often has the total without the split, and with server tools the split can be less than the total.
    fn cache_writes(&self, known: &Usage) -> (Option<u64>, Option<u64>) {
        let split = self.cache_creation.0.as_ref();
        let five_minutes = split.and_then(|s| s.ephemeral_5m_input_tokens.0);
        let one_hour = split.and_then(|s| s.ephemeral_1h_input_tokens.0);
        let Some(total) = self.cache_creation_input_tokens.0 else { return (five_minutes, one_hour) };
        let one_hour = one_hour.or(known.cache_write_1h).map(|tokens| tokens.min(total));
        (Some(total - one_hour.unwrap_or(0)), one_hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(snapshots: &[&str]) -> Usage {
        let mut usage = Usage::default();
        for json in snapshots {
            serde_json::from_str::<UsageObject>(json).unwrap().apply(&mut usage);
        }
        usage
    }

    #[test]
    fn the_counts_are_taken_as_they_are() {
        let usage = counts(&[
            r#"{"input_tokens":4,"cache_read_input_tokens":9116,"cache_creation_input_tokens":219,"cache_creation":{"ephemeral_5m_input_tokens":19,"ephemeral_1h_input_tokens":200},"output_tokens":50,"output_tokens_details":{"thinking_tokens":30},"server_tool_use":{"web_search_requests":2}}"#,
        ]);
        assert_eq!(
            usage,
            Usage {
                input: Some(4),
                cache_read: Some(9116),
                cache_write: Some(19),
                cache_write_1h: Some(200),
                output: Some(50),
                reasoning: Some(30),
                server_tools: Some(2),
                images: None,
            }
        );
    }

    #[test]
    fn a_later_total_without_its_split_is_not_added_to_the_split() {
        let start = r#"{"input_tokens":1,"cache_creation_input_tokens":300,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},"output_tokens":1}"#;
        let end = r#"{"input_tokens":1,"cache_creation_input_tokens":300,"output_tokens":90}"#;
        let usage = counts(&[start, end]);
        assert_eq!((usage.cache_write, usage.cache_write_1h, usage.output), (Some(100), Some(200), Some(90)));
    }

    #[test]
    fn a_split_that_is_less_than_the_total_leaves_the_rest_to_the_short_lifetime() {
        let usage = counts(&[
            r#"{"cache_creation_input_tokens":11627,"cache_creation":{"ephemeral_5m_input_tokens":366,"ephemeral_1h_input_tokens":0}}"#,
        ]);
        assert_eq!((usage.cache_write, usage.cache_write_1h), (Some(11_627), Some(0)));
    }

    #[test]
    fn a_split_without_a_total_is_taken() {
        let usage = counts(&[r#"{"cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":4}}"#]);
        assert_eq!((usage.cache_write, usage.cache_write_1h), (Some(3), Some(4)));
    }
}
