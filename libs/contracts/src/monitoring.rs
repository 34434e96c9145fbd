//! Monitoring and feedback: monitors, ground truth, windows, triggers, labelled data.

mod logged;
mod served;

pub use logged::{LoggedPage, LoggedPrediction, LoggedQuery};
pub use served::{Served, ServedPrediction};

use std::collections::BTreeMap;

use fishy_core::Result;
use fishy_http::{Call, ServiceClient};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{List, segment};

mod alerts;
mod checks;
mod conditions;
mod experts;
mod looking_back;
mod opinions;
mod overview;

pub use alerts::{Alert, Matcher, Silence, SilenceRequest};
pub use checks::{
    Alarm, Band, CheckSpec, CheckWindow, EffectSize, Figure, MultipleTesting, ReferenceSpec, ReferenceUsed, Severity,
    Statistic, TestSpec, Threshold,
};
pub use conditions::Condition;
pub use experts::{
    Agreement, AgreementOf, AgreementQuery, AgreementWeights, ComparedPair, ExpertSpec, PairAgreement, QueueAnswer,
    QueueItem, QueueReason, QueueReceipt, QueueRelease, QueueRequest,
};
pub use looking_back::{Correlation, Difference, ExplainedTest, Explanation, Part, Replay};
pub use opinions::{Degree, Judgement, NewOpinion, Opinion, OpinionQuery, Opinions};
pub use overview::{Bin, Distribution, LabelDelay, Overview, Sample, SliceErrors, VersionAnswers};

/// What a monitor watches and when it acts. All lengths are event time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorSpec {
    /// Its name; by custom that of the deployment.
    pub name: String,
    /// The deployment whose predictions it watches.
    pub deployment: String,
    /// The output that ground truth is compared with; the first one if empty.
    #[serde(default)]
    pub output: String,
    /// The features that are watched; all if empty.
    #[serde(default)]
    pub features: Vec<String>,
    /// The features that are readings of a sensor as they are: missing, out of range, stuck and spikes are looked for in
    /// these. All watched features if empty; name them where others are computed.
    #[serde(default)]
    pub sensors: Vec<String>,
    /// Physical limits by feature: values outside are data faults.
    #[serde(default)]
    pub ranges: BTreeMap<String, [f64; 2]>,
    /// The label that tells sensor series apart for the stuck and spike checks (`pen`); one series if empty.
    #[serde(default)]
    pub series_label: String,
    /// Further checks of the sensors.
    #[serde(default, skip_serializing_if = "ProbeChecks::are_none")]
    pub probes: ProbeChecks,
    /// How long after its end a window still waits for late records.
    #[serde(default = "default_lateness")]
    pub lateness_ms: i64,
    /// Thresholds and the retraining trigger.
    #[serde(default)]
    pub trigger: TriggerSpec,
    /// Further figures with references, windows, slices and limits of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckSpec>,
    /// How the expert queue works.
    #[serde(default, skip_serializing_if = "ExpertSpec::is_default")]
    pub experts: ExpertSpec,
}

fn default_lateness() -> i64 {
    fishy_core::time::HOUR_MS
}

/// Checks of sensors beside missing, range, stuck and spike. None runs unless it is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeChecks {
    /// Probes that only jitter: the range of a day falls below a fifth of the calmest of the last thirty.
    pub quiet: bool,
    /// Jumps of the clock of a logger that reads regularly.
    pub clock: bool,
    /// Probes that leave their usual difference from most of their neighbours: the series of `series_label`, three at least.
    pub neighbours: bool,
}

