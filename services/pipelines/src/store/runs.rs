use std::collections::{BTreeMap, HashMap};

use fishy_contracts::pipelines::{Run, RunStatus, Step};
use fishy_core::Result;
use fishy_db::{Row, Tx, Value, args};

use super::{Store, StoredRun, from_text, parse_status, to_text};

/// A run that is to be made.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Unique.
    pub id: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Event time it runs for.
    pub as_of_ms: i64,
    /// Why.
    pub reason: String,
    /// At most one run is made for each.
    pub trigger_id: Option<String>,
    /// The pipeline's TOML text.
    pub definition: String,
    /// The pipeline's folder.
    pub folder: String,
    /// Values of its params.
    pub params: BTreeMap<String, String>,
    /// Who starts it.
    pub actor: String,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
    /// Names and kinds of its steps.
    pub steps: Vec<(String, &'static str)>,
    /// Wall clock.
    pub created_ms: i64,
}

const COLUMNS: &str =
    "SELECT seq, id, pipeline, as_of_ms, status, reason, trigger_id, definition, folder, params, dataset,
    actor, traceparent, error, is_cancel_requested, created_ms, started_ms, finished_ms FROM runs";

impl Store {
    /// Makes a run; `false` when there is one of the same trigger.
    pub async fn insert_run(&self, tx: &mut Tx, run: &NewRun) -> Result<bool> {
        let made = tx
            .execute(
                "INSERT INTO runs (id, pipeline, as_of_ms, status, reason, trigger_id, definition, folder, params, actor,
                    traceparent, created_ms) VALUES ($1, $2, $3, 'queued', $4, $5, $6, $7, $8, $9, $10, $11)
                 ON CONFLICT (trigger_id) DO NOTHING",
                args![
                    &run.id,
                    &run.pipeline,
                    run.as_of_ms,
                    &run.reason,
                    run.trigger_id.clone(),
                    &run.definition,
                    &run.folder,
                    to_text(&run.params)?,
                    &run.actor,
                    run.traceparent.clone(),
                    run.created_ms
                ],
            )
            .await?;
        if made == 0 {
            return Ok(false);
        }
        let steps: Vec<Vec<Value>> = run
            .steps
            .iter()
            .enumerate()
            .map(|(position, (name, kind))| args![&run.id, position, name, *kind, "queued"])
            .collect();
        tx.bulk("INSERT INTO steps (run_id, position, name, kind, status)", "", steps).await?;
        Ok(true)
    }

    /// One run.
    pub async fn run(&self, id: &str) -> Result<Option<StoredRun>> {
        self.one_run("id", id).await
    }

    /// The run of a trigger.
    pub async fn run_of_trigger(&self, trigger_id: &str) -> Result<Option<StoredRun>> {
        self.one_run("trigger_id", trigger_id).await
    }

    /// Runs of a pipeline before a place in the order of all runs, newest first.
    pub async fn runs(&self, pipeline: &str, before: i64, limit: usize) -> Result<Vec<StoredRun>> {
        let sql = format!("{COLUMNS} WHERE pipeline = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3");
        let rows = self.db.query(&sql, args![pipeline, before, limit]).await?;
        self.with_steps(rows).await
    }

    async fn one_run(&self, column: &str, key: &str) -> Result<Option<StoredRun>> {
        let rows = self.db.query(&format!("{COLUMNS} WHERE {column} = $1"), args![key]).await?;
        Ok(self.with_steps(rows).await?.pop())
    }

    pub(super) async fn with_steps(&self, rows: Vec<Row>) -> Result<Vec<StoredRun>> {
        let mut runs = rows.iter().map(run_of).collect::<Result<Vec<_>>>()?;
        if runs.is_empty() {
            return Ok(runs);
        }
        let places: Vec<String> = (1..=runs.len()).map(|place| format!("${place}")).collect();
        let ids: Vec<Value> = runs.iter().map(|run| Value::from(&run.run.id)).collect();
        let sql = format!(
            "SELECT run_id, name, kind, status, attempts, outputs, error, started_ms, finished_ms FROM steps
             WHERE run_id IN ({}) ORDER BY run_id, position",
            places.join(", ")
        );
        let mut steps: HashMap<String, Vec<Step>> = HashMap::new();
        for row in self.db.query(&sql, ids).await? {
            steps.entry(row.get("run_id")?).or_default().push(step_of(&row)?);
        }
        for run in &mut runs {
            run.run.steps = steps.remove(&run.run.id).unwrap_or_default();
        }
        Ok(runs)
    }

    /// Runs that somebody should work on, oldest first: neither ended nor held by a living process.
    pub async fn open_runs(&self, now_ms: i64) -> Result<Vec<(String, RunStatus)>> {
        let sql = "SELECT id, status FROM runs WHERE status IN ('queued', 'running', 'waiting')
                   AND (owner IS NULL OR lease_until_ms < $1) ORDER BY seq LIMIT 1000";
        let rows = self.db.query(sql, args![now_ms]).await?;
        rows.iter().map(|row| Ok((row.get("id")?, parse_status(&row.get::<String>("status")?)?))).collect()
    }
}

fn run_of(row: &Row) -> Result<StoredRun> {
    Ok(StoredRun {
        seq: row.get("seq")?,
        run: Run {
            id: row.get("id")?,
            pipeline: row.get("pipeline")?,
            as_of_ms: row.get("as_of_ms")?,
            status: parse_status(&row.get::<String>("status")?)?,
            reason: row.get("reason")?,
            trigger_id: row.get("trigger_id")?,
            steps: Vec::new(),
            error: row.get("error")?,
            created_ms: row.get("created_ms")?,
            finished_ms: row.get("finished_ms")?,
        },
        definition: row.get("definition")?,
        folder: row.get("folder")?,
        params: from_text(&row.get::<String>("params")?)?,
        dataset: row.get::<Option<String>>("dataset")?.as_deref().map(from_text).transpose()?,
        actor: row.get("actor")?,
        traceparent: row.get("traceparent")?,
        is_cancel_requested: row.get("is_cancel_requested")?,
        started_ms: row.get("started_ms")?,
    })
}

fn step_of(row: &Row) -> Result<Step> {
    Ok(Step {
        name: row.get("name")?,
        kind: row.get("kind")?,
        status: parse_status(&row.get::<String>("status")?)?,
        attempts: row.get::<i64>("attempts")? as u32,
        outputs: from_text(&row.get::<String>("outputs")?)?,
        error: row.get("error")?,
        started_ms: row.get("started_ms")?,
        finished_ms: row.get("finished_ms")?,
    })
}
