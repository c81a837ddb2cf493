//! One shard's place in the log.

use std::sync::Arc;
use std::time::Duration;

use custos_messages::{Headers, Machine, Record, Topic};

use super::{Cluster, Defence, PartitionReader, Seen, Transactor, Trouble, Verdict, check_size};
use crate::{Entry, JournalError, LogIdentity, Reach, ShardLog, Transaction};

/// Pause between two looks at whether transactions of others are decided.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What is open for so long after an id was taken is open for ever: markers that are under way stand a little later than is said.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);
/// Pause between two attempts to end what the cluster has left open.
const END_AGAIN: Duration = Duration::from_secs(5);
/// The key of the record whose abort ends what was left open. Nobody is ever shown it.
const LEFT_OPEN: &[u8] = b"left-open";

const RESTORE: &str = "restore a shard";

/// A shard on a cluster.
pub(crate) struct Shard<C: Cluster> {
    cluster: Arc<C>,
    machine: Machine,
    partition: u32,
    /// `None` once it has failed: nothing is sent under it again, and the shard must be taken over.
    transactor: Option<C::Transactor>,
    /// Another owner has the shard, and nothing but a new acquisition changes that.
    fenced: bool,
    /// The last end of a transaction was slow: a repeated one may still be under way, so the producer is made anew first.
    doubtful: bool,
    /// The last transaction was aborted: whether its marker stands is looked at before the next, whose commit would be its own.
    unsettled: bool,
    /// The header of the open transaction.
    header: Option<Receipt<C>>,
    /// Where the state partition ends if nobody else has written to it; `None` after an abort.
    state_end: Option<u64>,
    inbox: Option<C::Reader>,
    position: u64,
}

type Receipt<C> = <<C as Cluster>::Transactor as Transactor>::Receipt;

/// How a transaction ended, as far as the client can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// At the first attempt, in this time.
    Plain(Duration),
    /// After a repeated call.
    Repeated,
}

/// What ends a transaction.
#[derive(Clone, Copy)]
enum Ending {
    Commit,
    Abort,
}

impl<C: Cluster> Shard<C> {
    pub(crate) fn acquire(cluster: Arc<C>, machine: Machine, partition: u32) -> Result<Self, JournalError> {
        let identity = cluster.identity(machine)?;
        if partition >= identity.partitions {
            return Err(JournalError::Misconfigured(format!("{} has no partition {partition}", identity.inbox)));
        }
        let mut transactor = cluster.open_transactor(machine, partition)?;
        let state_end = decided(&*cluster, Some(&mut transactor), machine, partition)?;
        Ok(Self {
            cluster,
            machine,
            partition,
            transactor: Some(transactor),
            fenced: false,
            doubtful: false,
            unsettled: false,
            header: None,
            state_end: Some(state_end),
            inbox: None,
            position: 0,
        })
    }

    fn holds(&self, defence: Defence) -> bool {
        self.cluster.terms().defences.hold(defence)
    }

    /// Gives the producer up after an error.
    fn fail(&mut self, error: JournalError) -> JournalError {
        self.transactor = None;
        self.fenced |= matches!(error, JournalError::Fenced { .. });
        error
    }

    const fn fenced_error(&self) -> JournalError {
        JournalError::Fenced { machine: self.machine.name(), partition: self.partition }
    }

    fn unknown(&self, reason: impl Into<String>) -> JournalError {
        JournalError::Unknown { machine: self.machine.name(), partition: self.partition, reason: reason.into() }
    }

    const fn aborted(&self, reason: String) -> JournalError {
        JournalError::Aborted { machine: self.machine.name(), partition: self.partition, reason }
    }

    /// What is said of a call for which there is no producer any more.
    fn gone(&self) -> JournalError {
        if self.fenced { self.fenced_error() } else { self.unknown("its producer has failed") }
    }

