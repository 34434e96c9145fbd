use serde::{Deserialize, Serialize};

/// `[deployment.python]`: models without an ONNX form, in worker processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Python {
    /// Whether such models are served: loading one runs code that came with it. Policies must permit `deployment:run_code` as well.
    pub enabled: bool,
    /// An interpreter that has what all models and programs need; empty: each gets an environment built from its requirements.
    pub interpreter: String,
    /// The interpreter that environments are made of: by name, or by path.
    pub base: String,
    /// The program `uv`, which builds environments; where it is not, `pip` does.
    pub uv: String,
    /// The package index for environments; empty: that of the tools' own settings.
    pub index_url: String,
    /// A folder of wheels in place of an index, for sites without one.
    pub wheels: String,
    /// How long the build of an environment may take.
    pub build_timeout_ms: u64,
    /// Worker processes of each model, where its engine settings name no number of sessions.
    pub workers: usize,
    /// How long a worker may take to load its model.
    pub start_timeout_ms: u64,
    /// How long a worker may take for one request; then it is replaced.
    pub timeout_ms: u64,
    /// Seconds of a processor that a worker may use for one request; then it is replaced.
    pub processor_seconds: u64,
    /// The address space of a worker. Python with its numerical libraries takes about 2 GiB of it, and far less memory.
    pub max_memory_bytes: u64,
    /// Files that a worker may have open.
    pub max_files: u64,
    /// The size that a file of a worker may grow to.
    pub max_file_bytes: u64,
    /// The largest answer to one request.
    pub max_answer_bytes: u64,
    /// Whether workers may use the network.
    pub allow_network: bool,
}

impl Default for Python {
    fn default() -> Self {
        Self {
            enabled: false,
            interpreter: String::new(),
            base: "python3".to_owned(),
            uv: "uv".to_owned(),
            index_url: String::new(),
            wheels: String::new(),
            build_timeout_ms: 900_000,
            workers: 2,
            start_timeout_ms: 60_000,
            timeout_ms: 30_000,
            processor_seconds: 60,
            max_memory_bytes: 4 * 1024 * 1024 * 1024,
            max_files: 256,
            max_file_bytes: 256 * 1024 * 1024,
            max_answer_bytes: 64 * 1024 * 1024,
            allow_network: false,
        }
    }
}

/// `[deployment.programs]`: custom predictors, which are WSGI applications or programs that speak HTTP. Environments and interpreters are those of `[deployment.python]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Programs {
    /// Whether programs are served: they are code that came with a version of a model. Policies must permit `deployment:run_code` as well.
    pub enabled: bool,
    /// How long a process may take until it can be asked.
    pub start_timeout_ms: u64,
    /// How long one request may take; when all that a process can take are late, it is replaced.
    pub timeout_ms: u64,
    /// How often each process is checked; after three failures in a row it is replaced.
    pub check_every_ms: u64,
    /// Requests of a deployment that wait for a process, at most; more are answered 429.
    pub max_waiting: usize,
    /// The address space of a process.
    pub max_memory_bytes: u64,
    /// Files and sockets that a process may have open.
    pub max_files: u64,
    /// The size that a file of a process may grow to.
    pub max_file_bytes: u64,
    /// The largest answer to one request.
    pub max_answer_bytes: usize,
    /// So many bytes of the body of a request, and of its answer, go into its prediction record.
    pub max_recorded_bytes: usize,
    /// Whether programs may use the network. Those that listen on a port cannot do without.
    pub allow_network: bool,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            enabled: false,
            start_timeout_ms: 60_000,
            timeout_ms: 30_000,
            check_every_ms: 5_000,
            max_waiting: 256,
            max_memory_bytes: 4 * 1024 * 1024 * 1024,
            max_files: 1024,
            max_file_bytes: 256 * 1024 * 1024,
            max_answer_bytes: 16 * 1024 * 1024,
            max_recorded_bytes: 8 * 1024,
            allow_network: false,
        }
    }
}
