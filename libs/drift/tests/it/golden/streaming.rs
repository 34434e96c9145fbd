use fishy_drift::{
    Adwin, AdwinSettings, Ddm, DdmSettings, Eddm, EddmSettings, HddmA, HddmASettings, HddmW, HddmWSettings,
    PageHinkley, PageHinkleySettings, Signal,
};
use serde_json::Value;

use super::{assert_near, number, numbers};
use crate::it::shared::{column, read};

/// Columns `x` and `err` of the stream, and what river found in them.
fn stream() -> Option<(Vec<f64>, Vec<f64>, Value)> {
    let text = read("golden/stream.csv")?;
    let golden: Value = serde_json::from_str(&read("golden/river_0.26.1_golden.json")?).unwrap();
    Some((column(&text, "x"), column(&text, "err"), golden))
}

/// Runs a detector over a stream and compares every drift and warning with river's.
fn check(golden: &Value, values: &[f64], mut push: impl FnMut(f64) -> Signal) {
    let signals: Vec<Signal> = values.iter().map(|value| push(*value)).collect();
    let places = |signal| signals.iter().enumerate().filter(move |(_, s)| **s == signal).map(|(i, _)| i as f64);
    assert_eq!(places(Signal::Drift).collect::<Vec<_>>(), numbers(&golden["drift"]), "{golden}");
    let warnings: Vec<f64> = places(Signal::Warning).collect();
    // river's EDDM says both at a drift that a warning came before; here a drift is a drift.
    let has_beta = golden["params"]["beta"].is_number();
    let both = signals.windows(2).filter(|pair| has_beta && *pair == [Signal::Warning, Signal::Drift]).count();
    assert_eq!((warnings.len() + both) as u64, golden["n_warnings"].as_u64().unwrap(), "{golden}");
    if let (Some(first), Some(last)) = (warnings.first(), warnings.last()) {
        assert_eq!((vec![*first], vec![*last]), (numbers(&golden["first_warning"]), numbers(&golden["last_warning"])));
    }
}

#[test]
fn adwin_is_rivers_bucket_by_bucket() {
    let Some((x, errors, golden)) = stream() else { return };
    let fast = AdwinSettings { clock: 1, ..AdwinSettings::default() };
    for (golden, values, settings) in [
        (&golden["numeric"]["ADWIN"], &x, AdwinSettings::default()),
        (&golden["numeric"]["ADWIN_grace10_clock1"], &x, fast),
        (&golden["binary"]["ADWIN_on_err"], &errors, AdwinSettings::default()),
    ] {
        let mut adwin = Adwin::new(settings).unwrap();
        let mut trace = Vec::new();
        check(golden, values, |value| {
            let signal = adwin.push(value);
            trace.push((adwin.width() as f64, adwin.mean().unwrap(), adwin.squares(), adwin.total()));
            signal
        });
        for row in golden["trace"].as_array().unwrap() {
            let row = numbers(row);
            let (width, mean, squares, total) = trace[row[0] as usize];
            assert_near(width, row[1]);
            assert_near(mean, row[2]);
            assert_near(squares, row[3]);
            assert_near(total, row[4]);
        }
    }
}

#[test]
fn page_hinkley_is_rivers() {
    let Some((x, _, golden)) = stream() else { return };
    let eager = PageHinkleySettings { threshold: 5.0, ..PageHinkleySettings::default() };
    for (key, settings) in [("PageHinkley", PageHinkleySettings::default()), ("PageHinkley_t5", eager)] {
        let mut detector = PageHinkley::new(settings).unwrap();
        check(&golden["numeric"][key], &x, |value| detector.push(value));
    }
}

#[test]
fn detectors_of_errors_are_rivers() {
    let Some((_, errors, golden)) = stream() else { return };
    let golden = &golden["binary"];
    let mut ddm = Ddm::new(DdmSettings::default()).unwrap();
    check(&golden["DDM"], &errors, |error| ddm.push(error > 0.5));
    let mut eddm = Eddm::new(EddmSettings::default()).unwrap();
    check(&golden["EDDM"], &errors, |error| eddm.push(error > 0.5));
    let mut hddm_a = HddmA::new(HddmASettings::default()).unwrap();
    check(&golden["HDDM_A"], &errors, |error| hddm_a.push(error));
    let mut hddm_w = HddmW::new(HddmWSettings::default()).unwrap();
    check(&golden["HDDM_W"], &errors, |error| hddm_w.push(error));
}

#[test]
fn frouros_finds_ddm_and_hddm_w_at_the_same_places() {
    let (Some((_, errors, _)), Some(frouros)) = (stream(), read("golden/frouros_golden.json")) else { return };
    let frouros: Value = serde_json::from_str(&frouros.replace("Infinity", "null")).unwrap();
    let drifts = |push: &mut dyn FnMut(f64) -> Signal| {
        let is_drift = errors.iter().map(|error| push(*error) == Signal::Drift).collect::<Vec<_>>();
        is_drift.iter().enumerate().filter(|(_, is_drift)| **is_drift).map(|(i, _)| i as f64).collect::<Vec<_>>()
    };
    let mut ddm = Ddm::new(DdmSettings::default()).unwrap();
    assert_eq!(drifts(&mut |error| ddm.push(error > 0.5)), numbers(&frouros["stream"]["DDM"]["drift"]));
    let mut hddm_w = HddmW::new(HddmWSettings::default()).unwrap();
    assert_eq!(drifts(&mut |error| hddm_w.push(error)), numbers(&frouros["stream"]["HDDMW"]["drift"]));
    assert!(number(&frouros["stream"]["DDM"]["config"]["_drift_level"]) >= 3.0);
}
