//! What each wire format calls a field, so that a client is told of losses and refusals in the words of its own request.
//!
//! Encoders name fields as Chat Completions does. Invariant: a name that is not in the table is the origin's own already.

use super::WireFormat;

/// The common name, and that in Chat Completions, Responses, Anthropic Messages and Gemini; empty where it is the same.
const NAMES: [[&str; 5]; 33] = [
    ["stop", "", "", "stop_sequences", "generationConfig.stopSequences"],
    ["n", "", "", "", "generationConfig.candidateCount"],
    ["max_tokens", "", "max_output_tokens", "", "generationConfig.maxOutputTokens"],
    ["temperature", "", "", "", "generationConfig.temperature"],
    ["top_p", "", "", "", "generationConfig.topP"],
    ["top_k", "", "", "", "generationConfig.topK"],
    ["seed", "", "", "", "generationConfig.seed"],
    ["frequency_penalty", "", "", "", "generationConfig.frequencyPenalty"],
    ["presence_penalty", "", "", "", "generationConfig.presencePenalty"],
    ["logprobs", "", "top_logprobs", "", "generationConfig.responseLogprobs"],
    ["response_format", "", "text.format", "output_config.format", "generationConfig.responseSchema"],
    ["verbosity", "", "text.verbosity", "", ""],
    ["reasoning", "reasoning_effort", "reasoning.effort", "thinking", "generationConfig.thinkingConfig"],
    ["user", "", "", "metadata.user_id", ""],
    ["service_tier", "", "", "", "serviceTier"],
    ["parallel_tool_calls", "", "", "tool_choice.disable_parallel_tool_use", ""],
    ["tool_choice", "", "", "", "toolConfig.functionCallingConfig"],
    ["web_search", "web_search_options", "tools.web_search", "tools.web_search", "tools.googleSearch"],
    ["response_format.description", "response_format.json_schema.description", "text.format.description", "", ""],
    ["messages", "", "input", "", "contents"],
    ["messages.filename", "messages.file.filename", "input.filename", "messages.title", "contents.displayName"],
    ["messages.reasoning", "", "input.reasoning", "messages.thinking", "contents.thoughtSignature"],
    ["messages.system", "", "input.system", "", "contents.system"],
    ["messages.content", "", "input.content", "", "contents.parts"],
    ["messages.media", "", "input.media", "", "contents.inlineData"],
    ["messages.assistant.media", "", "input.assistant.media", "", "contents.model.inlineData"],
    ["messages.assistant.tool_result", "", "input.assistant.tool_result", "", "contents.model.functionResponse"],
    ["messages.tool_call_id", "", "input.call_id", "messages.tool_use_id", "contents.functionResponse.name"],
    ["tool_call.arguments", "", "input.arguments", "messages.tool_use.input", "contents.functionCall.args"],
    ["tool_result.media", "", "input.output", "messages.tool_result.content", "contents.functionResponse.parts"],
    ["tool_result.is_error", "", "input.output", "messages.tool_result.is_error", "contents.functionResponse.response"],
    ["image_url.detail", "", "input_image.detail", "", ""],
    ["tools.strict", "", "", "", "toolConfig.functionCallingConfig.mode"],
];

/// The field's name in a format.
pub(crate) fn in_terms_of(format: WireFormat, field: &str) -> Option<&'static str> {
    let [_, chat, responses, anthropic, gemini] = NAMES.iter().find(|[name, ..]| *name == field)?;
    let name = match format {
        WireFormat::OpenaiChat => chat,
        WireFormat::OpenaiResponses => responses,
        WireFormat::Anthropic => anthropic,
        WireFormat::Gemini => gemini,
    };
    Some(*name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_reads_the_names_that_it_wrote() {
        assert_eq!(in_terms_of(WireFormat::Anthropic, "stop"), Some("stop_sequences"));
        assert_eq!(in_terms_of(WireFormat::Gemini, "top_k"), Some("generationConfig.topK"));
        assert_eq!(in_terms_of(WireFormat::OpenaiChat, "stop"), None);
        assert_eq!(in_terms_of(WireFormat::OpenaiResponses, "truncation"), None);
    }
}
