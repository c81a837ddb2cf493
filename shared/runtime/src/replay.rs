//! Replay: a shard's inbox, folded again from its first record in memory, with the code that the shard itself runs.
//!
//! Invariant: the inbox alone decides the machine's records, its timers, its links and its events, so a replay gives the same bytes.
//! The outbox is left out: a message is in it from the transaction that says it until one that follows its delivery, and when
//! that is depends on the host. Nothing is written. Deliberately absent: services and clocks; a replay asks nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use custos_domain::Digest;
use custos_journal::{Entry, Feed, Journal, JournalError, LogIdentity, Start};
use custos_messages::{Keyring, Record, ShardName, Source, Topic};
use custos_saga::machine::{Machine, StateError};

use crate::shard::{
    Batch, Identity, LastInput, Manifest, Memory, Roots, UnknownLogic, is_header, is_manifest, is_outbox_key, knows,
};

/// Inputs of one step of the fold; how many they are changes nothing.
const BATCH: usize = 1_000;
/// How long one read may take before the log counts as silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far before the end of a state partition its last manifest is looked for at first.
const TAIL: u64 = 64;

/// State records by key.
pub type StateRecords = BTreeMap<Vec<u8>, Vec<u8>>;

/// Where a replay came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Which shard.
    pub shard: ShardName,
    /// Offset of the first input that was not applied.
    pub next: u64,
    /// The last input.
    pub last: Option<LastInput>,
    /// Sequence of the last event.
    pub event_sequence: u64,
    /// Its hash.
    pub event_hash: Digest,
    /// The logic in force after the last input.
    pub logic: u32,
    /// The hash of `state`.
    pub state_root: Digest,
    /// Every state record but those of the outbox, as the state topic holds them.
    pub state: StateRecords,
    /// Inputs applied.
    pub applied: u64,
    /// Inputs put aside.
    pub quarantined: u64,
}

/// Why a replay is not possible, or what it found.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log failed.
    #[error("replaying {shard}")]
    Journal {
        /// The shard.
        shard: ShardName,
        /// What it says.
        #[source]
        source: JournalError,
    },
    /// The inbox does not begin at its beginning any more.
    #[error("{shard}: the inbox begins at offset {first}; what came before is gone")]
    Trimmed {
        /// The shard.
        shard: ShardName,
        /// The first offset that is left.
        first: u64,
    },
    /// The inbox ends before the place where the shard stands.
    #[error("{shard} stands at offset {next}, but its inbox ends at {end}")]
    CutOff {
        /// The shard.
        shard: ShardName,
        /// Where it stands.
        next: u64,
        /// Where the inbox ends.
        end: u64,
    },
    /// An input has no broker time.
    #[error("{shard}: the input at offset {offset} has no broker time")]
    NoTime {
        /// The shard.
        shard: ShardName,
        /// Where.
        offset: u64,
    },
    /// The shard began with a logic that this binary does not have: its beginning needs the binary of then.
    #[error("{shard} began with logic {first}; this binary knows up to {newest}, and the one before")]
    FirstLogic {
        /// The shard.
        shard: ShardName,
        /// The logic that it began with.
        first: u32,
        /// The newest that this binary knows.
        newest: u32,
    },
    /// An input activates a logic that this binary does not have.
    #[error("{shard}")]
    Logic {
        /// The shard.
        shard: ShardName,
        /// Which.
        #[source]
        source: UnknownLogic,
    },
    /// The shard has no manifest to compare with.
    #[error("{0} has no manifest")]
    NoManifest(ShardName),
    /// The manifest cannot be read.
    #[error("{shard}: the state topic cannot be read")]
    State {
        /// The shard.
        shard: ShardName,
        /// Why.
        #[source]
        source: StateError,
    },
    /// The replay and the shard differ: one of them is not what the log says.
    #[error("{shard}: {what} is `{found}`, and `{replayed}` by replay")]
    Differs {
        /// The shard.
        shard: ShardName,
        /// What differs.
        what: &'static str,
        /// In the shard's manifest.
        found: String,
        /// By replay.
        replayed: String,
    },
    /// A state record differs, though it may hash to what the manifest says.
    #[error("{shard}: the state record {key} is not what a replay gives")]
    RecordDiffers {
        /// The shard.
        shard: ShardName,
        /// Its key, in hexadecimal.
        key: String,
    },
}

