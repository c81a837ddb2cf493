//! What a machine hears, recorded once together with the answers that its own questions get, and played again on an empty state: as
//! decoded inputs, with the state records and the root of each batch, and as sealed records through the shard's own batch, which opens
//! and decodes each, and seals what it causes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use custos_domain::Timestamp;
use custos_journal::{Entry, LogIdentity};
use custos_messages::{Keyring, Postmark, Record, ShardName, Source, Topic};
use custos_runtime::shard::{Batch, Identity, LOGIC, Manifest, Memory, Overlay};
use custos_saga::machine::{Cause, Context, Effects, Machine, Touched, View};
use custos_testkit as kit;

use crate::usage;

/// Inputs of one transaction, as in production.
const BATCH: usize = 1_000;
const AT: Timestamp = Timestamp(1_700_000_000_000);

/// An input, and who says it.
pub type Said<M> = (Source, <M as Machine>::Input);

/// See the module.
pub struct Tape<M: Machine> {
    /// The inputs.
    pub said: Vec<Said<M>>,
    /// What they leave.
    pub state: BTreeMap<M::Key, M::Entity>,
    /// How many events they make.
    pub events: u64,
}

/// What playing a tape cost. Processor time is what counts on a machine that others use, in steps of 10 ms.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// From the first input to the last.
    pub took: Duration,
    /// Of the whole process meanwhile.
    pub processor_ms: u64,
    /// State records written.
    pub records: u64,
}

/// A path through a machine that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Path {
    /// The tape is made ready, and that is all.
    Nothing,
    /// Inputs are applied.
    Apply,
    /// And each batch gives its state records and its root.
    Records,
    /// Sealed records are opened and decoded.
    Decode,
    /// Everything that a shard does between the log and the log.
    Whole,
}

impl Path {
    /// What it does, in words.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Apply => "apply",
            Self::Records => "apply, state records and root",
            Self::Decode => "open and decode",
            Self::Whole => "open, decode, apply, seal outputs, state records and root",
        }
    }
}

impl Cost {
    fn since((began, processor_ms): (Instant, u64), records: u64) -> Self {
        let processor_ms = usage::processor_ms(std::process::id()).saturating_sub(processor_ms);
        Self { took: began.elapsed(), processor_ms, records }
    }
}

/// When and where every input of the bench is applied.
pub const fn context() -> Context {
    Context { at: AT, partition: 0, partitions: 1, logic: LOGIC }
}

impl<M: Machine> Tape<M> {
    /// An empty tape.
    pub fn new() -> Self {
        Self { said: Vec::new(), state: BTreeMap::new(), events: 0 }
    }

    /// The machine hears one input more.
    pub fn hear(&mut self, source: Source, message: M::Input) -> Effects
    where
        M::Input: Clone,
    {
        self.said.push((source, message.clone()));
        let mut overlay = Touched::default();
        let mut view = View::new(&self.state, &mut overlay);
        let effects = M::apply(&mut view, Cause::Message { source, message }, &context());
        for (key, entity) in overlay {
            match entity {
                Some(entity) => drop(self.state.insert(key, entity)),
                None => drop(self.state.remove(&key)),
            }
        }
        self.events = self.events.saturating_add(u64::try_from(effects.events.len()).unwrap_or(0));
        effects
    }

    /// Plays it along `path`, once.
    ///
    /// # Errors
    /// A record of it cannot be opened.
    pub fn play(&self, path: Path) -> Result<Cost>
    where
        M::Input: Clone,
    {
        let keyring = Arc::new(kit::keyring());
        // All paths make all of this ready, so that what is made ready can be taken off.
        let copies: Vec<Vec<Said<M>>> = self.said.chunks(BATCH).map(<[Said<M>]>::to_vec).collect();
        let sealed = self.sealed(&keyring);
        match path {
            Path::Nothing => {
                drop((copies, sealed));
                Ok(Cost { took: Duration::ZERO, processor_ms: 0, records: 0 })
            }
            Path::Apply => Ok(applied::<M>(copies, Keep::Nothing)),
            Path::Records => Ok(applied::<M>(copies, Keep::Records)),
            Path::Decode => {
                let began = (Instant::now(), usage::processor_ms(std::process::id()));
                for entry in sealed.iter().flatten() {
                    keyring.open_message::<M::Input>(Topic::Inbox(M::KIND), &entry.record)?;
                }
                Ok(Cost::since(began, 0))
            }
            Path::Whole => Ok(whole::<M>(sealed, keyring)),
        }
    }

    fn sealed(&self, keyring: &Keyring) -> Vec<Vec<Entry>> {
        let topic = Topic::Inbox(M::KIND);
        let record =
            |(source, message): &Said<M>| -> Record { keyring.seal_message(topic, *source, message, Postmark::default()) };
        let placed: Vec<Entry> = (0_u64..)
            .zip(&self.said)
            .map(|(offset, said)| Entry { partition: 0, offset, at: Some(AT), record: record(said) })
            .collect();
        placed.chunks(BATCH).map(<[Entry]>::to_vec).collect()
    }
}

/// What is done at the end of each batch besides taking the changes over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    Records,
}

fn applied<M: Machine>(copies: Vec<Vec<Said<M>>>, keep: Keep) -> Cost {
    let mut memory = Memory::<M>::default();
    let mut records = 0;
    let began = (Instant::now(), usage::processor_ms(std::process::id()));
    for batch in copies {
        let mut overlay = Overlay::<M>::default();
        for (source, message) in batch {
            let mut view = View::beside(&memory.settled, &memory.entities, &mut overlay.entities);
            drop(M::apply(&mut view, Cause::Message { source, message }, &context()));
        }
        let mut roots = memory.roots;
        if keep == Keep::Records {
            let (changed, after) = overlay.records(&memory);
            records += u64::try_from(changed.len()).unwrap_or(0);
            roots = after;
        }
        memory.merge(overlay, roots);
    }
    Cost::since(began, records)
}

fn whole<M: Machine>(sealed: Vec<Vec<Entry>>, keyring: Arc<Keyring>) -> Cost {
    let shard = ShardName { machine: M::KIND, partition: 0 };
    let identity = Identity { shard, partitions: 1, source: Source::of_machine(M::KIND), keyring, ahead: true };
    let mut memory = Memory::<M>::default();
    let mut manifest = first_manifest();
    let mut records = 0;
    let began = (Instant::now(), usage::processor_ms(std::process::id()));
    for entries in sealed {
        let mut batch = Batch::<M>::on(&manifest);
        for entry in entries {
            batch.take(&identity, &memory, entry, AT);
        }
        let (changed, roots) = batch.overlay.records(&memory);
        records += u64::try_from(changed.len()).unwrap_or(0);
        manifest = batch.manifest(&manifest, &roots);
        drop(manifest.record());
        memory.merge(batch.overlay, roots);
    }
    Cost::since(began, records)
}

/// Where a shard stands that has heard nothing.
pub fn first_manifest() -> Manifest {
    Manifest::first(LogIdentity { cluster: String::new(), inbox: String::new(), state: String::new(), partitions: 1 })
}
