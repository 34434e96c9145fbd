//! A pipeline as its TOML file says it.

use std::collections::{BTreeMap, BTreeSet};

use fishy_contracts::governance::{GateRules, ReplayRules};
use fishy_core::{Error, Result, check_name};
use serde::Deserialize;

use super::schedule::Schedule;

/// What a replay takes at most.
const MAX_THRESHOLDS: usize = 20;
const MAX_REPLAYED: u64 = 1_000_000;

/// A pipeline, checked: what it names exists in it, and its steps come in an order that can work.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// The monitor that labelled data come from.
    #[serde(default)]
    pub monitor: String,
    /// The registered model that a run makes a version of.
    #[serde(default)]
    pub model: String,
    /// The deployment that follows the alias; empty where nothing is served yet.
    #[serde(default)]
    pub deployment: String,
    /// The alias that a promotion moves.
    #[serde(default = "champion")]
    pub alias: String,
    /// The MLflow experiment that commands log to; the pipeline's name if empty.
    #[serde(default)]
    pub experiment: String,
    /// When it runs by itself: a cron pattern of five fields, UTC.
    #[serde(default)]
    pub schedule: Option<String>,
    /// Values that a start may override.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Which labelled rows a run sees; none if absent.
    #[serde(default)]
    pub data: Option<Data>,
    /// The steps, in order.
    #[serde(default, rename = "step")]
    pub steps: Vec<StepSpec>,
}

/// `[data]`: which labelled rows a run sees.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// How much event time before the held-out rows is trained on.
    pub train_days: f64,
    /// The same for the first model, which has no champion before it; `train_days` if absent.
    #[serde(default)]
    pub first_train_days: Option<f64>,
    /// Where so many days hold fewer rows than this, training reaches further back for them: sparse data.
    #[serde(default)]
    pub extend_to_rows: Option<u64>,
    /// At most the newest so many of these rows.
    #[serde(default)]
    pub max_train_rows: Option<u64>,
    /// The newest so many labelled rows are held out from training; with `holdout_days`, at least so many.
    #[serde(default)]
    pub holdout_rows: Option<u64>,
    /// The newest so many days of labelled rows are held out from training.
    #[serde(default)]
    pub holdout_days: Option<f64>,
    /// With fewer training rows, the run fails.
    #[serde(default = "two_hundred")]
    pub min_train_rows: u64,
}

/// One `[[step]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum StepSpec {
    /// Runs a program.
    Command(CommandSpec),
    /// Makes a model version out of what an earlier command wrote.
    Register {
        /// Its name.
        name: String,
    },
    /// Compares the new version with the champion on the held-out rows.
    Evaluate {
        /// Its name.
        name: String,
        /// The figure the gate decides on.
        #[serde(default)]
        metric: Metric,
    },
    /// Asks governance whether the new version may be promoted.
    Gate {
        /// Its name.
        name: String,
        /// How much smaller the error must be, as a share of the champion's.
        #[serde(default)]
        min_improvement: f64,
        /// Labelled rows that the evaluation must rest on.
        #[serde(default = "twenty_four")]
        min_labels: u64,
        /// Whether somebody other than the author must approve.
        #[serde(default)]
        needs_approval: bool,
        /// What was asked live is asked of the new version first; not if absent.
        #[serde(default)]
        replay: Option<GateReplay>,
    },
    /// Moves the alias, and waits until the deployment serves the new version.
    Promote {
        /// Its name.
        name: String,
        /// How long the deployment may take.
        #[serde(default = "sixty")]
        timeout_s: f64,
    },
}

