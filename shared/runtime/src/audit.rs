//! The audit of the event log: every event is sealed, in its place, and chained to the one before, and the chain is the one that was
//! noted earlier.
//!
//! Whoever holds the keys and the log can rewrite all of it, hashes included. What they cannot reach is a [`Head`] that an auditor wrote
//! down outside of the log: everything up to a trusted head is proven to be what it was then; what follows it is proven only as
//! far as the keys are. Deliberately absent: whether the events are right; `replay` answers that.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;

use custos_domain::{AccountId, Digest};
use custos_journal::{Entry, Journal, JournalError, Start};
use custos_messages::events::Event;
use custos_messages::{Chained, Envelope, EnvelopeError, Keyring, Message, Record, Rejection, Topic};

use crate::replay::each_batch;

/// How far back an event may be repeated: a torn transaction's events are said again right after the next takeover.
const REPEATS_WITHIN: usize = 100_000;
/// How far before the end of a partition its head is looked for at first.
const TAIL: u64 = 256;

/// The last event of a partition, small enough to be written down: `partition:sequence:hash`. Sequence 0 means no event yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// The partition.
    pub partition: u32,
    /// The event's sequence.
    pub sequence: u64,
    /// Its hash, which holds every event before it.
    pub hash: Digest,
}

/// A text that is not a [`Head`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head is written `partition:sequence:hash`, the hash in 64 hexadecimal digits")]
pub struct HeadError;

/// What an audit saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// Where the partition ends now: to be written down, and given to the next audit as the trusted head.
    pub head: Head,
    /// The head that was trusted, and found.
    pub trusted: Option<Head>,
    /// Events that stand here again byte for byte, such as those that a torn transaction said twice. Harmless: readers drop them by
    /// their sequence.
    pub repeats: u64,
    /// Records that are no sealed events of this partition, with a whole chain around them. Readers put them aside.
    pub foreign: u64,
    /// Accounts that have events here.
    pub accounts: usize,
}

