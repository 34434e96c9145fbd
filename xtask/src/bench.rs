//! `cargo xtask bench NAME`: one file a benchmark; each prints its rows and writes `target/bench/NAME.json`.

mod closed_loop;
mod monitoring;
mod prediction_log;
mod registry;
mod serving;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::demo;
use crate::process::{cargo, root, run};

/// Runs a benchmark.
pub fn run_named(name: &str, arguments: &[String]) -> Result<()> {
    match name {
        "loop" => closed_loop::reference(arguments),
        "loop-defaults" => closed_loop::defaults(arguments),
        "monitoring" => monitoring::beside_peers(arguments),
        "prediction-log" => prediction_log::sink_away(arguments),
        "registry" => registry::beside_mlflow(arguments),
        "serving" => serving::beside_peers(arguments),
        other => {
            bail!(
                "no benchmark {other:?}; there are loop, loop-defaults, monitoring, prediction-log, registry, serving"
            )
        }
    }
}

/// One figure of ours beside that of a peer.
#[derive(Debug)]
pub struct Row {
    /// What was asked of both.
    pub load: String,
    /// What was measured, with its unit.
    pub metric: &'static str,
    /// Our figure.
    pub ours: f64,
    /// Whose figure stands beside it.
    pub peer: &'static str,
    /// That figure.
    pub peer_value: f64,
    /// What this machine allows at all, where that was measured.
    pub limit: Option<f64>,
}

impl Row {
    fn json(&self) -> Value {
        let Self { load, metric, ours, peer, peer_value, limit } = self;
        let mut row = json!({
            "load": load, "metric": metric, "ours": ours, "peer": peer, "peer_value": peer_value, "ratio": ours / peer_value,
        });
        if let Some(limit) = limit {
            row["limit"] = json!(limit);
            row["of_limit"] = json!(ours / limit);
        }
        row
    }
}

/// Builds every program in the profile that `--profile` names, the release if none: a selection of packages would give the
/// dependencies other features, and build half of them again for each benchmark. Answers the folder of the programs and
/// the other arguments.
fn build(arguments: &[String]) -> Result<(PathBuf, Vec<String>)> {
    let mut rest = arguments.to_vec();
    let mut profile = "release".to_owned();
    if let Some(at) = rest.iter().position(|argument| argument == "--profile") {
        profile.clone_from(rest.get(at + 1).context("--profile needs a name")?);
        rest.drain(at..=at + 1);
    }
    run(&mut cargo(&["build", "--profile", &profile, "--workspace", "--bins"]))?;
    let folder = demo::target()?.join(if profile == "dev" { "debug" } else { &profile });
    Ok((folder, rest))
}

/// Where the figures of benchmarks go.
pub fn folder() -> Result<PathBuf> {
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Prints the rows as a table and writes them as JSON.
pub fn publish(name: &str, rows: &[Row]) -> Result<()> {
    println!("{:<34} {:<34} {:>12} {:>12}  {:<20} {:>8}", "load", "metric", "ours", "peer", "which", "ratio");
    for Row { load, metric, ours, peer, peer_value, limit } in rows {
        let ratio = ours / peer_value;
        print!("{load:<34} {metric:<34} {ours:>12.4} {peer_value:>12.4}  {peer:<20} {ratio:>8.3}");
        match limit {
            Some(limit) => println!("  limit {limit:.4}, {:.3} of it", ours / limit),
            None => println!(),
        }
    }
    let path = folder()?.join(format!("{name}.json"));
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    std::fs::write(&path, serde_json::to_string_pretty(&rows)? + "\n").context("writing the figures")?;
    println!("{}", path.display());
    Ok(())
}
