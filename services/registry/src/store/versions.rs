//! Versions of registered models.

use std::collections::BTreeMap;

use fishy_core::Result;
use fishy_db::{Row, Tx, args};

use super::{Read, Sql, last_of_each, pair, rows_by_id};
use crate::domain::names;
use crate::domain::records::{ModelVersion, Pair};

/// The columns of a version in a statement that calls it `v`.
pub(crate) const COLUMNS: &str = "v.name, v.version, v.stage, v.description, v.user_id, v.source, v.artifact_path, \
                                  v.run_id, v.run_link, v.model_id, v.creation_time, v.last_updated_time";

/// Writes a new version.
pub(crate) async fn create(tx: &mut Tx, version: &ModelVersion) -> Result<()> {
    let number = names::version_number(&version.version)?;
    let sql = "INSERT INTO model_versions(name, version, stage, description, user_id, source, artifact_path, run_id, \
               run_link, model_id, creation_time, last_updated_time) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)";
    let args = args![
        &version.name,
        number,
        &version.current_stage,
        version.description.as_ref(),
        &version.user_id,
        &version.source,
        &version.artifact_path,
        version.run_id.as_ref(),
        version.run_link.as_ref(),
        version.model_id.as_ref(),
        version.creation_timestamp
    ];
    tx.execute(sql, args).await?;
    set_tags(tx, &version.name, number, &version.tags).await
}

/// One version.
pub(crate) async fn get(read: &mut impl Read, name: &str, version: i64) -> Result<Option<ModelVersion>> {
    let sql = format!("SELECT {COLUMNS} FROM model_versions v WHERE v.name = $1 AND v.version = $2");
    let Some(row) = read.row(&sql, args![name, version]).await? else { return Ok(None) };
    Ok(from_rows(read, vec![row]).await?.pop())
}

/// Versions with tags and aliases, in the order of the rows.
pub(crate) async fn from_rows(read: &mut impl Read, rows: Vec<Row>) -> Result<Vec<ModelVersion>> {
    let places: Vec<(String, i64)> =
        rows.iter().map(|row| Ok((row.get("name")?, row.get("version")?))).collect::<Result<_>>()?;
    let mut tags = BTreeMap::<(String, i64), Vec<Pair>>::new();
    let mut aliases = BTreeMap::<(String, i64), Vec<String>>::new();
    for places in places.chunks(super::IDS_IN_ONE_LIST) {
        let mut list = Sql::default();
        let values: Vec<String> =
            places.iter().map(|(name, version)| format!("({}, {})", list.arg(name), list.arg(*version))).collect();
        let these = format!("WHERE (name, version) IN (VALUES {})", values.join(", "));
        let sql = format!("SELECT name, version, key, value FROM model_version_tags {these} ORDER BY key");
        for row in read.rows(&sql, list.args.clone()).await? {
            tags.entry((row.get("name")?, row.get("version")?)).or_default().push(pair(&row)?);
        }
        let sql = format!("SELECT name, version, alias FROM aliases {these} ORDER BY alias");
        for row in read.rows(&sql, list.args).await? {
            aliases.entry((row.get("name")?, row.get("version")?)).or_default().push(row.get("alias")?);
        }
    }
    rows.into_iter()
        .map(|row| {
            let (name, number): (String, i64) = (row.get("name")?, row.get("version")?);
            let place = (name.clone(), number);
            Ok(ModelVersion {
                name,
                version: number.to_string(),
                creation_timestamp: row.get("creation_time")?,
                last_updated_timestamp: row.get("last_updated_time")?,
                user_id: row.get("user_id")?,
                current_stage: row.get("stage")?,
                description: row.get("description")?,
                source: row.get("source")?,
                run_id: row.get("run_id")?,
                run_link: row.get("run_link")?,
                status: "READY".to_owned(),
                model_id: row.get("model_id")?,
                tags: tags.remove(&place).unwrap_or_default(),
                aliases: aliases.remove(&place).unwrap_or_default(),
                artifact_path: row.get("artifact_path")?,
            })
        })
        .collect()
}