/// `[step.replay]` of a gate: which predictions are asked again, and what they must show.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateReplay {
    /// Predictions of so many days of event time before the run's.
    pub last_days: f64,
    /// At most so many of them, the oldest; 100,000 if absent.
    #[serde(default)]
    pub max_rows: Option<u64>,
    /// Decisions: an answer is below a threshold, or not.
    #[serde(default)]
    pub thresholds: Vec<f64>,
    /// The label whose values are reported apart; none if empty.
    #[serde(default)]
    pub by: String,
    /// From which difference on an answer counts as changed; 0.0001 of its size if absent.
    #[serde(default)]
    pub tolerance: Option<f64>,
    /// The share of the decisions that may flip at most, at any threshold; of classes, of the answers.
    #[serde(default = "everything")]
    pub max_flips_share: f64,
    /// The share of the predictions that the new version may give no answer to.
    #[serde(default)]
    pub max_failed_share: f64,
    /// Predictions that must have been compared.
    #[serde(default = "one_row")]
    pub min_rows: u64,
}

/// A step of kind `command`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// Its name.
    pub name: String,
    /// The program and its arguments. `python` stands for the configured interpreter.
    pub command: Vec<String>,
    /// How long one try may take.
    #[serde(default = "one_hour")]
    pub timeout_s: f64,
    /// How often it is tried again after a failure.
    #[serde(default)]
    pub retries: u32,
}

/// Which error the gate compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Mean absolute error.
    #[default]
    Mae,
    /// Root of the mean squared error.
    Rmse,
}

impl StepSpec {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Command(CommandSpec { name, .. })
            | Self::Register { name }
            | Self::Evaluate { name, .. }
            | Self::Gate { name, .. }
            | Self::Promote { name, .. } => name,
        }
    }

    /// Its kind, as the file says it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Register { .. } => "register",
            Self::Evaluate { .. } => "evaluate",
            Self::Gate { .. } => "gate",
            Self::Promote { .. } => "promote",
        }
    }
}

