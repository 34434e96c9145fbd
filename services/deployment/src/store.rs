//! What the service keeps: deployments and their revisions.

use std::collections::BTreeMap;

use fishy_contracts::deployment::{DeploymentSpec, GraphNode, Revision, TrafficSpec};
use fishy_core::{Error, ErrorCode, Event, Result};
use fishy_db::{Db, Migration, Row, Tx, args};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Migrations of the service's database, from version 2 on; 1 is `fishy_db::OUTBOX`.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 2, name: "deployments and revisions", sql: DEPLOYMENTS },
    Migration { version: 3, name: "settings of deployments", sql: SETTINGS },
    Migration { version: 4, name: "inference graphs", sql: GRAPHS },
];

const SETTINGS: &str = "
create table deployment_settings(
    deployment TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    generation BIGINT NOT NULL,
    PRIMARY KEY (deployment, kind)
);
";

const DEPLOYMENTS: &str = "
create table deployments(
    name TEXT NOT NULL PRIMARY KEY,
    model TEXT NOT NULL,
    is_gated BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    base_revision BIGINT NOT NULL,
    deleted_ms BIGINT
);
create table revisions(
    deployment TEXT NOT NULL,
    number BIGINT NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    features TEXT NOT NULL,
    outputs TEXT NOT NULL,
    tags TEXT NOT NULL,
    promotion_id TEXT,
    activated_ms BIGINT NOT NULL,
    PRIMARY KEY (deployment, number)
);
";

/// A deployment has a model or a graph; the number of a graph grows with each declaration.
const GRAPHS: &str = "
alter table deployments add column graph TEXT;
alter table deployments add column graph_number BIGINT NOT NULL DEFAULT 0;
";

/// An inference graph as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GraphRow {
    pub(crate) name: String,
    pub(crate) graph: GraphNode,
    pub(crate) number: i64,
    pub(crate) created_ms: i64,
}

/// A deployment as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeploymentRow {
    pub(crate) spec: DeploymentSpec,
    pub(crate) created_ms: i64,
    /// The newest revision's number.
    pub(crate) newest: Option<i64>,
    /// Grows with each change of its settings; 0 without any.
    pub(crate) settings: i64,
}

/// The traffic of a deployment as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StoredTraffic {
    pub(crate) spec: TrafficSpec,
    /// Why the splits were taken back.
    pub(crate) rolled_back: Option<String>,
}

/// A revision as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RevisionRow {
    pub(crate) revision: Revision,
    /// Names of the outputs, in the model's order.
    pub(crate) outputs: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Store {
    db: Db,
}

const DEPLOYMENT: &str = "select d.name, d.model, d.is_gated, d.created_ms, \
     (select max(r.number) from revisions r where r.deployment = d.name and r.number > d.base_revision) as newest, \
     (select coalesce(max(s.generation), 0) from deployment_settings s where s.deployment = d.name) as settings \
     from deployments d where d.deleted_ms is null and d.graph is null";

const GRAPH: &str = "select d.name, d.graph, d.graph_number, d.created_ms from deployments d \
     where d.deleted_ms is null and d.graph is not null";

const REVISION: &str = "select r.number, r.model, r.version, r.digest, r.features, r.outputs, r.tags, r.promotion_id, \
     r.activated_ms from revisions r join deployments d on d.name = r.deployment \
     where r.deployment = $1 and r.number > d.base_revision and d.deleted_ms is null";