/// The newest version of each stage of some models.
pub(crate) async fn latest(read: &mut impl Read, models: &[String]) -> Result<BTreeMap<String, Vec<ModelVersion>>> {
    // One look into the index for each model and stage, however many versions there are.
    let select = format!(
        "SELECT {COLUMNS} FROM (SELECT m.name, (SELECT MAX(x.version) FROM model_versions x \
         WHERE x.name = m.name AND x.stage = s.stage) AS newest FROM registered_models m CROSS JOIN \
         (SELECT 'None' AS stage UNION ALL SELECT 'Staging' UNION ALL SELECT 'Production' UNION ALL SELECT 'Archived') s \
         WHERE m.name IN "
    );
    let rest = ") t JOIN model_versions v ON v.name = t.name AND v.version = t.newest ORDER BY v.version";
    let rows = rows_by_id(read, &select, rest, "name", models).await?;
    let rows: Vec<Row> = rows.into_values().flatten().collect();
    let mut latest = BTreeMap::<String, Vec<ModelVersion>>::new();
    for version in from_rows(read, rows).await? {
        latest.entry(version.name.clone()).or_default().push(version);
    }
    Ok(latest)
}

/// The number of the newest version.
pub(crate) async fn newest(read: &mut impl Read, name: &str) -> Result<Option<i64>> {
    let sql = "SELECT version FROM model_versions WHERE name = $1 ORDER BY version DESC LIMIT 1";
    read.row(sql, args![name]).await?.map(|row| row.get("version")).transpose()
}

/// Sets the description.
pub(crate) async fn describe(
    tx: &mut Tx,
    name: &str,
    version: i64,
    description: Option<&str>,
    now_ms: i64,
) -> Result<bool> {
    let sql = "UPDATE model_versions SET description = $3, last_updated_time = $4 WHERE name = $1 AND version = $2";
    Ok(tx.execute(sql, args![name, version, description, now_ms]).await? > 0)
}

/// The other versions of a model that are in a stage.
pub(crate) async fn others_in_stage(
    read: &mut impl Read,
    (name, version): (&str, i64),
    stage: &str,
) -> Result<Vec<i64>> {
    let sql = "SELECT version FROM model_versions WHERE name = $1 AND version <> $2 AND stage = $3 ORDER BY version";
    read.rows(sql, args![name, version, stage]).await?.iter().map(|row| row.get("version")).collect()
}

/// The value of a tag.
pub(crate) async fn tag(read: &mut impl Read, name: &str, version: i64, key: &str) -> Result<Option<String>> {
    let sql = "SELECT value FROM model_version_tags WHERE name = $1 AND version = $2 AND key = $3";
    read.row(sql, args![name, version, key]).await?.map(|row| row.get("value")).transpose()
}

/// Moves a version to a stage, and all others of that stage to the archive where that is asked for.
pub(crate) async fn transition(
    tx: &mut Tx,
    (name, version): (&str, i64),
    stage: &str,
    archives_others: bool,
    now_ms: i64,
) -> Result<bool> {
    if archives_others {
        let sql = "UPDATE model_versions SET stage = 'Archived', last_updated_time = $4 \
                   WHERE name = $1 AND version <> $2 AND stage = $3";
        tx.execute(sql, args![name, version, stage, now_ms]).await?;
    }
    let sql = "UPDATE model_versions SET stage = $3, last_updated_time = $4 WHERE name = $1 AND version = $2";
    Ok(tx.execute(sql, args![name, version, stage, now_ms]).await? > 0)
}

/// Deletes a version with its tags and aliases.
pub(crate) async fn delete(tx: &mut Tx, name: &str, version: i64) -> Result<bool> {
    Ok(tx.execute("DELETE FROM model_versions WHERE name = $1 AND version = $2", args![name, version]).await? > 0)
}

/// Sets tags.
pub(crate) async fn set_tags(tx: &mut Tx, name: &str, version: i64, tags: &[Pair]) -> Result<()> {
    let rows = last_of_each(tags).into_iter().map(|tag| args![name, version, &tag.key, &tag.value]);
    let suffix = "ON CONFLICT (name, version, key) DO UPDATE SET value = excluded.value";
    tx.bulk("INSERT INTO model_version_tags(name, version, key, value)", suffix, rows).await.map(drop)
}

/// Deletes a tag.
pub(crate) async fn delete_tag(tx: &mut Tx, name: &str, version: i64, key: &str) -> Result<bool> {
    let sql = "DELETE FROM model_version_tags WHERE name = $1 AND version = $2 AND key = $3";
    Ok(tx.execute(sql, args![name, version, key]).await? > 0)
}