impl Definition {
    /// Reads and checks a TOML text.
    ///
    /// `InvalidArgument` names the key or the step that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let definition: Self =
            toml::from_str(text).map_err(|error| Error::invalid(format!("pipeline definition: {error}")))?;
        definition.check().map_err(|error| error.context(format_args!("pipeline definition {:?}", definition.name)))?;
        Ok(definition)
    }

    /// The MLflow experiment that commands log to.
    pub fn experiment(&self) -> &str {
        if self.experiment.is_empty() { &self.name } else { &self.experiment }
    }

    /// The values of a run: the definition's, overridden by those of the start.
    pub fn params_with(&self, overrides: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
        let mut params = self.params.clone();
        for (name, value) in overrides {
            if params.insert(name.clone(), value.clone()).is_none() {
                let known: Vec<&str> = self.params.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Error::invalid(format!("pipeline {:?} has no param {name:?}: it has {known}", self.name)));
            }
        }
        Ok(params)
    }

    /// The rules of the gate; the defaults when there is none.
    pub fn gate_rules(&self) -> GateRules {
        let gate = self.steps.iter().find_map(|step| match step {
            StepSpec::Gate { min_improvement, min_labels, needs_approval, replay, .. } => Some(GateRules {
                min_improvement: *min_improvement,
                min_labels: *min_labels,
                needs_approval: *needs_approval,
                replay: replay.as_ref().map(GateReplay::rules),
            }),
            _ => None,
        });
        gate.unwrap_or_default()
    }

    /// The replay that the gate asks for.
    pub fn gate_replay(&self) -> Option<&GateReplay> {
        self.steps.iter().find_map(|step| match step {
            StepSpec::Gate { replay, .. } => replay.as_ref(),
            _ => None,
        })
    }

    fn check(&self) -> Result<()> {
        check_name("pipeline", &self.name)?;
        if let Some(pattern) = &self.schedule {
            Schedule::parse(pattern)?;
        }
        for name in self.params.keys() {
            let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if name.is_empty() || !is_plain {
                return Err(Error::invalid(format!(
                    "params: {name:?} cannot become an environment variable: use letters, digits and '_'"
                )));
            }
        }
        if let Some(data) = &self.data {
            data.check()?;
            check_name("monitor", &self.monitor).map_err(|_| missing("monitor", "[data] comes from it"))?;
        }
        self.check_steps()
    }

    fn check_steps(&self) -> Result<()> {
        if self.steps.is_empty() {
            return Err(Error::invalid("there is no [[step]]: a pipeline has at least one"));
        }
        let mut names = BTreeSet::new();
        let mut kinds = BTreeSet::new();
        for step in &self.steps {
            let (name, kind) = (step.name(), step.kind());
            let in_step = |error: Error| error.context(format_args!("step {name:?}"));
            check_name("step", name)?;
            if !names.insert(name) {
                return Err(Error::invalid(format!("step {name:?} comes twice: give each step a name of its own")));
            }
            if kind != "command" && kinds.contains(kind) {
                return Err(in_step(Error::invalid(format!("a pipeline has at most one step of kind {kind:?}"))));
            }
            let before = match step {
                StepSpec::Command(command) => {
                    command.check().map_err(in_step)?;
                    None
                }
                StepSpec::Register { .. } => Some("command"),
                StepSpec::Evaluate { .. } | StepSpec::Promote { .. } => Some("register"),
                StepSpec::Gate { .. } => Some("evaluate"),
            };
            if let Some(before) = before.filter(|before| !kinds.contains(before)) {
                return Err(in_step(Error::invalid(format!(
                    "kind {kind:?} needs a step of kind {before:?} before it"
                ))));
            }
            if kind != "command" && self.model.is_empty() {
                return Err(missing("model", &format!("step {name:?} needs it")));
            }
            match step {
                StepSpec::Evaluate { .. } if self.data.is_none() => {
                    return Err(in_step(missing("[data]", "there is nothing to evaluate on without it")));
                }
                StepSpec::Gate { min_improvement, .. } if !(-1.0..1.0).contains(min_improvement) => {
                    return Err(in_step(Error::invalid(format!(
                        "min_improvement = {min_improvement} is a share: 0.02 means 2 %"
                    ))));
                }
                StepSpec::Gate { replay: Some(replay), .. } => {
                    replay.check().map_err(in_step)?;
                    if self.deployment.is_empty() {
                        return Err(in_step(missing("deployment", "a replay asks what it was asked live")));
                    }
                }
                StepSpec::Promote { timeout_s, .. } => check_seconds(*timeout_s).map_err(in_step)?,
                _ => {}
            }
            kinds.insert(kind);
        }
        Ok(())
    }
}

impl Data {
    /// The data of a first model, which has no champion before it.
    #[must_use]
    pub fn of_first(mut self) -> Self {
        self.train_days = self.first_train_days.unwrap_or(self.train_days);
        self
    }

    fn check(&self) -> Result<()> {
        check_days("data.train_days", self.train_days)?;
        if let Some(first) = self.first_train_days {
            check_days("data.first_train_days", first)?;
        }
        match (self.holdout_rows, self.holdout_days) {
            (Some(0), _) => Err(Error::invalid("data.holdout_rows must be at least 1")),
            (Some(_), None) => Ok(()),
            (_, Some(holdout)) => check_days("data.holdout_days", holdout),
            (None, None) => Err(Error::invalid("data needs holdout_rows, holdout_days or both")),
        }?;
        match self.max_train_rows {
            Some(max) if max < self.min_train_rows.max(1) => Err(Error::invalid(format!(
                "data.max_train_rows = {max} is less than data.min_train_rows = {}",
                self.min_train_rows
            ))),
            _ => Ok(()),
        }
    }
}

impl GateReplay {
    fn rules(&self) -> ReplayRules {
        let Self { max_flips_share, max_failed_share, min_rows, .. } = *self;
        ReplayRules { max_flips_share, max_failed_share, min_rows }
    }