impl ProbeChecks {
    /// Whether none is asked for.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// When a retraining is due: the realised error rose, or the inputs drifted, and neither cool-down, back-off nor budget
/// speaks against it. Nothing fires because time has passed. All lengths are days of event time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TriggerSpec {
    /// The pipeline that is started; empty: nothing is started, the decision is only recorded.
    pub pipeline: String,
    /// The realised error is that of the champion's answers whose true values arrived in the last so many days.
    pub error_window_days: f64,
    /// It fires when the realised error is above this times the smallest error that the champion has shown, at its
    /// evaluation or since.
    pub error_ratio: f64,
    /// Labelled answers of the champion that the realised error must rest on; the window reaches further back for them.
    pub min_labels: u64,
    /// It fires also when the population stability index of a feature is above this; `None`: drift is shown, and does not fire.
    pub psi_above: Option<f64>,
    /// The inputs of the last so many days are compared with the champion's training data.
    pub drift_window_days: f64,
    /// No second trigger within so many days.
    pub cooldown_days: f64,
    /// No trigger for so many days after a challenger was rejected or a run failed.
    pub backoff_days: f64,
    /// The budget: one more trigger is allowed for every so many days.
    pub budget_days: f64,
    /// Unused triggers add up to so many.
    pub budget_burst: f64,
    /// Triggers that are allowed at the beginning.
    pub budget_start: f64,
    /// Where two or more can be saved up: the emptier the budget, the worse the champion must be. With all saved up the
    /// realised error must be above `error_ratio` times the smallest; with one left, above this times the smallest, or for
    /// `None` above the error of always answering the median of the champion's training data: then it is worth nothing.
    /// In between it goes in proportion, by logarithms. Drift of the inputs alone waits until all are saved up. Not above
    /// `error_ratio`, or a version whose tags do not tell that error: one is enough.
    pub reserve_ratio: Option<f64>,
    /// So many triggers may be borrowed from the days to come while the champion is worth nothing, as `reserve_ratio` says
    /// it; half of the cool-down is enough then. 0: nothing is borrowed, and the cool-down stays what it is.
    pub overdraft: f64,
    /// It fires also when this holds; cool-down, back-off and budget count here too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// Whether it fires on the condition alone: neither the error ratio nor the index above make it due then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only_condition: bool,
}

impl Default for TriggerSpec {
    fn default() -> Self {
        Self {
            pipeline: String::new(),
            error_window_days: 7.0,
            error_ratio: 1.15,
            min_labels: 48,
            psi_above: Some(2.0),
            drift_window_days: 7.0,
            cooldown_days: 14.0,
            backoff_days: 14.0,
            budget_days: 31.0,
            budget_burst: 2.0,
            budget_start: 0.0,
            reserve_ratio: None,
            overdraft: 1.0,
            condition: None,
            only_condition: false,
        }
    }
}

/// True values that arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroundTruth {
    /// One for each prediction.
    pub items: Vec<GroundTruthItem>,
}

/// The true value of one prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroundTruthItem {
    /// The prediction.
    pub prediction_id: String,
    /// The true value.
    pub value: f64,
    /// Event time at which it became known; when absent, the time of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<i64>,
}

/// What became of [`GroundTruth`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroundTruthReceipt {
    /// Taken: kept safely before this was answered.
    pub accepted: u64,
    /// Known already with the same value.
    pub duplicates: u64,
}

/// Labelled history from before there was a model: what the first training learns from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observations {
    /// The rows.
    pub items: Vec<Observation>,
}

/// One labelled row without a prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Unique; a repeated id is taken once.
    pub id: String,
    /// Event time.
    pub time_ms: i64,
    /// Event time at which the true value became known.
    pub arrived_ms: i64,
    /// Features by name; a missing value is null.
    pub inputs: BTreeMap<String, Option<f64>>,
    /// The true value.
    pub value: f64,
    /// Labels such as farm and pen.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// How a monitor stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// What it watches.
    pub spec: MonitorSpec,
    /// All event time up to here has been looked at.
    pub watermark_ms: i64,
    /// Distinct predictions received.
    pub predictions: u64,
    /// Distinct true values received for predictions or observations.
    pub labels: u64,
    /// The version that is the champion for this monitor.
    pub champion_version: Option<String>,
    /// The realised mean absolute error of the rolling window, and what it is compared with.
    pub rolling_error: Option<f64>,
    /// See `rolling_error`.
    pub baseline_error: Option<f64>,
    /// Data faults that are open.
    pub open_faults: Vec<DataFault>,
    /// The newest trigger.
    pub last_trigger: Option<crate::events::TriggerFired>,
    /// How many triggers fired.
    pub triggers: u64,
}

/// A fault of the data, not of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFault {
    /// Unique.
    pub id: String,
    /// The monitor.
    pub monitor: String,
    /// The feature.
    pub feature: String,
    /// The sensor series (`pen-3`); empty where there is one.
    pub series: String,
    /// `missing`, `range`, `stuck`, `spike`, `quiet`, `clock` or `apart`.
    pub kind: String,
    /// Event time it began.
    pub since_ms: i64,
    /// Event time it ended; absent while open.
    pub until_ms: Option<i64>,
    /// What was seen, in words with units.
    pub message: String,
}

