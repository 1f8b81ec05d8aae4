//! Servers that speak OpenAI's API under an address of their own: one row each.
//!
//! A row says where the server is and what it surely has not; whatever a server may have is offered, since servers gain
//! calls faster than rows do. Addresses are those of each provider's own documentation (read 2026-11).

use super::{BaseUrl, Call, Provider, anthropic, base_url, openai};
use crate::wire::WireFormat;
use http::HeaderName;

/// An OpenAI-compatible server.
#[derive(Debug)]
pub(super) struct Compatible {
    name: &'static str,
    aliases: &'static [&'static str],
    /// With the path that calls are appended to.
    base_url: Option<&'static str>,
    key_env: Option<&'static str>,
    formats: &'static [WireFormat],
    /// Calls that it surely has not, by [`Endpoint::name`](crate::wire::Endpoint::name).
    absent: &'static [&'static str],
}

impl Provider for Compatible {
    fn name(&self) -> &'static str {
        self.name
    }

    fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    fn imitates(&self) -> bool {
        true
    }

    fn formats(&self) -> &'static [WireFormat] {
        self.formats
    }

    fn default_base_url(&self) -> Option<&'static str> {
        self.base_url
    }

    fn key_env(&self) -> Option<&'static str> {
        self.key_env
    }

    fn base_url(&self, text: &str) -> Result<BaseUrl, String> {
        let mut url = base_url::without_query(base_url::parse(text)?)?;
        base_url::strip_call(&mut url.prefix, &["/messages/count_tokens", "/messages"]);
        base_url::openai_prefix(&mut url.prefix, self.own_prefix());
        Ok(url)
    }

    fn path(&self, base: &BaseUrl, call: &Call<'_>) -> Option<String> {
        if self.absent.contains(&call.endpoint.name()) {
            return None;
        }
        // Several of these servers speak Messages beside their own format, at the same prefix; an account's `formats`
        // says whether its server does.
        match anthropic::call_path(call.endpoint) {
            Some(suffix) => {
                Some(base_url::with_query(format!("{}{suffix}", base.prefix), &base.query, call.query, &[]))
            }
            None => openai::append(base, call),
        }
    }

    fn models_path(&self, base: &BaseUrl) -> String {
        format!("{}/models", base.prefix)
    }

    fn credential(&self, key: &str) -> (HeaderName, String) {
        openai::bearer(key)
    }
}

impl Compatible {
    /// The path of its own address, for a `base_url` that names only a host.
    fn own_prefix(&self) -> &'static str {
        let Some(url) = self.base_url else { return "/v1" };
        let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
        after_scheme.find('/').and_then(|at| after_scheme.get(at..)).unwrap_or("")
    }
}

const CHAT: &[WireFormat] = &[WireFormat::OpenaiChat];
const CHAT_AND_RESPONSES: &[WireFormat] = &[WireFormat::OpenaiChat, WireFormat::OpenaiResponses];

/// Any server that speaks Chat Completions.
pub(super) static OPENAI_COMPATIBLE: Compatible =
    Compatible { name: "openai-compatible", aliases: &[], base_url: None, key_env: None, formats: CHAT, absent: &[] };

/// DeepSeek.
pub(super) static DEEPSEEK: Compatible = Compatible {
    name: "deepseek",
    aliases: &[],
    base_url: Some("https://api.deepseek.com/v1"),
    key_env: Some("DEEPSEEK_API_KEY"),
    formats: CHAT,
    absent: &["embeddings", "moderations", "images", "audio", "rerank"],
};

/// Groq. Its Responses API is stateless.
pub(super) static GROQ: Compatible = Compatible {
    name: "groq",
    aliases: &[],
    base_url: Some("https://api.groq.com/openai/v1"),
    key_env: Some("GROQ_API_KEY"),
    formats: CHAT_AND_RESPONSES,
    absent: &["embeddings", "completions", "moderations", "images", "rerank"],
};

