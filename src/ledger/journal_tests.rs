//! What the journal promises: a row that it holds is in the file in the end, once, whatever happened in between.

use super::{
    query::Filter,
    segment::Orphan,
    tests::{Folder, entry, wait_until},
    *,
};
use std::sync::OnceLock;

/// Leaves what a process leaves that is killed when these rows were in the journal.
fn leave(folder: &Folder, exchanges: std::ops::RangeInclusive<u64>) -> PathBuf {
    /// The same row is of the same moment, however often it is left.
    static BEGAN: OnceLock<u64> = OnceLock::new();
    let mut segment = Segment::create(&folder.0).unwrap();
    for exchange in exchanges {
        let entry = entry(exchange, 1);
        let began = *BEGAN.get_or_init(|| entry.began);
        segment.push(&Entry { began, ..entry });
        segment.save().unwrap();
    }
    segment.path().to_owned()
}

fn journals(folder: &Folder) -> usize {
    let files = std::fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "journal")).count()
}

fn attempts(folder: &Folder) -> u64 {
    folder.reader().total(&Filter::default()).unwrap().attempts
}

#[test]
fn rows_of_a_killed_process_are_in_the_file_after_the_next_start() {
    let folder = Folder::new();
    leave(&folder, 1..=7);
    leave(&folder, 5..=9);
    let ledger = folder.ledger(LedgerSettings::default());
    assert_eq!(attempts(&folder), 9, "before anything is asked or written, each once");
    assert_eq!(journals(&folder), 2, "those of the process that lives");
    drop(ledger);
    assert_eq!(journals(&folder), 0);
}

#[test]
fn whoever_asks_while_no_gateway_runs_takes_them_in() {
    let folder = Folder::new();
    assert_eq!(recover(&folder.0).unwrap(), 0);
    assert!(!folder.0.join(FILE_NAME).exists(), "nothing is made where nothing was left");
    leave(&folder, 1..=3);
    assert_eq!((recover(&folder.0).unwrap(), recover(&folder.0).unwrap()), (3, 0));
    assert_eq!((attempts(&folder), journals(&folder)), (3, 0));
}

#[test]
fn a_row_that_a_kill_cut_off_is_left_out_and_those_before_it_are_not() {
    let folder = Folder::new();
    let whole = leave(&folder, 1..=3);
    let content = std::fs::read(&whole).unwrap();
    std::fs::remove_file(&whole).unwrap();
    for length in 0..content.len() {
        std::fs::write(&whole, &content[..length]).unwrap();
        let orphans = Orphan::all(&folder.0).unwrap();
        let rows = orphans[0].records().map(Iterator::count);
        // The header is written with the first row: a part of it is a file without any.
        let expected =
            if (1..12).contains(&length) { None } else { Some(length.saturating_sub(12) * 3 / (content.len() - 12)) };
        assert_eq!(rows, expected, "{length} of {} bytes", content.len());
    }
    let mut spoilt = content.clone();
    let last = spoilt.len() - 1;
    spoilt[last] ^= 1;
    std::fs::write(&whole, &spoilt).unwrap();
    assert_eq!(recover(&folder.0).unwrap(), 2);
}

#[test]
fn rows_of_an_earlier_filling_are_not_read_behind_the_new_ones() {
    let folder = Folder::new();
    let mut segment = Segment::create(&folder.0).unwrap();
    (1..=9).for_each(|exchange| segment.push(&entry(exchange, 1)));
    segment.save().unwrap();
    segment.empty().unwrap();
    let content = std::fs::read(segment.path()).unwrap();
    segment.push(&entry(11, 1));
    segment.save().unwrap();
    drop(segment);
    assert_eq!(recover(&folder.0).unwrap(), 1, "rows of the same length stand behind it");
    std::fs::write(folder.0.join("usage-0.journal"), content).unwrap();
    assert_eq!(recover(&folder.0).unwrap(), 0, "an emptied one holds none");
}

#[test]
fn the_segment_of_a_process_that_lives_is_left_alone() {
    let folder = Folder::new();
    let mut segment = Segment::create(&folder.0).unwrap();
    segment.push(&entry(1, 1));
    segment.save().unwrap();
    let ledger = folder.ledger(LedgerSettings::default());
    assert_eq!(recover(&folder.0).unwrap(), 0);
    assert_eq!((attempts(&folder), segment.path().exists()), (0, true));
    drop(segment);
    assert_eq!((recover(&folder.0).unwrap(), attempts(&folder)), (1, 1));
    drop(ledger);
}

