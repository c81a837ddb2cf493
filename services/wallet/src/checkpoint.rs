//! The guard's checkpoint: how far this signer has seen the guard's records, kept outside the guard's database.
//!
//! A database that is restored from a backup forgets signatures that are out in the world. The checkpoint names the last record
//! that this signer released a signature under, and its running digest; a database without that record is refused. Invariants:
//! it only moves forward; it is replaced whole (written beside, synced, renamed) and carries a check sum. Each signer process
//! has its own file; several signers share one database. Deliberately absent: protection when database and checkpoint are both
//! lost or both restored (then only the chain's own nonces tell, and a human must look), and of records that only other signers
//! have seen (replicate the guard's database synchronously).

use std::fmt;
use std::fs::{self, OpenOptions};
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use custos_domain::Digest;

use crate::WalletError;
use crate::keystore::{beside, sync_folder};

const HEADING: &str = "custos-guard-checkpoint-1";

/// A place in the guard's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// How many records there are up to here.
    pub count: u64,
    /// The running digest of them all.
    pub running: Digest,
    /// The highest policy version shown to a signer so far.
    pub policy_version: u32,
}

impl Mark {
    /// Before any record.
    pub const START: Self = Self { count: 0, running: Digest([0; 32]), policy_version: 0 };

    /// The later of two marks of one history, field by field.
    fn join(self, other: Self) -> Self {
        let records = if other.count > self.count { other } else { self };
        Self { policy_version: self.policy_version.max(other.policy_version), ..records }
    }
}

/// Where a checkpoint is kept: outside of the guard's database, one for each signer process.
pub trait CheckpointStore: fmt::Debug + Send + Sync + 'static {
    /// What is kept there.
    ///
    /// # Errors
    /// `NotFound` if nothing was ever kept there; else it cannot be read.
    fn read(&self) -> io::Result<String>;

    /// Keeps `text` instead of what was there: whole or not at all, and durable when the answer is there.
    fn replace(&self, text: String) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>>;

    /// Where that is, for errors.
    fn path(&self) -> &Path;
}

/// A checkpoint in a file.
#[derive(Clone, Debug)]
pub struct CheckpointFile(PathBuf);

/// The checkpoint's place, and what it says.
#[derive(Debug)]
pub struct Checkpoint {
    store: Box<dyn CheckpointStore>,
    mark: Mark,
}

impl Checkpoint {
    /// Reads the checkpoint in the file at `path`; where there is none, this signer has seen nothing yet.
    ///
    /// # Errors
    /// Unreadable, torn or altered.
    pub fn open(path: &Path) -> Result<Self, WalletError> {
        Self::kept_in(CheckpointFile(path.to_owned()))
    }

    /// Reads the checkpoint in `store`; where there is none, this signer has seen nothing yet.
    ///
    /// # Errors
    /// Unreadable, torn or altered.
    pub fn kept_in(store: impl CheckpointStore) -> Result<Self, WalletError> {
        let path = || store.path().to_owned();
        let mark = match store.read() {
            Ok(text) => parse(&text).ok_or_else(|| WalletError::CheckpointTorn { path: path() })?,
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => Mark::START,
            Err(bad) if bad.kind() == io::ErrorKind::InvalidData => {
                return Err(WalletError::CheckpointTorn { path: path() });
            }
            Err(source) => return Err(WalletError::Checkpoint { operation: "read", path: path(), source }),
        };
        Ok(Self { store: Box::new(store), mark })
    }

    /// What this signer has seen.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.mark
    }

    /// Moves forward to `mark`, durably; a mark that is not ahead changes nothing.
    ///
    /// # Errors
    /// It cannot be kept: whatever the mark stands for must not be released.
    pub async fn advance(&mut self, mark: Mark) -> Result<(), WalletError> {
        let next = self.mark.join(mark);
        if next == self.mark {
            return Ok(());
        }
        let failed = |source| WalletError::Checkpoint { operation: "write", path: self.store.path().to_owned(), source };
        self.store.replace(print(next)).await.map_err(failed)?;
        self.mark = next;
        Ok(())
    }
}

impl CheckpointStore for CheckpointFile {
    fn read(&self) -> io::Result<String> {
        fs::read_to_string(&self.0)
    }

    fn replace(&self, text: String) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>> {
        let path = self.0.clone();
        Box::pin(async move { tokio::task::spawn_blocking(move || write(&path, &text)).await.map_err(io::Error::other)? })
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

fn print(mark: Mark) -> String {
    let body = format!("{HEADING} {} {} {}", mark.count, mark.running, mark.policy_version);
    let check = Digest::of(body.as_bytes());
    format!("{body} {check}\n")
}

fn parse(text: &str) -> Option<Mark> {
    let (body, check) = text.strip_suffix('\n')?.rsplit_once(' ')?;
    if Digest::parse(check).ok()? != Digest::of(body.as_bytes()) {
        return None;
    }
    let mut fields = body.split(' ');
    let (heading, count, running, version) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let whole = heading == HEADING && fields.next().is_none();
    let mark =
        Mark { count: count.parse().ok()?, running: Digest::parse(running).ok()?, policy_version: version.parse().ok()? };
    whole.then_some(mark)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = beside(path, "new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_folder(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(count: u64) -> Mark {
        Mark { count, running: Digest::of(&count.to_be_bytes()), policy_version: 3 }
    }

    #[tokio::test]
    async fn a_checkpoint_moves_forward_only_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let mut checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.mark(), Mark::START);
        checkpoint.advance(mark(5)).await.unwrap();
        checkpoint.advance(mark(4)).await.unwrap();
        assert_eq!(Checkpoint::open(&path).unwrap().mark(), mark(5));
        checkpoint.advance(Mark { policy_version: 9, ..mark(2) }).await.unwrap();
        assert_eq!(Checkpoint::open(&path).unwrap().mark(), Mark { policy_version: 9, ..mark(5) });
    }

    #[tokio::test]
    async fn a_write_torn_before_the_rename_leaves_the_old_checkpoint_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        Checkpoint::open(&path).unwrap().advance(mark(5)).await.unwrap();
        fs::write(beside(&path, "new"), "custos-guard-checkpoint-1 6 ab").unwrap();
        let mut checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.mark(), mark(5));
        checkpoint.advance(mark(7)).await.unwrap();
        assert_eq!(Checkpoint::open(&path).unwrap().mark(), mark(7));
    }

    #[tokio::test]
    async fn a_checkpoint_cut_short_or_altered_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let whole = print(mark(5));
        for length in 0..whole.len() {
            fs::write(&path, &whole.as_bytes()[..length]).unwrap();
            assert!(matches!(Checkpoint::open(&path), Err(WalletError::CheckpointTorn { .. })), "cut at {length}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone().into_bytes();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(matches!(Checkpoint::open(&path), Err(WalletError::CheckpointTorn { .. })), "altered at {at}");
        }
    }
}
