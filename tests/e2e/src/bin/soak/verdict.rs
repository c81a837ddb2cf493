//! What "flat" means, and who is not.
//!
//! Each series is judged by its slope after the warm-up: the median of the slopes between all pairs of samples (Theil and Sen), which
//! single peaks and drops do not move. Flat is
//!
//! - memory: at most [`MEMORY_MAX`] bytes for each operation that was asked for meanwhile, beyond what an operation is kept in. The
//!   product remembers every operation for ever, on purpose: its idempotency key, its payment and nonce, in the owner of a shard and in
//!   whoever follows it; and the embedded log has the place of every record in memory. How much that is, a process says that begins
//!   anew on the same data when the load is over: what it needs more than the first one needed at the beginning. The rest is caches
//!   that fill, which have an end, and whatever leaks; a task, a connection or a buffer for each operation is more than is allowed;
//! - file handles and threads: less than [`STEPS_MAX`] more over the whole time.
//!
//! Judged is anonymous memory. Pages of mapped files belong to the kernel and are shown beside it.

use std::fmt;
use std::time::Duration;

use crate::samples::{Sample, Samples};

/// Bytes of memory that may stay for each operation besides what it is kept in.
pub const MEMORY_MAX: i128 = 2_048;
/// File handles, and threads, that may be more at the end, by the slope.
pub const STEPS_MAX: i128 = 2;
/// A slope is told for so long.
const UNIT_MS: i128 = 1_000;
/// Slopes are whole numbers of so many parts.
const PARTS: i128 = 1_000_000;

/// What was found.
#[derive(Debug)]
pub struct Judged {
    rows: Vec<Row>,
    minutes: u64,
    operations: u64,
}

#[derive(Debug)]
struct Row {
    process: String,
    samples: usize,
    anonymous_kib: (u64, u64),
    resident_kib: (u64, u64),
    handles: (u64, u64),
    threads: (u64, u64),
    bytes_per_operation: i128,
    kept_per_operation: i128,
    more_handles: i128,
    more_threads: i128,
}

/// Judges every process by its samples within the window, in which a share of `operations` was asked for that is the window's share
/// of the load, and by what it needs `anew` on the same data.
pub fn judge(samples: &Samples, (from, until): (Duration, Duration), operations: usize, anew: &Samples) -> Judged {
    let window_ms = i128::try_from(until.saturating_sub(from).as_millis()).unwrap_or(i128::MAX).max(1);
    // The load lasts four windows' thirds: the first quarter is warm-up.
    let meanwhile = i128::try_from(operations).unwrap_or(i128::MAX).saturating_mul(3) / 4;
    let mut rows = Vec::new();
    for (process, all) in samples.processes() {
        let seen: Vec<Sample> = all.iter().filter(|sample| (from..=until).contains(&sample.at)).copied().collect();
        let ends = |figure: fn(&Sample) -> u64| (seen.first().map_or(0, figure), seen.last().map_or(0, figure));
        let more = |figure: fn(&Sample) -> u64| {
            let series: Vec<(i128, i128)> = seen.iter().map(|sample| point(sample, figure)).collect();
            slope(&series).saturating_mul(window_ms) / UNIT_MS
        };
        let needs = |samples: &[Sample]| samples.first().map_or(0, |sample| i128::from(sample.anonymous_kib));
        let again = anew.processes().find(|(name, _)| *name == process).map_or(0, |(_, samples)| needs(samples));
        let kept = again.saturating_sub(needs(all)).max(0).saturating_mul(1_024);
        rows.push(Row {
            process: process.to_owned(),
            samples: seen.len(),
            anonymous_kib: ends(|sample| sample.anonymous_kib),
            resident_kib: ends(|sample| sample.resident_kib),
            handles: ends(|sample| sample.handles),
            threads: ends(|sample| sample.threads),
            bytes_per_operation: more(|sample| sample.anonymous_kib).saturating_mul(1_024) / PARTS / meanwhile.max(1),
            kept_per_operation: kept / i128::try_from(operations).unwrap_or(i128::MAX).max(1),
            more_handles: more(|sample| sample.handles) / PARTS,
            more_threads: more(|sample| sample.threads) / PARTS,
        });
    }
    let minutes = until.saturating_sub(from).as_secs() / 60;
    Judged { rows, minutes, operations: u64::try_from(meanwhile).unwrap_or(u64::MAX) }
}

fn point(sample: &Sample, figure: fn(&Sample) -> u64) -> (i128, i128) {
    (i128::try_from(sample.at.as_millis()).unwrap_or(i128::MAX), i128::from(figure(sample)))
}

