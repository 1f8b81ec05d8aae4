//! Takes into the ledger's file what processes that have ended left in the journal.
//!
//! Never touches the segment of a process that lives. May be done at any time and by anybody: a row counts once.

use super::{
    segment::Orphan,
    settings::LedgerSettings,
    store::{FILE_NAME, LedgerError, Store},
};
use std::path::Path;

/// The most rows of one transaction.
const BUNDLE: usize = 4_000;

/// Takes in what was left behind in this data directory, for questions while no gateway runs. Gives how many rows of it
/// were not in the file yet. Nothing is opened where nothing was left.
pub fn recover(directory: &Path) -> Result<usize, LedgerError> {
    let orphans = all(directory)?;
    if orphans.is_empty() {
        return Ok(0);
    }
    // Waits for the disk: whoever asks does not say how the gateway keeps its ledger.
    let settings = LedgerSettings { fsync: true, ..LedgerSettings::default() };
    let mut store = Store::open(&directory.join(FILE_NAME), &settings)?;
    take(orphans, &mut store)
}

/// The same into a file that is open.
pub(super) fn take_in(directory: &Path, store: &mut Store) -> Result<usize, LedgerError> {
    take(all(directory)?, store)
}

fn all(directory: &Path) -> Result<Vec<Orphan>, LedgerError> {
    Orphan::all(directory).map_err(|cause| LedgerError::Journal { path: directory.to_owned(), cause })
}

fn take(orphans: Vec<Orphan>, store: &mut Store) -> Result<usize, LedgerError> {
    let mut new = 0;
    for orphan in orphans {
        let path = orphan.path().to_owned();
        let gone = match orphan.records() {
            Some(mut rows) => {
                while rows.clone().next().is_some() {
                    new += store.write(&mut rows, BUNDLE)?;
                }
                orphan.remove()
            }
            None => orphan.set_aside(),
        };
        gone.map_err(|cause| LedgerError::Journal { path, cause })?;
    }
    if new > 0 {
        log::warn!("ledger: {new} rows of a process that was killed are in the file now");
    }
    Ok(new)
}