/// One window's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// `hour` or `day`.
    pub length: String,
    /// Its beginning; it ends before the next begins.
    pub start_ms: i64,
    /// Predictions in it.
    pub predictions: u64,
    /// Of these, with a true value.
    pub labels: u64,
    /// Mean absolute error over those.
    pub mae: Option<f64>,
    /// Root of the mean squared error over those.
    pub rmse: Option<f64>,
    /// Population stability index by feature, against the champion's training data.
    pub psi: BTreeMap<String, f64>,
    /// Kolmogorov-Smirnov statistic by feature, likewise.
    pub ks: BTreeMap<String, f64>,
    /// Share of missing values by feature.
    pub missing: BTreeMap<String, f64>,
}

/// Which labelled rows are asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRequest {
    /// Only rows whose true value had arrived by then.
    pub as_of_ms: i64,
    /// Rows from this event time on (inclusive).
    pub from_ms: i64,
    /// Rows before this event time (exclusive).
    pub to_ms: i64,
    /// Whether rows under a data fault are left out.
    #[serde(default)]
    pub without_faults: bool,
    /// Only the newest so many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<u64>,
}

/// One labelled row; a dataset is JSON lines of these, in event time order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelledRow {
    /// Prediction or observation id.
    pub id: String,
    /// Event time.
    pub time_ms: i64,
    /// Event time at which the true value became known.
    pub arrived_ms: i64,
    /// Features by name.
    pub inputs: BTreeMap<String, Option<f64>>,
    /// The true value.
    pub value: f64,
    /// What was answered live, where it was.
    pub prediction: Option<f64>,
    /// The version that answered.
    pub version: Option<String>,
}

/// A statement that all data up to a time have been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watermark {
    /// Event time.
    pub time_ms: i64,
}

/// Client of the monitoring service.
#[derive(Clone)]
pub struct MonitoringClient(pub ServiceClient);

impl MonitoringClient {
    /// Makes or changes a monitor.
    pub async fn apply(&self, spec: &MonitorSpec) -> Result<MonitorStatus> {
        self.0.put(&format!("/api/v1/monitors/{}", segment(&spec.name)), spec).await
    }

    /// How a monitor stands.
    pub async fn status(&self, name: &str) -> Result<MonitorStatus> {
        self.0.get(&format!("/api/v1/monitors/{}", segment(name))).await
    }

    /// All monitors.
    pub async fn list(&self) -> Result<List<MonitorStatus>> {
        self.0.get("/api/v1/monitors").await
    }

    /// True values of predictions; answered when they are kept safely.
    pub async fn ground_truth(&self, truth: &GroundTruth) -> Result<GroundTruthReceipt> {
        self.0.post("/api/v1/feedback/ground-truth", truth).await
    }

    /// Opinions of answers; answered when they are kept safely.
    pub async fn give_opinions(&self, opinions: &Opinions) -> Result<GroundTruthReceipt> {
        self.0.post("/api/v1/feedback", opinions).await
    }

    /// A page of opinions, newest first.
    pub async fn opinions(&self, query: &OpinionQuery) -> Result<List<Opinion>> {
        let limit = query.limit.map(|limit| limit.to_string()).unwrap_or_default();
        let pairs = [
            ("deployment", query.deployment.as_str()),
            ("prediction_id", &query.prediction_id),
            ("by", &query.by),
            ("limit", &limit),
            ("page_token", &query.page_token),
        ];
        let given = pairs.iter().filter(|(_, value)| !value.is_empty());
        let given: Vec<String> = given.map(|(name, value)| format!("{name}={}", segment(value))).collect();
        self.0.get(&format!("/api/v1/feedback?{}", given.join("&"))).await
    }

    /// Labelled history.
    pub async fn observations(&self, name: &str, rows: &Observations) -> Result<GroundTruthReceipt> {
        self.0.post(&format!("/api/v1/monitors/{}/observations", segment(name)), rows).await
    }

    /// Says that everything up to a time has been sent; windows up to it are closed and triggers decided before this answers.
    pub async fn watermark(&self, name: &str, watermark: Watermark) -> Result<MonitorStatus> {
        self.0.post(&format!("/api/v1/monitors/{}/watermark", segment(name)), &watermark).await
    }

    /// Windows of one length (`hour`, `day`) in a span of event time.
    pub async fn windows(&self, name: &str, length: &str, from_ms: i64, to_ms: i64) -> Result<List<Window>> {
        let name = segment(name);
        self.0.get(&format!("/api/v1/monitors/{name}/windows?length={length}&from_ms={from_ms}&to_ms={to_ms}")).await
    }

    /// Data faults, newest first.
    pub async fn faults(&self, name: &str, is_open: bool) -> Result<List<DataFault>> {
        self.0.get(&format!("/api/v1/monitors/{}/faults?is_open={is_open}", segment(name))).await
    }

