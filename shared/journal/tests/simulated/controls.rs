//! Each defence is needed: without it, something is broken within a stated number of seeds.
//!
//! The bracket and the renewal after a slow end are two lines against the same thing, a late end of a transaction. So what the steps of
//! the bracket are for shows only while the renewal is off, and what the renewal is for needs two late requests (`points`).

use std::time::Duration;

use custos_journal::{Defence, Faults, Rate, SimulatedSettings};

use crate::run::{Plan, Until, sweep};

/// Late ends and late requests, and nothing else.
const LATE: Faults = Faults {
    end_late: Rate(5_000),
    request_late: Rate(1_000),
    arrival: Rate(1_000),
    marker_late: Rate(2_000),
    ..Faults::NONE
};

/// What is switched off, in how many seeds that must show, and how.
type Control = (&'static str, fn(&mut Plan), u64, &'static [&'static str]);

const CONTROLS: &[Control] = &[
    (
        "without the header's acknowledgement a tear leaves no trace",
        |plan| without(plan, Defence::HeaderAcknowledged),
        150,
        &["a tear without a trace"],
    ),
    (
        "without the outputs' acknowledgement a manifest stands for outputs that are lost",
        |plan| without(plan, Defence::BodyAcknowledged),
        300,
        &["is lost", "outputs for"],
    ),
    ("without the repair an input is counted twice", |plan| plan.repair = false, 150, &["the state"]),
    (
        "without the brokers' verification nothing holds",
        |plan| plan.settings.verification = false,
        60,
        &["the shard stands still", "the state", "is lost", "is not there"],
    ),
    (
        "without waiting for what is undecided a shard is restored from the past",
        |plan| {
            plan.settings.verification = false;
            // Whoever asks where the log ends before its end is believed waits for the same.
            without(plan, Defence::StateDecided);
            without(plan, Defence::EndConfirmed);
        },
        150,
        &["the manifests are no chain", "two owners committed"],
    ),
    (
        "a shard restored from what is not committed counts what never was",
        |plan| {
            plan.settings.restore_committed = false;
            plan.settings.defences = custos_journal::Defences::ALL;
        },
        100,
        &["is lost", "the manifests are no chain", "outputs for"],
    ),
    (
        "compacted too early, the state of the last manifest is gone",
        |plan| {
            plan.settings.compaction_lag = Duration::ZERO;
            plan.settings.faults.compaction = Rate(300);
        },
        100,
        &["the state"],
    ),
    (
        "what the brokers have forgotten to end holds a shard up for ever",
        |plan| {
            plan.settings.faults.marker_forgotten = Rate(300);
            without(plan, Defence::ForgottenEnded);
        },
        30,
        &["the shard stands still"],
    ),
    (
        "the end that a new leader knows of, taken for the log's, restores a shard from the past",
        |plan| {
            plan.settings.faults.leader_behind = Rate(500);
            without(plan, Defence::EndConfirmed);
        },
        50,
        &["the manifests are no chain", "two owners committed", "the state"],
    ),
];

fn without(plan: &mut Plan, defence: Defence) {
    plan.settings.defences = plan.settings.defences.without(defence);
}

/// Late requests, and no renewal: the bracket stands alone.
fn exposed(seed: u64) -> Plan {
    let mut plan = hardened(seed);
    without(&mut plan, Defence::RenewalAfterSlowEnd);
    plan
}

/// Late requests against all defences.
fn hardened(seed: u64) -> Plan {
    let compaction_lag = Duration::from_secs(300);
    let settings = SimulatedSettings { faults: LATE, compaction_lag, ..SimulatedSettings::new(seed) };
    Plan { settings, repair: true }
}

#[test]
fn each_defence_is_missed_when_it_is_off() {
    for (name, change, within, words) in CONTROLS {
        let plan = |seed| {
            let mut plan = exposed(seed);
            change(&mut plan);
            plan
        };
        // One kind of damage may hide behind another: the first that speaks of this one counts.
        let (mut from, mut found) = (0, None);
        while found.is_none() && from < *within {
            let to = (from + 30).min(*within);
            let (_, violations) = sweep(from..to, plan, Until::TheEnd);
            found = violations.into_iter().find(|(_, what)| words.iter().any(|word| what.contains(word)));
            from = to;
        }
        let Some((seed, what)) = found else { panic!("{name}: nothing was found within {within} seeds") };
        println!("{name}: seed {seed} of at most {within}: {}", what.chars().take(120).collect::<String>());
    }
}

#[test]
fn the_bracket_alone_turns_late_ends_into_tears_that_are_repaired() {
    let (report, violations) = sweep(0..200, exposed, Until::Found);
    println!("the bracket alone: {report}");
    assert_eq!(violations, []);
    assert!(report.counts.stray_ends > 100 && report.tears > 50 && report.repairs > 30, "{report}");
}

#[test]
fn what_the_brokers_have_forgotten_to_end_is_ended_and_repaired() {
    for (name, renewal) in [("alone", false), ("hardened", true)] {
        let forgetful = |seed| {
            let mut plan = if renewal { hardened(seed) } else { exposed(seed) };
            plan.settings.faults.marker_forgotten = Rate(1_000);
            plan
        };
        let (report, violations) = sweep(0..200, forgetful, Until::Found);
        println!("forgetful brokers, {name}: {} markers forgotten; {report}", report.counts.markers_forgotten);
        assert_eq!(violations, [], "{name}");
        assert!(report.counts.markers_forgotten > 100, "{report}");
    }
}

#[test]
fn an_end_that_is_none_is_not_believed() {
    let moved = |seed| {
        let mut plan = hardened(seed);
        plan.settings.faults = Faults { leader_behind: Rate(1_000), kill: Rate(100), ..LATE };
        plan
    };
    let (report, violations) = sweep(0..200, moved, Until::Found);
    println!("leaders that know of less: {report}");
    assert_eq!(violations, []);
    assert!(report.takeovers > 500 && report.counts.leaders_behind > 100, "{report}");
}

#[test]
fn with_the_renewal_no_late_end_hits_anything() {
    let (report, violations) = sweep(0..200, hardened, Until::Found);
    println!("the bracket with the renewal: {report}");
    assert_eq!(violations, []);
    assert!(report.counts.late_arrivals > 1_000, "{report}");
    assert_eq!((report.counts.stray_ends, report.tears, report.repairs), (0, 0, 0), "{report}");
}
