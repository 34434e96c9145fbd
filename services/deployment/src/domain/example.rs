use serde_json::Value;

use fishy_core::{Error, Result};
use fishy_inference::{Tensor, TensorSpec};
use serde::Deserialize;
use std::collections::BTreeMap;

use super::{Frame, Layout, NamedInput, Nested, Prepared};

/// What the model must answer to its input example: the file `golden_outputs.json` beside the model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Golden {
    outputs: BTreeMap<String, Nested>,
    #[serde(default = "default_rtol")]
    pub(crate) rtol: f64,
    #[serde(default = "default_atol")]
    pub(crate) atol: f64,
}

const fn default_rtol() -> f64 {
    1e-3
}

const fn default_atol() -> f64 {
    1e-5
}

impl Golden {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::precondition(format!("golden_outputs.json: {error}")))
    }

    /// The outputs as tensors of the model's types.
    pub(crate) fn tensors(self, specs: &[TensorSpec]) -> Result<Vec<Tensor>> {
        self.outputs
            .into_iter()
            .map(|(name, nested)| {
                let spec = specs.iter().find(|spec| spec.name == name).ok_or_else(|| {
                    Error::precondition(format!(
                        "golden_outputs.json has an output {name:?}, which the model does not give"
                    ))
                })?;
                let shape = shape_of(&nested, &name)?;
                let data = nested.elements.into_data(spec.datatype, &format_args!("golden output {name:?}"))?;
                Ok(Tensor { name, shape, data })
            })
            .collect()
    }
}

/// Reads a stored input example as the tensors of a model. `text` is a scoring request
/// (`serving_input_example.json`) or what `input_example.json` holds: a split data frame or a bare array.
pub(crate) fn parse_example(layout: &Layout, text: &str) -> Result<Prepared> {
    let unreadable = |error: serde_json::Error| Error::invalid(format!("the input example: {error}"));
    let value: Value = serde_json::from_str(text).map_err(unreadable)?;
    let split = value.get("dataframe_split").or_else(|| value.get("columns").map(|_| &value));
    if let Some(split) = split {
        let split = serde_json::from_value(split.clone()).map_err(unreadable)?;
        return layout.prepare_frame(Frame::from_split(split)?);
    }
    if let Some(records) = value.get("dataframe_records") {
        return prepare_value(layout, records);
    }
    let inputs = value.get("inputs").or_else(|| value.get("instances")).unwrap_or(&value);
    prepare_value(layout, inputs)
}

/// MLflow's `inputs` and `instances`: an array, an object of arrays by name, or a list of records.
pub(crate) fn prepare_value(layout: &Layout, value: &Value) -> Result<Prepared> {
    let wrong = |error: serde_json::Error| Error::invalid(format!("inputs: {error}"));
    match value {
        Value::Array(rows) if rows.first().is_some_and(Value::is_object) => {
            let records = Deserialize::deserialize(value).map_err(wrong)?;
            layout.prepare_frame(Frame::from_records(records)?)
        }
        Value::Object(named) => {
            let inputs = named.iter().map(|(name, value)| {
                let nested = Nested::deserialize(value).map_err(wrong)?;
                let shape = shape_of(&nested, name)?;
                Ok(NamedInput { name: name.clone(), shape, elements: nested.elements })
            });
            layout.prepare(inputs.collect::<Result<_>>()?)
        }
        array => {
            let nested = Nested::deserialize(array).map_err(wrong)?;
            let shape = shape_of(&nested, "inputs")?;
            layout.prepare_array(shape, nested.elements)
        }
    }
}

fn shape_of(nested: &Nested, name: &str) -> Result<Vec<i64>> {
    nested.shape.clone().ok_or_else(|| Error::invalid(format!("{name}: the rows of the array differ in length")))
}
