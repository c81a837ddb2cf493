//! One shard's place in the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use custos_messages::{Machine, Record, Topic};

use super::Shared;
use super::delivery::Receipt;
use super::producer::{End, Transactor};
use super::reader::{Reader, Seen};
use super::wire::bytes;
use crate::{Entry, JournalError, LogIdentity, Reach, ShardLog, Transaction};

/// Pause between two looks at whether transactions of others are decided.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(super) struct KafkaShard {
    shared: Arc<Shared>,
    machine: Machine,
    partition: u32,
    /// `None` once it has failed: nothing is sent under it again, and the shard must be taken over.
    transactor: Option<Transactor>,
    /// Another owner has the shard, and nothing but a new acquisition changes that.
    fenced: bool,
    /// The last end of a transaction was slow: a repeated one may still be under way, so the producer is made anew first.
    doubtful: bool,
    /// The header of the open transaction.
    header: Option<Arc<Receipt>>,
    /// Where the state partition ends if nobody else has written to it; `None` after an abort.
    state_end: Option<u64>,
    inbox: Option<Reader>,
    position: u64,
}

impl KafkaShard {
    pub(super) fn acquire(shared: Arc<Shared>, machine: Machine, partition: u32) -> Result<Self, JournalError> {
        let identity = shared.identity(machine)?;
        if partition >= identity.partitions {
            return Err(JournalError::Misconfigured(format!("{} has no partition {partition}", identity.inbox)));
        }
        let transactor = Transactor::open(&shared, machine, partition)?;
        let state_end = decided(&shared, machine, partition)?;
        Ok(Self {
            shared,
            machine,
            partition,
            transactor: Some(transactor),
            fenced: false,
            doubtful: false,
            header: None,
            state_end: Some(state_end),
            inbox: None,
            position: 0,
        })
    }

    fn transactor(&self) -> Result<&Transactor, JournalError> {
        self.transactor.as_ref().ok_or_else(|| {
            if self.fenced {
                JournalError::Fenced { machine: self.machine.name(), partition: self.partition }
            } else {
                self.unknown("its producer has failed")
            }
        })
    }

    /// Gives the producer up after an error.
    fn fail(&mut self, error: &JournalError) {
        self.transactor = None;
        self.fenced |= matches!(error, JournalError::Fenced { .. });
    }

    fn unknown(&self, reason: &str) -> JournalError {
        JournalError::Unknown { machine: self.machine.name(), partition: self.partition, reason: reason.to_owned() }
    }

    /// Makes the producer anew, and proves that nobody has written in between: to fence a newer owner would be wrong, and what it
    /// wrote is not in this owner's memory.
    fn renew(&mut self) -> Result<(), JournalError> {
        tracing::info!(machine = self.machine.name(), partition = self.partition, "the producer of a shard is made anew");
        let expected = self.state_end.ok_or_else(|| self.unknown("a slow end followed an abort"))?;
        let state = Topic::State(self.machine);
        let (_, before) = self.shared.watermarks.all(state, self.partition)?;
        self.transactor = None;
        if before > expected {
            return Err(self.unknown("the state topic holds records of another"));
        }
        let transactor = Transactor::open(&self.shared, self.machine, self.partition)?;
        if decided(&self.shared, self.machine, self.partition)? != expected {
            return Err(self.unknown("the state topic holds records of another"));
        }
        self.transactor = Some(transactor);
        self.doubtful = false;
        Ok(())
    }

    /// The bracket after its header.
    fn write(&self, header: &Receipt, transaction: &Transaction) -> Result<(End, u64), JournalError> {
        let transactor = self.transactor()?;
        let state = Topic::State(self.machine);
        transactor.await_receipt(header)?;
        let body = Arc::new(Receipt::default());
        for (topic, record) in &transaction.outputs {
            transactor.send(*topic, record, &body)?;
        }
        for record in &transaction.state {
            transactor.send(state, record, &body)?;
        }
        transactor.await_receipt(&body)?;
        let last = Arc::new(Receipt::default());
        transactor.send(state, &transaction.manifest, &last)?;
        let manifest = transactor.await_receipt(&last)?.and_then(|offset| u64::try_from(offset).ok());
        let manifest = manifest.ok_or_else(|| self.unknown("the manifest has no offset"))?;
        Ok((transactor.commit()?, manifest))
    }

    /// First and next offset of the state partition, once everything in it is decided.
    fn state_bounds(&self) -> Result<(u64, u64), JournalError> {
        // The cluster says that a commit is done a little before its marker stands: what we have written ourselves is waited for.
        if self.header.is_none() {
            decided(&self.shared, self.machine, self.partition)?;
        }
        self.shared.watermarks.committed(Topic::State(self.machine), self.partition)
    }

    /// Shows the committed records of the state partition from `first` up to `end`.
    fn show(&self, first: u64, end: u64, visit: &mut dyn FnMut(Entry)) -> Result<(), JournalError> {
        let operation = "restore a shard";
        let state = Topic::State(self.machine);
        if first >= end {
            return Ok(());
        }
        let patience = self.shared.settings.answer_timeout;
        let mut reader = Reader::open(&self.shared.settings, state, self.partition, first)?;
        let mut until = Instant::now() + patience;
        while reader.next() < end {
            match reader.see(until)? {
                Seen::Record(entry) if entry.offset >= end => break,
                Seen::Record(entry) => {
                    until = Instant::now() + patience;
                    visit(entry);
                }
                // Markers and what was aborted take offsets that no record has.
                Seen::End => break,
                Seen::Nothing => {
                    let reason = format!("nothing after offset {} of {end}", reader.next());
                    return Err(JournalError::Unavailable { operation, reason });
                }
            }
        }
        Ok(())
    }

