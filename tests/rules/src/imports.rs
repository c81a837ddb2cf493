//! Who may import whom.
//!
//! Test code is free: only what is linked into the product counts. Nothing outside `shared`, `orchestrator`, `services` and `cli` is.

use std::collections::BTreeSet;

use crate::Source;

/// Which parts of Custos a crate may import. A crate of `shared` that is not listed has no place yet.
const LAYERS: &[(&str, &[&str])] = &[
    ("shared/domain", &[]),
    ("shared/messages", &["domain"]),
    ("shared/saga", &["domain", "messages"]),
    ("shared/policy", &["domain", "messages"]),
    ("shared/journal", &["domain", "messages"]),
    ("shared/readmodel", &["domain", "messages"]),
    ("shared/runtime", &["domain", "messages", "saga", "policy", "journal"]),
    ("shared/devchain", &[]),
    ("shared/testkit", &["domain", "messages", "policy"]),
    ("orchestrator/*", &["domain", "messages", "saga", "policy"]),
    ("services/*", &["domain", "messages", "policy", "journal", "runtime", "readmodel"]),
];

/// Libraries that only some crates may know, and why.
const OWNERS: &[(&[&str], &[&str], &str)] = &[
    (&["rdkafka", "rdkafka-sys"], &["shared/journal"], "the log has one seam: use custos-journal"),
    (&["bip32", "bip39", "age"], &["services/wallet"], "only the signer knows keys: ask it over wallet.commands"),
    (&["k256", "secp256k1"], &["services/wallet", "shared/devchain"], "only the signer signs transactions"),
    (
        &["ed25519-dalek"],
        &["shared/policy", "shared/testkit", "services/wallet", "cli"],
        "officers' signatures are made by the command and verified through custos-policy",
    ),
    (
        &["alloy", "alloy-provider", "alloy-rpc-client", "alloy-transport", "alloy-transport-http"],
        &["services/blockchain", "shared/devchain"],
        "only blockchain talks to chain nodes: ask it over blockchain.commands",
    ),
    (&["revm"], &["shared/devchain"], "the embedded chain is the only virtual machine here"),
    (&["sqlx"], &["shared/readmodel", "services/wallet"], "SQL is the read model's and the signing guard's"),
];

/// What a machine must not be able to reach: I/O, threads, clocks, chance, logs.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio-util",
    "tokio-stream",
    "futures",
    "rdkafka",
    "sqlx",
    "tracing",
    "reqwest",
    "axum",
    "tonic",
    "hyper",
    "jiff",
    "chrono",
    "time",
    "rand",
    "getrandom",
    "uuid",
    "crossbeam",
    "parking_lot",
];

/// What a Cargo.toml links into the product.
#[derive(Debug)]
pub struct Manifest {
    folder: String,
    name: String,
    links: BTreeSet<String>,
}

impl Manifest {
    /// The manifest of a product crate; `None` for other files and other crates.
    ///
    /// # Errors
    /// Text that is no TOML.
    pub fn read(source: &Source) -> Result<Option<Self>, String> {
        let Some(folder) = source.path.strip_suffix("/Cargo.toml") else { return Ok(None) };
        let product = folder == "cli" || ["shared/", "orchestrator/", "services/"].iter().any(|top| folder.starts_with(top));
        if !product {
            return Ok(None);
        }
        let table: toml::Table = source.text.parse().map_err(|error| format!("{}: {error}", source.path))?;
        let mut links = BTreeSet::new();
        gather(&table, &mut links);
        let platforms = table.get("target").and_then(toml::Value::as_table);
        for platform in platforms.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table) {
            gather(platform, &mut links);
        }
        let name = table.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
        Ok(Some(Self { folder: folder.to_owned(), name: name.unwrap_or_default().to_owned(), links }))
    }
}

/// Dependencies under their true names.
fn gather(table: &toml::Table, links: &mut BTreeSet<String>) {
    for kind in ["dependencies", "build-dependencies"] {
        let listed = table.get(kind).and_then(toml::Value::as_table);
        for (name, value) in listed.into_iter().flatten() {
            let renamed = value.get("package").and_then(toml::Value::as_str);
            links.insert(renamed.unwrap_or(name).to_owned());
        }
    }
}

/// Whether a folder is under a pattern, which may end in `/*`.
fn under(folder: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').map_or(folder == pattern, |top| folder.starts_with(top))
}

/// Imports against the order of layers, and whatever a machine imports that is not pure.
#[must_use]
pub fn layers(manifests: &[Manifest]) -> Vec<String> {
    let names: BTreeSet<&str> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    let mut findings = Vec::new();
    for manifest in manifests.iter().filter(|manifest| manifest.folder != "cli") {
        let folder = &manifest.folder;
        let Some((_, allowed)) = LAYERS.iter().find(|(pattern, _)| under(folder, pattern)) else {
            findings.push(format!("{folder}: has no layer; say in tests/rules/src/imports.rs what it may import"));
            continue;
        };
        for link in manifest.links.iter().filter(|link| names.contains(link.as_str())) {
            let part = link.strip_prefix("custos-").unwrap_or(link);
            if !allowed.contains(&part) {
                findings.push(format!(
                    "{folder}: imports {link}, but may import only {allowed:?}; services meet over topics, and what two crates \
                     need belongs into a lower layer"
                ));
            }
        }
        if under(folder, "orchestrator/*") {
            for link in IMPURE.iter().filter(|link| manifest.links.contains(**link)) {
                findings
                    .push(format!("{folder}: imports {link}; a machine is a pure function, so return an effect instead"));
            }
        }
    }
    findings
}

/// Libraries outside the crates that own them.
#[must_use]
pub fn owners(manifests: &[Manifest]) -> Vec<String> {
    let mut findings = Vec::new();
    for manifest in manifests {
        for (libraries, folders, why) in OWNERS {
            let owner = folders.contains(&manifest.folder.as_str());
            for library in libraries.iter().filter(|library| !owner && manifest.links.contains(**library)) {
                findings.push(format!("{}: imports {library}, which only {folders:?} may know: {why}", manifest.folder));
            }
        }
    }
    findings
}
