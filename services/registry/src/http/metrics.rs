//! `/2.0/mlflow/metrics/…`: histories.

use fishy_core::Error;
use fishy_http::Routes;

use super::message::Message;
use super::{Answer, App, Here, LongAnswer, READ, long, one};
use crate::domain::records::Metric;
use crate::domain::{limits, names, page};

pub(super) fn routes(routes: Routes<App>, mount: &str) -> Routes<App> {
    let path = |name: &str| format!("{mount}/2.0/mlflow/metrics/{name}");
    routes.get(&path("get-history"), READ, history).get(&path("get-history-bulk"), READ, histories).get(
        &path("get-history-bulk-interval"),
        READ,
        histories_by_step,
    )
}

async fn history(Here(app): Here, message: Message) -> LongAnswer<Metric> {
    let limit = message.whole("max_results")?;
    if limit.is_some_and(|limit| limit < 1) {
        return Err(Error::invalid(
            "Invalid value for parameter 'max_results' supplied. It must be a positive integer",
        )
        .into());
    }
    let start = page::read(&message.text("page_token")?.unwrap_or_default())?;
    let page = app.metric_history(&message.run_id()?, &message.required("metric_key")?, limit, &start).await?;
    let next = page.next_token();
    Ok(long("metrics", page.rows, next))
}

/// The runs of a question, and the metric.
fn question(message: &Message, name: &str) -> Result<(Vec<String>, String), Error> {
    let mut ids = message.texts(name)?;
    ids.sort();
    ids.dedup();
    if ids.is_empty() {
        return Err(names::missing(name));
    }
    if ids.len() > limits::HISTORY_RUNS {
        return Err(Error::invalid(format!(
            "GetMetricHistoryBulk request cannot specify more than {} run_ids. Received {} run_ids.",
            limits::HISTORY_RUNS,
            ids.len()
        )));
    }
    Ok((ids, message.required("metric_key")?))
}

async fn histories(Here(app): Here, message: Message) -> Answer {
    let (ids, key) = question(&message, "run_id")?;
    let limit = message.whole("max_results")?.unwrap_or(limits::HISTORY_POINTS).clamp(1, limits::HISTORY_POINTS);
    // As with MLflow, this answer alone has its list also when it is empty.
    one("metrics", &app.metric_histories(&ids, &key, limit).await?)
}

async fn histories_by_step(Here(app): Here, message: Message) -> LongAnswer<Metric> {
    let (ids, key) = question(&message, "run_ids")?;
    let (first, last) = (message.whole("start_step")?, message.whole("end_step")?);
    if first.is_some() != last.is_some() {
        return Err(Error::invalid("If either start step or end step are specified, both must be specified.").into());
    }
    let bounds = (first.unwrap_or(i64::MIN), last.unwrap_or(i64::MAX));
    if bounds.0 > bounds.1 {
        return Err(Error::invalid(format!(
            "end_step must be greater than start_step. Found start_step={} and end_step={}.",
            bounds.0, bounds.1
        ))
        .into());
    }
    let count = message.whole("max_results")?.unwrap_or(320);
    if !(1..=2_500).contains(&count) {
        return Err(Error::invalid(format!("max_results must be between 1 and 2500. Found max_results={count}")).into());
    }
    Ok(long("metrics", app.sampled_metric_histories(&ids, &key, bounds, count).await?, None))
}
