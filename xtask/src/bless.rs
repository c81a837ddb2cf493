//! Writes again what tests compare with the code.
//!
//! Which tests can write is not listed here: they are those whose source reads `CUSTOS_BLESS`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cargo, must, plan, root};

/// The published Protobuf package; its descriptors take additions under this name only.
const PROTO_PACKAGE: &str = "custos";

/// Runs the tests of every package that can write, told to write. `Ok(true)` when all of them passed afterwards.
pub fn bless() -> Result<bool> {
    let writers = writers(&plan::packages()?)?;
    for package in &writers {
        let mut test = cargo(&["test", "--quiet", "--package", package])?;
        test.env("CUSTOS_BLESS", PROTO_PACKAGE);
        must(&format!("CUSTOS_BLESS={PROTO_PACKAGE} cargo test --package {package}"), test)?;
    }
    println!("written again: what the tests of {} compare", writers.iter().cloned().collect::<Vec<_>>().join(", "));
    Ok(true)
}

fn writers(packages: &[(PathBuf, String)]) -> Result<BTreeSet<String>> {
    let root = root()?;
    let found = Command::new("git")
        .current_dir(&root)
        .args(["grep", "--untracked", "-l", "CUSTOS_BLESS", "--", "*.rs"])
        .output()
        .context("git grep did not start")?;
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let owner = |path: &str| {
        let path = Path::new(path);
        packages.iter().find(|(folder, _)| path.starts_with(folder)).map(|(_, name)| name.clone())
    };
    // The front door speaks of the variable and has nothing to write.
    Ok(text.lines().filter_map(owner).filter(|name| name != "xtask").collect())
}
