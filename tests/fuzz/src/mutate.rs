//! Mutations of an input, drawn from a seed: the same seed gives the same inputs on every machine.

/// A stream of numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The stream of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % limit).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Longer inputs find nothing that shorter ones do not, and only take time.
const LONGEST: usize = 8 * 1024;
/// Changes of one mutation at most.
const CHANGES: usize = 4;
/// Numbers at which lengths and counters break.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX / 2, u64::MAX - 1, u64::MAX];

/// Another input like this one: changed in one to four places, or with a piece of another of the `corpus`, or with one of the target's
/// `words`.
#[must_use]
pub fn mutate(chance: &mut Chance, input: &[u8], corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=chance.below(CHANGES) {
        change(chance, &mut bytes, corpus, words);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(chance: &mut Chance, bytes: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str]) {
    let at = chance.below(bytes.len() + 1);
    let until = at + chance.below((bytes.len() - at + 1).min(64));
    match chance.below(10) {
        0 | 1 => {
            let flip = 1 << chance.below(8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= flip;
            }
        }
        2 => {
            let value = chance.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        3 => drop(bytes.drain(at..until)),
        4 => {
            let piece: Vec<u8> = (0..=chance.below(12)).map(|_| chance.byte()).collect();
            bytes.splice(at..at, piece);
        }
        5 => {
            let piece = bytes[at..until].to_vec();
            let times = 1 + chance.below(4);
            bytes.splice(at..at, piece.repeat(times));
        }
        6 => {
            let edge = EDGES[chance.below(EDGES.len())].to_le_bytes();
            let width = [1, 2, 4, 8][chance.below(4)];
            let mut edge = edge[..width].to_vec();
            if chance.below(2) == 0 {
                edge.reverse();
            }
            let end = (at + width).min(bytes.len());
            bytes.splice(at..end, edge);
        }
        7 if !words.is_empty() => {
            let word = words[chance.below(words.len())].bytes();
            let end = if chance.below(2) == 0 { at } else { until };
            bytes.splice(at..end, word);
        }
        8 if !corpus.is_empty() => {
            let other = &corpus[chance.below(corpus.len())];
            let from = chance.below(other.len() + 1);
            let to = from + chance.below(other.len() - from + 1);
            bytes.splice(at..until, other[from..to].iter().copied());
        }
        _ => bytes.truncate(at),
    }
}
