//! Membership in the group that shares a machine's shards. It reads nothing: the group only says who shall take what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use custos_messages::{Machine, Topic};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::settings::KafkaSettings;
use super::watermarks::goes_on;
use super::wire::{failure, halts, native, native_offset};
use crate::{Assignment, JournalError, Membership};

/// How often the group is told how far shards have come.
const NOTE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct KafkaMembership {
    consumer: BaseConsumer<Changes>,
    topic: Topic,
    release_timeout: Duration,
    answer_timeout: Duration,
    notes: BTreeMap<u32, u64>,
    noted: Instant,
}

/// What the group has said, collected by the library's callback.
#[derive(Default)]
struct Changes(Mutex<State>);

#[derive(Default)]
struct State {
    queue: VecDeque<Assignment>,
    held: BTreeSet<u32>,
    /// Shards that are to be released, and since when. The group waits for them.
    releasing: Option<(BTreeSet<u32>, Instant)>,
    leaving: bool,
}

impl ClientContext for Changes {}

impl ConsumerContext for Changes {
    /// A revocation is answered only once the shards are released, outside of this callback: the group waits for the answer, and
    /// so no other member begins with a shard that is being given up in good order.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, places: &mut TopicPartitionList) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named: BTreeSet<u32> =
            places.elements().iter().filter_map(|place| u32::try_from(place.partition()).ok()).collect();
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let taken = places
                .set_all_offsets(Offset::End)
                .and_then(|()| consumer.assign(places))
                .and_then(|()| consumer.pause(places));
            if let Err(error) = taken {
                tracing::error!(%error, "an assignment could not be taken");
                return;
            }
            state.held.clone_from(&named);
            if !named.is_empty() {
                state.queue.push_back(Assignment::Gained(named.into_iter().collect()));
            }
            return;
        }
        let held = std::mem::take(&mut state.held);
        let revoked: Vec<u32> = held.iter().copied().collect();
        if state.leaving || consumer.assignment_lost() {
            state.releasing = None;
            give_up(consumer);
            if !revoked.is_empty() {
                state.queue.push_back(Assignment::Lost(revoked));
            }
        } else if held.is_empty() {
            give_up(consumer);
        } else {
            state.queue.push_back(Assignment::Revoked(revoked));
            state.releasing = Some((held, Instant::now()));
        }
    }
}

fn give_up(consumer: &BaseConsumer<Changes>) {
    if let Err(error) = consumer.unassign() {
        tracing::error!(%error, "an assignment could not be given up");
    }
}

impl KafkaMembership {
    pub(super) fn join(settings: &KafkaSettings, machine: Machine, member: &str) -> Result<Self, JournalError> {
        let topic = Topic::Inbox(machine);
        let config = settings.group_member(&format!("custos.{}", machine.name()), member);
        let consumer: BaseConsumer<Changes> =
            config.create_with_context(Changes::default()).map_err(|error| failure("join a group", &error))?;
        consumer.subscribe(&[topic.name()]).map_err(|error| failure("subscribe", &error))?;
        Ok(Self {
            consumer,
            topic,
            release_timeout: settings.release_timeout,
            answer_timeout: settings.answer_timeout,
            notes: BTreeMap::new(),
            noted: Instant::now(),
        })
    }

    fn next_change(&self) -> Option<Assignment> {
        let mut state = self.consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner);
        state.queue.pop_front()
    }

    /// Answers a revocation that was not released in time: the others must not wait for ever, and the shards are fenced anyway.
    fn bound_release(&self) {
        let mut state = self.consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((left, since)) = &state.releasing else { return };
        if since.elapsed() < self.release_timeout {
            return;
        }
        tracing::warn!(shards = ?left, "shards were not released in time and are given up");
        let lost = left.iter().copied().collect();
        state.releasing = None;
        state.queue.push_back(Assignment::Lost(lost));
        give_up(&self.consumer);
    }

    fn write_notes(&mut self) {
        if self.noted.elapsed() < NOTE_EVERY || self.notes.is_empty() {
            return;
        }
        self.noted = Instant::now();
        let notes = std::mem::take(&mut self.notes);
        let held = {
            let state = self.consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner);
            state.held.clone()
        };
        let mut places = TopicPartitionList::new();
        for (partition, next) in notes.into_iter().filter(|(partition, _)| held.contains(partition)) {
            if let (Ok(partition), Ok(next)) = (native(partition), native_offset(next))
                && let Err(error) = places.add_partition_offset(self.topic.name(), partition, Offset::Offset(next))
            {
                tracing::debug!(%error, "a place in the inbox was not noted");
            }
        }
        if places.count() > 0
            && let Err(error) = self.consumer.commit(&places, CommitMode::Async)
        {
            tracing::debug!(%error, "places in the inbox were not noted");
        }
    }
}

impl Membership for KafkaMembership {
    fn poll(&mut self, wait: Duration) -> Result<Option<Assignment>, JournalError> {
        let until = Instant::now() + wait;
        loop {
            self.bound_release();
            self.write_notes();
            if let Some(change) = self.next_change() {
                return Ok(Some(change));
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.consumer.poll(left.min(Duration::from_millis(100))) {
                // Paused before anything is fetched; what slips through is nobody's: shards read for themselves.
                Some(Ok(_)) | None => {}
                Some(Err(error)) => {
                    let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
                    if fatal || error.rdkafka_error_code().is_some_and(halts) {
                        return Err(failure("stay in a group", &error));
                    }
                    tracing::debug!(%error, topic = self.topic.name(), "kafka membership");
                    goes_on(&self.consumer, self.topic, 0, &error, self.answer_timeout)?;
                }
            }
            if left.is_zero() {
                return Ok(self.next_change());
            }
        }
    }

    fn released(&mut self, partitions: &[u32]) -> Result<(), JournalError> {
        let mut state = self.consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((left, _)) = &mut state.releasing {
            left.retain(|partition| !partitions.contains(partition));
            if left.is_empty() {
                state.releasing = None;
                give_up(&self.consumer);
            }
        }
        Ok(())
    }

    fn note(&mut self, partition: u32, next: u64) {
        self.notes.insert(partition, next);
    }
}

impl Drop for KafkaMembership {
    fn drop(&mut self) {
        let mut state = self.consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner);
        state.leaving = true;
        if state.releasing.take().is_some() {
            give_up(&self.consumer);
        }
    }
}
