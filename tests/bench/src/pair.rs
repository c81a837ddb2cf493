//! The product against the floor, alternately in one run: round by round and level by level, each level on both sides, and who goes
//! first changes with the round.
//!
//! What is quoted are medians over the rounds, and of the ratios the medians of each round's own ratio: what disturbs one round
//! then disturbs no other.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::load::{Level, Plan};
use crate::rig::Rig;
use crate::side::Side;
use crate::{floor, sagas};

/// How to compare.
pub struct Course {
    /// Rounds.
    pub rounds: u64,
    /// What each round runs on both sides.
    pub plans: Vec<Plan>,
    /// Whether questions leave ahead of the commit, on both sides.
    pub ahead: bool,
}

/// What one level of one round showed: the product, and the floor.
struct Pair {
    product: Level,
    floor: Level,
}

/// Compares, hands each figure to `tell`, and writes the closing lines to `close`.
///
/// # Errors
/// The log fails, or a saga does not end.
pub fn measure(
    rig: &Rig,
    course: &Course,
    mut tell: impl FnMut(&Value) -> Result<()>,
    close: &mut dyn std::io::Write,
) -> Result<()> {
    let runtime = sagas::runtime()?;
    let mut product = sagas::side(rig, runtime.handle(), course.ahead, 0)?;
    let mut floor = floor::side(rig, course.ahead, 0)?;
    let mut pairs: BTreeMap<u64, Vec<Pair>> = BTreeMap::new();
    let before = rig.processor_ms();
    let mut load_ms = 0_u64;
    for round in 0..course.rounds {
        for plan in &course.plans {
            let mut level = |side: &mut Side| -> Result<Level> {
                let (level, mut figure) = side.level(rig, *plan)?;
                figure.as_object_mut().context("a figure is an object")?.insert("round".to_owned(), json!(round));
                tell(&figure)?;
                Ok(level)
            };
            let pair = if round.is_multiple_of(2) {
                let product = level(&mut product)?;
                Pair { product, floor: level(&mut floor)? }
            } else {
                let floor = level(&mut floor)?;
                Pair { product: level(&mut product)?, floor }
            };
            load_ms = load_ms.saturating_add(pair.product.load_ms).saturating_add(pair.floor.load_ms);
            pairs.entry(plan.in_flight).or_default().push(pair);
        }
    }
    let after = rig.processor_ms();
    for (in_flight, pairs) in &pairs {
        writeln!(close, "{}", row(*in_flight, pairs))?;
    }
    let own = after.0.saturating_sub(before.0);
    let broker = rig.broker.map_or("not ours".to_owned(), |_| format!("{} ms", after.1.saturating_sub(before.1)));
    writeln!(
        close,
        "processor time of the run: broker {broker}, load {load_ms} ms, both sides with service and clients {} ms",
        own.saturating_sub(load_ms)
    )?;
    writeln!(close, "{}", verdict(&pairs))?;
    Ok(())
}

fn row(in_flight: u64, pairs: &[Pair]) -> String {
    let of =
        |pick: fn(&Level) -> u64, side: fn(&Pair) -> &Level| median(pairs.iter().map(|pair| pick(side(pair))).collect());
    let product: fn(&Pair) -> &Level = |pair| &pair.product;
    let floor: fn(&Pair) -> &Level = |pair| &pair.floor;
    format!(
        "{in_flight:>5} in flight: product {}/s p50 {} us p99 {} us; floor {}/s p50 {} us p99 {} us; per second {}, p50 {} of the \
         floor's (each round: {})",
        of(Level::per_second, product),
        of(|level| level.percentile(50), product),
        of(|level| level.percentile(99), product),
        of(Level::per_second, floor),
        of(|level| level.percentile(50), floor),
        of(|level| level.percentile(99), floor),
        shown(ratio(pairs, Level::per_second)),
        shown(ratio(pairs, |level| level.percentile(50))),
        pairs.iter().map(|pair| shown(thousandths(pair, Level::per_second))).collect::<Vec<_>>().join(" "),
    )
}

fn verdict(pairs: &BTreeMap<u64, Vec<Pair>>) -> String {
    let at = |in_flight: u64, pick: fn(&Level) -> u64| {
        pairs.get(&in_flight).map_or("not measured".to_owned(), |pairs| shown(ratio(pairs, pick)))
    };
    let most = pairs.last_key_value();
    let speed = |side: fn(&Pair) -> &Level| {
        most.map_or(0, |(_, pairs)| median(pairs.iter().map(|pair| side(pair).per_second()).collect()))
    };
    let p50: fn(&Level) -> u64 = |level| level.percentile(50);
    format!(
        "floor {}/s, product {}/s, ratio {}; p50 ratio at 1: {}, at 16: {}",
        speed(|pair| &pair.floor),
        speed(|pair| &pair.product),
        most.map_or("not measured".to_owned(), |(_, pairs)| shown(ratio(pairs, Level::per_second))),
        at(1, p50),
        at(16, p50),
    )
}

/// The median of each round's own ratio, product to floor, in thousandths.
fn ratio(pairs: &[Pair], pick: fn(&Level) -> u64) -> u64 {
    median(pairs.iter().map(|pair| thousandths(pair, pick)).collect())
}

fn thousandths(pair: &Pair, pick: fn(&Level) -> u64) -> u64 {
    pick(&pair.product).saturating_mul(1_000) / pick(&pair.floor).max(1)
}

fn shown(thousandths: u64) -> String {
    format!("{}.{:02}", thousandths / 1_000, thousandths % 1_000 / 10)
}

/// The middle one; of an even number the lower of the two.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}
