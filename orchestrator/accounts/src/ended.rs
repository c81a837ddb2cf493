//! What is left of a saga that has ended, for ever: enough to answer whoever repeats its request, and to tell an operator how it ended.
//!
//! Invariant: a repeat is judged by what is left, whether the record itself is still at hand or not, so that the answer is the same
//! before and after the commit. What is left of the fingerprint are 111 bits of a digest: two requests that agree in them cannot be found.

use custos_domain::{Digest, SagaId};
use custos_saga::machine::{Place, Remains};

use crate::desk::Rows;
use crate::state::{Entity, Finished, Key};

/// The lowest bit of the last byte says how it ended; all others are the fingerprint's.
const COMPLETED: u8 = 1;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended(Remains);

impl Ended {
    pub(crate) fn of(finished: &Finished) -> Self {
        let mut kept: [u8; 14] = finished.fingerprint.0.first_chunk().copied().unwrap_or_default();
        let [.., last] = &mut kept;
        *last = (*last & !COMPLETED) | u8::from(finished.completed);
        Self(Remains(kept))
    }

    /// Whether it came from the request with this fingerprint.
    pub(crate) fn came_from(self, fingerprint: &Digest) -> bool {
        self == Self::of(&Finished { fingerprint: *fingerprint, completed: self.completed() })
    }

    /// Whether it did what was asked.
    pub(crate) const fn completed(self) -> bool {
        let [.., last] = self.0.0;
        last & COMPLETED == COMPLETED
    }
}

/// Both halves of the identity are hashes, and the second is also over the first: together they are as good as a hash of both.
fn place_of(id: &SagaId) -> Place {
    let both = u128::from_be_bytes(id.account.0) ^ u128::from_be_bytes(id.local);
    Place(both.to_be_bytes().first_chunk().copied().unwrap_or_default())
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