    fn check(&self) -> Result<()> {
        check_days("replay.last_days", self.last_days)?;
        if self.thresholds.len() > MAX_THRESHOLDS || self.thresholds.iter().any(|threshold| !threshold.is_finite()) {
            return Err(Error::invalid(format!("replay.thresholds must be numbers, and at most {MAX_THRESHOLDS}")));
        }
        if let Some(max) = self.max_rows.filter(|max| !(1..=MAX_REPLAYED).contains(max)) {
            return Err(Error::invalid(format!("replay.max_rows = {max} must be from 1 to {MAX_REPLAYED}")));
        }
        if let Some(tolerance) = self.tolerance.filter(|tolerance| !(tolerance.is_finite() && *tolerance >= 0.0)) {
            return Err(Error::invalid(format!("replay.tolerance = {tolerance} must be 0 or more")));
        }
        self.rules().check()
    }
}

impl CommandSpec {
    fn check(&self) -> Result<()> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("command is empty: its first word is the program"));
        }
        if self.retries > 100 {
            return Err(Error::invalid(format!("retries = {} is more than 100", self.retries)));
        }
        check_seconds(self.timeout_s)
    }
}

fn check_days(key: &str, days: f64) -> Result<()> {
    if days.is_finite() && days > 0.0 && days <= 36_525.0 {
        Ok(())
    } else {
        Err(Error::invalid(format!("{key} = {days} must be more than 0 and at most 36525 days")))
    }
}

fn check_seconds(timeout_s: f64) -> Result<()> {
    if timeout_s.is_finite() && timeout_s > 0.0 && timeout_s <= 7.0 * 86_400.0 {
        Ok(())
    } else {
        Err(Error::invalid(format!("timeout_s = {timeout_s} must be more than 0 and at most 604800 seconds")))
    }
}

fn missing(key: &str, why: &str) -> Error {
    Error::invalid(format!("{key} is missing: {why}"))
}

fn champion() -> String {
    "champion".to_owned()
}

const fn two_hundred() -> u64 {
    200
}

const fn twenty_four() -> u64 {
    24
}

const fn sixty() -> f64 {
    60.0
}

const fn everything() -> f64 {
    1.0
}

const fn one_row() -> u64 {
    1
}

