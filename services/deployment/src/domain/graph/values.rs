use std::sync::Arc;

use fishy_contracts::deployment::{Combine, Comparison, Condition, ConditionValue};
use fishy_core::{Error, Result};
use fishy_inference::{Datatype, Tensor, TensorData};

use super::plan::average_type;
use crate::domain::Layout;

/// What a node can take its inputs from.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    /// The inputs of the graph, in the order of its layout.
    pub(crate) inputs: Vec<Arc<Tensor>>,
    /// Outputs of nodes before, the latest last.
    pub(crate) earlier: Vec<Arc<Tensor>>,
    pub(crate) rows: usize,
}

impl Flow {
    /// A tensor by the name of an output, an input or a feature.
    pub(crate) fn find(&self, layout: &Layout, name: &str) -> Option<Tensor> {
        let named = |tensor: &&Arc<Tensor>| tensor.name == name;
        if let Some(tensor) = self.earlier.iter().rev().find(named).or_else(|| self.inputs.iter().find(named)) {
            return Some(Tensor::clone(tensor));
        }
        self.inputs.iter().enumerate().find_map(|(index, tensor)| {
            let features = layout.features_of(index);
            let offset = features.iter().position(|feature| feature == name)?;
            let stride = features.len();
            if tensor.data.len() != stride * self.rows {
                return None;
            }
            let picks = (0..self.rows).map(|row| (false, row * stride + offset..row * stride + offset + 1));
            let data = tensor.data.mixed(&tensor.data, picks)?;
            Some(Tensor::new(name, [self.rows as i64], data))
        })
    }

    /// The same for some of the rows.
    pub(crate) fn pick(&self, rows: &[usize]) -> Self {
        let pick = |tensors: &[Arc<Tensor>]| tensors.iter().map(|tensor| pick_rows(tensor, self.rows, rows)).collect();
        Self { inputs: pick(&self.inputs), earlier: pick(&self.earlier), rows: rows.len() }
    }
}

/// A tensor that has no row for each row belongs to all of them.
fn pick_rows(tensor: &Arc<Tensor>, all: usize, rows: &[usize]) -> Arc<Tensor> {
    if tensor.shape.first() != Some(&(all as i64)) {
        return Arc::clone(tensor);
    }
    let stride = tensor.data.len() / all.max(1);
    let picks = rows.iter().map(|row| (false, row * stride..(row + 1) * stride));
    let Some(data) = tensor.data.mixed(&tensor.data, picks) else { return Arc::clone(tensor) };
    let mut shape = tensor.shape.clone();
    shape[0] = rows.len() as i64;
    Arc::new(Tensor { name: tensor.name.clone(), shape, data })
}

/// For each row the first condition that holds; the number of conditions where none does.
pub(crate) fn choose_cases<'a>(
    conditions: impl Iterator<Item = &'a Condition>,
    layout: &Layout,
    flow: &Flow,
) -> Result<Vec<usize>> {
    let mut taken: Vec<Option<usize>> = vec![None; flow.rows];
    let mut count = 0;
    for (index, condition) in conditions.enumerate() {
        count = index + 1;
        let Some(tensor) = flow.find(layout, &condition.on) else {
            return Err(Error::invalid(format!("there is no {:?} to compare", condition.on)));
        };
        if tensor.data.len() != flow.rows {
            return Err(Error::invalid(format!(
                "{:?} has {} values for {} rows, and a condition needs one a row",
                condition.on,
                tensor.data.len(),
                flow.rows
            )));
        }
        for (row, holds) in holding(condition, &tensor.data)?.into_iter().enumerate() {
            if holds && taken[row].is_none() {
                taken[row] = Some(index);
            }
        }
    }
    Ok(taken.into_iter().map(|case| case.unwrap_or(count)).collect())
}

fn holding(condition: &Condition, data: &TensorData) -> Result<Vec<bool>> {
    let Condition { on, is, value } = condition;
    let held = match (value, data) {
        (ConditionValue::Text(text), TensorData::Bytes(values)) => {
            values.iter().map(|value| compare(*is, value, text)).collect()
        }
        (ConditionValue::Bool(truth), TensorData::Bool(values)) => {
            values.iter().map(|value| compare(*is, value, truth)).collect()
        }
        (ConditionValue::Number(number), data) if data.datatype() != Datatype::Bool => {
            let values = data.to_f64();
            let values = values.ok_or_else(|| Error::invalid(format!("{on:?} is text, and {number} a number")))?;
            values.iter().map(|value| compare(*is, value, number)).collect()
        }
        (value, data) => {
            let datatype = data.datatype();
            return Err(Error::invalid(format!("{on:?} is {datatype}, which cannot be compared with {value:?}")));
        }
    };
    Ok(held)
}

fn compare<T: PartialOrd + ?Sized>(is: Comparison, value: &T, with: &T) -> bool {
    match is {
        Comparison::Equal => value == with,
        Comparison::NotEqual => value != with,
        Comparison::Less => value < with,
        Comparison::LessOrEqual => value <= with,
        Comparison::Greater => value > with,
        Comparison::GreaterOrEqual => value >= with,
    }
}