    /// Makes the producer anew, and proves that nobody has written in between: to fence a newer owner would be wrong, and what it
    /// wrote is not in this owner's memory.
    fn renew(&mut self) -> Result<(), JournalError> {
        tracing::info!(machine = self.machine.name(), partition = self.partition, "the producer of a shard is made anew");
        let expected = self.state_end.ok_or_else(|| self.unknown("a slow end followed an abort"))?;
        let state = Topic::State(self.machine);
        let (_, before) = self.cluster.all(state, self.partition)?;
        self.transactor = None;
        if before > expected {
            return Err(self.unknown("the state topic holds records of another"));
        }
        let mut transactor = self.cluster.open_transactor(self.machine, self.partition)?;
        if decided(&*self.cluster, Some(&mut transactor), self.machine, self.partition)? != expected {
            return Err(self.unknown("the state topic holds records of another"));
        }
        // A marker stands where that of the last commit should, and need not be it: brokers forget.
        let manifest = expected.saturating_sub(2);
        let mut reader = self.cluster.open_reader(state, self.partition, manifest)?;
        let patience = self.cluster.terms().answer_timeout;
        if !matches!(reader.see(patience)?, Seen::Record(entry) if entry.offset == manifest) {
            return Err(self.unknown("what was committed last is not there"));
        }
        self.transactor = Some(transactor);
        self.doubtful = false;
        Ok(())
    }

    /// The first part of the bracket.
    fn open(&mut self, header: &Record) -> Result<Receipt<C>, JournalError> {
        let state = Topic::State(self.machine);
        let mut receipt = Receipt::<C>::default();
        let Some(transactor) = &mut self.transactor else { return Err(self.gone()) };
        match transactor.begin() {
            Ok(()) => {}
            Err(trouble) => return Err(self.ended(trouble)),
        }
        match transactor.send(state, header, &mut receipt) {
            Ok(()) => Ok(receipt),
            Err(trouble) => Err(self.undelivered(trouble)),
        }
    }

    /// The bracket after its header: `Ok` when every record of it is acknowledged, with the offset of the manifest.
    fn write(&mut self, header: &Receipt<C>, transaction: &Transaction) -> Result<Option<u64>, Trouble> {
        let state = Topic::State(self.machine);
        let await_header = self.holds(Defence::HeaderAcknowledged);
        let await_body = self.holds(Defence::BodyAcknowledged);
        let Some(transactor) = &mut self.transactor else {
            return Err(Trouble { verdict: Verdict::Fatal, reason: "its producer has failed".to_owned() });
        };
        if await_header {
            transactor.await_receipt(header)?;
        }
        let mut body = Receipt::<C>::default();
        for (topic, record) in &transaction.outputs {
            transactor.send(*topic, record, &mut body)?;
        }
        for record in &transaction.state {
            transactor.send(state, record, &mut body)?;
        }
        if await_body {
            transactor.await_receipt(&body)?;
        }
        let mut last = Receipt::<C>::default();
        transactor.send(state, &transaction.manifest, &mut last)?;
        let manifest = transactor.await_receipt(&last)?;
        // Acknowledged already, unless the defences that waited for it are off.
        transactor.await_receipt(header)?;
        transactor.await_receipt(&body)?;
        transactor.settle()?;
        Ok(manifest)
    }

    /// The bracket after its header, and its end.
    fn conclude(&mut self, header: &Receipt<C>, transaction: &Transaction) -> Result<(End, u64), JournalError> {
        if self.transactor.is_none() {
            return Err(self.gone());
        }
        let manifest = self.write(header, transaction).map_err(|trouble| self.undelivered(trouble))?;
        let manifest = manifest.ok_or_else(|| self.unknown("the manifest has no offset"))?;
        Ok((self.end(Ending::Commit)?, manifest))
    }

    /// Ends the transaction, repeating the call as its errors allow. What is timed is the end alone.
    fn end(&mut self, ending: Ending) -> Result<End, JournalError> {
        let Some(transactor) = &mut self.transactor else { return Err(self.gone()) };
        let begun = self.cluster.now();
        let until = begun.saturating_add(self.cluster.terms().answer_timeout);
        let mut repeated = false;
        loop {
            let attempt = match ending {
                Ending::Commit => transactor.commit(),
                Ending::Abort => transactor.abort(),
            };
            match attempt {
                Ok(()) if repeated => return Ok(End::Repeated),
                Ok(()) => return Ok(End::Plain(self.cluster.now().saturating_sub(begun))),
                Err(trouble) if trouble.verdict == Verdict::Retry && self.cluster.now() < until => repeated = true,
                Err(trouble) => return Err(self.ended(trouble)),
            }
        }
    }

