//! Any request of a transaction cut, answered in vain, delayed, or stranded and arriving in the middle of the next one.

use std::time::{Duration, Instant};

use custos_journal::Defences;
use custos_parts::{Deed, Fate, When};

use crate::counting::judge::Report;
use crate::lane::{Lane, Stage};
use crate::late::POINTS;
use crate::{long, tally};

/// Lanes at a time, each on a partition of its own.
pub const LANES: u32 = 4;
const DEEDS: [Deed; 4] = [Deed::Strand, Deed::LoseAnswer, Deed::Cut, Deed::Delay(Duration::from_millis(120))];

/// Something happens to the request number `point` of a transaction; what was stranded arrives before the request number `later` of the next.
fn disturb(lane: &mut Lane<'_>, deed: Deed, point: u64, later: u64) -> Result<(), String> {
    lane.put(2);
    lane.owner()?;
    lane.rule(When::Point(point), deed);
    lane.transact(2)?;
    lane.owner()?;
    lane.put(2);
    lane.rule(When::Point(later), Deed::ReleaseFirst(Duration::from_millis(10)));
    lane.transact(9)?;
    lane.release();
    lane.stage.proxy.forget(&lane.name);
    lane.drain()
}

fn lane_of(stage: &Stage, first: u64, attacks: u64) -> Result<(Report, Vec<Fate>), String> {
    let mut lane = Lane::new(stage, Defences::ALL);
    for number in 0..attacks {
        let drawn = number * u64::from(LANES) + first;
        let deed = DEEDS[usize::try_from(drawn % 4).unwrap()];
        let (point, later) = ((drawn / 4) % POINTS, (drawn * 7 / 4) % POINTS);
        disturb(&mut lane, deed, point, later)
            .map_err(|problem| format!("{deed:?} at {point}, released at {later}: {problem}"))?;
    }
    let report = lane.conclude()?;
    let fates = lane.look().iter().map(|seen| seen.fate).filter(|fate| *fate != Fate::Passed).collect();
    Ok((report, fates))
}

pub fn any_request_cut_lost_delayed_or_late_loses_nothing(stage: &Stage) {
    let each: u64 = if long() { 200 } else { 14 };
    let begun = Instant::now();
    let (report, fates) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..LANES).map(|lane| scope.spawn(move || lane_of(stage, u64::from(lane), each))).collect();
        threads.into_iter().fold((Report::default(), Vec::new()), |(report, mut fates), thread| {
            let (one, more) = thread.join().unwrap().unwrap();
            fates.extend(more);
            (report.with(&one), fates)
        })
    });
    let count = |name: &str| fates.iter().filter(|fate| format!("{fate:?}").contains(name)).count();
    let met = ["Strand", "Arrived", "LoseAnswer", "Cut", "Delay"].map(|name| (name, count(name)));
    println!("any request: {report}, {}, in {:?}", tally(met.into_iter()), begun.elapsed());
    assert!(met.iter().all(|(_, count)| *count > 0), "{met:?}");
}
