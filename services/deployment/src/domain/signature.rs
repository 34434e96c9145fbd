use chrono::{DateTime, NaiveDate, NaiveDateTime};
use fishy_core::{Error, Result};
use fishy_inference::Datatype;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Elements;

/// The inputs of a model signature.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Signature {
    /// Named columns.
    Columns(Vec<Column>),
    /// Tensors, which name no features.
    Tensors,
}

/// One column of a signature.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) is_required: bool,
}

/// The types of MLflow's columns and parameters that an ONNX model can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Integer,
    Long,
    Float,
    Double,
    String,
    Binary,
    Datetime,
    /// A type without a check of its own (objects, arrays, maps).
    Other,
}

/// A parameter that a signature declares.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Param {
    name: String,
    kind: Kind,
    is_list: bool,
}

#[derive(Deserialize)]
struct RawColumn {
    #[serde(rename = "type")]
    kind: Value,
    name: Option<String>,
    required: Option<bool>,
}

#[derive(Deserialize)]
struct RawParam {
    name: String,
    #[serde(rename = "type", alias = "dtype")]
    kind: String,
    shape: Option<Value>,
}

/// Reads the inputs of a signature; `None` for one that says nothing about columns.
pub(crate) fn parse_inputs(text: &str) -> Result<Option<Signature>> {
    let wrong = || Error::precondition(format!("the signature of the model cannot be read: {text}"));
    let inputs: Vec<RawColumn> = serde_json::from_str(text).map_err(|_| wrong())?;
    if inputs.is_empty() {
        return Ok(None);
    }
    if inputs.iter().any(|input| input.kind == "tensor") {
        return Ok(Some(Signature::Tensors));
    }
    let columns: Option<Vec<Column>> = inputs
        .into_iter()
        .map(|input| {
            let kind = input.kind.as_str().map_or(Kind::Other, Kind::parse);
            Some(Column { name: input.name?, kind, is_required: input.required.unwrap_or(true) })
        })
        .collect();
    // One column without a name is MLflow's form of "some column".
    Ok(columns.map(Signature::Columns))
}

/// Reads the parameters of a signature.
pub(crate) fn parse_params(text: &str) -> Result<Vec<Param>> {
    let params: Vec<RawParam> = serde_json::from_str(text)
        .map_err(|_| Error::precondition(format!("the parameters of the model's signature cannot be read: {text}")))?;
    let param = |raw: RawParam| {
        let is_list = raw.shape.is_some_and(|shape| !shape.is_null());
        Param { name: raw.name, kind: Kind::parse(&raw.kind), is_list }
    };
    Ok(params.into_iter().map(param).collect())
}

impl Kind {
    fn parse(name: &str) -> Self {
        match name {
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "string" => Self::String,
            "binary" => Self::Binary,
            "datetime" => Self::Datetime,
            _ => Self::Other,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::String => "string",
            Self::Binary => "binary",
            Self::Datetime => "datetime",
            Self::Other => "another type",
        }
    }

    const fn is_float(self) -> bool {
        matches!(self, Self::Float | Self::Double)
    }

    /// The first value that is not of this type, in words.
    fn misfit(self, elements: &Elements) -> Option<String> {
        if let Elements::Typed(data) = elements {
            let is_number = !matches!(data.datatype(), Datatype::Bool | Datatype::Bytes);
            // Binary elements of any number type do for real numbers; for the rest their values are looked at.
            return if is_number && matches!(self, Self::Float | Self::Double | Self::Other) {
                None
            } else {
                self.misfit(&Elements::of_typed(data.clone()))
            };
        }
        let whole = |bounds: (i64, i64)| match elements {
            Elements::Int(values) => {
                values.iter().find(|value| **value < bounds.0 || **value > bounds.1).map(ToString::to_string)
            }
            Elements::Float(values) => values
                .iter()
                .find(|value| value.fract() != 0.0 || !(bounds.0 as f64 <= **value && **value <= bounds.1 as f64))
                .map(|value| if value.is_nan() { "a missing value".to_owned() } else { value.to_string() }),
            other => Some(other.kind().to_owned()),
        };
        let is_fitting = match (self, elements) {
            (_, Elements::Empty) | (Self::Other, _) => true,
            (Self::Integer, _) => return whole((i64::from(i32::MIN), i64::from(i32::MAX))),
            (Self::Long, _) => return whole((i64::MIN, i64::MAX)),
            (Self::Datetime, Elements::Text(texts)) => {
                return texts.iter().find(|text| !is_datetime(text)).map(|text| format!("{text:?}"));
            }
            (Self::Boolean, elements) => matches!(elements, Elements::Bool(_)),
            (Self::Float | Self::Double, elements) => {
                matches!(elements, Elements::Int(_) | Elements::Float(_) | Elements::Unsigned(_))
            }
            (Self::String | Self::Binary, elements) => matches!(elements, Elements::Text(_)),
            (Self::Datetime, elements) => matches!(elements, Elements::Int(_)),
        };
        (!is_fitting).then(|| elements.kind().to_owned())
    }
}

fn is_datetime(text: &str) -> bool {
    DateTime::parse_from_rfc3339(text).is_ok()
        || ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
            .iter()
            .any(|format| NaiveDateTime::parse_from_str(text, format).is_ok())
        || NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
}

