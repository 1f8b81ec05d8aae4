//! The list of models in each provider's shape, and which model each provider has.

use crate::mock::{
    json::{self, Object},
    refusal::{Checked, Dialect, Refusal},
    write::CREATED,
};

/// The models on the lists. Others are served too, unless their name belongs to another vendor.
#[rustfmt::skip]
pub(in crate::mock) const MODELS: &[&str] = &[
    "gpt-4.1", "gpt-4.1-mini", "gpt-5", "gpt-5-mini", "deepseek-reasoner", "orouter-think", "thinktag-qwen",
    "claude-sonnet-4-5", "claude-opus-4-1", "claude-haiku-4-5", "claude-opus-5-5", "claude-sonnet-5-5",
    "claude-haiku-5-5", "gemini-2.5-flash", "gemini-2.5-pro", "gemini-3-pro-preview", "text-embedding-3-small",
    "gemini-embedding-001",
];

/// The complaint about a model that there is not.
fn unknown(dialect: Dialect, model: &str) -> Refusal {
    match dialect {
        Dialect::Anthropic => Refusal::new(404, format!("model: {model}")),
        Dialect::Gemini => Refusal::new(
            404,
            format!(
                "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call \
                 ListModels to see the list of available models and their supported methods."
            ),
        ),
        Dialect::Chat | Dialect::Responses => {
            let message = format!("The model `{model}` does not exist or you do not have access to it.");
            Refusal::new(404, message).kind("invalid_request_error").code("model_not_found")
        }
    }
}

/// Whether this provider serves the model: names that start like another vendor's, or contain `no-such`, are not found.
pub(in crate::mock) fn check(dialect: Dialect, model: &str, any_model: bool) -> Checked<()> {
    let own = match dialect {
        Dialect::Anthropic => "claude",
        Dialect::Gemini => "gemini",
        Dialect::Chat | Dialect::Responses => "gpt",
    };
    let foreign = ["claude", "gemini", "gpt"].iter().any(|vendor| *vendor != own && model.starts_with(vendor));
    let special = model.contains("fault-") || model.starts_with("bench-");
    let strange = dialect == Dialect::Anthropic && !model.starts_with(own) && !special;
    if model.contains("no-such") || !any_model && (foreign || strange) {
        return Err(unknown(dialect, model));
    }
    Ok(())
}

fn entry(dialect: Dialect, o: &mut Object, model: &str) {
    match dialect {
        Dialect::Anthropic => {
            o.text("type", "model")
                .text("id", model)
                .text("display_name", model)
                .text("created_at", "2025-09-29T00:00:00Z");
        }
        Dialect::Gemini => {
            o.text("name", &format!("models/{model}")).text("version", "001").text("displayName", model);
            o.text("description", "mock").number("inputTokenLimit", 1_048_576).number("outputTokenLimit", 65_536);
            let embeds = model.contains("embed");
            let methods: &[&str] = if embeds { &["embedContent"] } else { &["generateContent", "countTokens"] };
            o.list("supportedGenerationMethods", |l| methods.iter().for_each(|method| _ = l.text(method)));
            o.flag("thinking", !embeds);
        }
        Dialect::Chat | Dialect::Responses => {
            o.text("id", model).text("object", "model").number("created", CREATED).text("owned_by", "mock");
        }
    }
}

/// The list, or one model of it.
pub(in crate::mock) fn show(dialect: Dialect, id: Option<&str>) -> Checked<String> {
    if let Some(id) = id {
        let known = MODELS.contains(&id);
        return if known { Ok(json::object(|o| entry(dialect, o, id))) } else { Err(unknown(dialect, id)) };
    }
    let list =
        |vendor: &str| -> Vec<&str> { MODELS.iter().copied().filter(|model| model.starts_with(vendor)).collect() };
    Ok(json::object(|o| match dialect {
        Dialect::Anthropic => {
            let models = list("claude");
            o.list("data", |l| models.iter().for_each(|model| _ = l.object(|e| entry(dialect, e, model))));
            o.text_or_null("first_id", models.first().copied()).flag("has_more", false);
            o.text_or_null("last_id", models.last().copied());
        }
        Dialect::Gemini => {
            o.list("models", |l| list("gemini").iter().for_each(|model| _ = l.object(|e| entry(dialect, e, model))));
        }
        Dialect::Chat | Dialect::Responses => {
            o.text("object", "list");
            o.list("data", |l| list("").iter().for_each(|model| _ = l.object(|e| entry(dialect, e, model))));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_has_its_own_models_and_not_anothers() {
        for (dialect, model, fits) in [
            (Dialect::Anthropic, "claude-x", true),
            (Dialect::Anthropic, "gpt-4.1", false),
            (Dialect::Anthropic, "anything", false),
            (Dialect::Anthropic, "m-fault-500", true),
            (Dialect::Chat, "deepseek-chat", true),
            (Dialect::Chat, "claude-x", false),
            (Dialect::Gemini, "gpt-4.1", false),
            (Dialect::Chat, "no-such-model", false),
        ] {
            assert_eq!(check(dialect, model, false).is_ok(), fits, "{dialect:?} {model}");
        }
        assert!(check(Dialect::Chat, "claude-x", true).is_ok());
        assert!(check(Dialect::Chat, "no-such-model", true).is_err());
    }
}