    /// What is known when a record was refused, or not acknowledged in time.
    fn undelivered(&mut self, trouble: Trouble) -> JournalError {
        let Some(transactor) = &self.transactor else { return self.gone() };
        if let Some(fatal) = transactor.fatal() {
            return match fatal.verdict {
                Verdict::Fenced => self.fenced_error(),
                Verdict::Fatal | Verdict::Abort | Verdict::Retry => {
                    self.unknown(format!("{}; {}", trouble.reason, fatal.reason))
                }
            };
        }
        // No end was asked for yet, so an abort that succeeds settles the matter.
        match self.end(Ending::Abort) {
            Ok(_) => self.aborted(trouble.reason),
            Err(JournalError::Fenced { .. }) => self.fenced_error(),
            Err(_) => self.unknown(trouble.reason),
        }
    }

    /// What is known when a transaction could not be begun or ended.
    fn ended(&mut self, trouble: Trouble) -> JournalError {
        match (trouble.verdict, &mut self.transactor) {
            (Verdict::Fenced, _) => self.fenced_error(),
            (Verdict::Abort, Some(transactor)) => match transactor.abort() {
                Ok(()) => self.aborted(trouble.reason),
                Err(second) if second.verdict == Verdict::Fenced => self.fenced_error(),
                Err(second) => self.unknown(format!("{}; {}", trouble.reason, second.reason)),
            },
            (Verdict::Fatal | Verdict::Retry | Verdict::Abort, _) => self.unknown(trouble.reason),
        }
    }

    fn is_slow(&self, end: End) -> bool {
        let slow = match end {
            End::Plain(took) => took > self.cluster.terms().commit_slow,
            End::Repeated => true,
        };
        slow && self.holds(Defence::RenewalAfterSlowEnd)
    }

    /// First and next offset of the state partition, once everything in it is decided.
    fn state_bounds(&self) -> Result<(u64, u64), JournalError> {
        // The cluster says that a commit is done a little before its marker stands: what we have written ourselves is waited for.
        let known = match self.header {
            None => decided(&*self.cluster, None, self.machine, self.partition)?,
            Some(_) => 0,
        };
        let (first, end) = self.cluster.committed(Topic::State(self.machine), self.partition)?;
        Ok((first, end.max(known)))
    }

    /// Shows the committed records of the state partition from `first` up to `end`.
    ///
    /// A reader that sees the end of the log has seen the end that the leader knows of, and one that has just become leader may know of
    /// less than was committed. So where more than the last marker is missing, the leader is asked for its end first (it answers
    /// when it knows, KIP-207), and then read once more.
    fn show(&self, first: u64, end: u64, visit: &mut dyn FnMut(Entry)) -> Result<(), JournalError> {
        let state = Topic::State(self.machine);
        if first >= end {
            return Ok(());
        }
        let patience = self.cluster.terms().answer_timeout;
        let mut reader = self.cluster.open_reader(state, self.partition, first)?;
        let trusting = !self.holds(Defence::EndConfirmed);
        let mut sure = trusting;
        while reader.next() < end {
            match reader.see(patience)? {
                Seen::Record(entry) if entry.offset >= end => break,
                Seen::Record(entry) => {
                    visit(entry);
                    sure = trusting;
                }
                // Markers and what was aborted take offsets that no record has.
                Seen::End if sure || end.saturating_sub(reader.next()) <= 1 => break,
                Seen::End => {
                    self.confirm(end)?;
                    let next = reader.next();
                    reader.seek(next)?;
                    sure = true;
                }
                Seen::Nothing => {
                    let reason = format!("nothing after offset {} of {end}", reader.next());
                    return Err(JournalError::Unavailable { operation: RESTORE, reason });
                }
            }
        }
        Ok(())
    }

