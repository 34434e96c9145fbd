//! What is replayed: rows with their features, and the settings of monitor and pipeline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fishy_contracts::monitoring::TriggerSpec;
use fishy_contracts::pipelines::PipelineSpec;
use fishy_core::time::{DAY_MS, HOUR_MS, MINUTE_MS, parse_ms};
use fishy_features::{Definition, Features};
use fishy_simulator::{Reading, Sensor, Simulation};
use serde::Deserialize;

use super::{Replay, table};
use crate::commands::pipeline::read_spec;
use crate::commands::simulate::scenario;

/// The pipeline of a data set that has none of its own.
const DEFAULT_PIPELINE: &str = include_str!("default-pipeline.toml");
const DEFAULT_LEARNER: &str = "fishy.learners:PlainForest";
/// Which part of the span the first model learns from, when nothing is said.
const FIRST_SHARE: f64 = 0.17;

/// `example.toml`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    name: String,
    time: String,
    target: String,
    #[serde(default)]
    flag: Option<String>,
    #[serde(default)]
    train_until: Option<String>,
    #[serde(default)]
    end: Option<String>,
    #[serde(default = "default_delay")]
    label_delay_days: f64,
    #[serde(default)]
    learner: Option<String>,
    feature: Vec<Definition>,
    /// The features that are checked as sensors; those that are columns as they are, if not said.
    #[serde(default)]
    sensors: Option<Vec<String>>,
    #[serde(default)]
    trigger: TriggerSpec,
    #[serde(default)]
    ranges: BTreeMap<String, [f64; 2]>,
}

fn default_delay() -> f64 {
    7.0
}

/// One row that can be predicted.
pub struct Row {
    /// The prediction id.
    pub id: String,
    /// Event time.
    pub time_ms: i64,
    /// Features in order.
    pub inputs: Vec<f64>,
    /// The true value.
    pub target: f64,
    /// Whether the data set marks the truth as doubtful.
    pub is_flagged: bool,
    /// The sensor series; empty where there is one.
    pub series: String,
}

/// What is replayed.
pub struct Plan {
    /// Name of monitor, deployment and pipeline.
    pub name: String,
    /// Name of the registered model.
    pub model: String,
    /// The rows in event time order.
    pub rows: Vec<Row>,
    /// Names of the features.
    pub features: Vec<String>,
    /// Those that are readings of a sensor as they are.
    pub sensors: Vec<String>,
    /// The first model learns from rows before this.
    pub train_until_ms: i64,
    /// After which time a true value becomes known.
    pub delay_ms: i64,
    /// The learner, as the baselines are told.
    pub learner: String,
    /// When the monitor asks for a retraining.
    pub trigger: TriggerSpec,
    /// Physical limits.
    pub ranges: BTreeMap<String, [f64; 2]>,
    /// The label that tells sensor series apart.
    pub series_label: String,
    /// The pipeline.
    pub pipeline: PipelineSpec,
}

impl Plan {
    /// Reads the data and the settings.
    pub fn make(arguments: &Replay) -> Result<Self> {
        match (&arguments.example, &arguments.data) {
            (Some(example), Some(data)) => Self::of_example(arguments, &folder_of(example)?, data),
            (Some(example), None) => bail!("--example {example} needs --data FILE"),
            (None, Some(data)) => Self::of_file(arguments, data),
            (None, None) => Self::of_simulation(arguments),
        }
    }

    /// How many rows the first model may learn from.
    pub fn first_replayed(&self) -> usize {
        self.rows.partition_point(|row| row.time_ms < self.train_until_ms)
    }

    fn of_example(arguments: &Replay, folder: &Path, data: &Path) -> Result<Self> {
        let file = folder.join("example.toml");
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let example: Example = toml::from_str(&text).with_context(|| format!("in {}", file.display()))?;
        let pipeline = read_spec(&folder.join("pipeline.toml"))?;
        let learner = match &example.learner {
            Some(learner) if learner.contains(".py:") => folder.join(learner).display().to_string(),
            Some(learner) => learner.clone(),
            None => DEFAULT_LEARNER.to_owned(),
        };
        Self::of_table(arguments, example, data, pipeline, learner)
    }

