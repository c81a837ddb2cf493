//! What is left of a saga that has ended, for ever: enough to answer whoever repeats its request, and to tell an operator how it ended.
//!
//! Invariant: a repeat is judged by what is left, whether the record itself is still at hand or not, so that the answer is the same
//! before and after the commit. What is left of the fingerprint are 127 bits of a digest: two requests that agree in them cannot be found.

use custos_domain::{Digest, SagaId};
use custos_saga::machine::{Place, Remains};

use crate::desk::Rows;
use crate::state::{Entity, Finished, Key};

/// The lowest bit says how it ended; the others are the fingerprint's.
const COMPLETED: u128 = 1;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended(Remains);

impl Ended {
    pub(crate) fn of(finished: &Finished) -> Self {
        let completed = if finished.completed { COMPLETED } else { 0 };
        Self(Remains((kept_of(&finished.fingerprint) | completed).to_be_bytes()))
    }

    /// Whether it came from the request with this fingerprint.
    pub(crate) fn came_from(self, fingerprint: &Digest) -> bool {
        self.number() & !COMPLETED == kept_of(fingerprint)
    }

    /// Whether it did what was asked.
    pub(crate) fn completed(self) -> bool {
        self.number() & COMPLETED == COMPLETED
    }

    fn number(self) -> u128 {
        u128::from_be_bytes(self.0.0)
    }
}

/// What is kept of a fingerprint.
fn kept_of(fingerprint: &Digest) -> u128 {
    u128::from_be_bytes(fingerprint.0.first_chunk().copied().unwrap_or_default()) & !COMPLETED
}

/// Both halves of the identity are hashes, and the second is also over the first: together they are as good as a hash of both.
fn place_of(id: &SagaId) -> Place {
    let account = u128::from_be_bytes(id.account.0);
    Place((account ^ u128::from_be_bytes(id.local)).to_be_bytes())
}

/// What the runtime keeps of a record in its stead.
pub(crate) fn settle(key: &Key, entity: &Entity) -> Option<(Place, Remains)> {
    match (key, entity) {
        (Key::Finished(id), Entity::Finished(finished)) => Some((place_of(id), Ended::of(finished).0)),
        _ => None,
    }
}

/// What is left of the saga `id`, if it has ended.
pub(crate) fn ended(rows: &dyn Rows, id: &SagaId) -> Option<Ended> {
    match rows.get(&Key::Finished(*id)) {
        Some(Entity::Finished(finished)) => Some(Ended::of(finished)),
        _ => rows.settled(&place_of(id)).map(Ended),
    }
}
