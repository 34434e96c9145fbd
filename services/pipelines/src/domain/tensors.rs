//! Rows as a model takes them, and its answers as numbers.

use std::collections::BTreeMap;

use fishy_core::{Error, Result};
use fishy_inference::{Datatype, Model, Tensor, TensorData, TensorSpec};

/// Rows that are given to a model at once where it takes any number.
const BATCH: usize = 1_024;

/// Features of one row by name; a missing value is `None`.
pub type Inputs = BTreeMap<String, Option<f64>>;

/// Runs a model over rows; one answer for each, from its first output. Blocks the thread.
///
/// `features` are the names in the model's order: see [`feature_names`].
pub fn answers(model: &dyn Model, features: &[String], rows: &[&Inputs]) -> Result<Vec<f64>> {
    let is_nowhere = |name: &&String| !rows.is_empty() && rows.iter().all(|row| !row.contains_key(*name));
    if let Some(name) = features.iter().find(is_nowhere) {
        return Err(Error::precondition(format!("the model takes feature {name:?}, which no held-out row has")));
    }
    let takes_any = model.inputs().iter().all(|input| input.shape.first().is_none_or(|size| *size < 0));
    let mut answers = Vec::with_capacity(rows.len());
    for batch in rows.chunks(if takes_any { BATCH } else { 1 }) {
        let outputs = model.run(tensors(model.inputs(), features, batch)?)?;
        let first = outputs.first().ok_or_else(|| Error::precondition("the model has no output"))?;
        let numbers = numbers(&first.data)?;
        if numbers.len() != batch.len() {
            return Err(Error::precondition(format!(
                "output {:?} has {} numbers for {} rows: the first output must be one number a row",
                first.name,
                numbers.len(),
                batch.len()
            )));
        }
        answers.extend(numbers);
    }
    Ok(answers)
}

/// The features a model takes, in its order: by its signature, else by the names of its inputs where the data have
/// them, else those of the data.
pub fn feature_names(model: &dyn Model, signature: &[String], of_data: &[String]) -> Vec<String> {
    if !signature.is_empty() {
        return signature.to_vec();
    }
    let inputs: Vec<String> = model.inputs().iter().map(|input| input.name.clone()).collect();
    if inputs.iter().all(|name| of_data.contains(name)) { inputs } else { of_data.to_vec() }
}

/// One matrix, or one column for each feature: whichever the model takes.
fn tensors(specs: &[TensorSpec], features: &[String], rows: &[&Inputs]) -> Result<Vec<Tensor>> {
    let value = |row: &Inputs, name: &String| row.get(name).copied().flatten().unwrap_or(f64::NAN);
    let n = rows.len() as i64;
    if let [spec] = specs {
        let width = features.len() as i64;
        let shape = match spec.shape.as_slice() {
            [_, columns] if *columns < 0 || *columns == width => vec![n, width],
            [_] if width == 1 => vec![n],
            shape => {
                return Err(Error::precondition(format!(
                    "input {:?} has shape {shape:?}, which does not take {width} features",
                    spec.name
                )));
            }
        };
        let flat = rows.iter().flat_map(|row| features.iter().map(|name| value(row, name))).collect();
        return Ok(vec![Tensor::new(&spec.name, shape, typed(spec, flat)?)]);
    }
    specs
        .iter()
        .map(|spec| {
            let name = features.iter().find(|name| **name == spec.name).ok_or_else(|| {
                Error::precondition(format!("input {:?} of the model is not in its signature", spec.name))
            })?;
            let shape = if spec.shape.len() == 1 { vec![n] } else { vec![n, 1] };
            let column = rows.iter().map(|row| value(row, name)).collect();
            Ok(Tensor::new(&spec.name, shape, typed(spec, column)?))
        })
        .collect()
}

fn typed(spec: &TensorSpec, values: Vec<f64>) -> Result<TensorData> {
    Ok(match spec.datatype {
        Datatype::Fp32 => TensorData::Fp32(values.into_iter().map(|value| value as f32).collect()),
        Datatype::Fp64 => TensorData::Fp64(values),
        Datatype::Int64 => TensorData::Int64(values.into_iter().map(|value| value as i64).collect()),
        Datatype::Int32 => TensorData::Int32(values.into_iter().map(|value| value as i32).collect()),
        other => {
            return Err(Error::precondition(format!("input {:?} takes {other}, and features are numbers", spec.name)));
        }
    })
}