impl Store {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        self.db.ping().await
    }

    pub(crate) async fn deployments(&self) -> Result<Vec<DeploymentRow>> {
        let rows = self.db.query(&format!("{DEPLOYMENT} order by d.name"), args![]).await?;
        rows.iter().map(deployment_of).collect()
    }

    pub(crate) async fn deployment(&self, name: &str) -> Result<Option<DeploymentRow>> {
        let row = self.db.query_opt(&format!("{DEPLOYMENT} and d.name = $1"), args![name]).await?;
        row.as_ref().map(deployment_of).transpose()
    }

    /// Revisions of a deployment, newest first.
    pub(crate) async fn revisions(&self, name: &str, limit: i64) -> Result<Vec<RevisionRow>> {
        let sql = format!("{REVISION} order by r.number desc limit $2");
        self.db.query(&sql, args![name, limit]).await?.iter().map(revision_of).collect()
    }

    /// The digests of the newest `per_deployment` revisions of every deployment.
    pub(crate) async fn digests_in_use(&self, per_deployment: i64) -> Result<Vec<String>> {
        let mut digests = Vec::new();
        for deployment in self.deployments().await? {
            let revisions = self.revisions(&deployment.spec.name, per_deployment).await?;
            digests.extend(revisions.into_iter().map(|row| row.revision.digest));
        }
        Ok(digests)
    }

    /// The digest of a version's files when a deployment served it first.
    pub(crate) async fn digest_of(&self, model: &str, version: &str) -> Result<Option<String>> {
        let sql =
            "select digest from revisions where model = $1 and version = $2 order by activated_ms, number limit 1";
        let row = self.db.query_opt(sql, args![model, version]).await?;
        row.map(|row| row.get("digest")).transpose()
    }

    pub(crate) async fn graphs(&self) -> Result<Vec<GraphRow>> {
        let rows = self.db.query(&format!("{GRAPH} order by d.name"), args![]).await?;
        rows.iter().map(graph_of).collect()
    }

    pub(crate) async fn graph(&self, name: &str) -> Result<Option<GraphRow>> {
        let row = self.db.query_opt(&format!("{GRAPH} and d.name = $1"), args![name]).await?;
        row.as_ref().map(graph_of).transpose()
    }

    /// Makes or changes a graph; `AlreadyExists` when its name is that of a model's deployment.
    pub(crate) async fn set_graph(&self, name: &str, graph: &GraphNode, now_ms: i64, audit: &Event) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let sql = "update deployments set graph = $2, graph_number = graph_number + 1, model = '', is_gated = $3, \
                   created_ms = case when deleted_ms is null then created_ms else $4 end, deleted_ms = $5, \
                   base_revision = coalesce((select max(number) from revisions where deployment = $1), 0) \
                   where name = $1 and (graph is not null or deleted_ms is not null)";
        let text = json(graph)?;
        if tx.execute(sql, args![name, &text, false, now_ms, None::<i64>]).await? == 0 {
            if tx.query_opt("select name from deployments where name = $1", args![name]).await?.is_some() {
                tx.rollback().await;
                return Err(Error::already_exists(format!(
                    "{name:?} is the deployment of a model: delete it first, or choose another name"
                )));
            }
            let sql = "insert into deployments(name, model, is_gated, created_ms, base_revision, deleted_ms, graph, \
                       graph_number) values ($1, '', $2, $3, 0, $4, $5, 1)";
            tx.execute(sql, args![name, false, now_ms, None::<i64>, &text]).await?;
        }
        tx.emit(audit).await?;
        tx.commit().await
    }

    /// Makes or changes a deployment. One that was deleted begins anew; its revision numbers go on.
    pub(crate) async fn apply(&self, spec: &DeploymentSpec, now_ms: i64, audit: &Event) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let sql = "select name from deployments where name = $1 and graph is not null and deleted_ms is null";
        if tx.query_opt(sql, args![&spec.name]).await?.is_some() {
            tx.rollback().await;
            return Err(Error::already_exists(format!(
                "{:?} is an inference graph: delete it first, or choose another name",
                spec.name
            )));
        }
        let existing = tx.query_opt("select deleted_ms from deployments where name = $1", args![&spec.name]).await?;
        match existing.map(|row| row.get::<Option<i64>>("deleted_ms")).transpose()? {
            None => {
                let sql = "insert into deployments(name, model, is_gated, created_ms, base_revision, deleted_ms) \
                           values ($1, $2, $3, $4, 0, $5)";
                tx.execute(sql, args![&spec.name, &spec.model, spec.is_gated, now_ms, None::<i64>]).await?;
            }
            Some(None) => {
                let sql = "update deployments set model = $2, is_gated = $3 where name = $1";
                tx.execute(sql, args![&spec.name, &spec.model, spec.is_gated]).await?;
            }
            Some(Some(_)) => {
                let sql = "update deployments set model = $2, is_gated = $3, created_ms = $4, deleted_ms = $5, graph = null, \
                           base_revision = coalesce((select max(number) from revisions where deployment = $1), 0) \
                           where name = $1";
                tx.execute(sql, args![&spec.name, &spec.model, spec.is_gated, now_ms, None::<i64>]).await?;
            }
        }
        tx.emit(audit).await?;
        tx.commit().await
    }

    /// Deletes a deployment; its revisions stay on record. `false` when there is none.
    pub(crate) async fn delete(&self, name: &str, now_ms: i64, audit: &Event) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let sql = "update deployments set deleted_ms = $2 where name = $1 and deleted_ms is null";
        if tx.execute(sql, args![name, now_ms]).await? == 0 {
            tx.rollback().await;
            return Ok(false);
        }
        tx.execute("delete from deployment_settings where deployment = $1", args![name]).await?;
        tx.emit(audit).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// A setting of a deployment: `engine` or `traffic`.
    pub(crate) async fn setting<T: DeserializeOwned>(&self, name: &str, kind: &str) -> Result<Option<T>> {
        let sql = "select value from deployment_settings where deployment = $1 and kind = $2";
        let row = self.db.query_opt(sql, args![name, kind]).await?;
        row.map(|row| column(&row, "value")).transpose()
    }

    /// Keeps a setting; replicas see it by its generation.
    pub(crate) async fn set_setting<T: Serialize>(
        &self,
        name: &str,
        kind: &str,
        value: &T,
        audit: &Event,
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let sql = "insert into deployment_settings(deployment, kind, value, generation) values ($1, $2, $3, \
                   (select coalesce(max(generation), 0) + 1 from deployment_settings where deployment = $1)) \
                   on conflict (deployment, kind) do update set value = excluded.value, generation = excluded.generation";
        tx.execute(sql, args![name, kind, json(value)?]).await?;
        tx.emit(audit).await?;
        tx.commit().await
    }

    /// The number the next revision gets.
    pub(crate) async fn next_number(&self, name: &str) -> Result<i64> {
        let sql = "select max(number) as newest from revisions where deployment = $1";
        let row = self.db.query_opt(sql, args![name]).await?;
        let newest = row.map(|row| row.get::<Option<i64>>("newest")).transpose()?.flatten();
        Ok(newest.unwrap_or(0) + 1)
    }

    /// Adds a revision that follows `newest` together with its events; `Conflict` when another replica was faster, or the
    /// deployment has changed.
    pub(crate) async fn activate(
        &self,
        spec: &DeploymentSpec,
        newest: Option<i64>,
        row: &RevisionRow,
        events: &[Event],
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let added = add(&mut tx, spec, newest, row, events).await;
        match added {
            Ok(()) => match tx.commit().await {
                Err(error) if error.code() == ErrorCode::AlreadyExists => Err(conflict(&spec.name)),
                other => other,
            },
            Err(error) => {
                tx.rollback().await;
                Err(if error.code() == ErrorCode::AlreadyExists { conflict(&spec.name) } else { error })
            }
        }
    }

    /// Writes an audit entry that belongs to no change of ours.
    pub(crate) async fn emit(&self, event: &Event) -> Result<()> {
        let mut tx = self.db.begin().await?;
        tx.emit(event).await?;
        tx.commit().await
    }
}

