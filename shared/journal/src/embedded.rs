//! The embedded log: one process, one file, durable, with the meaning of Kafka's transactions.
//!
//! The file is an append-only sequence of checksummed frames (`docs/decisions/0001-embedded-store.md` says why); a frame is a
//! whole transaction, so there is nothing to undo and no reader ever sees a part. One thread writes and shares each `fdatasync`
//! among all who wait (`writer`); an index in memory tells readers where records are (`index`, `store`).
//!
//! Invariants: whatever was answered `Ok` survives the loss of power; nothing is visible before it is durable; offsets of a
//! partition are dense. Deliberately absent: more than one process, replication, deletion of old records, and compaction of the
//! file ([`ShardLog::restore`] shows only the newest record of each key, as a compacted topic would).

mod format;
mod groups;
mod index;
mod members;
mod recovery;
mod shard;
mod store;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;

use custos_messages::{Machine, Topic};

use crate::{Appender, Feed, Journal, JournalError, LogIdentity, Membership, Provision, ShardLog, Start};

/// The name of the file within the folder.
const LOG_FILE: &str = "journal.log";
/// Locked while the log is open.
const LOCK_FILE: &str = "journal.lock";

/// A log in a folder of this machine. Dropping it and every handle made from it closes it.
pub struct EmbeddedJournal {
    core: Arc<writer::Core>,
}

impl EmbeddedJournal {
    /// Opens the log in `dir`, creating both if missing, and reads it through: about a second for each gigabyte.
    ///
    /// # Errors
    /// `Misconfigured` if the folder is open already, here or in another process, if the file is of another version, or if what
    /// had been acknowledged is damaged; `Store` if the disk fails.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        std::fs::create_dir_all(dir).map_err(|source| failed("create the folder of the log", source))?;
        let lock = open_file(&dir.join(LOCK_FILE))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let problem = format!("{} is open already, here or in another process", dir.display());
                return Err(JournalError::Misconfigured(problem));
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock the folder of the log", source)),
        }
        let file = open_file(&dir.join(LOG_FILE))?;
        let mut fresh = [0; 16];
        getrandom::fill(&mut fresh).map_err(|source| failed("name the log", source.to_string()))?;
        let found = recovery::recover(&file, fresh)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| failed("make the folder durable", source))?;
        let store = store::Store::new(file, found.id, found.index);
        Ok(Self { core: Arc::new(writer::Core::start(store, lock, found.length, found.capacity)?) })
    }
}

impl Journal for EmbeddedJournal {
    fn join(&self, machine: Machine, _member: &str) -> Result<Box<dyn Membership>, JournalError> {
        Ok(Box::new(members::Seat::join(Arc::clone(&self.core), machine)?))
    }

    fn acquire(&self, machine: Machine, partition: u32) -> Result<Box<dyn ShardLog>, JournalError> {
        Ok(Box::new(shard::EmbeddedShard::acquire(Arc::clone(&self.core), machine, partition)?))
    }

    fn appender(&self) -> Result<Box<dyn Appender>, JournalError> {
        Ok(Box::new(shard::EmbeddedAppender(Arc::clone(&self.core))))
    }

    fn consume(&self, topic: Topic, group: &str) -> Result<Box<dyn Feed>, JournalError> {
        Ok(Box::new(groups::GroupFeed::join(Arc::clone(&self.core), topic, group)?))
    }

    fn read(&self, topic: Topic, partition: u32, from: Start) -> Result<Box<dyn Feed>, JournalError> {
        let (first, last) = self.core.store.bounds(topic, partition)?;
        let next = match from {
            Start::Earliest => first,
            Start::Latest => last,
            Start::At(offset) => offset,
        };
        Ok(Box::new(groups::PlainFeed { core: Arc::clone(&self.core), topic, partition, next }))
    }

    fn follow(&self, topic: Topic, places: &[(u32, u64)]) -> Result<Box<dyn Feed>, JournalError> {
        self.core.store.check(places.iter().map(|(partition, _)| (topic, *partition)))?;
        Ok(Box::new(groups::FollowFeed::new(Arc::clone(&self.core), topic, places)))
    }

    fn identity(&self, machine: Machine) -> Result<LogIdentity, JournalError> {
        Ok(shard::identity(&self.core, machine))
    }

    fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        match self.core.store.lock().partitions(topic) {
            0 => Err(no_such(topic, 0)),
            partitions => Ok(partitions),
        }
    }

    fn bounds(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        self.core.store.bounds(topic, partition)
    }

    fn provision(&self, wanted: &Provision) -> Result<Vec<String>, JournalError> {
        if wanted.partitions.max(wanted.gateways) > index::PARTITIONS_MAX {
            let problem = format!("a topic of this log has at most {} partitions", index::PARTITIONS_MAX);
            return Err(JournalError::Misconfigured(problem));
        }
        let (mut missing, mut differences) = (Vec::new(), Vec::new());
        for topic in Topic::ALL {
            let partitions = if topic == Topic::GatewayReplies { wanted.gateways } else { wanted.partitions };
            match self.core.store.lock().partitions(topic) {
                0 => missing.push((topic, partitions)),
                found if found == partitions => {}
                found => differences.push(format!("{}: {found} partitions, wanted {partitions}", topic.name())),
            }
        }
        self.core.submit("provision", writer::Work::Provision(missing))?;
        Ok(differences)
    }
}

fn open_file(path: &Path) -> Result<File, JournalError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    opened.map_err(|source| failed("open a file of the log", source))
}

fn failed(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> JournalError {
    JournalError::Store { operation, source: source.into() }
}

fn misconfigured(problem: &str) -> JournalError {
    JournalError::Misconfigured(problem.to_owned())
}

fn no_such(topic: Topic, partition: u32) -> JournalError {
    JournalError::Misconfigured(format!("{} has no partition {partition}", topic.name()))
}

const fn fenced(machine: Machine, partition: u32) -> JournalError {
    JournalError::Fenced { machine: machine.name(), partition }
}
