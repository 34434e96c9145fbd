use fishy_drift::{CheckSettings, Finding, FindingKind, SensorChecks};

use super::shared::{cells, column, read};

const HOUR_MS: i64 = 3_600_000;

/// Findings of one column, each with whether a quality flag is set in at least half of its readings (a spike: in any).
fn findings(text: &str, name: &str) -> Vec<(Finding, bool)> {
    let flags: Vec<bool> = cells(text, &format!("bad_{name}")).iter().map(|flag| *flag != "0").collect();
    let mut checks = SensorChecks::new(CheckSettings::for_name(name));
    let mut found = Vec::new();
    for (hour, value) in column(text, name).into_iter().enumerate() {
        found.extend(checks.push(hour as i64 * HOUR_MS, Some(value)));
    }
    let of_interest = found.into_iter().filter(|finding| finding.until_ms.is_some());
    of_interest
        .map(|finding| {
            let hours = (finding.since_ms / HOUR_MS) as usize..=(finding.until_ms.unwrap() / HOUR_MS) as usize;
            let flagged = flags[hours.clone()].iter().filter(|is_bad| **is_bad).count();
            let needed = if finding.kind == FindingKind::Spike { 1 } else { hours.count().div_ceil(2) };
            (finding, flagged >= needed)
        })
        .collect()
}

/// The file is two years, hourly, without a missing row: 17,544 rows of six sensors.
#[test]
fn false_alarms_on_two_real_years_are_rare() {
    let Some(text) = read("data/estuary_wq_hourly_apacp.csv") else { return };
    let count = |kind: FindingKind| {
        ["temp", "sal", "do_mgl", "ph", "turb", "depth"].map(|name| {
            findings(&text, name).iter().filter(|(finding, is_flagged)| finding.kind == kind && !is_flagged).count()
        })
    };
    assert_eq!(count(FindingKind::Stuck), [0, 0, 0, 2, 0, 0]);
    assert_eq!(count(FindingKind::Spike), [0, 4, 5, 7, 24, 0]);
    assert_eq!(count(FindingKind::Range), [0, 0, 0, 0, 0, 0]);
}

#[test]
fn the_real_faults_are_found() {
    let Some(text) = read("data/estuary_wq_hourly_apacp.csv") else { return };
    for (name, value, readings) in [("temp", 50.0, 189), ("ph", 14.0, 265)] {
        let found = findings(&text, name);
        let is_stuck = found.iter().any(|(finding, is_flagged)| {
            let is_whole = finding.value == Some(value) && finding.readings == readings && *is_flagged;
            finding.kind == FindingKind::Stuck && is_whole
        });
        assert!(is_stuck, "{name}: {found:?}");
        assert!(found.iter().any(|(finding, _)| finding.kind == FindingKind::Range && finding.readings >= readings));
    }
}