    fn check_size(&self, topic: Topic, record: &Record) -> Result<(), JournalError> {
        let bytes = bytes(record);
        if bytes > self.shared.settings.record_bytes_max {
            return Err(JournalError::TooLarge { topic: topic.name(), bytes });
        }
        Ok(())
    }
}

impl ShardLog for KafkaShard {
    fn identity(&self) -> Result<LogIdentity, JournalError> {
        self.shared.identity(self.machine)
    }

    fn restore(&mut self, visit: &mut dyn FnMut(Entry)) -> Result<(), JournalError> {
        let (first, end) = self.state_bounds()?;
        self.show(first, end, visit)
    }

    fn restore_from(&mut self, from: u64, visit: &mut dyn FnMut(Entry)) -> Result<Reach, JournalError> {
        let (first, end) = self.state_bounds()?;
        if from < first || from > end {
            return Ok(Reach::OutOfRange);
        }
        self.show(from, end, visit)?;
        Ok(Reach::Whole)
    }

    fn seek(&mut self, next: u64) -> Result<(), JournalError> {
        match &mut self.inbox {
            Some(reader) => reader.seek(next)?,
            None => {
                self.inbox = Some(Reader::open(&self.shared.settings, Topic::Inbox(self.machine), self.partition, next)?);
            }
        }
        self.position = next;
        Ok(())
    }

    fn inbox_at(&mut self, offset: u64) -> Result<Option<Entry>, JournalError> {
        let inbox = Topic::Inbox(self.machine);
        let (first, next) = self.shared.watermarks.committed(inbox, self.partition)?;
        if offset < first || offset >= next {
            return Ok(None);
        }
        let mut reader = Reader::open(&self.shared.settings, inbox, self.partition, offset)?;
        match reader.see(Instant::now() + self.shared.settings.answer_timeout)? {
            Seen::Record(entry) => Ok(Some(entry).filter(|entry| entry.offset == offset)),
            Seen::End => Ok(None),
            Seen::Nothing => Err(JournalError::Unavailable {
                operation: "read one record of the inbox",
                reason: format!("no answer for offset {offset}"),
            }),
        }
    }

    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let Some(reader) = &mut self.inbox else {
            return Err(JournalError::Misconfigured("a shard is read before it is positioned".to_owned()));
        };
        let entries = reader.poll(most, wait)?;
        self.position = reader.next();
        Ok(entries)
    }

    fn begin(&mut self, header: Record) -> Result<(), JournalError> {
        if self.header.is_some() {
            return Err(JournalError::Misconfigured("a transaction is begun within a transaction".to_owned()));
        }
        let state = Topic::State(self.machine);
        self.check_size(state, &header)?;
        if self.doubtful {
            self.renew()?;
        }
        let receipt = Arc::new(Receipt::default());
        let begun = self.transactor().and_then(|transactor| {
            transactor.begin()?;
            transactor.send(state, &header, &receipt)
        });
        match &begun {
            Ok(()) => self.header = Some(receipt),
            Err(error) => self.fail(error),
        }
        begun
    }

    /// A record that is too large is refused before anything is sent; the transaction stays open, to be aborted.
    fn commit(&mut self, transaction: Transaction) -> Result<(), JournalError> {
        let state = Topic::State(self.machine);
        for (topic, record) in &transaction.outputs {
            self.check_size(*topic, record)?;
        }
        for record in transaction.state.iter().chain([&transaction.manifest]) {
            self.check_size(state, record)?;
        }
        let Some(header) = self.header.take() else {
            return Err(JournalError::Misconfigured("a transaction is committed that was not begun".to_owned()));
        };
        match self.write(&header, &transaction) {
            Ok((end, manifest)) => {
                self.doubtful = match end {
                    End::Plain(took) => took > self.shared.settings.commit_slow,
                    End::Repeated => true,
                };
                // The manifest, then the marker of the commit.
                self.state_end = Some(manifest.saturating_add(2));
                Ok(())
            }
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    fn abort(&mut self) -> Result<(), JournalError> {
        if self.header.take().is_none() {
            return Ok(());
        }
        self.state_end = None;
        let ended = self.transactor()?.abort();
        match ended {
            Ok(End::Plain(took)) if took <= self.shared.settings.commit_slow => Ok(()),
            Ok(_) => {
                self.transactor = None;
                Err(self.unknown("its abort was slow"))
            }
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    fn position(&self) -> u64 {
        self.position
    }
}

/// Waits until nothing in the state partition is undecided, and returns where it ends.
fn decided(shared: &Shared, machine: Machine, partition: u32) -> Result<u64, JournalError> {
    let state = Topic::State(machine);
    let until = Instant::now() + shared.settings.decided_timeout;
    loop {
        let (_, end) = shared.watermarks.all(state, partition)?;
        let (_, stable) = shared.watermarks.committed(state, partition)?;
        if stable >= end {
            return Ok(stable);
        }
        if Instant::now() >= until {
            return Err(JournalError::Misconfigured(format!(
                "{}[{partition}] holds open transactions of others: decided up to {stable}, written up to {end}",
                state.name()
            )));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
