//! Counts what the test runner says, line by line, and decides which of its lines a reader needs.

use std::collections::VecDeque;

/// How many lines the summary repeats from the beginning, and from the end, of what a program says of its failures.
const SAID_MOST: usize = 60;

/// The first lines of a text and the last.
#[derive(Default)]
struct Excerpt {
    first: Vec<String>,
    last: VecDeque<String>,
    between: u64,
}

impl Excerpt {
    fn push(&mut self, line: &str) {
        if self.first.len() < SAID_MOST {
            self.first.push(line.to_owned());
            return;
        }
        if self.last.len() == SAID_MOST {
            self.last.pop_front();
            self.between = self.between.saturating_add(1);
        }
        self.last.push_back(line.to_owned());
    }

    fn lines(self) -> Vec<String> {
        let between = (self.between > 0).then(|| format!("[{} lines, which stand above]", self.between));
        self.first.into_iter().chain(between).chain(self.last).collect()
    }
}

/// How many tests passed, failed and were not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed, and did what they are there for.
    pub passed: u64,
    /// Failed, or their program ended before it could say so.
    pub failed: u64,
    /// Ignored, or said that a part was missing.
    pub skipped: u64,
}

impl Tally {
    /// Both together.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed.saturating_add(other.passed),
            failed: self.failed.saturating_add(other.failed),
            skipped: self.skipped.saturating_add(other.skipped),
        }
    }
}

/// Follows one test program that runs with `--show-output`.
#[derive(Default)]
pub struct Counter {
    tally: Tally,
    /// A program has begun and not yet said its result.
    open: bool,
    /// Tests that passed only by saying that a part was missing.
    not_run: u64,
    /// Inside the runner's second list of the names of tests that passed.
    names: bool,
    /// What it says of those that failed.
    failures: Excerpt,
    /// Inside of that.
    failing: bool,
}

impl Counter {
    /// Takes the next line; whether to show it.
    pub fn line(&mut self, line: &str) -> bool {
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.lost_program();
            self.open = true;
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.open = false;
            self.tally.passed = self.tally.passed.saturating_add(before(counts, " passed"));
            self.tally.failed = self.tally.failed.saturating_add(before(counts, " failed"));
            self.tally.skipped = self.tally.skipped.saturating_add(before(counts, " ignored"));
        } else if line.contains(": not run: ") {
            // Its test passes, for want of a better word in the runner; here it counts for what it is.
            self.not_run = self.not_run.saturating_add(1);
        }
        self.failing = (self.failing || line == "failures:") && !line.starts_with("test result: ");
        if self.failing && !of_backtrace(line) {
            self.failures.push(line);
        }
        let heading = line == "successes:";
        let name = self.names && line.starts_with("    ");
        self.names = heading || name;
        !heading && !name
    }

    /// What was said of the tests that failed.
    pub fn failures(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failures).lines()
    }

    /// The counts, when the run has ended; `clean` is what its exit status said.
    pub fn end(mut self, clean: bool) -> Tally {
        self.lost_program();
        self.tally.passed = self.tally.passed.saturating_sub(self.not_run);
        self.tally.skipped = self.tally.skipped.saturating_add(self.not_run);
        if !clean && self.tally.failed == 0 {
            self.tally.failed = 1;
        }
        self.tally
    }

    fn lost_program(&mut self) {
        if self.open {
            self.tally.failed = self.tally.failed.saturating_add(1);
        }
        self.open = false;
    }
}

/// A frame of a backtrace: `  12: name` or `at path`.
fn of_backtrace(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("at ./")
        || line.starts_with("at /")
        || line
            .split_once(": ")
            .is_some_and(|(digits, _)| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The number in front of a word.
fn before(text: &str, word: &str) -> u64 {
    let number = text.split_once(word).and_then(|(front, _)| front.rsplit(' ').next());
    number.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str = "test result: ok. 12 passed; 1 failed; 3 ignored; 0 measured; 4 filtered out; finished in 0.01s";

    fn count(lines: &[&str], clean: bool) -> Tally {
        let mut counter = Counter::default();
        for line in lines {
            counter.line(line);
        }
        counter.end(clean)
    }

    #[test]
    fn results_of_several_programs_are_added() {
        let tally = count(&["running 16 tests", RESULT, "running 16 tests", RESULT], false);
        assert_eq!(tally, Tally { passed: 24, failed: 2, skipped: 6 });
    }

    #[test]
    fn a_program_that_dies_counts_as_a_failure() {
        assert_eq!(count(&["running 16 tests", "test a ... ok"], false), Tally { failed: 1, ..Tally::default() });
        let tally = count(&["running 16 tests", "running 16 tests", RESULT], false);
        assert_eq!(tally, Tally { passed: 12, failed: 2, skipped: 3 });
    }

    #[test]
    fn a_run_that_fails_without_saying_so_counts_as_a_failure() {
        assert_eq!(count(&[], false), Tally { failed: 1, ..Tally::default() });
        assert_eq!(count(&[], true), Tally::default());
    }

    #[test]
    fn a_test_without_its_part_is_skipped_and_not_passed() {
        let lines =
            ["running 2 tests", "kafka: not run: no image; run up.sh", "test result: ok. 2 passed; 0 failed; 0 ignored"];
        assert_eq!(count(&lines, true), Tally { passed: 1, failed: 0, skipped: 1 });
    }

    #[test]
    fn what_is_said_of_failures_is_kept_without_frames_and_within_a_bound() {
        let mut counter = Counter::default();
        let said =
            ["failures:", "", "---- a stdout ----", "not ready: 3 of 4", "   3: a::b", "             at ./a.rs:1:2", RESULT];
        for line in ["running 16 tests", "test a ... FAILED"].iter().chain(&said) {
            counter.line(line);
        }
        assert_eq!(counter.failures(), said[..4]);
        counter.line("failures:");
        for number in 0..500 {
            counter.line(&format!("line {number}"));
        }
        let kept = counter.failures();
        assert_eq!((kept.len(), kept[60].as_str()), (121, "[381 lines, which stand above]"));
        assert_eq!(kept.last().map(String::as_str), Some("line 499"));
    }

    #[test]
    fn the_runners_second_list_of_names_is_left_out() {
        let lines =
            ["successes:", "", "---- a stdout ----", "    said by a", "", "successes:", "    a", "    b", "", RESULT];
        let mut counter = Counter::default();
        let shown: Vec<&str> = lines.into_iter().filter(|line| counter.line(line)).collect();
        assert_eq!(shown, ["", "---- a stdout ----", "    said by a", "", "", RESULT]);
    }
}
