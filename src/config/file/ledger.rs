//! `ledger`: how usage is written down.

use crate::{
    config::reader::Item,
    ledger::{Durability, LedgerSettings, WhenFull},
};
use std::{ops::RangeInclusive, time::Duration};

/// How long a reply's end may wait.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
/// How long rows are kept: from an hour to a hundred years, or 0 for ever.
const KEPT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// `ledger`.
pub(super) fn ledger(item: &Item<'_>) -> Option<LedgerSettings> {
    const DURABILITIES: [(&str, Durability); 2] = [("strict", Durability::Strict), ("relaxed", Durability::Relaxed)];
    const POLICIES: [(&str, WhenFull); 2] = [("refuse", WhenFull::Refuse), ("drop_oldest", WhenFull::DropOldest)];
    let mut section = item.section()?;
    let mut ledger = LedgerSettings::default();
    section.set("enabled", &mut ledger.enabled, Item::boolean);
    section.set("durability", &mut ledger.durability, |item| item.choice(&DURABILITIES));
    section.set("fsync", &mut ledger.fsync, Item::boolean);
    section.set("commit_wait", &mut ledger.commit_wait, |item| item.duration(WAIT));
    section.set("queue", &mut ledger.queue, |item| item.count(10..=10_000_000));
    section.set("when_full", &mut ledger.when_full, |item| item.choice(&POLICIES));
    section.set("keep_attempts", &mut ledger.keep_attempts, |item| item.duration(KEPT));
    section.set("keep_hours", &mut ledger.keep_hours, |item| item.duration(KEPT));
    section.done();
    Some(ledger)
}
