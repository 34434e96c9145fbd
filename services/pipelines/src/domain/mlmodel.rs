//! What an `MLmodel` file says about a model.

use fishy_core::{Error, Result, check_relative_path};
use serde_json::Value;

/// The part of an `MLmodel` file that evaluation needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MlModel {
    /// Path of the ONNX file below the model's folder.
    pub onnx_file: String,
    /// Names of the features, in order; empty when the signature has no names.
    pub features: Vec<String>,
    /// How many outputs the signature has; 0 without a signature.
    pub outputs: usize,
}

impl MlModel {
    /// Reads the file's YAML.
    ///
    /// `FailedPrecondition` when it is no MLflow model, or has no ONNX flavor.
    pub fn parse(yaml: &str) -> Result<Self> {
        let value: Value = serde_yaml_ng::from_str(yaml)
            .map_err(|error| Error::precondition(format!("the model's MLmodel file is not YAML: {error}")))?;
        let flavor = value.pointer("/flavors/onnx").ok_or_else(|| {
            Error::precondition("the model has no ONNX flavor: log it with mlflow.onnx.log_model, with a signature")
        })?;
        let onnx_file = flavor.get("data").and_then(Value::as_str).unwrap_or("model.onnx").to_owned();
        check_relative_path(&onnx_file)?;
        let columns = |key: &str| -> Result<Vec<Value>> {
            match value.pointer(&format!("/signature/{key}")) {
                None | Some(Value::Null) => Ok(Vec::new()),
                Some(Value::String(text)) => serde_json::from_str(text).map_err(|error| {
                    Error::precondition(format!("the model's signature.{key} in its MLmodel file is not JSON: {error}"))
                }),
                Some(other) => Err(Error::precondition(format!("the model's signature.{key} is {other}, not a text"))),
            }
        };
        let name_of = |column: &Value| column.get("name").and_then(Value::as_str).map(str::to_owned);
        let features = columns("inputs")?.iter().map(name_of).collect::<Option<Vec<_>>>().unwrap_or_default();
        Ok(Self { onnx_file, features, outputs: columns("outputs")?.len() })
    }
}

/// Why a challenger cannot stand in a champion's place; `None` when it can.
pub fn signature_difference(challenger: &MlModel, champion: &MlModel) -> Option<String> {
    if challenger.features != champion.features {
        return Some(format!(
            "the challenger takes [{}], the champion [{}]",
            challenger.features.join(", "),
            champion.features.join(", ")
        ));
    }
    (challenger.outputs != champion.outputs)
        .then(|| format!("the challenger has {} outputs, the champion {}", challenger.outputs, champion.outputs))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MLflow 3.17 writes it.
    const WRITTEN: &str = r#"flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_version: 1.23.2
  python_function:
    loader_module: mlflow.onnx
mlflow_version: 3.17.2
signature:
  inputs: '[{"type": "float", "name": "temp", "required": true}, {"type": "float",
    "name": "sal", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1,
    1]}}]'
  params: null
"#;

    #[test]
    fn names_file_and_outputs_are_read() {
        let model = MlModel::parse(WRITTEN).unwrap();
        let features = vec!["temp".to_owned(), "sal".to_owned()];
        assert_eq!(model, MlModel { onnx_file: "model.onnx".to_owned(), features, outputs: 1 });
        let nameless = WRITTEN.replace("\"name\": \"temp\", ", "");
        assert!(MlModel::parse(&nameless).unwrap().features.is_empty());
        assert!(MlModel::parse("flavors: {onnx: {}}").unwrap().onnx_file == "model.onnx");
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        for bad in [
            "flavors: {sklearn: {}}",
            ": : :",
            "flavors: {onnx: {data: ../../etc/passwd}}",
            "flavors: {onnx: {}}\nsignature: {inputs: 'x'}",
        ] {
            assert!(MlModel::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_names_order_or_outputs_are_a_difference() {
        let model = MlModel::parse(WRITTEN).unwrap();
        assert_eq!(signature_difference(&model, &model), None);
        let swapped = MlModel { features: vec!["sal".to_owned(), "temp".to_owned()], ..model.clone() };
        assert!(signature_difference(&swapped, &model).is_some());
        let more = MlModel { outputs: 2, ..model.clone() };
        assert!(signature_difference(&more, &model).is_some());
    }
}
