use fishy_core::{Error, Result};
use fishy_inference::{Datatype, PythonForm, PythonInterface, TensorSpec};
use serde::Deserialize;
use serde_json::Value;

/// The name of an input that the signature gives none.
const UNNAMED: &str = "input";

#[derive(Deserialize)]
struct RawInput {
    #[serde(rename = "type")]
    kind: Value,
    name: Option<String>,
    #[serde(rename = "tensor-spec")]
    tensor: Option<RawTensor>,
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<i64>,
}

/// What a Python model takes, by the inputs of its signature: without one, nobody knows.
pub(crate) fn python_interface(signature: Option<&str>) -> Result<PythonInterface> {
    let text = signature.ok_or_else(|| {
        Error::precondition("a Python model needs a signature: log it with signature=infer_signature(inputs, outputs)")
    })?;
    let raw: Vec<RawInput> = serde_json::from_str(text)
        .map_err(|_| Error::precondition(format!("the signature of the model cannot be read: {text}")))?;
    if raw.is_empty() {
        return Err(Error::precondition("the signature of the Python model names no input"));
    }
    let mut datetimes = Vec::new();
    let is_frame = raw.iter().all(|input| input.tensor.is_none());
    let mut inputs = Vec::with_capacity(raw.len());
    for input in &raw {
        let spec = match &input.tensor {
            Some(tensor) => tensor_input(input, tensor)?,
            None => column(input)?,
        };
        if input.kind == "datetime" {
            datetimes.push(spec.name.clone());
        }
        inputs.push(spec);
    }
    let form = match raw.as_slice() {
        _ if is_frame => PythonForm::Frame,
        [only] if only.name.is_none() => PythonForm::Array,
        _ => PythonForm::Arrays,
    };
    Ok(PythonInterface { inputs, form, datetimes })
}

fn column(input: &RawInput) -> Result<TensorSpec> {
    let name = input.name.clone().ok_or_else(|| {
        Error::precondition("the signature has a column without a name: log the model with a data frame as its example")
    })?;
    let datatype = match input.kind.as_str().unwrap_or_default() {
        "boolean" => Datatype::Bool,
        "integer" => Datatype::Int32,
        "long" => Datatype::Int64,
        "float" => Datatype::Fp32,
        "double" => Datatype::Fp64,
        "string" | "datetime" => Datatype::Bytes,
        _ => {
            let kind = &input.kind;
            return Err(Error::precondition(format!(
                "column {name:?} of the signature is {kind}: Python models are served with numbers, booleans, texts and times"
            )));
        }
    };
    Ok(TensorSpec { name, datatype, shape: vec![-1] })
}

fn tensor_input(input: &RawInput, tensor: &RawTensor) -> Result<TensorSpec> {
    let name = input.name.clone().unwrap_or_else(|| UNNAMED.to_owned());
    let datatype = match tensor.dtype.as_str() {
        "bool" => Datatype::Bool,
        "int8" => Datatype::Int8,
        "int16" => Datatype::Int16,
        "int32" => Datatype::Int32,
        "int64" => Datatype::Int64,
        "uint8" => Datatype::Uint8,
        "uint16" => Datatype::Uint16,
        "uint32" => Datatype::Uint32,
        "uint64" => Datatype::Uint64,
        "float16" => Datatype::Fp16,
        "float32" => Datatype::Fp32,
        "float64" => Datatype::Fp64,
        "str" | "object" => Datatype::Bytes,
        other => {
            return Err(Error::precondition(format!(
                "input {name:?} of the signature is of type {other}, which the protocol does not have"
            )));
        }
    };
    Ok(TensorSpec { name, datatype, shape: tensor.shape.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: name.into(), datatype, shape: shape.into() }
    }

    #[test]
    fn columns_make_a_data_frame() {
        let text = r#"[{"type": "double", "name": "t", "required": true}, {"type": "long", "name": "pen"},
                       {"type": "string", "name": "farm"}, {"type": "datetime", "name": "at"}]"#;
        let interface = python_interface(Some(text)).unwrap();
        assert_eq!((interface.form, interface.datetimes), (PythonForm::Frame, vec!["at".to_owned()]));
        let expected = [
            spec("t", Datatype::Fp64, &[-1]),
            spec("pen", Datatype::Int64, &[-1]),
            spec("farm", Datatype::Bytes, &[-1]),
            spec("at", Datatype::Bytes, &[-1]),
        ];
        assert_eq!(interface.inputs, expected);
    }

    #[test]
    fn tensors_make_one_array_or_several_by_name() {
        let one = r#"[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]"#;
        let interface = python_interface(Some(one)).unwrap();
        assert_eq!(interface.form, PythonForm::Array);
        assert_eq!(interface.inputs, [spec("input", Datatype::Fp32, &[-1, 3])]);
        let named = r#"[{"type": "tensor", "name": "x", "tensor-spec": {"dtype": "int8", "shape": [-1]}}]"#;
        assert_eq!(python_interface(Some(named)).unwrap().form, PythonForm::Arrays);
    }

    #[test]
    fn what_cannot_be_served_says_why() {
        let problem = |text: Option<&str>| python_interface(text).unwrap_err().message().to_owned();
        assert!(problem(None).contains("infer_signature"));
        assert!(problem(Some("[]")).contains("names no input"));
        assert!(problem(Some(r#"[{"type": "double"}]"#)).contains("without a name"));
        assert!(problem(Some(r#"[{"type": "binary", "name": "image"}]"#)).contains("\"image\""));
        assert!(problem(Some(r#"[{"type": {"type": "array"}, "name": "list"}]"#)).contains("\"list\""));
        let complex = r#"[{"type": "tensor", "tensor-spec": {"dtype": "complex64", "shape": [-1]}}]"#;
        assert!(problem(Some(complex)).contains("complex64"));
    }
}
