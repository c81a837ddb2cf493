//! The question in the end: was every input counted once, is every output there, and does the log hold what owners were told?

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use custos_journal::{Counts, Entry, Journal, Start};
use custos_messages::Topic;

use super::{Diary, INBOX, Manifest, Memory, OUTPUTS, STATE, count, is_header, numbers, root};

/// Records asked for at once.
const MANY: usize = 10_000;
/// How long one question waits.
const LITTLE: Duration = Duration::from_millis(100);

/// What the state topic still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Every record.
    All,
    /// Every record; but brokers forgot markers, and what an owner was told is committed may have been taken back.
    #[allow(dead_code, reason = "each test program uses its own part")]
    TakenBack,
    /// It is compacted: the newest record of each key, headers and manifests included.
    Newest,
}

/// What a run met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub inputs: u64,
    pub transactions: u64,
    pub takeovers: u64,
    pub repairs: u64,
    /// Attempts of which outputs, and no manifest, are visible.
    pub tears: u64,
    /// Outputs that were said again.
    pub repeats: u64,
    pub counts: Counts,
    pub trace: [u8; 32],
}

impl Report {
    /// Both together.
    pub fn with(mut self, other: &Self) -> Self {
        self.inputs += other.inputs;
        self.transactions += other.transactions;
        self.takeovers += other.takeovers;
        self.repairs += other.repairs;
        self.tears += other.tears;
        self.repeats += other.repeats;
        self.counts.late_arrivals += other.counts.late_arrivals;
        self.counts.stray_ends += other.counts.stray_ends;
        self.counts.kills += other.counts.kills;
        self.counts.lost_records += other.counts.lost_records;
        self.counts.leaders_behind += other.counts.leaders_behind;
        self.counts.markers_forgotten += other.counts.markers_forgotten;
        self.counts.producers_opened += other.counts.producers_opened;
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inputs, transactions, takeovers, repairs, tears, repeats, counts, .. } = self;
        write!(
            to,
            "inputs {inputs}, transactions {transactions}, takeovers {takeovers}, repairs {repairs}, tears {tears}, "
        )?;
        write!(
            to,
            "outputs said again {repeats}, late requests {}, stray ends {}, ",
            counts.late_arrivals, counts.stray_ends
        )?;
        let Counts { kills, lost_records, producers_opened, .. } = counts;
        write!(to, "kills {kills}, records lost with a broker {lost_records}, producers {producers_opened}")
    }
}

/// Everything that is committed in a partition.
pub fn everything(journal: &dyn Journal, topic: Topic, partition: u32) -> Vec<Entry> {
    let mut feed = journal.read(topic, partition, Start::Earliest).unwrap();
    let mut all = Vec::new();
    loop {
        let entries = feed.poll(MANY, LITTLE).unwrap();
        if entries.is_empty() && feed.at_end() {
            return all;
        }
        all.extend(entries);
    }
}

