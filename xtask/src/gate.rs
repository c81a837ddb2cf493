//! What CI runs, in its order: the cheapest judge first.

use anyhow::Result;

use crate::runner::{self, Wish};
use crate::{cargo, must};

/// Format, lints, every ring of tests. `Ok(false)` when a test failed.
pub fn ci() -> Result<bool> {
    must("cargo fmt --all --check", cargo(&["fmt", "--all", "--check"])?)?;
    let lints = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    must("cargo clippy --workspace --all-targets -- -D warnings", cargo(&lints)?)?;
    runner::test(&Wish::default())
}
