//! Who is calling: users, their keys by hash, and what they may use.

use crate::{
    clock::Moment,
    config::{Config, UserSettings},
    error::Rejection,
};
use std::sync::Arc;

/// All keys, looked up by hash in constant time.
#[derive(Debug, Default)]
pub struct KeyRing {}

/// The user and key of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose key it is.
    pub user: Arc<UserSettings>,
    /// The first eight hex digits of the key's hash, to tell keys apart in logs.
    pub key_id: String,
}

impl KeyRing {
    /// The keys of a configuration.
    pub fn new(config: &Config) -> KeyRing {
        let _ = config;
        unimplemented!()
    }

    /// Whose key this is; refuses unknown, disabled and expired ones.
    pub fn lookup(&self, key: &str, now: Moment) -> Result<Caller, Rejection> {
        let _ = (key, now);
        unimplemented!()
    }
}

impl Caller {
    /// Refuses a model that is not on the user's list.
    pub fn may_use(&self, model: &str) -> Result<(), Rejection> {
        let _ = model;
        unimplemented!()
    }
}
