use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// The type of one element, under the names of the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// True or false.
    Bool,
    /// 8 bits, signed.
    Int8,
    /// 16 bits, signed.
    Int16,
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed.
    Int64,
    /// 8 bits, unsigned.
    Uint8,
    /// 16 bits, unsigned.
    Uint16,
    /// 32 bits, unsigned.
    Uint32,
    /// 64 bits, unsigned.
    Uint64,
    /// Half precision (IEEE 754 binary16).
    Fp16,
    /// Half the width of single precision with its range (bfloat16).
    Bf16,
    /// Single precision.
    Fp32,
    /// Double precision.
    Fp64,
    /// Text.
    Bytes,
}

impl Datatype {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The name in the protocol, for example `FP32`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The datatype of a name that [`as_str`](Self::as_str) gave.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.as_str() == name)
    }

    /// Bytes of one element in the protocol's binary form; `None` for text, whose elements differ in length.
    pub const fn size_bytes(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Int8 | Self::Uint8 => Some(1),
            Self::Int16 | Self::Uint16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Int32 | Self::Uint32 | Self::Fp32 => Some(4),
            Self::Int64 | Self::Uint64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl std::fmt::Display for Datatype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a model takes or gives under one name; its JSON is the tensor metadata of the Open Inference Protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// The name in the model.
    pub name: String,
    /// The type of each element.
    pub datatype: Datatype,
    /// The size of each dimension; -1 where any size will do.
    pub shape: Vec<i64>,
}

/// The elements of a tensor, row by row.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// `BOOL`
    Bool(Vec<bool>),
    /// `INT8`
    Int8(Vec<i8>),
    /// `INT16`
    Int16(Vec<i16>),
    /// `INT32`
    Int32(Vec<i32>),
    /// `INT64`
    Int64(Vec<i64>),
    /// `UINT8`
    Uint8(Vec<u8>),
    /// `UINT16`
    Uint16(Vec<u16>),
    /// `UINT32`
    Uint32(Vec<u32>),
    /// `UINT64`
    Uint64(Vec<u64>),
    /// `FP16`
    Fp16(Vec<f16>),
    /// `BF16`
    Bf16(Vec<bf16>),
    /// `FP32`
    Fp32(Vec<f32>),
    /// `FP64`
    Fp64(Vec<f64>),
    /// `BYTES`: text, as ONNX models hold it
    Bytes(Vec<String>),
}

impl TensorData {
    /// The type of each element.
    pub const fn datatype(&self) -> Datatype {
        match self {
            Self::Bool(_) => Datatype::Bool,
            Self::Int8(_) => Datatype::Int8,
            Self::Int16(_) => Datatype::Int16,
            Self::Int32(_) => Datatype::Int32,
            Self::Int64(_) => Datatype::Int64,
            Self::Uint8(_) => Datatype::Uint8,
            Self::Uint16(_) => Datatype::Uint16,
            Self::Uint32(_) => Datatype::Uint32,
            Self::Uint64(_) => Datatype::Uint64,
            Self::Fp16(_) => Datatype::Fp16,
            Self::Bf16(_) => Datatype::Bf16,
            Self::Fp32(_) => Datatype::Fp32,
            Self::Fp64(_) => Datatype::Fp64,
            Self::Bytes(_) => Datatype::Bytes,
        }
    }

    /// How many elements there are.
    pub const fn len(&self) -> usize {
        match self {
            Self::Bool(v) => v.len(),
            Self::Int8(v) => v.len(),
            Self::Int16(v) => v.len(),
            Self::Int32(v) => v.len(),
            Self::Int64(v) => v.len(),
            Self::Uint8(v) => v.len(),
            Self::Uint16(v) => v.len(),
            Self::Uint32(v) => v.len(),
            Self::Uint64(v) => v.len(),
            Self::Fp16(v) => v.len(),
            Self::Bf16(v) => v.len(),
            Self::Fp32(v) => v.len(),
            Self::Fp64(v) => v.len(),
            Self::Bytes(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` elements that are zero, false or the empty text.
    pub fn zeros(datatype: Datatype, len: usize) -> Self {
        match datatype {
            Datatype::Bool => Self::Bool(vec![false; len]),
            Datatype::Int8 => Self::Int8(vec![0; len]),
            Datatype::Int16 => Self::Int16(vec![0; len]),
            Datatype::Int32 => Self::Int32(vec![0; len]),
            Datatype::Int64 => Self::Int64(vec![0; len]),
            Datatype::Uint8 => Self::Uint8(vec![0; len]),
            Datatype::Uint16 => Self::Uint16(vec![0; len]),
            Datatype::Uint32 => Self::Uint32(vec![0; len]),
            Datatype::Uint64 => Self::Uint64(vec![0; len]),
            Datatype::Fp16 => Self::Fp16(vec![f16::ZERO; len]),
            Datatype::Bf16 => Self::Bf16(vec![bf16::ZERO; len]),
            Datatype::Fp32 => Self::Fp32(vec![0.0; len]),
            Datatype::Fp64 => Self::Fp64(vec![0.0; len]),
            Datatype::Bytes => Self::Bytes(vec![String::new(); len]),
        }
    }

    /// Bytes that the elements take in memory, about.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Bytes(texts) => texts.iter().map(|text| text.len() + size_of::<String>()).sum(),
            other => other.len() * other.datatype().size_bytes().unwrap_or(1),
        }
    }
}

/// A named array.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The name of the input or output.
    pub name: String,
    /// The size of each dimension; empty for a single value without dimensions.
    pub shape: Vec<i64>,
    /// The elements, row by row.
    pub data: TensorData,
}

impl Tensor {
    /// A tensor; whether shape and data fit is checked where it is used.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<i64>>, data: TensorData) -> Self {
        Self { name: name.into(), shape: shape.into(), data }
    }
}

/// How many elements a shape holds; `None` when a dimension is negative or the product overflows.
pub(crate) fn element_count(shape: &[i64]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |count, &size| count.checked_mul(usize::try_from(size).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datatype_has_one_name_in_code_and_in_json() {
        for datatype in Datatype::ALL {
            assert_eq!(Datatype::parse(datatype.as_str()), Some(datatype));
            assert_eq!(serde_json::to_value(datatype).unwrap(), datatype.as_str());
            let zeros = TensorData::zeros(datatype, 3);
            assert_eq!((zeros.datatype(), zeros.len()), (datatype, 3));
        }
        assert_eq!(Datatype::parse("FLOAT"), None);
    }

    #[test]
    fn impossible_shapes_have_no_count() {
        assert_eq!(element_count(&[]), Some(1));
        assert_eq!(element_count(&[2, 3]), Some(6));
        assert_eq!(element_count(&[0, 3]), Some(0));
        assert_eq!(element_count(&[-1, 3]), None);
        assert_eq!(element_count(&[i64::MAX, 3]), None);
    }
}
