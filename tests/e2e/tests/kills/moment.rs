//! Moments at which a process may be killed.

use std::time::Duration;

use custos_e2e::{Chance, Part, World};
use serde_json::Value;

/// The guard has its record on the disk, and nobody has heard of the signature.
pub const GUARD_RECORDED: &str = "guard-recorded";
/// A shard's transaction is begun and not committed.
pub const OPEN_TRANSACTION: &str = "open-transaction";
/// The guard has granted the signature, and has nothing on the disk.
const BEFORE_SIGN: &str = "before-sign";
/// Steps of accounts' sagas: a process stands still inside the transaction that takes one, or right after its commit.
const STEPS: [&str; 13] = [
    "hold-funds",
    "screen",
    "approve",
    "screen-again",
    "pay",
    "await-finality",
    "settle",
    "record",
    "credit",
    "tell",
    "allocate",
    "credit-receiver",
    // The last one once more: it is what the books rest on.
    "settle",
];
/// Steps at which operations stand between two transactions, and can be waited for.
const STANDING: [&str; 7] = ["screen", "approve", "screen-again", "pay", "await-finality", "allocate", "credit-receiver"];
/// Parts that have points, as often as they are drawn where one process holds them all.
const POINTED: [Part; 6] = [Part::Accounts, Part::Accounts, Part::Accounts, Part::Wallet, Part::Treasury, Part::Chain];
const ANSWER: Duration = Duration::from_millis(400);

/// When a process is killed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// At any moment.
    Random,
    /// As soon as an operation was seen at this step.
    Step(&'static str),
    /// Right after payments came into a block.
    Mined,
    /// As soon as a payment was seen in a block that is not final.
    Seen,
    /// While blocks with payments become final.
    Final,
    /// While it stands still at a point of its own.
    Point(String),
}

/// A point of the product at which a process stands still.
#[derive(Clone, Debug)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// Which time it comes there: from 1.
    pub time: u64,
}

impl Moment {
    /// Moments that must not be missing, whatever is drawn.
    pub fn wanted() -> Vec<Self> {
        vec![Self::Step("approve"), Self::Final, Self::Mined, Self::Seen]
    }

    /// Four of ten are wholly random.
    pub fn draw(chance: &mut Chance) -> Self {
        match chance.below(20) {
            0..8 => Self::Random,
            8..10 => Self::Mined,
            10..12 => Self::Seen,
            12..14 => Self::Final,
            _ => chance.of(&STANDING).map_or(Self::Random, Self::Step),
        }
    }

    /// What it is called in the tables.
    pub fn name(&self) -> String {
        match self {
            Self::Random => "at a random moment".to_owned(),
            Self::Step(step) => format!("an operation seen at {step}"),
            Self::Mined => "payments came into a block".to_owned(),
            Self::Seen => "a payment seen in a block, not final".to_owned(),
            Self::Final => "blocks with payments become final".to_owned(),
            Self::Point(name) => match name.split_once(':') {
                Some((_, step)) => format!("inside the transaction of {step}"),
                None if name == OPEN_TRANSACTION => "inside an open transaction".to_owned(),
                None if name == GUARD_RECORDED => "between guard record and reply".to_owned(),
                None if name == BEFORE_SIGN => "before the guard's record".to_owned(),
                None => format!("right after the commit of {name}"),
            },
        }
    }
}

impl Point {
    /// Where a process with these parts shall stand still, if anywhere.
    pub fn draw(parts: &[Part], chance: &mut Chance) -> Option<Self> {
        let pointed: Vec<Part> = POINTED.into_iter().filter(|part| parts.contains(part)).collect();
        let part = chance.of(&pointed).filter(|_| chance.percent(75))?;
        let open = |chance: &mut Chance| (OPEN_TRANSACTION.to_owned(), 1 + chance.below(12));
        let (name, time) = match part {
            Part::Wallet if chance.percent(25) => (BEFORE_SIGN.to_owned(), 1 + chance.below(2)),
            Part::Wallet => (GUARD_RECORDED.to_owned(), 1 + chance.below(2)),
            Part::Accounts if chance.percent(80) => {
                let step = chance.of(&STEPS)?;
                let inside = chance.percent(75);
                (if inside { format!("{OPEN_TRANSACTION}:{step}") } else { step.to_owned() }, 1 + chance.below(2))
            }
            _ => open(chance),
        };
        Some(Self { name, time })
    }
}

/// Whether the moment has come, as far as the door can tell.
pub async fn has_come(world: &World, moment: &Moment) -> bool {
    match moment {
        Moment::Step(step) => !at(world, "", step).await.is_empty(),
        Moment::Mined | Moment::Seen | Moment::Final => !at(world, "&kind=withdrawal", "await-finality").await.is_empty(),
        Moment::Random | Moment::Point(_) => false,
    }
}

/// Whether a payment is in a block and not final, as far as the door can tell.
pub async fn seen(world: &World) -> bool {
    for id in at(world, "&kind=withdrawal", "await-finality").await {
        let withdrawal = tokio::time::timeout(ANSWER, world.bank.withdrawal(&id)).await;
        if let Ok(Ok(withdrawal)) = withdrawal
            && withdrawal.pointer("/payment/status").and_then(Value::as_str) == Some("seen")
        {
            return true;
        }
    }
    false
}

/// The operations at this step; none where the door does not answer.
async fn at(world: &World, which: &str, step: &str) -> Vec<String> {
    let path = format!("/operations?status=running&limit=200{which}");
    let Ok(Ok(page)) = tokio::time::timeout(ANSWER, world.bank.get(&path)).await else { return Vec::new() };
    let Some(items) = page.get("items").and_then(Value::as_array) else { return Vec::new() };
    let stands = |operation: &&Value| operation.pointer("/metadata/step").and_then(Value::as_str) == Some(step);
    let ids = items.iter().filter(stands).filter_map(|operation| operation.get("id")?.as_str());
    ids.map(str::to_owned).collect()
}
