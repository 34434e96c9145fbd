//! Randomness that is an argument: the same seed gives the same draws, on every machine.

use serde::{Deserialize, Serialize};

/// SplitMix64 (Steele, Lea and Flood 2014): 64 bits of state, which can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SplitMix {
    state: u64,
}

impl SplitMix {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `bound`, which is above 0. (The bias of the multiplication is below `bound / 2^64`.)
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// `count` distinct places below `bound`, in random order (the first steps of a shuffle; at most `bound` of them).
    pub(crate) fn draw(&mut self, bound: usize, count: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..bound).collect();
        let count = count.min(bound);
        for place in 0..count {
            let other = place + self.below(bound - place);
            places.swap(place, other);
        }
        places.truncate(count);
        places
    }

    /// Puts the items in random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            items.swap(place, self.below(place + 1));
        }
    }
}

/// The finaliser of SplitMix64: every bit of the answer depends on every bit of the question.
pub(crate) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_are_the_published_ones() {
        let mut random = SplitMix::new(1_234_567);
        let first = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.next(), random.next(), random.next()], first);
    }

    #[test]
    fn draws_are_distinct_and_every_place_has_its_turn() {
        let mut random = SplitMix::new(7);
        let mut seen = [0_u32; 10];
        for _ in 0..2_000 {
            let mut drawn = random.draw(10, 3);
            for place in &drawn {
                seen[*place] += 1;
            }
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), 3);
        }
        // 600 expected each, standard deviation 20.5.
        assert!(seen.iter().all(|times| (500..700).contains(times)), "{seen:?}");
    }
}
