//! A plain idempotent producer that waits for its records.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use custos_messages::{Record, Topic};

use super::client::ask_plainly;
use super::protocol::{Code, Place, Producer, Reply, Request};
use super::world::Core;
use crate::bracket::check_size;
use crate::{Appender, JournalError};

const OPERATION: &str = "append";

pub(super) struct SimulatedAppender {
    core: Arc<Core>,
    process: u64,
    numbers: Mutex<Numbers>,
}

struct Numbers {
    producer: Producer,
    next: BTreeMap<Place, u64>,
}

impl SimulatedAppender {
    pub(super) fn new(core: &Arc<Core>, process: u64) -> Result<Self, JournalError> {
        let mut world = core.lock();
        world.alive("open an appender", process)?;
        let producer = world.broker.new_producer();
        drop(world);
        Ok(Self { core: Arc::clone(core), process, numbers: Mutex::new(Numbers { producer, next: BTreeMap::new() }) })
    }

    fn check(&self, (topic, partition): Place, record: &Record) -> Result<(), JournalError> {
        check_size(topic, record, self.core.settings.record_bytes_max)?;
        if self.core.lock().broker.partition((topic, partition)).is_none() {
            return Err(JournalError::Misconfigured(format!("{} has no partition {partition}", topic.name())));
        }
        Ok(())
    }

    fn deliver(&self, place: Place, records: Vec<Record>) -> Result<u64, JournalError> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = numbers.next.get(&place).copied().unwrap_or(0);
        let length = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let request = Request::Produce { id: None, producer: numbers.producer, sequence, place, records };
        let failed = {
            let mut world = self.core.lock();
            world.alive(OPERATION, self.process)?;
            let fails = world.happens(|faults| faults.append_fails);
            if fails {
                world.fail_append(self.process, request.clone());
            }
            fails
        };
        if failed {
            self.core.pause(self.core.settings.answer_timeout);
        }
        let answer = if failed { None } else { ask_plainly(&self.core, self.process, &request) };
        match answer {
            Some(Ok(Reply::Offset(first))) => {
                numbers.next.insert(place, sequence.saturating_add(length));
                Ok(first)
            }
            Some(Err(Code::NoSuchPlace)) => Err(JournalError::Misconfigured("no such partition".to_owned())),
            other => {
                // What was sent is given up, and may be in the log all the same: a new epoch begins the numbers anew.
                numbers.producer.epoch = numbers.producer.epoch.saturating_add(1);
                numbers.next.clear();
                let reason = other.map_or_else(|| "no acknowledgement in time".to_owned(), |answer| format!("{answer:?}"));
                Err(JournalError::Unavailable { operation: OPERATION, reason })
            }
        }
    }
}

impl Appender for SimulatedAppender {
    fn append(&self, topic: Topic, partition: u32, record: Record) -> Result<u64, JournalError> {
        self.check((topic, partition), &record)?;
        self.deliver((topic, partition), vec![record])
    }

    fn append_all(&self, records: Vec<(Topic, u32, Record)>) -> Result<(), JournalError> {
        let mut places: BTreeMap<Place, Vec<Record>> = BTreeMap::new();
        for (topic, partition, record) in records {
            self.check((topic, partition), &record)?;
            places.entry((topic, partition)).or_default().push(record);
        }
        places.into_iter().try_for_each(|(place, records)| self.deliver(place, records).map(drop))
    }
}
