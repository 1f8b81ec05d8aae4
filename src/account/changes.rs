//! Which accounts changed lately.
//!
//! Every change of an account is noted here by the account's number; whoever keeps something that depends on accounts (a
//! [`super::board::Board`]) reads what it has not seen yet. So a change costs the same however many keep something, and
//! what nobody asks for again costs nothing. Bounded: who comes too late is told to look at everything.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering},
};

/// So many changes are remembered.
const REMEMBERED: usize = 4_096;
/// So many are handed out at a time.
pub(super) const BATCH: usize = 64;

/// The last changes of all accounts, also of those of an earlier configuration.
#[derive(Debug)]
pub(super) struct Changes {
    ring: Mutex<Ring>,
    accounts: AtomicU32,
}

#[derive(Debug)]
struct Ring {
    accounts: Box<[u32]>,
    written: u64,
}

/// What a reader has not seen yet.
pub(super) enum Unseen {
    /// So many of the batch are filled; less than all of it where the reader has come to the end.
    Some(usize),
    /// More than is remembered.
    TooMuch,
}

impl Default for Changes {
    fn default() -> Self {
        let ring = Ring { accounts: vec![0; REMEMBERED].into(), written: 0 };
        Changes { ring: Mutex::new(ring), accounts: AtomicU32::new(0) }
    }
}

impl Changes {
    /// A number that no account has.
    pub(super) fn new_number(&self) -> u32 {
        self.accounts.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that an account has changed. Comes after the change, so that who reads of it sees it.
    pub(super) fn note(&self, account: u32) {
        let mut ring = self.lock();
        let at = ring.written as usize % REMEMBERED;
        if let Some(entry) = ring.accounts.get_mut(at) {
            *entry = account;
        }
        ring.written += 1;
    }

    /// How many changes there have been.
    pub(super) fn written(&self) -> u64 {
        self.lock().written
    }

    /// The changes behind `seen`, which moves on.
    pub(super) fn read(&self, seen: &mut u64, batch: &mut [u32; BATCH]) -> Unseen {
        let ring = self.lock();
        let unseen = ring.written.saturating_sub(*seen);
        if unseen > REMEMBERED as u64 {
            *seen = ring.written;
            return Unseen::TooMuch;
        }
        let mut filled = 0;
        for (place, number) in batch.iter_mut().zip(*seen..ring.written) {
            *place = ring.accounts.get(number as usize % REMEMBERED).copied().unwrap_or_default();
            filled += 1;
        }
        *seen += filled as u64;
        Unseen::Some(filled)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(changes: &Changes, seen: &mut u64) -> Option<Vec<u32>> {
        let (mut all, mut batch) = (Vec::new(), [0; BATCH]);
        loop {
            match changes.read(seen, &mut batch) {
                Unseen::TooMuch => return None,
                Unseen::Some(filled) => all.extend(&batch[..filled]),
            }
            if all.len() % BATCH != 0 || all.is_empty() || *seen == changes.written() {
                return Some(all);
            }
        }
    }

    #[test]
    fn every_reader_sees_every_change_once_and_in_order() {
        let (changes, mut early, mut late) = (Changes::default(), 0, 0);
        (0..100).for_each(|n| changes.note(n));
        assert_eq!(read_all(&changes, &mut early), Some((0..100).collect()));
        changes.note(7);
        assert_eq!(read_all(&changes, &mut early), Some(vec![7]));
        assert_eq!(read_all(&changes, &mut late).map(|all| all.len()), Some(101));
        assert_eq!(read_all(&changes, &mut late), Some(vec![]));
    }

    #[test]
    fn who_comes_too_late_is_told_so() {
        let (changes, mut seen) = (Changes::default(), 0);
        (0..=REMEMBERED as u32).for_each(|n| changes.note(n));
        assert_eq!(read_all(&changes, &mut seen), None);
        changes.note(3);
        assert_eq!(read_all(&changes, &mut seen), Some(vec![3]), "and goes on from there");
    }
}
