//! A model whose file is JSON: it answers the first feature plus a bias.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fishy_core::{Error, Result};
use fishy_inference::{Datatype, Engine, Model, ModelOptions, Tensor, TensorData, TensorSpec};

pub struct FakeEngine;

struct Biased {
    bias: f32,
    inputs: Vec<TensorSpec>,
}

impl Engine for FakeEngine {
    fn load(&self, path: &Path, _: &ModelOptions) -> Result<Arc<dyn Model>> {
        let bias = std::fs::read_to_string(path)?.trim().parse();
        let bias = bias.map_err(|_| Error::invalid(format!("{} is no model", path.display())))?;
        let input = TensorSpec { name: "x".to_owned(), datatype: Datatype::Fp32, shape: vec![-1, 2] };
        Ok(Arc::new(Biased { bias, inputs: vec![input] }))
    }
}

impl Model for Biased {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &[]
    }

    fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let inputs = fishy_inference::check_inputs(&self.inputs, inputs)?;
        let TensorData::Fp32(values) = &inputs[0].data else { return Err(Error::internal("checked before")) };
        let answers: Vec<f32> = values.chunks(2).map(|row| row[0] + self.bias).collect();
        Ok(vec![Tensor::new("y", [answers.len() as i64, 1], TensorData::Fp32(answers))])
    }

    fn warm_up_p50(&self) -> Option<Duration> {
        None
    }

    fn warm_up_elements(&self) -> usize {
        1
    }
}
