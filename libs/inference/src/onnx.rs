mod outputs;
mod values;
mod weights;

use crate::engine::zeros;
use crate::pool::Pool;
use crate::{Engine, Model, ModelOptions, Optimization, Tensor, TensorSpec, check_inputs};
use fishy_core::{Error, ErrorCode, Result};
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue, builder::GraphOptimizationLevel};
use outputs::Output;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use weights::SharedWeights;

/// Warming up ends after this long, so that a slow model does not hold up a deployment.
const WARM_UP: Duration = Duration::from_secs(2);
const REMEDY: &str = "set inference.onnxruntime_library to the file libonnxruntime.so of ONNX Runtime 1.17 or newer, \
                      or run the set-up that puts it in place (cargo xtask test, or cargo xtask demo)";

/// ONNX Runtime, from a shared library that is loaded at run time.
#[derive(Clone)]
pub struct OnnxRuntime {
    environment: Environment,
    library: Arc<Path>,
}

impl std::fmt::Debug for OnnxRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnnxRuntime").field("library", &self.library).finish_non_exhaustive()
    }
}

/// A process can load the library once, and have one environment of it.
static LOADED: Mutex<Option<OnnxRuntime>> = Mutex::new(None);

/// The file of the library.
fn find(path: &Path) -> Result<PathBuf> {
    let asked = std::path::absolute(path)?;
    asked.canonicalize().map_err(|error| {
        Error::precondition(format!("there is no ONNX Runtime library at {}: {REMEDY}", asked.display()))
            .with_source(error)
    })
}

/// ONNX Runtime that is loaded with the first model: until then a process starts sooner and is smaller without it.
#[derive(Debug, Clone)]
pub struct OnnxOnDemand {
    library: PathBuf,
}

impl OnnxOnDemand {
    /// Remembers the library; `FailedPrecondition` when there is no such file.
    pub fn new(path: &Path) -> Result<Self> {
        Ok(Self { library: find(path)? })
    }
}

impl Engine for OnnxOnDemand {
    fn load(&self, path: &Path, options: &ModelOptions) -> Result<Arc<dyn Model>> {
        OnnxRuntime::load_library(&self.library)?.load(path, options)
    }
}

impl OnnxRuntime {
    /// Loads the library. A process holds one: the same path again gives the same one, another is refused.
    ///
    /// `FailedPrecondition` says what to do when the file is missing or is not a fitting ONNX Runtime.
    pub fn load_library(path: &Path) -> Result<Self> {
        let library = find(path)?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return if *runtime.library == *library {
                Ok(runtime.clone())
            } else {
                Err(Error::precondition(format!(
                    "this process already runs ONNX Runtime from {}, so it cannot load {}: \
                     set inference.onnxruntime_library to one of them and start again",
                    runtime.library.display(),
                    library.display()
                )))
            };
        }
        let broken = |error: &dyn std::error::Error| {
            let cause = error.to_string();
            Error::precondition(format!("cannot load ONNX Runtime from {}: {REMEDY}", library.display()))
                .with_source(cause)
        };
        let environment = ort::init_from(&library)
            .map_err(|error| broken(&error))?
            .with_name("fishy")
            .with_telemetry(false)
            .build()
            .map_err(|error| broken(&error))?;
        let runtime = Self { environment, library: library.into() };
        tracing::info!(library = %runtime.library.display(), build = ort::info(), "loaded onnx runtime");
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// The file that was loaded.
    pub fn library(&self) -> PathBuf {
        self.library.to_path_buf()
    }

    fn open_session(&self, path: &Path, options: &ModelOptions, shared: &SharedWeights) -> ort::Result<Session> {
        let level = match options.optimization {
            Optimization::Disabled => GraphOptimizationLevel::Disable,
            Optimization::Basic => GraphOptimizationLevel::Level1,
            Optimization::Extended => GraphOptimizationLevel::Level2,
            Optimization::All => GraphOptimizationLevel::All,
        };
        let builder = Session::builder(&self.environment)?
            .with_optimization_level(level)?
            .with_intra_threads(options.intra_threads.max(1))?
            // The threads of a session must not burn the processor while the rest of the process has work.
            .with_intra_op_spinning(false)?;
        shared.give_to(builder)?.commit_from_file(path)
    }
}

impl Engine for OnnxRuntime {
    fn load(&self, path: &Path, options: &ModelOptions) -> Result<Arc<dyn Model>> {
        let file = path.display();
        if !path.is_file() {
            return Err(Error::not_found(format!("there is no model file {file}")));
        }
        let sessions = options.sessions.max(1);
        let mut shared = if sessions > 1 { SharedWeights::of_file(path) } else { SharedWeights::default() };
        let open = |shared: &SharedWeights| {
            self.open_session(path, options, shared).map_err(|error| {
                Error::invalid(format!("ONNX Runtime cannot load {file}: {}", error.message())).with_source(error)
            })
        };
        let first = match open(&shared) {
            // What the engine cannot take from outside it reads from the file itself, once for each session.
            Err(_) if !shared.is_empty() => {
                shared = SharedWeights::default();
                open(&shared)?
            }
            opened => opened?,
        };
        let in_file = |error: Error| error.context(format_args!("cannot serve {file}"));
        let inputs = first.inputs().iter().map(outputs::input_spec).collect::<Result<Vec<_>>>().map_err(in_file)?;
        let outputs = first.outputs().iter().map(outputs::output_spec).collect::<Result<Vec<_>>>().map_err(in_file)?;
        let (outputs, readers) = outputs.into_iter().unzip();
        let mut opened = vec![first];
        while opened.len() < sessions {
            opened.push(open(&shared)?);
        }
        let mut model = OnnxModel {
            inputs,
            outputs,
            readers,
            wait: options.wait,
            count: sessions,
            shared_bytes: shared.size_bytes(),
            sessions: Pool::new(opened),
            warm: Mutex::default(),
        };
        model.warm_up_all(options)?;
        tracing::info!(
            model = %file,
            sessions,
            shared_bytes = shared.size_bytes(),
            p50_us = model.warm_up_p50().map(|p50| p50.as_secs_f64() * 1e6),
            "loaded model"
        );
        Ok(Arc::new(model))
    }
}

