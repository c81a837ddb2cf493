//! Words that say that code is not finished.

use crate::Source;

/// In lower case.
const WORDS: &[&str] = &[
    "todo!",
    "unimplemented!",
    "todo:",
    "todo(",
    "fixme",
    "xxx:",
    "placeholder",
    "//! to be written",
    "not yet implemented",
    // A test that is skipped; a long one asks for `CUSTOS_TEST_LONG`.
    "#[ignore",
];

/// Where a word means something else.
const OTHER_MEANING: &[(&str, &str, &str)] =
    &[("shared/readmodel/src/cell.rs", "placeholder", "SQL's own word for a bound parameter")];

/// Every unfinished place in code; documents may speak of the future.
#[must_use]
pub fn unfinished(sources: &[Source]) -> Vec<String> {
    let code = |source: &&Source| {
        let kinds = [".rs", ".sh", ".toml", ".proto", ".sql"];
        kinds.iter().any(|kind| source.path.ends_with(kind)) && !source.path.starts_with("tests/rules/")
    };
    let mut findings = Vec::new();
    for source in sources.iter().filter(code) {
        for (number, line) in source.numbered() {
            let line = line.to_lowercase();
            let meant =
                |word: &&&str| !OTHER_MEANING.iter().any(|(path, other, _)| source.path == *path && **word == *other);
            for word in WORDS.iter().filter(|word| line.contains(**word)).filter(meant) {
                findings.push(format!(
                    "{}:{number}: `{word}`; finish it, or leave it out and say under \"deliberately absent\" what is missing",
                    source.path
                ));
            }
        }
    }
    findings
}