/// What a replay is made from.
struct Fold<'a, M: Machine> {
    identity: Identity,
    memory: Memory<M>,
    manifest: Manifest,
    state: StateRecords,
    applied: u64,
    quarantined: u64,
    output: &'a mut dyn FnMut(Topic, &Record),
}

/// Folds the whole inbox of a shard, as far as it is committed now.
///
/// # Errors
/// The log fails, or the beginning of the inbox is gone.
pub fn replay<M: Machine>(
    journal: &dyn Journal,
    keyring: &Arc<Keyring>,
    partition: u32,
    partitions: u32,
) -> Result<Replay, ReplayError> {
    replay_into::<M>(journal, keyring, (partition, partitions), None, &mut |_, _| {})
}

/// Folds the inbox of shard (`partition`, of `partitions`) up to `until`, or as far as it is committed now, and shows each output (events,
/// commands, watch list, quarantine) in order, byte for byte as the shard wrote it.
///
/// # Errors
/// As for [`replay`]; and the inbox ends before `until`.
pub fn replay_into<M: Machine>(
    journal: &dyn Journal,
    keyring: &Arc<Keyring>,
    place: (u32, u32),
    until: Option<u64>,
    output: &mut dyn FnMut(Topic, &Record),
) -> Result<Replay, ReplayError> {
    let shard = ShardName { machine: M::KIND, partition: place.0 };
    let first = last_manifest(journal, shard)?.map_or(M::LOGIC, |manifest| manifest.first_logic);
    fold_inbox::<M>((journal, keyring), place, (first, until), output)
}

/// Folds the inbox under the logic that ran: it begins with `first`, and switches where the inbox says so.
fn fold_inbox<M: Machine>(
    (journal, keyring): (&dyn Journal, &Arc<Keyring>),
    (partition, partitions): (u32, u32),
    (first_logic, until): (u32, Option<u64>),
    output: &mut dyn FnMut(Topic, &Record),
) -> Result<Replay, ReplayError> {
    let shard = ShardName { machine: M::KIND, partition };
    let failed = |source| ReplayError::Journal { shard, source };
    if !knows(M::LOGIC, first_logic) {
        return Err(ReplayError::FirstLogic { shard, first: first_logic, newest: M::LOGIC });
    }
    let inbox = Topic::Inbox(M::KIND);
    let (first, end) = journal.bounds(inbox, partition).map_err(failed)?;
    if first > 0 {
        return Err(ReplayError::Trimmed { shard, first });
    }
    if let Some(next) = until.filter(|next| *next > end) {
        return Err(ReplayError::CutOff { shard, next, end });
    }
    let source = Source::of_machine(M::KIND);
    let mut fold = Fold::<M> {
        identity: Identity { shard, partitions, source, keyring: Arc::clone(keyring), ahead: false },
        memory: Memory::default(),
        manifest: origin(first_logic),
        state: BTreeMap::new(),
        applied: 0,
        quarantined: 0,
        output,
    };
    let end = until.unwrap_or(end);
    let mut feed = journal.read(inbox, partition, Start::Earliest).map_err(failed)?;
    each_batch(&mut *feed, end, |entries| fold.apply(entries), failed)?;
    Ok(fold.finish())
}

