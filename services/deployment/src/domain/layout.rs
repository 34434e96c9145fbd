mod logged;

use std::ops::Range;
use std::sync::Arc;

use fishy_core::{Error, Result};
use fishy_inference::{Datatype, Params, Tensor, TensorData, TensorSpec};

use serde_json::{Map, Value};

use super::{Column, Elements, Frame, Param, Signature, check_params};

/// An input of at most so many elements a row is recorded as one feature each (`x_0`, `x_1` …).
const MAX_FEATURES_OF_AN_INPUT: usize = 1024;

/// How requests become the tensors of one model, and how those are told apart into features.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// The columns of the one matrix that the model takes, if it does.
    width: Option<usize>,
    /// The columns that the signature names, if it does, in the order of the features.
    columns: Vec<Column>,
    params: Vec<Param>,
    features: Vec<String>,
    /// Which of the features belong to each input.
    of_input: Vec<Range<usize>>,
}

/// One input of a request.
#[derive(Debug)]
pub(crate) struct NamedInput {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) elements: Elements,
}

/// What the model is run with.
#[derive(Debug, PartialEq)]
pub(crate) struct Prepared {
    /// In the order of the model's inputs.
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) rows: usize,
}

impl Layout {
    pub(crate) fn new(inputs: &[TensorSpec], outputs: &[TensorSpec], signature: Option<&Signature>) -> Result<Self> {
        let (inputs, outputs) = (inputs.to_vec(), outputs.to_vec());
        let columns = match signature {
            Some(Signature::Columns(columns)) => columns.clone(),
            _ => Vec::new(),
        };
        let params = Vec::new();
        if let [only] = inputs.as_slice()
            && only.shape.len() == 2
        {
            let named = (!columns.is_empty()).then_some(columns.len());
            let width = usize::try_from(only.shape[1]).ok().or(named);
            if let Some(width) = width {
                if let Some(named) = named.filter(|named| *named != width) {
                    return Err(Error::precondition(format!(
                        "the model's signature names {named} columns, and its ONNX input {:?} takes {width}",
                        only.name
                    )));
                }
                let features = match named {
                    Some(_) => columns.iter().map(|column| column.name.clone()).collect(),
                    None => expanded(&only.name, width),
                };
                let of_input = std::iter::once(0..features.len()).collect();
                return Ok(Self { inputs, outputs, width: Some(width), columns, params, features, of_input });
            }
        }
        let mut features = Vec::new();
        let mut of_input = Vec::new();
        for input in &inputs {
            let begin = features.len();
            let of_row = if input.shape.first() == Some(&-1) { &input.shape[1..] } else { &input.shape[..] };
            let stride = of_row.iter().try_fold(1_usize, |product, size| {
                usize::try_from(*size).ok().and_then(|size| product.checked_mul(size))
            });
            match stride {
                Some(stride @ 2..=MAX_FEATURES_OF_AN_INPUT) => features.extend(expanded(&input.name, stride)),
                _ => features.push(input.name.clone()),
            }
            of_input.push(begin..features.len());
        }
        Ok(Self { inputs, outputs, width: None, columns, params, features, of_input })
    }

    /// Of a graph: its inputs with the names of their features. Where its one input is the matrix of a model, that also
    /// comes column by column, and `columns` are those of the model's signature.
    pub(crate) fn of_graph(
        inputs: Vec<(TensorSpec, Vec<String>)>,
        outputs: Vec<TensorSpec>,
        (is_matrix, columns): (bool, Vec<Column>),
    ) -> Self {
        let width = inputs.first().filter(|_| is_matrix).map(|(_, features)| features.len());
        let (mut specs, mut features, mut of_input) = (Vec::new(), Vec::new(), Vec::new());
        for (spec, own) in inputs {
            of_input.push(features.len()..features.len() + own.len());
            features.extend(own);
            specs.push(spec);
        }
        Self { inputs: specs, outputs, width, columns, params: Vec::new(), features, of_input }
    }

    /// Whether it takes one matrix, whose columns may also come one by one.
    pub(crate) const fn is_matrix(&self) -> bool {
        self.width.is_some()
    }

