//! The rules by which a shard keeps what goes wrong around it from doing harm, as values: tests take one away and must see the harm.
//!
//! Invariant: all of them are in force unless a test says otherwise in code; no setting, variable or feature reaches this.

/// One of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defence {
    /// A takeover writes what a torn transaction has changed as it was before.
    Repair,
    /// A takeover compares the last input that was applied with what the inbox holds in its place.
    InputDigest,
    /// A message of another shard is taken once, and in the order in which it was sent.
    LinkSequence,
    /// A timer that is due is put into the inbox until the log's time has found it due.
    TimerAgain,
    /// A shard's time never goes back, whatever brokers write on records.
    TimeClamp,
    /// Only a question without effect leaves ahead of the commit.
    EffectsAfterCommit,
    /// An order to activate a logic that the binary does not have is neither applied nor skipped.
    KnownLogic,
}

/// The rules in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defences {
    repair: bool,
    input_digest: bool,
    link_sequence: bool,
    timer_again: bool,
    time_clamp: bool,
    effects_after_commit: bool,
    known_logic: bool,
}

impl Defences {
    /// All of them.
    pub const ALL: Self = Self {
        repair: true,
        input_digest: true,
        link_sequence: true,
        timer_again: true,
        time_clamp: true,
        effects_after_commit: true,
        known_logic: true,
    };

    /// These without `defence`.
    #[must_use]
    pub const fn without(mut self, defence: Defence) -> Self {
        match defence {
            Defence::Repair => self.repair = false,
            Defence::InputDigest => self.input_digest = false,
            Defence::LinkSequence => self.link_sequence = false,
            Defence::TimerAgain => self.timer_again = false,
            Defence::TimeClamp => self.time_clamp = false,
            Defence::EffectsAfterCommit => self.effects_after_commit = false,
            Defence::KnownLogic => self.known_logic = false,
        }
        self
    }

    pub(super) const fn hold(self, defence: Defence) -> bool {
        match defence {
            Defence::Repair => self.repair,
            Defence::InputDigest => self.input_digest,
            Defence::LinkSequence => self.link_sequence,
            Defence::TimerAgain => self.timer_again,
            Defence::TimeClamp => self.time_clamp,
            Defence::EffectsAfterCommit => self.effects_after_commit,
            Defence::KnownLogic => self.known_logic,
        }
    }
}

impl Default for Defences {
    fn default() -> Self {
        Self::ALL
    }
}