/// Compares the shard as it stands in its state topic with a replay of its inbox up to there. The shard may be running.
///
/// # Errors
/// What differs, or why the comparison is not possible.
pub fn verify<M: Machine>(
    journal: &dyn Journal,
    keyring: &Arc<Keyring>,
    partition: u32,
    partitions: u32,
) -> Result<Replay, ReplayError> {
    let shard = ShardName { machine: M::KIND, partition };
    let (manifest, state) = standing(journal, shard)?;
    let place = (manifest.first_logic, Some(manifest.next));
    let replayed = fold_inbox::<M>((journal, keyring), (partition, partitions), place, &mut |_, _| {})?;
    let last = |last: Option<LastInput>| {
        last.map_or_else(String::new, |last| format!("{} {} {}", last.offset, hex::encode(last.digest.0), last.at.0))
    };
    let hash = |digest: Digest| hex::encode(digest.0);
    let pairs = [
        ("the last input", last(manifest.last), last(replayed.last)),
        ("the logic", manifest.logic.to_string(), replayed.logic.to_string()),
        ("the event sequence", manifest.event_sequence.to_string(), replayed.event_sequence.to_string()),
        ("the event hash", hash(manifest.event_hash), hash(replayed.event_hash)),
        ("the state root", hash(manifest.state_root), hash(replayed.state_root)),
    ];
    for (what, found, replayed) in pairs {
        if found != replayed {
            return Err(ReplayError::Differs { shard, what, found, replayed });
        }
    }
    let mut keys = state.keys().chain(replayed.state.keys());
    match keys.find(|key| state.get(*key) != replayed.state.get(*key)) {
        Some(key) => Err(ReplayError::RecordDiffers { shard, key: hex::encode(key) }),
        None => Ok(replayed),
    }
}

/// Where a shard stands by its state topic, without taking it over: its last manifest, and the records as of it, those of the
/// outbox left out.
///
/// # Errors
/// The log fails, or there is no readable manifest.
pub fn standing(journal: &dyn Journal, shard: ShardName) -> Result<(Manifest, StateRecords), ReplayError> {
    let failed = |source| ReplayError::Journal { shard, source };
    let topic = Topic::State(shard.machine);
    let (_, end) = journal.bounds(topic, shard.partition).map_err(failed)?;
    let mut feed = journal.read(topic, shard.partition, Start::Earliest).map_err(failed)?;
    let (mut manifest, mut state, mut open) = (None, BTreeMap::new(), Vec::new());
    let mut visit = |entries: Vec<Entry>| {
        for Entry { record, .. } in entries {
            if is_header(&record) || is_outbox_key(&record.key) {
                continue;
            }
            if !is_manifest(&record) {
                open.push(record);
                continue;
            }
            let read = Manifest::read(record.value.as_deref().unwrap_or_default());
            manifest = Some(read.map_err(|source| ReplayError::State { shard, source })?);
            open.drain(..).for_each(|record| change(&mut state, record));
        }
        Ok(())
    };
    each_batch(&mut *feed, end, &mut visit, failed)?;
    Ok((manifest.ok_or(ReplayError::NoManifest(shard))?, state))
}

/// The last manifest of a shard, read from the end of its state partition; `None` without any.
///
/// # Errors
/// The log fails, or the manifest cannot be read.
pub fn last_manifest(journal: &dyn Journal, shard: ShardName) -> Result<Option<Manifest>, ReplayError> {
    let failed = |source| ReplayError::Journal { shard, source };
    let topic = Topic::State(shard.machine);
    let (first, end) = journal.bounds(topic, shard.partition).map_err(failed)?;
    let mut back = TAIL;
    loop {
        let from = end.saturating_sub(back).max(first);
        let mut found = None;
        let mut feed = journal.read(topic, shard.partition, Start::At(from)).map_err(failed)?;
        let visit = |entries: Vec<Entry>| {
            let last = entries.into_iter().rfind(|entry| is_manifest(&entry.record));
            found = last.and_then(|entry| entry.record.value).or(found.take());
            Ok(())
        };
        each_batch(&mut *feed, end, visit, failed)?;
        match found {
            Some(value) => return Manifest::read(&value).map(Some).map_err(|source| ReplayError::State { shard, source }),
            None if from == first => return Ok(None),
            None => back = back.saturating_mul(8),
        }
    }
}

