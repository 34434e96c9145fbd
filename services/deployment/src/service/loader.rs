//! From the files of a version to what answers: an ONNX model here, a Python model or a program in processes of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fishy_authz::{Authorizer, Identity, Resource};
use fishy_config::{Deployment as Settings, Inference, Python as PythonConfig};
use fishy_contracts::deployment::{EngineSettings, GraphOptimization};
use fishy_core::{Error, Result};
use fishy_inference::{
    Batcher, BatcherOptions, Engine, Model, ModelOptions, Optimization, PythonEngine, PythonSettings, Tensor,
};
use fishy_processes::{Limits, Python, PythonOptions};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::blocking;
use super::cache::CachedModel;
use super::program::{Program, ProgramParts, ProgramSettings};
use crate::domain::{
    Golden, Layout, MlModel, ModelForm, PROGRAM_FILE, ProgramSpec, loaded_bytes, parse_example, python_interface,
};
use crate::events::SERVICE;

/// The outputs that belong to the input example.
const GOLDEN: &str = "golden_outputs.json";
const WARM_UP_RUNS: usize = 20;
/// What a process of a Python model or a program is taken to cost beside its files.
const PROCESS_BYTES: u64 = 192 * 1024 * 1024;

/// A model that is ready to answer.
pub(crate) struct LoadedModel {
    pub(crate) batcher: Arc<Batcher>,
    pub(crate) layout: Layout,
    /// The inputs that came with it, in the order of the model's.
    pub(crate) example: Option<Vec<Tensor>>,
    /// What it is taken to cost in memory.
    pub(crate) size_bytes: u64,
    /// What is asked in place of a model.
    pub(crate) program: Option<Arc<Program>>,
}

