//! Models without an ONNX form: a pool of Python worker processes behind the traits of every engine.

use crate::engine::zeros;
use crate::{AnswerForm, Datatype, Engine, Model, ModelOptions, Params, Tensor, TensorData, TensorSpec, check_inputs};
use fishy_core::{Error, ErrorCode, Result};
use fishy_processes::{Channel, Fleet, FleetOptions, Frame, Lease, Limits, Process, Python, Staff};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often a worker is looked after; that it ended shows at once.
const CHECK_EVERY: Duration = Duration::from_mins(1);
/// A request whose worker died is asked of another one, once: it may be what killed it.
const ATTEMPTS: usize = 2;

/// What a Python model takes, which only its description says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonInterface {
    /// Its inputs.
    pub inputs: Vec<TensorSpec>,
    /// What they are made into.
    pub form: PythonForm,
    /// Inputs whose texts are times.
    pub datetimes: Vec<String>,
}

/// What a Python model is asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PythonForm {
    /// A data frame with a column for each input.
    Frame,
    /// The one input, as an array.
    Array,
    /// Arrays by name.
    Arrays,
}

/// Bounds of Python models.
#[derive(Debug, Clone)]
pub struct PythonSettings {
    /// What each worker may use.
    pub limits: Limits,
    /// Whether workers may use the network.
    pub is_network_open: bool,
    /// How long a worker may take to load its model.
    pub start_timeout: Duration,
    /// How long it may take for one call.
    pub timeout: Duration,
    /// Seconds of a processor that it may use for one call.
    pub processor_seconds: u64,
    /// The largest answer to one call.
    pub max_answer_bytes: u64,
}

/// Runs MLflow's Python models in processes of their own. `load` takes the model's folder, and what it takes in
/// [`ModelOptions::python`]; `sessions` is the number of workers.
///
/// Must be used on blocking threads of a Tokio runtime.
pub struct PythonEngine {
    python: Arc<Python>,
    settings: PythonSettings,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl PythonEngine {
    /// An engine whose workers end when `stop` is cancelled, and are awaited by `tasks`.
    pub const fn new(
        python: Arc<Python>,
        settings: PythonSettings,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self { python, settings, tasks, stop }
    }

    async fn load_model(&self, path: &Path, options: &ModelOptions, interface: PythonInterface) -> Result<PythonModel> {
        let interpreter = self.python.interpreter(path).await?;
        let settings = &self.settings;
        let fleet_options = FleetOptions {
            name: options.name.clone(),
            processes: options.sessions.max(1),
            lanes: 1,
            max_waiting: usize::MAX,
            start_timeout: settings.start_timeout,
            check_every: CHECK_EVERY,
        };
        let staff = Workers {
            python: Arc::clone(&self.python),
            interpreter,
            model: std::path::absolute(path)?,
            threads: options.intra_threads,
            settings: settings.clone(),
            interface: interface.clone(),
        };
        let fleet = Fleet::start(staff, fleet_options, &self.tasks, &self.stop);
        fleet.ready().await.map_err(|error| error.context("the model cannot be loaded in Python"))?;
        let mut model = PythonModel {
            inputs: interface.inputs,
            outputs: Vec::new(),
            form: AnswerForm::Array,
            workers: options.sessions.max(1),
            wait: options.wait,
            fleet,
            runtime: Handle::current(),
        };
        model.learn_outputs(options.warm_up_inputs.clone()).await?;
        Ok(model)
    }
}

impl Engine for PythonEngine {
    fn load(&self, path: &Path, options: &ModelOptions) -> Result<Arc<dyn Model>> {
        let interface = options.python.clone();
        let interface = interface.ok_or_else(|| Error::internal("what the Python model takes was not told"))?;
        let runtime = Handle::try_current().map_err(|error| Error::internal("no runtime").with_source(error))?;
        let begun = Instant::now();
        let model = runtime.block_on(self.load_model(path, options, interface))?;
        let took_ms = begun.elapsed().as_millis() as u64;
        tracing::info!(model = %path.display(), workers = model.workers, took_ms, "loaded Python model");
        Ok(Arc::new(model))
    }
}

/// How workers are started.
struct Workers {
    python: Arc<Python>,
    interpreter: PathBuf,
    model: PathBuf,
    threads: usize,
    settings: PythonSettings,
    interface: PythonInterface,
}

/// A worker that has loaded its model.
struct Worker(Mutex<Channel>);

impl Staff for Workers {
    type Up = Worker;

