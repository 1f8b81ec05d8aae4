//! One file of the journal: rows that are not in the ledger's file yet, out of reach of whatever kills the process.
//!
//! The file has a mirror in memory, and is written from it at the end, one system call a row: what the kernel has taken is
//! there after a `kill -9`. What cannot be written stays in the mirror, and goes along with the next row. A segment is
//! emptied by a new number in its header, and is overwritten then; rows carry that number in their checksum, so that none
//! of an earlier filling is taken for one of this. Whoever writes a segment holds its lock; one without is an orphan.

use super::{
    entry::Entry,
    record::{self, Record},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// How a segment's name ends.
const ENDING: &str = "journal";
/// The beginning of a segment; the last digit is that of the format.
const MAGIC: [u8; 8] = *b"s2a-led1";
/// The magic, and the number of the filling.
const HEADER: usize = 12;
/// The length of a row, and above it its checksum.
const FRAME: usize = 8;
/// A file that grew larger while rows could not be written is cut when it is emptied.
const LARGE: usize = 8 << 20;
/// So many bytes of rows that were given up are kept before a segment is written anew without them.
const WASTE: usize = 1 << 20;

/// A segment that this process writes.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    filling: u32,
    /// What the file holds, or is to hold.
    mirror: Vec<u8>,
    /// So much of it is in the file.
    saved: usize,
    /// Where the first row begins that has not been given up.
    first: usize,
    rows: usize,
}

impl Segment {
    /// Makes an empty one in this directory.
    pub(super) fn create(directory: &Path) -> io::Result<Segment> {
        let mut number = [0; 8];
        getrandom::fill(&mut number).map_err(|error| io::Error::other(error.to_string()))?;
        let path = directory.join(format!("usage-{:016x}.{ENDING}", u64::from_le_bytes(number)));
        let unlocked = path.with_extension("new");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&unlocked)?;
        file.try_lock()?;
        // Only now can others see it: one without a lock would be an orphan to them.
        fs::rename(&unlocked, &path)?;
        let mut segment = Segment { file, path, filling: 1, mirror: Vec::new(), saved: 0, first: 0, rows: 0 };
        segment.begin();
        Ok(segment)
    }

    fn begin(&mut self) {
        self.mirror.clear();
        self.mirror.extend_from_slice(&MAGIC);
        self.mirror.extend_from_slice(&self.filling.to_le_bytes());
        (self.saved, self.first, self.rows) = (0, HEADER, 0);
    }

    /// Takes a row into the mirror.
    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        append(&mut self.mirror, self.filling, |out| record::encode(entry, out));
        self.rows += 1;
    }

    /// Writes to the file what is not there yet.
    pub(super) fn save(&mut self) -> io::Result<()> {
        while let Some(rest) = self.mirror.get(self.saved..).filter(|rest| !rest.is_empty()) {
            match self.file.write_at(rest, self.saved as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.saved += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many rows it holds.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Its rows, the oldest first, without the bytes before this place (0 for all).
    pub(super) fn records(&self, from: usize) -> Records<'_> {
        Records { sealed_by: None, rest: self.mirror.get(self.first.max(from)..).unwrap_or_default() }
    }

    /// The place behind the rows that have been read.
    pub(super) fn place(&self, read: &Records<'_>) -> usize {
        self.mirror.len() - read.rest.len()
    }

    /// Gives up the oldest row. What the file holds of such rows is bounded.
    pub(super) fn drop_first(&mut self, directory: &Path) {
        let mut records = self.records(0);
        if records.body().is_some() {
            self.first = self.place(&records);
            self.rows -= 1;
        }
        if self.first > WASTE.max(self.mirror.len() / 2) {
            self.renew(directory).unwrap_or_else(|error| log::debug!("ledger: {error}"));
        }
    }

    /// Goes on in a new file, without what has been given up. The old one goes when the new one holds everything.
    fn renew(&mut self, directory: &Path) -> io::Result<()> {
        let mut fresh = Segment::create(directory)?;
        let mut records = self.records(0);
        while let Some(body) = records.body() {
            append(&mut fresh.mirror, fresh.filling, |out| out.extend_from_slice(body));
            fresh.rows += 1;
        }
        if self.saved > 0 {
            fresh.save()?;
        }
        std::mem::replace(self, fresh).remove();
        Ok(())
    }

    /// Forgets its rows, which are in the ledger's file.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        let (was_saved, length) = (self.saved > 0, self.mirror.len());
        self.filling = self.filling.wrapping_add(1);
        self.begin();
        if length > LARGE {
            self.mirror.shrink_to(LARGE);
            self.file.set_len(0)
        } else if was_saved {
            self.save()
        } else {
            Ok(())
        }
    }

    /// Removes the file. What is written to it afterwards is lost.
    pub(super) fn remove(&self) {
        fs::remove_file(&self.path)
            .unwrap_or_else(|error| log::warn!("cannot remove {}: {error}", self.path.display()));
    }
}

