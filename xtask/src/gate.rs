//! What CI runs, in its order: the cheapest judge first.

use anyhow::Result;

use crate::deny;
use crate::runner::{self, Wish};
use crate::{cargo, must};

/// Format, dependencies, lints, every ring of tests. `Ok(false)` when a test failed or a dependency is refused.
pub fn ci() -> Result<bool> {
    must("cargo fmt --all --check", cargo(&["fmt", "--all", "--check"])?)?;
    // Without cargo-deny the house rules still judge the licences.
    if deny::is_there() && !deny::deny(&deny::Wish::default())? {
        return Ok(false);
    }
    let lints = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    must("cargo clippy --workspace --all-targets -- -D warnings", cargo(&lints)?)?;
    runner::test(&Wish::default())
}