    /// The columns that the signature names.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// With the parameters that the signature declares.
    #[must_use]
    pub(crate) fn with_params(mut self, params: Vec<Param>) -> Self {
        self.params = params;
        self
    }

    /// Checks the parameters of a request against those that the signature declares.
    pub(crate) fn check_params(&self, given: &Map<String, Value>) -> Result<()> {
        check_params(&self.params, given)
    }

    /// Those of a request's parameters that the signature declares; `None` when there are none.
    pub(crate) fn declared(&self, given: &Params) -> Option<Arc<Params>> {
        if given.is_empty() {
            return None;
        }
        let names = self.params.iter().map(Param::name);
        let declared: Params = names.filter_map(|name| Some((name.to_owned(), given.get(name)?.clone()))).collect();
        (!declared.is_empty()).then(|| Arc::new(declared))
    }

    pub(crate) fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    pub(crate) fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    pub(crate) fn features(&self) -> &[String] {
        &self.features
    }

    /// Where the features of one input are among all.
    pub(crate) fn range_of(&self, input: usize) -> Range<usize> {
        self.of_input.get(input).cloned().unwrap_or_default()
    }

    /// The features of one input.
    pub(crate) fn features_of(&self, input: usize) -> &[String] {
        self.of_input.get(input).map_or(&[], |range| &self.features[range.clone()])
    }

    /// The model's own inputs, or one input for each column of its matrix.
    pub(crate) fn prepare(&self, inputs: Vec<NamedInput>) -> Result<Prepared> {
        let is_own = |input: &NamedInput| self.inputs.iter().any(|spec| spec.name == input.name);
        if self.width.is_some() && !inputs.is_empty() && !inputs.iter().any(is_own) {
            if let Some(stranger) = inputs.iter().find(|input| !self.features.contains(&input.name)) {
                return Err(Error::invalid(format!(
                    "unknown input {:?}: send the model's own input {:?}, or its features {}",
                    stranger.name,
                    self.inputs[0].name,
                    self.features.join(", ")
                )));
            }
            for input in &inputs {
                let count = input.elements.len() as i64;
                let is_column = matches!(input.shape.as_slice(), [n] | [n, 1] if *n == count);
                if !is_column {
                    return Err(Error::invalid(format!(
                        "input {:?} has shape {:?} and {count} elements: a feature is sent as [n] or [n,1]",
                        input.name, input.shape
                    )));
                }
            }
            return self.assemble(inputs.into_iter().map(|input| (input.name, input.elements)).collect());
        }
        let mut slots: Vec<Option<Tensor>> = self.inputs.iter().map(|_| None).collect();
        for input in inputs {
            let Some(index) = self.inputs.iter().position(|spec| spec.name == input.name) else {
                let known: Vec<String> = self.inputs.iter().map(|spec| format!("{:?}", spec.name)).collect();
                return Err(Error::invalid(format!(
                    "unknown input {:?}: the model takes {}",
                    input.name,
                    known.join(", ")
                )));
            };
            if slots[index].is_some() {
                return Err(Error::invalid(format!("input {:?} was given twice: give it once", input.name)));
            }
            slots[index] = Some(own_tensor(&self.inputs[index], input)?);
        }
        let rows = slots.iter().flatten().find_map(|tensor| tensor.shape.first().copied()).unwrap_or(1);
        let tensors = slots.into_iter().zip(&self.inputs).map(|(slot, spec)| {
            slot.or_else(|| self.missing_column(spec, rows)).ok_or_else(|| {
                Error::invalid(format!(
                    "input {:?} is missing: the model takes it as {} {:?}",
                    spec.name, spec.datatype, spec.shape
                ))
            })
        });
        self.with_rows(tensors.collect::<Result<_>>()?)
    }

    /// A column that a request may leave out, without values.
    fn missing_column(&self, spec: &TensorSpec, rows: i64) -> Option<Tensor> {
        let may_be_missing = self.columns.iter().any(|column| column.name == spec.name && column.may_be_missing());
        if !may_be_missing || spec.shape.len() != 1 {
            return None;
        }
        let missing = Elements::Float(vec![f64::NAN; usize::try_from(rows).ok()?]);
        let data = missing.into_data(spec.datatype, &format_args!("input {:?}", spec.name)).ok()?;
        Some(Tensor { name: spec.name.clone(), shape: vec![rows], data })
    }

