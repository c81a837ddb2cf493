//! Traces of the machines that the code was written on, and names of package registries: neither means anything to others.

use crate::Source;

/// Folders of one person's machine.
const FOLDERS: &[&str] = &["/work/", "/home/", "/root/"];
/// Hosts that a build asks; which of them, is the builder's affair.
const HOSTS: &[&str] = &[
    "crates.io",
    "npmjs.",
    "registry-1.docker",
    "hub.docker.com",
    "ghcr.io",
    "quay.io",
    "pypi.org",
    "proxy.golang.org",
    "repo.maven",
    "repo1.maven",
    "deb.debian.org",
    "artifactory",
];

/// Every trace. What cargo itself writes into Cargo.lock is no trace.
#[must_use]
pub fn machine_traces(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| !source.path.starts_with("tests/rules/")) {
        let locked = source.path == "Cargo.lock";
        for (number, line) in source.numbered().filter(|(_, line)| !(locked && line.starts_with("source = "))) {
            for folder in FOLDERS.iter().filter(|folder| begins_path(line, folder)) {
                findings.push(format!(
                    "{}:{number}: `{folder}` is a folder of one machine; use a path in the checkout",
                    source.path
                ));
            }
            // Folders for the time being: documents may show one, images may use their own.
            let own = source.path.ends_with(".md") || source.path.starts_with("tests/containers/");
            if !own && begins_path(line, "/tmp/") {
                findings
                    .push(format!("{}:{number}: `/tmp/`; take a folder from tempfile, or one under target", source.path));
            }
            for host in HOSTS.iter().filter(|host| line.contains(**host)) {
                findings
                    .push(format!("{}:{number}: `{host}`; where packages come from is the builder's affair", source.path));
            }
        }
    }
    findings
}

/// Whether an absolute path begins so, and not merely the rest of another path.
fn begins_path(line: &str, folder: &str) -> bool {
    let before = |at: usize| line.get(..at).and_then(|front| front.chars().next_back());
    let rest = |c: char| c.is_alphanumeric() || "._-*}/$".contains(c);
    line.match_indices(folder).any(|(at, _)| before(at).is_none_or(|c| !rest(c)))
}
