//! Monitors, the counters of deployments, and champions.

use std::collections::BTreeMap;

use fishy_contracts::events::RevisionActivated;
use fishy_contracts::monitoring::MonitorSpec;
use fishy_core::Result;
use fishy_db::{Db, Row, Tx, args};

use super::{from_json, to_json};
use crate::domain::trigger::{Figures, TriggerState};

/// A monitor with its state.
#[derive(Debug, Clone)]
pub struct MonitorRow {
    pub spec: MonitorSpec,
    pub decide_after_ms: i64,
    pub explicit_ms: Option<i64>,
    pub closed_ms: Option<i64>,
    pub state: TriggerState,
    pub evaluation: Option<Evaluation>,
    pub revision: i64,
    pub observations: i64,
}

/// The newest evaluation of a trigger.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evaluation {
    pub has_fired: bool,
    pub reason: String,
    pub figures: Figures,
}

/// What is counted for a deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeploymentRow {
    pub newest_ms: Option<i64>,
    pub predictions: i64,
    pub labels: i64,
}

/// The champion of a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Champion {
    pub version: String,
    pub features: Vec<String>,
    pub tags: BTreeMap<String, String>,
}

impl Champion {
    /// A tag that holds a number.
    pub fn number<T: std::str::FromStr>(&self, tag: &str) -> Option<T> {
        self.tags.get(tag)?.trim().parse().ok()
    }
}

const COLUMNS: &str = "spec, decide_after_ms, explicit_ms, closed_ms, state, evaluation, revision, observations";

fn monitor_of(row: &Row) -> Result<MonitorRow> {
    let evaluation: Option<String> = row.get("evaluation")?;
    Ok(MonitorRow {
        spec: from_json(&row.get::<String>("spec")?)?,
        decide_after_ms: row.get("decide_after_ms")?,
        explicit_ms: row.get("explicit_ms")?,
        closed_ms: row.get("closed_ms")?,
        state: from_json(&row.get::<String>("state")?)?,
        evaluation: evaluation.as_deref().map(from_json).transpose()?,
        revision: row.get("revision")?,
        observations: row.get("observations")?,
    })
}

pub async fn get(db: &Db, name: &str) -> Result<Option<MonitorRow>> {
    let sql = format!("select {COLUMNS} from monitors where name = $1");
    db.query_opt(&sql, args![name]).await?.as_ref().map(monitor_of).transpose()
}

pub async fn get_in(tx: &mut Tx, name: &str) -> Result<Option<MonitorRow>> {
    let sql = format!("select {COLUMNS} from monitors where name = $1");
    tx.query_opt(&sql, args![name]).await?.as_ref().map(monitor_of).transpose()
}

pub async fn names(db: &Db) -> Result<Vec<String>> {
    let rows = db.query("select name from monitors order by name", args![]).await?;
    rows.iter().map(|row| row.get("name")).collect()
}

/// Monitors with the output they compare, by deployment: for those that data come for.
pub async fn watching(tx: &mut Tx) -> Result<BTreeMap<String, Vec<MonitorSpec>>> {
    let mut watching: BTreeMap<String, Vec<MonitorSpec>> = BTreeMap::new();
    for row in tx.query("select spec from monitors order by name", args![]).await? {
        let spec: MonitorSpec = from_json(&row.get::<String>("spec")?)?;
        watching.entry(spec.deployment.clone()).or_default().push(spec);
    }
    Ok(watching)
}

/// The output that the monitors of a deployment compare with the truth.
pub async fn output(db: &Db, deployment: &str) -> Result<Option<String>> {
    let sql = "select spec from monitors where deployment = $1 order by name limit 1";
    let row = db.query_opt(sql, args![deployment]).await?;
    row.map(|row| from_json::<MonitorSpec>(&row.get::<String>("spec")?).map(|spec| spec.output)).transpose()
}

pub async fn insert(tx: &mut Tx, spec: &MonitorSpec, decide_after_ms: i64, now_ms: i64) -> Result<()> {
    let sql = "insert into monitors(name, deployment, spec, decide_after_ms, state, revision, observations, created_ms)
               values ($1, $2, $3, $4, $5, 0, 0, $6)";
    let state = to_json(&TriggerState::default())?;
    let args = args![&spec.name, &spec.deployment, to_json(spec)?, decide_after_ms, state, now_ms];
    tx.execute(sql, args).await.map(drop)
}