    fn start(&self, _index: usize) -> BoxFuture<'_, Result<(Process, Worker)>> {
        async move {
            let scratch = self.python.scratch()?;
            let settings = Map::from_iter([
                ("kind".to_owned(), json!("model")),
                ("path".to_owned(), json!(self.model)),
                ("is_network_open".to_owned(), json!(self.settings.is_network_open)),
                ("processor_seconds".to_owned(), json!(self.settings.processor_seconds)),
                ("form".to_owned(), json!(self.interface.form)),
                ("datetimes".to_owned(), json!(self.interface.datetimes)),
            ]);
            let limits = self.settings.limits;
            let started = self.python.start(&self.interpreter, scratch, self.threads, limits, settings).await;
            let (process, channel) = started?;
            Ok((process, Worker(Mutex::new(channel))))
        }
        .boxed()
    }

    fn check<'a>(&'a self, _worker: &'a Worker) -> BoxFuture<'a, Result<()>> {
        // It has nothing to say between requests; that it hangs shows with the next one.
        async { Ok(()) }.boxed()
    }
}

struct PythonModel {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    form: AnswerForm,
    workers: usize,
    wait: Duration,
    fleet: Fleet<Workers>,
    runtime: Handle,
}

/// One tensor, as frames tell it.
#[derive(Serialize, Deserialize)]
struct Told {
    name: String,
    datatype: Datatype,
    shape: Vec<i64>,
    size: usize,
}

#[derive(Deserialize)]
struct Answered {
    #[serde(default)]
    outputs: Vec<Told>,
    form: Option<AnswerForm>,
    error: Option<String>,
    code: Option<String>,
}

impl PythonModel {
    /// What it gives shows when it is asked: with the example that came with it, else with zeros.
    async fn learn_outputs(&mut self, example: Option<Vec<Tensor>>) -> Result<()> {
        let is_given = example.is_some();
        let rows_of = |inputs: &[Tensor]| inputs.first().and_then(|input| input.shape.first().copied());
        let inputs = example.or_else(|| zeros(&self.inputs)).unwrap_or_default();
        let inputs = check_inputs(&self.inputs, inputs)?;
        let (form, outputs) = self.ask(&inputs, None).await.map_err(|error| {
            let why = error.chain();
            Error::precondition(if is_given {
                format!("the model fails on its own input example: {why}")
            } else {
                format!("the model has no input example, and does not take zeros: log it with one ({why})")
            })
        })?;
        self.form = form;
        self.outputs = outputs
            .into_iter()
            .map(|output| {
                let datatype = output.data.datatype();
                let mut shape = output.shape;
                if let Some(first) = shape.first_mut().filter(|first| Some(**first) == rows_of(&inputs)) {
                    *first = -1;
                }
                TensorSpec { name: output.name, datatype, shape }
            })
            .collect();
        Ok(())
    }

    async fn ask(&self, inputs: &[Tensor], params: Option<&Params>) -> Result<(AnswerForm, Vec<Tensor>)> {
        let deadline = Instant::now() + self.wait;
        let (header, body) = frame_of(inputs, params);
        let settings = &self.fleet.staff().settings;
        for _ in 0..ATTEMPTS {
            let lease = self.fleet.acquire(deadline).await?;
            let exchange = exchange(&lease, &header, &body, settings.max_answer_bytes);
            match tokio::time::timeout(settings.timeout, exchange).await {
                Ok(Ok(Some(frame))) => {
                    drop(lease);
                    return self.read(frame);
                }
                Err(_) => {
                    lease.give_up();
                    return Err(Error::unavailable(format!(
                        "the model gave no answer within {} ms (deployment.python.timeout_ms), and its worker is replaced",
                        settings.timeout.as_millis()
                    )));
                }
                Ok(Err(error)) if error.code() == ErrorCode::ResourceExhausted => {
                    lease.condemn();
                    return Err(error.context("deployment.python.max_answer_bytes"));
                }
                // It died on the way.
                Ok(Ok(None) | Err(_)) => lease.condemn(),
            }
        }
        Err(Error::unavailable(format!("{ATTEMPTS} workers of the model died while they answered this request")))
    }

