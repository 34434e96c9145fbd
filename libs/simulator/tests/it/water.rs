use fishy_simulator::{Change, Climate, Reading, Scenario, Simulation, oxygen_saturation_mgl};

const DAY_MS: i64 = 86_400_000;

fn run(scenario: &Scenario, seed: u64) -> Vec<Reading> {
    Simulation::new(scenario, seed).unwrap().collect()
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

fn year() -> Scenario {
    Scenario { days: 365, ..Scenario::new("year") }
}

/// Readings from one day of the scenario to another.
fn between(readings: &[Reading], from_day: i64, until_day: i64) -> impl Iterator<Item = &Reading> {
    let start_ms = readings[0].time_ms;
    readings.iter().filter(move |reading| (from_day..until_day).contains(&((reading.time_ms - start_ms) / DAY_MS)))
}

#[test]
fn a_year_in_every_preset_and_seed_is_plausible() {
    for (name, seed) in Scenario::PRESETS.into_iter().zip(1..) {
        let scenario = Scenario::preset(name).unwrap();
        let readings = run(&scenario, seed);
        assert_eq!(readings.len(), scenario.days as usize * 24 * scenario.pens.len());
        for reading in &readings {
            assert!((0.5..20.0).contains(&reading.true_do_mgl), "{name}: {reading:?}");
            for (value, range) in [
                (reading.temp, -2.0..25.0),
                (reading.sal, 10.0..36.0),
                (reading.ph, 5.0..11.0),
                (reading.turb, -100.0..150.0),
                (reading.depth, 9.0..21.0),
                (reading.do_mgl, 0.0..20.0),
            ] {
                assert!(value.is_none_or(|value| range.contains(&value)), "{name}: {reading:?}");
            }
        }
    }
}

#[test]
fn fish_keep_oxygen_below_saturation_and_more_fish_lower_it() {
    let oxygen = |stocking_kg_m3: f64| {
        let mut scenario = Scenario::preset("calm").unwrap();
        scenario.pens.truncate(1);
        scenario.pens[0].stocking_kg_m3 = stocking_kg_m3;
        mean(run(&scenario, 5).iter().map(|reading| {
            let saturation = oxygen_saturation_mgl(reading.temp.unwrap_or(14.0), reading.sal.unwrap_or(31.0));
            reading.true_do_mgl / saturation
        }))
    };
    let (none, some, many) = (oxygen(0.0), oxygen(8.0), oxygen(16.0));
    assert!((0.95..1.35).contains(&none), "{none}");
    assert!(some < none - 0.1 && many < some - 0.1, "{none} {some} {many}");
}

#[test]
fn afternoons_have_more_oxygen_than_the_hours_before_dawn() {
    let readings = run(&Scenario::preset("calm").unwrap(), 11);
    let at_hour = |hours: std::ops::Range<i64>| {
        mean(readings.iter().filter(|r| hours.contains(&(r.time_ms % DAY_MS / 3_600_000))).map(|r| r.true_do_mgl))
    };
    let amplitude = at_hour(15..19) - at_hour(3..6);
    assert!((0.2..4.0).contains(&amplitude), "{amplitude}");
}

#[test]
fn seasons_differ_and_are_turned_round_in_the_south() {
    let (winter, summer) = (0..60, 200..260);
    let season = |readings: &[Reading], days: std::ops::Range<i64>, what: fn(&Reading) -> Option<f64>| {
        mean(between(readings, days.start, days.end).filter_map(what))
    };
    let north = run(&year(), 3);
    let warmer = season(&north, summer.clone(), |r| r.temp) - season(&north, winter.clone(), |r| r.temp);
    assert!((8.0..14.0).contains(&warmer), "{warmer}");
    let less = season(&north, winter.clone(), |r| r.do_mgl) - season(&north, summer.clone(), |r| r.do_mgl);
    assert!(less > 1.5, "{less}");
    let climate = Climate { latitude: -42.0, ..Climate::default() };
    let south = run(&Scenario { climate, ..year() }, 3);
    assert!(season(&south, winter, |r| r.temp) > season(&south, summer, |r| r.temp) + 8.0);
}

#[test]
fn the_tide_is_half_daily_and_rain_makes_water_fresher_and_turbid() {
    let readings: Vec<Reading> = run(&year(), 9).into_iter().filter(|reading| reading.pen == "pen-1").collect();
    let depth: Vec<f64> = readings.iter().map(|reading| reading.depth.unwrap_or(12.0)).collect();
    let centred = |lag: usize| mean(depth.iter().zip(&depth[lag..]).map(|(a, b)| (a - 12.0) * (b - 12.0)));
    assert!(
        centred(6) < -0.5 * centred(0) && centred(12) > 0.5 * centred(0),
        "{} {} {}",
        centred(0),
        centred(6),
        centred(12)
    );
    let pairs: Vec<(f64, f64)> = readings.iter().filter_map(|r| Some((r.sal?, r.turb?))).collect();
    let turbidity =
        |range: std::ops::Range<f64>| mean(pairs.iter().filter(|(sal, _)| range.contains(sal)).map(|(_, turb)| *turb));
    assert!(turbidity(0.0..30.0) > turbidity(31.0..40.0) + 0.8, "{} {}", turbidity(0.0..30.0), turbidity(31.0..40.0));
}

#[test]
fn the_same_seed_gives_the_same_readings_and_another_seed_others() {
    let scenario = Scenario::preset("stuck-probe").unwrap();
    assert!(run(&scenario, 7) == run(&scenario, 7));
    let (a, b) = (run(&scenario, 7), run(&scenario, 8));
    assert!(a.iter().zip(&b).filter(|(a, b)| a.temp == b.temp).count() < a.len() / 20);
}

#[test]
fn the_water_does_not_depend_on_how_often_it_is_read() {
    let hourly = Scenario { lost_share: 0.0, ..Scenario::preset("calm").unwrap() };
    let often = Scenario { interval_minutes: 15, ..hourly.clone() };
    let (hourly, often) = (run(&hourly, 4), run(&often, 4));
    assert_eq!(often.len(), 4 * hourly.len());
    let difference = mean(hourly.iter().map(|reading| {
        let same = often.iter().find(|other| other.time_ms == reading.time_ms && other.pen == reading.pen).unwrap();
        (reading.true_do_mgl - same.true_do_mgl).abs()
    }));
    assert!(difference < 1e-9, "{difference}");
    let odd = Scenario { interval_minutes: 7, days: 3, ..Scenario::preset("calm").unwrap() };
    assert_eq!(run(&odd, 4).len(), 2 * (3_usize * 1440).div_ceil(7));
}

#[test]
fn a_change_shifts_oxygen_from_its_day_on_and_not_what_the_sensors_see_of_the_weather() {
    let plain = Scenario { days: 60, start: "2024-05-01".to_owned(), ..Scenario::new("x") };
    let change: Change = toml_change("name = 'restocking'\nfrom_day = 30\npen = 'pen-1'\nstocking_factor = 2.0");
    let changed = Scenario { changes: vec![change], ..plain.clone() };
    let (before, after) = (run(&plain, 2), run(&changed, 2));
    for (plain, changed) in before.iter().zip(&after) {
        assert_eq!(
            (plain.temp, plain.sal, plain.ph, plain.turb),
            (changed.temp, changed.sal, changed.ph, changed.turb)
        );
        let day = (plain.time_ms - before[0].time_ms) as f64 / DAY_MS as f64;
        let is_lower = plain.true_do_mgl > changed.true_do_mgl + 0.2;
        if day < 30.0 || plain.pen == "pen-2" {
            assert!(plain == changed);
        } else {
            assert_eq!(changed.changes, ["restocking"]);
            assert!(is_lower || day < 30.2, "{plain:?} {changed:?}");
        }
    }
}

fn toml_change(text: &str) -> Change {
    let scenario = Scenario::from_toml(&format!("name = 'x'\n[[changes]]\n{text}")).unwrap();
    scenario.changes.into_iter().next().unwrap()
}

#[test]
fn a_bloom_widens_the_day() {
    let scenario = Scenario::preset("concept-drift").unwrap();
    let readings = run(&scenario, 6);
    let plain = run(&Scenario { changes: Vec::new(), ..scenario }, 6);
    let spread = |readings: &[Reading]| {
        let at = |hours: std::ops::Range<i64>| {
            let there = between(readings, 100, 130).filter(|r| hours.contains(&(r.time_ms % DAY_MS / 3_600_000)));
            mean(there.map(|r| r.true_do_mgl))
        };
        at(15..19) - at(3..6)
    };
    assert!(spread(&readings) > 1.5 * spread(&plain), "{} {}", spread(&readings), spread(&plain));
}
