use super::values;
use crate::{Datatype, Tensor, TensorData, TensorSpec, validate::show_shape};
use TensorElementType::{Float32, Float64, Int64, String as Text};
use fishy_core::{Error, Result};
use ort::value::{DynTensorValueType, DynValue, Map, MapValueType, Outlet, TensorElementType, ValueType};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::OnceLock;

/// How one output of the engine becomes a tensor.
#[derive(Debug)]
pub(super) struct Output {
    form: Form,
    /// The keys of the maps, which the first run tells.
    keys: OnceLock<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Tensor,
    /// One map for each row, as scikit-learn's classifiers give probabilities.
    Maps,
    /// One map for all.
    Map,
    /// One tensor for each row.
    Tensors,
}

/// What the engine says about an input, in our words; refuses what cannot be served.
pub(super) fn input_spec(outlet: &Outlet) -> Result<TensorSpec> {
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(Error::invalid(format!(
            "input {:?} is a {}, and only tensors are taken: export the model with tensors as its inputs",
            outlet.name(),
            outlet.dtype()
        )));
    };
    spec("input", outlet.name(), *ty, shape.to_vec())
}

/// The same about an output. A sequence of maps becomes a tensor with a column for each key, a sequence of tensors one
/// with a row for each.
pub(super) fn output_spec(outlet: &Outlet) -> Result<(TensorSpec, Output)> {
    let name = outlet.name();
    let (form, kind, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (Form::Tensor, *ty, shape.to_vec()),
        ValueType::Map { value, .. } => (Form::Map, *value, vec![1, -1]),
        ValueType::Sequence(inner) => match &**inner {
            ValueType::Map { value, .. } => (Form::Maps, *value, vec![-1, -1]),
            ValueType::Tensor { ty, shape, .. } => {
                (Form::Tensors, *ty, std::iter::once(-1).chain(shape.iter().copied()).collect())
            }
            other => return Err(not_served(name, other)),
        },
        other @ ValueType::Optional(_) => return Err(not_served(name, other)),
    };
    Ok((spec("output", name, kind, shape)?, Output { form, keys: OnceLock::new() }))
}

fn not_served(name: &str, kind: &ValueType) -> Error {
    Error::invalid(format!("output {name:?} holds a {kind}: only tensors, maps, and sequences of them are served"))
}

fn spec(what: &str, name: &str, kind: TensorElementType, shape: Vec<i64>) -> Result<TensorSpec> {
    let datatype = values::datatype(kind).ok_or_else(|| {
        Error::invalid(format!(
            "{what} {name:?} has element type {kind}, which is not served: export the model with floats, integers, \
             booleans or strings"
        ))
    })?;
    Ok(TensorSpec { name: name.to_owned(), datatype, shape })
}

impl Output {
    /// The keys of the maps, when there are maps and a run has shown them.
    pub(super) fn keys(&self) -> Option<&[String]> {
        self.keys.get().map(Vec::as_slice)
    }

    /// Copies a value out of the engine, whose memory lives only as long as the run.
    pub(super) fn read(&self, spec: &TensorSpec, value: &DynValue) -> ort::Result<Tensor> {
        let name = &spec.name;
        match self.form {
            Form::Tensor => values::from_engine(name, value),
            Form::Tensors => {
                let rows = value.try_extract_sequence::<DynTensorValueType>()?;
                let rows = rows.into_iter().map(|row| values::from_engine(name, &row.into_dyn()));
                stack(name, spec.datatype, rows.collect::<ort::Result<_>>()?)
            }
            Form::Map | Form::Maps => {
                let (key, kind) = match value.dtype() {
                    ValueType::Sequence(inner) => match &**inner {
                        ValueType::Map { key, value } => (*key, *value),
                        other => return Err(ort::Error::new(format!("a sequence of {other}"))),
                    },
                    ValueType::Map { key, value } => (*key, *value),
                    other => return Err(ort::Error::new(format!("a {other} where maps should be"))),
                };
                match (key, kind) {
                    (Int64, Float32) => self.of_maps(name, &maps::<i64, f32>(value)?, TensorData::Fp32),
                    (Int64, Float64) => self.of_maps(name, &maps::<i64, f64>(value)?, TensorData::Fp64),
                    (Int64, Int64) => self.of_maps(name, &maps::<i64, i64>(value)?, TensorData::Int64),
                    (Text, Float32) => self.of_maps(name, &maps::<String, f32>(value)?, TensorData::Fp32),
                    (Text, Float64) => self.of_maps(name, &maps::<String, f64>(value)?, TensorData::Fp64),
                    (Text, Int64) => self.of_maps(name, &maps::<String, i64>(value)?, TensorData::Int64),
                    _ => Err(ort::Error::new(format!("maps from {key} to {kind} are not served"))),
                }
            }
        }
    }

