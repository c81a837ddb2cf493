//! What the rules are checked on: the tracked files of this checkout, and what cargo knows of its dependencies.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file and what it says.
#[derive(Clone, Debug)]
pub struct Source {
    /// From the top of the checkout, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// A sample.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The lines with their numbers from 1.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text files that git tracks and that are there.
///
/// # Panics
/// Where this is no git checkout: the rules cannot be checked then.
#[must_use]
pub fn tracked() -> Vec<Source> {
    let listed = Command::new("git").current_dir(root()).args(["ls-files", "-z"]).output();
    let listed = listed.unwrap_or_else(|error| panic!("git ls-files: {error}"));
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let sources = names.split('\0').filter(|name| !name.is_empty()).filter_map(|name| {
        let text = std::fs::read_to_string(root().join(name)).ok()?;
        Some(Source { path: name.to_owned(), text })
    });
    sources.collect()
}

/// The platform that we build for, such as `x86_64-unknown-linux-gnu`.
///
/// # Panics
/// Where rustc does not run.
#[must_use]
pub fn host() -> String {
    let said = Command::new("rustc").arg("-vV").output().unwrap_or_else(|error| panic!("rustc -vV: {error}"));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap_or_else(|| panic!("rustc -vV names no host: {said}")).to_owned()
}

/// Every package that is built here, as cargo describes it, without asking the network.
///
/// # Panics
/// Where cargo does not know them; a build fetches what is missing.
#[must_use]
pub fn metadata() -> serde_json::Value {
    let platform = host();
    let said = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root())
        .args(["metadata", "--offline", "--format-version", "1", "--filter-platform", &platform])
        .output()
        .unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    assert!(said.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("cargo metadata: {error}"))
}