    /// Waits until the leader of the state partition knows that it ends at `end` or later.
    fn confirm(&self, end: u64) -> Result<(), JournalError> {
        let until = self.cluster.now().saturating_add(self.cluster.terms().answer_timeout);
        loop {
            let (_, known) = self.cluster.committed(Topic::State(self.machine), self.partition)?;
            if known >= end {
                return Ok(());
            }
            if self.cluster.now() >= until {
                let reason = format!("the leader knows of {known} offsets, and there were {end}");
                return Err(JournalError::Unavailable { operation: RESTORE, reason });
            }
            self.cluster.pause(LOOK_AGAIN);
        }
    }
}

impl<C: Cluster> ShardLog for Shard<C> {
    fn identity(&self) -> Result<LogIdentity, JournalError> {
        self.cluster.identity(self.machine)
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
            None => self.inbox = Some(self.cluster.open_reader(Topic::Inbox(self.machine), self.partition, next)?),
        }
        self.position = next;
        Ok(())
    }

    fn inbox_at(&mut self, offset: u64) -> Result<Option<Entry>, JournalError> {
        let inbox = Topic::Inbox(self.machine);
        let (first, next) = self.cluster.committed(inbox, self.partition)?;
        if offset < first || offset >= next {
            return Ok(None);
        }
        let mut reader = self.cluster.open_reader(inbox, self.partition, offset)?;
        // Twice: the first end may be that of a new leader which knows of less.
        for _ in 0..2 {
            match reader.see(self.cluster.terms().answer_timeout)? {
                Seen::Record(entry) => return Ok(Some(entry).filter(|entry| entry.offset == offset)),
                Seen::End => self.cluster.committed(inbox, self.partition)?,
                Seen::Nothing => {
                    return Err(JournalError::Unavailable {
                        operation: "read one record of the inbox",
                        reason: format!("no answer for offset {offset}"),
                    });
                }
            };
            reader.seek(offset)?;
        }
        Ok(None)
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
        check_size(Topic::State(self.machine), &header, self.cluster.terms().record_bytes_max)?;
        if self.doubtful {
            self.renew()?;
        }
        if self.unsettled && self.holds(Defence::ForgottenEnded) {
            let Some(transactor) = &mut self.transactor else { return Err(self.gone()) };
            let settled = decided(&*self.cluster, Some(transactor), self.machine, self.partition);
            settled.map_err(|error| self.fail(error))?;
        }
        self.unsettled = false;
        let opened = self.open(&header).map_err(|error| self.fail(error))?;
        self.header = Some(opened);
        Ok(())
    }

    /// A record that is too large is refused before anything is sent; the transaction stays open, to be aborted.
    fn commit(&mut self, transaction: Transaction) -> Result<(), JournalError> {
        let state = Topic::State(self.machine);
        let most = self.cluster.terms().record_bytes_max;
        for (topic, record) in &transaction.outputs {
            check_size(*topic, record, most)?;
        }
        for record in transaction.state.iter().chain([&transaction.manifest]) {
            check_size(state, record, most)?;
        }
        let Some(header) = self.header.take() else {
            return Err(JournalError::Misconfigured("a transaction is committed that was not begun".to_owned()));
        };
        let (end, manifest) = self.conclude(&header, &transaction).map_err(|error| self.fail(error))?;
        self.doubtful = self.is_slow(end);
        // The manifest, then the marker of the commit.
        self.state_end = Some(manifest.saturating_add(2));
        Ok(())
    }

    fn abort(&mut self) -> Result<(), JournalError> {
        let Some(header) = self.header.take() else { return Ok(()) };
        let expected = self.state_end.take();
        let Some(transactor) = &mut self.transactor else { return Err(self.gone()) };
        let header = transactor.await_receipt(&header);
        let stands = header.map_err(|trouble| self.undelivered(trouble)).map_err(|error| self.fail(error))?;
        let end = self.end(Ending::Abort).map_err(|error| self.fail(error))?;
        let doubt = if self.is_slow(end) {
            Some("its abort was slow")
        } else if expected.is_some() && stands != expected {
            // No marker stood before the header: what was committed last went with this.
            Some("the transaction before it was open still")
        } else {
            None
        };
        let Some(doubt) = doubt else {
            self.unsettled = true;
            return Ok(());
        };
        let error = self.unknown(doubt);
        Err(self.fail(error))
    }

    fn position(&self) -> u64 {
        self.position
    }
}