/// The answers to parts of the rows as one: for each part, which rows it has.
pub(crate) fn merge(parts: Vec<(Vec<usize>, Vec<Tensor>)>, rows: usize) -> Result<Vec<Tensor>> {
    let mut parts = parts.into_iter();
    let Some((mut order, mut merged)) = parts.next() else { return Ok(Vec::new()) };
    for (of_part, outputs) in parts {
        let (before, more) = (order.len(), of_part.len());
        for tensor in &mut merged {
            let other = find(&outputs, &tensor.name)?;
            check_rows(tensor, before)?;
            check_rows(other, more)?;
            if tensor.shape[1..] != other.shape[1..] {
                return Err(differ(tensor, other));
            }
            let both = [(false, 0..tensor.data.len()), (true, 0..other.data.len())];
            tensor.data = tensor.data.mixed(&other.data, both.into_iter()).ok_or_else(|| differ(tensor, other))?;
            tensor.shape[0] = (before + more) as i64;
        }
        order.extend(of_part);
    }
    let mut place = vec![0; rows];
    for (index, row) in order.iter().enumerate() {
        place[*row] = index;
    }
    let merged = merged.into_iter().map(|tensor| Tensor::clone(&pick_rows(&Arc::new(tensor), rows, &place)));
    Ok(merged.collect())
}

fn find<'a>(outputs: &'a [Tensor], name: &str) -> Result<&'a Tensor> {
    let found = outputs.iter().find(|tensor| tensor.name == name);
    found.ok_or_else(|| Error::precondition(format!("a node gives no output {name:?}, and another one does")))
}

fn check_rows(tensor: &Tensor, rows: usize) -> Result<()> {
    if tensor.shape.first() == Some(&(rows as i64)) {
        return Ok(());
    }
    let Tensor { name, shape, .. } = tensor;
    Err(Error::precondition(format!(
        "output {name:?} has the shape {shape:?} for {rows} rows: it needs a row for each"
    )))
}

fn differ(a: &Tensor, b: &Tensor) -> Error {
    let (one, other) = (a.data.datatype(), b.data.datatype());
    let name = &a.name;
    Error::precondition(format!(
        "output {name:?} is {one} {:?} of one node and {other} {:?} of another: beside the rows they must agree",
        a.shape, b.shape
    ))
}

/// The answers of an ensemble as one; `names` are the outputs that are combined.
pub(crate) fn combine(how: Combine, names: &[String], answers: &[Vec<Tensor>], rows: usize) -> Result<Vec<Tensor>> {
    let one = |name: &String| {
        let of_members = answers.iter().map(|outputs| find(outputs, name)).collect::<Result<Vec<_>>>()?;
        let Some(first) = of_members.first() else { return Err(Error::internal("an ensemble without nodes")) };
        if how == Combine::Concatenate {
            return concatenate(&of_members, rows);
        }
        if let Some(other) = of_members.iter().find(|other| {
            other.shape != first.shape
                || other.data.len() != first.data.len()
                || other.data.datatype() != first.data.datatype()
        }) {
            return Err(differ(first, other));
        }
        let data = if how == Combine::Average { average(&of_members)? } else { vote(&of_members)? };
        Ok(Tensor::new(name.clone(), first.shape.clone(), data))
    };
    names.iter().map(one).collect()
}

fn average(of_members: &[&Tensor]) -> Result<TensorData> {
    let mut sums = vec![0.0; of_members[0].data.len()];
    for tensor in of_members {
        let values = tensor.data.to_f64();
        let values =
            values.ok_or_else(|| Error::precondition(format!("output {:?} is text: no average", tensor.name)))?;
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
    let means = sums.into_iter().map(|sum| sum / of_members.len() as f64);
    Ok(match average_type(of_members[0].data.datatype()) {
        Datatype::Fp32 => TensorData::Fp32(means.map(|mean| mean as f32).collect()),
        _ => TensorData::Fp64(means.collect()),
    })
}

fn vote(of_members: &[&Tensor]) -> Result<TensorData> {
    let winner = |at: usize| {
        let values: Vec<TensorData> = of_members.iter().map(|tensor| tensor.data.slice(at..at + 1)).collect();
        let votes = |value: &TensorData| values.iter().filter(|other| *other == value).count();
        // The first of those with most votes: `max_by_key` gives the last.
        (0..values.len()).rev().max_by_key(|member| votes(&values[*member])).unwrap_or_default()
    };
    let winners: Vec<usize> = (0..of_members[0].data.len()).map(winner).collect();
    let mut elected = of_members[0].data.clone();
    for (member, tensor) in of_members.iter().enumerate().skip(1) {
        let picks = winners.iter().enumerate().map(|(at, winner)| (*winner == member, at..at + 1));
        elected = elected.mixed(&tensor.data, picks).ok_or_else(|| differ(of_members[0], tensor))?;
    }
    Ok(elected)
}

fn concatenate(of_members: &[&Tensor], rows: usize) -> Result<Tensor> {
    let first = of_members[0];
    check_rows(first, rows)?;
    let mut joined = first.clone();
    if joined.shape.len() == 1 {
        joined.shape.push(1);
    }
    for other in &of_members[1..] {
        check_rows(other, rows)?;
        if other.shape.get(2..).unwrap_or_default() != &joined.shape[2..] {
            return Err(differ(first, other));
        }
        let (own, more) = (joined.data.len() / rows.max(1), other.data.len() / rows.max(1));
        let picks =
            (0..rows).flat_map(|row| [(false, row * own..(row + 1) * own), (true, row * more..(row + 1) * more)]);
        joined.data = joined.data.mixed(&other.data, picks).ok_or_else(|| differ(first, other))?;
        joined.shape[1] += other.shape.get(1).copied().unwrap_or(1);
    }
    Ok(joined)
}
