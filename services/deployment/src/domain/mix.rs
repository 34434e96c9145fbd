//! Rows that are partly the one that is explained and partly those of a background, and the numbers that models answer.

use fishy_core::{Error, Result};
use fishy_explain::Coalition;
use fishy_inference::{Datatype, Tensor, TensorSpec};

use super::{Layout, Prepared};

/// One answer of a row may have so many numbers to explain at most.
const MAX_SCALARS: usize = 64;

/// Mixes one row with a background, feature by feature. A feature is an element of a row, or a whole input where that is
/// too large to be told element by element.
pub(crate) struct Mixer<'a> {
    pub(crate) layout: &'a Layout,
    /// One row, in the order of the model's inputs.
    pub(crate) row: Vec<Tensor>,
    pub(crate) background: &'a Prepared,
}

impl<'a> Mixer<'a> {
    /// Of row `row` of a request.
    pub(crate) fn new(layout: &'a Layout, asked: &Prepared, row: usize, background: &'a Prepared) -> Result<Self> {
        let own = asked.tensors.iter().map(|tensor| {
            let stride = tensor.data.len() / asked.rows.max(1);
            let mut shape = tensor.shape.clone();
            if layout.is_batched() {
                shape[0] = 1;
            }
            Tensor::new(tensor.name.clone(), shape, tensor.data.slice(row * stride..(row + 1) * stride))
        });
        let row: Vec<Tensor> = own.collect();
        for (own, other) in row.iter().zip(&background.tensors) {
            let is_alike =
                own.shape.get(1..) == other.shape.get(1..) || !layout.is_batched() && own.shape == other.shape;
            if !is_alike {
                return Err(Error::invalid(format!(
                    "input {:?} has the shape {:?} in the request and {:?} in the background: beside the rows they must agree",
                    own.name, own.shape, other.shape
                )));
            }
        }
        Ok(Self { layout, row, background })
    }

    /// The inputs of the rows that are asked for.
    pub(crate) fn mix(&self, asked: &[Coalition<'_>]) -> Result<Vec<Tensor>> {
        let inputs = self.row.iter().zip(&self.background.tensors).enumerate();
        let mixed = inputs.map(|(index, (own, other))| {
            let features = self.layout.range_of(index);
            let stride = own.data.len();
            let is_by_element = features.len() == stride;
            let picks = asked.iter().flat_map(|mixed| {
                let begin = mixed.background * stride;
                let present = &mixed.present[features.clone()];
                let parts = if is_by_element { stride } else { 1 };
                let width = if is_by_element { 1 } else { stride };
                (0..parts).map(move |part| {
                    let from = if present[part] { 0 } else { begin };
                    (!present[part], from + part * width..from + (part + 1) * width)
                })
            });
            let data = own.data.mixed(&other.data, picks);
            let data = data.ok_or_else(|| Error::internal(format!("input {:?} of two datatypes", own.name)))?;
            let mut shape = own.shape.clone();
            if self.layout.is_batched() {
                shape[0] = asked.len() as i64;
            }
            Ok(Tensor::new(own.name.clone(), shape, data))
        });
        mixed.collect()
    }
}

/// Which numbers of an answer are explained.
#[derive(Debug, PartialEq)]
pub(crate) struct Scalars {
    /// Outputs by their place in the model.
    outputs: Vec<usize>,
}

impl Scalars {
    /// The outputs that are asked for; without any, those that are real numbers, else all that are numbers.
    pub(crate) fn choose(outputs: &[TensorSpec], wanted: &[String]) -> Result<Self> {
        let is_real = |datatype| matches!(datatype, Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64);
        let places = |is_fit: &dyn Fn(&TensorSpec) -> bool| -> Vec<usize> {
            (0..outputs.len()).filter(|place| is_fit(&outputs[*place])).collect()
        };
        if let Some(text) = outputs.iter().find(|spec| spec.datatype == Datatype::Bytes && wanted.contains(&spec.name))
        {
            return Err(Error::invalid(format!("output {:?} is text, and only numbers can be explained", text.name)));
        }
        let found = if wanted.is_empty() {
            let reals = places(&|spec| is_real(spec.datatype));
            if reals.is_empty() { places(&|spec| spec.datatype != Datatype::Bytes) } else { reals }
        } else {
            places(&|spec| wanted.contains(&spec.name))
        };
        if found.is_empty() {
            return Err(Error::invalid("the model gives text only, and only numbers can be explained"));
        }
        Ok(Self { outputs: found })
    }