/// What must hold when everything is at rest.
pub fn judge(journal: &dyn Journal, partition: u32, diary: &Diary, kept: Kept) -> Result<Report, String> {
    let inputs: Vec<(u64, u64)> =
        everything(journal, INBOX, partition).iter().map(|entry| (entry.offset, numbers(&entry.record)[0])).collect();
    let state = everything(journal, STATE, partition);
    let manifests: Vec<Manifest> = state.iter().filter_map(|entry| Manifest::read(&entry.record)).collect();
    let names: BTreeSet<(u64, u64)> = manifests.iter().map(|manifest| (manifest.transaction, manifest.attempt)).collect();
    let mut report = Report {
        inputs: u64::try_from(inputs.len()).unwrap(),
        transactions: diary.transactions,
        takeovers: diary.takeovers,
        repairs: diary.repairs,
        ..Report::default()
    };
    let mut torn = BTreeSet::new();
    for topic in OUTPUTS {
        let said: Vec<Vec<u64>> = everything(journal, topic, partition).iter().map(|entry| numbers(&entry.record)).collect();
        report.repeats += judge_outputs(topic, &said, &inputs)?;
        torn.extend(said.iter().map(|said| (said[3], said[4])).filter(|name| !names.contains(name)));
    }
    judge_state(&manifests, &state, &inputs)?;
    if let Some(twice) = &diary.twice {
        return Err(twice.clone());
    }
    // A compacted topic has only the newest header and manifest.
    if kept == Kept::Newest {
        return Ok(report);
    }
    judge_chain(&manifests)?;
    report.tears = u64::try_from(torn.len()).unwrap();
    // What the brokers forgot to end is taken back whole.
    if kept == Kept::All {
        judge_told(diary, &names)?;
        let traces: BTreeSet<(u64, u64)> = state
            .iter()
            .filter(|entry| is_header(&entry.record))
            .map(|entry| (numbers(&entry.record)[0], numbers(&entry.record)[1]))
            .collect();
        if let Some(name) = torn.iter().find(|name| !traces.contains(name)) {
            return Err(format!("a tear without a trace: outputs of {name:?} are visible, no header, no manifest"));
        }
    }
    Ok(report)
}

/// A reader that takes the next, drops what it has, and stops at a gap: has it heard of each input once? Returns the repeats.
fn judge_outputs(topic: Topic, said: &[Vec<u64>], inputs: &[(u64, u64)]) -> Result<u64, String> {
    let mut heard: u64 = 0;
    let mut repeats = 0;
    for fields in said {
        let (sequence, about) = (fields[0], (fields[1], fields[2]));
        if sequence > heard + 1 {
            return Err(format!("{}: output {} is lost, {sequence} follows", topic.name(), heard + 1));
        }
        if inputs.get(usize::try_from(sequence - 1).unwrap()) != Some(&about) {
            return Err(format!("{}: output {sequence} speaks of {about:?}", topic.name()));
        }
        if sequence == heard + 1 {
            heard = sequence;
        } else {
            repeats += 1;
        }
    }
    if heard != u64::try_from(inputs.len()).unwrap() {
        return Err(format!("{}: {heard} outputs for {} inputs", topic.name(), inputs.len()));
    }
    Ok(repeats)
}

/// The newest state is that of every input counted once.
fn judge_state(manifests: &[Manifest], state: &[Entry], inputs: &[(u64, u64)]) -> Result<(), String> {
    let mut expected = Memory::new();
    for (_, number) in inputs {
        count(&mut expected, *number);
    }
    let mut found = Memory::new();
    for entry in state.iter().filter(|entry| !is_header(&entry.record) && Manifest::read(&entry.record).is_none()) {
        let name = String::from_utf8(entry.record.key.clone()).unwrap();
        match numbers(&entry.record).first() {
            Some(value) => drop(found.insert(name, *value)),
            None => drop(found.remove(&name)),
        }
    }
    let last = manifests.last().ok_or("there is no manifest")?;
    if found != expected || last.root != root(&expected) {
        return Err(format!("the state is {found:?}, {expected:?} was to be; {last:?}"));
    }
    Ok(())
}

/// Manifests are dense.
fn judge_chain(manifests: &[Manifest]) -> Result<(), String> {
    let dense = manifests.iter().zip(1..).all(|(manifest, number)| manifest.transaction == number);
    let forward = manifests.windows(2).all(|pair| pair[0].next <= pair[1].next && pair[0].attempt <= pair[1].attempt);
    if dense && forward { Ok(()) } else { Err(format!("the manifests are no chain: {manifests:?}")) }
}

/// Manifests tell what the owners were told.
fn judge_told(diary: &Diary, names: &BTreeSet<(u64, u64)>) -> Result<(), String> {
    if let Some(name) = diary.committed.difference(names).next() {
        return Err(format!("{name:?} was committed, and its manifest is not there"));
    }
    if let Some(name) = diary.aborted.intersection(names).next() {
        return Err(format!("{name:?} was aborted, and its manifest is there"));
    }
    Ok(())
}
