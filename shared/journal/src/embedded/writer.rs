//! The one thread that writes the file. It collects what waits, writes it in one go, makes it durable with one `fdatasync`,
//! publishes it, and answers.
//!
//! Invariants: nothing is visible before it is durable; a request is one frame, so it is there whole or not at all; ownership is
//! checked here, in the order of writing, so no former owner's frame can follow an acquisition. After a failed write or sync
//! nothing is written again by this process: what the disk holds is found out by opening the log anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use custos_domain::Timestamp;
use custos_messages::{Machine, Record, Topic};

use super::format::{FRAME_HEADER, Item, push_acknowledged, push_frame, push_record, push_topic, wide};
use super::index::Place;
use super::store::Store;
use super::{failed, fenced};
use crate::{Entry, JournalError};

/// Requests that may wait; each belongs to a thread that waits for its answer.
const QUEUE: usize = 1_024;
/// A group is closed when it holds this much.
const GROUP_BYTES: usize = 8 << 20;
/// The file grows by this, written as zeros, so that most syncs need not also write the file's length.
const GROWTH_BYTES: u64 = 1 << 20;

/// What is asked of the writer.
pub(super) enum Work {
    /// Plain records.
    Append(Vec<(Topic, u32, Record)>),
    /// A whole transaction of one shard.
    Commit {
        /// The shard.
        machine: Machine,
        /// The shard.
        partition: u32,
        /// The acquisition that it rests on.
        epoch: u64,
        /// All its records, in order.
        records: Vec<(Topic, Record)>,
    },
    /// Takes a shard; answers with the epoch.
    Acquire {
        /// The shard.
        machine: Machine,
        /// The shard.
        partition: u32,
    },
    /// A group's progress.
    Acknowledge {
        /// The group.
        group: String,
        /// What it consumes.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// What it wants next.
        next: u64,
    },
    /// Topics that shall exist.
    Provision(Vec<(Topic, u32)>),
}

struct Request {
    work: Work,
    answer: SyncSender<Result<u64, JournalError>>,
}

/// The log's handle to its writer. The last one that is dropped ends the writer and gives up the lock on the folder.
pub(super) struct Core {
    /// Reading.
    pub(super) store: Arc<Store>,
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
    _lock: File,
}

impl Core {
    /// Starts the writer of a recovered file that is `length` long and filled with zeros up to `capacity`.
    pub(super) fn start(store: Store, lock: File, length: u64, capacity: u64) -> Result<Self, JournalError> {
        let store = Arc::new(store);
        let (requests, waiting) = sync_channel(QUEUE);
        let writer = Writer { store: Arc::clone(&store), length, capacity, ends: BTreeMap::new() };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || writer.run(&waiting));
        let thread = thread.map_err(|source| failed("start the writer", source))?;
        Ok(Self { store, requests: Some(requests), thread: Some(thread), _lock: lock })
    }

    /// Has `work` done and waits until it is durable. Appends answer with the first offset, acquisitions with the epoch.
    pub(super) fn submit(&self, operation: &'static str, work: Work) -> Result<u64, JournalError> {
        let gone = || failed(operation, "the writer has ended");
        let (answer, answered) = sync_channel(1);
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(Request { work, answer }).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has closed its queue, and everyone who waited has been told.
            let _ended = thread.join();
        }
    }
}

struct Writer {
    store: Arc<Store>,
    length: u64,
    capacity: u64,
    /// Next offset and newest time of the partitions that were written to.
    ends: BTreeMap<(Topic, u32), (u64, Timestamp)>,
}

/// What one sync makes durable.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    items: Vec<(Option<Place>, Item)>,
    answers: Vec<Answer>,
}

