//! The watch list: which addresses are ours, and where a restarted follower reads on.
//!
//! Invariant: after [`WatchList::refresh`] the list holds every record that was committed before the call. Records that are not
//! authentic are counted and put aside, again after each restart: the topic is compacted, so it keeps no evidence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use custos_domain::{BlockRef, ChainId};
use custos_journal::{Entry, Journal, JournalError, Start};
use custos_messages::watch::{WatchRecord, WatchedAddress};
use custos_messages::{Keyring, Topic};
use custos_runtime::metrics::Metrics;
use custos_runtime::quarantine::Quarantine;

const MOST: usize = 1_024;
const LOOK: Duration = Duration::from_millis(100);
/// A log that has shown neither a record nor its end for so many looks (half a minute) does not answer.
const LOOKS_MAX: u32 = 300;

/// The watch list of one chain, as one follower holds it.
pub(crate) struct WatchList {
    chain: ChainId,
    journal: Arc<dyn Journal>,
    keyring: Arc<Keyring>,
    quarantine: Quarantine,
    places: Vec<Place>,
    watched: BTreeMap<Address, WatchedAddress>,
    cursor: Option<BlockRef>,
    fresh: Vec<WatchedAddress>,
}

/// How far a partition has been read.
#[derive(Clone, Copy, Default)]
struct Place {
    next: u64,
    end: Option<u64>,
}

impl WatchList {
    /// An empty list.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub(crate) fn open(
        chain: ChainId,
        journal: Arc<dyn Journal>,
        keyring: Arc<Keyring>,
        metrics: Metrics,
    ) -> Result<Self, JournalError> {
        let quarantine = Quarantine::open(&*journal, metrics, "follower")?;
        let (places, watched, fresh) = (Vec::new(), BTreeMap::new(), Vec::new());
        Ok(Self { chain, journal, keyring, quarantine, places, watched, cursor: None, fresh })
    }

    /// Reads everything that is committed now.
    ///
    /// # Errors
    /// The log does not answer; what was read stays, and the next call reads on.
    pub(crate) fn refresh(&mut self) -> Result<(), JournalError> {
        if self.places.is_empty() {
            let partitions = self.journal.partitions(Topic::Addresses)?;
            self.places = (0..partitions).map(|_| Place::default()).collect();
        }
        for (partition, place) in (0_u32..).zip(self.places.clone()) {
            let (first, end) = self.journal.bounds(Topic::Addresses, partition)?;
            if place.end != Some(end) {
                self.read(partition, place.next.max(first), end)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, partition: u32, from: u64, end: u64) -> Result<(), JournalError> {
        // A feed of its own each time: only then is its word about the end younger than `end`.
        let mut feed = self.journal.read(Topic::Addresses, partition, Start::At(from))?;
        let (mut next, mut looks) = (from, 0_u32);
        while next < end && !feed.at_end() {
            looks = looks.saturating_add(1);
            if looks > LOOKS_MAX {
                let reason = format!("partition {partition} does not come to its end at {end}");
                return Err(JournalError::Unavailable { operation: "read the watch list", reason });
            }
            for entry in feed.poll(MOST, LOOK)? {
                self.take(&entry)?;
                (next, looks) = (entry.offset.saturating_add(1), 0);
            }
            self.note(partition, Place { next, end: None });
        }
        // Not from `end` on the next time: an end that a new leader shows may be none.
        self.note(partition, Place { next, end: Some(end) });
        Ok(())
    }

    fn note(&mut self, partition: u32, place: Place) {
        let known = usize::try_from(partition).ok().and_then(|index| self.places.get_mut(index));
        if let Some(known) = known {
            *known = place;
        }
    }

    fn take(&mut self, entry: &Entry) -> Result<(), JournalError> {
        match self.keyring.open_message::<WatchRecord>(Topic::Addresses, &entry.record) {
            Ok((_, WatchRecord::Address(address))) if address.chain == self.chain => {
                self.watched.insert(Address::from(address.address.0), address.clone());
                // Also when it is known: treasury says it again as long as it has heard no answer.
                self.fresh.push(address);
            }
            Ok((_, WatchRecord::Cursor { chain, block })) if chain == self.chain => self.cursor = Some(block),
            Ok(_) => {}
            Err(rejection) => {
                let (partition, offset) = (entry.partition, entry.offset);
                tracing::error!(partition, offset, %rejection, "a record of the watch list is put aside");
                self.quarantine.reject(Topic::Addresses, entry, &rejection)?;
            }
        }
        Ok(())
    }

    /// Our addresses.
    pub(crate) const fn watched(&self) -> &BTreeMap<Address, WatchedAddress> {
        &self.watched
    }

    /// The cursor.
    pub(crate) const fn cursor(&self) -> Option<BlockRef> {
        self.cursor
    }

    /// Records read and not announced yet.
    pub(crate) fn fresh(&self) -> &[WatchedAddress] {
        &self.fresh
    }

    /// All fresh records are announced.
    pub(crate) fn announced(&mut self) {
        self.fresh.clear();
    }
}
