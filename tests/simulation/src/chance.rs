//! Chance from a seed, in streams that do not disturb each other.

/// Draws numbers; the same seed gives the same numbers on every machine (`SplitMix64`).
#[derive(Clone, Debug)]
pub struct Chance(u64);

/// The streams of one world: what is asked of the system, what goes wrong, and who acts when.
#[derive(Clone, Debug)]
pub struct Streams {
    /// What clients, officers and outsiders do.
    pub workload: Chance,
    /// What goes wrong.
    pub faults: Chance,
    /// Whose turn it is.
    pub schedule: Chance,
}

impl Streams {
    /// The streams of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let root = Chance::new(seed);
        Self { workload: root.fork("workload"), faults: root.fork("faults"), schedule: root.fork("schedule") }
    }
}

impl Chance {
    /// The stream of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another stream that is decided by this one's seed and a name, and draws nothing from it: one for each actor, so that none
    /// moves the others' numbers.
    #[must_use]
    pub fn fork(&self, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0.to_le_bytes());
        hasher.update(name.as_bytes());
        let mut seed = [0; 8];
        hasher.finalize_xof().fill(&mut seed);
        Self(u64::from_le_bytes(seed))
    }

    /// The next number.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero if `bound` is zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        match self.draw().checked_rem(bound) {
            Some(number) => number,
            None => 0,
        }
    }

    /// A number from `low` to `high`, both included.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low.saturating_add(self.below(high.saturating_sub(low).saturating_add(1)))
    }

    /// Whether something happens that happens once in `times`; never if `times` is zero, and then nothing is drawn.
    pub const fn once_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// Whether a coin shows heads.
    pub const fn coin(&mut self) -> bool {
        self.draw() & 1 == 0
    }

    /// A place in a list of this length; zero for an empty one.
    pub fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap_or(u64::MAX))).unwrap_or(0)
    }

    /// One of several; `None` of none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.place(from.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_draw_the_same_for_the_same_seed() {
        let drawn = |seed| {
            let mut streams = Streams::new(seed);
            [streams.workload.draw(), streams.faults.draw(), streams.schedule.draw()]
        };
        let [workload, faults, schedule] = drawn(7);
        assert_eq!(drawn(7), [workload, faults, schedule]);
        assert!(workload != faults && faults != schedule && drawn(8) != drawn(7));
    }
}