/// The first thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum AuditFinding {
    /// The log could not be read: nothing is proven.
    #[error("the event log cannot be read")]
    Log(#[from] JournalError),
    /// The record is of another partition, or out of order.
    #[error("partition {partition}: the record at offset {offset} is not where a log puts it")]
    Misplaced {
        /// The partition that is audited.
        partition: u32,
        /// The record.
        offset: u64,
    },
    /// The record is not sealed by the accounts machine, or cannot be read: it was altered or put in by somebody without the keys.
    #[error("offset {offset}: not an event that was sealed")]
    Unsealed {
        /// The record.
        offset: u64,
        /// Why.
        #[source]
        source: Rejection,
    },
    /// The record has no readable place.
    #[error("offset {offset}: no readable place in the chain")]
    NoPlace {
        /// The record.
        offset: u64,
        /// Why.
        #[source]
        source: EnvelopeError,
    },
    /// A header says something else than the event.
    #[error("offset {offset}: `{header}` is not that of the event")]
    Header {
        /// The record.
        offset: u64,
        /// Which.
        header: &'static str,
    },
    /// The record does not have the hash that it claims: it was altered.
    #[error("offset {offset}: event {sequence} does not have the hash that it claims")]
    Altered {
        /// The record.
        offset: u64,
        /// The event.
        sequence: u64,
    },
    /// An event is missing: removed, or moved to a later place.
    #[error("offset {offset}: event {found} stands where {expected} must: events were removed or moved")]
    Missing {
        /// The record.
        offset: u64,
        /// The event that must come.
        expected: u64,
        /// The event that came.
        found: u64,
    },
    /// Two different events have the same sequence: one of them was put in or replaced.
    #[error("offset {offset}: a second, different event {sequence}")]
    Second {
        /// The record.
        offset: u64,
        /// The event.
        sequence: u64,
    },
    /// An event names another predecessor than the one before it: something before it was replaced.
    #[error("offset {offset}: event {sequence} follows another event than the one before it")]
    Unchained {
        /// The record.
        offset: u64,
        /// The event.
        sequence: u64,
    },
    /// The account's own sequence is not dense.
    #[error("offset {offset}: event {found} of account {account} stands where {expected} must")]
    Account {
        /// The record.
        offset: u64,
        /// The account.
        account: AccountId,
        /// The event that must come.
        expected: u64,
        /// The event that came.
        found: u64,
    },
    /// The chain holds in itself, yet it is not the one that was noted: history was rewritten by somebody who has the keys.
    #[error("offset {offset}: event {} has hash {found}, and had {} when it was noted: history was rewritten",
        trusted.sequence, hex::encode(trusted.hash.0))]
    Rewritten {
        /// The record at the trusted sequence.
        offset: u64,
        /// What was noted.
        trusted: Head,
        /// The hash now, in hexadecimal.
        found: String,
    },
    /// The log ends before the trusted head: its tail was cut off.
    #[error("the log ends at event {last}, and had event {} when it was noted: its tail was cut off", trusted.sequence)]
    CutOff {
        /// What was noted.
        trusted: Head,
        /// The last event now.
        last: u64,
    },
    /// The log ends before the event that the shard's state names as its last.
    #[error("the log ends at event {last}, and the shard's state says that it has said event {}", shard.sequence)]
    ShortOfShard {
        /// By the shard's state.
        shard: Head,
        /// The last event now.
        last: u64,
    },
    /// The event is not the one that the shard's state names.
    #[error("offset {offset}: event {} has hash {found}, and {} by the shard's state", shard.sequence, hex::encode(shard.hash.0))]
    OtherThanShard {
        /// The record.
        offset: u64,
        /// By the shard's state.
        shard: Head,
        /// The hash now, in hexadecimal.
        found: String,
    },
    /// The trusted head is of another partition.
    #[error("the trusted head is of partition {found}, and partition {expected} is audited")]
    OtherPartition {
        /// The partition that is audited.
        expected: u32,
        /// The head's.
        found: u32,
    },
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.partition, self.sequence, hex::encode(self.hash.0))
    }
}

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let mut parts = text.trim().splitn(3, ':');
        let mut part = || parts.next().ok_or(HeadError);
        let partition = part()?.parse().map_err(|_| HeadError)?;
        let sequence = part()?.parse().map_err(|_| HeadError)?;
        let hash = hex::decode(part()?).map_err(|_| HeadError)?;
        Ok(Self { partition, sequence, hash: Digest::from_slice(&hash).map_err(|_| HeadError)? })
    }
}

/// Audits one partition of the event log from its first record, as far as it is committed now. `shard` is the last event that the
/// partition's shard has said by its state, read before this call; see `replay`.
///
/// # Errors
/// The first thing that is wrong.
pub fn audit_events(
    journal: &dyn Journal,
    keyring: &Keyring,
    partition: u32,
    trusted: Option<Head>,
    shard: Option<Head>,
) -> Result<AuditReport, AuditFinding> {
    let mut audit = Audit { shard, ..Audit::new(keyring, partition, trusted)? };
    let (_, end) = journal.bounds(Topic::Events, partition)?;
    let mut feed = journal.read(Topic::Events, partition, Start::Earliest)?;
    let visit = |entries: Vec<Entry>| entries.iter().try_for_each(|entry| audit.see(entry));
    each_batch(&mut *feed, end, visit, AuditFinding::Log)?;
    audit.finish()
}

/// The same over records from anywhere, such as a copy or an archive.
///
/// # Errors
/// The first thing that is wrong.
pub fn audit_records(
    records: impl Iterator<Item = Entry>,
    keyring: &Keyring,
    partition: u32,
    trusted: Option<Head>,
) -> Result<AuditReport, AuditFinding> {
    let mut audit = Audit::new(keyring, partition, trusted)?;
    for entry in records {
        audit.see(&entry)?;
    }
    audit.finish()
}

