//! `/api/v1/registry/imports…`: copies from other servers, each in the form in which MLflow's protocol tells it.
//!
//! Everything is `{"source": URL, "digest": …, "entity": {…}}`, with what MLflow answered as the entity, and can be sent
//! again. A run or a logged model is ended by a seal, which checks that all of it is here.

use axum::extract::Path;
use fishy_core::{Error, Result};
use fishy_http::{Json, Routes};
use serde_json::{Map, Value, json};

use super::message::Message;
use super::{Answer, App, Here, nothing};
use crate::domain::names;
use crate::domain::records::{
    Dataset, DatasetInput, Experiment, LoggedModel, LoggedModelData, LoggedModelInfo, Metric, ModelInput, ModelOutput,
    ModelVersion, RegisteredModel, Run, RunData, RunInfo, RunInputs, RunOutputs,
};
use crate::service::{Asker, Copied, Origin, Seal};

const ADMIN: &str = "registry:admin";
/// The longest URL of a server.
const MAX_SOURCE_CHARS: usize = 2_000;

pub(super) fn routes(routes: Routes<App>) -> Routes<App> {
    routes.get("/api/v1/registry/imports", ADMIN, counts).post("/api/v1/registry/imports/{kind}", ADMIN, import)
}

fn source_of(message: &Message) -> Result<String> {
    let source = message.required("source")?;
    names::check_chars("source", &source, MAX_SOURCE_CHARS)?;
    Ok(source)
}

async fn counts(Here(app): Here, message: Message) -> Answer {
    let counts = app.import_counts(&source_of(&message)?).await?;
    let counts: Map<String, Value> = counts.into_iter().map(|(kind, count)| (kind.to_owned(), count.into())).collect();
    Ok(Json(counts.into()))
}

/// The thing itself, and where it comes from.
fn parts(
    message: &Message,
    kind: &'static str,
    id: impl FnOnce(&Message) -> Result<String>,
) -> Result<(Origin, Message)> {
    let entity = message.object("entity")?.ok_or_else(|| names::missing("entity"))?;
    let origin = Origin { source: source_of(message)?, kind, id: id(&entity)?, digest: message.required("digest")? };
    Ok((origin, entity))
}

async fn import(Here(app): Here, asker: Asker, Path(kind): Path<String>, message: Message) -> Answer {
    let copied = match kind.as_str() {
        "experiment" => {
            let (origin, entity) = parts(&message, "experiment", |entity| entity.required_id("experiment_id"))?;
            app.import_experiment(&asker, &origin, &experiment(&entity)?).await?
        }
        "run" => {
            let (origin, entity) = parts(&message, "run", |entity| part(entity, "info")?.run_id())?;
            app.import_run(&asker, &origin, &mut run(&entity)?).await?
        }
        "logged_model" => {
            let (origin, entity) =
                parts(&message, "logged_model", |entity| part(entity, "info")?.required("model_id"))?;
            app.import_logged_model(&asker, &origin, &mut logged_model(&entity)?).await?
        }
        "model" => {
            let (origin, entity) = parts(&message, "model", |entity| entity.required("name"))?;
            let is_whole = message.flag("is_whole")?.unwrap_or(false);
            app.import_model(&asker, &origin, &model(&entity)?, is_whole).await?
        }
        "version" => {
            let id = |entity: &Message| -> Result<String> {
                Ok(format!("{}/{}", entity.required("name")?, entity.required_id("version")?))
            };
            let (origin, entity) = parts(&message, "version", id)?;
            let version = version(&entity, message.required("artifact_path")?)?;
            app.import_version(&asker, &origin, &version).await?
        }
        "points" => {
            let points = message.points("points")?;
            app.import_points(&source_of(&message)?, &message.required("run_id")?, &points).await?;
            return nothing();
        }
        "seal" => {
            let (origin, seal) = seal(&message)?;
            app.seal_import(&origin, &seal).await?;
            return nothing();
        }
        other => return Err(Error::not_found(format!("nothing of the kind {other:?} can be imported")).into()),
    };
    let Copied { target_id, is_unchanged } = copied;
    Ok(Json(json!({"target_id": target_id, "is_unchanged": is_unchanged})))
}

fn part(message: &Message, name: &str) -> Result<Message> {
    message.object(name)?.ok_or_else(|| names::missing(name))
}

fn number(message: &Message, name: &str) -> Result<i64> {
    Ok(message.whole(name)?.unwrap_or(0))
}

fn text(message: &Message, name: &str) -> Result<String> {
    Ok(message.text(name)?.unwrap_or_default())
}

fn seal(message: &Message) -> Result<(Origin, Seal)> {
    let kind = match message.required("kind")?.as_str() {
        "run" => "run",
        "logged_model" => "logged_model",
        other => return Err(names::invalid_value("kind", other, "use run or logged_model")),
    };
    let origin =
        Origin { source: source_of(message)?, kind, id: message.required("id")?, digest: message.required("digest")? };
    let file = |file: &Message| -> Result<_> { Ok((file.required("path")?, file.required("sha256")?)) };
    let files = message.objects("files")?.iter().map(file).collect::<Result<_>>()?;
    Ok((origin, Seal { points: number(message, "points")?, files }))
}

fn experiment(entity: &Message) -> Result<Experiment> {
    Ok(Experiment {
        experiment_id: entity.required_id("experiment_id")?,
        name: entity.required("name")?,
        artifact_location: String::new(),
        lifecycle_stage: lifecycle_stage(entity)?,
        creation_time: number(entity, "creation_time")?,
        last_update_time: number(entity, "last_update_time")?,
        workspace: String::new(),
        tags: entity.pairs("tags")?,
    })
}

