//! Rows of measurements, ours beside theirs.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

/// Whose numbers the others stand beside.
pub const OURS: &str = "fishy";

/// Which of two numbers is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Less,
    More,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Number {
    pub load: String,
    pub metric: &'static str,
    pub better: Better,
    pub value: f64,
    /// What the engine alone does.
    pub limit: Option<f64>,
}

/// All that was measured, each with whose it is.
#[derive(Debug, Default)]
pub struct Report(Vec<(String, Number)>);

#[derive(Debug, Serialize)]
struct Line<'a> {
    load: &'a str,
    metric: &'static str,
    ours: f64,
    peer: Option<&'a str>,
    peer_value: Option<f64>,
    /// How many times better ours is.
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of_limit: Option<f64>,
}

impl Report {
    /// Notes a number, and says it.
    pub fn add(&mut self, side: &str, number: Number) {
        let Number { load, metric, value, limit, .. } = &number;
        let limit = limit.map(|limit| format!("  limit {limit:.2}")).unwrap_or_default();
        println!("  {load:<46} {metric:<28} {value:>12.2}{limit}");
        self.0.push((side.to_owned(), number));
    }

    /// One of ours.
    pub fn ours(&self, load: &str, metric: &str) -> Option<f64> {
        let mine = self.0.iter().find(|(side, one)| side == OURS && one.load == load && one.metric == metric);
        mine.map(|(_, number)| number.value)
    }

    fn lines(&self) -> Vec<Line<'_>> {
        let mut lines = Vec::new();
        for (_, ours) in self.0.iter().filter(|(side, _)| side == OURS) {
            let of_peers: Vec<_> = self
                .0
                .iter()
                .filter(|(side, other)| side != OURS && other.load == ours.load && other.metric == ours.metric)
                .collect();
            let line = |peer: Option<&'_ (String, Number)>| Line {
                load: &ours.load,
                metric: ours.metric,
                ours: ours.value,
                peer: None,
                peer_value: peer.map(|(_, peer)| peer.value),
                ratio: peer.map(|(_, peer)| match ours.better {
                    Better::Less => peer.value / ours.value,
                    Better::More => ours.value / peer.value,
                }),
                limit: ours.limit,
                of_limit: ours.limit.map(|limit| ours.value / limit),
            };
            if of_peers.is_empty() {
                lines.push(line(None));
            }
            lines.extend(of_peers.into_iter().map(|peer| Line { peer: Some(&peer.0), ..line(Some(peer)) }));
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
        println!("\n{:<46} {:<28} {:>12} {:>22} {:>12} {:>8}", "load", "metric", "fishy", "peer", "peer's", "ratio");
        for Line { load, metric, ours, peer, peer_value, ratio, limit, of_limit } in self.lines() {
            let text = |number: Option<f64>| number.map(|number| format!("{number:.2}")).unwrap_or_default();
            let limit = match (limit, of_limit) {
                (Some(limit), Some(part)) => format!("  {part:.2} of the limit {limit:.2}"),
                _ => String::new(),
            };
            let (peer, peer_value, ratio) = (peer.unwrap_or_default(), text(peer_value), text(ratio));
            println!("{load:<46} {metric:<28} {ours:>12.2} {peer:>22} {peer_value:>12} {ratio:>8}{limit}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_says_how_many_times_better_ours_is() {
        let mut report = Report::default();
        let number = |metric, better, value, limit| Number { load: "gbm".into(), metric, better, value, limit };
        report.add("MLServer", number("CPU us per request", Better::Less, 600.0, None));
        report.add(OURS, number("CPU us per request", Better::Less, 20.0, Some(5.0)));
        report.add(OURS, number("requests/s", Better::More, 30_000.0, None));
        report.add("MLServer", number("requests/s", Better::More, 1_500.0, None));
        report.add("LitServe", number("requests/s", Better::More, 1_000.0, None));
        report.add(OURS, number("resident MB", Better::Less, 70.0, None));
        let lines = report.lines();
        let ratios: Vec<Option<f64>> = lines.iter().map(|line| line.ratio.map(f64::round)).collect();
        assert_eq!(ratios, [Some(30.0), Some(20.0), Some(30.0), None]);
        assert_eq!((lines[0].of_limit, lines[0].peer), (Some(4.0), Some("MLServer")));
        assert_eq!(report.ours("gbm", "requests/s"), Some(30_000.0));
    }
}
