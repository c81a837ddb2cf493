//! The shape of the code: files with a name and a size that a reader can hold.

use crate::Source;

/// Names that say nothing, so that everything ends up under them.
const VAGUE: &[&str] = &["utils", "util", "common", "helpers", "helper", "models", "types", "constants", "misc"];
const LINES_MAX: usize = 800;

/// Modules whose name is a drawer.
#[must_use]
pub fn vague_modules(sources: &[Source]) -> Vec<String> {
    let rust = sources.iter().filter(|source| source.is_rust());
    let vague = rust.filter(|source| source.path.split('/').any(|part| VAGUE.contains(&part.trim_end_matches(".rs"))));
    vague.map(|source| format!("{}: name the module after the one thing that it does", source.path)).collect()
}

/// Files that nobody can hold in mind.
#[must_use]
pub fn long_files(sources: &[Source]) -> Vec<String> {
    let rust = sources.iter().filter(|source| source.is_rust());
    let counted = rust.map(|source| (source, source.text.lines().count()));
    let long = counted.filter(|(_, lines)| *lines > LINES_MAX);
    long.map(|(source, lines)| format!("{}: {lines} lines; more than one unit of behaviour, so split it", source.path))
        .collect()
}

/// Examples in comments: nobody would run them, because the rings of tests run programs only.
#[must_use]
pub fn examples(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust() && !source.path.starts_with("tests/")) {
        let mut inside = false;
        for (number, line) in source.numbered() {
            let line = line.trim_start();
            let comment = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"));
            let Some(fence) = comment.and_then(|comment| comment.trim().strip_prefix("```")) else { continue };
            if !inside && fence != "text" {
                findings.push(format!("{}:{number}: an example that no ring runs; make it a test, or ```text", source.path));
            }
            inside = !inside;
        }
    }
    findings
}
