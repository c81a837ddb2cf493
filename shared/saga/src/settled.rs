//! Records that will never change again, kept as little as a question about them needs: fourteen bytes that say where each stood, and
//! fourteen that say what is left of it.
//!
//! Entries lie sorted in pages of up to [`PAGE_MAX`], and the pages in order: the table grows by a page at a time and never moves as a
//! whole. Invariants: an entry never changes and never goes; what is found depends on what was put in and on nothing else, not
//! on the order. Deliberately absent: the records themselves. They stand in the log, and the state root goes over them there.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Where a record stood: as good as the whole key, because it is a hash or made of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub [u8; 14]);

/// What is left of a record, as its machine wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains(pub [u8; 14]);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Pages by the lowest place that belongs to each.
    pages: BTreeMap<Place, Page>,
    count: usize,
}

type Page = Vec<(Place, Remains)>;

/// The most entries of a page; then it is cut in two.
const PAGE_MAX: usize = 126;
/// Entries by which a page grows: just below 512 bytes, as allocators have them, so that little of it is empty.
const PAGE_STEP: usize = 18;
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
        let at = find(page, place).ok()?;
        page.get(at).map(|(_, remains)| *remains)
    }

    /// Keeps what is left of a record; `false`, and nothing changes, if its place is taken.
    pub fn insert(&mut self, place: Place, remains: Remains) -> bool {
        let Some((_, page)) = self.pages.range_mut((Bound::Unbounded, Bound::Included(place))).next_back() else {
            self.pages.insert(LOWEST, page_of(&[(place, remains)]));
            self.count = self.count.saturating_add(1);
            return true;
        };
        let Err(at) = find(page, &place) else { return false };
        if page.len() == page.capacity() {
            page.reserve_exact(PAGE_STEP);
        }
        page.insert(at, (place, remains));
        self.count = self.count.saturating_add(1);
        if page.len() > PAGE_MAX {
            let (lower, upper) = page.split_at(page.len() / 2);
            let (lower, upper) = (page_of(lower), page_of(upper));
            *page = lower;
            if let Some((first, _)) = upper.first() {
                self.pages.insert(*first, upper);
            }
        }
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

fn find(page: &Page, place: &Place) -> Result<usize, usize> {
    page.binary_search_by(|(known, _)| known.cmp(place))
}

/// A page with these entries and room for the next ones.
fn page_of(entries: &[(Place, Remains)]) -> Page {
    let mut page = Vec::with_capacity(entries.len().next_multiple_of(PAGE_STEP));
    page.extend_from_slice(entries);
    page
}

#[cfg(test)]
mod tests {
    use custos_domain::Digest;

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
        let listed = |settled: &Settled| settled.pages.values().flatten().copied().collect::<Vec<_>>();
        assert_eq!(listed(&forward), listed(&backward));
        assert!(listed(&forward).is_sorted_by_key(|(place, _)| *place));
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
        let room: usize = settled.pages.values().map(Vec::capacity).sum();
        assert!(settled.pages.values().all(|page| page.len() <= PAGE_MAX && !page.is_empty()));
        assert!(room * 28 < 50_000 * 32, "{room} entries of room for 50,000");
    }
}
