//! The group that shares a machine's shards, as the classic protocol has it: every change makes all members give up everything, and
//! only when the last has done so, or was put out, are the shards dealt anew.
//!
//! Invariant: members that are in time never hold the same shard together. One that is late may: the log fences it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::group::range;
use crate::Assignment;

#[derive(Debug, Default)]
pub(super) struct Seats {
    list: Vec<Seat>,
    last: u64,
    /// Whether the shards are to be dealt anew.
    unsettled: bool,
}

#[derive(Debug)]
struct Seat {
    id: u64,
    name: String,
    seen: Duration,
    held: BTreeSet<u32>,
    /// Since when it is to give up what it holds.
    told: Option<Duration>,
    /// What it was dealt and has not been told yet.
    dealt: BTreeSet<u32>,
}

/// How long members may be silent, and how long they may take to give up.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) session: Duration,
    pub(super) release: Duration,
}

impl Seats {
    /// Joins; whoever sits under the same name is put out at once.
    pub(super) fn join(&mut self, name: &str, now: Duration) -> u64 {
        self.list.retain(|seat| seat.name != name);
        self.last = self.last.saturating_add(1);
        self.list.push(Seat {
            id: self.last,
            name: name.to_owned(),
            seen: now,
            held: BTreeSet::new(),
            told: None,
            dealt: BTreeSet::new(),
        });
        self.unsettled = true;
        self.last
    }

    pub(super) fn leave(&mut self, id: u64) {
        let before = self.list.len();
        self.list.retain(|seat| seat.id != id);
        self.unsettled |= self.list.len() < before;
    }

    pub(super) fn release(&mut self, id: u64, partitions: &[u32]) {
        if let Some(seat) = self.list.iter_mut().find(|seat| seat.id == id) {
            seat.held.retain(|partition| !partitions.contains(partition));
        }
    }

    /// The next change for a member, which shows by asking that it lives. `Err`: it was put out, and has lost what it held.
    pub(super) fn change(
        &mut self,
        id: u64,
        partitions: u32,
        now: Duration,
        patience: Patience,
    ) -> Result<Option<Assignment>, ()> {
        let before = self.list.len();
        self.list.retain(|seat| seat.id == id || now.saturating_sub(seat.seen) <= patience.session);
        let late = |seat: &Seat| seat.id == id && now.saturating_sub(seat.seen) > patience.session;
        self.list.retain(|seat| !late(seat));
        self.unsettled |= self.list.len() < before;
        let unsettled = self.unsettled;
        let seat = self.list.iter_mut().find(|seat| seat.id == id).ok_or(())?;
        seat.seen = now;
        if unsettled {
            // What was dealt and never told was never held.
            seat.dealt.clear();
            if seat.held.is_empty() {
                seat.told = None;
                self.settle(partitions);
            } else if let Some(since) = seat.told {
                if now.saturating_sub(since) > patience.release {
                    let lost = std::mem::take(&mut seat.held);
                    return Ok(Some(Assignment::Lost(lost.into_iter().collect())));
                }
                return Ok(None);
            } else {
                seat.told = Some(now);
                return Ok(Some(Assignment::Revoked(seat.held.iter().copied().collect())));
            }
        }
        Ok(self.list.iter_mut().find(|seat| seat.id == id).and_then(Seat::take))
    }

    /// Deals the shards when nobody holds any.
    fn settle(&mut self, partitions: u32) {
        if self.list.iter().any(|seat| !seat.held.is_empty()) {
            return;
        }
        let members = self.list.len();
        for (place, seat) in self.list.iter_mut().enumerate() {
            seat.dealt = range(partitions, members, place).collect();
            seat.told = None;
        }
        self.unsettled = false;
    }
}

impl Seat {
    fn take(&mut self) -> Option<Assignment> {
        if self.dealt.is_empty() {
            return None;
        }
        self.held = std::mem::take(&mut self.dealt);
        Some(Assignment::Gained(self.held.iter().copied().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { session: Duration::from_secs(6), release: Duration::from_secs(5) };

    fn change(seats: &mut Seats, id: u64, seconds: u64) -> Result<Option<Assignment>, ()> {
        seats.change(id, 2, Duration::from_secs(seconds), PATIENCE)
    }

    #[test]
    fn shards_are_dealt_anew_when_everybody_has_given_up_and_a_late_member_is_put_out() {
        let mut seats = Seats::default();
        let first = seats.join("first", Duration::ZERO);
        assert_eq!(change(&mut seats, first, 0), Ok(Some(Assignment::Gained(vec![0, 1]))));
        let second = seats.join("second", Duration::ZERO);
        assert_eq!(change(&mut seats, second, 0), Ok(None));
        assert_eq!(change(&mut seats, first, 1), Ok(Some(Assignment::Revoked(vec![0, 1]))));
        assert_eq!(change(&mut seats, second, 1), Ok(None));
        seats.release(first, &[0, 1]);
        assert_eq!(change(&mut seats, second, 1), Ok(Some(Assignment::Gained(vec![1]))));
        assert_eq!(change(&mut seats, first, 1), Ok(Some(Assignment::Gained(vec![0]))));
        assert_eq!(change(&mut seats, second, 8), Err(()));
        let again = seats.join("second", Duration::from_secs(8));
        assert_eq!(change(&mut seats, again, 8), Ok(Some(Assignment::Gained(vec![0, 1]))), "the first was silent, too");
    }

    #[test]
    fn what_is_not_given_up_in_time_is_lost_and_a_name_that_comes_back_takes_its_place_at_once() {
        let mut seats = Seats::default();
        let first = seats.join("first", Duration::ZERO);
        change(&mut seats, first, 0).unwrap();
        let second = seats.join("second", Duration::ZERO);
        assert_eq!(change(&mut seats, first, 1), Ok(Some(Assignment::Revoked(vec![0, 1]))));
        assert_eq!(change(&mut seats, first, 6), Ok(None));
        assert_eq!(change(&mut seats, first, 7), Ok(Some(Assignment::Lost(vec![0, 1]))));
        seats.leave(second);
        let again = seats.join("first", Duration::from_secs(7));
        assert_eq!(change(&mut seats, again, 7), Ok(Some(Assignment::Gained(vec![0, 1]))));
        assert_eq!(change(&mut seats, first, 7), Err(()));
    }
}
