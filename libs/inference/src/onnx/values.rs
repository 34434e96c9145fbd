use crate::{Datatype, Tensor, TensorData};
use ort::session::SessionInputValue;
use ort::value::{DynValue, TensorElementType, TensorRef, ValueType};

/// The name of an element type in the protocol; `None` for types that are not served.
pub(super) fn datatype(kind: TensorElementType) -> Option<Datatype> {
    Some(match kind {
        TensorElementType::Bool => Datatype::Bool,
        TensorElementType::Int8 => Datatype::Int8,
        TensorElementType::Int16 => Datatype::Int16,
        TensorElementType::Int32 => Datatype::Int32,
        TensorElementType::Int64 => Datatype::Int64,
        TensorElementType::Uint8 => Datatype::Uint8,
        TensorElementType::Uint16 => Datatype::Uint16,
        TensorElementType::Uint32 => Datatype::Uint32,
        TensorElementType::Uint64 => Datatype::Uint64,
        TensorElementType::Float16 => Datatype::Fp16,
        TensorElementType::Bfloat16 => Datatype::Bf16,
        TensorElementType::Float32 => Datatype::Fp32,
        TensorElementType::Float64 => Datatype::Fp64,
        TensorElementType::String => Datatype::Bytes,
        _ => return None,
    })
}

/// Lends a tensor to the engine; only text is copied.
pub(super) fn to_engine(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    let shape = tensor.shape.as_slice();
    Ok(match &tensor.data {
        TensorData::Bool(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Int8(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Int16(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Int32(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Int64(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Uint8(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Uint16(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Uint32(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Uint64(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Fp16(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Bf16(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Fp32(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Fp64(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        TensorData::Bytes(v) => ort::value::Tensor::from_string_array((shape, v.as_slice()))?.into(),
    })
}

/// Copies a tensor out of the engine, whose memory lives only as long as the run.
pub(super) fn from_engine(name: &str, value: &DynValue) -> ort::Result<Tensor> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(ort::Error::new(format!("it is a {} and not a tensor", value.dtype())));
    };
    let data = match ty {
        TensorElementType::Bool => TensorData::Bool(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Int8 => TensorData::Int8(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Int16 => TensorData::Int16(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Int32 => TensorData::Int32(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Int64 => TensorData::Int64(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Uint8 => TensorData::Uint8(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Uint16 => TensorData::Uint16(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Uint32 => TensorData::Uint32(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Uint64 => TensorData::Uint64(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Float16 => TensorData::Fp16(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Bfloat16 => TensorData::Bf16(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Float32 => TensorData::Fp32(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::Float64 => TensorData::Fp64(value.try_extract_tensor()?.1.to_vec()),
        TensorElementType::String => TensorData::Bytes(value.try_extract_strings()?.1),
        other => return Err(ort::Error::new(format!("element type {other} is not served"))),
    };
    Ok(Tensor { name: name.to_owned(), shape: shape.iter().copied().collect(), data })
}
