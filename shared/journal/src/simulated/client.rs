//! The transactional producer as librdkafka drives it: it remembers which partitions it has added to the transaction, repeats a
//! request that was not answered after its pause, and cannot take back the one that is still under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use custos_messages::{Record, Topic};

use super::chance::Rate;
use super::protocol::{Code, Place, Producer, Reply, Request, ShardId};
use super::world::{Core, Fate};
use crate::JournalError;
use crate::bracket::{self, Trouble, Verdict};

/// How long the client waits before it repeats a request that has to wait for markers; librdkafka's own.
const MARKERS_WAIT: Duration = Duration::from_millis(20);

/// The producer of one shard.
pub(super) struct Transactor {
    core: Arc<Core>,
    process: u64,
    /// The transactional id.
    id: ShardId,
    /// Where it writes.
    partition: u32,
    producer: Producer,
    /// What ended this producer for good.
    fatal: Option<Trouble>,
    /// What the transaction must be aborted for.
    failed: Option<Trouble>,
    /// How often a record leaves at once, and does not wait for the next that is waited for: drawn for each transaction.
    haste: Rate,
    /// Counts the transactions, for the tally of ends that go astray.
    serial: u64,
    /// Partitions that were added, as far as the client knows.
    added: BTreeSet<Place>,
    /// Whether the coordinator may have heard of the transaction.
    asked: bool,
    queue: BTreeMap<Place, Vec<(u64, Record)>>,
    sequences: BTreeMap<Place, u64>,
    /// Batches that were sent and not answered: they are repeated as they are.
    in_flight: BTreeMap<Place, Vec<(u64, Record)>>,
    sent: u64,
    offsets: BTreeMap<u64, u64>,
    /// A record's fate is not known: the numbers are begun anew before the next transaction.
    desynchronised: bool,
}

/// The numbers of the records that are waited for.
#[derive(Default)]
pub(super) struct Receipt(Vec<u64>);

/// How long a request is repeated that is not answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Not at all, for now: it stays in flight.
    Once,
    UntilAnswered,
}

/// Why a request that was repeated for long enough has no good answer.
enum Refusal {
    Code(Code),
    TimedOut,
    Dead,
}

impl Transactor {
    pub(super) fn open(core: &Arc<Core>, process: u64, shard: ShardId) -> Result<Self, JournalError> {
        let operation = "take over the producer of a shard";
        let (machine, partition) = (shard.0.name(), shard.1);
        let id = if core.settings.fencing { shard } else { own_id(process, shard) };
        let within = core.settings.answer_timeout;
        let unavailable = |reason: &str| JournalError::Unavailable { operation, reason: reason.to_owned() };
        let producer = match ask(core, process, &Request::Init { id, known: None }, within) {
            Ok(Reply::Producer(producer)) => producer,
            Ok(_) | Err(Refusal::TimedOut) => return Err(unavailable("no answer in time")),
            Err(Refusal::Dead) => return Err(unavailable("this process was killed")),
            Err(Refusal::Code(Code::Fenced)) => return Err(JournalError::Fenced { machine, partition }),
            Err(Refusal::Code(code)) => return Err(unavailable(&format!("{code:?}"))),
        };
        core.lock().counts.producers_opened += 1;
        Ok(Self {
            core: Arc::clone(core),
            process,
            id,
            partition,
            producer,
            fatal: None,
            failed: None,
            haste: Rate::ALWAYS,
            serial: 0,
            added: BTreeSet::new(),
            asked: false,
            queue: BTreeMap::new(),
            sequences: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            sent: 0,
            offsets: BTreeMap::new(),
            desynchronised: false,
        })
    }

    fn ask(&self, request: &Request, patience: Patience) -> Result<Reply, Refusal> {
        match patience {
            Patience::UntilAnswered => ask(&self.core, self.process, request, self.core.settings.transaction_timeout),
            Patience::Once => match self.core.send(self.process, request.clone()) {
                Fate::Answered(Ok(reply)) => Ok(reply),
                Fate::Answered(Err(Code::Concurrent | Code::NotNow)) | Fate::Silence => Err(Refusal::TimedOut),
                Fate::Answered(Err(code)) => Err(Refusal::Code(code)),
                Fate::Dead => Err(Refusal::Dead),
            },
        }
    }

