//! Tensors put together and taken apart by their first dimension.

use crate::{Tensor, TensorData};
use std::ops::Range;

macro_rules! every {
    ($do:ident) => {
        $do!(Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Fp16, Bf16, Fp32, Fp64, Bytes)
    };
}

impl TensorData {
    /// Appends elements; `false`, and nothing done, when they are of another type.
    pub fn append(&mut self, other: Self) -> bool {
        macro_rules! append {
            ($($variant:ident),*) => {
                match (self, other) {
                    $((Self::$variant(values), Self::$variant(more)) => { values.extend(more); true })*
                    _ => false,
                }
            };
        }
        every!(append)
    }

    /// Elements picked from one array or another of the same type, range by range: `true` picks from `other`. `None` when
    /// the types differ; what lies outside is left out.
    pub fn mixed(&self, other: &Self, picks: impl Iterator<Item = (bool, Range<usize>)>) -> Option<Self> {
        macro_rules! mixed {
            ($($variant:ident),*) => {
                match (self, other) {
                    $((Self::$variant(own), Self::$variant(other)) => {
                        let mut values = Vec::new();
                        for (is_other, range) in picks {
                            let from = if is_other { other } else { own };
                            values.extend_from_slice(from.get(range).unwrap_or_default());
                        }
                        Some(Self::$variant(values))
                    })*
                    _ => None,
                }
            };
        }
        every!(mixed)
    }

    /// The elements as numbers, booleans as 0 and 1; `None` for text.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        Some(match self {
            Self::Bool(v) => v.iter().map(|v| f64::from(u8::from(*v))).collect(),
            Self::Int8(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Self::Int16(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Self::Int32(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Self::Int64(v) => v.iter().map(|v| *v as f64).collect(),
            Self::Uint8(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Self::Uint16(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Self::Uint32(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Self::Uint64(v) => v.iter().map(|v| *v as f64).collect(),
            Self::Fp16(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Self::Bf16(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Self::Fp32(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Self::Fp64(v) => v.clone(),
            Self::Bytes(_) => return None,
        })
    }

    /// Copies a range of elements; what lies outside is left out.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        macro_rules! slice {
            ($($variant:ident),*) => {
                match self { $(Self::$variant(values) => Self::$variant(values.get(range).unwrap_or_default().to_vec()),)* }
            };
        }
        every!(slice)
    }
}

/// The rows of several requests in one: tensors in the same order and of the same shape but for the first dimension.
pub(crate) fn join<'a>(requests: impl IntoIterator<Item = &'a [Tensor]>) -> Vec<Tensor> {
    let mut requests = requests.into_iter();
    let mut joined = requests.next().map(<[Tensor]>::to_vec).unwrap_or_default();
    for request in requests {
        for (whole, part) in joined.iter_mut().zip(request) {
            whole.data.append(part.data.clone());
            if let (Some(rows), Some(more)) = (whole.shape.first_mut(), part.shape.first()) {
                *rows += more;
            }
        }
    }
    joined
}

/// Rows `range` of tensors that have `rows` rows each; `None` when one has another number.
pub(crate) fn part(tensors: &[Tensor], rows: usize, range: &Range<usize>) -> Option<Vec<Tensor>> {
    tensors
        .iter()
        .map(|tensor| {
            if rows == 0 || tensor.shape.first() != Some(&(rows as i64)) {
                return None;
            }
            let stride = tensor.data.len() / rows;
            let mut shape = tensor.shape.clone();
            *shape.first_mut()? = range.len() as i64;
            let data = tensor.data.slice(range.start * stride..range.end * stride);
            Some(Tensor { name: tensor.name.clone(), shape, data })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_joined_and_their_answers_taken_apart() {
        let tensors = |rows: i64, first: f32| {
            let count = rows as usize * 2;
            let values = (0..count).map(|index| first + index as f32).collect();
            vec![
                Tensor::new("x", [rows, 2], TensorData::Fp32(values)),
                Tensor::new("t", [rows], TensorData::Bytes(vec![first.to_string(); rows as usize])),
            ]
        };
        let (a, b) = (tensors(1, 0.0), tensors(2, 10.0));
        let joined = join([a.as_slice(), b.as_slice()]);
        assert_eq!(joined[0], Tensor::new("x", [3, 2], TensorData::Fp32(vec![0.0, 1.0, 10.0, 11.0, 12.0, 13.0])));
        assert_eq!(part(&joined, 3, &(0..1)), Some(a));
        assert_eq!(part(&joined, 3, &(1..3)), Some(b));
        assert_eq!(part(&joined, 2, &(0..1)), None);
        assert!(!TensorData::Fp32(vec![]).append(TensorData::Fp64(vec![])));
    }

    #[test]
    fn arrays_are_mixed_by_range() {
        let (a, b) = (TensorData::Int8(vec![1, 2, 3]), TensorData::Int8(vec![7, 8, 9]));
        let picks = [(true, 0..1), (false, 1..3), (true, 2..3), (false, 3..9)];
        assert_eq!(a.mixed(&b, picks.into_iter()), Some(TensorData::Int8(vec![7, 2, 3, 9])));
        assert_eq!(a.mixed(&TensorData::Fp32(vec![1.0]), std::iter::empty()), None);
        assert_eq!(a.to_f64(), Some(vec![1.0, 2.0, 3.0]));
        assert_eq!(TensorData::Bytes(vec![]).to_f64(), None);
    }
}