/// The last event of every partition, to be written down outside of the log. Read, not proven: [`audit_events`] gives the proven head.
///
/// # Errors
/// The log fails.
pub fn heads(journal: &dyn Journal) -> Result<Vec<Head>, AuditFinding> {
    (0..journal.partitions(Topic::Events)?).map(|partition| head(journal, partition)).collect()
}

fn head(journal: &dyn Journal, partition: u32) -> Result<Head, AuditFinding> {
    let (first, end) = journal.bounds(Topic::Events, partition)?;
    let mut from = end.saturating_sub(TAIL).max(first);
    loop {
        let mut last = Head { partition, sequence: 0, hash: Chained::GENESIS };
        let mut feed = journal.read(Topic::Events, partition, Start::At(from))?;
        let visit = |entries: Vec<Entry>| {
            for Entry { record, .. } in entries {
                let Ok(place) = Chained::read(&record) else { continue };
                if place.sequence > last.sequence {
                    last = Head { partition, sequence: place.sequence, hash: place.hash };
                }
            }
            Ok(())
        };
        each_batch(&mut *feed, end, visit, AuditFinding::Log)?;
        if last.sequence > 0 || from == first {
            return Ok(last);
        }
        // Nothing but markers there: all of it, then.
        from = first;
    }
}

struct Audit<'a> {
    keyring: &'a Keyring,
    trusted: Option<Head>,
    shard: Option<Head>,
    head: Head,
    next_offset: u64,
    /// Hashes of the newest events, the last of them that of `head`.
    recent: VecDeque<Digest>,
    accounts: BTreeMap<AccountId, u64>,
    repeats: u64,
    foreign: u64,
    /// What is wrong with the first foreign record since `head`: if an event is missing, this may be it.
    suspect: Option<AuditFinding>,
}

impl<'a> Audit<'a> {
    fn new(keyring: &'a Keyring, partition: u32, trusted: Option<Head>) -> Result<Self, AuditFinding> {
        if let Some(head) = trusted.filter(|head| head.partition != partition) {
            return Err(AuditFinding::OtherPartition { expected: partition, found: head.partition });
        }
        let head = Head { partition, sequence: 0, hash: Chained::GENESIS };
        let (recent, accounts) = (VecDeque::new(), BTreeMap::new());
        let (shard, suspect) = (None, None);
        Ok(Self { keyring, trusted, shard, head, next_offset: 0, recent, accounts, repeats: 0, foreign: 0, suspect })
    }

    fn see(&mut self, entry: &Entry) -> Result<(), AuditFinding> {
        let Entry { partition, offset, ref record, .. } = *entry;
        if partition != self.head.partition || offset < self.next_offset {
            return Err(AuditFinding::Misplaced { partition: self.head.partition, offset });
        }
        self.next_offset = offset.saturating_add(1);
        match self.proven(offset, record) {
            Ok((event, place)) => self.take(offset, &event, &place),
            Err(finding) => {
                self.foreign = self.foreign.saturating_add(1);
                self.suspect.get_or_insert(finding);
                Ok(())
            }
        }
    }

    /// The event of a record that was sealed for this very place; else why it is foreign.
    fn proven(&self, offset: u64, record: &Record) -> Result<(Event, Chained), AuditFinding> {
        let opened = self.keyring.open_message::<Event>(Topic::Events, record);
        let (envelope, event) = opened.map_err(|source| AuditFinding::Unsealed { offset, source })?;
        let place = Chained::read(record).map_err(|source| AuditFinding::NoPlace { offset, source })?;
        check_headers(offset, &envelope, &event, &record.key)?;
        if !place.holds(self.head.partition, &envelope.kind, record) {
            return Err(AuditFinding::Altered { offset, sequence: place.sequence });
        }
        Ok((event, place))
    }

