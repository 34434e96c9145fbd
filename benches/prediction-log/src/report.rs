//! Rows of measurements.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

/// All that was measured. There is no peer: none of them has a log that survives its sink.
#[derive(Debug, Default)]
pub struct Report(Vec<Row>);

#[derive(Debug, Serialize)]
struct Row {
    load: String,
    metric: &'static str,
    ours: f64,
    peer: Option<&'static str>,
}

impl Report {
    /// Notes a number, and says it.
    pub fn add(&mut self, load: &str, metric: &'static str, ours: f64) {
        println!("  {metric:<28} {ours:>14.3}");
        self.0.push(Row { load: load.to_owned(), metric, ours, peer: None });
    }

    /// Writes the rows.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, serde_json::to_string_pretty(&self.0)? + "\n")?)
    }
}