fn numbers(data: &TensorData) -> Result<Vec<f64>> {
    Ok(match data {
        TensorData::Fp32(values) => values.iter().copied().map(f64::from).collect(),
        TensorData::Fp64(values) => values.clone(),
        TensorData::Int64(values) => values.iter().map(|value| *value as f64).collect(),
        TensorData::Int32(values) => values.iter().copied().map(f64::from).collect(),
        other => {
            return Err(Error::precondition(format!("the first output is {}, not a number", other.datatype())));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Adds up what it gets, row by row.
    struct Sum(Vec<TensorSpec>);

    impl Model for Sum {
        fn inputs(&self) -> &[TensorSpec] {
            &self.0
        }
        fn outputs(&self) -> &[TensorSpec] {
            &[]
        }
        fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
            let inputs = fishy_inference::check_inputs(&self.0, inputs)?;
            let rows = inputs[0].shape[0] as usize;
            let mut sums = vec![0.0; rows];
            for input in &inputs {
                let values = numbers(&input.data)?;
                let width = values.len() / rows;
                for (index, value) in values.iter().enumerate() {
                    // The place in the row weighs in, so that a wrong order shows.
                    sums[index / width] += value * (index % width + 1) as f64;
                }
            }
            Ok(vec![Tensor::new("y", [rows as i64, 1], TensorData::Fp64(sums))])
        }
        fn warm_up_p50(&self) -> Option<Duration> {
            None
        }
        fn warm_up_elements(&self) -> usize {
            1
        }
    }

    fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() }
    }

    fn rows(n: usize) -> Vec<Inputs> {
        (0..n).map(|i| BTreeMap::from([("b".to_owned(), Some(i as f64)), ("a".to_owned(), Some(100.0))])).collect()
    }

    fn run(specs: Vec<TensorSpec>, n: usize) -> Result<Vec<f64>> {
        let rows = rows(n);
        answers(&Sum(specs), &["b".to_owned(), "a".to_owned()], &rows.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_matrix_has_the_order_of_the_features_and_any_number_of_rows() {
        for (datatype, batch) in [(Datatype::Fp32, -1), (Datatype::Fp64, 1)] {
            let answers = run(vec![spec("x", datatype, &[batch, 2])], 3_000).unwrap();
            assert_eq!(answers.len(), 3_000);
            assert_eq!(answers[2_999..], [2_999.0 + 200.0]);
        }
    }

    #[test]
    fn columns_go_by_name() {
        let specs = vec![spec("a", Datatype::Fp32, &[-1, 1]), spec("b", Datatype::Fp64, &[-1])];
        assert_eq!(run(specs, 2).unwrap(), [100.0, 101.0]);
    }

    #[test]
    fn names_come_from_the_signature_the_inputs_or_the_data() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let matrix = Sum(vec![spec("x", Datatype::Fp32, &[-1, 2])]);
        let columns = Sum(vec![spec("b", Datatype::Fp32, &[-1]), spec("a", Datatype::Fp32, &[-1])]);
        let of_data = names(&["a", "b", "c"]);
        assert_eq!(feature_names(&matrix, &names(&["b"]), &of_data), ["b"]);
        assert_eq!(feature_names(&matrix, &[], &of_data), ["a", "b", "c"]);
        assert_eq!(feature_names(&columns, &[], &of_data), ["b", "a"]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (specs, expected) in [
            (vec![spec("x", Datatype::Fp32, &[-1, 3])], "does not take 2 features"),
            (vec![spec("x", Datatype::Bytes, &[-1, 2])], "features are numbers"),
            (vec![spec("a", Datatype::Fp32, &[-1]), spec("c", Datatype::Fp32, &[-1])], "\"c\""),
        ] {
            let error = run(specs, 2).unwrap_err();
            assert!(error.message().contains(expected), "{error}");
        }
        let rows = rows(1);
        let error = answers(&Sum(vec![]), &["o2".to_owned()], &[&rows[0]]).unwrap_err();
        assert!(error.message().contains("\"o2\""), "{error}");
    }
}
