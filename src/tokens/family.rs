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
            Vendor::Anthropic => 105,
        };
        (tokens * percent).div_ceil(100)
    }

    /// This vendor's count of a tool's schema: OpenAI gives it to the model as a terse type.
    pub(super) fn scaled_schema(&self, tokens: u64) -> u64 {
        match self.vendor {
            Vendor::OpenaiOrOther => tokens * 60 / 100,
            Vendor::Anthropic | Vendor::Google => self.scaled(tokens),
        }
    }

    /// What a schema for the answer costs beside its text; `None` where it costs nothing at all, because it only steers.
    pub(super) fn answer_schema(&self) -> Option<u64> {
        match self.vendor {
            Vendor::OpenaiOrOther => Some(10),
            Vendor::Anthropic => Some(140),
            Vendor::Google => None,
        }
    }

    /// What a thinking budget costs.
    pub(super) fn thinking(&self) -> u64 {
        match self.vendor {
            Vendor::OpenaiOrOther | Vendor::Google => 0,
            Vendor::Anthropic => 28,
        }
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
            Vendor::Google => 1,
        }
    }

    /// What each tool costs beside its name, description and schema.
    pub(super) fn per_tool(&self) -> u64 {
        match self.vendor {
            Vendor::OpenaiOrOther => 8,
            Vendor::Anthropic => 20,
            Vendor::Google => 4,
        }
    }

    /// What the instructions cost that the provider adds where there are tools.
    pub(super) fn tool_instructions(&self, must_call: bool) -> u64 {
        match self.vendor {
            Vendor::OpenaiOrOther => 12,
            // Anthropic's page on tool use: 346 tokens for the models of its day; those since take more in every recording.
            Vendor::Anthropic if ["claude-3", "-4-0", "-4-1", "-4-2"].iter().any(|old| self.model.contains(old)) => 330,
            Vendor::Anthropic if must_call => 460,
            Vendor::Anthropic => 490,
            Vendor::Google => 0,
        }
    }

    /// What the frame of a tool call or result costs.
    pub(super) fn per_call(&self) -> u64 {
        match self.vendor {
            Vendor::OpenaiOrOther => 5,
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
