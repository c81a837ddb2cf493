//! The licences under which what we link may be used: permissive ones, judged by the package's own expression.

use serde_json::Value;

/// Allowed: they ask for a notice at most.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "Unlicense",
    "CC0-1.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "bzip2-1.0.6",
    // Binds changes to its own files only, and we change none.
    "MPL-2.0",
];

/// Packages whose licence does not let a bank link them, by cargo's description of the workspace.
#[must_use]
pub fn forbidden(metadata: &Value) -> Vec<String> {
    let packages = metadata.get("packages").and_then(Value::as_array);
    let built: Vec<&str> = resolved(metadata);
    let mut findings = Vec::new();
    for package in packages.into_iter().flatten() {
        let text = |name: &str| package.get(name).and_then(Value::as_str).unwrap_or_default();
        if !built.contains(&text("id")) {
            continue;
        }
        let licence = text("license");
        if !permissive(licence) {
            findings.push(format!(
                "{} {}: licence `{licence}`; take another library, or argue for the licence in tests/rules/src/licences.rs",
                text("name"),
                text("version")
            ));
        }
    }
    findings
}

/// The ids of what is built on this platform.
fn resolved(metadata: &Value) -> Vec<&str> {
    let nodes = metadata.pointer("/resolve/nodes").and_then(Value::as_array);
    nodes.into_iter().flatten().filter_map(|node| node.get("id").and_then(Value::as_str)).collect()
}

/// Whether an SPDX expression can be met by permissive licences alone; the old `/` means `OR`.
#[must_use]
pub fn permissive(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    let met = any(&mut words);
    met && words.is_empty()
}

fn any(words: &mut Vec<&str>) -> bool {
    let mut met = all(words);
    while words.last() == Some(&"OR") {
        words.pop();
        let other = all(words);
        met = met || other;
    }
    met
}

fn all(words: &mut Vec<&str>) -> bool {
    let mut met = one(words);
    while words.last() == Some(&"AND") {
        words.pop();
        let other = one(words);
        met = met && other;
    }
    met
}

fn one(words: &mut Vec<&str>) -> bool {
    match words.pop() {
        Some("(") => {
            let met = any(words);
            words.pop() == Some(")") && met
        }
        Some(name) => {
            // An exception gives more rights, never fewer.
            if words.last() == Some(&"WITH") {
                words.pop();
                words.pop();
            }
            ALLOWED.contains(&name)
        }
        None => false,
    }
}