#[test]
fn a_journal_of_another_version_is_kept_and_looked_at_once() {
    let folder = Folder::new();
    let path = folder.0.join("usage-1.journal");
    std::fs::write(&path, "s2a-led9 and what only that version knows").unwrap();
    assert_eq!(recover(&folder.0).unwrap(), 0);
    assert!(!path.exists() && path.with_extension("unreadable").exists());
}

#[test]
fn rows_outlive_a_stop_while_the_file_cannot_be_written() {
    for (durability, fsync) in [(Durability::Strict, false), (Durability::Strict, true), (Durability::Relaxed, false)] {
        let folder = Folder::new();
        let ledger = folder.ledger(LedgerSettings { durability, fsync, ..LedgerSettings::default() });
        let other = folder.other();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        ledger.submit(entry(1, 1));
        wait_until("the trouble", || ledger.health().stuck);
        (2..=20).for_each(|exchange| _ = ledger.submit(entry(exchange, 1)));
        ledger.close();
        // A request can outlive the thread by a moment.
        if durability == Durability::Strict {
            ledger.submit(entry(21, 1));
        }
        drop(ledger);
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(attempts(&folder), 0);
        let expected = if durability == Durability::Strict { 21 } else { 20 };
        let _ledger = folder.ledger(LedgerSettings::default());
        assert_eq!(attempts(&folder), expected, "{durability:?}, fsync {fsync}");
    }
}

#[tokio::test]
async fn where_the_journal_cannot_be_written_a_reply_waits_for_the_commit_again() {
    let folder = Folder::new();
    let settings = LedgerSettings { commit_wait: Duration::from_secs(30), ..LedgerSettings::default() };
    let ledger = folder.ledger(settings);
    assert!(ledger.submit(entry(1, 1)).is_none(), "the journal holds it");
    ledger.queue.fill_the_disk();
    assert!(ledger.submit(entry(2, 1)).unwrap().committed().await);
    assert_eq!(attempts(&folder), 2);
}

#[test]
fn a_disk_that_is_full_for_journal_and_file_stops_nobody_and_loses_nothing() {
    let folder = Folder::new();
    let ledger = folder.ledger(LedgerSettings::default());
    let other = folder.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    ledger.queue.fill_the_disk();
    ledger.submit(entry(1, 1));
    wait_until("the trouble", || ledger.health().stuck);
    ledger.queue.fill_the_disk();
    (2..=500).for_each(|exchange| assert!(ledger.submit(entry(exchange, 1)).is_none()));
    assert_eq!(ledger.health().waiting, 500);
    other.execute_batch("COMMIT").unwrap();
    wait_until("the rows' way into the file", || ledger.health().waiting == 0);
    assert_eq!(attempts(&folder), 500);
}

#[test]
fn what_was_taken_in_is_found_by_the_next_question_of_the_same_process() {
    let folder = Folder::new();
    let ledger = folder.ledger(LedgerSettings::default());
    for exchange in 1..=20 {
        assert!(ledger.submit(entry(exchange, 1)).is_none());
        assert_eq!(ledger.reader().unwrap().total(&Filter::default()).unwrap().attempts, exchange);
    }
}

#[test]
fn the_journal_stays_within_bounds_while_the_oldest_rows_are_given_up() {
    let folder = Folder::new();
    let mut segment = Segment::create(&folder.0).unwrap();
    for exchange in 1..=30_000 {
        segment.push(&entry(exchange, 1));
        segment.save().unwrap();
        if exchange > 100 {
            segment.drop_first(&folder.0);
        }
        let length = std::fs::metadata(segment.path()).unwrap().len();
        assert!(length < 2 << 20, "{length} bytes with {exchange} rows");
    }
    assert_eq!((segment.rows(), segment.records(0).count(), journals(&folder)), (100, 100, 1));
    drop(segment);
    assert!(recover(&folder.0).unwrap() >= 100);
    let sums = folder.reader().total(&Filter { from: Some(0), ..Filter::default() }).unwrap();
    assert!(sums.output >= (29_901..=30_000).sum(), "the newest ones are among them");
}

#[test]
fn a_segment_that_grew_large_is_small_again_when_it_is_emptied() {
    let folder = Folder::new();
    let mut segment = Segment::create(&folder.0).unwrap();
    (1..=100_000).for_each(|exchange| segment.push(&entry(exchange, 1)));
    segment.save().unwrap();
    segment.empty().unwrap();
    assert_eq!(std::fs::metadata(segment.path()).unwrap().len(), 0);
    segment.push(&entry(1, 1));
    segment.save().unwrap();
    drop(segment);
    assert_eq!(recover(&folder.0).unwrap(), 1);
}
