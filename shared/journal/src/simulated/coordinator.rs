//! The coordinator of one transactional id: who owns it, and what is open under it.
//!
//! An end ends whatever is open: the protocol does not say which transaction it means. The answer to an end is given when the verdict
//! stands; the markers follow, one partition at a time, and until the last one every new transaction has to wait.

use std::collections::BTreeSet;
use std::time::Duration;

use super::protocol::{Code, Pid, Place, Producer, Reply};

#[derive(Clone, Debug)]
pub(super) struct Coordinator {
    producer: Producer,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    Empty,
    Ongoing {
        places: BTreeSet<Place>,
        since: Duration,
        /// The newest transaction, by the client's count, that has added a partition.
        serial: u64,
    },
    /// `PrepareCommit` and `PrepareAbort`.
    Ending {
        commit: bool,
        left: BTreeSet<Place>,
    },
    /// `CompleteCommit` and `CompleteAbort`.
    Ended {
        commit: bool,
    },
}

/// What became of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It ended the transaction that it meant, or was a repetition.
    Meant,
    /// It ended a later transaction than the one it meant.
    Stray,
}

impl Coordinator {
    pub(super) const fn new(pid: Pid) -> Self {
        Self { producer: Producer { pid, epoch: 0 }, phase: Phase::Empty }
    }

    /// A producer takes the id: what is open is aborted first, and whoever had the id is fenced at once.
    pub(super) fn init(&mut self, known: Option<Producer>) -> Result<Reply, Code> {
        if known.is_some_and(|known| known != self.producer) {
            return Err(Code::Fenced);
        }
        match &self.phase {
            Phase::Ending { .. } => Err(Code::Concurrent),
            Phase::Ongoing { .. } => {
                self.abort_and_fence();
                Err(Code::Concurrent)
            }
            Phase::Empty | Phase::Ended { .. } => {
                self.raise();
                self.phase = Phase::Empty;
                Ok(Reply::Producer(self.producer))
            }
        }
    }

    pub(super) fn add(
        &mut self,
        producer: Producer,
        added: &[Place],
        (now, client_serial): (Duration, u64),
    ) -> Result<Reply, Code> {
        self.check(producer)?;
        match &mut self.phase {
            Phase::Ending { .. } => return Err(Code::Concurrent),
            Phase::Ongoing { places, serial, .. } => {
                places.extend(added);
                *serial = client_serial.max(*serial);
            }
            Phase::Empty | Phase::Ended { .. } => {
                let places = added.iter().copied().collect();
                self.phase = Phase::Ongoing { places, since: now, serial: client_serial };
            }
        }
        Ok(Reply::Done)
    }

    pub(super) fn end(&mut self, producer: Producer, verdict: bool, client_serial: u64) -> Result<Ended, Code> {
        self.check(producer)?;
        match &self.phase {
            Phase::Ongoing { places, serial, .. } => {
                let ended = if *serial <= client_serial { Ended::Meant } else { Ended::Stray };
                self.phase = Phase::Ending { commit: verdict, left: places.clone() };
                Ok(ended)
            }
            Phase::Ending { commit, .. } if *commit == verdict => Err(Code::Concurrent),
            Phase::Ended { commit } if *commit == verdict => Ok(Ended::Meant),
            Phase::Empty | Phase::Ending { .. } | Phase::Ended { .. } => Err(Code::TransactionState),
        }
    }

    /// Whether a producer may write to a partition in which it has nothing open: `transaction.partition.verification.enable`.
    pub(super) fn verify(&self, producer: Producer, place: Place) -> Result<(), Code> {
        self.check(producer)?;
        match &self.phase {
            Phase::Ending { .. } => Err(Code::NotNow),
            Phase::Ongoing { places, .. } if places.contains(&place) => Ok(()),
            Phase::Ongoing { .. } | Phase::Empty | Phase::Ended { .. } => Err(Code::TransactionState),
        }
    }

    /// Aborts a transaction that is open for too long.
    pub(super) fn expire(&mut self, now: Duration, timeout: Duration) -> bool {
        let late = matches!(&self.phase, Phase::Ongoing { since, .. } if now.saturating_sub(*since) > timeout);
        if late {
            self.abort_and_fence();
        }
        late
    }

    /// The partition that is to get the next marker, with whose it is and what it says.
    pub(super) fn due_marker(&mut self) -> Option<(Place, Producer, bool)> {
        let Phase::Ending { commit, left } = &mut self.phase else { return None };
        let commit = *commit;
        let place = left.pop_first();
        if left.is_empty() {
            self.phase = Phase::Ended { commit };
        }
        Some((place?, self.producer, commit))
    }