    /// Adds partitions that are new to the transaction, and sends what waits for partitions that were added.
    fn pump(&mut self, patience: Patience) -> Result<(), Trouble> {
        if let Some(trouble) = self.fatal.as_ref().or(self.failed.as_ref()) {
            return Err(trouble.clone());
        }
        let new: Vec<Place> = self.queue.keys().filter(|place| !self.added.contains(place)).copied().collect();
        if !new.is_empty() {
            self.asked = true;
            let (id, producer, serial) = (self.id, self.producer, self.serial);
            match self.ask(&Request::Add { id, producer, places: new.clone(), serial }, patience) {
                Ok(_) => self.added.extend(new),
                Err(Refusal::TimedOut) if patience == Patience::Once => return Ok(()),
                Err(Refusal::TimedOut) => return Err(self.must_abort("partitions were not added in time")),
                Err(refusal) => return Err(self.end_for_good(&refusal)),
            }
        }
        loop {
            let places: BTreeSet<Place> = self.queue.keys().chain(self.in_flight.keys()).copied().collect();
            let drawn = self.core.lock().chance.place(places.len());
            let Some(place) = places.into_iter().nth(drawn) else { return Ok(()) };
            if !self.produce(place, patience)? {
                return Ok(());
            }
        }
    }

    /// Sends a part of what waits for a partition, or what was sent and not answered. `false`: there was no answer yet.
    fn produce(&mut self, place: Place, patience: Patience) -> Result<bool, Trouble> {
        let batch = match self.in_flight.get(&place) {
            Some(batch) => batch.clone(),
            None => self.take_batch(place),
        };
        self.in_flight.insert(place, batch.clone());
        let sequence = self.sequences.get(&place).copied().unwrap_or(0);
        let (numbers, records): (Vec<u64>, Vec<Record>) = batch.into_iter().unzip();
        let request = Request::Produce { id: Some(self.id), producer: self.producer, sequence, place, records };
        let first = match self.ask(&request, patience) {
            Ok(Reply::Offset(first)) => first,
            // In the log, at an offset that nobody remembers: no shard sends so much that this could be its manifest.
            Ok(_) | Err(Refusal::Code(Code::DuplicateSequence)) => 0,
            Err(Refusal::TimedOut) if patience == Patience::Once => return Ok(false),
            Err(Refusal::Code(code)) => return Err(self.must_abort(&format!("a record was refused: {code:?}"))),
            Err(Refusal::TimedOut) => return Err(self.must_abort("a record was not acknowledged in time")),
            Err(Refusal::Dead) => return Err(self.end_for_good(&Refusal::Dead)),
        };
        for (number, offset) in numbers.iter().zip(first..) {
            self.offsets.insert(*number, offset);
        }
        let length = u64::try_from(numbers.len()).unwrap_or(u64::MAX);
        self.sequences.insert(place, sequence.saturating_add(length));
        self.in_flight.remove(&place);
        Ok(true)
    }

    fn take_batch(&mut self, place: Place) -> Vec<(u64, Record)> {
        let Some(waiting) = self.queue.get_mut(&place) else { return Vec::new() };
        let most = self.core.lock().chance.place(waiting.len()).saturating_add(1);
        let batch = waiting.drain(..most.min(waiting.len())).collect();
        if waiting.is_empty() {
            self.queue.remove(&place);
        }
        batch
    }

    fn must_abort(&mut self, reason: &str) -> Trouble {
        self.desynchronised = true;
        let trouble = Trouble { verdict: Verdict::Abort, reason: reason.to_owned() };
        self.failed = Some(trouble.clone());
        trouble
    }

    fn end_for_good(&mut self, refusal: &Refusal) -> Trouble {
        let (verdict, reason) = match refusal {
            Refusal::Code(Code::Fenced) => (Verdict::Fenced, "fenced".to_owned()),
            Refusal::Code(code) => (Verdict::Fatal, format!("{code:?}")),
            Refusal::TimedOut => (Verdict::Fatal, "no answer in time".to_owned()),
            Refusal::Dead => (Verdict::Fatal, "this process was killed".to_owned()),
        };
        let trouble = Trouble { verdict, reason };
        self.fatal = Some(trouble.clone());
        trouble
    }

    fn end(&mut self, commit: bool) -> Result<(), Trouble> {
        if let Some(trouble) = &self.fatal {
            return Err(trouble.clone());
        }
        // A transaction of which the coordinator has never heard needs no end.
        if self.asked {
            let (id, producer, serial) = (self.id, self.producer, self.serial);
            match self.ask(&Request::End { id, producer, commit, serial }, Patience::UntilAnswered) {
                Ok(_) => {}
                Err(Refusal::TimedOut) => {
                    return Err(Trouble { verdict: Verdict::Retry, reason: "the end was not answered in time".to_owned() });
                }
                Err(refusal) => return Err(self.end_for_good(&refusal)),
            }
        }
        self.asked = false;
        self.added.clear();
        self.failed = None;
        Ok(())
    }

