//! What may be agreed with a user, a key or an account: rates, places, and amounts in a window of time.

/// Limits of an account, a user or a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per minute.
    pub rpm: Option<u64>,
    /// Tokens per minute.
    pub tpm: Option<u64>,
    /// Requests at the same time.
    pub concurrency: Option<u32>,
}

/// The window of a quota or budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// Five hours, from the first use.
    FiveHours,
    /// A calendar day.
    Day,
    /// A calendar week, from Monday.
    Week,
    /// A calendar month.
    Month,
    /// For ever.
    Total,
}

impl Window {
    /// All windows.
    pub const ALL: [Window; 5] = [Window::FiveHours, Window::Day, Window::Week, Window::Month, Window::Total];

    /// The word in the configuration and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Window::FiveHours => "5h",
            Window::Day => "day",
            Window::Week => "week",
            Window::Month => "month",
            Window::Total => "total",
        }
    }
}

/// A quota of an account, or a budget of a user or key: at least one of the three amounts is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Its window.
    pub window: Window,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Requests.
    pub requests: Option<u64>,
    /// Money, in nano-dollars.
    pub cost_nanos: Option<u64>,
}

/// What a request takes from a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Tokens, input of every kind and output.
    pub tokens: u64,
    /// Requests.
    pub requests: u64,
    /// Money, in nano-dollars.
    pub cost_nanos: u64,
}

impl Amounts {
    /// Both together; never wraps.
    #[must_use]
    pub fn plus(self, other: Amounts) -> Amounts {
        Amounts {
            tokens: self.tokens.saturating_add(other.tokens),
            requests: self.requests.saturating_add(other.requests),
            cost_nanos: self.cost_nanos.saturating_add(other.cost_nanos),
        }
    }

    /// What is left of this without the other, never less than nothing.
    #[must_use]
    pub fn minus(self, other: Amounts) -> Amounts {
        Amounts {
            tokens: self.tokens.saturating_sub(other.tokens),
            requests: self.requests.saturating_sub(other.requests),
            cost_nanos: self.cost_nanos.saturating_sub(other.cost_nanos),
        }
    }

    /// The smaller one of each.
    #[must_use]
    pub fn at_most(self, other: Amounts) -> Amounts {
        Amounts {
            tokens: self.tokens.min(other.tokens),
            requests: self.requests.min(other.requests),
            cost_nanos: self.cost_nanos.min(other.cost_nanos),
        }
    }
}

/// What an amount is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Tokens.
    Tokens,
    /// Requests.
    Requests,
    /// Nano-dollars.
    Cost,
}

impl Unit {
    /// All units.
    pub const ALL: [Unit; 3] = [Unit::Tokens, Unit::Requests, Unit::Cost];

    /// The amount of this unit.
    pub fn of(self, amounts: &Amounts) -> u64 {
        match self {
            Unit::Tokens => amounts.tokens,
            Unit::Requests => amounts.requests,
            Unit::Cost => amounts.cost_nanos,
        }
    }

    /// What a quota allows of this unit.
    pub fn limit(self, quota: &Quota) -> Option<u64> {
        match self {
            Unit::Tokens => quota.tokens,
            Unit::Requests => quota.requests,
            Unit::Cost => quota.cost_nanos,
        }
    }

    /// An amount of this unit, in words.
    pub fn shown(self, amount: u64) -> String {
        match self {
            Unit::Tokens => format!("{amount} tokens"),
            Unit::Requests => format!("{amount} requests"),
            Unit::Cost => format!("{} USD", dollars(amount)),
        }
    }
}

/// Nano-dollars as dollars, exactly and without needless zeros.
pub fn dollars(nanos: u64) -> String {
    let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let text = format!("{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_written_exactly() {
        for (nanos, text) in [(0, "0"), (5_000_000_000, "5"), (250_000_000, "0.25"), (1, "0.000000001")] {
            assert_eq!(dollars(nanos), text);
        }
    }
}
