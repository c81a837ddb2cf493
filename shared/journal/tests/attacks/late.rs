//! A late end of a transaction at every point of the next one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use custos_journal::{Defence, Defences};
use custos_parts::{Api, Deed, Fate, When};

use crate::counting::judge::Report;
use crate::lane::{Lane, Stage};
use crate::{long, tally};

/// More requests than a transaction has that counts a few inputs: the last points lie behind its end.
pub const POINTS: u64 = 12;
/// Lanes at a time.
const LANES: u32 = 4;
/// A lane is given up for a fresh one after so many attacks: its takeovers read all that it has ever written.
const ATTACKS_OF_A_LANE: u64 = 96;

/// What the late request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Commit,
    Abort,
}

/// One attack: how the first transaction ends, before which request of the next one that end arrives, and how long later that request goes on.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    pub verdict: Verdict,
    pub point: u64,
    pub pause: Duration,
}

impl Attack {
    /// The attacks in turn: both verdicts at every point, with and without time for the markers.
    pub const fn numbered(number: u64) -> Self {
        let verdict = if number.is_multiple_of(2) { Verdict::Abort } else { Verdict::Commit };
        let point = (number / 2) % POINTS;
        let pause = Duration::from_millis(if (number / 2 / POINTS).is_multiple_of(2) { 15 } else { 0 });
        Self { verdict, point, pause }
    }
}

/// How a transaction that was hit ended for its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    Committed,
    Failed,
}

/// What attacks came to: verdict, point, and what the owner of the second transaction was told.
pub type Outcomes = BTreeMap<(Verdict, u64, Told), u64>;

/// The first transaction ends late, and a second one is under way when that end arrives.
pub fn attack(lane: &mut Lane<'_>, attack: Attack) -> Result<Told, String> {
    lane.put(2);
    lane.owner()?;
    let from = lane.look().len();
    lane.rule(When::Nth(Api::EndTxn, 0), Deed::Strand);
    match attack.verdict {
        Verdict::Commit => drop(lane.transact(1)?),
        Verdict::Abort => {
            if lane.act(crate::counting::Owner::dawdle)?.is_none() {
                lane.await_passed(Api::Produce, from);
                lane.act(crate::counting::Owner::give_up)?;
            }
        }
    }
    // A slow abort costs the shard, when that is a reason.
    lane.owner()?;
    lane.put(3);
    lane.rule(When::Point(attack.point), Deed::ReleaseFirst(attack.pause));
    let told = lane.transact(9)?.map_or(Told::Committed, |_| Told::Failed);
    // Behind the end, if it has not arrived yet.
    lane.release();
    lane.stage.proxy.forget(&lane.name);
    lane.drain()?;
    Ok(told)
}

/// What a number of attacks on one lane met.
#[derive(Default)]
pub struct Sum {
    pub attacks: u64,
    pub report: Report,
    pub outcomes: Outcomes,
    /// Late ends by the code with which the broker answered.
    pub answers: BTreeMap<Option<i16>, u64>,
}

impl Sum {
    pub fn with(mut self, other: &Self) -> Self {
        self.attacks += other.attacks;
        self.report = self.report.with(&other.report);
        for (outcome, count) in &other.outcomes {
            *self.outcomes.entry(*outcome).or_default() += count;
        }
        for (code, count) in &other.answers {
            *self.answers.entry(*code).or_default() += count;
        }
        self
    }

    pub fn late(&self) -> u64 {
        self.answers.values().sum()
    }
}

/// Attacks one lane with these attacks, and judges it.
fn series(stage: &Stage, defences: Defences, numbers: std::ops::Range<u64>) -> Result<Sum, String> {
    let mut lane = Lane::new(stage, defences);
    let mut sum = Sum::default();
    for number in numbers {
        let what = Attack::numbered(number);
        let told = attack(&mut lane, what).map_err(|problem| format!("attack {number}, {what:?}: {problem}"))?;
        *sum.outcomes.entry((what.verdict, what.point, told)).or_default() += 1;
        sum.attacks += 1;
    }
    sum.report = lane.conclude()?;
    for seen in lane.look() {
        if let Fate::Arrived { error } = seen.fate {
            *sum.answers.entry(error).or_default() += 1;
        }
    }
    Ok(sum)
}

/// So many attacks, on several lanes at a time.
fn campaign(stage: &Stage, defences: Defences, attacks: u64) -> Result<Sum, String> {
    let each = attacks.div_ceil(u64::from(LANES));
    let work = |lane: u32| -> Result<Sum, String> {
        let mut sum = Sum::default();
        for from in (0..each).step_by(usize::try_from(ATTACKS_OF_A_LANE).unwrap()) {
            // Each lane begins elsewhere in the order of attacks.
            let begin = u64::from(lane) * POINTS + from;
            sum = sum.with(&series(stage, defences, begin..begin + ATTACKS_OF_A_LANE.min(each - from))?);
        }
        Ok(sum)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..LANES).map(|lane| scope.spawn(move || work(lane))).collect();
        threads.into_iter().try_fold(Sum::default(), |sum, thread| Ok(sum.with(&thread.join().unwrap()?)))
    })
}

fn print(name: &str, sum: &Sum, begun: Instant) {
    println!("{name}: attacks {}, {}, in {:?}", sum.attacks, sum.report, begun.elapsed());
    println!("  late ends by the broker's answer: {:?}", sum.answers);
    let failed = sum.outcomes.iter().filter(|((_, _, told), _)| *told == Told::Failed);
    println!("  the next transaction failed: {}", tally(failed));
}

/// How many attacks there are, once against the bracket alone and once against all defences.
fn attacks() -> u64 {
    if long() { 1_536 } else { 96 }
}

/// Partitions that the check below uses.
pub fn partitions() -> u32 {
    2 * LANES * u32::try_from(attacks().div_ceil(u64::from(LANES)).div_ceil(ATTACKS_OF_A_LANE)).unwrap()
}

pub fn a_late_end_at_every_point_of_the_next_transaction_loses_nothing(stage: &Stage) {
    let attacks = attacks();
    let begun = Instant::now();
    let alone = Defences::ALL.without(Defence::RenewalAfterSlowEnd);
    let bracket = campaign(stage, alone, attacks).unwrap();
    print("the bracket alone", &bracket, begun);
    // Each late end arrived, both verdicts hit the next transaction at most of its points, and what was torn left its trace and was
    // repaired (`judge`).
    assert_eq!((bracket.attacks, bracket.late()), (attacks, attacks));
    for verdict in [Verdict::Commit, Verdict::Abort] {
        let hit = bracket.outcomes.keys().filter(|(by, _, told)| *by == verdict && *told == Told::Failed).count();
        assert!(hit >= 5, "late {verdict:?}: only {hit} points were hit: {:?}", bracket.outcomes);
    }
    assert!(bracket.report.tears > 0 && bracket.report.repairs * 10 > attacks, "{}", bracket.report);
    let begun = Instant::now();
    let all = campaign(stage, Defences::ALL, attacks).unwrap();
    print("all defences", &all, begun);
    assert_eq!((all.attacks, all.late()), (attacks, attacks));
    assert_eq!((all.report.tears, all.report.repairs), (0, 0), "with the renewal no late end hits anything: {}", all.report);
}
