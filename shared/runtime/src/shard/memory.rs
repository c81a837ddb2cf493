//! What a shard holds in memory: the state as of the last commit, and over it what the open transaction changes.
//!
//! Invariant: nothing reaches [`Memory`] before its commit has succeeded; an abort drops the [`Overlay`].

use std::collections::{BTreeMap, BTreeSet};

use custos_domain::Timestamp;
use custos_messages::{Headers, Record, ShardName};
use custos_saga::machine::{Machine, Settled, StateError, TimerId, Touched};

use super::records::{
    PendingId, PendingMessage, RuntimeRecord, is_outbox_key, is_runtime_key, link_in_key, link_out_key, pending_key,
    timer_key,
};
use super::root::{Lately, Limbs, Roots, limbs};

/// The state as of the last commit.
pub struct Memory<M: Machine> {
    /// The machine's records.
    pub entities: BTreeMap<M::Key, M::Entity>,
    /// What is left of those that never change again.
    pub settled: Settled,
    /// Armed timers.
    pub timers: BTreeMap<TimerId, Timestamp>,
    /// The same by due time, so that waking does not look at timers that are not due.
    pub due: BTreeSet<(Timestamp, TimerId)>,
    /// Last numbers given out.
    pub link_out: BTreeMap<ShardName, u64>,
    /// Last numbers taken.
    pub link_in: BTreeMap<ShardName, u64>,
    /// Messages not yet struck off.
    pub pending: BTreeMap<PendingId, PendingMessage>,
    /// The hashes of all of the above.
    pub roots: Roots,
    lately: Lately<M::Key>,
}

/// What the open transaction changes. `None` removes.
pub struct Overlay<M: Machine> {
    /// The machine's records.
    pub entities: Touched<M::Key, M::Entity>,
    /// Timers.
    pub timers: BTreeMap<TimerId, Option<Timestamp>>,
    /// Numbers given out.
    pub link_out: BTreeMap<ShardName, u64>,
    /// Numbers taken.
    pub link_in: BTreeMap<ShardName, u64>,
    /// Messages put into the outbox or struck off.
    pub pending: BTreeMap<PendingId, Option<PendingMessage>>,
    /// What the changed records of the machine add to the root, once [`Overlay::records`] was asked for them.
    hashed: Vec<(M::Key, Option<Limbs>)>,
}

impl<M: Machine> Default for Memory<M> {
    fn default() -> Self {
        Self {
            entities: BTreeMap::new(),
            settled: Settled::new(),
            timers: BTreeMap::new(),
            due: BTreeSet::new(),
            link_out: BTreeMap::new(),
            link_in: BTreeMap::new(),
            pending: BTreeMap::new(),
            roots: Roots::default(),
            lately: Lately::default(),
        }
    }
}

impl<M: Machine> Default for Overlay<M> {
    fn default() -> Self {
        Self {
            entities: Touched::default(),
            timers: BTreeMap::new(),
            link_out: BTreeMap::new(),
            link_in: BTreeMap::new(),
            pending: BTreeMap::new(),
            hashed: Vec::new(),
        }
    }
}

