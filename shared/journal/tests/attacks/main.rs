//! Late, lost and repeated requests of transactions on real Kafka, made by a proxy, against the bracket as production runs it; and
//! the same with defences off, where something must be lost.

#![expect(clippy::print_stdout, reason = "what an attack met is what a reader of the test's output wants")]
#![expect(clippy::unwrap_used, reason = "a test ends where something fails that cannot")]

mod any;
mod controls;
#[path = "../counting/mod.rs"]
#[allow(dead_code, reason = "each test program uses its own part")]
mod counting;
mod lane;
mod late;

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use custos_parts::{Observation, require};

use lane::Stage;

type Check = fn(&Stage);

/// All on one broker, one after the other, so that they do not disturb each other's time.
const ATTACKS: &[(&str, Check)] = &[
    (
        "a late end at every point of the next transaction loses nothing",
        late::a_late_end_at_every_point_of_the_next_transaction_loses_nothing,
    ),
    ("any request cut, lost, delayed or late loses nothing", any::any_request_cut_lost_delayed_or_late_loses_nothing),
    (
        "two late requests defeat the bracket, and the renewal stops them",
        controls::two_late_requests_defeat_the_bracket_and_the_renewal_stops_them,
    ),
    ("a step of the bracket is missed when it is off", controls::a_step_of_the_bracket_is_missed_when_it_is_off),
];

#[test]
fn attacks_on_transactions_find_nothing_but_what_is_undefended() {
    let partitions = late::partitions() + any::LANES + controls::partitions();
    let Some(stage) = require("kafka behind a proxy", Stage::open(partitions)) else { return };
    let mut broken = Vec::new();
    for (name, attack) in ATTACKS {
        let begun = Instant::now();
        let held = catch_unwind(AssertUnwindSafe(|| attack(&stage))).is_ok();
        println!("{}: {name}, in {:?}", if held { "holds" } else { "BROKEN" }, begun.elapsed());
        broken.extend((!held).then_some(*name));
    }
    assert!(broken.is_empty(), "broken, see above: {broken:?}");
}

/// Whether many more attacks are wanted.
fn long() -> bool {
    std::env::var("CUSTOS_TEST_LONG").is_ok_and(|value| value == "1")
}

/// Counts in one line.
fn tally<K: Debug>(counts: impl Iterator<Item = (K, impl Debug)>) -> String {
    let shown: Vec<String> = counts.map(|(what, count)| format!("{what:?} {count:?}")).collect();
    if shown.is_empty() { "never".to_owned() } else { shown.join(", ") }
}

/// What a proxy saw, in one line.
fn story(seen: &[Observation]) -> String {
    seen.iter().map(|seen| format!("{:?} {:?}", seen.api, seen.fate)).collect::<Vec<_>>().join(", ")
}
