//! The same learner without the loop: computed by `python -m fishy.baselines`.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// Figures of the baselines.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// MAE of the first model, never retrained.
    pub mae_static: f64,
    /// The same over unflagged rows.
    pub mae_static_unflagged: Option<f64>,
    /// MAE of a calendar that retrains every month on the last 90 days.
    pub mae_calendar: f64,
    /// The same over unflagged rows.
    pub mae_calendar_unflagged: Option<f64>,
    /// How often the calendar retrained.
    pub calendar_retrains: u64,
}

/// The baselines.
pub struct Baselines {
    /// Figures.
    pub figures: Figures,
    /// Answers of the first model, in the order of the replayed rows.
    pub of_static: Vec<f64>,
    /// Answers of the calendar's models.
    pub of_calendar: Vec<f64>,
}

/// Computes them.
pub fn run(plan: &Plan, python: &Path, folder: &Path, seed: u64) -> Result<Baselines> {
    let rows = folder.join("loop-rows.parquet");
    let output = folder.join("loop-baselines.json");
    write_rows(plan, &rows)?;
    let first_ms = plan.rows.first().map_or(0, |row| row.time_ms);
    let status = Command::new(python)
        .args(["-m", "fishy.baselines", "--learner", &plan.learner])
        .arg("--rows")
        .arg(&rows)
        .arg("--output")
        .arg(&output)
        .args(["--train-from-ms", &first_ms.to_string(), "--train-until-ms", &plan.train_until_ms.to_string()])
        .args(["--delay-ms", &plan.delay_ms.to_string(), "--seed", &seed.to_string()])
        .status()
        .with_context(|| format!("running {}", python.display()))?;
    if !status.success() {
        bail!("python -m fishy.baselines ended with {status}");
    }
    let figures = serde_json::from_str(&std::fs::read_to_string(&output)?).context("reading the baselines")?;
    let answers = output.with_extension("parquet");
    let (of_static, of_calendar) = read_answers(&answers)?;
    for file in [rows, output, answers] {
        let _ = std::fs::remove_file(file);
    }
    Ok(Baselines { figures, of_static, of_calendar })
}

fn write_rows(plan: &Plan, path: &Path) -> Result<()> {
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("id".to_owned(), Arc::new(StringArray::from_iter_values(plan.rows.iter().map(|row| &row.id)))),
        ("time_ms".to_owned(), Arc::new(Int64Array::from_iter_values(plan.rows.iter().map(|row| row.time_ms)))),
        ("target".to_owned(), Arc::new(Float64Array::from_iter_values(plan.rows.iter().map(|row| row.target)))),
        (
            "is_flagged".to_owned(),
            Arc::new(BooleanArray::from(plan.rows.iter().map(|row| row.is_flagged).collect::<Vec<_>>())),
        ),
    ];
    for (place, name) in plan.features.iter().enumerate() {
        let values = Float64Array::from_iter_values(plan.rows.iter().map(|row| row.inputs[place]));
        columns.push((name.clone(), Arc::new(values)));
    }
    let batch = RecordBatch::try_from_iter(columns)?;
    let file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

fn read_answers(path: &Path) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut of_static, mut of_calendar) = (Vec::new(), Vec::new());
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()? {
        let batch = batch?;
        for (name, into) in [("static", &mut of_static), ("calendar", &mut of_calendar)] {
            let column = cast(batch.column_by_name(name).context("a missing column")?, &DataType::Float64)?;
            into.extend(column.as_primitive::<Float64Type>().values().iter().copied());
        }
    }
    Ok((of_static, of_calendar))
}