impl<M: Machine> Memory<M> {
    /// Builds the state from the restored key and value bytes.
    ///
    /// # Errors
    /// The first record that this binary cannot read.
    pub fn load(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Self, StateError> {
        // Hashing needs nothing of what decoding gives, and a takeover waits for both.
        std::thread::scope(|scope| {
            let beside = std::thread::Builder::new().spawn_scoped(scope, || Roots::over(records));
            let mut memory = Self::decode(records)?;
            let hashed = beside.ok().and_then(|beside| beside.join().ok());
            memory.roots = hashed.unwrap_or_else(|| Roots::over(records));
            Ok(memory)
        })
    }

    /// The same without the hashes.
    fn decode(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Self, StateError> {
        let mut memory = Self::default();
        for (key, value) in records {
            if is_runtime_key(key) {
                match RuntimeRecord::read(key, value)? {
                    RuntimeRecord::Header | RuntimeRecord::Manifest(_) => continue,
                    RuntimeRecord::Timer(id, due) => {
                        memory.due.insert((due, id.clone()));
                        memory.timers.insert(id, due);
                    }
                    RuntimeRecord::LinkOut(to, sequence) => drop(memory.link_out.insert(to, sequence)),
                    RuntimeRecord::LinkIn(from, sequence) => drop(memory.link_in.insert(from, sequence)),
                    RuntimeRecord::Pending(id, message) => drop(memory.pending.insert(id, message)),
                }
            } else {
                let (name, entity) = M::decode(key, value)?;
                match M::settle(&name, &entity) {
                    Some((place, remains)) => {
                        memory.settled.insert(place, remains);
                    }
                    None => drop(memory.entities.insert(name, entity)),
                }
            }
        }
        Ok(memory)
    }

    /// Takes over what a committed transaction changed.
    pub fn merge(&mut self, overlay: Overlay<M>, roots: Roots) {
        for (key, change) in overlay.entities {
            match change.map(|entity| (M::settle(&key, &entity), entity)) {
                Some((Some((place, remains)), _)) => {
                    self.entities.remove(&key);
                    self.settled.insert(place, remains);
                }
                Some((None, entity)) => drop(self.entities.insert(key, entity)),
                None => drop(self.entities.remove(&key)),
            }
        }
        for (id, change) in overlay.timers {
            if let Some(was) = self.timers.remove(&id) {
                self.due.remove(&(was, id.clone()));
            }
            if let Some(due) = change {
                self.due.insert((due, id.clone()));
                self.timers.insert(id, due);
            }
        }
        merge(&mut self.pending, overlay.pending);
        self.link_out.extend(overlay.link_out);
        self.link_in.extend(overlay.link_in);
        for (key, limbs) in overlay.hashed {
            self.lately.note(key, limbs);
        }
        self.roots = roots;
    }
}

fn merge<K: Ord, V>(base: &mut BTreeMap<K, V>, changes: impl IntoIterator<Item = (K, Option<V>)>) {
    for (key, change) in changes {
        match change {
            Some(value) => drop(base.insert(key, value)),
            None => drop(base.remove(&key)),
        }
    }
}

impl<M: Machine> Overlay<M> {
    /// The due time of an armed timer, as the transaction sees it.
    pub fn timer(&self, memory: &Memory<M>, id: &TimerId) -> Option<Timestamp> {
        match self.timers.get(id) {
            Some(changed) => *changed,
            None => memory.timers.get(id).copied(),
        }
    }

    /// The last number taken from `from`.
    pub fn taken(&self, memory: &Memory<M>, from: ShardName) -> u64 {
        self.link_in.get(&from).or_else(|| memory.link_in.get(&from)).copied().unwrap_or(0)
    }

    /// Gives out the next number to `to`.
    pub fn number(&mut self, memory: &Memory<M>, to: ShardName) -> u64 {
        let last = self.link_out.get(&to).or_else(|| memory.link_out.get(&to)).copied().unwrap_or(0);
        let next = last.saturating_add(1);
        self.link_out.insert(to, next);
        next
    }

    /// The state records of this transaction, in key order, and the roots after it. What did not really change is left out.
    #[must_use]
    pub fn records(&mut self, memory: &Memory<M>) -> (Vec<Record>, Roots) {
        let mut delta = Delta { records: Vec::new(), roots: memory.roots };
        for (id, due) in &self.timers {
            let before = memory.timers.get(id);
            if before != due.as_ref() {
                let value = |due: Timestamp| RuntimeRecord::Timer(id.clone(), due).value();
                delta.change(timer_key(id), before.and_then(|due| value(*due)), due.and_then(value));
            }
        }
        for (to, number) in &self.link_out {
            let value = |number: u64| RuntimeRecord::LinkOut(*to, number).value();
            delta.change(link_out_key(*to), memory.link_out.get(to).and_then(|n| value(*n)), value(*number));
        }
        for (id, message) in &self.pending {
            let value = |message: &PendingMessage| message.value(*id);
            let (old, new) = (memory.pending.get(id).map(value), message.as_ref().map(value));
            delta.change(pending_key(*id), old, new);
        }
        for (from, number) in &self.link_in {
            let value = |number: u64| RuntimeRecord::LinkIn(*from, number).value();
            delta.change(link_in_key(*from), memory.link_in.get(from).and_then(|n| value(*n)), value(*number));
        }
        self.hashed = self.machine_records(memory, &mut delta);
        (delta.records, delta.roots)
    }

    /// The machine's own records: each that changed is written and hashed once, however often the transaction changed it.
    fn machine_records(&self, memory: &Memory<M>, delta: &mut Delta) -> Vec<(M::Key, Option<Limbs>)> {
        let touched = self.entities.in_order();
        delta.records.reserve(touched.len());
        let mut hashed = Vec::with_capacity(touched.len());
        for (name, entity) in touched {
            let before = memory.entities.get(name);
            if before == entity.as_ref() {
                continue;
            }
            let settles = entity.as_ref().and_then(|entity| M::settle(name, entity));
            if let Some((place, remains)) = settles
                && let Some(stands) = memory.settled.get(&place)
            {
                debug_assert_eq!(stands, remains, "what has settled is put again only as it was");
                continue;
            }
            let key = M::encode_key(name);
            if let Some(before) = before {
                let added = memory.lately.get(name).unwrap_or_else(|| limbs(&key, &M::encode_entity(before)));
                delta.roots.state.minus(added);
            }
            let value = entity.as_ref().map(M::encode_entity);
            let adds = value.as_ref().map(|value| limbs(&key, value));
            if let Some(adds) = adds {
                delta.roots.state.plus(adds);
            }
            // What settles never changes, so nobody will ask what it adds.
            hashed.push((name.clone(), if settles.is_some() { None } else { adds }));
            delta.records.push(Record { key, value, headers: Headers::new() });
        }
        hashed
    }
}

/// What a transaction writes of the runtime's own records.
struct Delta {
    records: Vec<Record>,
    roots: Roots,
}

impl Delta {
    fn change(&mut self, key: Vec<u8>, old: Option<Vec<u8>>, new: Option<Vec<u8>>) {
        if old == new {
            return;
        }
        let root = self.roots.of(is_outbox_key(&key));
        if let Some(old) = &old {
            root.take(&key, old);
        }
        if let Some(new) = &new {
            root.add(&key, new);
        }
        self.records.push(Record { key, value: new, headers: Headers::new() });
    }
}
