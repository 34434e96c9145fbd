//! `kind = "evaluate"`: challenger and champion over the same held-out rows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use fishy_contracts::monitoring::LabelledRow;
use fishy_contracts::registry::ModelVersion;
use fishy_core::{Error, ErrorCode, Result, check_relative_path};
use fishy_inference::{Engine, ModelOptions};
use serde::{Deserialize, Serialize};

use super::{Outcome, Registered, StepContext, outputs_of};
use crate::dataset;
use crate::domain::definition::Metric;
use crate::domain::figures::Figures;
use crate::domain::held_out::{self, Champion};
use crate::domain::mlmodel::{MlModel, signature_difference};
use crate::domain::tensors;

/// Where the models are put while they are compared.
const MODELS: &str = "models";
/// The largest file of a model that is evaluated.
const MAX_FILE_BYTES: usize = 2 * 1024 * 1024 * 1024;
/// Files beside the model that the engine does not read.
const NOT_THE_MODEL: [&str; 6] = ["yaml", "yml", "txt", "json", "py", "pkl"];

/// What the comparison gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The figure that the gate decides on.
    pub metric: Metric,
    /// The new version.
    pub challenger: Compared,
    /// The version that the alias named; `None` for the first one.
    pub champion: Option<Compared>,
    /// Labelled rows that both answered.
    pub rows: u64,
    /// Event time of the first of them.
    pub from_ms: i64,
    /// Event time just behind the last of them.
    pub to_ms: i64,
    /// Whether neither was trained on any of them.
    pub is_held_out: bool,
    /// Whether features and outputs are the champion's.
    pub signature_matches: bool,
    /// What a person should know about the figures.
    pub notes: Vec<String>,
}

/// One model's part in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Its version.
    pub version: String,
    /// Its errors.
    #[serde(flatten)]
    pub figures: Figures,
}

/// A model's files, fetched.
struct Fetched {
    version: ModelVersion,
    description: MlModel,
    onnx: PathBuf,
}

/// Compares, and records the figures where people look for them.
pub async fn run(context: &StepContext<'_>, metric: Metric) -> Result<Outcome> {
    let (service, definition) = (context.service, context.definition);
    let registered: Registered = context.outputs("register")?;
    let challenger = service.registry.version(&registered.model, &registered.version).await?;
    let champion = service.registry.version_by_alias(&registered.model, &definition.alias).await?;
    let challenger = fetch(context, challenger).await?;
    let champion = match champion {
        Some(version) => Some(fetch(context, version).await?),
        None => None,
    };
    let manifest = context.stored.dataset.clone().ok_or_else(|| Error::precondition("the run has no held-out rows"))?;
    let (engine, folder) = (service.engine.clone(), context.folder());
    let min_rows = definition.gate_rules().min_labels as usize;
    let evaluation = dataset::blocking(move || {
        let rows = dataset::read(&folder.join(&manifest.holdout.file))?;
        compare(&engine, metric, &challenger, champion.as_ref(), rows, &manifest.features, min_rows)
    })
    .await?;
    // Models are large, and the registry has them.
    tokio::fs::remove_dir_all(context.folder().join(MODELS)).await?;
    record(context, &registered, &evaluation).await?;
    Ok(Outcome::Done(outputs_of(&evaluation)?))
}

/// Fetches the ONNX file and what lies beside it: weights of large models are files of their own.
async fn fetch(context: &StepContext<'_>, version: ModelVersion) -> Result<Fetched> {
    let registry = &context.service.registry;
    let in_version = |error: Error| error.context(format_args!("{} version {}", version.name, version.version));
    let files = registry.files(&version).await.map_err(in_version)?;
    let described = files.iter().find(|file| file.path == "MLmodel").ok_or_else(|| {
        in_version(Error::precondition("has no MLmodel file: log it with mlflow.onnx.log_model, with a signature"))
    })?;
    let yaml = registry.download_checked(&version, described, 1024 * 1024).await.map_err(in_version)?;
    let description = MlModel::parse(&String::from_utf8_lossy(&yaml)).map_err(in_version)?;
    if !files.iter().any(|file| file.path == description.onnx_file) {
        let error = format!("has no file {:?}, which its MLmodel names", description.onnx_file);
        return Err(in_version(Error::precondition(error)));
    }
    let folder = context.folder().join(MODELS).join(&version.version);
    let parent = |path: &str| path.rsplit_once('/').map(|(parent, _)| parent.to_owned());
    for file in &files {
        let extension = file.path.rsplit('.').next().unwrap_or_default();
        let is_beside = parent(&file.path) == parent(&description.onnx_file);
        if !is_beside || file.path == "MLmodel" || NOT_THE_MODEL.contains(&extension) {
            continue;
        }
        let path = folder.join(check_relative_path(&file.path)?);
        let bytes = registry.download_checked(&version, file, MAX_FILE_BYTES).await.map_err(in_version)?;
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await?;
        }
        tokio::fs::write(path, bytes).await?;
    }
    Ok(Fetched { onnx: folder.join(&description.onnx_file), version, description })
}

