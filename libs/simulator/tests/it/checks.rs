use fishy_drift::{CheckSettings, Finding, FindingKind, SensorChecks};
use fishy_simulator::{Reading, Scenario, Sensor, Simulation};

/// What the sensor checks find in one sensor of a pen, faults that go on at the end included; times in days.
fn findings(readings: &[Reading], pen: &str, sensor: Sensor) -> Vec<(FindingKind, f64, f64)> {
    let mut checks = SensorChecks::new(CheckSettings::for_name(sensor.as_str()));
    let here = readings.iter().filter(|reading| reading.pen == pen);
    let found: Vec<Finding> = here.flat_map(|reading| checks.push(reading.time_ms, reading.value(sensor))).collect();
    let day = |time_ms: i64| (time_ms - readings[0].time_ms) as f64 / 86_400_000.0;
    let ended = found.iter().filter_map(|finding| Some((finding.kind, day(finding.since_ms), day(finding.until_ms?))));
    ended.chain(checks.open().iter().map(|finding| (finding.kind, day(finding.since_ms), f64::INFINITY))).collect()
}

#[test]
fn the_checks_of_the_product_find_the_faults_of_the_demo_and_nearly_nothing_else() {
    let scenario = Scenario::preset("demo").unwrap();
    for seed in [1, 2, 42] {
        let readings: Vec<Reading> = Simulation::new(&scenario, seed).unwrap().collect();
        let mut elsewhere = Vec::new();
        for pen in &scenario.pens {
            for sensor in Sensor::ALL {
                for (kind, since, until) in findings(&readings, &pen.name, sensor) {
                    let is_expected = scenario.faults.iter().any(|fault| {
                        let is_here = fault.pen == pen.name && fault.sensor == sensor;
                        is_here && since >= fault.from_day - 0.1 && until <= fault.until_day + 0.1
                    });
                    if !is_expected {
                        elsewhere.push((&pen.name, sensor, kind, since));
                    }
                }
            }
        }
        assert!(elsewhere.len() <= 5, "{elsewhere:?}");
        let stuck = findings(&readings, "pen-1", Sensor::Temp);
        let stuck = stuck.iter().find(|finding| finding.0 == FindingKind::Stuck);
        assert!(
            stuck.is_some_and(|(_, since, until)| (since - 150.0).abs() < 0.1 && (until - 157.0).abs() < 0.1),
            "{stuck:?}"
        );
        let gap = findings(&readings, "pen-2", Sensor::Sal);
        assert!(gap.iter().any(|(kind, ..)| *kind == FindingKind::Missing), "{gap:?}");
        let spikes = findings(&readings, "pen-3", Sensor::Turb);
        assert!(
            spikes.iter().filter(|(kind, ..)| *kind == FindingKind::Spike || *kind == FindingKind::Range).count() >= 2,
            "{spikes:?}"
        );
    }
}
