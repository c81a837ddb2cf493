//! What processes said about shards that they took over.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Context;
use custos_e2e::World;

/// A shard was taken over.
pub struct Takeover {
    /// When it was done, in milliseconds since 1970.
    pub at_ms: u64,
    /// Which.
    pub shard: String,
    /// How long that took: from the group's assignment to the committed acquisition.
    pub took_ms: u64,
    /// What it began with: `cold` with nothing, `warm` with what a standby or a checkpoint knew, `misfit` if that did not fit.
    pub opening: String,
}

impl Takeover {
    /// When the group told the new owner, in milliseconds since 1970.
    pub const fn noticed_ms(&self) -> u64 {
        self.at_ms.saturating_sub(self.took_ms)
    }
}

/// The takeovers in what a process has said, in order.
pub fn of(said: &str) -> anyhow::Result<Vec<Takeover>> {
    said.lines().filter(|line| line.contains("shard taken over")).map(|line| read(&without_colours(line))).collect()
}

fn read(line: &str) -> anyhow::Result<Takeover> {
    let field = |name: &str| {
        let found = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.with_context(|| format!("no `{name}` in `{line}`"))
    };
    let at: jiff::Timestamp = line.split_whitespace().next().context("an empty line")?.parse()?;
    Ok(Takeover {
        at_ms: u64::try_from(at.as_millisecond())?,
        shard: field("shard")?.to_owned(),
        took_ms: field("took_ms")?.parse()?,
        opening: field("opening")?.trim_matches('"').to_owned(),
    })
}

fn without_colours(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    plain.extend(parts.filter_map(|part| part.split_once('m').map(|(_, text)| text)));
    plain
}

/// How often and how fast shards were taken over in the whole life of the world, those of processes that are gone included.
pub fn told(world: &World) -> anyhow::Result<String> {
    let mut took = Vec::new();
    let mut openings: BTreeMap<String, u32> = BTreeMap::new();
    for file in std::fs::read_dir(world.installation.folder())? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "err") {
            for takeover in of(&std::fs::read_to_string(path)?)? {
                took.push(takeover.took_ms);
                *openings.entry(takeover.opening).or_default() += 1;
            }
        }
    }
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
    let mut text = String::new();
    // Writing into a text does not fail.
    let _ = writeln!(
        text,
        "{} times a shard was taken over {openings:?}, in {} ms (half of them), {} ms (nine of ten), {} ms (all)",
        took.len(),
        at(50),
        at(90),
        at(100)
    );
    Ok(text)
}