    fn of_maps<K: ToString + Clone, V: Copy>(
        &self,
        name: &str,
        maps: &[Vec<(K, V)>],
        wrap: fn(Vec<V>) -> TensorData,
    ) -> ort::Result<Tensor> {
        let names = |map: &[(K, V)]| map.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>();
        let Some(first) = maps.first() else {
            let width = self.keys().map_or(0, <[String]>::len) as i64;
            return Ok(Tensor::new(name, [0, width], wrap(Vec::new())));
        };
        let keys = self.keys.get_or_init(|| names(first));
        let mut flat = Vec::with_capacity(maps.len() * keys.len());
        for (row, map) in maps.iter().enumerate() {
            // The engine gives the keys in one order, so this is one comparison a key.
            let is_alike =
                map.len() == keys.len() && map.iter().zip(keys).all(|((key, _), known)| key.to_string() == *known);
            if !is_alike {
                return Err(ort::Error::new(format!(
                    "row {row} has the keys {}, and the rows before it {}: only maps of the same keys are served",
                    names(map).join(", "),
                    keys.join(", ")
                )));
            }
            flat.extend(map.iter().map(|(_, value)| *value));
        }
        Ok(Tensor::new(name, [maps.len() as i64, keys.len() as i64], wrap(flat)))
    }
}

/// The maps of a value: those of a sequence, or the one that it is.
fn maps<K, V>(value: &DynValue) -> ort::Result<Vec<Vec<(K, V)>>>
where
    K: ort::value::IntoTensorElementType + Debug + Clone + Hash + Eq + 'static,
    V: ort::value::PrimitiveTensorElementType + Debug + Clone + 'static,
{
    if let ValueType::Map { .. } = value.dtype() {
        return Ok(vec![value.try_extract_key_values::<K, V>()?]);
    }
    let maps: Vec<Map<K, V>> = value.try_extract_sequence::<MapValueType<K, V>>()?;
    maps.iter().map(ort::value::Value::try_extract_key_values::<K, V>).collect()
}

/// Tensors of one shape as one tensor with a dimension more.
fn stack(name: &str, datatype: Datatype, rows: Vec<Tensor>) -> ort::Result<Tensor> {
    let inner = rows.first().map(|row| row.shape.clone()).unwrap_or_default();
    let mut data = TensorData::zeros(datatype, 0);
    let shape = std::iter::once(rows.len() as i64).chain(inner.iter().copied()).collect::<Vec<_>>();
    for (index, row) in rows.into_iter().enumerate() {
        if row.shape != inner {
            return Err(ort::Error::new(format!(
                "tensor {index} of the sequence has shape {}, and those before it {}: only tensors of one shape are served",
                show_shape(&row.shape),
                show_shape(&inner)
            )));
        }
        if !data.append(row.data) {
            return Err(ort::Error::new(format!("tensor {index} of the sequence is not {datatype}")));
        }
    }
    Ok(Tensor::new(name, shape, data))
}