    /// The columns of a data frame by name; columns that the model does not know are left out, as MLflow does.
    pub(crate) fn prepare_frame(&self, frame: Frame) -> Result<Prepared> {
        if self.width.is_some() {
            let mut columns = frame.columns;
            let has_names = self.features.iter().any(|feature| columns.iter().any(|(name, _)| name == feature));
            if self.columns.is_empty() && !has_names && columns.len() == self.features.len() {
                // A matrix model without a signature has no names to go by: the order counts.
                for ((name, _), feature) in columns.iter_mut().zip(&self.features) {
                    name.clone_from(feature);
                }
            }
            columns.retain(|(name, _)| self.features.contains(name));
            return self.assemble(columns);
        }
        for (name, elements) in &frame.columns {
            if let Some(column) = self.columns.iter().find(|column| column.name == *name) {
                column.check(elements)?;
            }
        }
        let inputs = frame.columns.into_iter().filter(|(name, _)| self.inputs.iter().any(|spec| spec.name == *name));
        let inputs =
            inputs.map(|(name, elements)| NamedInput { shape: vec![elements.len() as i64], name, elements }).collect();
        self.prepare(inputs)
    }

    /// One array without a name, for a model that takes one input.
    pub(crate) fn prepare_array(&self, shape: Vec<i64>, elements: Elements) -> Result<Prepared> {
        let [only] = self.inputs.as_slice() else {
            let known: Vec<String> = self.inputs.iter().map(|spec| format!("{:?}", spec.name)).collect();
            return Err(Error::invalid(format!(
                "an array without a name fits models of one input; this one takes {}: send an object with these names",
                known.join(", ")
            )));
        };
        self.prepare(vec![NamedInput { name: only.name.clone(), shape, elements }])
    }

    fn assemble(&self, columns: Vec<(String, Elements)>) -> Result<Prepared> {
        let spec = &self.inputs[0];
        let rows = columns.first().map_or(0, |(_, elements)| elements.len());
        let mut ordered: Vec<Option<TensorData>> = self.features.iter().map(|_| None).collect();
        for (name, elements) in columns {
            if elements.len() != rows {
                return Err(Error::invalid(format!(
                    "feature {name:?} has {} rows and another has {rows}",
                    elements.len()
                )));
            }
            // Names are few: looking through them is faster than hashing.
            let Some(index) = self.features.iter().position(|feature| *feature == name) else { continue };
            if ordered[index].is_some() {
                return Err(Error::invalid(format!("feature {name:?} was given twice: give it once")));
            }
            if let Some(column) = self.columns.get(index) {
                column.check(&elements)?;
            }
            ordered[index] = Some(elements.into_data(spec.datatype, &format_args!("feature {name:?}"))?);
        }
        for (column, slot) in self.columns.iter().zip(&mut ordered) {
            if slot.is_none() && column.may_be_missing() {
                let missing = Elements::Float(vec![f64::NAN; rows]);
                *slot = Some(missing.into_data(spec.datatype, &format_args!("feature {:?}", column.name))?);
            }
        }
        let missing: Vec<&str> = self
            .features
            .iter()
            .zip(&ordered)
            .filter(|(_, column)| column.is_none())
            .map(|(feature, _)| feature.as_str())
            .collect();
        if !missing.is_empty() {
            return Err(Error::invalid(format!(
                "features are missing: {}; the model takes {}",
                missing.join(", "),
                self.features.join(", ")
            )));
        }
        let data = interleave(spec.datatype, ordered.into_iter().flatten().collect(), rows);
        let shape = vec![rows as i64, self.features.len() as i64];
        self.with_rows(vec![Tensor { name: spec.name.clone(), shape, data }])
    }

    /// Whether the first dimension of every input counts rows; else a request is one row.
    pub(crate) fn is_batched(&self) -> bool {
        self.width.is_some() || self.inputs.iter().all(|spec| spec.shape.first() == Some(&-1))
    }

