//! The closed loop in one process.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::rig::{estuary, fishy, python, replay};

/// Three months of real data, and the program is killed twice in the middle of a request.
#[test]
fn nothing_is_lost_when_the_program_is_killed_twice() {
    let Some(data) = estuary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = data.display().to_string();
    let arguments =
        ["--example", "virtual-oxygen", "--data", &data, "--end", "2012-08-01", "--kills", "2", "--no-baselines"];
    let report = replay(folder.path(), &arguments);
    assert_eq!(report["kills"], 2);
    assert_eq!(report["failed_requests"], 0, "{report:#}");
    assert_eq!(report["lost"], 0, "{report:#}");
    assert!(report["repeated_requests"].as_u64().unwrap() >= 2, "the kills hit no request: {report:#}");
    assert!(report["retrains"].as_u64().unwrap() >= 1, "{report:#}");
    assert_eq!(report["failed_runs"], 0, "{report:#}");
    assert!(report["audit"].as_str().unwrap().starts_with("intact"), "{report:#}");
    let predictions = report["predictions"].as_u64().unwrap();
    assert_eq!(predictions, 2208, "hours of May to July 2012 with all inputs and a true value");
    let chart = std::fs::read_to_string(folder.path().join("chart.svg")).unwrap();
    assert!(chart.contains("<polyline") && chart.contains("challenger"), "the chart has no lines");
}

/// Two pens of a simulated farm from January to October: a season, a stuck probe, and a change of the water itself.
const SCENARIO: &str = r#"
name = "season, stuck probe, changed water"
start = "2024-01-01"
days = 290

[[pens]]
name = "pen-1"

[[pens]]
name = "pen-2"
stocking_kg_m3 = 6.0

[[faults]]
kind = "stuck"
pen = "pen-1"
sensor = "temp"
from_day = 150.0
until_day = 157.0

[[changes]]
name = "restocking"
from_day = 240.0
ramp_days = 2.0
stocking_factor = 2.0

[[changes]]
name = "bloom"
from_day = 240.0
until_day = 282.0
ramp_days = 5.0
algae_factor = 3.0
"#;

#[test]
fn a_stuck_probe_is_a_data_fault_and_a_changed_water_is_drift() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("scenario.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let report = replay(folder.path(), &["--scenario", &scenario.display().to_string(), "--no-baselines"]);
    assert_eq!(report["lost"], 0, "{report:#}");
    let faults = report["data_faults"].as_array().unwrap();
    let stuck: Vec<&Value> = faults
        .iter()
        .filter(|fault| fault["kind"] == "stuck" && fault["feature"] == "temp" && fault["series"] == "pen-1")
        .collect();
    assert_eq!(stuck.len(), 1, "the probe that sticks from day 150 to 157 is reported once: {faults:#?}");
    let (since, until) = (stuck[0]["since_ms"].as_i64().unwrap(), stuck[0]["until_ms"].as_i64().unwrap());
    let day = |number: i64| 1_704_067_200_000 + number * 86_400_000;
    assert!((day(149)..day(151)).contains(&since) && (day(156)..day(159)).contains(&until), "{stuck:#?}");
    let decisions = report["decisions"].as_array().unwrap();
    // The check needs half a day of equal readings before it can know.
    let under_fault = decisions.iter().filter(|decision| {
        let as_of = decision["as_of_ms"].as_i64().unwrap();
        as_of > since + 86_400_000 && as_of < until
    });
    assert_eq!(under_fault.count(), 0, "a model was retrained under an open data fault: {decisions:#?}");
    let promoted_between = |from: i64, to: i64| {
        decisions
            .iter()
            .filter(|decision| decision["status"] == "succeeded")
            .any(|decision| (day(from)..day(to)).contains(&decision["as_of_ms"].as_i64().unwrap()))
    };
    assert!(promoted_between(60, 240), "the season outran the first model, and nothing was promoted: {decisions:#?}");
    assert!(promoted_between(240, 290), "the water changed on day 240, and nothing was promoted: {decisions:#?}");
}

#[test]
fn a_replay_that_is_interrupted_leaves_no_server_behind() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut child = fishy()
        .args(["replay", "--no-baselines", "--data-dir"])
        .arg(&data)
        .arg("--python")
        .arg(python())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let servers = || {
        let pattern = format!("up --listen .* --data-dir {}", data.display());
        let found = Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
        String::from_utf8_lossy(&found.stdout).lines().count()
    };
    for _ in 0..600 {
        if servers() > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(servers(), 1);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert!(!child.wait().unwrap().success());
    assert_eq!(servers(), 0);
}
