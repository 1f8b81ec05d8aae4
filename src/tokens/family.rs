//! Whose tokenizer a model has, and what its provider adds to the text.
//!
//! The numbers for text, turns and tools come from recorded requests and the input that was billed for them
//! (`cargo test --test estimate` shows how far off they are); those for images from the providers' pages.

/// A vendor's way of counting.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Family {
    pub(super) vendor: Vendor,
    /// The model's name in lower case.
    pub(super) model: String,
}

/// Whose models they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vendor {
    /// OpenAI, and every vendor that publishes nothing: its own vocabulary is the best guess.
    OpenaiOrOther,
    Anthropic,
    Google,
}

impl Family {
    pub(super) fn of(model: &str) -> Family {
        let model = model.to_lowercase();
        let vendor = if model.contains("claude") {
            Vendor::Anthropic
        } else if ["gemini", "gemma", "learnlm"].iter().any(|name| model.contains(name)) {
            Vendor::Google
        } else {
            Vendor::OpenaiOrOther
        };
        Family { vendor, model }
    }

    /// This vendor's count of a text that is so many tokens in OpenAI's vocabulary.
    pub(super) fn scaled(&self, tokens: u64) -> u64 {
        let percent = match self.vendor {
            Vendor::OpenaiOrOther | Vendor::Google => 100,
            Vendor::Anthropic => 120,
        };
        (tokens * percent).div_ceil(100)
    }

    /// What the frame of each turn costs.
    pub(super) fn per_turn(&self) -> u64 {
        match self.vendor {
            Vendor::OpenaiOrOther => 4,
            Vendor::Anthropic => 3,
            Vendor::Google => 0,
        }
    }

    /// What the frame of the whole conversation costs.
    pub(super) fn per_request(&self) -> u64 {
        match self.vendor {
            Vendor::OpenaiOrOther | Vendor::Anthropic => 3,
            Vendor::Google => 0,
        }
    }

    /// What each tool costs beside its name, description and schema.
    pub(super) fn per_tool(&self) -> u64 {
        match self.vendor {
            Vendor::OpenaiOrOther => 8,
            Vendor::Anthropic => 20,
            Vendor::Google => 8,
        }
    }

    /// What the instructions cost that the provider adds where there are tools.
    pub(super) fn tool_instructions(&self, must_call: bool) -> u64 {
        match self.vendor {
            Vendor::OpenaiOrOther => 12,
            // Anthropic's page on tool use: 346 tokens, 313 where a tool must be called.
            Vendor::Anthropic if must_call => 313,
            Vendor::Anthropic => 346,
            Vendor::Google => 0,
        }
    }

    /// What the frame of a tool call or result costs.
    pub(super) fn per_call(&self) -> u64 {
        match self.vendor {
            Vendor::OpenaiOrOther => 8,
            Vendor::Anthropic => 30,
            Vendor::Google => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_tells_its_vendor_wherever_it_is_served() {
        let vendor = |model| Family::of(model).vendor;
        assert_eq!(vendor("us.anthropic.Claude-sonnet-4-5"), Vendor::Anthropic);
        assert_eq!(vendor("google/gemini-2.5-pro"), Vendor::Google);
        assert_eq!(vendor("gpt-5"), Vendor::OpenaiOrOther);
        assert_eq!(vendor(""), Vendor::OpenaiOrOther);
    }
}
