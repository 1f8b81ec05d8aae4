//! Where the tokens of one grant lie between two runs of the process: a file of mode 0600.
//!
//! Written whole and put in place at once, so that a crash leaves the old file or the new one. It is named and marked by the
//! grant it was traded for: another refresh token in the configuration has another file. Blocks; keep it off the runtime.

use super::Granted;
use crate::{clock::Moment, config::secret::Secret};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// The largest file that is read.
const MOST_BYTES: u64 = 256 << 10;

/// The file of one grant.
#[derive(Clone, Debug)]
pub struct Keep {
    path: PathBuf,
    account: String,
    fingerprint: String,
}

/// What a file held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The access token, if its life is not over.
    pub access: Option<Granted>,
    /// The refresh token in force.
    pub refresh: Secret,
}

#[derive(Serialize, Deserialize)]
struct Record {
    /// Whose tokens these are, for people.
    account: String,
    /// The grant that the tokens were traded for, by its fingerprint.
    grant: String,
    refresh_token: String,
    access_token: String,
    expires_unix_millis: u64,
}

impl Keep {
    /// The file of a grant in the directory for state; `account` is only written into it.
    pub fn new(data_dir: &Path, account: &str, fingerprint: [u8; 32]) -> Keep {
        let fingerprint: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
        let name: String = fingerprint.chars().take(16).collect();
        Keep { path: data_dir.join("tokens").join(format!("{name}.json")), account: account.to_owned(), fingerprint }
    }

    /// What the file holds for this grant; nothing where there is none, or none that can be read.
    pub fn read(&self, now: Moment) -> Option<Kept> {
        let mut text = Vec::new();
        File::open(&self.path).ok()?.take(MOST_BYTES).read_to_end(&mut text).ok()?;
        let record: Record = serde_json::from_slice(&text).ok().filter(|r: &Record| r.grant == self.fingerprint)?;
        let life = record.expires_unix_millis.saturating_sub(now.unix_millis());
        let access = (life > 0 && !record.access_token.is_empty()).then(|| Granted {
            access_token: Secret::new(record.access_token),
            expires_in: Some(Duration::from_millis(life)),
            refresh_token: Some(Secret::new(record.refresh_token.clone())),
        });
        Some(Kept { access, refresh: Secret::new(record.refresh_token) })
    }

    /// Puts tokens in the place of those in the file.
    ///
    /// # Errors
    /// The file system's; the old file is then still there.
    pub fn write(&self, refresh: &Secret, granted: &Granted, begun: Moment) -> io::Result<()> {
        let life = granted.expires_in.unwrap_or_default();
        let record = Record {
            account: self.account.clone(),
            grant: self.fingerprint.clone(),
            refresh_token: refresh.expose().to_owned(),
            access_token: granted.access_token.expose().to_owned(),
            expires_unix_millis: begun
                .unix_millis()
                .saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX)),
        };
        let directory = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let draft = self.path.with_extension(format!("{}.new", std::process::id()));
        // One that a crash left behind may have another mode.
        let _ = fs::remove_file(&draft);
        let written = write_new(&draft, &serde_json::to_vec(&record)?).and_then(|()| fs::rename(&draft, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written?;
        File::open(directory)?.sync_all()
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::os::unix::fs::PermissionsExt;

    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Directory {
            Directory(std::env::temp_dir().join(format!("sub2api-keep-{test}-{}", std::process::id())))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn granted(token: &str) -> Granted {
        let life = Some(Duration::from_secs(100));
        Granted { access_token: Secret::new(token), expires_in: life, refresh_token: None }
    }

    #[test]
    fn what_was_written_is_read_by_the_next_run_until_its_end() {
        let directory = Directory::new("next");
        let clock = ManualClock::new();
        let keep = Keep::new(&directory.0, "a", [1; 32]);
        assert_eq!(keep.read(clock.now()), None);
        keep.write(&Secret::new("r1"), &granted("a1"), clock.now()).unwrap();
        keep.write(&Secret::new("r2"), &granted("a2"), clock.now()).unwrap();
        clock.advance(Duration::from_secs(40));
        let kept = keep.read(clock.now()).unwrap();
        assert_eq!(kept.refresh.expose(), "r2");
        let access = kept.access.unwrap();
        assert_eq!((access.access_token.expose(), access.expires_in), ("a2", Some(Duration::from_secs(60))));
        clock.advance(Duration::from_secs(60));
        let kept = keep.read(clock.now()).unwrap();
        assert_eq!((kept.refresh.expose(), kept.access), ("r2", None));
    }

    #[test]
    fn nobody_else_can_read_it_and_no_draft_is_left() {
        let directory = Directory::new("mode");
        let keep = Keep::new(&directory.0, "a", [1; 32]);
        keep.write(&Secret::new("r"), &granted("a"), ManualClock::new().now()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&keep.path), mode(keep.path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(keep.path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn tokens_of_another_grant_do_not_count() {
        let directory = Directory::new("grant");
        let now = ManualClock::new().now();
        Keep::new(&directory.0, "a", [1; 32]).write(&Secret::new("r"), &granted("a"), now).unwrap();
        assert_eq!(Keep::new(&directory.0, "a", [2; 32]).read(now), None);
        assert!(Keep::new(&directory.0, "renamed", [1; 32]).read(now).is_some());
        let other = Keep { fingerprint: "02".repeat(32), ..Keep::new(&directory.0, "a", [1; 32]) };
        assert_eq!(other.read(now), None, "even under the same name");
    }

    #[test]
    fn a_damaged_file_is_no_file() {
        let directory = Directory::new("damaged");
        let now = ManualClock::new().now();
        let keep = Keep::new(&directory.0, "a", [1; 32]);
        keep.write(&Secret::new("r"), &granted("a"), now).unwrap();
        fs::write(&keep.path, b"{\"grant\":").unwrap();
        assert_eq!(keep.read(now), None);
    }
}
