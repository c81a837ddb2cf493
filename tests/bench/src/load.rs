//! The load: so many sagas in flight at all times, each timed from the append of its start to the commit of its end.
//!
//! Closed loop: a saga that ends is replaced at once. Several threads share the sagas, so that an append that waits for the log
//! holds up only a part of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::usage;

/// Appends the starts of these sagas and returns when they are durable.
pub type Begin = Arc<dyn Fn(&[u64]) -> Result<()> + Send + Sync>;

/// How long a level runs.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Sagas in flight.
    pub in_flight: u64,
    /// Before anything counts.
    pub warm: Duration,
    /// While everything counts.
    pub measured: Duration,
}

/// Tells the load which saga was ended by a commit.
#[derive(Clone)]
pub struct Watch {
    lanes: Vec<Sender<(u64, Instant)>>,
}

/// What one level showed.
#[derive(Clone, Debug, Default)]
pub struct Level {
    /// Sagas that ended while it counted.
    pub sagas: u64,
    /// How long it counted.
    pub took: Duration,
    /// Their durations, sorted, in microseconds.
    pub micros: Vec<u64>,
    /// Processor time of the load's own threads, warm-up and end included, in milliseconds.
    pub load_ms: u64,
}

const LANES: u64 = 4;
/// A saga that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(60);

impl Watch {
    /// A watch and what its lanes hear.
    pub fn new() -> (Self, Vec<Receiver<(u64, Instant)>>) {
        let (lanes, ends) = (0..LANES).map(|_| channel()).unzip();
        (Self { lanes }, ends)
    }

    /// Saga `number` is committed to its end.
    pub fn ended(&self, number: u64) {
        let lane = usize::try_from(number % LANES).unwrap_or(0);
        if let Some(lane) = self.lanes.get(lane) {
            // Fails only when the load has ended: nobody counts any more.
            let _ = lane.send((number, Instant::now()));
        }
    }
}

impl Level {
    /// Ended sagas for each second.
    pub fn per_second(&self) -> u64 {
        let micros = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.sagas.saturating_mul(1_000_000) / micros
    }

    /// The duration that `percent` of the sagas did not exceed, in microseconds.
    pub fn percentile(&self, percent: usize) -> u64 {
        let at = self.micros.len().saturating_mul(percent) / 100;
        self.micros.get(at.min(self.micros.len().saturating_sub(1))).copied().unwrap_or(0)
    }
}

/// Runs one level; numbers begin at `first`.
///
/// # Errors
/// The log does not take a start, or a saga does not end.
pub fn run(plan: Plan, first: u64, begin: &Begin, ends: &mut [Receiver<(u64, Instant)>]) -> Result<Level> {
    let counted_from = Instant::now() + plan.warm;
    let until = counted_from + plan.measured;
    let lanes: Result<Vec<(Vec<u64>, u64)>> = std::thread::scope(|scope| {
        let lanes: Vec<_> = ends
            .iter_mut()
            .zip(0_u64..)
            .map(|(ends, lane)| {
                let share = plan.in_flight / LANES + u64::from(lane < plan.in_flight % LANES);
                let begin = Arc::clone(begin);
                scope.spawn(move || {
                    let micros = drive_lane((lane, share), first, &begin, ends, (counted_from, until))?;
                    Ok((micros, usage::own_thread_ms()))
                })
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().map_err(|_| anyhow!("a lane panicked"))?).collect()
    });
    let (micros, spent): (Vec<Vec<u64>>, Vec<u64>) = lanes?.into_iter().unzip();
    let mut micros = micros.concat();
    micros.sort_unstable();
    let sagas = u64::try_from(micros.len()).unwrap_or(u64::MAX);
    Ok(Level { sagas, took: plan.measured, micros, load_ms: spent.into_iter().sum() })
}

fn drive_lane(
    (lane, share): (u64, u64),
    first: u64,
    begin: &Begin,
    ends: &Receiver<(u64, Instant)>,
    (counted_from, until): (Instant, Instant),
) -> Result<Vec<u64>> {
    let mut running = BTreeMap::new();
    let mut micros = Vec::new();
    // Numbers of a lane are those that leave it as remainder, so that whoever sees an end knows the lane.
    let mut next = first.next_multiple_of(LANES).saturating_add(lane);
    let mut wanted = share;
    while wanted > 0 || !running.is_empty() {
        if wanted > 0 {
            let numbers: Vec<u64> = (0..wanted).map(|place| next.saturating_add(place.saturating_mul(LANES))).collect();
            next = next.saturating_add(wanted.saturating_mul(LANES));
            let began = Instant::now();
            running.extend(numbers.iter().map(|number| (*number, began)));
            begin(&numbers)?;
        }
        let first = ends.recv_timeout(PATIENCE).with_context(|| format!("{} sagas did not end", running.len()))?;
        let ended: Vec<(u64, Instant)> = std::iter::once(first).chain(ends.try_iter()).collect();
        let mut freed = 0_u64;
        for (number, at) in ended {
            let Some(began) = running.remove(&number) else { continue };
            freed = freed.saturating_add(1);
            if at >= counted_from && at < until {
                micros.push(u64::try_from(at.duration_since(began).as_micros()).unwrap_or(u64::MAX));
            }
        }
        wanted = if Instant::now() < until { freed } else { 0 };
    }
    Ok(micros)
}