    /// The numbers of each row, row by row.
    pub(crate) fn read(&self, answer: &[Tensor], rows: usize, is_batched: bool) -> Result<Vec<f64>> {
        let mut columns = Vec::with_capacity(self.outputs.len());
        for tensor in self.outputs.iter().filter_map(|place| answer.get(*place)) {
            if is_batched && tensor.shape.first() != Some(&(rows as i64)) {
                return Err(Error::invalid(format!(
                    "output {:?} has the shape {:?} for {rows} rows: only outputs with a row for each row can be explained",
                    tensor.name, tensor.shape
                )));
            }
            let values = tensor.data.to_f64().unwrap_or_default();
            columns.push((values.len() / rows.max(1), values));
        }
        let width: usize = columns.iter().map(|(stride, _)| stride).sum();
        if width == 0 || width > MAX_SCALARS {
            return Err(Error::invalid(format!(
                "the answer to a row has {width} numbers, and 1 to {MAX_SCALARS} can be explained: name the outputs that matter"
            )));
        }
        let mut all = Vec::with_capacity(rows * width);
        for row in 0..rows {
            for (stride, values) in &columns {
                all.extend_from_slice(values.get(row * stride..(row + 1) * stride).unwrap_or_default());
            }
        }
        Ok(all)
    }

    /// What the numbers of a row are: the output's name, and the element where it has several. `keys` names the elements
    /// of an output by its place, where they have names.
    pub(crate) fn names<'a>(
        &self,
        answer: &[Tensor],
        rows: usize,
        keys: impl Fn(usize) -> Option<&'a [String]>,
    ) -> Vec<(String, Option<String>)> {
        let mut names = Vec::new();
        for place in &self.outputs {
            let Some(tensor) = answer.get(*place) else { continue };
            match tensor.data.len() / rows.max(1) {
                1 => names.push((tensor.name.clone(), None)),
                stride => names.extend((0..stride).map(|element| {
                    let key = keys(*place).and_then(|keys| keys.get(element).cloned());
                    (tensor.name.clone(), Some(key.unwrap_or_else(|| element.to_string())))
                })),
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fishy_inference::TensorData;

    fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: name.into(), datatype, shape: shape.into() }
    }

    #[test]
    fn elements_and_whole_inputs_are_mixed() {
        let inputs = [spec("x", Datatype::Fp32, &[-1, 2]), spec("image", Datatype::Uint8, &[-1, 2000])];
        let layout = Layout::new(&inputs, &[], None).unwrap();
        assert_eq!(layout.features(), ["x_0", "x_1", "image"]);
        let of = |rows: usize, first: f32, shade: u8| Prepared {
            tensors: vec![
                Tensor::new("x", [rows as i64, 2], TensorData::Fp32((0..2 * rows).map(|n| first + n as f32).collect())),
                Tensor::new("image", [rows as i64, 2000], TensorData::Uint8(vec![shade; 2000 * rows])),
            ],
            rows,
        };
        let (asked, background) = (of(2, 1.0, 9), of(2, 10.0, 5));
        let mixer = Mixer::new(&layout, &asked, 1, &background).unwrap();
        let rows = [([true, false, true], 1), ([false, true, false], 0)];
        let coalitions = rows.each_ref().map(|(present, row)| Coalition { present, background: *row });
        let mixed = mixer.mix(&coalitions).unwrap();
        assert_eq!(mixed[0], Tensor::new("x", [2, 2], TensorData::Fp32(vec![3.0, 13.0, 10.0, 4.0])));
        assert_eq!(mixed[1].shape, [2, 2000]);
        assert_eq!(mixed[1].data.slice(1999..2001), TensorData::Uint8(vec![9, 5]));
        let other = Layout::new(&[spec("x", Datatype::Fp32, &[-1, -1])], &[], None).unwrap();
        let wide = |width: i64| Prepared {
            tensors: vec![Tensor::new("x", [1, width], TensorData::Fp32(vec![0.0; width as usize]))],
            rows: 1,
        };
        assert!(Mixer::new(&other, &wide(2), 0, &wide(3)).is_err());
    }

    #[test]
    fn real_numbers_are_explained_before_labels_and_texts_never() {
        let outputs = [
            spec("label", Datatype::Int64, &[-1]),
            spec("name", Datatype::Bytes, &[-1]),
            spec("probabilities", Datatype::Fp32, &[-1, 2]),
        ];
        let answer = [
            Tensor::new("label", [2], TensorData::Int64(vec![1, 0])),
            Tensor::new("name", [2], TensorData::Bytes(vec!["a".into(), "b".into()])),
            Tensor::new("probabilities", [2, 2], TensorData::Fp32(vec![0.25, 0.75, 0.5, 0.5])),
        ];
        let all = Scalars::choose(&outputs, &[]).unwrap();
        assert_eq!(all.read(&answer, 2, true).unwrap(), [0.25, 0.75, 0.5, 0.5]);
        let names = all.names(&answer, 2, |_| None);
        assert_eq!(names[1], ("probabilities".to_owned(), Some("1".to_owned())));
        let labels = Scalars::choose(&outputs, &["label".into()]).unwrap();
        assert_eq!(labels.read(&answer, 2, true).unwrap(), [1.0, 0.0]);
        assert_eq!(Scalars::choose(&outputs[..2], &[]).unwrap(), labels);
        assert!(Scalars::choose(&outputs, &["name".into()]).unwrap_err().message().contains("is text"));
        assert!(Scalars::choose(&outputs[1..2], &[]).is_err());
        let lone = [Tensor::new("label", [], TensorData::Int64(vec![1]))];
        assert!(labels.read(&lone, 2, true).unwrap_err().message().contains("a row for each row"));
    }
}
