//! The requests: the same for both sides.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::measure::{self, Ask, CLIENTS, Load};
use crate::seed;
use crate::server::{Server, Side};

/// What was made over REST before the clock starts.
pub struct World {
    /// The experiment that is written to.
    pub experiment: String,
    /// The experiment of the seeded runs.
    pub stored: String,
    /// The experiment of wide runs.
    pub wide: String,
    /// One run for each client, which it logs to.
    pub runs: Arc<Vec<String>>,
}

/// The registered model and its alias.
const MODEL: &str = "bench";
const ALIAS: &str = "champion";

async fn post(server: &Server, path: &'static str, body: Value) -> Result<Value> {
    let answer = measure::ask(&measure::client()?, &server.url, Ask::Post(path, body.to_string().into())).await?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Makes it.
pub async fn make(server: &Server) -> Result<World> {
    let mut experiments = Vec::new();
    for name in ["bench", "stored", "wide"] {
        let made = post(server, "/api/2.0/mlflow/experiments/create", json!({ "name": name })).await?;
        experiments.push(made["experiment_id"].as_str().context("no experiment_id")?.to_owned());
    }
    let mut runs = Vec::new();
    for _ in 0..CLIENTS {
        let body = json!({"experiment_id": experiments[0], "start_time": 1_700_000_000_000_i64});
        let made = post(server, "/api/2.0/mlflow/runs/create", body).await?;
        runs.push(made["run"]["info"]["run_id"].as_str().context("no run_id")?.to_owned());
    }
    post(server, "/api/2.0/mlflow/registered-models/create", json!({ "name": MODEL })).await?;
    for _ in 0..10 {
        let body = json!({"name": MODEL, "source": format!("runs:/{}/model", runs[0]), "run_id": runs[0],
            "tags": [{"key": "stage", "value": "test"}]});
        post(server, "/api/2.0/mlflow/model-versions/create", body).await?;
    }
    let body = json!({"name": MODEL, "alias": ALIAS, "version": "7"});
    post(server, "/api/2.0/mlflow/registered-models/alias", body).await?;
    let [experiment, stored, wide] = experiments.try_into().ok().context("three experiments")?;
    Ok(World { experiment, stored, wide, runs: Arc::new(runs) })
}

impl World {
    /// One value of one metric.
    pub fn log_metric(&self) -> Load {
        let runs = Arc::clone(&self.runs);
        Arc::new(move |n, client| {
            let body = json!({"run_id": runs[client as usize], "key": "loss", "value": 1.0 / (n + 1) as f64,
                "timestamp": 1_700_000_000_000 + n, "step": n});
            Ask::Post("/api/2.0/mlflow/runs/log-metric", body.to_string().into())
        })
    }

    /// One step of a hundred metrics.
    pub fn log_batch(&self) -> Load {
        let runs = Arc::clone(&self.runs);
        Arc::new(move |n, client| {
            let metrics: Vec<Value> = (0..100)
                .map(|key| {
                    json!({"key": format!("metric {key}"), "value": (n + 1) as f64 / f64::from(key + 1),
                        "timestamp": 1_700_000_000_000 + n, "step": n})
                })
                .collect();
            let body = json!({"run_id": runs[client as usize], "metrics": metrics, "params": [], "tags": []});
            Ask::Post("/api/2.0/mlflow/runs/log-batch", body.to_string().into())
        })
    }

    /// As the client does it: with the tags that it always sends.
    pub fn create_run(&self) -> Load {
        let experiment = self.experiment.clone();
        Arc::new(move |n, _| {
            let body = json!({"experiment_id": experiment, "user_id": "bench", "run_name": format!("made {n}"),
                "start_time": 1_700_000_000_000 + n, "tags": [
                    {"key": "mlflow.user", "value": "bench"}, {"key": "mlflow.source.name", "value": "train.py"},
                    {"key": "mlflow.source.type", "value": "LOCAL"}, {"key": "mlflow.runName", "value": format!("made {n}")}]});
            Ask::Post("/api/2.0/mlflow/runs/create", body.to_string().into())
        })
    }

    /// One of the seeded runs.
    pub fn get_run(side: Side, stored: u64) -> Load {
        Arc::new(move |n, _| {
            let id = seed::run_id(side, n.wrapping_mul(7_919) % stored);
            Ask::Get(format!("/api/2.0/mlflow/runs/get?run_id={id}"))
        })
    }

    /// The version that an alias names.
    pub fn version_by_alias() -> Load {
        let path = format!("/api/2.0/mlflow/registered-models/alias?name={MODEL}&alias={ALIAS}");
        Arc::new(move |_, _| Ask::Get(path.clone()))
    }

    /// A filter on a metric and a parameter, ordered by another metric: one run in a hundred matches.
    pub fn search(&self) -> Load {
        let body = json!({"experiment_ids": [self.stored], "filter": "metrics.m0 > 0.5 and params.p0 = 'v3'",
            "order_by": ["metrics.m1 DESC"], "max_results": 100});
        let body = bytes::Bytes::from(body.to_string());
        Arc::new(move |_, _| Ask::Post("/api/2.0/mlflow/runs/search", body.clone()))
    }

    /// The first page that a web page shows.
    pub fn first_page(&self) -> Load {
        let body =
            json!({"experiment_ids": [self.wide], "order_by": ["attributes.start_time DESC"], "max_results": 100});
        let body = bytes::Bytes::from(body.to_string());
        Arc::new(move |_, _| Ask::Post("/api/2.0/mlflow/runs/search", body.clone()))
    }

    /// A long history, thinned for a chart.
    pub fn chart(&self) -> Load {
        let run = &self.runs[0];
        let path = format!(
            "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?run_ids={run}&metric_key=long&max_results=320"
        );
        Arc::new(move |_, _| Ask::Get(path.clone()))
    }
}