impl Param {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Column {
    /// `InvalidArgument` names the column, what came and what the signature says.
    pub(crate) fn check(&self, elements: &Elements) -> Result<()> {
        match self.kind.misfit(elements) {
            None => Ok(()),
            Some(has) => Err(Error::invalid(format!(
                "column {:?} holds {has}, and the model's signature says {}",
                self.name,
                self.kind.as_str()
            ))),
        }
    }

    /// Whether a request may leave the column out; the model gets missing values for it.
    pub(crate) const fn may_be_missing(&self) -> bool {
        !self.is_required && self.kind.is_float()
    }
}

/// Checks the parameters that the signature declares; what it does not declare is left to others.
pub(crate) fn check_params(declared: &[Param], given: &Map<String, Value>) -> Result<()> {
    for param in declared {
        let Some(value) = given.get(&param.name) else { continue };
        let fits = |value: &Value| match param.kind {
            Kind::Boolean => value.is_boolean(),
            Kind::Integer => value.as_i64().is_some_and(|value| i32::try_from(value).is_ok()),
            Kind::Long => value.is_i64(),
            Kind::Float | Kind::Double => value.is_number(),
            Kind::String | Kind::Binary => value.is_string(),
            Kind::Datetime => value.as_str().is_some_and(is_datetime),
            Kind::Other => true,
        };
        let is_fitting = match value {
            Value::Array(values) if param.is_list => values.iter().all(fits),
            value => !param.is_list && fits(value),
        };
        if !is_fitting {
            return Err(Error::invalid(format!(
                "parameter {:?} is {value}, and the model's signature says {}{}",
                param.name,
                if param.is_list { "a list of " } else { "" },
                param.kind.as_str()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fishy_inference::TensorData;

    fn column(kind: Kind) -> Column {
        Column { name: "c".into(), kind, is_required: true }
    }

    #[test]
    fn values_of_another_type_are_named_with_their_column() {
        let text = || Elements::Text(vec!["2012-01-01".into(), "soon".into()]);
        let typed = Elements::Typed;
        let fine = [
            (Kind::Double, typed(TensorData::Int64(vec![1]))),
            (Kind::Double, typed(TensorData::Fp32(vec![1.5]))),
            (Kind::Long, typed(TensorData::Fp64(vec![2.0]))),
            (Kind::Integer, typed(TensorData::Int8(vec![-1]))),
            (Kind::String, typed(TensorData::Bytes(vec!["a".into()]))),
            (Kind::Boolean, typed(TensorData::Bool(vec![true]))),
            (Kind::Double, Elements::Int(vec![1])),
            (Kind::Float, Elements::Float(vec![f64::NAN])),
            (Kind::Long, Elements::Float(vec![2.0])),
            (Kind::Integer, Elements::Int(vec![i64::from(i32::MIN)])),
            (Kind::Boolean, Elements::Bool(vec![true])),
            (Kind::String, text()),
            (Kind::Datetime, Elements::Text(vec!["2012-01-01 05:00:00".into()])),
        ];
        for (kind, elements) in fine {
            column(kind).check(&elements).unwrap();
        }
        let wrong = [
            (Kind::Double, text(), "column \"c\" holds texts, and the model's signature says double"),
            (
                Kind::Double,
                Elements::Bool(vec![true]),
                "column \"c\" holds booleans, and the model's signature says double",
            ),
            (Kind::Long, Elements::Float(vec![2.5]), "column \"c\" holds 2.5, and the model's signature says long"),
            (
                Kind::Long,
                Elements::Float(vec![f64::NAN]),
                "column \"c\" holds a missing value, and the model's signature says long",
            ),
            (
                Kind::Integer,
                Elements::Int(vec![3_000_000_000]),
                "column \"c\" holds 3000000000, and the model's signature says integer",
            ),
            (
                Kind::String,
                Elements::Int(vec![1]),
                "column \"c\" holds integers, and the model's signature says string",
            ),
            (
                Kind::Long,
                typed(TensorData::Fp32(vec![2.5])),
                "column \"c\" holds 2.5, and the model's signature says long",
            ),
            (
                Kind::Double,
                typed(TensorData::Bytes(vec!["a".into()])),
                "column \"c\" holds texts, and the model's signature says double",
            ),
            (Kind::Datetime, text(), "column \"c\" holds \"soon\", and the model's signature says datetime"),
        ];
        for (kind, elements, message) in wrong {
            assert_eq!(column(kind).check(&elements).unwrap_err().message(), message);
        }
    }

    #[test]
    fn declared_parameters_are_checked() {
        let declared = r#"[{"name": "alpha", "type": "double", "default": 0.5, "shape": null},
                           {"name": "pens", "dtype": "long", "default": [1], "shape": [-1]}]"#;
        let declared = parse_params(declared).unwrap();
        let check =
            |text: &str| check_params(&declared, serde_json::from_str::<Value>(text).unwrap().as_object().unwrap());
        check(r#"{"alpha": 1, "pens": [1, 2], "other": "x"}"#).unwrap();
        assert_eq!(
            check(r#"{"alpha": "high"}"#).unwrap_err().message(),
            "parameter \"alpha\" is \"high\", and the model's signature says double"
        );
        assert!(check(r#"{"pens": [1, 2.5]}"#).unwrap_err().message().contains("a list of long"));
        assert!(check(r#"{"pens": 1}"#).is_err());
    }
}