/// Moves the revision too: a closing that began under the old specification begins again.
pub async fn set_spec(tx: &mut Tx, spec: &MonitorSpec) -> Result<()> {
    let sql = "update monitors set spec = $2, revision = revision + 1 where name = $1";
    tx.execute(sql, args![&spec.name, to_json(spec)?]).await.map(drop)
}

/// Never backwards.
pub async fn set_explicit(tx: &mut Tx, name: &str, time_ms: i64) -> Result<()> {
    let sql = "update monitors set explicit_ms = $2 where name = $1 and (explicit_ms is null or explicit_ms < $2)";
    tx.execute(sql, args![name, time_ms]).await.map(drop)
}

/// Writes the state after a closing; `false` when somebody else closed first.
pub async fn set_closed(
    tx: &mut Tx,
    name: &str,
    revision: i64,
    closed_ms: i64,
    state: &TriggerState,
    evaluation: Option<&Evaluation>,
) -> Result<bool> {
    let sql = "update monitors set closed_ms = $3, state = $4, evaluation = $5, revision = revision + 1
               where name = $1 and revision = $2";
    let evaluation = evaluation.map(to_json).transpose()?;
    Ok(tx.execute(sql, args![name, revision, closed_ms, to_json(state)?, evaluation]).await? == 1)
}

pub async fn add_observations(tx: &mut Tx, name: &str, added: u64) -> Result<()> {
    let sql = "update monitors set observations = observations + $2 where name = $1";
    tx.execute(sql, args![name, added]).await.map(drop)
}

pub async fn deployment(db: &Db, name: &str) -> Result<DeploymentRow> {
    let sql = "select newest_ms, predictions, labels from deployments where deployment = $1";
    let Some(row) = db.query_opt(sql, args![name]).await? else { return Ok(DeploymentRow::default()) };
    Ok(DeploymentRow {
        newest_ms: Some(row.get::<i64>("newest_ms")?).filter(|newest_ms| *newest_ms >= 0),
        predictions: row.get("predictions")?,
        labels: row.get("labels")?,
    })
}

/// Adds to the counters of a deployment; `newest_ms` is -1 when no time is to be noted.
pub async fn count(tx: &mut Tx, deployment: &str, newest_ms: i64, predictions: u64, labels: u64) -> Result<()> {
    let sql = "insert into deployments(deployment, newest_ms, predictions, labels) values ($1, $2, $3, $4)
               on conflict (deployment) do update set
                 newest_ms = case when excluded.newest_ms > deployments.newest_ms then excluded.newest_ms
                                  else deployments.newest_ms end,
                 predictions = deployments.predictions + excluded.predictions,
                 labels = deployments.labels + excluded.labels";
    tx.execute(sql, args![deployment, newest_ms, predictions, labels]).await.map(drop)
}

/// Takes a champion unless a later revision is known already.
pub async fn set_champion(tx: &mut Tx, activated: &RevisionActivated) -> Result<bool> {
    let sql = "insert into champions(deployment, revision, version, features, tags) values ($1, $2, $3, $4, $5)
               on conflict (deployment) do update set revision = excluded.revision, version = excluded.version,
                 features = excluded.features, tags = excluded.tags
               where champions.revision < excluded.revision";
    let args = args![
        &activated.deployment,
        activated.revision,
        &activated.version,
        to_json(&activated.features)?,
        to_json(&activated.tags)?
    ];
    Ok(tx.execute(sql, args).await? == 1)
}

pub async fn champion(db: &Db, deployment: &str) -> Result<Option<Champion>> {
    let sql = "select version, features, tags from champions where deployment = $1";
    let Some(row) = db.query_opt(sql, args![deployment]).await? else { return Ok(None) };
    Ok(Some(Champion {
        version: row.get("version")?,
        features: from_json(&row.get::<String>("features")?)?,
        tags: from_json(&row.get::<String>("tags")?)?,
    }))
}
