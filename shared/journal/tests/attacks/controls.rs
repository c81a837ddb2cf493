//! The outputs' acknowledgement is missed on real Kafka when it is off; and what defeats the bracket alone is stopped by the renewal.

use std::time::Duration;

use custos_journal::{Defence, Defences};
use custos_parts::{Api, Deed, When};

use crate::counting::Owner;
use crate::lane::{Lane, Stage};
use crate::late::{Attack, Told, attack};

/// An attack with a number, which says where it hits.
type Way = fn(&mut Lane<'_>, u64) -> Result<(), String>;

/// What is switched off besides the renewal, how it is attacked, within how many attacks that must show, and how.
type Control = (&'static str, &'static [Defence], Way, u64, &'static [&'static str]);

const CONTROLS: &[Control] = &[(
    "without the outputs' acknowledgement a manifest stands for outputs that are lost",
    &[Defence::BodyAcknowledged],
    at_every_point,
    72,
    &["is lost", "outputs for", "its manifest is not there"],
)];

/// After how many attacks a lane is judged.
const ATTACKS_AT_ONCE: u64 = 4;
/// Lanes that a control may use up: one that is broken is left, because one kind of damage may hide behind another.
const LANES: u32 = 6;
/// How often two late requests are tried, without and with the renewal.
const ATTEMPTS: u32 = 3;

fn exposed(off: &[Defence]) -> Defences {
    off.iter().fold(Defences::ALL.without(Defence::RenewalAfterSlowEnd), |held, defence| held.without(*defence))
}

/// What a control has found.
#[derive(Default)]
struct Found {
    /// After how many attacks, and what.
    wanted: Option<(u64, String)>,
    /// What else was broken before.
    others: Vec<String>,
}

/// Attacks until something is broken that `words` speak of.
fn hunt(stage: &Stage, (_, off, way, within, words): Control) -> Found {
    let mut found = Found::default();
    let mut number = 0;
    for _ in 0..LANES {
        let mut lane = Lane::new(stage, exposed(off));
        let mut broken = None;
        while broken.is_none() && number < within {
            let attacked = (number..number + ATTACKS_AT_ONCE).try_for_each(|number| way(&mut lane, number));
            number += ATTACKS_AT_ONCE;
            broken = attacked.and_then(|()| lane.conclude().map(drop)).err();
        }
        let Some(violation) = broken else { return found };
        if words.iter().any(|word| violation.contains(word)) {
            found.wanted = Some((number, violation));
            return found;
        }
        found.others.push(violation);
    }
    found
}

fn at_every_point(lane: &mut Lane<'_>, number: u64) -> Result<(), String> {
    attack(lane, Attack::numbered(number)).map(drop)
}

/// Partitions that the checks below use.
pub fn partitions() -> u32 {
    LANES * u32::try_from(CONTROLS.len()).unwrap() + 2 * ATTEMPTS
}

pub fn a_step_of_the_bracket_is_missed_when_it_is_off(stage: &Stage) {
    for control in CONTROLS {
        let (name, _, _, within, _) = control;
        let Found { wanted, others } = hunt(stage, *control);
        let Some((number, what)) = wanted else { panic!("{name}: nothing within {within} attacks; besides: {others:#?}") };
        println!("{name}: within {number} of at most {within} attacks: {}", what.chars().take(160).collect::<String>());
    }
}

/// A late abort takes a whole acknowledged bracket away, and a late repetition of its `AddPartitionsToTxn` makes the coordinator take
/// the commit that follows for that of an open transaction.
fn two_late_requests(lane: &mut Lane<'_>) -> Result<Told, String> {
    lane.put(2);
    lane.owner()?;
    let from = lane.look().len();
    lane.rule(When::Nth(Api::EndTxn, 0), Deed::Strand);
    if lane.act(Owner::dawdle)?.is_none() {
        lane.await_passed(Api::Produce, from);
        lane.act(Owner::give_up)?;
    }
    // A slow abort costs the shard, when that is a reason.
    lane.owner()?;
    // Released behind the abort that was stranded first.
    lane.rule(When::Nth(Api::AddPartitionsToTxn, 0), Deed::Strand);
    lane.rule(When::Nth(Api::EndTxn, 0), Deed::ReleaseFirst(Duration::from_millis(50)));
    lane.transact(9).map(|error| error.map_or(Told::Committed, |_| Told::Failed))
}

pub fn two_late_requests_defeat_the_bracket_and_the_renewal_stops_them(stage: &Stage) {
    let mut defeated = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut lane = Lane::new(stage, exposed(&[]));
        let told = two_late_requests(&mut lane).unwrap();
        let outcome = lane.conclude();
        println!("without the renewal: told {told:?}, {:?}, {}", outcome.as_ref().err(), crate::story(lane.look()));
        defeated.extend(outcome.err().filter(|_| told == Told::Committed));
    }
    let lost = defeated.iter().filter(|what| what.contains("its manifest is not there")).count();
    assert!(lost > 0, "told that it is committed, and it is not: was to be shown within {ATTEMPTS} attempts: {defeated:?}");
    for _ in 0..ATTEMPTS {
        let mut lane = Lane::new(stage, Defences::ALL);
        two_late_requests(&mut lane).unwrap();
        lane.conclude().unwrap();
    }
    println!("without the renewal {lost} of {ATTEMPTS} were told what is not so, with it none of {ATTEMPTS}");
}