/// The median of all slopes between two points, in millionths for each second; 0 with fewer than two points.
fn slope(series: &[(i128, i128)]) -> i128 {
    let mut slopes = Vec::new();
    for (index, (at, value)) in series.iter().enumerate() {
        for (later, then) in series.iter().skip(index + 1).filter(|(later, _)| later > at) {
            slopes.push((then - value) * UNIT_MS * PARTS / (later - at));
        }
    }
    slopes.sort_unstable();
    slopes.get(slopes.len() / 2).copied().unwrap_or_default()
}

impl Row {
    /// With fewer samples nothing is proven.
    const SAMPLES_MIN: usize = 6;

    const fn flat(&self) -> bool {
        self.samples >= Self::SAMPLES_MIN
            && self.bytes_per_operation.saturating_sub(self.kept_per_operation) <= MEMORY_MAX
            && self.more_handles < STEPS_MAX
            && self.more_threads < STEPS_MAX
    }
}

impl Judged {
    /// How many processes are not flat.
    pub fn growing(&self) -> usize {
        self.rows.iter().filter(|row| !row.flat()).count()
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the last {} minutes, {} operations (at their beginning → at their end):",
            self.minutes, self.operations
        )?;
        let head = ["process", "anonymous KiB", "resident KiB", "bytes/operation", "kept", "handles", "threads", ""];
        let [a, b, c, d, k, e, g, h] = head;
        writeln!(f, "  {a:<14} {b:>19} {c:>19} {d:>16} {k:>6} {e:>14} {g:>14} {h}")?;
        for row in &self.rows {
            let ends = |(first, last): (u64, u64)| format!("{first} → {last}");
            let verdict = if row.flat() { "flat" } else { "GROWS" };
            writeln!(
                f,
                "  {:<14} {:>19} {:>19} {:>16} {:>6} {:>14} {:>14} {verdict}",
                row.process,
                ends(row.anonymous_kib),
                ends(row.resident_kib),
                row.bytes_per_operation,
                row.kept_per_operation,
                ends(row.handles),
                ends(row.threads),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: impl Iterator<Item = i128>) -> Vec<(i128, i128)> {
        (0..).map(|index| index * 5_000).zip(values).collect()
    }

    #[test]
    fn the_slope_of_a_line_is_its_slope_and_peaks_do_not_move_it() {
        let line: Vec<i128> = (0..180).map(|index| 1_000 + 10 * index).collect();
        assert_eq!(slope(&series(line.iter().copied())), 2 * PARTS, "10 in 5 seconds");
        let mut peaks = line.clone();
        for peak in [3, 50, 51, 52, 120] {
            peaks[peak] += 100_000;
        }
        let told = slope(&series(peaks.into_iter()));
        assert!((told - 2 * PARTS).abs() < PARTS / 20, "{told}");
    }

    #[test]
    fn noise_around_a_level_has_no_slope_and_a_small_leak_under_noise_has() {
        let noise = |index: i128| (index * 7_919) % 211;
        let level = slope(&series((0..180).map(|index| 50_000 + noise(index))));
        assert!(level.abs() < PARTS / 2, "{level}");
        let leak = slope(&series((0..180).map(|index| 50_000 + noise(index) + 5 * index)));
        assert!((leak - PARTS).abs() < PARTS / 2, "{leak}: 5 in 5 seconds");
        // One step in the middle, which moves half of all slopes, counts as about one, and so is flat.
        let step = slope(&series((0..90).map(|_| 10).chain((0..90).map(|_| 11))));
        let over_all = step * 5 * 179 / PARTS;
        assert!((0..STEPS_MAX).contains(&over_all), "{over_all}");
    }

    #[test]
    fn a_process_that_leaks_is_named() {
        let at = |index: u64| Duration::from_secs(index * 5);
        let sample = |index: u64, anonymous_kib, handles| Sample {
            at: at(index),
            anonymous_kib,
            resident_kib: anonymous_kib,
            handles,
            threads: 9,
        };
        let judged = |anonymous: fn(u64) -> u64, handles: fn(u64) -> u64| {
            let samples = (0..180).map(|index| sample(index, anonymous(index), handles(index))).collect();
            let samples = Samples::of([("all".to_owned(), samples)]);
            // 4,000 operations: 8 MiB more are 2 KiB each.
            let anew = Samples::of([("all".to_owned(), vec![sample(0, 58_192, 30)])]);
            judge(&samples, (at(45), at(180)), 4_000, &anew).growing()
        };
        assert_eq!(judged(|_| 50_000, |_| 30), 0);
        // 3,000 operations in the window of 135 samples: 18 MiB are 6 KiB each, of which 2 are kept.
        assert_eq!(judged(|index| 50_000 + index * 18_432 / 135, |_| 30), 1, "memory");
        assert_eq!(judged(|index| 50_000 + index * 10_500 / 135, |_| 30), 0, "what is kept");
        assert_eq!(judged(|_| 50_000, |index| 30 + index / 20), 1, "handles");
        assert_eq!(judged(|_| 50_000, |index| 30 + index % 2), 0, "handles that come and go");
    }
}