    /// Figures of the checks whose windows end in a span of event time; of one check or, with an empty name, of all.
    pub async fn checks(&self, name: &str, check: &str, from_ms: i64, to_ms: i64) -> Result<List<CheckWindow>> {
        let (name, check) = (segment(name), segment(check));
        self.0.get(&format!("/api/v1/monitors/{name}/checks?check={check}&from_ms={from_ms}&to_ms={to_ms}")).await
    }

    /// Alarms of the checks, newest first.
    pub async fn alarms(&self, name: &str, is_open: bool) -> Result<List<Alarm>> {
        self.0.get(&format!("/api/v1/monitors/{}/alarms?is_open={is_open}", segment(name))).await
    }

    /// What moves the alarms of the newest windows.
    pub async fn explain(&self, name: &str) -> Result<Explanation> {
        self.0.get(&format!("/api/v1/monitors/{}/explanation", segment(name))).await
    }

    /// Computes the windows that end in a span once more, and compares.
    pub async fn replay(&self, name: &str, from_ms: i64, to_ms: i64) -> Result<Replay> {
        self.0.get(&format!("/api/v1/monitors/{}/replay?from_ms={from_ms}&to_ms={to_ms}", segment(name))).await
    }

    /// What experts should look at next, the most useful first. Nothing is leased.
    pub async fn queue(&self, name: &str, limit: u32) -> Result<List<QueueItem>> {
        self.0.get(&format!("/api/v1/monitors/{}/queue?limit={limit}", segment(name))).await
    }

    /// Leases items to the caller. Leases of the caller that are open are given again first.
    pub async fn next_items(&self, name: &str, request: QueueRequest) -> Result<List<QueueItem>> {
        self.0.post(&format!("/api/v1/monitors/{}/queue/leases", segment(name)), &request).await
    }

    /// Answers an item, or corrects an answer: what was said before is kept.
    pub async fn answer_item(&self, name: &str, lease: &str, answer: &QueueAnswer) -> Result<QueueReceipt> {
        let (name, lease) = (segment(name), segment(lease));
        self.0.post(&format!("/api/v1/monitors/{name}/queue/leases/{lease}/answer"), answer).await
    }

    /// Skips or returns an item.
    pub async fn release_item(&self, name: &str, lease: &str, release: QueueRelease) -> Result<QueueReceipt> {
        let (name, lease) = (segment(name), segment(lease));
        self.0.post(&format!("/api/v1/monitors/{name}/queue/leases/{lease}/release"), &release).await
    }

    /// How far experts agree.
    pub async fn agreement(&self, name: &str, query: AgreementQuery) -> Result<Agreement> {
        let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
        let of = word(serde_json::json!(query.of));
        let weights = word(serde_json::json!(query.weights));
        self.0.get(&format!("/api/v1/monitors/{}/agreement?of={of}&weights={weights}", segment(name))).await
    }

    /// Answers beside the numbers that experts gave for them, newest first, at most 3000.
    pub async fn compared_pairs(&self, name: &str) -> Result<List<ComparedPair>> {
        self.0.get(&format!("/api/v1/monitors/{}/comparison", segment(name))).await
    }

    /// Alerts, newest first.
    pub async fn alerts(&self, is_open: bool) -> Result<List<Alert>> {
        self.0.get(&format!("/api/v1/alerts?is_open={is_open}")).await
    }

    /// Silences that have not ended.
    pub async fn silences(&self) -> Result<List<Silence>> {
        self.0.get("/api/v1/silences").await
    }

    /// Silences alerts.
    pub async fn silence(&self, request: &SilenceRequest) -> Result<Silence> {
        self.0.post("/api/v1/silences", request).await
    }

    /// Ends a silence.
    pub async fn end_silence(&self, id: &str) -> Result<Silence> {
        self.0.json(Call::new(Method::DELETE, format!("/api/v1/silences/{}", segment(id)))).await
    }

    /// Labelled rows in event time order.
    pub async fn dataset(&self, name: &str, request: &DatasetRequest) -> Result<Vec<LabelledRow>> {
        let call = Call::new(Method::POST, format!("/api/v1/monitors/{}/dataset", segment(name))).json(request)?;
        let body = self.0.expect(call).await?.bytes().await?;
        body.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_slice(line).map_err(|error| {
                    fishy_core::Error::internal("a dataset row that cannot be read").with_source(error)
                })
            })
            .collect()
    }

    /// Triggers, newest first, with the figures behind each decision.
    pub async fn triggers(&self, name: &str) -> Result<List<Value>> {
        self.0.get(&format!("/api/v1/monitors/{}/triggers", segment(name))).await
    }
}
