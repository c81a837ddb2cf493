//! The house rules hold in this repository, and each checker finds what is wrong in a bad sample.

use custos_rules::{
    Licences, Manifest, Source, ambient, decisions, error_pages, examples, forbidden, layers, lints_of_pure_crates,
    long_files, machine_traces, metadata, owners, readme, tracked, unfinished, vague_modules,
};

fn holds(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// The checker says one thing about the sample, and it contains these words.
fn finds(findings: &[String], words: &str) {
    assert!(matches!(findings, [only] if only.contains(words)), "should say `{words}`: {findings:#?}");
}

fn manifests(sources: &[Source]) -> Vec<Manifest> {
    let read = sources.iter().map(|source| Manifest::read(source).unwrap_or_else(|error| panic!("{error}")));
    read.flatten().collect()
}

/// A crate of this folder with these dependencies.
fn package(folder: &str, dependencies: &str) -> Source {
    let name = folder.rsplit('/').next().unwrap_or(folder);
    Source::new(
        &format!("{folder}/Cargo.toml"),
        &format!("[package]\nname = \"custos-{name}\"\n[dependencies]\n{dependencies}"),
    )
}

#[test]
fn imports_follow_the_layers() {
    let manifests = manifests(&tracked());
    assert!(manifests.len() >= 18, "the manifests were found");
    holds(&layers(&manifests));
}

#[test]
fn an_import_against_the_layers_is_found() {
    let base = [package("shared/saga", ""), package("services/wallet", ""), package("orchestrator/chain", "")];
    let with = |bad: Source| layers(&manifests(&[&base[..], &[bad]].concat()));
    finds(&with(package("services/gateway", "custos-wallet.workspace = true")), "imports custos-wallet");
    finds(&with(package("services/gateway", "custos-saga = { path = \"x\" }")), "imports custos-saga");
    finds(&with(package("services/gateway", "kernel = { package = \"custos-saga\", path = \"x\" }")), "imports custos-saga");
    finds(&with(package("orchestrator/accounts", "custos-chain.workspace = true")), "imports custos-chain");
    finds(&with(package("orchestrator/accounts", "tokio.workspace = true")), "a machine is a pure function");
    finds(&with(package("shared/novelty", "")), "has no layer");
    holds(&with(package("cli", "custos-wallet.workspace = true\ncustos-chain.workspace = true")));
}

#[test]
fn libraries_stay_with_their_owners() {
    holds(&owners(&manifests(&tracked())));
}

#[test]
fn a_library_outside_its_owner_is_found() {
    let with = |bad: Source| owners(&manifests(&[bad]));
    finds(&with(package("shared/runtime", "rdkafka.workspace = true")), "use custos-journal");
    finds(&with(package("cli", "bip39.workspace = true")), "only the signer knows keys");
    finds(&with(package("services/gateway", "alloy.workspace = true")), "only blockchain talks to chain nodes");
    let platform = "[target.'cfg(unix)'.dependencies]\nrdkafka = \"1\"";
    finds(&with(package("shared/runtime", platform)), "use custos-journal");
    holds(&with(package("services/gateway", "[dev-dependencies]\nalloy.workspace = true")));
}

#[test]
fn no_code_is_unfinished() {
    holds(&unfinished(&tracked()));
}

#[test]
fn unfinished_code_is_found() {
    finds(&unfinished(&[Source::new("cli/src/a.rs", "fn a() {\n    todo!()\n}")]), "cli/src/a.rs:2: `todo!`");
    finds(&unfinished(&[Source::new("cli/src/a.rs", "// Fixme")]), "`fixme`");
    finds(&unfinished(&[Source::new("cli/src/a.rs", "//! A placeholder.")]), "`placeholder`");
    finds(&unfinished(&[Source::new("cli/tests/a.rs", "#[test]\n#[ignore = \"slow\"]")]), "cli/tests/a.rs:2: `#[ignore`");
    holds(&unfinished(&[Source::new("docs/a.md", "what is to be written")]));
}

#[test]
fn modules_are_named_after_what_they_do() {
    holds(&vague_modules(&tracked()));
}

#[test]
fn a_module_that_is_a_drawer_is_found() {
    finds(&vague_modules(&[Source::new("cli/src/utils.rs", "")]), "name the module");
    finds(&vague_modules(&[Source::new("cli/src/common/a.rs", "")]), "name the module");
    holds(&vague_modules(&[Source::new("cli/src/commons.rs", "")]));
}

#[test]
fn files_can_be_held_in_mind() {
    holds(&long_files(&tracked()));
}

#[test]
fn a_file_of_801_lines_is_found() {
    finds(&long_files(&[Source::new("cli/src/a.rs", &"\n".repeat(801))]), "801 lines");
    holds(&long_files(&[Source::new("cli/src/a.rs", &"\n".repeat(800))]));
}

#[test]
fn examples_are_tests() {
    holds(&examples(&tracked()));
}

#[test]
fn an_example_that_nobody_runs_is_found() {
    finds(&examples(&[Source::new("cli/src/a.rs", "/// ```\n/// a();\n/// ```\nfn a() {}")]), "cli/src/a.rs:1");
    holds(&examples(&[Source::new("cli/src/a.rs", "/// ```text\n/// a -> b\n/// ```\nfn a() {}")]));
}

#[test]
fn machines_touch_nothing_ambient() {
    holds(&ambient(&tracked()));
}

#[test]
fn an_ambient_thing_in_a_machine_is_found() {
    let sample = |text| ambient(&[Source::new("orchestrator/chain/src/a.rs", text)]);
    finds(&sample("use std::time::SystemTime;"), "time is an input");
    finds(&sample("let seen: HashMap<u8, u8>;"), "BTreeMap");
    finds(&sample("fn a() { std::fs::read(b) }"), "return an effect");
    holds(&sample("// no HashMap here\nlet operand::Brand = 1;"));
    holds(&ambient(&[Source::new("services/wallet/src/a.rs", "use std::time::SystemTime;")]));
}

#[test]
fn pure_crates_have_the_bans() {
    holds(&lints_of_pure_crates(&tracked()));
}

#[test]
fn a_pure_crate_without_the_bans_is_found() {
    let bans = "a = 1\n# SystemTime::now Instant::now HashMap HashSet\n";
    let places = ["orchestrator/accounts", "orchestrator/treasury", "orchestrator/chain", "shared/saga", "shared/domain"];
    let mut sources = vec![Source::new("clippy.toml", "a = 1\n")];
    sources.extend(places.iter().map(|place| Source::new(&format!("{place}/clippy.toml"), bans)));
    finds(&lints_of_pure_crates(&sources), "shared/policy/clippy.toml: is not there");
    sources.push(Source::new("shared/policy/clippy.toml", bans));
    holds(&lints_of_pure_crates(&sources));
    sources.push(Source::new("clippy.toml", "a = 1\n"));
    sources[0].text.push_str("b = 2\n");
    let findings = lints_of_pure_crates(&sources);
    assert!(findings.len() == 6 && findings.iter().all(|finding| finding.contains("must repeat `b = 2`")), "{findings:#?}");
}

#[test]
fn files_say_nothing_of_the_machines_they_were_written_on() {
    holds(&machine_traces(&tracked()));
}

#[test]
fn a_trace_of_a_machine_is_found() {
    let sample = |path: &str, text: &str| machine_traces(&[Source::new(path, text)]);
    finds(&sample("docs/a.md", "see /home/someone/a"), "`/home/`");
    finds(&sample("cli/src/a.rs", "let path = \"/tmp/a\";"), "`/tmp/`");
    finds(&sample("package.json", "https://registry.npmjs.org/a"), "`npmjs.`");
    finds(&sample("Cargo.lock", "# crates.io"), "`crates.io`");
    holds(&sample("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\""));
    holds(&sample("docs/a.md", "services/home/a and $top/root/b"));
}

#[test]
fn every_error_code_has_its_page() {
    holds(&error_pages(&tracked()));
}

#[test]
fn a_code_without_a_page_and_a_page_without_a_code_are_found() {
    let code = Source::new("cli/src/a.rs", "code = \"CUST-9001\"");
    let page = Source::new("docs/errors/CUST-9001.md", "");
    finds(&error_pages(std::slice::from_ref(&code)), "docs/errors/CUST-9001.md is not there");
    finds(&error_pages(std::slice::from_ref(&page)), "no code says CUST-9001");
    holds(&error_pages(&[code, page]));
}

#[test]
fn decisions_have_numbers_of_their_own() {
    holds(&decisions(&tracked()));
}

#[test]
fn a_decision_with_a_taken_number_is_found() {
    let named = |name: &str| Source::new(&format!("docs/decisions/{name}"), "");
    finds(&decisions(&[named("0001-a.md"), named("0001-b.md")]), "0001 is the number of 0001-a.md");
    finds(&decisions(&[named("store.md")]), "four digits");
}

#[test]
fn the_readme_is_short() {
    holds(&readme(&tracked()));
}

#[test]
fn a_readme_of_150_lines_is_found() {
    finds(&readme(&[Source::new("README.md", &"\n".repeat(150))]), "150 lines");
    finds(&readme(&[]), "is not there");
    holds(&readme(&[Source::new("README.md", &"\n".repeat(149))]));
}

#[test]
fn everything_linked_is_permissive() {
    let metadata = metadata();
    let packages = metadata.get("packages").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
    assert!(packages > 100, "cargo names {packages} packages");
    holds(&forbidden(&allowed(), &metadata));
}

/// What this repository allows.
fn allowed() -> Licences {
    let deny = tracked().into_iter().find(|source| source.path == "deny.toml").expect("deny.toml is tracked");
    Licences::read(&deny.text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_list_of_licences_that_allows_nothing_is_no_list() {
    for text in ["", "[licenses]", "[licenses]\nallow = []", "[licenses"] {
        assert!(Licences::read(text).is_err(), "{text}");
    }
    let one = Licences::read("[licenses]\nallow = [\"MIT\"]\nexceptions = [{ crate = \"a\", allow = [\"NCSA\"] }]")
        .unwrap_or_default();
    assert!(one.permit("a", "MIT AND NCSA") && !one.permit("b", "MIT AND NCSA"), "an exception is of one package");
}

#[test]
fn a_licence_that_binds_the_bank_is_found() {
    let licences = allowed();
    for (expression, permitted) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("Apache-2.0 / MIT", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("MIT OR GPL-3.0-only", true),
        ("MIT AND GPL-3.0-only", false),
        ("AGPL-3.0-or-later", false),
        ("BUSL-1.1", false),
        ("GPL-2.0-only WITH Classpath-exception-2.0", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(licences.permit("a", expression), permitted, "{expression}");
    }
    let sample = serde_json::json!({
        "packages": [
            { "id": "a 1", "name": "a", "version": "1", "license": "AGPL-3.0-only" },
            { "id": "b 1", "name": "b", "version": "1", "license": "MIT" },
            { "id": "c 1", "name": "c", "version": "1", "license": null },
        ],
        "resolve": { "nodes": [{ "id": "a 1" }, { "id": "b 1" }] },
    });
    finds(&forbidden(&licences, &sample), "a 1: licence `AGPL-3.0-only`");
}
