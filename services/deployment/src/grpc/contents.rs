//! `InferTensorContents`: elements in the fields of their types.

use bytes::Bytes;
use fishy_core::{Error, Result};
use fishy_inference::{Datatype, TensorData};

use super::messages::InferTensorContents;
use crate::domain::Elements;

/// The elements of an input out of the field that its datatype has.
pub(super) fn elements_of(name: &str, declared: Datatype, mut contents: InferTensorContents) -> Result<Elements> {
    macro_rules! narrowed {
        ($variant:ident, $field:ident) => {{
            let narrow = |value| {
                <_>::try_from(value)
                    .map_err(|_| Error::invalid(format!("input {name:?} holds {value}, which is no {declared}")))
            };
            TensorData::$variant(std::mem::take(&mut contents.$field).into_iter().map(narrow).collect::<Result<_>>()?)
        }};
    }
    macro_rules! taken {
        ($variant:ident, $field:ident) => {
            TensorData::$variant(std::mem::take(&mut contents.$field))
        };
    }
    let data = match declared {
        Datatype::Bool => taken!(Bool, bool_contents),
        Datatype::Int8 => narrowed!(Int8, int_contents),
        Datatype::Int16 => narrowed!(Int16, int_contents),
        Datatype::Int32 => taken!(Int32, int_contents),
        Datatype::Int64 => taken!(Int64, int64_contents),
        Datatype::Uint8 => narrowed!(Uint8, uint_contents),
        Datatype::Uint16 => narrowed!(Uint16, uint_contents),
        Datatype::Uint32 => taken!(Uint32, uint_contents),
        Datatype::Uint64 => taken!(Uint64, uint64_contents),
        Datatype::Fp32 => taken!(Fp32, fp32_contents),
        Datatype::Fp64 => taken!(Fp64, fp64_contents),
        Datatype::Bytes => {
            let texts = std::mem::take(&mut contents.bytes_contents).into_iter().enumerate();
            TensorData::Bytes(texts.map(|(index, text)| text_of(name, index, &text)).collect::<Result<_>>()?)
        }
        Datatype::Fp16 | Datatype::Bf16 => {
            return Err(Error::invalid(format!(
                "input {name:?} is {declared}, which contents have no field for: send it in raw_input_contents"
            )));
        }
    };
    if contents != InferTensorContents::default() {
        return Err(Error::invalid(format!(
            "input {name:?} says it is {declared}, and its contents are in the field of another datatype"
        )));
    }
    Ok(Elements::Typed(data))
}

fn text_of(name: &str, index: usize, text: &Bytes) -> Result<String> {
    let text = std::str::from_utf8(text).map_err(|_| {
        Error::invalid(format!("input {name:?}: element {index} is not UTF-8, and the models here take text"))
    })?;
    Ok(text.to_owned())
}

/// The elements of an output in the field of their type. Half precision has none, and goes in binary instead.
pub(super) fn contents_of(data: &TensorData) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    match data {
        TensorData::Bool(values) => contents.bool_contents.clone_from(values),
        TensorData::Int8(values) => contents.int_contents = values.iter().map(|value| (*value).into()).collect(),
        TensorData::Int16(values) => contents.int_contents = values.iter().map(|value| (*value).into()).collect(),
        TensorData::Int32(values) => contents.int_contents.clone_from(values),
        TensorData::Int64(values) => contents.int64_contents.clone_from(values),
        TensorData::Uint8(values) => contents.uint_contents = values.iter().map(|value| (*value).into()).collect(),
        TensorData::Uint16(values) => contents.uint_contents = values.iter().map(|value| (*value).into()).collect(),
        TensorData::Uint32(values) => contents.uint_contents.clone_from(values),
        TensorData::Uint64(values) => contents.uint64_contents.clone_from(values),
        TensorData::Fp32(values) => contents.fp32_contents.clone_from(values),
        TensorData::Fp64(values) => contents.fp64_contents.clone_from(values),
        TensorData::Bytes(texts) => {
            contents.bytes_contents = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
        }
        TensorData::Fp16(_) | TensorData::Bf16(_) => {}
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let all = [
            TensorData::Bool(vec![true, false]),
            TensorData::Int8(vec![-128, 127]),
            TensorData::Int16(vec![-300, 2]),
            TensorData::Int32(vec![i32::MIN, 2]),
            TensorData::Int64(vec![i64::MIN, 2]),
            TensorData::Uint8(vec![255, 2]),
            TensorData::Uint16(vec![u16::MAX, 2]),
            TensorData::Uint32(vec![u32::MAX, 2]),
            TensorData::Uint64(vec![u64::MAX, 2]),
            TensorData::Fp32(vec![1.5, f32::INFINITY]),
            TensorData::Fp64(vec![1.5, f64::MIN]),
            TensorData::Bytes(vec!["Tromsø".into(), String::new()]),
        ];
        for data in all {
            let read = elements_of("x", data.datatype(), contents_of(&data)).unwrap();
            assert_eq!(read, Elements::Typed(data));
        }
    }

    #[test]
    fn contents_of_another_type_or_out_of_its_range_are_refused() {
        let floats = InferTensorContents { fp32_contents: vec![1.0], ..InferTensorContents::default() };
        let ints = InferTensorContents { int_contents: vec![300], ..InferTensorContents::default() };
        let bytes = InferTensorContents { bytes_contents: vec![vec![0xff].into()], ..InferTensorContents::default() };
        for (declared, contents, says) in [
            (Datatype::Fp64, &floats, "field of another datatype"),
            (Datatype::Fp16, &floats, "raw_input_contents"),
            (Datatype::Int8, &ints, "holds 300, which is no INT8"),
            (Datatype::Bytes, &bytes, "element 0 is not UTF-8"),
        ] {
            let error = elements_of("x", declared, contents.clone()).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
    }
}