    fn with_rows(&self, tensors: Vec<Tensor>) -> Result<Prepared> {
        if !self.is_batched() {
            return Ok(Prepared { tensors, rows: 1 });
        }
        let rows_of = |tensor: &Tensor| tensor.shape.first().copied().unwrap_or(1);
        let rows = tensors.first().map_or(1, rows_of);
        if let Some(other) = tensors.iter().find(|tensor| rows_of(tensor) != rows) {
            return Err(Error::invalid(format!(
                "input {:?} has {rows} rows and {:?} has {}: they must agree",
                tensors[0].name,
                other.name,
                rows_of(other)
            )));
        }
        match usize::try_from(rows) {
            Ok(rows) if rows > 0 => Ok(Prepared { tensors, rows }),
            _ => Err(Error::invalid("the request has no row: send at least one")),
        }
    }
}

fn expanded(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{name}_{index}")).collect()
}

/// A model's own input. `[n]` and `[n,1]` stand for each other: clients differ in what they make of a column.
fn own_tensor(spec: &TensorSpec, input: NamedInput) -> Result<Tensor> {
    let NamedInput { name, mut shape, elements } = input;
    let count = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(usize::try_from(*size).ok()?));
    if count != Some(elements.len()) {
        return Err(Error::invalid(format!(
            "input {name:?} has {} elements, and its shape {shape:?} holds {}",
            elements.len(),
            count.map_or_else(|| "another number".to_owned(), |count| count.to_string())
        )));
    }
    match (spec.shape.as_slice(), shape.as_slice()) {
        ([_, 1 | -1], [rows]) => shape = vec![*rows, 1],
        ([_], [rows, 1]) => shape = vec![*rows],
        _ => {}
    }
    let data = elements.into_data(spec.datatype, &format_args!("input {name:?}"))?;
    Ok(Tensor { name, shape, data })
}

fn interleave(datatype: Datatype, columns: Vec<TensorData>, rows: usize) -> TensorData {
    macro_rules! interleave {
        ($($variant:ident),*) => {
            match datatype {
                $(Datatype::$variant => {
                    let columns: Vec<Vec<_>> = columns
                        .into_iter()
                        .filter_map(|column| if let TensorData::$variant(values) = column { Some(values) } else { None })
                        .collect();
                    TensorData::$variant(by_row(columns, rows))
                })*
            }
        };
    }
    interleave!(Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Fp16, Bf16, Fp32, Fp64, Bytes)
}

