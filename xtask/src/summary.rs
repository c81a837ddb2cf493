//! What a run came to: which parts, how long, how many.

use std::time::Duration;

use crate::parts::Parts;
use crate::plan::Ring;
use crate::tally::Tally;

/// What the build may take on two cores from nothing.
const BUILD_BUDGET: Duration = Duration::from_secs(1200);

/// One ring's result.
pub struct RingResult {
    /// Which.
    pub ring: Ring,
    /// How many.
    pub tally: Tally,
    /// What was said of the tests that failed.
    pub failures: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// How long it may take.
    pub budget: Duration,
}

/// A whole run.
pub struct Report {
    /// What the tests ran against.
    pub parts: Parts,
    /// How long compiling took.
    pub build: Duration,
    /// In the order in which they ran.
    pub rings: Vec<RingResult>,
}

impl Report {
    fn total(&self) -> Tally {
        self.rings.iter().fold(Tally::default(), |sum, result| sum.plus(result.tally))
    }

    /// Whether nothing failed and, where nothing may be missing, nothing was.
    pub fn good(&self, strict: bool) -> bool {
        let whole = self.parts.missing.is_empty() && self.total().skipped == 0;
        self.total().failed == 0 && (whole || !strict)
    }

    /// Says it all; the counts stand alone on the last line.
    pub fn print(&self) {
        let failures: Vec<&String> = self.rings.iter().flat_map(|result| &result.failures).collect();
        if !failures.is_empty() {
            // Again, at the end, where whoever sees only the end of a long log finds it.
            println!("\nfailures");
            failures.iter().for_each(|line| println!("  {line}"));
        }
        println!("\nparts");
        for image in &self.parts.images {
            println!("  {image}");
        }
        for (name, value) in self.parts.environment.iter().filter(|(name, _)| name == "CUSTOS_TEST_ANVIL") {
            println!("  {name}={value}");
        }
        for missing in &self.parts.missing {
            println!("  missing: {missing}");
        }
        println!("\n{:<10}{:>9}{:>9}{:>9}{:>10}{:>9}", "ring", "passed", "failed", "skipped", "took, s", "budget");
        row("parts", "", self.parts.took, BUILD_BUDGET);
        row("build", "", self.build, BUILD_BUDGET);
        for RingResult { ring, tally: Tally { passed, failed, skipped }, took, budget, .. } in &self.rings {
            row(ring.name(), &format!("{passed:>9}{failed:>9}{skipped:>9}"), *took, *budget);
        }
        let Tally { passed, failed, skipped } = self.total();
        println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    }
}

fn row(name: &str, counts: &str, took: Duration, budget: Duration) {
    let over = if took > budget { "  over its budget" } else { "" };
    println!("{name:<10}{counts:<27}{:>10}{:>9}{over}", took.as_secs(), budget.as_secs());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tally: Tally, missing: &[&str]) -> Report {
        let missing = missing.iter().map(|&part| part.to_owned()).collect();
        let (took, budget) = (Duration::ZERO, Duration::ZERO);
        let ring = RingResult { ring: Ring::Laws, tally, failures: Vec::new(), took, budget };
        Report { parts: Parts { missing, ..Parts::default() }, build: Duration::ZERO, rings: vec![ring] }
    }

    #[test]
    fn what_is_missing_is_a_failure_only_where_nothing_may_be_missing() {
        let (passed, failed, skipped) = (1, 0, 0);
        let whole = Tally { passed, failed, skipped };
        for (tally, missing, good, good_in_ci) in [
            (whole, &[][..], true, true),
            (whole, &["docker"][..], true, false),
            (Tally { skipped: 1, ..whole }, &[][..], true, false),
            (Tally { failed: 1, ..whole }, &[][..], false, false),
        ] {
            let report = report(tally, missing);
            assert_eq!((report.good(false), report.good(true)), (good, good_in_ci), "{tally:?} {missing:?}");
        }
    }
}
