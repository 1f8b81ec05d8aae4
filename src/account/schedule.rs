//! Chooses the account that serves a request.
//!
//! Pure: time and randomness are arguments, so every decision can be replayed from a seed.
//! Never waits and never touches the network.
