//! The numbers of what rows share, as far as they have been needed lately.
//!
//! A number is good for ever once the transaction that gave it has been committed; after one that failed all are forgotten.

use super::{
    record::{Record, SHARED},
    schema,
};
use rusqlite::{OptionalExtension as _, Transaction, params_from_iter};
use std::collections::HashMap;

/// So many are remembered.
const MOST: usize = 20_000;

/// What is remembered.
pub(super) struct Kinds {
    /// By the bytes of the texts, so that a row's are looked up without a copy of them.
    known: HashMap<Vec<u8>, i64>,
    scratch: Vec<u8>,
    find: String,
    add: String,
}

impl Kinds {
    pub(super) fn new() -> Kinds {
        let places = (1..=SHARED).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
        let shared = schema::SHARED;
        Kinds {
            known: HashMap::new(),
            scratch: Vec::new(),
            find: format!("SELECT kind FROM kinds WHERE ({shared}) = ({places})"),
            add: format!("INSERT INTO kinds ({shared}) VALUES ({places})"),
        }
    }

    /// The number of what this row shares with others.
    pub(super) fn of(&mut self, change: &Transaction<'_>, row: &Record<'_>) -> rusqlite::Result<i64> {
        let shared = row.shared();
        self.scratch.clear();
        for text in shared {
            self.scratch.extend_from_slice(&(text.len() as u32).to_le_bytes());
            self.scratch.extend_from_slice(text.as_bytes());
        }
        if let Some(kind) = self.known.get(self.scratch.as_slice()) {
            return Ok(*kind);
        }
        let found =
            change.prepare_cached(&self.find)?.query_row(params_from_iter(shared), |row| row.get(0)).optional()?;
        let kind = match found {
            Some(kind) => kind,
            None => change.prepare_cached(&self.add)?.insert(params_from_iter(shared))?,
        };
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(self.scratch.clone(), kind);
        Ok(kind)
    }

    /// What was given a number may not be in the file.
    pub(super) fn doubt(&mut self) {
        self.known.clear();
    }
}