fn lifecycle_stage(entity: &Message) -> Result<String> {
    let stage = entity.required("lifecycle_stage")?;
    match stage.as_str() {
        "active" | "deleted" => Ok(stage),
        other => Err(names::invalid_value("lifecycle_stage", other, "use active or deleted")),
    }
}

fn run(entity: &Message) -> Result<Run> {
    let info = part(entity, "info")?;
    let data = entity.object("data")?;
    let run_id = info.run_id()?;
    let info = RunInfo {
        run_uuid: run_id.clone(),
        run_id,
        run_name: text(&info, "run_name")?,
        experiment_id: info.required_id("experiment_id")?,
        user_id: text(&info, "user_id")?,
        status: info.required("status")?,
        start_time: info.whole("start_time")?,
        end_time: info.whole("end_time")?,
        artifact_uri: String::new(),
        lifecycle_stage: lifecycle_stage(&info)?,
    };
    let data = match data {
        Some(data) => RunData { metrics: Vec::new(), params: data.pairs("params")?, tags: data.pairs("tags")? },
        None => RunData::default(),
    };
    let mut inputs = RunInputs::default();
    if let Some(read) = entity.object("inputs")? {
        inputs.dataset_inputs = read.objects("dataset_inputs")?.iter().map(dataset).collect::<Result<_>>()?;
        let input = |input: &Message| -> Result<_> { Ok(ModelInput { model_id: input.required("model_id")? }) };
        inputs.model_inputs = read.objects("model_inputs")?.iter().map(input).collect::<Result<_>>()?;
    }
    let mut outputs = RunOutputs::default();
    if let Some(wrote) = entity.object("outputs")? {
        let output = |out: &Message| -> Result<_> {
            Ok(ModelOutput { model_id: out.required("model_id")?, step: number(out, "step")? })
        };
        outputs.model_outputs = wrote.objects("model_outputs")?.iter().map(output).collect::<Result<_>>()?;
    }
    Ok(Run { info, data, inputs, outputs })
}

fn dataset(input: &Message) -> Result<DatasetInput> {
    let dataset = part(input, "dataset")?;
    let dataset = Dataset {
        name: dataset.required("name")?,
        digest: dataset.required("digest")?,
        source_type: text(&dataset, "source_type")?,
        source: text(&dataset, "source")?,
        schema: dataset.filled("schema")?,
        profile: dataset.filled("profile")?,
    };
    Ok(DatasetInput { tags: input.pairs("tags")?, dataset })
}

/// The status of a logged model, by its name or by its number.
fn status(info: &Message) -> Result<String> {
    let name = match info.value("status") {
        Some(Value::Number(number)) => match number.as_i64() {
            Some(2) => "LOGGED_MODEL_READY",
            Some(3) => "LOGGED_MODEL_UPLOAD_FAILED",
            _ => "LOGGED_MODEL_PENDING",
        },
        _ => return info.required("status"),
    };
    Ok(name.to_owned())
}

fn logged_model(entity: &Message) -> Result<LoggedModel> {
    let info = part(entity, "info")?;
    let mut data = LoggedModelData::default();
    if let Some(logged) = entity.object("data")? {
        data.params = logged.pairs("params")?;
        data.metrics = logged.objects("metrics")?.iter().map(metric).collect::<Result<_>>()?;
    }
    let info = LoggedModelInfo {
        model_id: info.required("model_id")?,
        experiment_id: info.required_id("experiment_id")?,
        name: text(&info, "name")?,
        creation_timestamp_ms: number(&info, "creation_timestamp_ms")?,
        last_updated_timestamp_ms: number(&info, "last_updated_timestamp_ms")?,
        artifact_uri: String::new(),
        status: status(&info)?,
        model_type: info.filled("model_type")?,
        source_run_id: info.filled("source_run_id")?,
        tags: info.pairs("tags")?,
    };
    Ok(LoggedModel { info, data })
}

fn metric(measured: &Message) -> Result<Metric> {
    let point = measured.point()?;
    Ok(Metric {
        key: point.key,
        value: point.value,
        timestamp: point.timestamp,
        step: point.step,
        dataset_name: point.dataset_name,
        dataset_digest: point.dataset_digest,
        model_id: point.model_id,
        run_id: measured.filled("run_id")?,
    })
}

fn model(entity: &Message) -> Result<RegisteredModel> {
    Ok(RegisteredModel {
        name: entity.required("name")?,
        creation_timestamp: number(entity, "creation_timestamp")?,
        last_updated_timestamp: number(entity, "last_updated_timestamp")?,
        user_id: text(entity, "user_id")?,
        description: entity.filled("description")?,
        latest_versions: Vec::new(),
        tags: entity.pairs("tags")?,
        aliases: Vec::new(),
    })
}

fn version(entity: &Message, artifact_path: String) -> Result<ModelVersion> {
    Ok(ModelVersion {
        name: entity.required("name")?,
        version: entity.required_id("version")?,
        creation_timestamp: number(entity, "creation_timestamp")?,
        last_updated_timestamp: number(entity, "last_updated_timestamp")?,
        user_id: text(entity, "user_id")?,
        current_stage: entity.filled("current_stage")?.unwrap_or_else(|| "None".to_owned()),
        description: entity.filled("description")?,
        source: text(entity, "source")?,
        run_id: entity.filled("run_id")?,
        run_link: entity.filled("run_link")?,
        status: "READY".to_owned(),
        model_id: entity.filled("model_id")?,
        tags: entity.pairs("tags")?,
        aliases: Vec::new(),
        artifact_path,
    })
}