    fn take(&mut self, offset: u64, event: &Event, place: &Chained) -> Result<(), AuditFinding> {
        let expected = self.head.sequence.saturating_add(1);
        if place.sequence > expected {
            let missing = AuditFinding::Missing { offset, expected, found: place.sequence };
            return Err(self.suspect.take().unwrap_or(missing));
        }
        if place.sequence < expected {
            return self.repeat(offset, place);
        }
        if place.previous != self.head.hash {
            return Err(AuditFinding::Unchained { offset, sequence: place.sequence });
        }
        self.suspect = None;
        self.follow(offset, event)?;
        self.advance(offset, place)
    }

    /// An event that stood here already: the very same one, said again by the takeover after a torn transaction.
    fn repeat(&mut self, offset: u64, place: &Chained) -> Result<(), AuditFinding> {
        let back = usize::try_from(self.head.sequence.saturating_sub(place.sequence)).unwrap_or(usize::MAX);
        let seen =
            self.recent.len().checked_sub(1).and_then(|last| last.checked_sub(back)).and_then(|at| self.recent.get(at));
        if seen != Some(&place.hash) {
            return Err(AuditFinding::Second { offset, sequence: place.sequence });
        }
        self.repeats = self.repeats.saturating_add(1);
        Ok(())
    }

    fn follow(&mut self, offset: u64, event: &Event) -> Result<(), AuditFinding> {
        let last = self.accounts.entry(event.account).or_insert(0);
        let expected = last.saturating_add(1);
        if event.sequence != expected {
            let (account, found) = (event.account, event.sequence);
            return Err(AuditFinding::Account { offset, account, expected, found });
        }
        *last = expected;
        Ok(())
    }

    fn advance(&mut self, offset: u64, place: &Chained) -> Result<(), AuditFinding> {
        self.head.sequence = place.sequence;
        self.head.hash = place.hash;
        self.recent.push_back(place.hash);
        if self.recent.len() > REPEATS_WITHIN {
            self.recent.pop_front();
        }
        let differs = |head: &Head| head.sequence == place.sequence && head.hash != place.hash;
        if let Some(trusted) = self.trusted.filter(differs) {
            return Err(AuditFinding::Rewritten { offset, trusted, found: hex::encode(place.hash.0) });
        }
        match self.shard.filter(differs) {
            Some(shard) => Err(AuditFinding::OtherThanShard { offset, shard, found: hex::encode(place.hash.0) }),
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<AuditReport, AuditFinding> {
        let Self { head, trusted, shard, repeats, foreign, accounts, suspect, .. } = self;
        let last = head.sequence;
        let beyond = |named: &Head| named.sequence > last;
        if let Some(short) = trusted.filter(beyond).map(|trusted| AuditFinding::CutOff { trusted, last }) {
            return Err(suspect.unwrap_or(short));
        }
        if let Some(short) = shard.filter(beyond).map(|shard| AuditFinding::ShortOfShard { shard, last }) {
            return Err(suspect.unwrap_or(short));
        }
        match suspect {
            // Nothing says that the log ends here: the last event may have been altered into what nobody sealed.
            Some(suspect) if shard.is_none() => Err(suspect),
            _ => Ok(AuditReport { head, trusted, repeats, foreign, accounts: accounts.len() }),
        }
    }
}

/// What stands in headers outside of the hash must follow from the event.
fn check_headers(offset: u64, envelope: &Envelope, event: &Event, key: &[u8]) -> Result<(), AuditFinding> {
    let pairs = [
        ("ce_id", envelope.id == event.id()),
        ("ce_subject", envelope.subject == event.subject()),
        ("ce_time", envelope.time == Some(event.at)),
        ("key", *key == *event.key()),
        ("custos_link", envelope.link.is_none() && envelope.reply_to.is_none()),
    ];
    match pairs.into_iter().find(|(_, right)| !right) {
        Some((header, _)) => Err(AuditFinding::Header { offset, header }),
        None => Ok(()),
    }
}