/// Mistral.
pub(super) static MISTRAL: Compatible = Compatible {
    name: "mistral",
    aliases: &[],
    base_url: Some("https://api.mistral.ai/v1"),
    key_env: Some("MISTRAL_API_KEY"),
    formats: CHAT,
    absent: &["completions", "images", "rerank"],
};

/// xAI.
pub(super) static XAI: Compatible = Compatible {
    name: "xai",
    aliases: &["grok"],
    base_url: Some("https://api.x.ai/v1"),
    key_env: Some("XAI_API_KEY"),
    formats: CHAT_AND_RESPONSES,
    absent: &["moderations", "rerank"],
};

/// OpenRouter. Its Responses API is stateless.
pub(super) static OPENROUTER: Compatible = Compatible {
    name: "openrouter",
    aliases: &[],
    base_url: Some("https://openrouter.ai/api/v1"),
    key_env: Some("OPENROUTER_API_KEY"),
    formats: CHAT_AND_RESPONSES,
    absent: &["moderations"],
};

/// Together AI.
pub(super) static TOGETHER: Compatible = Compatible {
    name: "together",
    aliases: &["together-ai"],
    base_url: Some("https://api.together.xyz/v1"),
    key_env: Some("TOGETHER_API_KEY"),
    formats: CHAT,
    absent: &["moderations"],
};

/// Fireworks AI.
pub(super) static FIREWORKS: Compatible = Compatible {
    name: "fireworks",
    aliases: &["fireworks-ai"],
    base_url: Some("https://api.fireworks.ai/inference/v1"),
    key_env: Some("FIREWORKS_API_KEY"),
    formats: CHAT_AND_RESPONSES,
    absent: &["moderations"],
};

/// Cerebras.
pub(super) static CEREBRAS: Compatible = Compatible {
    name: "cerebras",
    aliases: &[],
    base_url: Some("https://api.cerebras.ai/v1"),
    key_env: Some("CEREBRAS_API_KEY"),
    formats: CHAT,
    absent: &["embeddings", "moderations", "images", "audio", "rerank"],
};

/// Perplexity. Its calls have no version in their path.
pub(super) static PERPLEXITY: Compatible = Compatible {
    name: "perplexity",
    aliases: &[],
    base_url: Some("https://api.perplexity.ai"),
    key_env: Some("PERPLEXITY_API_KEY"),
    formats: CHAT,
    absent: &["completions", "moderations", "images", "audio", "rerank"],
};

/// Moonshot (Kimi).
pub(super) static MOONSHOT: Compatible = Compatible {
    name: "moonshot",
    aliases: &["kimi"],
    base_url: Some("https://api.moonshot.ai/v1"),
    key_env: Some("MOONSHOT_API_KEY"),
    formats: CHAT,
    absent: &["embeddings", "moderations", "images", "audio", "rerank"],
};

/// Z.AI (GLM).
pub(super) static ZAI: Compatible = Compatible {
    name: "zai",
    aliases: &["z.ai"],
    base_url: Some("https://api.z.ai/api/paas/v4"),
    key_env: Some("ZAI_API_KEY"),
    formats: CHAT,
    absent: &["completions", "moderations"],
};

/// Ollama.
pub(super) static OLLAMA: Compatible = Compatible {
    name: "ollama",
    aliases: &[],
    base_url: Some("http://127.0.0.1:11434/v1"),
    key_env: None,
    formats: CHAT,
    absent: &["moderations", "audio", "rerank"],
};

/// vLLM.
pub(super) static VLLM: Compatible = Compatible {
    name: "vllm",
    aliases: &[],
    base_url: Some("http://127.0.0.1:8000/v1"),
    key_env: None,
    formats: CHAT,
    absent: &["moderations"],
};

/// llama.cpp's server.
pub(super) static LLAMA_CPP: Compatible = Compatible {
    name: "llama.cpp",
    aliases: &["llama-cpp", "llamacpp"],
    base_url: Some("http://127.0.0.1:8080/v1"),
    key_env: None,
    formats: CHAT,
    absent: &["moderations", "images"],
};