fn change(state: &mut StateRecords, record: Record) {
    match record.value {
        Some(value) => drop(state.insert(record.key, value)),
        None => drop(state.remove(&record.key)),
    }
}

/// Reads everything before `end`. Offsets may be missing, so the last record may stand well before it.
pub(crate) fn each_batch<E>(
    feed: &mut dyn Feed,
    end: u64,
    mut visit: impl FnMut(Vec<Entry>) -> Result<(), E>,
    failed: impl Fn(JournalError) -> E,
) -> Result<(), E> {
    let mut next = 0;
    let mut until = Instant::now() + PATIENCE;
    while next < end {
        let at_end = feed.at_end();
        let mut entries = feed.poll(BATCH, Duration::from_millis(100)).map_err(&failed)?;
        if entries.is_empty() {
            if at_end {
                break;
            }
            if Instant::now() >= until {
                let reason = format!("nothing after offset {next} of {end}");
                return Err(failed(JournalError::Unavailable { operation: "read to the end", reason }));
            }
            continue;
        }
        until = Instant::now() + PATIENCE;
        next = entries.last().map_or(next, |entry| entry.offset.saturating_add(1));
        entries.retain(|entry| entry.offset < end);
        visit(entries)?;
    }
    Ok(())
}

/// Where every shard begins.
fn origin(first_logic: u32) -> Manifest {
    let nothing = Roots::default();
    Manifest {
        transaction: 0,
        attempt: 0,
        next: 0,
        last: None,
        event_sequence: 0,
        event_hash: Digest([0; 32]),
        state_root: nothing.state.digest(),
        outbox_root: nothing.outbox.digest(),
        logic: first_logic,
        first_logic,
        log: LogIdentity { cluster: String::new(), inbox: String::new(), state: String::new(), partitions: 0 },
        owner: String::new(),
    }
}

impl<M: Machine> Fold<'_, M> {
    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), ReplayError> {
        let mut batch = Batch::<M>::on(&self.manifest);
        // Nothing waits for a courier here.
        batch.strike_off(self.memory.pending.keys().copied().collect());
        for entry in entries {
            let offset = entry.offset;
            let time = entry.at.ok_or(ReplayError::NoTime { shard: self.identity.shard, offset })?;
            batch.take(&self.identity, &self.memory, entry, time);
        }
        batch.outputs.iter().for_each(|(topic, record)| (self.output)(*topic, record));
        let (records, roots) = batch.overlay.records(&self.memory);
        let kept = records.into_iter().filter(|record| !is_outbox_key(&record.key));
        kept.for_each(|record| change(&mut self.state, record));
        self.applied = self.applied.saturating_add(batch.tally.applied);
        self.quarantined = self.quarantined.saturating_add(u64::try_from(batch.tally.quarantined.len()).unwrap_or(u64::MAX));
        self.manifest.next = batch.next;
        self.manifest.last = batch.last();
        self.manifest.event_sequence = batch.event_sequence;
        self.manifest.event_hash = batch.event_hash;
        self.manifest.logic = batch.logic;
        self.manifest.state_root = roots.state.digest();
        self.memory.merge(batch.overlay, roots);
        match batch.beyond {
            None => Ok(()),
            Some(source) => Err(ReplayError::Logic { shard: self.identity.shard, source }),
        }
    }

    fn finish(self) -> Replay {
        Replay {
            shard: self.identity.shard,
            next: self.manifest.next,
            last: self.manifest.last,
            event_sequence: self.manifest.event_sequence,
            event_hash: self.manifest.event_hash,
            logic: self.manifest.logic,
            state_root: self.manifest.state_root,
            state: self.state,
            applied: self.applied,
            quarantined: self.quarantined,
        }
    }
}
