/// Values that are added up beside each other, so that one addition need not wait for another.
const LANES: usize = 8;

/// Range, mean and deviation of finite values in any order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moments {
    pub least: f64,
    pub most: f64,
    pub mean: f64,
    /// The root of the mean square of the differences from the mean.
    pub deviation: f64,
}

impl Moments {
    /// Of values of which there is at least one.
    pub fn of(values: &[f64]) -> Self {
        let (mut least, mut most, mut sums) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES], [0.0; LANES]);
        let lanes = values.chunks_exact(LANES);
        let rest = lanes.remainder();
        for chunk in lanes {
            for (lane, value) in chunk.iter().enumerate() {
                least[lane] = least[lane].min(*value);
                most[lane] = most[lane].max(*value);
                sums[lane] += value;
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            least[lane] = least[lane].min(*value);
            most[lane] = most[lane].max(*value);
            sums[lane] += value;
        }
        let count = values.len() as f64;
        let mean = sums.iter().sum::<f64>() / count;
        let mut squares = [0.0; LANES];
        let lanes = values.chunks_exact(LANES);
        let rest = lanes.remainder();
        for chunk in lanes {
            for (lane, value) in chunk.iter().enumerate() {
                squares[lane] += (value - mean) * (value - mean);
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            squares[lane] += (value - mean) * (value - mean);
        }
        Self {
            least: least.into_iter().fold(f64::INFINITY, f64::min),
            most: most.into_iter().fold(f64::NEG_INFINITY, f64::max),
            mean,
            deviation: (squares.iter().sum::<f64>() / count).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn they_are_those_of_the_sorted_sample() {
        for count in [1, 7, 8, 9, 1_003] {
            let values: Vec<f64> = (0..count).map(|i| f64::from(i * 7_919 % 1_013) * 0.37 - 90.0).collect();
            let (moments, sample) = (Moments::of(&values), Sample::new(&values).unwrap());
            assert_eq!((moments.least, moments.most), sample.range());
            assert!((moments.mean - sample.mean()).abs() < 1e-10, "{count}");
            assert!((moments.deviation - sample.variance(0).sqrt()).abs() < 1e-10, "{count}");
        }
    }
}
