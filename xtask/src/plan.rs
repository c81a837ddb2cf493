//! Which test programs there are, and in which ring each of them runs.
//!
//! A ring is chosen by folder, so a new crate is in a ring without being listed. Rings are run as targets of the whole
//! workspace, never as single packages: cargo would then choose other features and compile everything a second time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{cargo, root};

/// A kind of test, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ring {
    /// The house rules.
    Rules,
    /// What every crate says of itself without a server, and the read model's SQL.
    Laws,
    /// The logs and the launchers of servers.
    Journals,
    /// The services and the command.
    Services,
    /// The whole system.
    EndToEnd,
}

impl Ring {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Rules, Self::Laws, Self::Journals, Self::Services, Self::EndToEnd];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Laws => "laws",
            Self::Journals => "journals",
            Self::Services => "services",
            Self::EndToEnd => "e2e",
        }
    }

    /// What it may take on two cores; a ring that takes longer is named in the summary.
    pub const fn budget(self, long: bool) -> Duration {
        let seconds = match (self, long) {
            (Self::Rules, _) => 30,
            (Self::Laws, false) => 180,
            (Self::Laws | Self::Journals, true) | (Self::Services, _) => 300,
            (Self::Journals, false) => 180,
            (Self::EndToEnd, false) => 600,
            (Self::EndToEnd, true) => 3600,
        };
        Duration::from_secs(seconds)
    }

    fn of(folder: &str) -> Self {
        match folder {
            "tests/rules" => Self::Rules,
            "tests/e2e" => Self::EndToEnd,
            "shared/journal" | "tests/parts" => Self::Journals,
            other if other.starts_with("shared/") || other.starts_with("orchestrator/") => Self::Laws,
            _ => Self::Services,
        }
    }
}

/// A package of the workspace.
pub struct Package {
    /// As cargo calls it.
    pub name: String,
    /// From the top of the checkout.
    pub folder: PathBuf,
    tests: Vec<String>,
}

/// What cargo builds here, and where to.
pub struct Workspace {
    /// Its packages.
    pub packages: Vec<Package>,
    /// The folder of what is built.
    pub target: PathBuf,
}

/// Asks cargo.
pub fn workspace() -> Result<Workspace> {
    let output =
        cargo(&["metadata", "--format-version", "1", "--no-deps"])?.output().context("cargo metadata did not start")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("what cargo metadata says")?;
    let top = root()?;
    let listed = metadata.get("packages").and_then(Value::as_array).context("cargo metadata lists packages")?;
    let packages = listed.iter().map(|package| read(package, &top)).collect::<Result<_>>()?;
    let target = metadata.get("target_directory").and_then(Value::as_str).context("cargo metadata names a target folder")?;
    Ok(Workspace { packages, target: PathBuf::from(target) })
}

fn read(package: &Value, top: &std::path::Path) -> Result<Package> {
    let text = |name: &str| package.get(name).and_then(Value::as_str).with_context(|| format!("a package has a {name}"));
    let manifest = PathBuf::from(text("manifest_path")?);
    let folder =
        manifest.parent().and_then(|folder| folder.strip_prefix(top).ok()).context("a package is in the checkout")?;
    let is_test = |target: &&Value| {
        let kinds = target.get("kind").and_then(Value::as_array);
        kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind.as_str() == Some("test")))
    };
    let targets = package.get("targets").and_then(Value::as_array).context("a package has targets")?;
    let tests = targets.iter().filter(is_test).filter_map(|target| target.get("name").and_then(Value::as_str));
    Ok(Package { name: text("name")?.to_owned(), folder: folder.to_path_buf(), tests: tests.map(str::to_owned).collect() })
}

/// The arguments that choose each ring's programs for `cargo test --workspace`; a ring without programs is absent.
///
/// Two packages may have test programs of one name, which cargo runs together: in the later ring of the two.
pub fn rings(packages: &[Package]) -> BTreeMap<Ring, Vec<String>> {
    let mut places: BTreeMap<&str, Ring> = BTreeMap::new();
    for package in packages {
        let ring = Ring::of(&package.folder.to_string_lossy());
        for test in &package.tests {
            let place = places.entry(test).or_insert(ring);
            *place = ring.max(*place);
        }
    }
    let mut rings: BTreeMap<Ring, Vec<String>> = BTreeMap::new();
    rings.insert(Ring::Laws, vec!["--lib".to_owned(), "--bins".to_owned()]);
    for (test, ring) in places {
        rings.entry(ring).or_default().extend(["--test".to_owned(), test.to_owned()]);
    }
    rings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &str, tests: &[&str]) -> Package {
        let tests = tests.iter().map(|&test| test.to_owned()).collect();
        Package { name: folder.replace('/', "-"), folder: PathBuf::from(folder), tests }
    }

    #[test]
    fn every_test_program_is_in_exactly_one_ring() {
        let packages = [
            package("tests/rules", &["house"]),
            package("shared/saga", &["laws"]),
            package("shared/journal", &["kafka"]),
            package("services/wallet", &["laws", "guarding"]),
            package("tests/e2e", &["deposits"]),
        ];
        let rings = rings(&packages);
        let chosen = |ring| rings.get(&ring).map(|arguments| arguments.join(" ")).unwrap_or_default();
        assert_eq!(chosen(Ring::Rules), "--test house");
        assert_eq!(chosen(Ring::Laws), "--lib --bins");
        assert_eq!(chosen(Ring::Journals), "--test kafka");
        assert_eq!(chosen(Ring::Services), "--test guarding --test laws", "one name twice runs once, in the later ring");
        assert_eq!(chosen(Ring::EndToEnd), "--test deposits");
    }
}
