//! Documents that code or readers rely on: pages of errors, decisions, the README.

use std::collections::{BTreeMap, BTreeSet};

use crate::Source;

const README_LINES_MAX: usize = 150;

/// Codes such as `CUST-0001` without a page in docs/errors, and pages without a code.
#[must_use]
pub fn error_pages(sources: &[Source]) -> Vec<String> {
    let mut used: BTreeMap<String, String> = BTreeMap::new();
    let mut pages: BTreeSet<String> = BTreeSet::new();
    for source in sources {
        if source.is_rust() && !source.path.starts_with("tests/") {
            for code in codes(&source.text) {
                used.entry(code).or_insert_with(|| source.path.clone());
            }
        } else if let Some(page) = source.path.strip_prefix("docs/errors/").and_then(|name| name.strip_suffix(".md")) {
            pages.extend(codes(page));
        }
    }
    let unexplained = used.iter().filter(|(code, _)| !pages.contains(*code)).map(|(code, path)| {
        format!("{path}: says {code}, but docs/errors/{code}.md is not there: meaning, is money at risk, what to do")
    });
    let unused = pages.iter().filter(|code| !used.contains_key(*code));
    let unused =
        unused.map(|code| format!("docs/errors/{code}.md: no code says {code}; a number is never used for another error"));
    unexplained.chain(unused).collect()
}

/// Everything of the form `CUST-` and four digits.
fn codes(text: &str) -> Vec<String> {
    let behind = text.split("CUST-").skip(1);
    let digits = behind.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    digits.filter(|digits| digits.len() == 4).map(|digits| format!("CUST-{digits}")).collect()
}

/// Decisions without a number of their own.
#[must_use]
pub fn decisions(sources: &[Source]) -> Vec<String> {
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    let mut findings = Vec::new();
    for source in sources {
        let Some(name) = source.path.strip_prefix("docs/decisions/").filter(|name| *name != "README.md") else { continue };
        let number = name.split_once('-').map(|(number, _)| number);
        let Some(number) = number.filter(|number| number.len() == 4 && number.chars().all(|c| c.is_ascii_digit())) else {
            findings.push(format!("{}: a decision begins with four digits and a hyphen", source.path));
            continue;
        };
        if let Some(other) = numbers.insert(number, name) {
            findings.push(format!("{}: {number} is the number of {other}, too; take the next free one", source.path));
        }
    }
    findings
}

/// A README that is absent or that nobody reads to its end.
#[must_use]
pub fn readme(sources: &[Source]) -> Vec<String> {
    match sources.iter().find(|source| source.path == "README.md").map(|source| source.text.lines().count()) {
        None => vec!["README.md: is not there".to_owned()],
        Some(lines) if lines >= README_LINES_MAX => {
            vec![format!("README.md: {lines} lines, not under {README_LINES_MAX}; details belong into docs")]
        }
        Some(_) => Vec::new(),
    }
}