    /// Forgets that markers are due in these partitions. Returns whether any was.
    pub(super) fn forget_markers(&mut self, of: impl Fn(Place) -> bool) -> bool {
        let Phase::Ending { commit, left } = &mut self.phase else { return false };
        let (commit, due) = (*commit, left.len());
        left.retain(|place| !of(*place));
        let forgotten = left.len() < due;
        if left.is_empty() {
            self.phase = Phase::Ended { commit };
        }
        forgotten
    }

    pub(super) const fn awaits_markers(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. })
    }

    const fn check(&self, producer: Producer) -> Result<(), Code> {
        if producer.pid.0 != self.producer.pid.0 {
            return Err(Code::Mapping);
        }
        if producer.epoch != self.producer.epoch {
            return Err(Code::Fenced);
        }
        Ok(())
    }

    fn abort_and_fence(&mut self) {
        if let Phase::Ongoing { places, .. } = &mut self.phase {
            let left = std::mem::take(places);
            self.raise();
            self.phase = Phase::Ending { commit: false, left };
        }
    }

    const fn raise(&mut self) {
        self.producer.epoch = self.producer.epoch.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use custos_messages::Topic;

    use super::*;

    const NOW: Duration = Duration::ZERO;
    const EVENTS: Place = (Topic::Events, 0);
    const QUARANTINE: Place = (Topic::Quarantine, 0);

    fn owned() -> (Coordinator, Producer) {
        let mut coordinator = Coordinator::new(Pid(1));
        let Ok(Reply::Producer(producer)) = coordinator.init(None) else { panic!("an id that nobody has is refused") };
        (coordinator, producer)
    }

    #[test]
    fn a_late_end_hits_the_next_transaction_and_the_verification_sees_it() {
        let (mut coordinator, producer) = owned();
        coordinator.add(producer, &[EVENTS], (NOW, 1)).unwrap();
        assert_eq!(coordinator.end(producer, false, 1), Ok(Ended::Meant));
        assert_eq!(coordinator.add(producer, &[EVENTS], (NOW, 2)), Err(Code::Concurrent));
        assert_eq!(coordinator.due_marker(), Some((EVENTS, producer, false)));
        assert_eq!(coordinator.end(producer, false, 1), Ok(Ended::Meant));
        assert_eq!(coordinator.end(producer, true, 1), Err(Code::TransactionState));
        coordinator.add(producer, &[EVENTS, QUARANTINE], (NOW, 2)).unwrap();
        assert_eq!(coordinator.verify(producer, EVENTS), Ok(()));
        assert_eq!(coordinator.end(producer, false, 1), Ok(Ended::Stray));
        assert_eq!(coordinator.verify(producer, EVENTS), Err(Code::NotNow));
        while coordinator.due_marker().is_some() {}
        assert_eq!(coordinator.verify(producer, EVENTS), Err(Code::TransactionState));
    }

    #[test]
    fn a_new_owner_aborts_what_is_open_and_fences_the_former_one() {
        let (mut coordinator, former) = owned();
        coordinator.add(former, &[EVENTS], (NOW, 1)).unwrap();
        assert_eq!(coordinator.init(None), Err(Code::Concurrent));
        assert_eq!(coordinator.end(former, true, 1), Err(Code::Fenced));
        let (_, writer, commit) = coordinator.due_marker().unwrap();
        assert!(writer.epoch > former.epoch && !commit);
        assert!(coordinator.init(None).is_ok());
        assert_eq!(coordinator.init(Some(former)), Err(Code::Fenced));
    }

    #[test]
    fn a_marker_that_is_forgotten_is_not_written_and_the_transaction_counts_as_ended() {
        let (mut coordinator, producer) = owned();
        coordinator.add(producer, &[EVENTS, QUARANTINE], (NOW, 1)).unwrap();
        assert_eq!(coordinator.end(producer, true, 1), Ok(Ended::Meant));
        assert!(coordinator.forget_markers(|place| place == EVENTS));
        assert!(!coordinator.forget_markers(|place| place == EVENTS));
        assert_eq!(coordinator.due_marker(), Some((QUARANTINE, producer, true)));
        assert!(coordinator.init(None).is_ok());
    }

    #[test]
    fn a_transaction_that_is_open_for_too_long_is_aborted() {
        let (mut coordinator, producer) = owned();
        coordinator.add(producer, &[EVENTS], (NOW, 1)).unwrap();
        let timeout = Duration::from_secs(10);
        assert!(!coordinator.expire(timeout, timeout));
        assert!(coordinator.expire(timeout + Duration::from_millis(1), timeout));
        assert_eq!(coordinator.end(producer, true, 1), Err(Code::Fenced));
    }
}