    fn read(&self, frame: Frame) -> Result<(AnswerForm, Vec<Tensor>)> {
        let broken = |what: &str| Error::internal(format!("the answer of a worker cannot be read: {what}"));
        let Frame { header, body } = frame;
        let answered: Answered =
            serde_json::from_value(Value::Object(header)).map_err(|error| broken(&error.to_string()))?;
        if let Some(error) = answered.error {
            return Err(match answered.code.as_deref() {
                Some("request") => Error::invalid(format!("the model does not take this request: {error}")),
                Some("memory") => Error::exhausted(format!(
                    "the model needs more memory for this request than deployment.python.max_memory_bytes ({}) gives it",
                    self.fleet.staff().settings.limits.memory_bytes
                )),
                _ => Error::internal("the model failed").with_source(error),
            });
        }
        let mut rest = body.as_slice();
        let mut outputs = Vec::with_capacity(answered.outputs.len());
        for told in answered.outputs {
            let (bytes, behind) = rest.split_at_checked(told.size).ok_or_else(|| broken("it is cut off"))?;
            rest = behind;
            let data = TensorData::from_bytes(told.datatype, bytes)?;
            if crate::tensor::element_count(&told.shape) != Some(data.len()) {
                return Err(broken("its shape is not that of its elements"));
            }
            outputs.push(Tensor { name: told.name, shape: told.shape, data });
        }
        let names = outputs.iter().map(|output| &output.name);
        if !self.outputs.is_empty() && !names.clone().eq(self.outputs.iter().map(|spec| &spec.name)) {
            let names: Vec<&String> = names.collect();
            return Err(Error::internal(format!("the model gave other outputs than before: {names:?}")));
        }
        Ok((answered.form.unwrap_or(AnswerForm::Array), outputs))
    }
}

fn frame_of(inputs: &[Tensor], params: Option<&Params>) -> (Value, Vec<u8>) {
    let mut body = Vec::new();
    let told: Vec<Told> = inputs
        .iter()
        .map(|input| {
            let begin = body.len();
            input.data.write_bytes(&mut body);
            let size = body.len() - begin;
            Told { name: input.name.clone(), datatype: input.data.datatype(), shape: input.shape.clone(), size }
        })
        .collect();
    (json!({"inputs": told, "params": params}), body)
}

/// `None` when the worker ended.
async fn exchange(lease: &Lease<Workers>, header: &Value, body: &[u8], max_answer_bytes: u64) -> Result<Option<Frame>> {
    let mut channel = lease.up().0.lock().await;
    channel.send(header, body).await?;
    channel.receive(max_answer_bytes).await
}

impl Model for PythonModel {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        self.run_ordered(&check_inputs(&self.inputs, inputs)?)
    }

    fn run_ordered(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.runtime.block_on(self.ask(inputs, None)).map(|(_, outputs)| outputs)
    }

    fn run_with(&self, inputs: &[Tensor], params: &Params) -> Result<Vec<Tensor>> {
        self.runtime.block_on(self.ask(inputs, Some(params))).map(|(_, outputs)| outputs)
    }

    fn sessions(&self) -> usize {
        self.workers
    }

    fn warm_up_p50(&self) -> Option<Duration> {
        // A call goes to another process: it never belongs on an async thread.
        None
    }

    fn warm_up_elements(&self) -> usize {
        0
    }

    fn answer_form(&self) -> AnswerForm {
        self.form
    }

    fn platform(&self) -> &'static str {
        "mlflow_pyfunc"
    }
}
