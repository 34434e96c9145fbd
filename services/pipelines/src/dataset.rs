//! The labelled rows of a run, as files that its steps read.

mod parquet_file;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fishy_contracts::MonitoringClient;
use fishy_contracts::monitoring::{DatasetRequest, LabelledRow};
use fishy_core::time::DAY_MS;
use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::definition::{Data, Definition};
use crate::domain::split::{self, Split};

pub use parquet_file::read;

/// How far back labelled rows are looked for at all.
const HORIZON_MS: i64 = 20 * 365 * DAY_MS;

/// What a run's data are: `dataset.json`. The same content means the same rows, byte by byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Nothing in it arrived later.
    pub as_of_ms: i64,
    /// When the last true value in it arrived.
    pub max_arrived_ms: Option<i64>,
    /// Names of the feature columns, in order. The other columns are `id`, `time_ms`, `arrived_ms` and `target`.
    pub features: Vec<String>,
    /// What is trained on.
    pub train: Part,
    /// What is evaluated on.
    pub holdout: Part,
}

/// One file of a run's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the run's folder.
    pub file: String,
    /// Event time of its first row.
    pub from_ms: Option<i64>,
    /// Event time just behind its last row.
    pub to_ms: Option<i64>,
    /// How many rows it has.
    pub rows: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Mean absolute error of always answering the median of its true values: what any model must beat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_mae: Option<f64>,
}

impl Manifest {
    /// What is written to `dataset.json`.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
            .map_err(|error| Error::internal("a manifest cannot be written").with_source(error))
    }

    /// SHA-256 of `dataset.json`: stands for all rows, since it holds the checksums of their files.
    pub fn sha256(&self) -> Result<String> {
        Ok(hex::encode(Sha256::digest(self.to_bytes()?)))
    }
}

/// The manifest's file in a run's folder.
pub fn manifest_path(folder: &Path) -> PathBuf {
    folder.join("dataset.json")
}

/// Fetches what was known at `as_of_ms` and writes it into a run's folder.
///
/// `Internal` when the source leaks the future, `FailedPrecondition` when there is too little to train on.
pub async fn materialise(
    monitoring: &MonitoringClient,
    definition: &Definition,
    data: &Data,
    as_of_ms: i64,
    folder: &Path,
) -> Result<Manifest> {
    let rows = fetch(monitoring, &definition.monitor, data, as_of_ms).await?;
    let split = split::split(data, as_of_ms, rows)?;
    let (have, need) = (split.train.len() as u64, data.min_train_rows);
    if have < need {
        return Err(Error::precondition(format!(
            "monitor {:?} has {have} labelled rows to train on at {as_of_ms} ms, and data.min_train_rows asks for {need}",
            definition.monitor
        )));
    }
    let folder = folder.to_owned();
    blocking(move || write(&split, as_of_ms, &folder)).await
}

/// Whether a run's files are what its manifest says.
pub async fn is_intact(manifest: &Manifest, folder: &Path) -> Result<bool> {
    let (manifest, folder) = (manifest.clone(), folder.to_owned());
    blocking(move || {
        let is_file_intact = |part: &Part| -> Result<bool> {
            match std::fs::read(folder.join(&part.file)) {
                Ok(bytes) => Ok(hex::encode(Sha256::digest(&bytes)) == part.sha256),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error.into()),
            }
        };
        Ok(is_file_intact(&manifest.train)?
            && is_file_intact(&manifest.holdout)?
            && std::fs::read(manifest_path(&folder)).is_ok_and(|bytes| Some(bytes) == manifest.to_bytes().ok()))
    })
    .await
}

/// The newest rows tell where the held-out ones begin; then everything from where the training rows begin is fetched.
async fn fetch(monitoring: &MonitoringClient, monitor: &str, data: &Data, as_of_ms: i64) -> Result<Vec<LabelledRow>> {
    let request = |from_ms, newest| DatasetRequest { as_of_ms, from_ms, to_ms: as_of_ms, without_faults: true, newest };
    let look_at = request(as_of_ms.saturating_sub(HORIZON_MS), Some(split::rows_to_look_at(data)));
    let newest = monitoring.dataset(monitor, &look_at).await?;
    let Some(holdout_from_ms) = split::holdout_from_ms(data, &newest) else { return Ok(Vec::new()) };
    let rows = monitoring.dataset(monitor, &request(split::train_from_ms(data, holdout_from_ms), None)).await?;
    let held_out = rows.iter().filter(|row| row.time_ms >= holdout_from_ms).count() as u64;
    match data.extend_to_rows.filter(|wanted| (rows.len() as u64) < held_out + wanted) {
        None => Ok(rows),
        Some(wanted) => {
            let further = request(as_of_ms.saturating_sub(HORIZON_MS), Some(held_out + wanted));
            monitoring.dataset(monitor, &further).await
        }
    }
}

fn write(split: &Split, as_of_ms: i64, folder: &Path) -> Result<Manifest> {
    let rows = || split.train.iter().chain(&split.holdout);
    let features: Vec<String> =
        rows().flat_map(|row| row.inputs.keys()).collect::<BTreeSet<_>>().into_iter().cloned().collect();
    if let Some(name) = features.iter().find(|name| parquet_file::OWN_COLUMNS.contains(&name.as_str())) {
        return Err(Error::precondition(format!("feature {name:?} has the name of a column that every dataset has")));
    }
    std::fs::create_dir_all(folder)?;
    let part = |file: &str, rows: &[LabelledRow]| -> Result<Part> {
        let bytes = parquet_file::write(&features, rows)?;
        put(&folder.join(file), &bytes)?;
        Ok(Part {
            file: file.to_owned(),
            from_ms: rows.first().map(|row| row.time_ms),
            to_ms: rows.last().map(|row| row.time_ms + 1),
            rows: rows.len() as u64,
            sha256: hex::encode(Sha256::digest(&bytes)),
            median_mae: median_mae(rows.iter().map(|row| row.value).collect()),
        })
    };
    let manifest = Manifest {
        as_of_ms,
        max_arrived_ms: rows().map(|row| row.arrived_ms).max(),
        train: part("train.parquet", &split.train)?,
        holdout: part("holdout.parquet", &split.holdout)?,
        features,
    };
    put(&manifest_path(folder), &manifest.to_bytes()?)?;
    Ok(manifest)
}

fn median_mae(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let median = *values.get(values.len() / 2)?;
    Some(values.iter().map(|value| (value - median).abs()).sum::<f64>() / values.len() as f64)
}

/// A file is there whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, bytes)?;
    Ok(std::fs::rename(unfinished, path)?)
}

/// Runs what blocks on a thread of its own.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("a blocking task did not end").with_source(error))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_best_answer_that_is_always_the_same() {
        assert_eq!(median_mae(vec![9.0, 1.0, 2.0]), Some(8.0 / 3.0));
        assert_eq!(
            median_mae(vec![4.0, 1.0]),
            Some(1.5),
            "every answer between the two middle ones has the same error"
        );
        assert_eq!(median_mae(Vec::new()), None);
    }
}
