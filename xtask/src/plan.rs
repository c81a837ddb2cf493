//! Which test programs there are, and in which ring each of them runs.
//!
//! A ring is chosen by folder, so a new crate is in a ring without being listed. Programs come from one build of the whole
//! workspace and are started here, as cargo would: asked for a part of them, cargo chooses other settings for what build
//! scripts and macros share with the product, and compiles a part of the workspace a second time.

use std::path::{Path, PathBuf};
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
    /// The whole system in one thread, from seeds.
    Simulation,
    /// The services and the command.
    Services,
    /// The whole system.
    EndToEnd,
}

impl Ring {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Rules, Self::Laws, Self::Journals, Self::Simulation, Self::Services, Self::EndToEnd];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Laws => "laws",
            Self::Journals => "journals",
            Self::Simulation => "simulation",
            Self::Services => "services",
            Self::EndToEnd => "e2e",
        }
    }

    /// What it may take on two cores; a ring that takes longer is named in the summary.
    pub const fn budget(self, long: bool) -> Duration {
        let seconds = match (self, long) {
            (Self::Rules, _) => 30,
            (Self::Laws, false) | (Self::Simulation, _) => 180,
            (Self::Laws, true) | (Self::Services, _) => 300,
            (Self::Journals, false) => 420,
            (Self::Journals, true) => 2400,
            (Self::EndToEnd, false) => 600,
            (Self::EndToEnd, true) => 3600,
        };
        Duration::from_secs(seconds)
    }

    fn of(folder: &str) -> Self {
        match folder {
            "tests/rules" => Self::Rules,
            "tests/e2e" => Self::EndToEnd,
            "tests/simulation" => Self::Simulation,
            "shared/journal" | "tests/parts" => Self::Journals,
            "tests/fuzz" => Self::Laws,
            other if other.starts_with("shared/") || other.starts_with("orchestrator/") => Self::Laws,
            _ => Self::Services,
        }
    }
}

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    /// Where it runs.
    pub ring: Ring,
    /// Its package's folder, from the top of the checkout.
    pub folder: PathBuf,
    /// The target's name; `unit tests` for those of a library or command.
    pub name: String,
    /// The program itself.
    pub path: PathBuf,
}

/// What one build has made.
#[derive(Default, Debug)]
pub struct Built {
    /// Test programs in the order in which they run.
    pub tests: Vec<Program>,
    /// The `custos` command.
    pub product: Option<PathBuf>,
}

impl Built {
    /// Reads the messages of `cargo build --message-format=json`, a line each.
    ///
    /// # Errors
    /// A message that is no JSON, or speaks of a package outside of the checkout.
    pub fn read<'a>(messages: impl Iterator<Item = &'a str>, top: &Path) -> Result<Self> {
        let mut built = Self::default();
        for line in messages {
            let message: Value = serde_json::from_str(line).context("a message of cargo")?;
            let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
            let Some(path) = text("/executable").map(PathBuf::from) else { continue };
            let kind = text("/target/kind/0").context("a program has a kind")?;
            let target = text("/target/name").context("a program has a name")?;
            if message.pointer("/profile/test") == Some(&Value::Bool(true)) {
                let folder = folder(text("/manifest_path").context("a program has a manifest")?, top)?;
                let unit = kind != "test";
                let ring = if unit { Ring::Laws } else { Ring::of(&folder.to_string_lossy()) };
                let name = if unit { "unit tests".to_owned() } else { target.to_owned() };
                built.tests.push(Program { ring, folder, name, path });
            } else if target == "custos" {
                built.product = Some(path);
            }
        }
        built.tests.sort();
        Ok(built)
    }
}

/// The package's folder from the top of the checkout.
fn folder(manifest: &str, top: &Path) -> Result<PathBuf> {
    let folder = Path::new(manifest).parent().and_then(|folder| folder.strip_prefix(top).ok());
    folder.map(Path::to_path_buf).with_context(|| format!("{manifest} is not in the checkout"))
}

/// The packages of this workspace: folder from the top of the checkout, and name.
pub fn packages() -> Result<Vec<(PathBuf, String)>> {
    let output =
        cargo(&["metadata", "--format-version", "1", "--no-deps"])?.output().context("cargo metadata did not start")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("what cargo metadata says")?;
    let top = root()?;
    let listed = metadata.get("packages").and_then(Value::as_array).context("cargo metadata lists packages")?;
    let text = |package: &Value, name: &str| package.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    listed.iter().map(|package| Ok((folder(&text(package, "manifest_path"), &top)?, text(package, "name")))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(folder: &str, kind: &str, name: &str, test: bool) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "manifest_path": format!("/top/{folder}/Cargo.toml"),
            "target": { "kind": [kind], "name": name },
            "profile": { "test": test },
            "executable": format!("/built/{name}"),
        })
        .to_string()
    }

    #[test]
    fn every_test_program_is_in_one_ring_and_the_product_is_found() {
        let messages = [
            message("tests/e2e", "test", "money", true),
            message("services/wallet", "test", "guarding", true),
            message("services/wallet", "lib", "custos_wallet", true),
            message("shared/journal", "test", "kafka", true),
            message("shared/saga", "test", "laws", true),
            message("tests/rules", "test", "house", true),
            message("cli", "bin", "custos", true),
            message("cli", "bin", "custos", false),
            r#"{"reason":"compiler-artifact","executable":null}"#.to_owned(),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let built = Built::read(messages.iter().map(String::as_str), Path::new("/top")).unwrap();
        let chosen = |ring| {
            let programs = built.tests.iter().filter(|program| program.ring == ring);
            programs.map(|program| format!("{} {}", program.folder.display(), program.name)).collect::<Vec<_>>()
        };
        assert_eq!(chosen(Ring::Rules), ["tests/rules house"]);
        assert_eq!(chosen(Ring::Laws), ["cli unit tests", "services/wallet unit tests", "shared/saga laws"]);
        assert_eq!(chosen(Ring::Journals), ["shared/journal kafka"]);
        assert_eq!(chosen(Ring::Services), ["services/wallet guarding"]);
        assert_eq!(chosen(Ring::EndToEnd), ["tests/e2e money"]);
        assert_eq!(built.product, Some(PathBuf::from("/built/custos")));
    }
}
