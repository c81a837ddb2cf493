//! One side of a comparison: the product or the floor, running, and loaded level by level.
//!
//! Both sides run on the same log at the same time, each in topics of its own, and only one of them is loaded: the other polls an empty
//! inbox. So a comparison has no start-up in it, and what disturbs the machine disturbs both.

use std::sync::mpsc::Receiver;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use crate::load::{Begin, Level, Plan, run};
use crate::rig::{Hand, Rig};

/// Numbers of one level.
const LEVEL_NUMBERS: u64 = 100_000_000;

/// See the module.
pub struct Side {
    /// `sagas` or `floor`.
    pub name: &'static str,
    /// Whether questions leave ahead of the commit.
    pub ahead: bool,
    /// Starts sagas.
    pub begin: Begin,
    /// Hears of their ends.
    pub ends: Vec<Receiver<(u64, Instant)>>,
    /// Inputs, where they are counted, and transactions so far.
    pub counted: Box<dyn Fn() -> (u64, u64)>,
    /// The first number that was never given to a saga.
    pub next: u64,
    /// What runs until the side is dropped.
    pub _hands: Vec<Hand>,
}

impl Side {
    /// Runs one level.
    ///
    /// # Errors
    /// The log does not take a start, or a saga does not end.
    pub fn level(&mut self, rig: &Rig, plan: Plan) -> Result<(Level, Value)> {
        let before = (rig.processor_ms(), (self.counted)());
        let level = run(plan, self.next, &self.begin, &mut self.ends)?;
        let after = (rig.processor_ms(), (self.counted)());
        self.next = self.next.saturating_add(LEVEL_NUMBERS);
        let own = after.0.0.saturating_sub(before.0.0);
        let figure = json!({
            "bench": self.name,
            "log": rig.name,
            "partitions": rig.partitions,
            "in_flight": plan.in_flight,
            "sagas": level.sagas,
            "measured_ms": u64::try_from(level.took.as_millis()).unwrap_or(u64::MAX),
            "per_second": level.per_second(),
            "p50_us": level.percentile(50),
            "p99_us": level.percentile(99),
            "ahead": self.ahead,
            "inputs": after.1.0.saturating_sub(before.1.0),
            "transactions": after.1.1.saturating_sub(before.1.1),
            // Everything in this process: the side with its service, the clients of the log, and the load.
            "processor_ms": own,
            "load_processor_ms": level.load_ms,
            "broker_processor_ms": rig.broker.map(|_| after.0.1.saturating_sub(before.0.1)),
        });
        Ok((level, figure))
    }
}
