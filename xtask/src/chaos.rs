//! `cargo xtask chaos`: the same program as in the end-to-end ring, for as long and on as many brokers as is wanted.

use anyhow::{Context as _, Result, bail};

use crate::plan::Program;
use crate::{parts, runner};

const PROGRAM: &str = "chaos";

/// How it is attacked.
#[derive(clap::Args)]
pub struct Wish {
    /// For how long.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// On how many brokers: with three, every record is kept three times.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=5))]
    brokers: u64,
    /// What is drawn; printed, and the same for the same seed.
    #[arg(long, default_value_t = 2026)]
    seed: u64,
}

/// Runs it. `Ok(false)` when something was not as it must be.
///
/// # Errors
/// When it could not be run.
pub fn chaos(wish: &Wish) -> Result<bool> {
    let bringing = parts::bring();
    let build = runner::build();
    // Wait for the parts in any case: what is half built would be in the way of the next run.
    let brought = bringing.join();
    let (built, _) = build?;
    let brought = brought.map_err(|_| anyhow::anyhow!("the thread that brings the parts has ended"))??;
    let is_it = |program: &&Program| program.name == PROGRAM && program.folder.ends_with("tests/e2e");
    let program = built.tests.iter().find(is_it).context("the program was not built")?;
    let product = built.product.as_ref().context("the product was not built")?;
    let mut environment = brought.environment;
    let settings = [("SECONDS", wish.minutes * 60), ("BROKERS", wish.brokers)];
    environment.extend(settings.map(|(name, value)| (format!("CUSTOS_CHAOS_{name}"), value.to_string())));
    environment.push(("CUSTOS_TEST_SEED".to_owned(), wish.seed.to_string()));
    environment.push(("CUSTOS_TEST_BINARY".to_owned(), product.display().to_string()));
    // A part that is not there must not pass for a run without violations.
    environment.push(("CI".to_owned(), "true".to_owned()));
    if !brought.missing.is_empty() {
        bail!("missing: {}", brought.missing.join("; "));
    }
    let (tally, _) = runner::run_program(program, &environment)?;
    Ok(tally.failed == 0 && tally.skipped == 0)
}