#[cfg(test)]
impl Segment {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on nothing more can be written to it.
    pub(super) fn fill_the_disk(&mut self) {
        self.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    }
}

#[cfg(test)]
impl<'s> Records<'s> {
    /// The bytes of rows as a segment has them in memory.
    pub(super) fn bytes(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| append(&mut bytes, 1, |out| record::encode(entry, out)));
        bytes
    }

    /// The rows that these bytes are.
    pub(super) fn of(bytes: &'s [u8]) -> Records<'s> {
        Records { sealed_by: None, rest: bytes }
    }
}

/// Appends a row, and before it its length and its checksum.
fn append(out: &mut Vec<u8>, filling: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    body(out);
    let body = out.get(start + FRAME..).unwrap_or_default();
    let head = u64::from(checksum(filling, body)) << 32 | body.len() as u64;
    if let Some(frame) = out.get_mut(start..start + FRAME) {
        frame.copy_from_slice(&head.to_le_bytes());
    }
}

fn checksum(filling: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(filling);
    hasher.update(body);
    hasher.finalize()
}

/// Rows one behind another, up to the first that is not whole.
#[derive(Clone)]
pub(super) struct Records<'s> {
    /// The filling that the checksums are made with. `None` where they need not be looked at: this process wrote the rows,
    /// and reads them from its own memory.
    sealed_by: Option<u32>,
    rest: &'s [u8],
}

impl<'s> Records<'s> {
    /// The bytes of the next row.
    fn body(&mut self) -> Option<&'s [u8]> {
        let (head, rest) = self.rest.split_first_chunk()?;
        let head = u64::from_le_bytes(*head);
        let (length, sum) = (head as u32, (head >> 32) as u32);
        let (body, rest) = rest.split_at_checked(length as usize)?;
        if self.sealed_by.is_some_and(|filling| checksum(filling, body) != sum) {
            return None;
        }
        self.rest = rest;
        Some(body)
    }
}

impl<'s> Iterator for Records<'s> {
    type Item = Record<'s>;

    fn next(&mut self) -> Option<Record<'s>> {
        let before = self.rest;
        let record = self.body().and_then(Record::decode).filter(|row| self.sealed_by.is_none() || row.is_text());
        if record.is_none() {
            // Nothing is read behind it.
            self.rest = before;
        }
        record
    }
}

/// A segment that nobody writes any longer: its process has ended. Locked as long as this is here.
pub(super) struct Orphan {
    path: PathBuf,
    file: File,
    content: Vec<u8>,
}

impl Orphan {
    /// All of a directory. One that cannot be read is left where it is.
    pub(super) fn all(directory: &Path) -> io::Result<Vec<Orphan>> {
        let mut orphans = Vec::new();
        let files = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(orphans),
            files => files?,
        };
        for found in files {
            let path = found?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                orphans.extend(Orphan::adopt(path)?);
            }
        }
        Ok(orphans)
    }

    /// `None` for the segment of a process that lives, and for one that has just gone.
    fn adopt(path: PathBuf) -> io::Result<Option<Orphan>> {
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(Some(Orphan { path, file, content }))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its rows. `None` for a file of another format.
    pub(super) fn records(&self) -> Option<Records<'_>> {
        if self.content.is_empty() {
            return Some(Records { sealed_by: Some(0), rest: &[] });
        }
        let (magic, rest) = self.content.split_first_chunk::<8>()?;
        let (filling, rest) = rest.split_first_chunk()?;
        (*magic == MAGIC).then_some(Records { sealed_by: Some(u32::from_le_bytes(*filling)), rest })
    }

    /// Its rows are in the ledger's file.
    pub(super) fn remove(self) -> io::Result<()> {
        let removed = match fs::remove_file(&self.path) {
            // Another process was faster, and took the same rows in.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        // The lock goes last: nobody may take the file for an orphan while it can still be found.
        drop(self.file);
        removed
    }

    /// Leaves it in peace, under a name that is not looked at again.
    pub(super) fn set_aside(self) -> io::Result<()> {
        let aside = self.path.with_extension("unreadable");
        log::error!("ledger: {} is no journal of this version; it is kept as {}", self.path.display(), aside.display());
        fs::rename(&self.path, aside)
    }
}
