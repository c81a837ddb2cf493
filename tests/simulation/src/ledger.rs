//! The oracle of events: what a reader of the public feed may rely on, checked with every event.
//!
//! Each partition's events are dense and chained, every entry is zero for each asset, an operation begins once and ends once, and
//! what was refused moved nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use custos_domain::Digest;
use custos_messages::events::Event;
use custos_messages::{Chained, Topic};

use crate::actor::{Actor, Step};
use crate::diary::Diary;
use crate::surroundings::facts::SharedFacts;
use crate::surroundings::outside::Outside;

const LOOK: Duration = Duration::from_millis(300);

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// By the events' numbers: what is known already is passed over.
    Counted,
    /// Whatever the log shows is news.
    Trusting,
}

/// The oracle.
pub struct EventOracle {
    facts: SharedFacts,
    diary: Diary,
    log: Outside,
    reading: Reading,
    places: BTreeMap<u32, (u64, Digest)>,
    accounts: BTreeMap<custos_domain::AccountId, u64>,
}

impl EventOracle {
    /// An oracle that has seen nothing.
    #[must_use]
    pub const fn new(facts: SharedFacts, diary: Diary, log: Outside, reading: Reading) -> Self {
        Self { facts, diary, log, reading, places: BTreeMap::new(), accounts: BTreeMap::new() }
    }

    /// Reads everything that is new; whether anything was.
    pub fn look(&mut self) -> bool {
        let mut news = false;
        for partition in 0..self.log.partitions() {
            for entry in self.log.look(Topic::Events, partition) {
                news = true;
                let opened = self.log.keyring().open_message::<Event>(Topic::Events, &entry.record);
                match (opened, Chained::read(&entry.record)) {
                    (Ok((_, event)), Ok(place)) => self.event(partition, &event, &place),
                    _ => self.diary.violation(format!("an event of partition {partition} cannot be read")),
                }
            }
        }
        news
    }

    fn event(&mut self, partition: u32, event: &Event, place: &Chained) {
        let (last, hash) = self.places.get(&partition).copied().unwrap_or((0, Chained::GENESIS));
        if place.sequence <= last {
            self.diary.sometimes("an event stands in the log twice");
            if self.reading == Reading::Trusting {
                self.believe(event);
            }
            return;
        }
        if place.sequence != last.saturating_add(1) || place.previous != hash {
            self.diary
                .violation(format!("partition {partition} goes from event {last} to {} on another chain", place.sequence));
        }
        self.places.insert(partition, (place.sequence, place.hash));
        let before = self.accounts.insert(event.account, event.sequence).unwrap_or(0);
        if event.sequence != before.saturating_add(1) {
            self.diary.violation(format!("account {} goes from event {before} to {}", event.account, event.sequence));
        }
        self.believe(event);
    }

    fn believe(&self, event: &Event) {
        let heard = self.facts.lock().hear(event);
        if let Err(contradiction) = heard {
            self.diary.violation(contradiction);
        }
    }
}

impl Actor for EventOracle {
    fn name(&self) -> &str {
        "reader of events"
    }

    fn step(&mut self) -> Step {
        self.look();
        Step::Idle(LOOK)
    }
}
