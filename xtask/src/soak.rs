//! `cargo xtask soak`: builds the product and its load, brings the servers, and runs the load.

use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::parts;
use crate::{cargo, must, root};

/// What the developer asked for.
#[derive(clap::Args)]
pub struct Wish {
    /// How long the load lasts; its first quarter is warm-up.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// What the product stands on: `embedded` or `kafka`.
    #[arg(long)]
    log: String,
    /// Leave Docker and its containers running at the end.
    #[arg(long)]
    keep: bool,
}

/// Runs it. `Ok(false)` when something grows or is not exact.
///
/// # Errors
/// It could not be run.
pub fn soak(wish: &Wish) -> Result<bool> {
    let servers = match wish.log.as_str() {
        "embedded" => false,
        "kafka" => true,
        other => bail!("`{other}` is no log to soak: embedded or kafka"),
    };
    let bringing = servers.then(parts::bring);
    let built = must("cargo build --workspace --bins", cargo(&["build", "--workspace", "--bins"])?);
    let brought = match bringing {
        Some(bringing) => bringing.join().map_err(|_| anyhow!("the thread that brings the parts has ended"))??,
        None => parts::Parts::default(),
    };
    built?;
    for missing in &brought.missing {
        eprintln!("xtask: missing: {missing}");
    }
    let programs = root()?.join("target/debug");
    let folder = root()?.join("target/soak");
    std::fs::create_dir_all(&folder).context("a folder for the samples")?;
    let samples = folder.join(format!("{}.csv", wish.log));
    let mut command = std::process::Command::new(programs.join("soak"));
    command.args(["--minutes", &wish.minutes.to_string(), "--log", &wish.log, "--samples"]).arg(&samples);
    command.envs(brought.environment).env("CUSTOS_TEST_BINARY", programs.join("custos")).stdin(Stdio::null());
    let good = command.status().context("the load did not start")?.success();
    println!("the samples: {}", samples.display());
    if servers && !wish.keep {
        parts::take_down()?;
    }
    Ok(good)
}
