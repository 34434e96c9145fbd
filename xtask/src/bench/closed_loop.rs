//! The closed loop on real data, beside a calendar that retrains every month with the same learner.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Row, folder, publish};
use crate::process::run;
use crate::setup;

const SEEDS: [&str; 3] = ["0", "1", "2"];
const SHARED: &str = "../shared/data";
const CALENDAR: &str = "monthly calendar";

/// Series that the program has no settings for: stations, rivers and bays, each with another target.
const SERIES: [(&str, &str, &[&str]); 5] = [
    (
        "estuary, station apacp, oxygen",
        "estuary_wq_hourly_apacp.csv",
        &[
            "--time",
            "timestamp_utc",
            "--target",
            "do_mgl",
            "--features",
            "temp,sal,ph,turb,depth",
            "--end",
            "2013-12-01",
        ],
    ),
    (
        "estuary, station apadb, oxygen",
        "estuary_wq_15min.parquet",
        &[
            "--where",
            "station=apadb",
            "--every",
            "1h",
            "--time",
            "timestamp_utc",
            "--target",
            "do_mgl",
            "--features",
            "temp,sal,ph,turb,depth",
        ],
    ),
    (
        "estuary, station apadb, pH",
        "estuary_wq_15min.parquet",
        &[
            "--where",
            "station=apadb",
            "--every",
            "1h",
            "--time",
            "timestamp_utc",
            "--target",
            "ph",
            "--features",
            "temp,sal,do_mgl,turb,depth",
        ],
    ),
    (
        "river, MainStreet, oxygen",
        "logan_river_labelled_15min.parquet",
        &[
            "--where",
            "site=MainStreet",
            "--every",
            "1h",
            "--missing",
            "-9999",
            "--time",
            "datetime",
            "--target",
            "do",
            "--features",
            "temp,cond,ph",
        ],
    ),
    (
        "bay, oxygen",
        "sfbay_water_quality_1985_2004.csv",
        &["--time", "date", "--target", "dox", "--features", "chl,sal,temp"],
    ),
];

/// The reference run over three seeds: the virtual oxygen sensor in full. The argument is the data file.
pub fn reference(arguments: &[String]) -> Result<()> {
    let shared = format!("{SHARED}/estuary_wq_hourly_apacp.csv");
    let data = arguments.first().unwrap_or(&shared);
    let reports = replays("loop", &["--example", "virtual-oxygen", "--data", data])?;
    let row = |metric, ours: &str, peer, peer_value: f64| Row {
        load: "virtual-oxygen, 3 seeds".to_owned(),
        metric,
        ours: mean(&reports, ours),
        peer,
        peer_value,
        limit: None,
    };
    let of = |key: &str| mean(&reports, key);
    publish(
        "loop",
        &[
            row("MAE mg/L, all hours", "mae_loop", CALENDAR, of("mae_calendar")),
            row("MAE mg/L, unflagged hours", "mae_loop_unflagged", CALENDAR, of("mae_calendar_unflagged")),
            row("MAE mg/L, all hours", "mae_loop", "never retrained", of("mae_static")),
            row("trainings", "retrains", CALENDAR, of("calendar_retrains")),
            row("challengers rejected", "rejected", "target", 1.0),
            row("predictions/s, one client", "predictions_per_second", "target", 1000.0),
            row("seconds for the whole replay", "seconds", "target", 300.0),
        ],
    )
}

/// The same loop with plain inputs and the program's defaults on series it was not made for. Arguments pick series by
/// a part of their name.
pub fn defaults(arguments: &[String]) -> Result<()> {
    let mut rows = Vec::new();
    for (place, (name, file, options)) in SERIES.iter().enumerate() {
        if !arguments.is_empty() && !arguments.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let data = Path::new(SHARED).join(file).display().to_string();
        let options: Vec<&str> = ["--data", &data].into_iter().chain(options.iter().copied()).collect();
        let reports = replays(&format!("loop-defaults-{place}"), &options)?;
        let mean = |key: &str| mean(&reports, key);
        let row = |metric, ours: &str, peer, peer_value: &str| Row {
            load: (*name).to_owned(),
            metric,
            ours: mean(ours),
            peer,
            peer_value: mean(peer_value),
            limit: None,
        };
        rows.push(row("MAE, 3 seeds", "mae_loop", CALENDAR, "mae_calendar"));
        rows.push(row("MAE, 3 seeds", "mae_loop", "never retrained", "mae_static"));
        rows.push(row("trainings, 3 seeds", "retrains", CALENDAR, "calendar_retrains"));
    }
    publish("loop-defaults", &rows)
}

/// One report for each seed.
fn replays(name: &str, options: &[&str]) -> Result<Vec<Value>> {
    setup::run_all()?;
    crate::demo::run_build()?;
    let program = crate::demo::binary()?;
    let folder = folder()?;
    let mut reports = Vec::new();
    for seed in SEEDS {
        let report = folder.join(format!("{name}-{seed}.json"));
        run(Command::new(&program)
            .arg("replay")
            .args(options)
            .args(["--seed", seed, "--report"])
            .arg(&report)
            .arg("--chart")
            .arg(report.with_extension("svg"))
            .arg("--data-dir")
            .arg(setup::folder().join("bench")))?;
        let text = std::fs::read_to_string(&report)?;
        reports.push(serde_json::from_str::<Value>(&text).context("reading a report")?);
    }
    Ok(reports)
}

fn mean(reports: &[Value], key: &str) -> f64 {
    reports.iter().filter_map(|report| report[key].as_f64()).sum::<f64>() / reports.len() as f64
}
