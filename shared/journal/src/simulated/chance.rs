//! Chance from a seed, and how often what goes wrong.

/// Draws numbers; the same seed gives the same numbers on every machine (`SplitMix64`).
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero if `bound` is zero.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        match self.draw().checked_rem(bound) {
            Some(number) => number,
            None => 0,
        }
    }

    /// A place in a list of this length.
    pub(super) fn place(&mut self, length: usize) -> usize {
        let bound = u64::try_from(length).unwrap_or(u64::MAX);
        usize::try_from(self.below(bound)).unwrap_or(0)
    }

    /// Whether something of this rate happens now. A rate of zero draws nothing.
    pub(super) fn happens(&mut self, rate: Rate) -> bool {
        rate.0 > 0 && self.below(10_000) < u64::from(rate.0)
    }

    /// Whether a coin shows heads.
    pub(super) const fn coin(&mut self) -> bool {
        self.draw() & 1 == 0
    }
}

/// How often something happens where it may, of ten thousand times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate(pub u16);

impl Rate {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Every time.
    pub const ALWAYS: Self = Self(10_000);
}

/// What goes wrong, and how often at each place where it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A request never arrives; the client repeats it after its pause.
    pub request_lost: Rate,
    /// A request arrives later or never; the client repeats it after its pause.
    pub request_late: Rate,
    /// What was asked is done, and the answer is lost; the client repeats the request after its pause.
    pub reply_lost: Rate,
    /// The end of a transaction arrives later or never; the client repeats it after its pause.
    pub end_late: Rate,
    /// One of the late requests arrives, at each call of anybody.
    pub arrival: Rate,
    /// The markers of an ended transaction are not written yet, at each call of anybody.
    pub marker_late: Rate,
    /// A client stands still for up to twenty seconds before a call.
    pub pause: Rate,
    /// A process dies in a call, which may still have its effect, now or later.
    pub kill: Rate,
    /// The brokers lose what they have told nobody that they have.
    pub broker_loss: Rate,
    /// An append ends in an error: it was applied, is applied later, or never.
    pub append_fails: Rate,
    /// A poll of a reader shows less than there is.
    pub short_read: Rate,
    /// A compaction of a state partition, at each call of anybody.
    pub compaction: Rate,
    /// The leader of a partition changes, at each write, and the new one's clock is up to half a minute off.
    pub broker_clock: Rate,
    /// A write waits up to twelve seconds for the disk: longer than a transaction may be open.
    pub slow_write: Rate,
    /// The broker forgets the marker of a state partition, which had no leader just then: Kafka 4.3.0 to 4.4.0 (KAFKA-20734).
    pub marker_forgotten: Rate,
    /// A state partition gets a new leader while it is read, who for a while knows of less than was committed: readers come to an end
    /// that is none. Asked where the partition ends, it answers when it knows (KIP-207).
    pub leader_behind: Rate,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        request_lost: Rate::NEVER,
        request_late: Rate::NEVER,
        reply_lost: Rate::NEVER,
        end_late: Rate::NEVER,
        arrival: Rate::NEVER,
        marker_late: Rate::NEVER,
        pause: Rate::NEVER,
        kill: Rate::NEVER,
        broker_loss: Rate::NEVER,
        append_fails: Rate::NEVER,
        short_read: Rate::NEVER,
        compaction: Rate::NEVER,
        broker_clock: Rate::NEVER,
        slow_write: Rate::NEVER,
        marker_forgotten: Rate::NEVER,
        leader_behind: Rate::NEVER,
    };

    /// About half of the kinds, each with a rate of its own: what a run with this seed has to live with. Rare combinations are met
    /// because the other kinds do not drown them.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0xfa01_75fa_0175_fa01);
        let mut rate = |most: u64| {
            let rate = chance.below(most).saturating_add(1);
            if chance.coin() { Rate(u16::try_from(rate).unwrap_or(u16::MAX)) } else { Rate::NEVER }
        };
        Self {
            request_lost: rate(300),
            request_late: rate(600),
            reply_lost: rate(300),
            end_late: rate(5_000),
            arrival: rate(3_000),
            marker_late: rate(9_000),
            pause: rate(60),
            kill: rate(150),
            broker_loss: rate(200),
            append_fails: rate(1_000),
            short_read: rate(5_000),
            compaction: rate(100),
            broker_clock: rate(300),
            slow_write: rate(60),
            marker_forgotten: rate(300),
            leader_behind: rate(1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_everywhere() {
        let mut chance = Chance::new(7);
        let drawn: Vec<u64> = (0..3).map(|_| chance.draw()).collect();
        assert_eq!(drawn, [0x63cb_e1e4_5932_0dd7, 0x044c_3cd7_f43c_661c, 0xe698_4080_bab1_2a02]);
    }

    #[test]
    fn rates_of_nothing_and_everything_are_kept() {
        let mut chance = Chance::new(1);
        assert!((0..1_000).all(|_| !chance.happens(Rate::NEVER) && chance.happens(Rate::ALWAYS)));
    }

    #[test]
    fn each_seed_draws_a_subset_and_all_kinds_are_drawn() {
        let drawn: Vec<Faults> = (0..100).map(Faults::drawn).collect();
        let late = drawn.iter().filter(|faults| faults.end_late != Rate::NEVER).count();
        let both = drawn.iter().filter(|faults| faults.end_late != Rate::NEVER && faults.kill != Rate::NEVER).count();
        assert!((30..70).contains(&late) && (10..40).contains(&both), "{late} {both}");
    }
}
