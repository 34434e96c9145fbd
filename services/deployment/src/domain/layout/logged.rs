use std::collections::BTreeMap;

use fishy_core::{Error, Result};
use fishy_inference::Datatype;

use super::{Layout, NamedInput, Prepared};
use crate::domain::signature::Kind;
use crate::domain::{Elements, Frame};

/// The features of a logged prediction.
pub(crate) type Logged = BTreeMap<String, Option<f64>>;

impl Layout {
    /// Logged predictions that have the same features, to be asked again. Texts and long arrays are not logged: a model
    /// that takes them is told to lack these features.
    pub(crate) fn prepare_logged(&self, rows: &[&Logged]) -> Result<Prepared> {
        if self.width.is_some() {
            let datatype = self.inputs[0].datatype;
            let is_logged = |name: &&String| rows.first().is_some_and(|row| row.contains_key(*name));
            let columns = self.features.iter().enumerate().filter(|(_, name)| is_logged(name)).map(|(index, name)| {
                let kind = self.columns.get(index).map(|column| column.kind);
                Ok((name.clone(), elements(numbers(rows, std::slice::from_ref(name))?, kind, datatype)))
            });
            return self.prepare_frame(Frame { columns: columns.collect::<Result<_>>()? });
        }
        let inputs = self.inputs.iter().enumerate().map(|(index, spec)| {
            let shape = match spec.shape.split_first() {
                Some((-1, of_row)) => std::iter::once(rows.len() as i64).chain(of_row.iter().copied()).collect(),
                _ => spec.shape.clone(),
            };
            let kind = self.columns.iter().find(|column| column.name == spec.name).map(|column| column.kind);
            let elements = elements(numbers(rows, self.features_of(index))?, kind, spec.datatype);
            Ok(NamedInput { name: spec.name.clone(), shape, elements })
        });
        self.prepare(inputs.collect::<Result<_>>()?)
    }
}

/// The values of some features, row by row.
fn numbers(rows: &[&Logged], features: &[String]) -> Result<Vec<f64>> {
    let mut numbers = Vec::with_capacity(rows.len() * features.len());
    for row in rows {
        for feature in features {
            let value = row.get(feature).ok_or_else(|| {
                Error::precondition(format!("feature {feature:?} is not among the numbers that were logged"))
            })?;
            numbers.push(value.unwrap_or(f64::NAN));
        }
    }
    Ok(numbers)
}

/// Numbers as a request would bring them: all are logged alike.
fn elements(numbers: Vec<f64>, kind: Option<Kind>, datatype: Datatype) -> Elements {
    let are_whole = numbers.iter().all(|number| number.fract() == 0.0);
    match kind {
        Some(Kind::Boolean) => Elements::Bool(numbers.into_iter().map(|number| number != 0.0).collect()),
        None if datatype == Datatype::Bool => Elements::Bool(numbers.into_iter().map(|number| number != 0.0).collect()),
        Some(Kind::Integer | Kind::Long) if are_whole => {
            Elements::Int(numbers.into_iter().map(|number| number as i64).collect())
        }
        _ => Elements::Float(numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::signature::{Column, Signature};
    use fishy_inference::{Tensor, TensorData, TensorSpec};

    fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: name.into(), datatype, shape: shape.into() }
    }

    fn logged(values: &[(&str, Option<f64>)]) -> Logged {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn columns_of_a_matrix_come_back_in_place_with_their_kinds() {
        let column = |name: &str, kind: Kind| Column { name: name.into(), kind, is_required: true };
        let signature = Signature::Columns(vec![column("t", Kind::Double), column("count", Kind::Long)]);
        let layout = Layout::new(&[spec("x", Datatype::Fp32, &[-1, 2])], &[], Some(&signature)).unwrap();
        let rows =
            [logged(&[("count", Some(3.0)), ("t", Some(0.7))]), logged(&[("count", Some(4.0)), ("t", Some(1.5))])];
        let prepared = layout.prepare_logged(&[&rows[0], &rows[1]]).unwrap();
        assert_eq!(prepared.tensors, [Tensor::new("x", [2, 2], TensorData::Fp32(vec![0.7, 3.0, 1.5, 4.0]))]);
        let lacking = logged(&[("count", Some(3.0))]);
        assert!(layout.prepare_logged(&[&lacking]).unwrap_err().message().contains("features are missing: t"));
    }

    #[test]
    fn several_inputs_are_put_together_again() {
        let inputs = [spec("x", Datatype::Fp64, &[-1, 2]), spec("is_day", Datatype::Bool, &[-1])];
        let layout = Layout::new(&inputs, &[], None).unwrap();
        let row = logged(&[("x_0", Some(1.0)), ("x_1", Some(2.0)), ("is_day", Some(1.0))]);
        let prepared = layout.prepare_logged(&[&row, &row]).unwrap();
        assert_eq!(prepared.rows, 2);
        assert_eq!(prepared.tensors[0], Tensor::new("x", [2, 2], TensorData::Fp64(vec![1.0, 2.0, 1.0, 2.0])));
        assert_eq!(prepared.tensors[1], Tensor::new("is_day", [2], TensorData::Bool(vec![true, true])));
        let lacking = logged(&[("x_0", Some(1.0)), ("is_day", None)]);
        assert!(layout.prepare_logged(&[&lacking]).unwrap_err().message().contains("x_1"));
    }
}
