//! A shard that adds numbers, run as the runtime runs shards: a takeover with repair, then inputs in transactions, each with outputs,
//! state and manifest.

pub mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use custos_journal::{Entry, Journal, JournalError, Remedy, ShardLog, Transaction};
use custos_messages::{Headers, Machine, Record, Topic};

pub const MACHINE: Machine = Machine::Accounts;
pub const INBOX: Topic = Topic::Inbox(MACHINE);
pub const STATE: Topic = Topic::State(MACHINE);
/// Where the shard says what it has counted.
pub const OUTPUTS: [Topic; 2] = [Topic::Events, Topic::WalletCommands];

const HEADER: &[u8] = b"header";
const MANIFEST: &[u8] = b"manifest";
/// How long a shard waits for input.
const IDLE: Duration = Duration::from_millis(25);

/// Where a shard stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub transaction: u64,
    pub attempt: u64,
    pub next: u64,
    /// The last output's number.
    pub sequence: u64,
    /// A hash of the state.
    pub root: u64,
}

/// Names, and what was counted under each.
pub type Memory = BTreeMap<String, u64>;

/// What owners report, whoever they are.
#[derive(Debug, Default)]
pub struct Diary {
    pub takeovers: u64,
    /// Takeovers that found records after the last manifest.
    pub repairs: u64,
    pub transactions: u64,
    /// Transactions of which the log said that they are committed.
    pub committed: BTreeSet<(u64, u64)>,
    /// Transactions of which the log said that nothing is visible.
    pub aborted: BTreeSet<(u64, u64)>,
    /// Two owners were told that they committed the same transaction.
    pub twice: Option<String>,
    /// What a takeover or a commit found that cannot be.
    pub violation: Option<String>,
}

pub type SharedDiary = Arc<Mutex<Diary>>;

pub struct Owner {
    log: Box<dyn ShardLog>,
    memory: Memory,
    manifest: Manifest,
    diary: SharedDiary,
}

impl Manifest {
    pub fn record(&self) -> Record {
        let Self { transaction, attempt, next, sequence, root } = self;
        plain(MANIFEST, &[*transaction, *attempt, *next, *sequence, *root])
    }

    pub fn read(record: &Record) -> Option<Self> {
        let [transaction, attempt, next, sequence, root] = *numbers(record).as_slice() else { return None };
        (record.key == MANIFEST).then_some(Self { transaction, attempt, next, sequence, root })
    }
}

pub fn is_header(record: &Record) -> bool {
    record.key == HEADER
}

fn plain(key: &[u8], fields: &[u64]) -> Record {
    let value = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
    Record { key: key.to_vec(), value: Some(value), headers: Headers::new() }
}

/// The numbers that a record holds.
pub fn numbers(record: &Record) -> Vec<u64> {
    let value = record.value.as_deref().unwrap_or_default();
    value.chunks_exact(8).map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap())).collect()
}

/// An input.
pub fn input(number: u64) -> Record {
    plain(b"input", &[number])
}

/// What the shard says about the input that it counted as number `sequence`.
pub fn output(sequence: u64, offset: u64, number: u64, (transaction, attempt): (u64, u64)) -> Record {
    plain(b"output", &[sequence, offset, number, transaction, attempt])
}

/// Counts one input.
pub fn count(memory: &mut Memory, number: u64) -> [String; 2] {
    let changed = ["sum".to_owned(), format!("residue-{}", number % 5)];
    *memory.entry(changed[0].clone()).or_default() += number;
    *memory.entry(changed[1].clone()).or_default() += 1;
    changed
}

pub fn root(memory: &Memory) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    memory.iter().fold(7, |hash, (name, value)| name.as_bytes().iter().chain(value.to_be_bytes().iter()).fold(hash, mix))
}