/// The comparison itself. Blocks the thread.
fn compare(
    engine: &Arc<dyn Engine>,
    metric: Metric,
    challenger: &Fetched,
    champion: Option<&Fetched>,
    mut rows: Vec<LabelledRow>,
    features: &[String],
    min_rows: usize,
) -> Result<Evaluation> {
    let trained_until = champion.map_or(Champion::None, |champion| {
        let tag = champion.version.tag_map().get("fishy.training.to_ms").and_then(|text| text.parse().ok());
        tag.map_or(Champion::Unknown, Champion::TrainedBefore)
    });
    let times: Vec<i64> = rows.iter().map(|row| row.time_ms).collect();
    let chosen = held_out::choose(&times, trained_until, min_rows);
    rows.drain(..chosen.first);
    let mut notes: Vec<String> = chosen.note.into_iter().collect();
    let difference = champion.and_then(|champion| signature_difference(&challenger.description, &champion.description));
    let signature_matches = difference.is_none();
    notes.extend(difference);

    let answered = answers(engine, challenger, &rows, features).map_err(|error| refused("challenger", error))?;
    let of_champion = match champion {
        Some(champion) => Some(answers(engine, champion, &rows, features).map_err(|e| refused("champion", e))?),
        None => None,
    };
    // A row counts when every model gives a number for it; the challenger may not win by answering less.
    let counts = |index: usize| of_champion.as_ref().is_none_or(|answers| answers[index].is_finite());
    let counted: Vec<usize> = (0..rows.len()).filter(|index| counts(*index)).collect();
    let silent = counted.iter().filter(|index| !answered[**index].is_finite()).count();
    if silent > 0 {
        return Err(Error::precondition(format!(
            "the challenger gives no finite number for {silent} of {} held-out rows",
            counted.len()
        )));
    }
    if counted.len() < rows.len() {
        notes.push(format!("{} rows for which the champion gives no number are left out", rows.len() - counted.len()));
    }
    let (Some(first), Some(last)) = (counted.first(), counted.last()) else {
        return Err(Error::precondition("there are no held-out rows to evaluate on"));
    };
    let figures = |answers: &[f64]| Figures::of(counted.iter().map(|index| (answers[*index], rows[*index].value)));
    let compared = |version: &ModelVersion, answers: &[f64]| {
        figures(answers).map(|figures| Compared { version: version.version.clone(), figures })
    };
    let nothing = || Error::internal("figures of no rows");
    Ok(Evaluation {
        metric,
        challenger: compared(&challenger.version, &answered).ok_or_else(nothing)?,
        champion: champion.zip(of_champion).and_then(|(champion, answers)| compared(&champion.version, &answers)),
        rows: counted.len() as u64,
        from_ms: rows[*first].time_ms,
        to_ms: rows[*last].time_ms + 1,
        is_held_out: chosen.is_held_out,
        signature_matches,
        notes,
    })
}

fn answers(engine: &Arc<dyn Engine>, model: &Fetched, rows: &[LabelledRow], features: &[String]) -> Result<Vec<f64>> {
    let options = ModelOptions { warm_up_runs: 0, ..ModelOptions::default() };
    let loaded = engine.load(&model.onnx, &options)?;
    let names = tensors::feature_names(&*loaded, &model.description.features, features);
    let inputs: Vec<&tensors::Inputs> = rows.iter().map(|row| &row.inputs).collect();
    tensors::answers(&*loaded, &names, &inputs)
}

/// What is wrong with a model is not wrong with the request, and trying again does not help.
fn refused(who: &str, error: Error) -> Error {
    match error.code() {
        ErrorCode::Internal => error,
        _ => Error::precondition(format!("the {who} cannot be evaluated: {error}")).with_source(error),
    }
}

async fn record(context: &StepContext<'_>, registered: &Registered, evaluation: &Evaluation) -> Result<()> {
    let registry = &context.service.registry;
    let mut metrics = BTreeMap::from([("evaluation.rows".to_owned(), evaluation.rows as f64)]);
    let mut tags = vec![
        ("rows", evaluation.rows.to_string()),
        ("from_ms", evaluation.from_ms.to_string()),
        ("to_ms", evaluation.to_ms.to_string()),
        ("mae", evaluation.challenger.figures.mae.to_string()),
    ];
    let mut add = |prefix: &str, figures: &Figures| {
        for (name, value) in [("mae", figures.mae), ("rmse", figures.rmse), ("bias", figures.bias)] {
            metrics.insert(format!("evaluation.{prefix}{name}"), value);
        }
    };
    add("", &evaluation.challenger.figures);
    if let Some(champion) = &evaluation.champion {
        add("champion_", &champion.figures);
        tags.push(("champion_mae", champion.figures.mae.to_string()));
    }
    if !registered.run_id.is_empty() {
        registry.log_metrics(&registered.run_id, context.service.env.now_ms(), &metrics).await?;
    }
    for (name, value) in tags {
        let key = format!("fishy.evaluation.{name}");
        registry.set_version_tag(&registered.model, &registered.version, &key, &value).await?;
    }
    Ok(())
}