    /// Begins the numbers anew, as the client does when it has lost track of what it has sent.
    fn resynchronise(&mut self) -> Result<(), Trouble> {
        if !std::mem::take(&mut self.desynchronised) {
            return Ok(());
        }
        let request = Request::Init { id: self.id, known: Some(self.producer) };
        match self.ask(&request, Patience::UntilAnswered) {
            Ok(Reply::Producer(producer)) => {
                self.producer = producer;
                self.sequences.clear();
                Ok(())
            }
            Ok(_) => Err(self.end_for_good(&Refusal::TimedOut)),
            Err(refusal) => Err(self.end_for_good(&refusal)),
        }
    }
}

impl bracket::Transactor for Transactor {
    type Receipt = Receipt;

    fn begin(&mut self) -> Result<(), Trouble> {
        if let Some(trouble) = &self.fatal {
            return Err(trouble.clone());
        }
        self.serial = self.serial.saturating_add(1);
        let mut world = self.core.lock();
        if world.is_virtual() {
            self.haste = Rate(u16::try_from(world.chance.below(3).saturating_mul(5_000)).unwrap_or(0));
        }
        Ok(())
    }

    /// A record leaves now or with whatever is waited for next. What goes wrong with it shows when it is waited for.
    fn send(&mut self, topic: Topic, record: &Record, receipt: &mut Receipt) -> Result<(), Trouble> {
        self.sent = self.sent.saturating_add(1);
        receipt.0.push(self.sent);
        self.queue.entry((topic, self.partition)).or_default().push((self.sent, record.clone()));
        let leaves = self.core.lock().chance.happens(self.haste);
        if leaves && let Err(trouble) = self.pump(Patience::Once) {
            self.core.lock().note(format_args!("a record that nobody waits for yet fails: {}", trouble.reason));
        }
        Ok(())
    }

    fn await_receipt(&mut self, receipt: &Receipt) -> Result<Option<u64>, Trouble> {
        if receipt.0.iter().any(|number| !self.offsets.contains_key(number)) {
            self.pump(Patience::UntilAnswered)?;
        }
        Ok(receipt.0.last().and_then(|number| self.offsets.get(number)).copied())
    }

    fn settle(&mut self) -> Result<(), Trouble> {
        self.pump(Patience::UntilAnswered)?;
        self.offsets.clear();
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Trouble> {
        if let Some(trouble) = &self.failed {
            return Err(trouble.clone());
        }
        self.end(true)
    }

    fn abort(&mut self) -> Result<(), Trouble> {
        self.queue.clear();
        self.offsets.clear();
        // What is in flight is given up, and may still arrive.
        self.desynchronised |= !self.in_flight.is_empty();
        self.in_flight.clear();
        self.end(false)?;
        self.resynchronise()
    }

    fn fatal(&self) -> Option<Trouble> {
        let dead = || Trouble { verdict: Verdict::Fatal, reason: "this process was killed".to_owned() };
        self.fatal.clone().or_else(|| (!self.core.lock().is_alive(self.process)).then(dead))
    }
}

/// An id that no other process has: nobody is fenced by it.
fn own_id(process: u64, (machine, partition): ShardId) -> ShardId {
    let process = u32::try_from(process).unwrap_or(u32::MAX);
    (machine, process.saturating_add(1).saturating_mul(1_000).saturating_add(partition))
}

/// Sends a request until it is answered, repeating it after the client's pause: what went out before may still be under way.
fn ask(core: &Core, process: u64, request: &Request, within: Duration) -> Result<Reply, Refusal> {
    let until = core.now().saturating_add(within);
    loop {
        let again = match core.send(process, request.clone()) {
            Fate::Answered(Ok(reply)) => return Ok(reply),
            Fate::Answered(Err(Code::Concurrent | Code::NotNow)) => MARKERS_WAIT,
            Fate::Answered(Err(code)) => return Err(Refusal::Code(code)),
            Fate::Silence => retry_pause(core),
            Fate::Dead => return Err(Refusal::Dead),
        };
        core.pause(again);
        if core.now() > until {
            return Err(Refusal::TimedOut);
        }
    }
}

/// The client's pause, within a tenth of what it is set to.
pub(super) fn retry_pause(core: &Core) -> Duration {
    let share = core.lock().chance.below(21).saturating_add(90);
    core.settings.retry_backoff.saturating_mul(u32::try_from(share).unwrap_or(100)) / 100
}

/// As [`ask`], for a plain producer: `None` when there was no answer in time.
pub(super) fn ask_plainly(core: &Core, process: u64, request: &Request) -> Option<Result<Reply, Code>> {
    match ask(core, process, request, core.settings.answer_timeout) {
        Ok(reply) => Some(Ok(reply)),
        Err(Refusal::Code(code)) => Some(Err(code)),
        Err(Refusal::TimedOut | Refusal::Dead) => None,
    }
}
