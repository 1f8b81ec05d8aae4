//! The numbers of what rows share, as far as they have been needed lately.
//!
//! A number is good for ever once the transaction that gave it has been committed; after one that failed all are forgotten.

use super::{
    record::{Record, SHARED},
    schema,
};
use rusqlite::{
    Statement, Transaction,
    types::{ToSqlOutput, ValueRef},
};
use std::{collections::HashMap, iter, sync::Arc};

/// So many are remembered.
const MOST: usize = 20_000;
/// So many are at hand.
const NEAR: usize = 1 << NEAR_BITS;
const NEAR_BITS: u32 = 10;

/// What rows share, as the journal has it, and its number.
type Kind = (Arc<[u8]>, i64);

/// What is remembered.
pub(super) struct Kinds {
    known: HashMap<Arc<[u8]>, i64>,
    /// Those of the last rows, each at a place that a quick look at its bytes gives: a hash that no caller can foresee takes
    /// longer than all the rest.
    near: Vec<Option<Kind>>,
    find: String,
    add: String,
}

impl Kinds {
    pub(super) fn new() -> Kinds {
        let places = (1..=SHARED).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
        let shared = schema::SHARED;
        Kinds {
            known: HashMap::new(),
            near: vec![None; NEAR],
            find: format!("SELECT kind FROM kinds WHERE ({shared}) = ({places})"),
            add: format!("INSERT INTO kinds ({shared}) VALUES ({places})"),
        }
    }

    /// The number of what this row shares with others.
    pub(super) fn of(&mut self, change: &Transaction<'_>, row: &Record<'_>) -> rusqlite::Result<i64> {
        let place = place(row.shared);
        if let Some(Some((shared, number))) = self.near.get(place)
            && **shared == *row.shared
        {
            return Ok(*number);
        }
        let kind = match self.known.get_key_value(row.shared) {
            Some((shared, number)) => (shared.clone(), *number),
            None => self.learn(change, row)?,
        };
        let number = kind.1;
        if let Some(near) = self.near.get_mut(place) {
            *near = Some(kind);
        }
        Ok(number)
    }

    fn learn(&mut self, change: &Transaction<'_>, row: &Record<'_>) -> rusqlite::Result<Kind> {
        let mut find = change.prepare_cached(&self.find)?;
        bind(&mut find, row)?;
        let found = find.raw_query().next()?.map(|row| row.get(0)).transpose()?;
        let number = match found {
            Some(number) => number,
            None => {
                let mut add = change.prepare_cached(&self.add)?;
                bind(&mut add, row)?;
                add.raw_execute()?;
                change.last_insert_rowid()
            }
        };
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let shared: Arc<[u8]> = row.shared.into();
        self.known.insert(shared.clone(), number);
        Ok((shared, number))
    }

    /// What was given a number may not be in the file.
    pub(super) fn doubt(&mut self) {
        self.known.clear();
        self.near.fill(None);
    }
}

/// Where bytes are looked for first.
fn place(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks();
    let mixed = |mixed: u64, word: u64| (mixed.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let all = rest.iter().map(|byte| u64::from(*byte)).chain(words).fold(0, mixed);
    (all >> (u64::BITS - NEAR_BITS)) as usize
}

fn bind(statement: &mut Statement<'_>, row: &Record<'_>) -> rusqlite::Result<()> {
    for (place, text) in iter::zip(1.., row.shared()) {
        statement.raw_bind_parameter(place, ToSqlOutput::Borrowed(ValueRef::Text(text)))?;
    }
    Ok(())
}
