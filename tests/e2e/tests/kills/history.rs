//! Where every operation stood at any moment, by what had been committed until then.
//!
//! Read from the event log after everything is over. An event's place in time is the log's own time of its record: it was written
//! in the transaction that committed it, a few milliseconds before the commit. What a transaction wrote that a kill aborted is
//! not there. When a payment's bytes left is taken from the node's own log of requests.

use std::collections::BTreeMap;

use alloy::primitives::TxHash;
use anyhow::Context;
use custos_e2e::{World, read_all};
use custos_journal::Entry;
use custos_messages::events::{Event, EventBody, Request};
use custos_messages::{Message, Topic};

/// What happened to one operation, in order.
#[derive(Default)]
struct Life {
    kind: Option<Kind>,
    changes: Vec<(u64, Change)>,
    signed: Vec<TxHash>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Withdrawal,
    Deposit,
    Transfer,
    Address,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Step(&'static str),
    Taken,
    Signed,
    Seen,
    Unseen,
    Ended,
}

/// The places where an operation can stand between two transactions, in order, as `kind` and `step`.
pub const PLACES: [(&str, &str); 14] = [
    ("withdrawal", "screen"),
    ("withdrawal", "approve"),
    ("withdrawal", "screen-again"),
    ("withdrawal", "pay: handed over"),
    ("withdrawal", "pay: taken over"),
    ("withdrawal", "await-finality: signed"),
    ("withdrawal", "await-finality: sent"),
    ("withdrawal", "await-finality: in a block"),
    ("deposit", "screen"),
    ("deposit", "await-finality"),
    ("transfer", "screen"),
    ("transfer", "credit-receiver"),
    ("issue-address", "allocate"),
    ("nothing", "is under way"),
];

/// The history of all operations.
pub struct History {
    lives: Vec<Life>,
    sent: BTreeMap<TxHash, u64>,
}

impl History {
    /// Reads it. On the embedded journal everything must be stopped before.
    pub async fn read(world: &World) -> anyhow::Result<Self> {
        let mut lives: BTreeMap<String, Life> = BTreeMap::new();
        for entry in read_all(world, Topic::Events).await?.into_iter().flatten() {
            let event = decode(&entry)?;
            let (Some(saga), Some(at)) = (event.saga, entry.at) else { continue };
            let life = lives.entry(saga.to_string()).or_default();
            match event.body {
                EventBody::Started(request) => life.kind = Some(Kind::of(&request)),
                EventBody::PaymentSigned { tx, .. } => {
                    life.signed.push(TxHash::from(tx.0));
                    life.changes.push((at.0, Change::Signed));
                }
                body => life.changes.extend(change(&body).map(|change| (at.0, change))),
            }
        }
        Ok(Self { lives: lives.into_values().collect(), sent: world.chain.first_sends(world.hot)? })
    }

    /// How many operations stood where, by index of [`PLACES`], at this moment in milliseconds since 1970.
    pub fn at(&self, moment_ms: u64) -> BTreeMap<usize, u32> {
        let mut standing = BTreeMap::new();
        for life in &self.lives {
            if let Some(place) = life.at(moment_ms, &self.sent).and_then(place) {
                *standing.entry(place).or_default() += 1;
            }
        }
        if standing.is_empty() {
            standing.insert(PLACES.len() - 1, 1);
        }
        standing
    }

    /// How many operations there were, by kind.
    pub fn count(&self, kind: &str) -> usize {
        self.lives.iter().filter(|life| life.kind.is_some_and(|of| of.name() == kind)).count()
    }
}

fn place(stands: (&str, &str)) -> Option<usize> {
    PLACES.iter().position(|place| *place == stands)
}

impl Kind {
    const fn of(request: &Request) -> Self {
        match request {
            Request::Address { .. } => Self::Address,
            Request::Withdrawal { .. } => Self::Withdrawal,
            Request::Transfer { .. } => Self::Transfer,
            Request::Deposit(_) => Self::Deposit,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Withdrawal => "withdrawal",
            Self::Deposit => "deposit",
            Self::Transfer => "transfer",
            Self::Address => "issue-address",
        }
    }
}

impl Life {
    /// Where it stood: none before it began and after it ended.
    fn at(&self, moment_ms: u64, sent: &BTreeMap<TxHash, u64>) -> Option<(&'static str, &'static str)> {
        let (mut step, mut seen, mut taken) = (None, false, false);
        for (_, change) in self.changes.iter().take_while(|(at, _)| *at <= moment_ms) {
            match change {
                Change::Step(name) => step = Some(*name),
                Change::Taken => taken = true,
                Change::Signed => {}
                Change::Seen => seen = true,
                Change::Unseen => seen = false,
                Change::Ended => return None,
            }
        }
        let kind = self.kind?;
        let left = self.signed.iter().any(|tx| sent.get(tx).is_some_and(|at| *at <= moment_ms));
        let stands = match (kind, step?) {
            (Kind::Withdrawal, "pay") if taken => "pay: taken over",
            (Kind::Withdrawal, "pay") => "pay: handed over",
            (Kind::Withdrawal, "await-finality") if seen => "await-finality: in a block",
            (Kind::Withdrawal, "await-finality") if left => "await-finality: sent",
            (Kind::Withdrawal, "await-finality") => "await-finality: signed",
            (_, step) => step,
        };
        Some((kind.name(), stands))
    }
}

fn change(body: &EventBody) -> Option<Change> {
    match body {
        // The last step that was reached; local steps are over in the transaction that began them.
        EventBody::Moved { step, .. } => {
            PLACES.iter().filter_map(|(_, place)| place.split(':').next()).find(|name| name == step).map(Change::Step)
        }
        EventBody::PaymentTaken { .. } => Some(Change::Taken),
        EventBody::PaymentSeen(_) => Some(Change::Seen),
        EventBody::PaymentUnseen(_) => Some(Change::Unseen),
        EventBody::Ended(_) => Some(Change::Ended),
        _ => None,
    }
}

fn decode(entry: &Entry) -> anyhow::Result<Event> {
    let kind = entry.record.headers.get("ce_type").context("an event without a type")?;
    let value = entry.record.value.as_deref().context("an event of nothing")?;
    Ok(Event::decode(std::str::from_utf8(kind)?, value)?)
}
