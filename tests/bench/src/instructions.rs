//! Instructions per input of the machines' hot paths, counted by valgrind: the same on a busy machine as on an idle one, so that two
//! commits can be compared.
//!
//! Each path is run in a process of its own on a fixed tape, and so is one that makes the tape ready and does nothing with it; what is
//! told is the difference. Valgrind's processor has fewer instructions than a real one (no SHA extensions), so the absolute count of
//! whatever hashes is higher than on the real one. Deliberately absent: time.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;
use serde_json::{Value, json};

use crate::machine::Subject;
use crate::tape::Path;

/// Counts every path of every machine and hands each figure to `tell`.
///
/// # Errors
/// Valgrind is not on this machine, or a path does not run.
pub fn measure(clients: u64, rounds: u64, mut tell: impl FnMut(&Value) -> Result<()>) -> Result<()> {
    for subject in Subject::ALL {
        let (ready, inputs) = count(subject, Path::Nothing, clients, rounds)?;
        for path in [Path::Apply, Path::Records, Path::Decode, Path::Whole] {
            let (counted, again) = count(subject, path, clients, rounds)?;
            if again != inputs {
                bail!("the tape of {again} inputs is not the one of {inputs}");
            }
            let own = counted.saturating_sub(ready);
            tell(&json!({
                "bench": "instructions",
                "machine": subject.name(),
                "what": path.about(),
                "inputs": inputs,
                "instructions": own,
                "instructions_per_input": own / inputs.max(1),
            }))?;
        }
    }
    Ok(())
}

/// Instructions of a process that runs `path` of `subject`, and the inputs of its tape.
fn count(subject: Subject, path: Path, clients: u64, rounds: u64) -> Result<(u64, u64)> {
    let own = std::env::current_exe().context("this program has a place")?;
    let name = path.to_possible_value().context("a path has a name")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args(["path", subject.name(), name.get_name(), "--clients", &clients.to_string(), "--rounds", &rounds.to_string()])
        .output()
        .context("valgrind did not start: install it (Debian: apt-get install valgrind)")?;
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{} under valgrind: {}: {errors}", path.about(), output.status);
    }
    let collected = errors.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    let inputs = said.lines().find_map(|line| line.trim().parse().ok());
    Ok((collected.context("valgrind says what it collected")?, inputs.context("the path says its inputs")?))
}
