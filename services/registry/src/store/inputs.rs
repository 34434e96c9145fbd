//! What runs read and wrote: datasets and logged models.

use std::collections::BTreeMap;

use fishy_core::Result;
use fishy_db::{Row, Tx, args};
use sha2::{Digest, Sha256};

use super::{Read, pair, rows_by_id};
use crate::domain::records::{Dataset, DatasetInput, DatasetSummary, ModelInput, ModelOutput, RunInputs, RunOutputs};

/// The id of a dataset follows from what makes it unique, so that writing it needs no reading.
fn dataset_id(experiment_id: &str, dataset: &Dataset) -> String {
    let mut hash = Sha256::new();
    for part in [experiment_id, &dataset.name, &dataset.digest] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..16])
}

/// Notes the datasets that a run read. The first description of a dataset stays, and so do the first tags of its use.
pub(crate) async fn log_datasets(
    tx: &mut Tx,
    experiment_id: &str,
    run_id: &str,
    inputs: &[DatasetInput],
) -> Result<()> {
    let mut by_id = BTreeMap::<String, &DatasetInput>::new();
    for input in inputs {
        by_id.entry(dataset_id(experiment_id, &input.dataset)).or_insert(input);
    }
    let number: i64 = crate::domain::names::experiment_id(experiment_id)?;
    let rows = by_id.iter().map(|(id, input)| {
        let Dataset { name, digest, source_type, source, schema, profile } = &input.dataset;
        args![id, number, name, digest, source_type, source, schema.as_ref(), profile.as_ref()]
    });
    let insert = "INSERT INTO datasets(dataset_id, experiment_id, name, digest, source_type, source, schema, profile)";
    tx.bulk(insert, "ON CONFLICT DO NOTHING", rows).await?;
    let mut sql = super::Sql::new("SELECT dataset_id FROM run_datasets WHERE run_id = ");
    let place = sql.arg(run_id);
    sql.push(&place);
    let list = sql.list(by_id.keys());
    sql.push(&format!(" AND dataset_id IN {list}"));
    for row in tx.query(&sql.text, sql.args).await? {
        by_id.remove(&row.get::<String>("dataset_id")?);
    }
    let rows = by_id.keys().map(|id| args![run_id, id]);
    tx.bulk("INSERT INTO run_datasets(run_id, dataset_id)", "ON CONFLICT DO NOTHING", rows).await?;
    let tags = by_id.iter().flat_map(|(id, input)| {
        super::last_of_each(&input.tags).into_iter().map(move |tag| args![run_id, id, &tag.key, &tag.value])
    });
    let suffix = "ON CONFLICT (run_id, dataset_id, key) DO UPDATE SET value = excluded.value";
    tx.bulk("INSERT INTO run_dataset_tags(run_id, dataset_id, key, value)", suffix, tags).await.map(drop)
}

/// How a logged model belongs to a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    Input,
    Output,
}

/// Notes logged models that a run read or wrote, each with its step.
pub(crate) async fn log_models(tx: &mut Tx, run_id: &str, role: Role, models: &[(String, i64)]) -> Result<()> {
    let role = match role {
        Role::Input => "input",
        Role::Output => "output",
    };
    let models: BTreeMap<&String, i64> = models.iter().map(|(id, step)| (id, *step)).collect();
    let rows = models.into_iter().map(|(id, step)| args![run_id, role, id, step]);
    let suffix = "ON CONFLICT (run_id, role, model_id) DO UPDATE SET step = excluded.step";
    tx.bulk("INSERT INTO run_models(run_id, role, model_id, step)", suffix, rows).await.map(drop)
}

/// What runs read and wrote.
pub(crate) async fn of_runs(
    read: &mut impl Read,
    run_ids: &[String],
) -> Result<BTreeMap<String, (RunInputs, RunOutputs)>> {
    let mut found = BTreeMap::<String, (RunInputs, RunOutputs)>::new();
    let select = "SELECT run_id, role, model_id, step FROM run_models WHERE run_id IN ";
    for (id, rows) in rows_by_id(read, select, " ORDER BY model_id", "run_id", run_ids).await? {
        let (inputs, outputs) = found.entry(id).or_default();
        for row in rows {
            let model_id = row.get("model_id")?;
            if row.get::<String>("role")? == "input" {
                inputs.model_inputs.push(ModelInput { model_id });
            } else {
                outputs.model_outputs.push(ModelOutput { model_id, step: row.get("step")? });
            }
        }
    }
    let select = "SELECT i.run_id, i.dataset_id, d.name, d.digest, d.source_type, d.source, d.schema, d.profile \
                  FROM run_datasets i JOIN datasets d ON d.dataset_id = i.dataset_id WHERE i.run_id IN ";
    let datasets = rows_by_id(read, select, " ORDER BY d.name, d.digest", "run_id", run_ids).await?;
    if datasets.is_empty() {
        return Ok(found);
    }
    let select = "SELECT run_id, dataset_id, key, value FROM run_dataset_tags WHERE run_id IN ";
    let mut tags = BTreeMap::<(String, String), Vec<_>>::new();
    for (run_id, rows) in rows_by_id(read, select, " ORDER BY run_id, key", "run_id", run_ids).await? {
        for row in rows {
            tags.entry((run_id.clone(), row.get("dataset_id")?)).or_default().push(pair(&row)?);
        }
    }
    for (run_id, rows) in datasets {
        let mut inputs = Vec::with_capacity(rows.len());
        for row in rows {
            let tags = tags.remove(&(run_id.clone(), row.get("dataset_id")?)).unwrap_or_default();
            inputs.push(DatasetInput { tags, dataset: dataset_of(&row)? });
        }
        found.entry(run_id).or_default().0.dataset_inputs = inputs;
    }
    Ok(found)
}

/// The datasets that runs of these experiments read, once for each context.
pub(crate) async fn summaries(read: &mut impl Read, experiment_ids: &[i64], limit: i64) -> Result<Vec<DatasetSummary>> {
    let mut sql = super::Sql::new(
        "SELECT DISTINCT d.experiment_id, d.name, d.digest, t.value FROM datasets d \
         JOIN run_datasets i ON i.dataset_id = d.dataset_id \
         LEFT JOIN run_dataset_tags t ON t.run_id = i.run_id AND t.dataset_id = i.dataset_id \
         AND t.key = 'mlflow.data.context' WHERE d.experiment_id IN ",
    );
    let list = sql.list(experiment_ids.iter().copied());
    let limit = sql.arg(limit);
    sql.push(&format!("{list} ORDER BY d.experiment_id, d.name, d.digest, t.value LIMIT {limit}"));
    let summary = |row: &Row| -> Result<DatasetSummary> {
        Ok(DatasetSummary {
            experiment_id: row.get::<i64>("experiment_id")?.to_string(),
            name: row.get("name")?,
            digest: row.get("digest")?,
            context: row.get("value")?,
        })
    };
    read.rows(&sql.text, sql.args).await?.iter().map(summary).collect()
}

fn dataset_of(row: &Row) -> Result<Dataset> {
    Ok(Dataset {
        name: row.get("name")?,
        digest: row.get("digest")?,
        source_type: row.get("source_type")?,
        source: row.get("source")?,
        schema: row.get("schema")?,
        profile: row.get("profile")?,
    })
}
