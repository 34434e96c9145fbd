//! Tensors as bytes: the layout of the Open Inference Protocol's binary extension and of gRPC's raw contents. Numbers
//! are little-endian, row by row; a boolean is one byte; a text is its length in bytes (4 bytes) and its UTF-8.

use crate::{Datatype, TensorData};
use fishy_core::{Error, Result};
use half::{bf16, f16};

impl TensorData {
    /// Reads elements. `InvalidArgument` when the bytes do not hold whole elements.
    pub fn from_bytes(datatype: Datatype, bytes: &[u8]) -> Result<Self> {
        macro_rules! numbers {
            ($variant:ident, $kind:ty) => {{
                let (chunks, rest) = bytes.as_chunks::<{ size_of::<$kind>() }>();
                if !rest.is_empty() {
                    return Err(Error::invalid(format!(
                        "{} bytes are no whole number of {datatype} elements of {} bytes",
                        bytes.len(),
                        size_of::<$kind>()
                    )));
                }
                Self::$variant(chunks.iter().map(|chunk| <$kind>::from_le_bytes(*chunk)).collect())
            }};
        }
        Ok(match datatype {
            Datatype::Bool => match bytes.iter().find(|byte| **byte > 1) {
                None => Self::Bool(bytes.iter().map(|byte| *byte == 1).collect()),
                Some(byte) => return Err(Error::invalid(format!("a boolean is the byte 0 or 1, and not {byte}"))),
            },
            Datatype::Int8 => numbers!(Int8, i8),
            Datatype::Int16 => numbers!(Int16, i16),
            Datatype::Int32 => numbers!(Int32, i32),
            Datatype::Int64 => numbers!(Int64, i64),
            Datatype::Uint8 => Self::Uint8(bytes.to_vec()),
            Datatype::Uint16 => numbers!(Uint16, u16),
            Datatype::Uint32 => numbers!(Uint32, u32),
            Datatype::Uint64 => numbers!(Uint64, u64),
            Datatype::Fp16 => numbers!(Fp16, f16),
            Datatype::Bf16 => numbers!(Bf16, bf16),
            Datatype::Fp32 => numbers!(Fp32, f32),
            Datatype::Fp64 => numbers!(Fp64, f64),
            Datatype::Bytes => Self::Bytes(read_texts(bytes)?),
        })
    }

    /// Appends the elements to `bytes`.
    pub fn write_bytes(&self, bytes: &mut Vec<u8>) {
        macro_rules! numbers {
            ($values:expr) => {{
                bytes.reserve(size_of_val($values.as_slice()));
                for value in $values {
                    bytes.extend_from_slice(&value.to_le_bytes());
                }
            }};
        }
        match self {
            Self::Bool(values) => bytes.extend(values.iter().map(|value| u8::from(*value))),
            Self::Int8(values) => numbers!(values),
            Self::Int16(values) => numbers!(values),
            Self::Int32(values) => numbers!(values),
            Self::Int64(values) => numbers!(values),
            Self::Uint8(values) => bytes.extend_from_slice(values),
            Self::Uint16(values) => numbers!(values),
            Self::Uint32(values) => numbers!(values),
            Self::Uint64(values) => numbers!(values),
            Self::Fp16(values) => numbers!(values),
            Self::Bf16(values) => numbers!(values),
            Self::Fp32(values) => numbers!(values),
            Self::Fp64(values) => numbers!(values),
            Self::Bytes(texts) => {
                for text in texts {
                    // Longer than 4 GB is no text that anything here has made.
                    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
            }
        }
    }
}

fn read_texts(mut bytes: &[u8]) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let index = texts.len();
        let cut = || Error::invalid(format!("BYTES element {index} is cut off: its length is 4 bytes, little-endian"));
        let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(cut)?;
        let text = std::str::from_utf8(text).map_err(|_| {
            Error::invalid(format!("BYTES element {index} is not UTF-8, and the models here take text"))
        })?;
        texts.push(text.to_owned());
        bytes = rest;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let all = [
            TensorData::Bool(vec![true, false]),
            TensorData::Int8(vec![-1, 2]),
            TensorData::Int16(vec![-300, 2]),
            TensorData::Int32(vec![i32::MIN, 2]),
            TensorData::Int64(vec![i64::MIN, 2]),
            TensorData::Uint8(vec![255, 2]),
            TensorData::Uint16(vec![u16::MAX, 2]),
            TensorData::Uint32(vec![u32::MAX, 2]),
            TensorData::Uint64(vec![u64::MAX, 2]),
            TensorData::Fp16(vec![f16::from_f32(1.5), f16::INFINITY]),
            TensorData::Bf16(vec![bf16::from_f32(1.5), bf16::MAX]),
            TensorData::Fp32(vec![1.5, f32::INFINITY]),
            TensorData::Fp64(vec![1.5, f64::MIN]),
            TensorData::Bytes(vec!["Tromsø".into(), String::new()]),
        ];
        for (data, datatype) in all.iter().zip(Datatype::ALL) {
            let mut bytes = Vec::new();
            data.write_bytes(&mut bytes);
            assert_eq!(data.datatype(), datatype);
            assert_eq!(TensorData::from_bytes(datatype, &bytes).unwrap(), *data);
            if let Some(size) = datatype.size_bytes() {
                assert_eq!(bytes.len(), 2 * size, "{datatype}");
            }
        }
    }

    #[test]
    fn the_layout_is_the_protocols() {
        let mut bytes = Vec::new();
        TensorData::Fp32(vec![1.0]).write_bytes(&mut bytes);
        TensorData::Int16(vec![258]).write_bytes(&mut bytes);
        TensorData::Bytes(vec!["ab".into()]).write_bytes(&mut bytes);
        assert_eq!(bytes, [0, 0, 0x80, 0x3f, 2, 1, 2, 0, 0, 0, b'a', b'b']);
    }

    #[test]
    fn broken_bytes_are_refused() {
        for (datatype, bytes) in [
            (Datatype::Fp32, &[0_u8; 5][..]),
            (Datatype::Bool, &[2]),
            (Datatype::Bytes, &[1, 0, 0]),
            (Datatype::Bytes, &[9, 0, 0, 0, b'a']),
            (Datatype::Bytes, &[1, 0, 0, 0, 0xff]),
        ] {
            assert!(TensorData::from_bytes(datatype, bytes).is_err(), "{datatype} {bytes:?}");
        }
    }
}