/// Takes the shard over, as the runtime does; `repair` is what a negative control switches off.
pub fn take_over(journal: &dyn Journal, partition: u32, diary: &SharedDiary, repair: bool) -> Result<Owner, JournalError> {
    let mut log = journal.acquire(MACHINE, partition)?;
    let (mut memory, mut manifest) = (Memory::new(), Manifest::default());
    let mut open: Vec<Record> = Vec::new();
    log.restore(&mut |entry| match Manifest::read(&entry.record) {
        Some(found) => {
            manifest = found;
            for record in open.drain(..) {
                let name = String::from_utf8(record.key.clone()).unwrap();
                match numbers(&record).first() {
                    Some(value) => drop(memory.insert(name, *value)),
                    None => drop(memory.remove(&name)),
                }
            }
        }
        None if is_header(&entry.record) => {}
        None => open.push(entry.record),
    })?;
    if manifest.transaction > 0 && root(&memory) != manifest.root {
        let problem = format!("the state {memory:?} does not have the root of {manifest:?}");
        diary.lock().unwrap().violation.get_or_insert(problem);
        return Err(JournalError::Misconfigured("the state does not have its root".into()));
    }
    let torn: BTreeSet<Vec<u8>> = open.into_iter().map(|record| record.key).collect();
    manifest.transaction += 1;
    manifest.attempt += 1;
    manifest.root = root(&memory);
    diary.lock().unwrap().repairs += u64::from(!torn.is_empty());
    let as_of_manifest = |key: Vec<u8>| {
        let value = memory.get(std::str::from_utf8(&key).unwrap()).map(|value| value.to_be_bytes().to_vec());
        Record { key, value, headers: Headers::new() }
    };
    let state = if repair { torn.into_iter().map(as_of_manifest).collect() } else { Vec::new() };
    let mut owner = Owner { log, memory, manifest, diary: Arc::clone(diary) };
    owner.log.begin(plain(HEADER, &[manifest.transaction, manifest.attempt]))?;
    owner.commit(Transaction { outputs: Vec::new(), state, manifest: manifest.record() }, manifest)?;
    owner.log.seek(manifest.next)?;
    diary.lock().unwrap().takeovers += 1;
    Ok(owner)
}

impl Owner {
    /// Applies what stands in the inbox, in one transaction. `false`: nothing stood there.
    pub fn serve(&mut self, most: usize, more: usize) -> Result<bool, JournalError> {
        let mut entries = self.log.poll(most, IDLE)?;
        if entries.is_empty() {
            return Ok(false);
        }
        let (transaction, attempt) = (self.manifest.transaction + 1, self.manifest.attempt);
        self.log.begin(plain(HEADER, &[transaction, attempt]))?;
        if more > 0 {
            entries.extend(self.log.poll(more, Duration::ZERO)?);
        }
        let (memory, written, manifest) = self.apply(&entries, transaction);
        self.commit(written, manifest)?;
        self.memory = memory;
        self.manifest = manifest;
        Ok(true)
    }

    /// Begins a transaction and leaves it open.
    pub fn dawdle(&mut self) -> Result<(), JournalError> {
        self.log.begin(plain(HEADER, &[self.manifest.transaction + 1, self.manifest.attempt]))
    }

    /// Aborts the transaction that is open, if one is.
    pub fn give_up(&mut self) -> Result<(), JournalError> {
        self.log.abort()
    }

    /// Begins a transaction and aborts it; the shard is where it was.
    pub fn think_better(&mut self) -> Result<(), JournalError> {
        self.dawdle()?;
        self.give_up()
    }

    /// The place in the inbox up to which everything is counted.
    pub const fn next(&self) -> u64 {
        self.manifest.next
    }

    fn apply(&self, entries: &[Entry], transaction: u64) -> (Memory, Transaction, Manifest) {
        let mut memory = self.memory.clone();
        let mut manifest = Manifest { transaction, ..self.manifest };
        let mut changed = BTreeSet::new();
        let mut outputs = Vec::new();
        for entry in entries {
            let number = numbers(&entry.record)[0];
            changed.extend(count(&mut memory, number));
            manifest.sequence += 1;
            manifest.next = entry.offset + 1;
            let said = output(manifest.sequence, entry.offset, number, (transaction, manifest.attempt));
            outputs.extend(OUTPUTS.map(|topic| (topic, said.clone())));
        }
        manifest.root = root(&memory);
        let state = changed.into_iter().map(|name| plain(name.as_bytes(), &[memory[&name]])).collect();
        (memory, Transaction { outputs, state, manifest: manifest.record() }, manifest)
    }

    fn commit(&mut self, transaction: Transaction, manifest: Manifest) -> Result<(), JournalError> {
        let name = (manifest.transaction, manifest.attempt);
        // An acquisition that fails and the next one have the same name: the attempt is counted from the last manifest.
        let acquires = transaction.outputs.is_empty();
        let outcome = self.log.commit(transaction);
        let mut diary = self.diary.lock().unwrap();
        match &outcome {
            Ok(()) => {
                diary.transactions += 1;
                if !diary.committed.insert(name) {
                    diary.twice.get_or_insert(format!("two owners committed {name:?}"));
                }
            }
            Err(JournalError::Aborted { .. }) if !acquires => drop(diary.aborted.insert(name)),
            Err(error) if error.remedy() == Remedy::Halt => {
                diary.violation.get_or_insert(format!("the shard stands still: {error}"));
            }
            Err(_) => {}
        }
        outcome
    }
}