    fn of_file(arguments: &Replay, data: &Path) -> Result<Self> {
        let (Some(time), Some(target)) = (&arguments.time, &arguments.target) else {
            bail!("--data needs --time COLUMN, --target COLUMN and --features A,B,C (or --example)");
        };
        if arguments.features.is_empty() {
            bail!("--features names no column");
        }
        let name = format!("{target}-model").replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "-");
        let feature =
            arguments.features.iter().map(|name| Definition { name: name.clone(), value: String::new() }).collect();
        let example = Example {
            name: name.clone(),
            time: time.clone(),
            target: target.clone(),
            flag: None,
            train_until: None,
            end: None,
            label_delay_days: default_delay(),
            learner: None,
            feature,
            sensors: None,
            trigger: TriggerSpec::default(),
            ranges: BTreeMap::new(),
        };
        Self::of_table(arguments, example, data, default_pipeline(&name), DEFAULT_LEARNER.to_owned())
    }

    fn of_table(
        arguments: &Replay,
        example: Example,
        data: &Path,
        pipeline: PipelineSpec,
        learner: String,
    ) -> Result<Self> {
        let mut features = Features::new(&example.feature)?;
        let mut columns = features.columns();
        columns.push(example.target.clone());
        columns.extend(example.flag.clone());
        columns.sort();
        columns.dedup();
        let filter = match &arguments.filter {
            Some(filter) => Some(filter.split_once('=').context("--where is COLUMN=VALUE")?),
            None => None,
        };
        let table = table::read(data, &example.time, &columns, filter)?;
        let every_ms = arguments.every.as_deref().map(length).transpose()?;
        let end_ms = time_of(arguments.end.as_deref().or(example.end.as_deref()))?.unwrap_or(i64::MAX);
        let mut rows = Vec::new();
        for (time_ms, reading) in readings(&table, arguments.missing, every_ms) {
            let inputs = features.push(time_ms, &reading);
            let whole: Option<Vec<f64>> = inputs.into_iter().collect();
            let value = |column: &str| reading.get(column).copied().flatten();
            let (Some(inputs), Some(target)) = (whole, value(&example.target)) else { continue };
            if time_ms >= end_ms {
                break;
            }
            let is_flagged = example.flag.as_deref().and_then(value).is_some_and(|flag| flag > 0.0);
            // Several readings at one moment are told apart by their place.
            let id = format!("{}-{time_ms}-{}", example.name, rows.len());
            rows.push(Row { id, time_ms, inputs, target, is_flagged, series: String::new() });
        }
        let delay_days = arguments.label_delay_days.unwrap_or(example.label_delay_days);
        let train_until = arguments.train_until.as_deref().or(example.train_until.as_deref());
        Self::checked(
            arguments,
            Self {
                model: example.name.clone(),
                name: example.name,
                sensors: example.sensors.unwrap_or_else(|| sensors_of(&example.feature)),
                features: features.names().to_vec(),
                train_until_ms: time_of(train_until)?.unwrap_or_else(|| first_share(&rows)),
                rows,
                delay_ms: (delay_days * DAY_MS as f64) as i64,
                learner,
                trigger: example.trigger,
                ranges: example.ranges,
                series_label: String::new(),
                pipeline,
            },
        )
    }

    fn of_simulation(arguments: &Replay) -> Result<Self> {
        let name = "simulated-oxygen";
        let scenario = scenario(&arguments.scenario)?;
        let sensors = [Sensor::Temp, Sensor::Sal, Sensor::Ph, Sensor::Turb, Sensor::Depth];
        let mut definitions: Vec<Definition> = sensors
            .iter()
            .map(|sensor| Definition { name: sensor.as_str().to_owned(), value: String::new() })
            .collect();
        for hour in ["hour_sin", "hour_cos"] {
            definitions.push(Definition { name: hour.to_owned(), value: format!("{hour}()") });
        }
        let template = Features::new(&definitions)?;
        let mut by_pen: BTreeMap<String, Features> = BTreeMap::new();
        let mut rows = Vec::new();
        for reading in Simulation::new(&scenario, arguments.seed)? {
            let Reading { time_ms, pen, true_do_mgl, .. } = &reading;
            let values = sensors.iter().map(|sensor| (sensor.as_str().to_owned(), reading.value(*sensor))).collect();
            let features = by_pen.entry(pen.clone()).or_insert_with(|| template.clone());
            let Some(inputs) = features.push(*time_ms, &values).into_iter().collect::<Option<Vec<f64>>>() else {
                continue;
            };
            let id = format!("{name}-{pen}-{time_ms}");
            rows.push(Row {
                id,
                time_ms: *time_ms,
                inputs,
                target: *true_do_mgl,
                is_flagged: false,
                series: pen.clone(),
            });
        }
        let span = rows.first().zip(rows.last()).map(|(first, last): (&Row, &Row)| (first.time_ms, last.time_ms));
        let two_months = span.map(|(first, last)| first + (60 * DAY_MS).min((last - first) / 2));
        let train_until = time_of(arguments.train_until.as_deref())?;
        let ranges = [("temp", [-2.0, 40.0]), ("sal", [0.0, 45.0]), ("ph", [5.0, 10.0]), ("turb", [0.0, 4000.0])];
        Self::checked(
            arguments,
            Self {
                name: name.to_owned(),
                model: name.to_owned(),
                features: template.names().to_vec(),
                sensors: sensors_of(&definitions),
                train_until_ms: train_until.or(two_months).unwrap_or_default(),
                rows,
                delay_ms: (arguments.label_delay_days.unwrap_or(3.0) * DAY_MS as f64) as i64,
                learner: DEFAULT_LEARNER.to_owned(),
                trigger: TriggerSpec::default(),
                ranges: ranges.into_iter().map(|(sensor, range)| (sensor.to_owned(), range)).collect(),
                series_label: "pen".to_owned(),
                pipeline: default_pipeline(name),
            },
        )
    }

    fn checked(arguments: &Replay, mut plan: Self) -> Result<Self> {
        if let Some(model) = &arguments.model {
            plan.model.clone_from(model);
        }
        let names = [("model", &arguments.model), ("experiment", &arguments.experiment)];
        for (key, name) in names.into_iter().filter_map(|(key, name)| Some((key, name.as_ref()?))) {
            let definition = &mut plan.pipeline.definition;
            let mut table: toml::Table = toml::from_str(definition).context("the pipeline's definition")?;
            table.insert(key.to_owned(), name.clone().into());
            *definition = toml::to_string(&table).context("the pipeline's definition")?;
        }
        plan.sorted()
    }

    fn sorted(mut self) -> Result<Self> {
        self.rows.sort_by_key(|row| row.time_ms);
        let first = self.first_replayed();
        if first < 50 || self.rows.len() - first < 50 {
            bail!(
                "{} rows before the first model and {} after it: at least 50 of each are needed (--train-until)",
                first,
                self.rows.len() - first
            );
        }
        self.trigger.pipeline.clone_from(&self.name);
        Ok(self)
    }
}

