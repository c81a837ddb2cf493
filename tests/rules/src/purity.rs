//! What a machine, and the words it is made of, must not touch: clocks, chance, the world, and orders that differ from run to run.

use crate::Source;

/// The crates whose results must be a function of their arguments.
const PURE: &[&str] = &[
    "orchestrator/accounts",
    "orchestrator/treasury",
    "orchestrator/chain",
    "shared/saga",
    "shared/domain",
    "shared/policy",
];

/// What is ambient, and what to do instead.
const AMBIENT: &[(&str, &str)] = &[
    ("SystemTime", "time is an input: the log's, given to apply"),
    ("Instant", "time is an input: the log's, given to apply"),
    ("HashMap", "its order differs from run to run: BTreeMap"),
    ("HashSet", "its order differs from run to run: BTreeSet"),
    ("RandomState", "it is seeded by chance"),
    ("rand::", "ids derive from what caused them"),
    ("getrandom", "ids derive from what caused them"),
    ("std::env", "what a machine rests on is a record in the log"),
    ("std::fs", "return an effect; the edge performs it"),
    ("std::net", "return an effect; the edge performs it"),
    ("std::process", "return an effect; the edge performs it"),
    ("std::thread", "a machine runs on its shard's thread only"),
    ("thread_local!", "state is what the log has made"),
    ("println!", "say it as an event or an alarm"),
];

/// Everything ambient in pure crates, comments and test programs aside.
#[must_use]
pub fn ambient(sources: &[Source]) -> Vec<String> {
    let pure =
        |source: &&Source| source.is_rust() && PURE.iter().any(|crate_| source.path.starts_with(&format!("{crate_}/src/")));
    let mut findings = Vec::new();
    for source in sources.iter().filter(pure) {
        for (number, line) in source.numbered() {
            let code = line.split("//").next().unwrap_or_default();
            for (word, instead) in AMBIENT.iter().filter(|(word, _)| stands_in(code, word)) {
                findings.push(format!("{}:{number}: `{word}` in a pure crate; {instead}", source.path));
            }
        }
    }
    findings
}

/// Whether a word begins in the code where no longer word goes on.
fn stands_in(code: &str, word: &str) -> bool {
    let ends = |at: usize| {
        code.get(..at).and_then(|front| front.chars().next_back()).is_none_or(|c| !c.is_alphanumeric() && c != '_')
    };
    code.match_indices(word).any(|(at, _)| ends(at))
}

/// Pure crates have one clippy.toml, with the bans, and it repeats the workspace's settings, which it replaces.
#[must_use]
pub fn lints_of_pure_crates(sources: &[Source]) -> Vec<String> {
    let text = |path: &str| sources.iter().find(|source| source.path == path).map(|source| source.text.as_str());
    let settings = text("clippy.toml").unwrap_or_default();
    let first = PURE.first().and_then(|crate_| text(&format!("{crate_}/clippy.toml"))).unwrap_or_default();
    let mut findings = Vec::new();
    for crate_ in PURE {
        let path = format!("{crate_}/clippy.toml");
        let Some(own) = text(&path) else {
            findings.push(format!("{path}: is not there, so clocks and hash maps are not banned"));
            continue;
        };
        if own != first {
            findings.push(format!(
                "{path}: differs from that of {}; pure crates have the same bans",
                PURE.first().unwrap_or(&"")
            ));
        }
        for setting in settings.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            if !own.lines().any(|line| line == setting) {
                findings.push(format!("{path}: replaces the workspace's clippy.toml, so it must repeat `{setting}`"));
            }
        }
        for word in ["SystemTime::now", "Instant::now", "HashMap", "HashSet"] {
            if !own.contains(word) {
                findings.push(format!("{path}: does not ban {word}"));
            }
        }
    }
    findings
}
