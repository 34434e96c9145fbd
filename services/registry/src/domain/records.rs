//! The registry's things, in the form in which MLflow's protocol writes them: what is unset is left out.

use serde::{Serialize, Serializer};

use super::metric::MetricValue;
use super::webhook::Happening;

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn or_empty<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.as_deref().unwrap_or(""))
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn is_none_or_zero(size: &Option<i64>) -> bool {
    matches!(size, None | Some(0))
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn is_none_or_empty(text: &Option<String>) -> bool {
    text.as_deref().is_none_or(str::is_empty)
}

/// A key and its value: tags and parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// An experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the protocol calls its id so")]
pub struct Experiment {
    /// A number as text.
    pub experiment_id: String,
    /// Unique.
    pub name: String,
    /// The URI below which its runs keep their artifacts.
    pub artifact_location: String,
    /// `active` or `deleted`.
    pub lifecycle_stage: String,
    /// Milliseconds since the epoch.
    pub creation_time: i64,
    /// Milliseconds since the epoch.
    pub last_update_time: i64,
    /// The workspace it is in; the store leaves it empty.
    pub workspace: String,
    /// Tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Pair>,
}

impl Experiment {
    /// Whether it was not deleted.
    pub fn is_active(&self) -> bool {
        self.lifecycle_stage == ACTIVE
    }
}

/// The lifecycle stage of what was not deleted.
pub const ACTIVE: &str = "active";
/// The lifecycle stage of what was deleted and can be restored.
pub const DELETED: &str = "deleted";

/// What a run is, without what it logged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunInfo {
    /// Unique.
    pub run_id: String,
    /// The same under its old name.
    pub run_uuid: String,
    /// Its name.
    pub run_name: String,
    /// Its experiment.
    pub experiment_id: String,
    /// Who started it, as the client says.
    pub user_id: String,
    /// `RUNNING`, `SCHEDULED`, `FINISHED`, `FAILED` or `KILLED`.
    pub status: String,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<i64>,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<i64>,
    /// The URI of its artifacts.
    pub artifact_uri: String,
    /// `active` or `deleted`.
    pub lifecycle_stage: String,
}

/// What a run logged: the latest value of each metric.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunData {
    /// Latest values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// Parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Pair>,
    /// Tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Pair>,
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: MetricValue,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// The step of the training.
    pub step: i64,
    /// The dataset it was measured on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_name: Option<String>,
    /// The digest of that dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_digest: Option<String>,
    /// The logged model it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// The run that logged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// A dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// The digest of its content.
    pub digest: String,
    /// What kind of source it has.
    pub source_type: String,
    /// Where it came from.
    pub source: String,
    /// Its columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Its statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// A dataset that runs of an experiment read, in one context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatasetSummary {
    /// The experiment.
    pub experiment_id: String,
    /// Its name.
    pub name: String,
    /// The digest of its content.
    pub digest: String,
    /// What it was read for, as `mlflow.data.context` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// A dataset that a run read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetInput {
    /// Tags, for example `mlflow.data.context`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Pair>,
    /// The dataset.
    pub dataset: Dataset,
}

/// A logged model that a run read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelInput {
    /// The logged model.
    pub model_id: String,
}

/// A logged model that a run wrote.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelOutput {
    /// The logged model.
    pub model_id: String,
    /// The step of the training.
    pub step: i64,
}

/// What a run read.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunInputs {
    /// Datasets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dataset_inputs: Vec<DatasetInput>,
    /// Models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model_inputs: Vec<ModelInput>,
}

/// What a run wrote.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunOutputs {
    /// Models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model_outputs: Vec<ModelOutput>,
}

/// A run with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// What it is.
    pub info: RunInfo,
    /// What it logged.
    pub data: RunData,
    /// What it read.
    pub inputs: RunInputs,
    /// What it wrote.
    pub outputs: RunOutputs,
}

/// A logged model: the files that one training wrote.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoggedModel {
    /// What it is.
    pub info: LoggedModelInfo,
    /// What was logged for it.
    pub data: LoggedModelData,
}

