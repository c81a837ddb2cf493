//! Records that will never change again, kept as little as a question about them needs: fourteen bytes that say where each stood, and
//! fourteen that say what is left of it.
//!
//! Entries lie in pages of up to [`PAGE_MAX`], each responsible for a range of places, and a page in pieces of one size, as they came: the
//! table grows by a piece at a time, never moves as a whole, and all that it takes from the allocator has one size. Invariants: an
//! entry never changes and never goes; what is found depends on what was put in and on nothing else, not even on the order.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Where a record stood: as good as the whole key, because it is a hash or made of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub [u8; 14]);

/// What is left of a record, as its machine wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains(pub [u8; 14]);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Pages by the lowest place that belongs to each.
    pages: BTreeMap<Place, Page>,
    count: usize,
}

type Entry = (Place, Remains);

/// The first `taken` entries of its pieces are those that it holds.
#[derive(Clone, Debug, Default)]
struct Page {
    #[expect(
        clippy::vec_box,
        reason = "pieces in one block would be moved to a block of another size with every piece more"
    )]
    pieces: Vec<Box<[Entry; PIECE]>>,
    taken: usize,
}

/// Entries of a piece: just below 256 bytes, as allocators have them.
const PIECE: usize = 9;
/// The most entries of a page; then it is cut in two. All of them are looked at for one that is not there.
const PAGE_MAX: usize = 72;
const LOWEST: Place = Place([0; 14]);

impl Settled {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self { pages: BTreeMap::new(), count: 0 }
    }

    /// What is left of the record that stood at `place`.
    #[must_use]
    pub fn get(&self, place: &Place) -> Option<Remains> {
        let (_, page) = self.pages.range(..=*place).next_back()?;
        page.find(place)
    }

    /// Keeps what is left of a record; `false`, and nothing changes, if its place is taken.
    pub fn insert(&mut self, place: Place, remains: Remains) -> bool {
        let page = match self.pages.range_mut((Bound::Unbounded, Bound::Included(place))).next_back() {
            Some((_, page)) => page,
            None => self.pages.entry(LOWEST).or_default(),
        };
        if page.find(&place).is_some() {
            return false;
        }
        let upper = if page.taken == PAGE_MAX { page.cut() } else { None };
        match upper {
            Some((first, mut upper)) => {
                let into = if place < first { page } else { &mut upper };
                into.push((place, remains));
                self.pages.insert(first, upper);
            }
            None => page.push((place, remains)),
        }
        self.count = self.count.saturating_add(1);
        true
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The same entries, in whatever order they came.
impl PartialEq for Settled {
    fn eq(&self, other: &Self) -> bool {
        let mut entries = self.pages.values().flat_map(Page::entries);
        self.count == other.count && entries.all(|(place, remains)| other.get(place) == Some(*remains))
    }
}

impl Eq for Settled {}

impl Page {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.pieces.iter().flat_map(|piece| piece.iter()).take(self.taken)
    }

    fn find(&self, place: &Place) -> Option<Remains> {
        self.entries().find(|(known, _)| known == place).map(|(_, remains)| *remains)
    }

    fn push(&mut self, entry: Entry) {
        let at = self.taken % PIECE;
        if at == 0 {
            self.pieces.reserve_exact(1);
            self.pieces.push(Box::new([(LOWEST, Remains([0; 14])); PIECE]));
        }
        if let Some(free) = self.pieces.last_mut().and_then(|piece| piece.get_mut(at)) {
            *free = entry;
            self.taken = self.taken.saturating_add(1);
        }
    }

    /// Keeps the lower half, and gives the upper one and where it begins.
    fn cut(&mut self) -> Option<(Place, Self)> {
        let mut entries: Vec<Entry> = self.entries().copied().collect();
        entries.sort_unstable_by_key(|(place, _)| *place);
        let upper = entries.split_off(entries.len() / 2);
        let (first, _) = *upper.first()?;
        *self = Self::of(entries);
        Some((first, Self::of(upper)))
    }

    fn of(entries: Vec<Entry>) -> Self {
        let mut page = Self::default();
        entries.into_iter().for_each(|entry| page.push(entry));
        page
    }
}

#[cfg(test)]
mod tests {
    use custos_domain::Digest;

    use std::ops::RangeBounds as _;

    use super::*;

    fn entry(number: u64) -> (Place, Remains) {
        let hash = Digest::of(&number.to_be_bytes()).0;
        let (place, rest) = hash.split_at(14);
        (Place(place.try_into().unwrap()), Remains(rest[..14].try_into().unwrap()))
    }

    fn filled(numbers: impl Iterator<Item = u64>) -> Settled {
        let mut settled = Settled::default();
        for number in numbers {
            let (place, remains) = entry(number);
            assert!(settled.insert(place, remains));
        }
        settled
    }

    #[test]
    fn every_entry_is_found_and_nothing_else_whatever_the_order_they_came_in() {
        const MANY: u64 = 20_000;
        let (forward, backward) = (filled(0..MANY), filled((0..MANY).rev()));
        for number in 0..MANY {
            let (place, remains) = entry(number);
            assert_eq!((forward.get(&place), backward.get(&place)), (Some(remains), Some(remains)));
            let (other, _) = entry(MANY + number);
            assert_eq!((forward.get(&other), backward.get(&other)), (None, None));
        }
        assert_eq!((forward.len(), backward.len()), (20_000, 20_000));
        assert_eq!(forward, backward);
        assert_ne!(forward, filled(1..=MANY));
        for settled in [&forward, &backward] {
            let ends = settled.pages.keys().skip(1).map(|first| Bound::Excluded(*first)).chain([Bound::Unbounded]);
            for ((first, page), end) in settled.pages.iter().zip(ends) {
                assert!(page.entries().all(|(place, _)| (Bound::Included(*first), end).contains(place)));
            }
        }
    }

    #[test]
    fn an_entry_never_changes() {
        let mut settled = filled(0..1_000);
        let (place, remains) = entry(7);
        assert!(!settled.insert(place, Remains([0; 14])));
        assert_eq!((settled.get(&place), settled.len()), (Some(remains), 1_000));
    }

    #[test]
    fn the_ends_of_the_order_are_places_like_any_other() {
        let mut settled = filled(0..1_000);
        for place in [Place([0xff; 14]), LOWEST] {
            assert_eq!(settled.get(&place), None);
            assert!(settled.insert(place, Remains([1; 14])));
            assert_eq!(settled.get(&place), Some(Remains([1; 14])));
        }
        assert!(Settled::default().is_empty() && Settled::default().get(&LOWEST).is_none());
    }

    #[test]
    fn pages_are_never_more_than_full_and_have_little_room_to_spare() {
        let settled = filled(0..50_000);
        let room: usize = settled.pages.values().map(|page| page.pieces.len() * PIECE).sum();
        assert!(settled.pages.values().all(|page| page.taken <= PAGE_MAX && page.taken > 0));
        assert!(room * 28 < 50_000 * 32, "{room} entries of room for 50,000");
    }
}
