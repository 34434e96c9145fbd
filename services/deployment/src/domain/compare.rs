use fishy_inference::{Tensor, TensorData};

/// How two answers to the same request differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Difference {
    /// Whether all outputs agree.
    pub(crate) is_agreed: bool,
    /// The largest difference of two numbers.
    pub(crate) max: f64,
    pub(crate) sum: f64,
    /// How many numbers were compared.
    pub(crate) numbers: u64,
}

/// Compares by position: a candidate may name its outputs otherwise. Numbers agree within `tolerance · max(1, |a|)`;
/// a missing value (NaN) agrees with another; labels agree when they are equal.
pub(crate) fn outputs(a: &[(String, TensorData)], b: &[Tensor], tolerance: f64) -> Difference {
    let mut difference = Difference { is_agreed: a.len() == b.len(), ..Difference::default() };
    for ((_, a), b) in a.iter().zip(b) {
        match (numbers(a), numbers(&b.data)) {
            (Some(a), Some(b)) => {
                difference.is_agreed &= a.len() == b.len();
                for (a, b) in a.into_iter().zip(b) {
                    if a.is_nan() || b.is_nan() {
                        difference.is_agreed &= a.is_nan() && b.is_nan();
                        continue;
                    }
                    let apart = if a.total_cmp(&b).is_eq() { 0.0 } else { (a - b).abs() };
                    difference.is_agreed &= apart <= tolerance * a.abs().max(1.0);
                    difference.max = difference.max.max(apart);
                    difference.sum += apart;
                    difference.numbers += 1;
                }
            }
            _ => difference.is_agreed &= *a == b.data,
        }
    }
    difference
}

/// The floats of an output; `None` for labels and counts, which are equal or not.
fn numbers(data: &TensorData) -> Option<Vec<f64>> {
    match data {
        TensorData::Fp16(values) => Some(values.iter().map(|value| f64::from(*value)).collect()),
        TensorData::Bf16(values) => Some(values.iter().map(|value| f64::from(*value)).collect()),
        TensorData::Fp32(values) => Some(values.iter().map(|value| f64::from(*value)).collect()),
        TensorData::Fp64(values) => Some(values.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_within_the_tolerance_and_labels_when_they_are_equal() {
        let answered = |p: f64, label: i64| {
            vec![
                ("p".to_owned(), TensorData::Fp64(vec![p, f64::NAN])),
                ("label".to_owned(), TensorData::Int64(vec![label])),
            ]
        };
        let other = |p: f64, label: i64| {
            vec![
                Tensor::new("q", [2], TensorData::Fp64(vec![p, f64::NAN])),
                Tensor::new("l", [1], TensorData::Int64(vec![label])),
            ]
        };
        let near = outputs(&answered(0.5, 1), &other(0.6, 1), 0.2);
        assert!(near.is_agreed && (near.max - 0.1).abs() < 1e-12 && near.numbers == 1, "{near:?}");
        assert!(!outputs(&answered(0.5, 1), &other(0.6, 1), 0.05).is_agreed);
        assert!(!outputs(&answered(0.5, 1), &other(0.5, 2), 1.0).is_agreed);
        assert!(outputs(&answered(1000.0, 1), &other(1001.0, 1), 0.01).is_agreed);
        assert!(!outputs(&answered(0.5, 1), &other(0.5, 1)[..1], 1.0).is_agreed);
    }
}
