use fishy_core::{Error, Result};
use fishy_inference::{Tensor, TensorData};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use crate::domain::Element;

/// The elements of a tensor, flat.
pub(crate) struct Flat<'a>(pub(crate) &'a TensorData);

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        macro_rules! flat {
            ($($variant:ident),*) => {
                match self.0 {
                    $(TensorData::$variant(values) => values.serialize(serializer),)*
                    TensorData::Fp16(values) => serializer.collect_seq(values.iter().map(|value| f32::from(*value))),
                    TensorData::Bf16(values) => serializer.collect_seq(values.iter().map(|value| f32::from(*value))),
                }
            };
        }
        flat!(Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Fp32, Fp64, Bytes)
    }
}

/// The elements of a tensor in arrays of its shape.
pub(crate) struct Shaped<'a> {
    data: &'a TensorData,
    shape: &'a [i64],
    begin: usize,
}

impl<'a> Shaped<'a> {
    pub(crate) fn new(tensor: &'a Tensor) -> Self {
        Self { data: &tensor.data, shape: &tensor.shape, begin: 0 }
    }
}

impl Serialize for Shaped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some((size, inner)) = self.shape.split_first() else {
            return Element(self.data, self.begin).serialize(serializer);
        };
        let stride: i64 = inner.iter().product();
        let mut seq = serializer.serialize_seq(usize::try_from(*size).ok())?;
        for index in 0..*size {
            let begin = self.begin + (index * stride) as usize;
            seq.serialize_element(&Shaped { data: self.data, shape: inner, begin })?;
        }
        seq.end()
    }
}

/// A JSON answer in bytes.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut body = Vec::with_capacity(256);
    serde_json::to_writer(&mut body, value)
        .map_err(|error| Error::internal("cannot write the answer").with_source(error))?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_become_brackets() {
        let tensor = Tensor::new("y", [2, 1, 2], TensorData::Fp32(vec![1.5, f32::NAN, 3.0, 4.0]));
        assert_eq!(serde_json::to_string(&Shaped::new(&tensor)).unwrap(), "[[[1.5,null]],[[3.0,4.0]]]");
        assert_eq!(serde_json::to_string(&Flat(&tensor.data)).unwrap(), "[1.5,null,3.0,4.0]");
        let scalar = Tensor::new("y", [], TensorData::Bool(vec![true]));
        assert_eq!(serde_json::to_string(&Shaped::new(&scalar)).unwrap(), "true");
    }
}
