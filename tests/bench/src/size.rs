//! The release binary, and the way to time a clean build.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// The size of `custos` beside this program, which was built into the same folder.
///
/// # Errors
/// This program's own place is not known.
pub fn measure() -> Result<Value> {
    let mut path: PathBuf = std::env::current_exe().context("this program's own place")?;
    path.set_file_name("custos");
    let bytes = std::fs::metadata(&path).ok().map(|file| file.len());
    let hint = bytes.is_none().then_some("not built: cargo build --release --bin custos");
    Ok(json!({ "bench": "size", "binary": "custos", "bytes": bytes, "hint": hint }))
}

/// The commands that time a clean build.
pub fn how_to_time_a_build() -> Value {
    let run = [
        "cargo fetch --locked",
        "time CARGO_TARGET_DIR=$(mktemp -d) cargo build --offline --locked --release --bin custos",
        "time CARGO_TARGET_DIR=$(mktemp -d) cargo build --offline --locked",
    ];
    json!({ "bench": "build", "run": run })
}
