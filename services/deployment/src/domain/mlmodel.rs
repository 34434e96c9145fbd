use fishy_core::{Error, Result};
use serde::Deserialize;

use super::signature::{Param, Signature, parse_inputs, parse_params};

/// What serving reads out of MLflow's `MLmodel` file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MlModel {
    pub(crate) form: ModelForm,
    pub(crate) signature: Option<Signature>,
    /// The parameters that the signature declares.
    pub(crate) params: Vec<Param>,
    /// Path of the stored example in the form of a scoring request.
    pub(crate) serving_example: Option<String>,
    /// Path of the stored example as it was given.
    pub(crate) example: Option<String>,
}

/// What it can be served from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ModelForm {
    /// Path of the ONNX file below the model's folder.
    Onnx(String),
    /// No ONNX file: MLflow loads it in Python. With the inputs of its signature, as they are written.
    Python(Option<String>),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    flavors: Flavors,
    signature: Option<RawSignature>,
    saved_input_example_info: Option<ExampleInfo>,
}

#[derive(Deserialize, Default)]
struct Flavors {
    onnx: Option<Flavor>,
    python_function: Option<Flavor>,
}

#[derive(Deserialize)]
struct Flavor {
    data: Option<String>,
    loader_module: Option<String>,
}

#[derive(Deserialize, Default)]
struct RawSignature {
    inputs: Option<String>,
    params: Option<String>,
}

#[derive(Deserialize)]
struct ExampleInfo {
    artifact_path: Option<String>,
    serving_input_path: Option<String>,
}

impl MlModel {
    /// Reads an `MLmodel` file; a model with neither an ONNX nor a Python form is refused.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let file: File = serde_yaml_ng::from_str(text)
            .map_err(|error| Error::precondition(format!("the file MLmodel cannot be read: {error}")))?;
        let is_python = file.flavors.python_function.is_some();
        let by_function = file.flavors.python_function.and_then(|flavor| {
            flavor.data.filter(|data| {
                std::path::Path::new(data).extension().is_some_and(|extension| extension == "onnx")
                    || flavor.loader_module.as_deref() == Some("mlflow.onnx")
            })
        });
        let raw = file.signature.unwrap_or_default();
        let form = match file.flavors.onnx.and_then(|flavor| flavor.data).or(by_function) {
            Some(path) => {
                fishy_core::check_relative_path(&path)?;
                ModelForm::Onnx(path)
            }
            None if is_python => ModelForm::Python(raw.inputs.clone()),
            None => {
                return Err(Error::precondition(
                    "the model has neither an ONNX file nor a Python form (its MLmodel has no onnx and no python_function \
                     flavor): log it with mlflow.onnx.log_model, for scikit-learn after skl2onnx.to_onnx",
                ));
            }
        };
        let signature = raw.inputs.as_deref().map(parse_inputs).transpose()?.flatten();
        let params = raw.params.as_deref().map(parse_params).transpose()?.unwrap_or_default();
        let (example, serving_example) =
            file.saved_input_example_info.map_or((None, None), |info| (info.artifact_path, info.serving_input_path));
        let safe = |path: Option<String>| path.filter(|path| fishy_core::check_relative_path(path).is_ok());
        Ok(Self { form, signature, params, serving_example: safe(serving_example), example: safe(example) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONNX: &str = r#"
flavors:
  onnx: {code: null, data: model.onnx, onnx_version: 1.23.2}
  python_function: {data: model.onnx, loader_module: mlflow.onnx}
saved_input_example_info: {artifact_path: input_example.json, serving_input_path: serving_input_example.json}
signature:
  inputs: '[{"type": "double", "name": "t", "required": true}, {"type": "double", "name": "s"}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1]}}]'
"#;

    #[test]
    fn file_features_and_example_are_found() {
        let model = MlModel::parse(ONNX).unwrap();
        assert_eq!(model.form, ModelForm::Onnx("model.onnx".into()));
        let Some(Signature::Columns(columns)) = &model.signature else { panic!("{model:?}") };
        assert_eq!(columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["t", "s"]);
        assert_eq!(model.serving_example.as_deref(), Some("serving_input_example.json"));
        let tensors = ONNX.replace(r#""type": "double", "name": "t", "required": true"#, r#""type": "tensor""#);
        assert_eq!(MlModel::parse(&tensors).unwrap().signature, Some(Signature::Tensors));
    }

    #[test]
    fn without_an_onnx_file_it_is_a_python_model_or_refused_with_what_to_do() {
        let text = "flavors:\n  sklearn: {pickled_model: model.pkl}\n";
        let error = MlModel::parse(text).unwrap_err();
        assert!(error.message().contains("mlflow.onnx.log_model"), "{error}");
        let text = format!("{text}  python_function: {{loader_module: mlflow.sklearn, data: model.pkl}}\n");
        assert_eq!(MlModel::parse(&text).unwrap().form, ModelForm::Python(None));
        let signed = format!("{text}signature: {{inputs: '[]'}}\n");
        assert_eq!(MlModel::parse(&signed).unwrap().form, ModelForm::Python(Some("[]".into())));
        let outside = "flavors: {onnx: {data: ../../etc/passwd}}";
        assert!(MlModel::parse(outside).is_err());
    }
}