struct Answer {
    to: SyncSender<Result<u64, JournalError>>,
    with: Result<u64, JournalError>,
    /// The shard whose transaction this is: a failure leaves its outcome unknown.
    shard: Option<(Machine, u32)>,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Request>) {
        while let Ok(first) = waiting.recv() {
            let mut group = Group::default();
            self.add(&mut group, first);
            while group.bytes.len() < GROUP_BYTES
                && let Ok(next) = waiting.try_recv()
            {
                self.add(&mut group, next);
            }
            self.finish(group);
        }
    }

    /// Writes, syncs, publishes and answers.
    fn finish(&mut self, group: Group) {
        let broken = self.store.lock().broken.clone();
        let outcome = match broken {
            Some(reason) => Err(reason),
            None => self.write(&group.bytes).and_then(|()| self.publish(group.items)),
        };
        if let Err(reason) = &outcome {
            tracing::error!(reason, "the embedded log is unusable until it is opened anew");
            self.store.break_down(reason.clone());
        }
        for answer in group.answers {
            let with = match (&outcome, answer.shard) {
                (Ok(()), _) => answer.with,
                (Err(_), _) if answer.with.is_err() => answer.with,
                (Err(reason), Some((machine, partition))) => {
                    Err(JournalError::Unknown { machine: machine.name(), partition, reason: reason.clone() })
                }
                (Err(reason), None) => Err(failed("write", reason.clone())),
            };
            // Whoever no longer waits for the answer does not need it.
            let _unheard = answer.to.send(with);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = self.length + wide(bytes.len());
        let say = |error: std::io::Error| error.to_string();
        if end > Place::LAST {
            return Err(format!("the log is full: {end} bytes"));
        }
        if end > self.capacity {
            let capacity = (end / GROWTH_BYTES + 1) * GROWTH_BYTES;
            let zeros = usize::try_from(capacity - end).map_err(|error| error.to_string())?;
            self.store.file.write_all_at(&vec![0; zeros], end).map_err(say)?;
            self.capacity = capacity;
        }
        self.store.file.write_all_at(bytes, self.length).map_err(say)?;
        self.store.file.sync_data().map_err(say)?;
        self.length = end;
        Ok(())
    }

    fn publish(&self, items: Vec<(Option<Place>, Item)>) -> Result<(), String> {
        let mut touched = BTreeSet::new();
        let mut index = self.store.lock();
        for (place, item) in items {
            let (Item::Record(topic, _) | Item::Topic(topic, _) | Item::Acknowledged { topic, .. }) = &item;
            touched.insert(*topic);
            index.apply(place, item).map_err(str::to_owned)?;
        }
        drop(index);
        touched.into_iter().for_each(|topic| self.store.wake(topic));
        Ok(())
    }

    fn add(&mut self, group: &mut Group, request: Request) {
        let shard = match &request.work {
            Work::Commit { machine, partition, .. } => Some((*machine, *partition)),
            Work::Append(_) | Work::Acquire { .. } | Work::Acknowledge { .. } | Work::Provision(_) => None,
        };
        let with = self.encode(group, request.work);
        group.answers.push(Answer { to: request.answer, with, shard });
    }

    fn encode(&mut self, group: &mut Group, work: Work) -> Result<u64, JournalError> {
        let mut frame = Frame { body: Vec::new(), items: Vec::new(), place: self.length + wide(group.bytes.len()) };
        let mut answer = 0;
        match work {
            Work::Append(records) => {
                for (count, (topic, partition, record)) in records.into_iter().enumerate() {
                    let offset = self.push(&mut frame, topic, partition, record);
                    answer = if count == 0 { offset } else { answer };
                }
            }
            Work::Commit { machine, partition, epoch, records } => {
                if self.store.lock().epochs.get(&(machine, partition)) != Some(&epoch) {
                    return Err(fenced(machine, partition));
                }
                for (topic, record) in records {
                    self.push(&mut frame, topic, partition, record);
                }
            }
            Work::Acquire { machine, partition } => {
                let mut index = self.store.lock();
                let epoch = index.epochs.entry((machine, partition)).or_default();
                *epoch += 1;
                return Ok(*epoch);
            }
            Work::Acknowledge { group, topic, partition, next } => {
                push_acknowledged(&mut frame.body, &group, topic, partition, next);
                frame.items.push((0, 0, Item::Acknowledged { group, topic, partition, next }));
            }
            Work::Provision(topics) => {
                for (topic, partitions) in topics {
                    push_topic(&mut frame.body, topic, partitions);
                    frame.items.push((0, 0, Item::Topic(topic, partitions)));
                }
            }
        }
        if frame.body.is_empty() {
            return Ok(answer);
        }
        let base = frame.place + wide(FRAME_HEADER);
        push_frame(&mut group.bytes, frame.place, self.length, frame.body);
        let placed = frame.items.into_iter().map(|(start, length, item)| (Place::new(base + start, length), item));
        group.items.extend(placed);
        Ok(answer)
    }

    /// Puts a record behind the last of its partition. Its time never goes back.
    fn push(&mut self, frame: &mut Frame, topic: Topic, partition: u32, record: Record) -> u64 {
        let store = &self.store;
        let (next, newest) = self.ends.entry((topic, partition)).or_insert_with(|| {
            let index = store.lock();
            index.partition(topic, partition).map_or((0, Timestamp(0)), |log| (log.next(), log.newest))
        });
        let offset = *next;
        *next += 1;
        *newest = host_time().max(*newest);
        let entry = Entry { partition, offset, at: Some(*newest), record };
        let start = wide(frame.body.len());
        let length = wide(push_record(&mut frame.body, topic, &entry));
        frame.items.push((start, length, Item::Record(topic, entry)));
        offset
    }
}

struct Frame {
    body: Vec<u8>,
    /// Start and length within the body.
    items: Vec<(u64, u64, Item)>,
    place: u64,
}

/// The log's clock: what a broker would stamp.
fn host_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::index::Index;
    use super::*;

    #[test]
    fn after_a_failed_write_outcomes_are_unknown_and_nothing_is_written_again() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let readable = File::open(named.path()).unwrap();
        let mut index = Index::default();
        index.apply(None, Item::Topic(Topic::State(Machine::Chain), 1)).unwrap();
        let core = Core::start(Store::new(readable, [0; 16], index), tempfile::tempfile().unwrap(), 32, 32).unwrap();
        let (machine, partition) = (Machine::Chain, 0);
        let epoch = core.submit("acquire", Work::Acquire { machine, partition }).unwrap();
        let records = vec![(Topic::State(machine), Record::default())];
        let committed = core.submit("commit", Work::Commit { machine, partition, epoch, records });
        assert!(matches!(committed, Err(JournalError::Unknown { .. })), "{committed:?}");
        let taken = core.submit("acquire", Work::Acquire { machine, partition });
        assert!(matches!(taken, Err(JournalError::Store { .. })), "{taken:?}");
        let polled = core.store.poll(Topic::State(machine), partition, 0, 1, std::time::Instant::now());
        assert!(matches!(polled, Err(JournalError::Store { .. })), "{polled:?}");
        assert_eq!(core.store.bounds(Topic::State(machine), partition).unwrap(), (0, 0));
    }
}