/// What a logged model is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoggedModelInfo {
    /// `m-` and 32 hexadecimal digits.
    pub model_id: String,
    /// Its experiment.
    pub experiment_id: String,
    /// Its name; not unique.
    pub name: String,
    /// Milliseconds since the epoch.
    pub creation_timestamp_ms: i64,
    /// Milliseconds since the epoch.
    pub last_updated_timestamp_ms: i64,
    /// The URI of its files.
    pub artifact_uri: String,
    /// `LOGGED_MODEL_PENDING`, `LOGGED_MODEL_READY` or `LOGGED_MODEL_UPLOAD_FAILED`.
    pub status: String,
    /// What kind of model it is; as with MLflow, an empty text where that is not said.
    #[serde(serialize_with = "or_empty")]
    pub model_type: Option<String>,
    /// The run that made it; an empty text where there is none.
    #[serde(serialize_with = "or_empty")]
    pub source_run_id: Option<String>,
    /// Tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Pair>,
}

/// What was logged for a model.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct LoggedModelData {
    /// Parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Pair>,
    /// Measurements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
}

/// A registered model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegisteredModel {
    /// Unique.
    pub name: String,
    /// Milliseconds since the epoch.
    pub creation_timestamp: i64,
    /// Milliseconds since the epoch.
    pub last_updated_timestamp: i64,
    /// Who made it.
    pub user_id: String,
    /// In words.
    #[serde(skip_serializing_if = "is_none_or_empty")]
    pub description: Option<String>,
    /// The newest version of each stage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latest_versions: Vec<ModelVersion>,
    /// Tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Pair>,
    /// Aliases.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
}

/// An alias and the version it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alias {
    /// The alias.
    pub alias: String,
    /// The version.
    pub version: String,
}

/// A version of a registered model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelVersion {
    /// Its model.
    pub name: String,
    /// A number as text.
    pub version: String,
    /// Milliseconds since the epoch.
    pub creation_timestamp: i64,
    /// Milliseconds since the epoch.
    pub last_updated_timestamp: i64,
    /// Who made it.
    pub user_id: String,
    /// `None`, `Staging`, `Production` or `Archived`.
    pub current_stage: String,
    /// In words; an empty text where nobody said any.
    #[serde(serialize_with = "or_empty")]
    pub description: Option<String>,
    /// What it was made from, as the client said it.
    pub source: String,
    /// The run that made it; an empty text where there is none.
    #[serde(serialize_with = "or_empty")]
    pub run_id: Option<String>,
    /// A link to that run in another server; an empty text where there is none.
    #[serde(serialize_with = "or_empty")]
    pub run_link: Option<String>,
    /// Always `READY`: versions are made in one step.
    pub status: String,
    /// The logged model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// Tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Pair>,
    /// The aliases that name it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Where its files are: a path of the store.
    #[serde(skip)]
    pub artifact_path: String,
}

/// A file or folder in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileInfo {
    /// Its path.
    pub path: String,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Its size in bytes; folders have none, and as with MLflow that of an empty file is left out.
    #[serde(skip_serializing_if = "is_none_or_zero")]
    pub file_size: Option<i64>,
}

/// A webhook. Its secret is not part of it: it is never answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "MLflow's protocol names them so")]
pub struct Webhook {
    /// Its id.
    pub webhook_id: String,
    /// Its name.
    pub name: String,
    /// Where it calls.
    pub url: String,
    /// In words.
    #[serde(skip_serializing_if = "is_none_or_empty")]
    pub description: Option<String>,
    /// What it is called for.
    pub events: Vec<Happening>,
    /// `ACTIVE` or `DISABLED`.
    pub status: String,
    /// When it was made.
    pub creation_timestamp: i64,
    /// When it was changed last.
    pub last_updated_timestamp: i64,
}

/// One call of a webhook, in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "named as in the header of the call")]
pub struct Delivery {
    /// The same for all attempts: receivers know by it what they have seen.
    pub delivery_id: String,
    /// What it tells of, as `model_version.created`.
    pub event: String,
    /// When that happened.
    pub time_ms: i64,
    /// `pending`, `delivered` or `failed`.
    pub state: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next; none when it has ended.
    pub next_ms: Option<i64>,
    /// When it was tried last.
    pub last_ms: Option<i64>,
    /// What the receiver answered last.
    pub response_status: Option<i64>,
    /// What went wrong last.
    pub error: Option<String>,
}