/// Loads models and programs.
pub(crate) struct Loader {
    onnx: Arc<dyn Engine>,
    /// Sessions of an ONNX model where its settings name no number.
    sessions: usize,
    python: Arc<Python>,
    in_python: PythonEngine,
    settings: PythonConfig,
    programs: ProgramSettings,
    are_programs_enabled: bool,
    authorizer: Authorizer,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Loader {
    /// `home` belongs to this process alone. Its processes end when `stop` is cancelled, and are awaited by `tasks`.
    pub(crate) fn open(
        home: &Path,
        onnx: Arc<dyn Engine>,
        inference: &Inference,
        settings: &Settings,
        authorizer: Authorizer,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self> {
        let (config, programs) = (PythonConfig::clone(&settings.python), &settings.programs);
        let some = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
        let options = PythonOptions {
            interpreter: some(&config.interpreter),
            base: PathBuf::from(&config.base),
            uv: PathBuf::from(&config.uv),
            index_url: config.index_url.clone(),
            wheels: some(&config.wheels),
            build_timeout: Duration::from_millis(config.build_timeout_ms),
        };
        let python = Arc::new(Python::open(home, options)?);
        let bounds = PythonSettings {
            limits: Limits {
                memory_bytes: config.max_memory_bytes,
                files: config.max_files,
                file_bytes: config.max_file_bytes,
            },
            is_network_open: config.allow_network,
            start_timeout: Duration::from_millis(config.start_timeout_ms),
            timeout: Duration::from_millis(config.timeout_ms.max(1)),
            processor_seconds: config.processor_seconds.max(1),
            max_answer_bytes: config.max_answer_bytes,
        };
        Ok(Self {
            in_python: PythonEngine::new(Arc::clone(&python), bounds, tasks.clone(), stop.clone()),
            onnx,
            sessions: inference.sessions,
            python,
            programs: ProgramSettings::new(programs),
            are_programs_enabled: programs.enabled,
            settings: config,
            authorizer,
            tasks,
            stop,
        })
    }

    /// Loads the files of a version for a deployment, warms the model up, and lets it answer the example that came with it.
    pub(crate) async fn load(
        self: &Arc<Self>,
        deployment: &str,
        cached: &CachedModel,
        settings: &EngineSettings,
    ) -> Result<LoadedModel> {
        let (loader, dir) = (Arc::clone(self), cached.dir().to_path_buf());
        if dir.join(PROGRAM_FILE).is_file() {
            return self.load_program(deployment, &dir, settings).await;
        }
        let (deployment, settings) = (deployment.to_owned(), settings.clone());
        blocking(move || loader.load_model(&deployment, &dir, &settings)).await
    }

    fn load_model(&self, deployment: &str, dir: &Path, settings: &EngineSettings) -> Result<LoadedModel> {
        let description = match std::fs::read_to_string(dir.join("MLmodel")) {
            Ok(text) => MlModel::parse(&text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => without_mlmodel(dir)?,
            Err(error) => return Err(error.into()),
        };
        let mut options = ModelOptions {
            sessions: settings.sessions.unwrap_or(self.sessions).max(1),
            intra_threads: settings.intra_threads,
            optimization: match settings.optimization {
                GraphOptimization::Disabled => Optimization::Disabled,
                GraphOptimization::Basic => Optimization::Basic,
                GraphOptimization::Extended => Optimization::Extended,
                GraphOptimization::All => Optimization::All,
            },
            name: deployment.to_owned(),
            ..ModelOptions::default()
        };
        let process_bytes = match &description.form {
            ModelForm::Onnx(_) => 0,
            ModelForm::Python(signature) => {
                self.may_run_code(deployment, "python_model", self.settings.enabled, "deployment.python.enabled").map_err(
                    |error| {
                        error.context(
                            "the model has no ONNX file, and would be loaded in Python (with mlflow.onnx.log_model, for \
                             scikit-learn after skl2onnx.to_onnx, it has one)",
                        )
                    },
                )?;
                let interface = python_interface(signature.as_deref())?;
                let layout = Layout::new(&interface.inputs, &[], description.signature.as_ref())?;
                options.warm_up_inputs = read_example(dir, &description, &layout)?;
                options.sessions = settings.sessions.unwrap_or(self.settings.workers).max(1);
                options.python = Some(interface);
                PROCESS_BYTES.saturating_mul(options.sessions as u64)
            }
        };
        let model = match &description.form {
            ModelForm::Python(_) => self.in_python.load(dir, &options)?,
            ModelForm::Onnx(path) => {
                let file = dir.join(path);
                if !file.is_file() {
                    return Err(Error::precondition(format!(
                        "the model's MLmodel names the file {path}, which it does not have"
                    )));
                }
                self.onnx.load(&file, &options)?
            }
        };
        let layout = Layout::new(model.inputs(), model.outputs(), description.signature.as_ref())?;
        let layout = layout.with_params(description.params.clone());
        let example = try_example(dir, &description, &layout, &*model)?;
        let bounds = BatcherOptions {
            max_batch_rows: settings.max_batch_rows.max(1),
            max_queue_bytes: settings.max_queue_bytes,
        };
        let batcher = Batcher::new(model, bounds, example.clone());
        let shared_bytes = batcher.model().shared_bytes() as u64;
        let size_bytes = loaded_bytes(folder_bytes(dir)?, shared_bytes, options.sessions as u64) + process_bytes;
        Ok(LoadedModel { batcher, layout, example, size_bytes, program: None })
    }

    async fn load_program(&self, deployment: &str, dir: &Path, settings: &EngineSettings) -> Result<LoadedModel> {
        let enabled = self.are_programs_enabled;
        self.may_run_code(deployment, "program", enabled, "deployment.programs.enabled")
            .map_err(|error| error.context(format_args!("the model is a program ({PROGRAM_FILE})")))?;
        let mut spec = ProgramSpec::parse(&tokio::fs::read_to_string(dir.join(PROGRAM_FILE)).await?)?;
        spec.processes = settings.sessions.unwrap_or(spec.processes).max(1);
        let processes = spec.processes as u64;
        let parts = ProgramParts {
            spec,
            folder: dir.to_path_buf(),
            python: Arc::clone(&self.python),
            interpreter: self.python.interpreter(dir).await?,
            settings: self.programs.clone(),
        };
        let program = Program::start(deployment, parts, &self.tasks, &self.stop).await?;
        let layout = Layout::new(&[], &[], None)?;
        let batcher = Batcher::new(Arc::new(NoTensors), BatcherOptions::default(), None);
        let size_bytes = (folder_bytes(dir)? + PROCESS_BYTES).saturating_mul(processes);
        Ok(LoadedModel { batcher, layout, example: None, size_bytes, program: Some(Arc::new(program)) })
    }

    /// Code that came with a version runs only where the configuration switches that on and the policies permit it.
    fn may_run_code(&self, deployment: &str, kind: &str, is_enabled: bool, key: &str) -> Result<()> {
        if !is_enabled {
            return Err(Error::precondition(format!(
                "that runs code which came with the model, and is switched off: {key} = true allows it"
            )));
        }
        let resource = Resource::new(SERVICE, kind, deployment);
        let (who, action) = (Identity::service(SERVICE), "deployment:run_code");
        self.authorizer.require(&who, action, &resource, Value::Null)
    }
}

/// Stands where a program has no model.
struct NoTensors;

impl Model for NoTensors {
    fn inputs(&self) -> &[fishy_inference::TensorSpec] {
        &[]
    }

    fn outputs(&self) -> &[fishy_inference::TensorSpec] {
        &[]
    }

    fn run(&self, _inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        Err(Error::precondition("a program takes no tensors"))
    }

    fn warm_up_p50(&self) -> Option<Duration> {
        None
    }

    fn warm_up_elements(&self) -> usize {
        0
    }
}

/// The example that came with a model, as its tensors.
fn read_example(dir: &Path, description: &MlModel, layout: &Layout) -> Result<Option<Vec<Tensor>>> {
    let examples = [&description.serving_example, &description.example];
    let text = examples.into_iter().flatten().find_map(|path| std::fs::read_to_string(dir.join(path)).ok());
    let Some(text) = text else { return Ok(None) };
    let unfit = |error: Error| error.context("the model does not take its own input example");
    Ok(Some(parse_example(layout, &text).map_err(unfit)?.tensors))
}

/// A model that cannot answer its own example, or answers it otherwise than it did when it was made, is not served.
fn try_example(dir: &Path, description: &MlModel, layout: &Layout, model: &dyn Model) -> Result<Option<Vec<Tensor>>> {
    let golden = match std::fs::read_to_string(dir.join(GOLDEN)) {
        Ok(text) => Some(Golden::parse(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let Some(inputs) = read_example(dir, description, layout)? else {
        return match golden {
            None => Ok(None),
            Some(_) => Err(Error::precondition(format!("the model has {GOLDEN}, and no input example they belong to"))),
        };
    };
    model.warm_up(&inputs, WARM_UP_RUNS).map_err(|error| error.context("the model fails on its own input example"))?;
    if let Some(golden) = golden {
        let (rtol, atol) = (golden.rtol, golden.atol);
        let expected = golden.tensors(layout.outputs())?;
        model
            .reproduces(&inputs, &expected, rtol, atol)
            .map_err(|error| error.context("the model does not reproduce the outputs that came with it"))?;
    }
    Ok(Some(inputs))
}

/// A folder without MLflow's description is served when it holds one ONNX file.
fn without_mlmodel(dir: &Path) -> Result<MlModel> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        names.extend(
            name.to_str().filter(|name| Path::new(name).extension().is_some_and(|e| e == "onnx")).map(str::to_owned),
        );
    }
    match <[String; 1]>::try_from(names) {
        Ok([path]) => Ok(MlModel {
            form: ModelForm::Onnx(path),
            signature: None,
            params: Vec::new(),
            serving_example: None,
            example: None,
        }),
        Err(names) => Err(Error::precondition(format!(
            "the model has no MLmodel file, and {} ONNX files where one could be served",
            names.len()
        ))),
    }
}

fn folder_bytes(dir: &Path) -> Result<u64> {
    let mut all = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        all += if entry.file_type()?.is_dir() { folder_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(all)
}
