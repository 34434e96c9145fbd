//! Rows of measurements, ours beside theirs.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::server::{Database, Side};

/// Which of two numbers is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Less,
    More,
}

#[derive(Debug)]
struct Number {
    database: Database,
    side: Side,
    load: String,
    metric: &'static str,
    better: Better,
    value: f64,
    limit: Option<f64>,
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Report(Vec<Number>);

#[derive(Debug, Serialize)]
struct Line {
    load: String,
    metric: &'static str,
    ours: f64,
    peer: Option<&'static str>,
    peer_value: Option<f64>,
    /// How many times better ours is.
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
    /// The part of the limit that is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_limit: Option<f64>,
}

impl Report {
    /// Notes a number, and says it.
    pub fn add(
        &mut self,
        (side, database): (Side, Database),
        load: &str,
        metric: &'static str,
        better: Better,
        value: f64,
    ) {
        println!("  {load:<44} {metric:<24} {value:>12.3}");
        self.0.push(Number { database, side, load: load.to_owned(), metric, better, value, limit: None });
    }

    /// Notes a number of ours that has a limit.
    pub fn add_limited(&mut self, database: Database, load: &str, metric: &'static str, value: f64, limit: f64) {
        println!("  {load:<44} {metric:<24} {value:>12.3} of {limit:.0}: {:.2}", value / limit);
        let (load, limit) = (load.to_owned(), Some(limit));
        self.0.push(Number { database, side: Side::Fishy, load, metric, better: Better::More, value, limit });
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for ours in self.0.iter().filter(|number| number.side == Side::Fishy) {
            let is_same = |other: &&Number| {
                other.side != Side::Fishy
                    && other.database == ours.database
                    && other.load == ours.load
                    && other.metric == ours.metric
            };
            let load = format!("{}: {}", ours.database, ours.load);
            let (limit, of_limit) = (ours.limit, ours.limit.map(|limit| ours.value / limit));
            let line = |peer: Option<&Number>| Line {
                load: load.clone(),
                metric: ours.metric,
                ours: ours.value,
                peer: peer.map(|peer| peer.side.name()),
                peer_value: peer.map(|peer| peer.value),
                ratio: peer.map(|peer| match ours.better {
                    Better::Less => peer.value / ours.value,
                    Better::More => ours.value / peer.value,
                }),
                limit,
                of_limit,
            };
            let peers: Vec<&Number> = self.0.iter().filter(is_same).collect();
            if peers.is_empty() {
                lines.push(line(None));
            }
            lines.extend(peers.into_iter().map(|peer| line(Some(peer))));
        }
        lines
    }

    /// Writes the rows.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, serde_json::to_string_pretty(&self.lines())? + "\n")?)
    }

    /// Prints the table.
    pub fn print(&self) {
        println!("\n{:<52} {:<22} {:>12} {:>20} {:>12} {:>9}", "load", "metric", "fishy", "peer", "peer's", "ratio");
        for line in self.lines() {
            let ratio = line.ratio.map(|ratio| format!("{ratio:.1}")).unwrap_or_default();
            let value = line.peer_value.map(|value| format!("{value:.3}")).unwrap_or_default();
            let limit = line.of_limit.map(|part| format!("  {part:.2} of the limit")).unwrap_or_default();
            println!(
                "{:<52} {:<22} {:>12.3} {:>20} {value:>12} {ratio:>9}{limit}",
                line.load,
                line.metric,
                line.ours,
                line.peer.unwrap_or_default()
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
        for (side, cpu_ms, per_second) in [(Side::Mlflow, 20.0, 50.0), (Side::Fishy, 0.1, 5_000.0)] {
            report.add((side, Database::Sqlite), "log-metric", "CPU ms per request", Better::Less, cpu_ms);
            report.add((side, Database::Sqlite), "log-metric", "requests/s", Better::More, per_second);
        }
        report.add((Side::Fishy, Database::Postgres), "log-metric", "requests/s", Better::More, 1.0);
        report.add_limited(Database::Sqlite, "log-batch", "metrics/s", 50.0, 80.0);
        let lines = report.lines();
        let ratios: Vec<Option<f64>> = lines.iter().map(|line| line.ratio.map(f64::round)).collect();
        assert_eq!(ratios, [Some(200.0), Some(100.0), None, None], "the peer of another database is none");
        assert_eq!(lines[3].of_limit, Some(0.625));
        assert_eq!(lines[0].load, "SQLite: log-metric");
    }
}
