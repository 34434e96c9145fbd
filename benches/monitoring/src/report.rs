//! Rows of measurements: ours, beside that of a peer or beside what must be reached.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

/// One figure of ours beside another. The form is that of all our benchmarks.
#[derive(Debug, Serialize)]
pub struct Row {
    pub load: String,
    pub metric: &'static str,
    pub ours: f64,
    /// Whose figure stands beside it; `target` is what must be reached.
    pub peer: &'static str,
    pub peer_value: f64,
    /// How many times better ours is.
    pub ratio: f64,
    /// What this machine allows at all, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The part of the limit that is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_limit: Option<f64>,
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Report(Vec<Row>);

impl Report {
    /// A figure of which less is better.
    pub fn less(&mut self, load: &str, metric: &'static str, ours: f64, peer: &'static str, peer_value: f64) {
        self.add(load, metric, ours, peer, peer_value, peer_value / ours);
    }

    /// A figure of which more is better.
    pub fn more(&mut self, load: &str, metric: &'static str, ours: f64, peer: &'static str, peer_value: f64) {
        self.add(load, metric, ours, peer, peer_value, ours / peer_value);
    }

    /// The limit of the row that came last.
    pub fn limit(&mut self, limit: f64) {
        if let Some(row) = self.0.last_mut() {
            row.of_limit = Some(if row.metric.contains("/s") { row.ours / limit } else { limit / row.ours });
            row.limit = Some(limit);
            println!("  {:<52} {:<30} {limit:>14.4}", "", "limit of that");
        }
    }

    fn add(&mut self, load: &str, metric: &'static str, ours: f64, peer: &'static str, peer_value: f64, ratio: f64) {
        println!("  {load:<52} {metric:<30} {ours:>14.4}  {peer:<12} {peer_value:>14.4}  {ratio:>9.2}");
        let load = load.to_owned();
        self.0.push(Row { load, metric, ours, peer, peer_value, ratio, limit: None, of_limit: None });
    }

    /// Writes the rows.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, serde_json::to_string_pretty(&self.0)? + "\n")?)
    }

    /// Prints the table.
    pub fn print(&self) {
        println!(
            "\n{:<52} {:<30} {:>14} {:>12} {:>14} {:>9}",
            "load", "metric", "fishy", "peer", "peer's", "times better"
        );
        for row in &self.0 {
            let limit = row.of_limit.map(|part| format!("  {part:.2} of the limit")).unwrap_or_default();
            println!(
                "{:<52} {:<30} {:>14.4} {:>12} {:>14.4} {:>9.2}{limit}",
                row.load, row.metric, row.ours, row.peer, row.peer_value, row.ratio
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_says_how_many_times_better_ours_is() {
        let mut report = Report::default();
        report.less("all four", "seconds", 0.5, "evidently", 100.0);
        report.limit(0.25);
        report.more("events", "events/s", 50.0, "target", 100.0);
        report.limit(200.0);
        let figures: Vec<_> = report.0.iter().map(|row| (row.ratio, row.of_limit)).collect();
        assert_eq!(figures, [(200.0, Some(0.5)), (0.5, Some(0.25))]);
    }
}
