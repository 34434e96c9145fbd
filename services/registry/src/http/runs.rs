//! `/2.0/mlflow/runs/…`

use fishy_core::Error;
use fishy_http::Routes;

use super::experiments::view;
use super::message::Message;
use super::{Answer, App, Here, LongAnswer, READ, WRITE, long, nothing, one};
use crate::domain::records::{Dataset, DatasetInput, Run};
use crate::domain::{limits, names};
use crate::service::{Batch, NewRun, RunChange};

pub(super) fn routes(routes: Routes<App>, mount: &str) -> Routes<App> {
    let path = |name: &str| format!("{mount}/2.0/mlflow/runs/{name}");
    routes
        .post(&path("create"), WRITE, create)
        .get(&path("get"), READ, get)
        .post(&path("update"), WRITE, update)
        .post(&path("delete"), WRITE, delete)
        .post(&path("restore"), WRITE, restore)
        .post(&path("search"), READ, search)
        .post(&path("log-metric"), WRITE, log_metric)
        .post(&path("log-parameter"), WRITE, log_param)
        .post(&path("set-tag"), WRITE, set_tag)
        .post(&path("delete-tag"), WRITE, delete_tag)
        .post(&path("log-batch"), WRITE, log_batch)
        .post(&path("log-inputs"), WRITE, log_inputs)
        .post(&path("outputs"), WRITE, log_outputs)
        .post(&path("log-model"), WRITE, log_model)
}

async fn create(Here(app): Here, message: Message) -> Answer {
    let new = NewRun {
        // A run without an experiment belongs to the default one.
        experiment_id: message.filled("experiment_id")?.unwrap_or_else(|| "0".to_owned()),
        name: message.filled("run_name")?,
        user_id: message.text("user_id")?.unwrap_or_default(),
        start_time: message.whole("start_time")?,
        tags: message.pairs("tags")?,
    };
    let mut answer = one("run", &app.create_run(new).await?)?;
    // As with MLflow, a new run is told without its outputs.
    if let Some(run) = answer.0["run"].as_object_mut() {
        run.remove("outputs");
    }
    Ok(answer)
}

async fn get(Here(app): Here, message: Message) -> Answer {
    one("run", &app.run(&message.run_id()?).await?)
}

/// The names of the statuses; clients may send their numbers.
const STATUSES: [&str; 5] = ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"];

async fn update(Here(app): Here, message: Message) -> Answer {
    let status = match message.text("status") {
        Ok(status) => status,
        Err(wrong) => match message.whole("status")?.and_then(|number| usize::try_from(number - 1).ok()) {
            Some(number) if number < STATUSES.len() => Some(STATUSES[number].to_owned()),
            _ => return Err(wrong.into()),
        },
    };
    let change = RunChange { status, end_time: message.whole("end_time")?, name: message.filled("run_name")? };
    one("run_info", &app.update_run(&message.run_id()?, change).await?)
}

async fn delete(Here(app): Here, message: Message) -> Answer {
    app.set_run_deleted(&message.run_id()?, true).await?;
    nothing()
}

async fn restore(Here(app): Here, message: Message) -> Answer {
    app.set_run_deleted(&message.run_id()?, false).await?;
    nothing()
}

async fn search(Here(app): Here, message: Message) -> LongAnswer<Run> {
    let ids = message.texts("experiment_ids")?;
    let page = app.search_runs(&ids, view(&message, "run_view_type")?, &message.search()?).await?;
    let next = page.next_token();
    Ok(long("runs", page.rows, next))
}

async fn log_metric(Here(app): Here, message: Message) -> Answer {
    let batch = Batch { metrics: vec![message.point()?], ..Batch::default() };
    app.log_batch(&message.run_id()?, batch).await?;
    nothing()
}

async fn log_param(Here(app): Here, message: Message) -> Answer {
    message.required("key")?;
    let batch = Batch { params: vec![message.pair()?], ..Batch::default() };
    app.log_batch(&message.run_id()?, batch).await?;
    nothing()
}

async fn set_tag(Here(app): Here, message: Message) -> Answer {
    message.required("key")?;
    let batch = Batch { tags: vec![message.pair()?], ..Batch::default() };
    app.log_batch(&message.run_id()?, batch).await?;
    nothing()
}

async fn delete_tag(Here(app): Here, message: Message) -> Answer {
    app.delete_run_tag(&message.run_id()?, &message.required("key")?).await?;
    nothing()
}

async fn log_batch(Here(app): Here, message: Message) -> Answer {
    if message.body_bytes > limits::BATCH_BYTES {
        return Err(Error::invalid(format!(
            "Batched logging API requests must be at most {} bytes, got a request of size {}.",
            limits::BATCH_BYTES,
            message.body_bytes
        ))
        .into());
    }
    let batch =
        Batch { metrics: message.points("metrics")?, params: message.pairs("params")?, tags: message.pairs("tags")? };
    app.log_batch(&message.run_id()?, batch).await?;
    nothing()
}

/// Logged models of a request, each with its step.
fn models(message: &Message) -> Result<Vec<(String, i64)>, Error> {
    let models = message.objects("models")?;
    models.iter().map(|model| Ok((model.required("model_id")?, model.whole("step")?.unwrap_or(0)))).collect()
}

fn dataset_input(message: &Message) -> Result<DatasetInput, Error> {
    let dataset = message.object("dataset")?.ok_or_else(|| names::missing("dataset"))?;
    Ok(DatasetInput {
        tags: message.pairs("tags")?,
        dataset: Dataset {
            name: dataset.required("name")?,
            digest: dataset.required("digest")?,
            source_type: dataset.required("source_type")?,
            source: dataset.required("source")?,
            schema: dataset.text("schema")?,
            profile: dataset.text("profile")?,
        },
    })
}

async fn log_inputs(Here(app): Here, message: Message) -> Answer {
    let inputs = message.objects("datasets")?;
    let inputs = inputs.iter().map(dataset_input).collect::<Result<Vec<_>, _>>()?;
    app.log_inputs(&message.run_id()?, &inputs, &models(&message)?).await?;
    nothing()
}

async fn log_outputs(Here(app): Here, message: Message) -> Answer {
    app.log_outputs(&message.run_id()?, &models(&message)?).await?;
    nothing()
}

async fn log_model(Here(app): Here, message: Message) -> Answer {
    app.record_model(&message.run_id()?, &message.required("model_json")?).await?;
    nothing()
}