fn by_row<T>(columns: Vec<Vec<T>>, rows: usize) -> Vec<T> {
    if rows == 1 {
        return columns.into_iter().flatten().collect();
    }
    let mut values = Vec::with_capacity(columns.len() * rows);
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    for _ in 0..rows {
        values.extend(columns.iter_mut().filter_map(Iterator::next));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: name.into(), datatype, shape: shape.into() }
    }

    fn column(name: &str) -> Column {
        Column { name: name.into(), kind: crate::domain::signature::Kind::Double, is_required: true }
    }

    fn columns() -> Signature {
        Signature::Columns(["t", "s"].map(column).to_vec())
    }

    fn matrix() -> Layout {
        let signature = columns();
        let inputs = [spec("x", Datatype::Fp32, &[-1, 2])];
        Layout::new(&inputs, &[spec("y", Datatype::Fp32, &[-1, 1])], Some(&signature)).unwrap()
    }

    fn input(name: &str, shape: &[i64], values: &[f64]) -> NamedInput {
        NamedInput { name: name.into(), shape: shape.into(), elements: Elements::Float(values.into()) }
    }

    #[test]
    fn columns_are_put_in_place_by_name_whatever_their_order_and_shape() {
        let expected =
            Prepared { tensors: vec![Tensor::new("x", [2, 2], TensorData::Fp32(vec![1.0, 10.0, 2.0, 20.0]))], rows: 2 };
        let columns = vec![input("s", &[2, 1], &[10.0, 20.0]), input("t", &[2], &[1.0, 2.0])];
        assert_eq!(matrix().prepare(columns).unwrap(), expected);
        let own = vec![input("x", &[2, 2], &[1.0, 10.0, 2.0, 20.0])];
        assert_eq!(matrix().prepare(own).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_with_a_request_is_named() {
        let cases = [
            (vec![input("t", &[1], &[1.0])], "features are missing: s; the model takes t, s"),
            (
                vec![input("t", &[1], &[1.0]), input("q", &[1], &[1.0])],
                "unknown input \"q\": send the model's own input \"x\", or its features t, s",
            ),
            (
                vec![input("t", &[1], &[1.0]), input("s", &[2], &[1.0, 2.0])],
                "feature \"s\" has 2 rows and another has 1",
            ),
            (vec![input("t", &[1], &[1.0]), input("t", &[1], &[1.0])], "feature \"t\" was given twice: give it once"),
            (vec![input("x", &[2, 2], &[1.0])], "input \"x\" has 1 elements, and its shape [2, 2] holds 4"),
            (vec![input("x", &[0, 2], &[])], "the request has no row: send at least one"),
            (vec![], "input \"x\" is missing: the model takes it as FP32 [-1, 2]"),
            (
                vec![input("t", &[1, 3], &[1.0])],
                "input \"t\" has shape [1, 3] and 1 elements: a feature is sent as [n] or [n,1]",
            ),
        ];
        for (inputs, message) in cases {
            assert_eq!(matrix().prepare(inputs).unwrap_err().message(), message);
        }
    }

    #[test]
    fn features_are_named_by_the_signature_else_by_input_and_place() {
        let layout =
            |signature: Option<Signature>| Layout::new(&[spec("x", Datatype::Fp32, &[-1, 2])], &[], signature.as_ref());
        assert_eq!(layout(Some(Signature::Tensors)).unwrap().features(), ["x_0", "x_1"]);
        assert_eq!(layout(None).unwrap().features(), ["x_0", "x_1"]);
        let three = Signature::Columns(["a", "b", "c"].map(column).to_vec());
        assert!(layout(Some(three)).unwrap_err().message().contains("names 3 columns"));
        let several = [spec("t", Datatype::Fp32, &[-1, 1]), spec("image", Datatype::Fp32, &[-1, 3, 500, 500])];
        assert_eq!(Layout::new(&several, &[], None).unwrap().features(), ["t", "image"]);
    }

    #[test]
    fn several_inputs_must_have_the_same_rows_and_columns_stand_for_vectors() {
        let inputs = [spec("t", Datatype::Fp64, &[-1, 1]), spec("n", Datatype::Int64, &[-1])];
        let layout = Layout::new(&inputs, &[], None).unwrap();
        let fine = layout.prepare(vec![input("n", &[2, 1], &[1.0, 2.0]), input("t", &[2], &[0.5, 0.6])]).unwrap();
        assert_eq!(fine.tensors[0], Tensor::new("t", [2, 1], TensorData::Fp64(vec![0.5, 0.6])));
        assert_eq!(fine.tensors[1], Tensor::new("n", [2], TensorData::Int64(vec![1, 2])));
        let uneven = layout.prepare(vec![input("n", &[1], &[1.0]), input("t", &[2], &[0.5, 0.6])]).unwrap_err();
        assert!(uneven.message().contains("must agree"), "{uneven}");
    }

    #[test]
    fn an_optional_column_may_be_left_out_and_is_missing_then() {
        let optional = Column { is_required: false, ..column("s") };
        let signature = Signature::Columns(vec![column("t"), optional]);
        let layout = Layout::new(&[spec("x", Datatype::Fp32, &[-1, 2])], &[], Some(&signature)).unwrap();
        let prepared = layout.prepare(vec![input("t", &[1], &[1.0])]).unwrap();
        let TensorData::Fp32(values) = &prepared.tensors[0].data else { panic!("{prepared:?}") };
        assert!((values[0] - 1.0).abs() < 1e-9 && values[1].is_nan());
        let error = layout.prepare(vec![input("s", &[1], &[1.0])]).unwrap_err();
        assert_eq!(error.message(), "features are missing: t; the model takes t, s");
    }
}
