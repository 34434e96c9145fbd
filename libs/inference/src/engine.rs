use crate::{PythonInterface, Tensor, TensorSpec, golden, tensor::element_count};
use fishy_core::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A call that takes longer than this does not belong on an async thread: handing it over costs less.
const FAST: Duration = Duration::from_micros(50);

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// How many calls may run at the same time; memory grows with it. At least 1.
    pub sessions: usize,
    /// How long a call waits for a session before it is refused with `ResourceExhausted`.
    pub wait: Duration,
    /// At most how many runs warm the model up; 0 for none, which leaves the model counted as slow.
    pub warm_up_runs: usize,
    /// Threads that one call may use inside of the model. 1 is best for small models; large convolutions gain from more.
    pub intra_threads: usize,
    /// How much the engine rewrites the graph when it loads it.
    pub optimization: Optimization,
    /// The deployment, for logs and metrics.
    pub name: String,
    /// What a Python model takes; `None` for files that say so themselves.
    pub python: Option<PythonInterface>,
    /// Inputs to warm up with, best the example that came with the model; without them, zeros of one row.
    pub warm_up_inputs: Option<Vec<Tensor>>,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            sessions: 1,
            wait: Duration::from_secs(30),
            warm_up_runs: 20,
            intra_threads: 1,
            optimization: Optimization::default(),
            name: String::new(),
            python: None,
            warm_up_inputs: None,
        }
    }
}

/// How much an engine rewrites a graph when it loads it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimization {
    /// Not at all: the graph runs as it was exported.
    Disabled,
    /// What keeps the graph's meaning exactly: constants folded, dead nodes dropped.
    Basic,
    /// Operators fused as well.
    Extended,
    /// Layouts of memory changed as well.
    #[default]
    All,
}

/// How MLflow's scoring protocol tells an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerForm {
    /// Rows for rows, arrays by name for arrays.
    #[default]
    AsAsked,
    /// The one output as a plain array.
    Array,
    /// One record a row.
    Records,
    /// Arrays by name.
    Arrays,
}

/// Parameters of a request by name, as MLflow's scoring protocol has them.
pub type Params = Map<String, Value>;

/// Turns a model file into something that can run.
pub trait Engine: Send + Sync {
    /// Loads a model file. Slow: reads and optimises the graph, then warms it up.
    ///
    /// `NotFound` when there is no such file, `InvalidArgument` when the engine cannot serve it.
    fn load(&self, path: &Path, options: &ModelOptions) -> Result<Arc<dyn Model>>;
}

/// A loaded model.
pub trait Model: Send + Sync {
    /// What it takes, in the model's order.
    fn inputs(&self) -> &[TensorSpec];

    /// What it gives, in the model's order.
    fn outputs(&self) -> &[TensorSpec];

    /// Runs the model once; the inputs may come in any order, the outputs come in the model's.
    ///
    /// Blocks the thread: ask [`is_fast_for`](Self::is_fast_for) before calling it on an async one.
    /// `InvalidArgument` for inputs that do not fit, `ResourceExhausted` when all sessions stay busy.
    fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>>;

    /// Runs the model on inputs that [`check_inputs`](crate::check_inputs) has put into the model's order.
    fn run_ordered(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run(inputs.to_vec())
    }

    /// The same with the parameters of a request that the model's signature declares. Only a Python model has a use for
    /// them: a graph has none.
    fn run_with(&self, inputs: &[Tensor], _params: &Params) -> Result<Vec<Tensor>> {
        self.run_ordered(inputs)
    }

    /// Runs inputs that the model takes a few times, and measures anew how long a call takes.
    fn warm_up(&self, _inputs: &[Tensor], _runs: usize) -> Result<()> {
        Ok(())
    }

    /// The keys of an output that the model gives as maps, by its index: the output's last dimension follows their order.
    /// `None` for a tensor, and before the first run.
    fn map_keys(&self, _output: usize) -> Option<&[String]> {
        None
    }

    /// How MLflow's scoring protocol tells its answers.
    fn answer_form(&self) -> AnswerForm {
        AnswerForm::AsAsked
    }

    /// What runs it, as the Open Inference Protocol names it.
    fn platform(&self) -> &'static str {
        "onnxruntime_onnx"
    }

    /// How many calls run at the same time; more have to wait.
    fn sessions(&self) -> usize {
        1
    }

    /// Bytes of the weights that its sessions share.
    fn shared_bytes(&self) -> usize {
        0
    }

    /// The median time of a warm-up run; `None` when the model was not, or could not be, warmed up.
    fn warm_up_p50(&self) -> Option<Duration>;

    /// How many elements the inputs of a warm-up run held in total.
    fn warm_up_elements(&self) -> usize;

    /// Whether a call of the size of the warm-up takes at most 50 µs.
    fn is_fast(&self) -> bool {
        self.warm_up_p50().is_some_and(|p50| p50 <= FAST)
    }

    /// Whether a call with these inputs will take at most 50 µs, taking time to grow with the number of elements.
    fn is_fast_for(&self, inputs: &[Tensor]) -> bool {
        let elements: usize = inputs.iter().map(|input| input.data.len()).sum();
        let times = elements.div_ceil(self.warm_up_elements().max(1)).max(1);
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.warm_up_p50().is_some_and(|p50| p50.saturating_mul(times) <= FAST)
    }

    /// Runs the golden inputs and compares with the golden outputs, which may be some of the model's.
    ///
    /// Floats may differ by `atol + rtol * |expected|` (NaN equals NaN); everything else must be equal.
    /// `FailedPrecondition` names the first element that is too far off.
    fn reproduces(&self, golden_inputs: &[Tensor], golden_outputs: &[Tensor], rtol: f64, atol: f64) -> Result<()> {
        let outputs = self.run(golden_inputs.to_vec())?;
        golden::compare(&outputs, golden_outputs, rtol, atol)
    }
}

/// One row of zeros for each input: what a model is warmed up with when nobody says better.
pub(crate) fn zeros(specs: &[TensorSpec]) -> Option<Vec<Tensor>> {
    specs
        .iter()
        .map(|spec| {
            let shape: Vec<i64> = spec.shape.iter().map(|&size| if size < 0 { 1 } else { size }).collect();
            let data = crate::TensorData::zeros(spec.datatype, element_count(&shape)?);
            Some(Tensor { name: spec.name.clone(), shape, data })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorData;

    struct Timed(Option<Duration>);

    impl Model for Timed {
        fn inputs(&self) -> &[TensorSpec] {
            &[]
        }
        fn outputs(&self) -> &[TensorSpec] {
            &[]
        }
        fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
            Ok(inputs)
        }
        fn warm_up_p50(&self) -> Option<Duration> {
            self.0
        }
        fn warm_up_elements(&self) -> usize {
            4
        }
    }

    #[test]
    fn a_fast_model_is_slow_for_many_rows() {
        let rows = |n: usize| vec![Tensor::new("x", [n as i64, 4], TensorData::Fp32(vec![0.0; n * 4]))];
        let model = Timed(Some(Duration::from_micros(5)));
        assert!(model.is_fast());
        assert!(model.is_fast_for(&rows(1)) && model.is_fast_for(&rows(10)));
        assert!(!model.is_fast_for(&rows(11)));
        assert!(!Timed(Some(Duration::from_micros(51))).is_fast());
        assert!(!Timed(None).is_fast() && !Timed(None).is_fast_for(&rows(1)));
    }
}
