use fishy_simulator::{Fault, FaultKind, Reading, Scenario, Sensor, Simulation};

/// A month of one pen with and without a fault of its thermometer from day 10 to 12; the readings of those days.
fn with_fault(kind: FaultKind, size: Option<f64>) -> Vec<(Reading, Reading)> {
    let mut scenario = Scenario { lost_share: 0.0, days: 30, ..Scenario::new("x") };
    let plain: Vec<Reading> = Simulation::new(&scenario, 1).unwrap().collect();
    let (pen, sensor) = ("pen-1".to_owned(), Sensor::Temp);
    scenario.faults.push(Fault { kind, pen, sensor, from_day: 10.0, until_day: 12.0, size, share: Some(0.25) });
    let faulty: Vec<Reading> = Simulation::new(&scenario, 1).unwrap().collect();
    assert_eq!(plain.len(), faulty.len());
    let start_ms = plain[0].time_ms;
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for pair in plain.into_iter().zip(faulty) {
        let hour = (pair.0.time_ms - start_ms) / 3_600_000;
        if (240..288).contains(&hour) && pair.0.pen == "pen-1" { inside.push(pair) } else { outside.push(pair) }
    }
    assert!(outside.iter().all(|(plain, faulty)| plain == faulty), "{kind:?} reaches beyond its span");
    for (plain, faulty) in &inside {
        let mended = Reading { temp: plain.temp, faults: Vec::new(), ..faulty.clone() };
        assert!(mended == *plain, "{kind:?} changes another number");
        assert!(faulty.faults.iter().all(|label| label.sensor == Sensor::Temp && label.kind == kind));
    }
    assert_eq!(inside.len(), 48);
    inside
}

#[test]
fn a_stuck_probe_repeats_its_last_reading() {
    let readings = with_fault(FaultKind::Stuck, None);
    let value = readings[0].1.temp;
    assert!(
        value.is_some() && readings.iter().all(|(_, faulty)| faulty.temp == value && faulty.is_faulty(Sensor::Temp))
    );
    assert!(readings.iter().filter(|(plain, _)| plain.temp != value).count() > 30);
}

#[test]
fn a_gap_has_no_readings() {
    assert!(
        with_fault(FaultKind::Gap, None).iter().all(|(_, faulty)| faulty.temp.is_none() && !faulty.faults.is_empty())
    );
}

#[test]
fn spikes_are_few_high_and_labelled() {
    let readings = with_fault(FaultKind::Spike, Some(7.0));
    let spikes = readings.iter().filter(|(plain, faulty)| {
        let is_off = (plain.temp.unwrap() - faulty.temp.unwrap()).abs() > 6.9;
        assert_eq!(is_off, faulty.is_faulty(Sensor::Temp));
        is_off
    });
    assert!((4..24).contains(&spikes.count()));
}

#[test]
fn a_drift_grows_to_its_size() {
    let readings = with_fault(FaultKind::Drift, Some(4.8));
    for (hour, (plain, faulty)) in readings.iter().enumerate() {
        let offset = faulty.temp.unwrap() - plain.temp.unwrap();
        assert!((offset - 0.1 * hour as f64).abs() < 0.011, "hour {hour}: {offset}");
    }
}

#[test]
fn noise_is_as_large_as_asked() {
    let readings = with_fault(FaultKind::Noise, Some(2.0));
    let squares = readings.iter().map(|(plain, faulty)| (plain.temp.unwrap() - faulty.temp.unwrap()).powi(2));
    let deviation = (squares.sum::<f64>() / readings.len() as f64).sqrt();
    assert!((1.4..2.6).contains(&deviation), "{deviation}");
}

#[test]
fn readings_get_lost_as_often_as_asked() {
    let scenario = Scenario { lost_share: 0.1, ..Scenario::new("x") };
    let readings: Vec<Reading> = Simulation::new(&scenario, 1).unwrap().collect();
    let lost = readings.iter().flat_map(|reading| Sensor::ALL.map(|sensor| reading.value(sensor).is_none()));
    let share = lost.filter(|is_lost| *is_lost).count() as f64 / (6.0 * readings.len() as f64);
    assert!((0.08..0.12).contains(&share), "{share}");
}

#[test]
fn a_reading_survives_json() {
    for reading in Simulation::new(&Scenario::preset("stuck-probe").unwrap(), 1).unwrap().step_by(97) {
        let text = serde_json::to_string(&reading).unwrap();
        assert_eq!(serde_json::from_str::<Reading>(&text).unwrap(), reading, "{text}");
    }
}