/// The features that are columns as they are.
fn sensors_of(definitions: &[Definition]) -> Vec<String> {
    definitions.iter().filter(|feature| feature.value.is_empty()).map(|feature| feature.name.clone()).collect()
}

fn default_pipeline(name: &str) -> PipelineSpec {
    let definition = DEFAULT_PIPELINE.replace("NAME", name);
    PipelineSpec { name: name.to_owned(), definition, folder: String::new() }
}

fn first_share(rows: &[Row]) -> i64 {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return 0 };
    let until = first.time_ms + ((last.time_ms - first.time_ms) as f64 * FIRST_SHARE) as i64;
    until - until.rem_euclid(DAY_MS)
}

fn folder_of(example: &str) -> Result<PathBuf> {
    let candidates = [PathBuf::from(example), Path::new("examples").join(example)];
    let found = candidates.into_iter().find(|folder| folder.join("example.toml").is_file());
    let folder = found.with_context(|| format!("no example {example:?}: no examples/{example}/example.toml here"))?;
    Ok(std::path::absolute(folder)?)
}

fn time_of(text: Option<&str>) -> Result<Option<i64>> {
    text.map(|text| parse_ms(text).with_context(|| format!("{text:?} is no time"))).transpose()
}

fn length(text: &str) -> Result<i64> {
    let (count, unit) = text.split_at(text.len().saturating_sub(1));
    let unit_ms = match unit {
        "m" => MINUTE_MS,
        "h" => HOUR_MS,
        "d" => DAY_MS,
        _ => bail!("--every {text:?}: use for example 15m, 1h or 1d"),
    };
    let count: i64 = count.parse().with_context(|| format!("--every {text:?}"))?;
    if count < 1 {
        bail!("--every must be at least 1");
    }
    Ok(count * unit_ms)
}

type Timed = (i64, BTreeMap<String, Option<f64>>);

/// The rows of a table in event time order, or their means over so long.
fn readings(table: &table::Table, missing: Option<f64>, every_ms: Option<i64>) -> Vec<Timed> {
    let mut order: Vec<usize> = (0..table.time_ms.len()).collect();
    order.sort_by_key(|place| table.time_ms[*place]);
    let value = |values: &[Option<f64>], place: usize| values[place].filter(|value| Some(*value) != missing);
    let Some(every_ms) = every_ms else {
        let reading = |place: usize| {
            let values = table.columns.iter().map(|(name, values)| (name.clone(), value(values, place))).collect();
            (table.time_ms[place], values)
        };
        return order.into_iter().map(reading).collect();
    };
    let slot = |place: &usize| table.time_ms[*place].div_euclid(every_ms);
    order
        .chunk_by(|a, b| slot(a) == slot(b))
        .map(|places| {
            let mean = |values: &[Option<f64>]| {
                let known: Vec<f64> = places.iter().filter_map(|place| value(values, *place)).collect();
                (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
            };
            let time_ms = places.first().map_or(0, slot) * every_ms;
            (time_ms, table.columns.iter().map(|(name, values)| (name.clone(), mean(values))).collect())
        })
        .collect()
}
