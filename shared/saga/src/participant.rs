//! What a participant remembers of a do and its undo, so that transports need give no order between them.
//!
//! Invariants: an undo that is seen before its do is recorded, and the do is refused for ever after; a repeat gets the first answer;
//! the effect happens at most once and is taken back at most once.

/// What a participant has recorded about one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// Done.
    Done,
    /// Refused: it never happened and never will.
    Refused,
    /// Done, and taken back.
    Undone,
    /// The undo came first: nothing happened and nothing will.
    Barred,
}

/// What the participant is to do about a do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnDo {
    /// Try it now, and record [`Entry::Done`] or [`Entry::Refused`].
    Try,
    /// Answer yes: it was done before.
    SayDone,
    /// Answer no, for ever.
    SayRefused,
}

/// What the participant is to do about an undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnUndo {
    /// Take it back now, and record this.
    TakeBack(Entry),
    /// Nothing is to be taken back: record this and answer yes.
    Record(Entry),
}

/// A do arrives.
#[must_use]
pub const fn on_do(entry: Option<Entry>) -> OnDo {
    match entry {
        None => OnDo::Try,
        Some(Entry::Done) => OnDo::SayDone,
        Some(Entry::Refused | Entry::Undone | Entry::Barred) => OnDo::SayRefused,
    }
}

/// An undo arrives.
#[must_use]
pub const fn on_undo(entry: Option<Entry>) -> OnUndo {
    match entry {
        Some(Entry::Done) => OnUndo::TakeBack(Entry::Undone),
        None => OnUndo::Record(Entry::Barred),
        Some(kept) => OnUndo::Record(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies a script of do and undo, and says how often the effect happened and was taken back.
    fn play(script: &[bool], accepts: bool) -> (u32, u32) {
        let mut entry = None;
        let (mut done, mut undone) = (0, 0);
        for is_do in script {
            if *is_do {
                if on_do(entry) == OnDo::Try {
                    entry = Some(if accepts { Entry::Done } else { Entry::Refused });
                    done += u32::from(accepts);
                }
            } else {
                let (kept, back) = match on_undo(entry) {
                    OnUndo::TakeBack(kept) => (kept, 1),
                    OnUndo::Record(kept) => (kept, 0),
                };
                entry = Some(kept);
                undone += back;
            }
        }
        (done, undone)
    }

    #[test]
    fn in_every_order_of_do_and_undo_the_effect_is_at_most_once_and_gone_after_an_undo() {
        for bits in 0_u32..256 {
            let script: Vec<bool> = (0..8).map(|at| bits >> at & 1 == 1).collect();
            for length in 0..=8 {
                let part = &script[..length];
                let (done, undone) = play(part, true);
                assert!(done <= 1 && undone <= done, "{part:?}");
                assert_eq!(done - undone, u32::from(part.contains(&true) && !part.contains(&false)), "{part:?}");
                assert_eq!(play(part, false), (0, 0));
            }
        }
    }

    #[test]
    fn a_participant_that_keeps_no_record_of_an_early_undo_does_what_was_taken_back() {
        let forgetful = |entry| match on_undo(entry) {
            OnUndo::Record(Entry::Barred) if entry.is_none() => None,
            OnUndo::Record(kept) | OnUndo::TakeBack(kept) => Some(kept),
        };
        assert_eq!(on_do(forgetful(None)), OnDo::Try, "so it is the record that bars the do");
        assert_eq!(on_do(forgetful(Some(Entry::Done))), OnDo::SayRefused);
    }

    #[test]
    fn an_undo_that_comes_first_bars_the_do_for_ever() {
        let OnUndo::Record(entry) = on_undo(None) else { panic!("nothing was done") };
        assert_eq!(on_do(Some(entry)), OnDo::SayRefused);
        assert_eq!(on_undo(Some(entry)), OnUndo::Record(Entry::Barred));
    }
}