/// LM Studio.
pub(super) static LMSTUDIO: Compatible = Compatible {
    name: "lmstudio",
    aliases: &["lm-studio"],
    base_url: Some("http://127.0.0.1:1234/v1"),
    key_env: None,
    formats: CHAT,
    absent: &["moderations", "images", "audio", "rerank"],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Endpoint;

    fn path(row: &Compatible, base: &str, endpoint: Endpoint) -> Option<String> {
        let base = row.base_url(base).unwrap();
        row.path(&base, &Call { endpoint: &endpoint, model: "m", stream: false, version: None, query: None })
    }

    #[test]
    fn a_generic_server_gets_v1_where_its_address_names_no_path() {
        for (base, expected) in [
            ("http://h:9100", "/v1/chat/completions"),
            ("http://h:9100/v1", "/v1/chat/completions"),
            ("http://h:9100/v1/chat/completions", "/v1/chat/completions"),
            ("https://generativelanguage.googleapis.com/v1beta/openai/", "/v1beta/openai/chat/completions"),
            ("https://h/compatible-mode/v1", "/compatible-mode/v1/chat/completions"),
        ] {
            assert_eq!(path(&OPENAI_COMPATIBLE, base, Endpoint::ChatCompletions).as_deref(), Some(expected), "{base}");
        }
    }

    #[test]
    fn a_presets_own_prefix_stands_in_for_a_missing_path() {
        for (row, expected) in [
            (&GROQ, "/openai/v1/chat/completions"),
            (&OPENROUTER, "/api/v1/chat/completions"),
            (&FIREWORKS, "/inference/v1/chat/completions"),
            (&ZAI, "/api/paas/v4/chat/completions"),
            (&PERPLEXITY, "/chat/completions"),
            (&OLLAMA, "/v1/chat/completions"),
        ] {
            assert_eq!(path(row, "http://h", Endpoint::ChatCompletions).as_deref(), Some(expected), "{}", row.name);
        }
    }

    #[test]
    fn an_account_that_says_its_server_speaks_more_finds_the_calls() {
        assert_eq!(path(&VLLM, "http://h/v1", Endpoint::Responses).as_deref(), Some("/v1/responses"));
        assert_eq!(path(&VLLM, "http://h/v1", Endpoint::Messages).as_deref(), Some("/v1/messages"));
        assert_eq!(path(&VLLM, "http://h/v1/messages", Endpoint::CountTokens).unwrap(), "/v1/messages/count_tokens");
        assert_eq!(path(&VLLM, "http://h/v1", Endpoint::GenerateContent), None);
    }

    #[test]
    fn what_a_server_surely_has_not_is_not_offered() {
        assert_eq!(path(&DEEPSEEK, "http://h", Endpoint::Embeddings), None);
        assert_eq!(path(&GROQ, "http://h", Endpoint::Images("generations")), None);
        assert!(path(&GROQ, "http://h", Endpoint::Audio("transcriptions")).is_some());
        assert!(path(&OPENAI_COMPATIBLE, "http://h", Endpoint::Rerank).is_some());
    }

    #[test]
    fn absent_calls_are_named_as_the_endpoints_name_themselves() {
        let known: Vec<_> = [
            Endpoint::Embeddings,
            Endpoint::Completions,
            Endpoint::Moderations,
            Endpoint::Rerank,
            Endpoint::Images("edits"),
            Endpoint::Audio("speech"),
        ]
        .iter()
        .map(Endpoint::name)
        .collect();
        for row in [&DEEPSEEK, &GROQ, &MISTRAL, &XAI, &OPENROUTER, &CEREBRAS, &PERPLEXITY, &ZAI, &OLLAMA, &LLAMA_CPP] {
            assert!(row.absent.iter().all(|name| known.contains(name)), "{}", row.name);
        }
    }
}
