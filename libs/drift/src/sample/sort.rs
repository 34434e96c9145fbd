//! Sorting of finite values by whole numbers that have their order.
//!
//! Measured on a million values (normal, lognormal, uniform), in nanoseconds a value: `sort_unstable` of whole numbers 19,
//! of floats by `total_cmp` 28, a radix sort of 11-bit digits 25 to 29, buckets of equal width and then either of the first
//! two 17 to 54. Of values with many ties 9, 7, 17, 10.

const SIGN: u64 = 1 << 63;

/// Sorts finite values ascending, in place; -0 becomes 0.
pub(crate) fn sort(values: &mut [f64]) {
    let mut keys: Vec<u64> = values.iter().map(|value| key(*value)).collect();
    keys.sort_unstable();
    for (value, key) in values.iter_mut().zip(keys) {
        *value = value_of(key);
    }
}

/// A whole number that grows with the value: of negative ones all bits are turned, of others the sign.
pub(crate) const fn key(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// The value of a key.
pub(crate) const fn value_of(key: u64) -> f64 {
    f64::from_bits(if key & SIGN == 0 { !key } else { key & !SIGN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_order_of_the_values_and_lose_nothing() {
        let values = [f64::MIN, -2.5, -f64::MIN_POSITIVE, 0.0, f64::from_bits(1), 1.0, 1.0 + f64::EPSILON, f64::MAX];
        assert!(values.windows(2).all(|pair| key(pair[0]) < key(pair[1])));
        assert!(values.iter().all(|value| value_of(key(*value)).to_bits() == value.to_bits()));
        assert_eq!(key(-0.0), key(0.0));
    }
}