struct OnnxModel {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// How each output is read.
    readers: Vec<Output>,
    wait: Duration,
    count: usize,
    shared_bytes: usize,
    sessions: Pool<Session>,
    /// Median of a warm-up run and the elements of its inputs.
    warm: Mutex<Option<(Duration, usize)>>,
}

impl OnnxModel {
    fn warm(&self) -> Option<(Duration, usize)> {
        *self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_warm(&self, mut times: Vec<Duration>, inputs: &[Tensor]) {
        times.sort_unstable();
        let elements = inputs.iter().map(|input| input.data.len()).sum();
        let p50 = times.get(times.len() / 2).copied();
        *self.warm.lock().unwrap_or_else(PoisonError::into_inner) = p50.map(|p50| (p50, elements));
    }

    /// Given inputs that fail are an error; zeros may be something that a sound model cannot take.
    fn warm_up_all(&mut self, options: &ModelOptions) -> Result<()> {
        let given = options.warm_up_inputs.clone();
        let is_given = given.is_some();
        let Some(inputs) = given.or_else(|| zeros(&self.inputs)) else { return Ok(()) };
        let begun = Instant::now();
        let mut times = Vec::with_capacity(options.warm_up_runs);
        // Every session is warmed: the pool lends the one that came back last, so each must be lent in turn.
        for session in self.sessions.all_mut() {
            for _ in 0..options.warm_up_runs {
                let started = Instant::now();
                let result = check_inputs(&self.inputs, inputs.clone())
                    .and_then(|inputs| run_session(session, &inputs, &self.outputs, &self.readers));
                match result {
                    Ok(_) => times.push(started.elapsed()),
                    Err(error) if is_given => return Err(error.context("cannot warm up with the given inputs")),
                    Err(error) => {
                        tracing::debug!(error = %error.chain(), "the model does not take zeros: not warmed up");
                        return Ok(());
                    }
                }
                if begun.elapsed() > WARM_UP {
                    break;
                }
            }
        }
        self.set_warm(times, &inputs);
        for (spec, reader) in self.outputs.iter_mut().zip(&self.readers) {
            if let (Some(keys), Some(width)) = (reader.keys(), spec.shape.last_mut()) {
                *width = keys.len() as i64;
            }
        }
        Ok(())
    }
}

impl Model for OnnxModel {
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
        let run = |session: &mut Session| run_session(session, inputs, &self.outputs, &self.readers);
        self.sessions.with(self.wait, run).unwrap_or_else(|| {
            Err(Error::exhausted(format!(
                "all sessions of the model were busy for {} s: send fewer requests at once, or give the model more sessions",
                self.wait.as_secs_f64()
            )))
        })
    }

    fn map_keys(&self, output: usize) -> Option<&[String]> {
        self.readers.get(output)?.keys()
    }

    fn sessions(&self) -> usize {
        self.count
    }

    fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    fn warm_up(&self, inputs: &[Tensor], runs: usize) -> Result<()> {
        let inputs = check_inputs(&self.inputs, inputs.to_vec())?;
        let begun = Instant::now();
        let mut times = Vec::with_capacity(runs);
        while times.len() < runs && begun.elapsed() < WARM_UP {
            let started = Instant::now();
            self.run_ordered(&inputs)?;
            times.push(started.elapsed());
        }
        self.set_warm(times, &inputs);
        Ok(())
    }

    fn warm_up_p50(&self) -> Option<Duration> {
        self.warm().map(|(p50, _)| p50)
    }

    fn warm_up_elements(&self) -> usize {
        self.warm().map_or(0, |(_, elements)| elements)
    }
}

/// Runs inputs that were checked and are in the model's order.
fn run_session(
    session: &mut Session,
    inputs: &[Tensor],
    specs: &[TensorSpec],
    readers: &[Output],
) -> Result<Vec<Tensor>> {
    let inputs = inputs
        .iter()
        .map(values::to_engine)
        .collect::<ort::Result<Vec<SessionInputValue>>>()
        .map_err(|error| failed(error, "cannot hand the inputs to the engine"))?;
    let outputs = session.run(inputs.as_slice()).map_err(|error| failed(error, "the model failed"))?;
    let tensors = outputs
        .values()
        .zip(specs.iter().zip(readers))
        .map(|(value, (spec, reader))| {
            reader.read(spec, &value).map_err(|error| failed(error, &format!("cannot read output {:?}", spec.name)))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(tensors)
}

/// The engine tells a wrong value (an index out of range) from a failure of its own.
fn failed(error: ort::Error, doing: &str) -> Error {
    let code = match error.code() {
        ort::ErrorCode::InvalidArgument => ErrorCode::InvalidArgument,
        _ => ErrorCode::Internal,
    };
    Error::new(code, format!("{doing}: {}", error.message())).with_source(error)
}
