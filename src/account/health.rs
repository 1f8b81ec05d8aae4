//! The state machine of one account. Pure: `now` is an argument.

/// Cooldowns and suspicion of one account.
#[derive(Debug, Default)]
pub struct Health {}
