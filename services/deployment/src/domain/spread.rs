use std::hash::Hasher;

/// A number from 0 to below 1 that belongs to these texts: evenly spread, and the same in every process and release.
pub(crate) fn spread(parts: &[&str]) -> f64 {
    // FNV-1a, and a finish that spreads its low bits (splitmix64).
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            hasher.write(&[0]);
        }
        hasher.write(part.as_bytes());
    }
    let mut mixed = hasher.finish();
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_even_stable_and_of_their_texts() {
        let all: Vec<f64> = (0..20_000).map(|n| spread(&["oxygen", &format!("p-{n}")])).collect();
        for share in [0.01, 0.1, 0.5, 0.9] {
            let below = all.iter().filter(|number| **number < share).count() as f64 / all.len() as f64;
            assert!((below - share).abs() < 0.01, "{share}: {below}");
        }
        assert!(all.iter().all(|number| (0.0..1.0).contains(number)));
        // Another value would send other predictions after an update.
        assert_eq!((spread(&["oxygen", "p-7"]) * 1e6).round() as u64, EXPECTED_PPM);
        assert!((spread(&["a", "bc"]) - spread(&["ab", "c"])).abs() > 1e-12);
    }

    /// Computed apart from this program.
    const EXPECTED_PPM: u64 = 970_342;
}
