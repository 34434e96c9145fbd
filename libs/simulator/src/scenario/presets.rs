//! The built-in scenarios.

use super::{Change, Pen, Scenario};
use crate::fault::{Fault, FaultKind};
use crate::reading::Sensor;

pub(super) const NAMES: [&str; 5] = ["calm", "seasonal", "stuck-probe", "concept-drift", "demo"];

pub(super) fn find(name: &str) -> Option<Scenario> {
    let base = Scenario::new(name);
    let scenario = match name {
        "calm" => Scenario { start: "2024-05-20".to_owned(), days: 60, ..base },
        "seasonal" => Scenario { start: "2024-01-10".to_owned(), days: 270, ..base },
        "stuck-probe" => Scenario {
            start: "2024-05-01".to_owned(),
            days: 90,
            faults: vec![fault(FaultKind::Stuck, "pen-1", Sensor::Temp, 45.0, 51.0)],
            ..base
        },
        "concept-drift" => {
            Scenario { start: "2024-03-01".to_owned(), days: 180, changes: restocking_and_bloom(90.0), ..base }
        }
        "demo" => Scenario {
            start: "2024-01-01".to_owned(),
            days: 365,
            pens: vec![
                Pen::new("pen-1"),
                Pen { stocking_kg_m3: 6.0, depth_m: 15.0, ..Pen::new("pen-2") },
                Pen { stocking_kg_m3: 10.0, depth_m: 18.0, ..Pen::new("pen-3") },
            ],
            faults: vec![
                fault(FaultKind::Gap, "pen-2", Sensor::Sal, 75.0, 76.5),
                fault(FaultKind::Stuck, "pen-1", Sensor::Temp, 150.0, 157.0),
                fault(FaultKind::Spike, "pen-3", Sensor::Turb, 190.0, 194.0),
                fault(FaultKind::Noise, "pen-2", Sensor::Ph, 300.0, 304.0),
            ],
            changes: restocking_and_bloom(240.0),
            ..base
        },
        _ => return None,
    };
    Some(scenario)
}

fn fault(kind: FaultKind, pen: &str, sensor: Sensor, from_day: f64, until_day: f64) -> Fault {
    Fault { kind, pen: pen.to_owned(), sensor, from_day, until_day, size: None, share: None }
}

/// Twice the fish, for good, and three times the algae for six weeks.
fn restocking_and_bloom(from_day: f64) -> Vec<Change> {
    let change = |name: &str| Change {
        name: name.to_owned(),
        from_day,
        until_day: None,
        ramp_days: 0.0,
        pen: None,
        stocking_factor: 1.0,
        algae_factor: 1.0,
    };
    vec![
        Change { stocking_factor: 2.0, ramp_days: 2.0, ..change("restocking") },
        Change { algae_factor: 3.0, ramp_days: 5.0, until_day: Some(from_day + 42.0), ..change("bloom") },
    ]
}