const fn one_hour() -> f64 {
    3_600.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name = "oxygen-retrain"
monitor = "oxygen"
model = "oxygen"
deployment = "oxygen"
schedule = "0 3 * * *"
[params]
seed = "1"
[data]
train_days = 60
holdout_rows = 336
[[step]]
name = "train"
kind = "command"
command = ["python", "-m", "fishy.train"]
timeout_s = 300
retries = 1
[[step]]
name = "register"
kind = "register"
[[step]]
name = "evaluate"
kind = "evaluate"
metric = "mae"
[[step]]
name = "gate"
kind = "gate"
min_improvement = 0.02
[[step]]
name = "promote"
kind = "promote"
"#;

    #[test]
    fn a_whole_pipeline_is_read() {
        let definition = Definition::parse(WHOLE).unwrap();
        assert_eq!(
            definition.steps.iter().map(StepSpec::kind).collect::<Vec<_>>(),
            ["command", "register", "evaluate", "gate", "promote"]
        );
        assert_eq!((definition.alias.as_str(), definition.experiment()), ("champion", "oxygen-retrain"));
        let rules = definition.gate_rules();
        assert_eq!((rules.min_improvement, rules.min_labels, rules.needs_approval), (0.02, 24, false));
        let StepSpec::Command(train) = &definition.steps[0] else { panic!("{:?}", definition.steps[0]) };
        assert_eq!((train.timeout_s, train.retries), (300.0, 1));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("retries = 1", "retris = 1", "retris"),
            ("name = \"oxygen-retrain\"", "name = \"oxygen-retrain\"\nmodle = \"x\"", "modle"),
            ("holdout_rows = 336", "", "holdout_rows, holdout_days or both"),
            ("holdout_rows = 336", "holdout_rows = 336\nholdout_days = -3", "holdout_days"),
            ("holdout_rows = 336", "holdout_rows = 336\nmax_train_rows = 10", "max_train_rows"),
            ("train_days = 60", "train_days = -1", "data.train_days"),
            ("train_days = 60", "train_dayz = 60", "train_dayz"),
            ("monitor = \"oxygen\"\n", "", "monitor is missing"),
            ("\nmodel = \"oxygen\"", "", "model is missing"),
            ("0 3 * * *", "0 25 * * *", "schedule"),
            ("timeout_s = 300", "timeout_s = 0", "timeout_s"),
            ("seed = \"1\"", "\"se ed\" = \"1\"", "se ed"),
            ("seed = \"1\"", "seed = 1", "seed"),
            ("metric = \"mae\"", "metric = \"mad\"", "mad"),
            ("min_improvement = 0.02", "min_improvement = 2", "0.02 means 2 %"),
            ("kind = \"register\"", "kind = \"registre\"", "registre"),
            ("name = \"register\"", "name = \"train\"", "comes twice"),
            ("kind = \"evaluate\"\nmetric = \"mae\"", "kind = \"promote\"", "needs a step of kind \"evaluate\" before"),
            ("command = [\"python\", \"-m\", \"fishy.train\"]", "command = []", "step \"train\": command is empty"),
        ];
        for (from, to, expected) in cases {
            assert!(WHOLE.contains(from), "{from}");
            let error = Definition::parse(&WHOLE.replacen(from, to, 1)).unwrap_err();
            assert!(error.message().contains(expected), "{to:?} gave: {error}");
        }
    }

    #[test]
    fn a_gate_may_ask_for_a_replay() {
        const GATE: &str = "kind = \"gate\"\nmin_improvement = 0.02\n";
        const REPLAY: &str = "[step.replay]\nlast_days = 7\nthresholds = [5.0, 6.0]\nmax_flips_share = 0.05\n";
        let whole = WHOLE.replacen(GATE, &format!("{GATE}{REPLAY}"), 1);
        let definition = Definition::parse(&whole).unwrap();
        assert_eq!(definition.gate_replay().map(|replay| replay.thresholds.clone()), Some(vec![5.0, 6.0]));
        let rules = ReplayRules { max_flips_share: 0.05, max_failed_share: 0.0, min_rows: 1 };
        assert_eq!(definition.gate_rules().replay, Some(rules));
        assert_eq!(Definition::parse(WHOLE).unwrap().gate_rules().replay, None);
        for (from, to, expected) in [
            ("last_days = 7", "last_days = 0", "step \"gate\": replay.last_days = 0"),
            ("last_days = 7", "", "last_days"),
            ("last_days = 7", "last_days = 7\nmax_rows = 0", "replay.max_rows"),
            ("last_days = 7", "last_days = 7\ntolerance = -1", "replay.tolerance"),
            ("last_days = 7", "last_days = 7\nmax_failed_share = 5", "0.05 for 5 %"),
            ("max_flips_share = 0.05", "max_flips = 0.05", "max_flips"),
            ("thresholds = [5.0, 6.0]", "thresholds = [nan]", "replay.thresholds"),
            ("deployment = \"oxygen\"\n", "", "deployment is missing"),
        ] {
            assert!(whole.contains(from), "{from}");
            let error = Definition::parse(&whole.replacen(from, to, 1)).unwrap_err();
            assert!(error.message().contains(expected), "{to:?} gave: {error}");
        }
    }

    #[test]
    fn only_params_that_exist_can_be_overridden() {
        let definition = Definition::parse(WHOLE).unwrap();
        let with = |name: &str| definition.params_with(&BTreeMap::from([(name.to_owned(), "2".to_owned())]));
        assert_eq!(with("seed").unwrap()["seed"], "2");
        assert!(with("sed").unwrap_err().message().contains("it has seed"));
    }
}
