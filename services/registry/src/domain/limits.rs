//! How long names and values may be: MLflow's figures (`mlflow/utils/validation.py` of MLflow 3.17).

/// Keys of metrics, parameters and tags, in characters.
pub const KEY_CHARS: usize = 250;
/// Values of parameters; longer ones are cut.
pub const PARAM_VALUE_CHARS: usize = 6_000;
/// Values of run tags; longer ones are cut.
pub const RUN_TAG_VALUE_CHARS: usize = 8_000;
/// Names of experiments.
pub const EXPERIMENT_NAME_CHARS: usize = 500;
/// Values of experiment tags.
pub const EXPERIMENT_TAG_VALUE_CHARS: usize = 20_000;
/// Values of tags of registered models, versions and logged models.
pub const REGISTRY_TAG_VALUE_CHARS: usize = 100_000;
/// Aliases.
pub const ALIAS_CHARS: usize = 255;
/// Names of registered models; MLflow's column has 256.
pub const MODEL_NAME_CHARS: usize = 256;
/// Descriptions of models and versions; MLflow's column has 5,000.
pub const DESCRIPTION_CHARS: usize = 5_000;
/// Metrics of one batch.
pub const BATCH_METRICS: usize = 1_000;
/// Parameters, and tags, of one batch.
pub const BATCH_PARAMS_OR_TAGS: usize = 100;
/// All of one batch together.
pub const BATCH_ENTITIES: usize = 1_000;
/// The body of a batch in bytes.
pub const BATCH_BYTES: usize = 1_000_000;
/// Datasets of one request.
pub const BATCH_DATASETS: usize = 1_000;
/// Models of one request.
pub const BATCH_MODELS: usize = 1_000;
/// Names of datasets.
pub const DATASET_NAME_CHARS: usize = 500;
/// Digests of datasets.
pub const DATASET_DIGEST_CHARS: usize = 36;
/// Schemas of datasets.
pub const DATASET_SCHEMA_CHARS: usize = 1_048_575;
/// Sources of datasets.
pub const DATASET_SOURCE_CHARS: usize = 65_535;
/// Profiles of datasets.
pub const DATASET_PROFILE_CHARS: usize = 16_777_215;
/// Keys of input tags.
pub const INPUT_TAG_KEY_CHARS: usize = 255;
/// Values of input tags.
pub const INPUT_TAG_VALUE_CHARS: usize = 500;
/// Experiments of one question for datasets.
pub const DATASET_SEARCH_EXPERIMENTS: usize = 20;
/// Datasets of one answer.
pub const DATASET_SEARCH_RESULTS: i64 = 1_000;
/// Runs of one question for metric histories.
pub const HISTORY_RUNS: usize = 100;
/// Points of one answer with metric histories.
pub const HISTORY_POINTS: i64 = 25_000;