async fn add(
    tx: &mut Tx,
    spec: &DeploymentSpec,
    newest: Option<i64>,
    row: &RevisionRow,
    events: &[Event],
) -> Result<()> {
    // Somebody may have changed or deleted the deployment while the model was fetched. The update also makes replicas
    // go one after the other from here on, so that each sees what the one before it has added.
    let sql = "update deployments set is_gated = is_gated \
               where name = $1 and model = $2 and is_gated = $3 and deleted_ms is null";
    if tx.execute(sql, args![&spec.name, &spec.model, spec.is_gated]).await? == 0 {
        return Err(conflict(&spec.name));
    }
    let RevisionRow { revision, outputs } = row;
    let found = tx.query_opt(&format!("{DEPLOYMENT} and d.name = $1"), args![&spec.name]).await?;
    if found.as_ref().map(deployment_of).transpose()?.and_then(|found| found.newest) != newest {
        return Err(conflict(&spec.name));
    }
    let sql = "insert into revisions(deployment, number, model, version, digest, features, outputs, tags, \
               promotion_id, activated_ms) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let args = args![
        &spec.name,
        revision.number,
        &revision.model,
        &revision.version,
        &revision.digest,
        json(&revision.features)?,
        json(outputs)?,
        json(&revision.tags)?,
        revision.promotion_id.as_ref(),
        revision.activated_ms
    ];
    tx.execute(sql, args).await?;
    for event in events {
        tx.emit(event).await?;
    }
    Ok(())
}

fn conflict(name: &str) -> Error {
    Error::new(ErrorCode::Conflict, format!("deployment {name} was changed by somebody else at the same time"))
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal("cannot write a column").with_source(error))
}

fn column<T: DeserializeOwned>(row: &Row, name: &str) -> Result<T> {
    serde_json::from_str(&row.get::<String>(name)?)
        .map_err(|error| Error::internal(format!("column {name} cannot be read")).with_source(error))
}

fn deployment_of(row: &Row) -> Result<DeploymentRow> {
    Ok(DeploymentRow {
        spec: DeploymentSpec { name: row.get("name")?, model: row.get("model")?, is_gated: row.get("is_gated")? },
        created_ms: row.get("created_ms")?,
        newest: row.get("newest")?,
        settings: row.get("settings")?,
    })
}

fn graph_of(row: &Row) -> Result<GraphRow> {
    Ok(GraphRow {
        name: row.get("name")?,
        graph: column(row, "graph")?,
        number: row.get("graph_number")?,
        created_ms: row.get("created_ms")?,
    })
}

fn revision_of(row: &Row) -> Result<RevisionRow> {
    let revision = Revision {
        number: row.get("number")?,
        model: row.get("model")?,
        version: row.get("version")?,
        digest: row.get("digest")?,
        features: column(row, "features")?,
        tags: column::<BTreeMap<String, String>>(row, "tags")?,
        promotion_id: row.get("promotion_id")?,
        activated_ms: row.get("activated_ms")?,
    };
    Ok(RevisionRow { revision, outputs: column(row, "outputs")? })
}