/// Waits until nothing in the state partition is undecided, and returns where it ends.
///
/// Opening a producer ends what the cluster knows to be open. But a broker (Apache Kafka 4.3.0 to 4.4.0, KAFKA-20734) forgets the marker of
/// a partition that has no leader when the marker is due, and then none ever comes by itself. The marker of any later transaction of
/// the same id ends it: that is what the new producer is for. Without one it is only waited.
fn decided<C: Cluster>(
    cluster: &C,
    mut new: Option<&mut C::Transactor>,
    machine: Machine,
    partition: u32,
) -> Result<u64, JournalError> {
    let state = Topic::State(machine);
    let terms = cluster.terms();
    let patience = terms.decided_timeout.max(FORGOTTEN_AFTER.saturating_mul(2));
    let mut begun = None;
    let mut ends = FORGOTTEN_AFTER;
    loop {
        let (_, end) = cluster.all(state, partition)?;
        let (_, stable) = cluster.committed(state, partition)?;
        if stable >= end || !terms.defences.hold(Defence::StateDecided) {
            // A marker may have been written between the two looks.
            return Ok(end.max(stable));
        }
        let now = cluster.now();
        // From the first look on: a partition without a leader answers late.
        let waited = now.saturating_sub(*begun.get_or_insert(now));
        match &mut new {
            Some(transactor) if waited >= ends && terms.defences.hold(Defence::ForgottenEnded) => {
                tracing::warn!(
                    machine = machine.name(),
                    partition,
                    stable,
                    end,
                    "what the cluster has left open is aborted"
                );
                end_what_is_open(cluster, *transactor, machine, partition)?;
                ends = waited.saturating_add(END_AGAIN);
            }
            _ if waited < patience => cluster.pause(LOOK_AGAIN),
            _ => {
                return Err(JournalError::Misconfigured(format!(
                    "{}[{partition}] holds open transactions of others: decided up to {stable}, written up to {end}",
                    state.name()
                )));
            }
        }
    }
}

/// Aborts a transaction without content, and with it what the id has left open in the state partition.
///
/// Never commits it: a manifest may stand there whose outputs were aborted. If it was a commit that was forgotten, its inputs are
/// applied again, and its outputs are said twice, as after every tear.
fn end_what_is_open<C: Cluster>(
    cluster: &C,
    transactor: &mut C::Transactor,
    machine: Machine,
    partition: u32,
) -> Result<(), JournalError> {
    let content = Record { key: LEFT_OPEN.into(), value: None, headers: Headers::new() };
    let mut receipt = Receipt::<C>::default();
    let mut abort_it = || -> Result<Duration, Trouble> {
        transactor.begin()?;
        transactor.send(Topic::State(machine), &content, &mut receipt)?;
        transactor.await_receipt(&receipt)?;
        transactor.settle()?;
        let begun = cluster.now();
        transactor.abort()?;
        Ok(cluster.now().saturating_sub(begun))
    };
    let unavailable = |reason| JournalError::Unavailable { operation: "end what a state partition holds open", reason };
    match abort_it() {
        Ok(took) if took <= cluster.terms().commit_slow => Ok(()),
        // It may come again, and hit what follows.
        Ok(_) => Err(unavailable("its abort was slow".to_owned())),
        Err(trouble) => match transactor.fatal().unwrap_or(trouble) {
            Trouble { verdict: Verdict::Fenced, .. } => Err(JournalError::Fenced { machine: machine.name(), partition }),
            Trouble { reason, .. } => Err(unavailable(reason)),
        },
    }
}
