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
use std::{collections::HashMap, iter};

/// So many are remembered.
const MOST: usize = 20_000;

/// What is remembered.
pub(super) struct Kinds {
    /// By the bytes of the texts, as the journal has them.
    known: HashMap<Box<[u8]>, i64>,
    /// Those of the row before, which are often those of the next one.
    before: Vec<u8>,
    /// Their number, if they have one.
    number: Option<i64>,
    find: String,
    add: String,
}

impl Kinds {
    pub(super) fn new() -> Kinds {
        let places = (1..=SHARED).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
        let shared = schema::SHARED;
        Kinds {
            known: HashMap::new(),
            before: Vec::new(),
            number: None,
            find: format!("SELECT kind FROM kinds WHERE ({shared}) = ({places})"),
            add: format!("INSERT INTO kinds ({shared}) VALUES ({places})"),
        }
    }

    /// The number of what this row shares with others.
    pub(super) fn of(&mut self, change: &Transaction<'_>, row: &Record<'_>) -> rusqlite::Result<i64> {
        if let Some(number) = self.number.filter(|_| self.before == row.shared) {
            return Ok(number);
        }
        let number = match self.known.get(row.shared) {
            Some(number) => *number,
            None => self.learn(change, row)?,
        };
        self.before.clear();
        self.before.extend_from_slice(row.shared);
        self.number = Some(number);
        Ok(number)
    }

    fn learn(&mut self, change: &Transaction<'_>, row: &Record<'_>) -> rusqlite::Result<i64> {
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
        self.known.insert(row.shared.into(), number);
        Ok(number)
    }

    /// What was given a number may not be in the file.
    pub(super) fn doubt(&mut self) {
        self.known.clear();
        self.number = None;
    }
}

fn bind(statement: &mut Statement<'_>, row: &Record<'_>) -> rusqlite::Result<()> {
    for (place, text) in iter::zip(1.., row.shared()) {
        statement.raw_bind_parameter(place, ToSqlOutput::Borrowed(ValueRef::Text(text)))?;
    }
    Ok(())
}
