//! The licences under which what we link may be used: permissive ones, judged by the package's own expression.
//!
//! The list stands in `deny.toml`, which cargo-deny reads too: it knows all platforms and features, this rule runs everywhere.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The licences that `deny.toml` allows: for everything, and for single packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Licences {
    all: BTreeSet<String>,
    of: BTreeMap<String, BTreeSet<String>>,
}

impl Licences {
    /// Reads them from the text of `deny.toml`, which cargo-deny reads too.
    ///
    /// # Errors
    /// It is no TOML, or allows nothing.
    pub fn read(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error| format!("deny.toml: {error}"))?;
        let licenses = table.get("licenses").and_then(toml::Value::as_table).ok_or("deny.toml: no [licenses]")?;
        let listed = |value: Option<&toml::Value>| -> BTreeSet<String> {
            let names = value.and_then(toml::Value::as_array).into_iter().flatten();
            names.filter_map(toml::Value::as_str).map(str::to_owned).collect()
        };
        let mut licences = Self { all: listed(licenses.get("allow")), of: BTreeMap::new() };
        let exceptions = licenses.get("exceptions").and_then(toml::Value::as_array);
        for exception in exceptions.into_iter().flatten() {
            let package =
                exception.get("crate").and_then(toml::Value::as_str).ok_or("deny.toml: an exception of no crate")?;
            licences.of.insert(package.to_owned(), listed(exception.get("allow")));
        }
        if licences.all.is_empty() { Err("deny.toml: no licence is allowed".to_owned()) } else { Ok(licences) }
    }

    fn allow(&self, package: &str, licence: &str) -> bool {
        self.all.contains(licence) || self.of.get(package).is_some_and(|own| own.contains(licence))
    }

    /// Whether the SPDX expression of `package` can be met by allowed licences alone; the old `/` means `OR`.
    #[must_use]
    pub fn permit(&self, package: &str, expression: &str) -> bool {
        let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
        let met = any(&mut words, &|licence| self.allow(package, licence));
        met && words.is_empty()
    }
}

/// Packages whose licence does not let a bank link them, by cargo's description of the workspace.
#[must_use]
pub fn forbidden(licences: &Licences, metadata: &Value) -> Vec<String> {
    let packages = metadata.get("packages").and_then(Value::as_array);
    let built: Vec<&str> = resolved(metadata);
    let mut findings = Vec::new();
    for package in packages.into_iter().flatten() {
        let text = |name: &str| package.get(name).and_then(Value::as_str).unwrap_or_default();
        if !built.contains(&text("id")) {
            continue;
        }
        let licence = text("license");
        if !licences.permit(text("name"), licence) {
            findings.push(format!(
                "{} {}: licence `{licence}`; take another library, or argue for the licence in deny.toml",
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

fn any(words: &mut Vec<&str>, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all(words, allowed);
    while words.last() == Some(&"OR") {
        words.pop();
        let other = all(words, allowed);
        met = met || other;
    }
    met
}

fn all(words: &mut Vec<&str>, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(words, allowed);
    while words.last() == Some(&"AND") {
        words.pop();
        let other = one(words, allowed);
        met = met && other;
    }
    met
}

fn one(words: &mut Vec<&str>, allowed: &dyn Fn(&str) -> bool) -> bool {
    match words.pop() {
        Some("(") => {
            let met = any(words, allowed);
            words.pop() == Some(")") && met
        }
        Some(name) => {
            // An exception gives more rights, never fewer.
            if words.last() == Some(&"WITH") {
                words.pop();
                words.pop();
            }
            allowed(name)
        }
        None => false,
    }
}
