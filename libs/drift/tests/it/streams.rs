//! Detectors on drawn streams: how often they cry wolf, how soon they notice.

use fishy_drift::{
    Adwin, AdwinSettings, Ddm, DdmSettings, Eddm, EddmSettings, HddmA, HddmASettings, HddmW, HddmWSettings, Kswin,
    KswinSettings, PageHinkley, PageHinkleySettings, Side, Signal,
};
use serde::{Serialize, de::DeserializeOwned};

use super::drawn::Drawn;

/// Share of the tests of a stable stream that KSWIN calls drifts, and share of shifts it notices within 100 values.
fn kswin_rates(alpha: f64) -> (f64, f64) {
    let settings = KswinSettings { alpha, ..KswinSettings::default() };
    let mut values = Drawn::new(11);
    let (mut tests, mut alarms, mut noticed) = (0.0, 0.0, 0.0);
    for seed in 0..60 {
        let mut detector = Kswin::new(settings, seed).unwrap();
        for _ in 0..600 {
            tests += 1.0;
            alarms += f64::from(u8::from(detector.push(values.normal()) == Signal::Drift));
        }
        let mut detector = Kswin::new(settings, seed).unwrap();
        for _ in 0..150 {
            detector.push(values.normal());
        }
        let is_noticed = (0..100).any(|_| detector.push(values.normal() + 3.0) == Signal::Drift);
        noticed += f64::from(u8::from(is_noticed));
    }
    (alarms / tests, noticed / 60.0)
}

#[test]
fn kswin_notices_a_shift_of_three_deviations_and_cries_wolf_rarely() {
    // There is a test at every value, though neighbours share 29 of 30 values: far more alarms than tests of fresh samples
    // would give. (river 0.26.1 has 0.0009 alarms a value on such streams, and notices 97 %: a false alarm shortly before
    // the shift empties the window, which then fills with shifted values only.)
    let (false_alarms, noticed) = kswin_rates(0.005);
    assert!((0.0003..0.003).contains(&false_alarms), "{false_alarms}");
    assert!(noticed > 0.8, "{noticed}");
    let (stricter, noticed) = kswin_rates(0.0001);
    assert!(stricter < false_alarms / 4.0, "{stricter} {false_alarms}");
    assert!(noticed > 0.98, "{noticed}");
}

/// Runs a detector straight through, and again through JSON after each value: both must say the same, and find a drift.
fn check_storage<D: Serialize + DeserializeOwned + Clone>(detector: &D, mut push: impl FnMut(&mut D, f64) -> Signal) {
    let mut values = Drawn::new(3);
    let stream: Vec<f64> =
        (0..800).map(|i| f64::from(u8::from(values.uniform() < if i > 400 { 0.6 } else { 0.1 }))).collect();
    let mut straight = detector.clone();
    let expected: Vec<Signal> = stream.iter().map(|value| push(&mut straight, *value)).collect();
    assert!(expected.contains(&Signal::Drift));
    let mut text = serde_json::to_string(detector).unwrap();
    for (value, expected) in stream.iter().zip(expected) {
        let mut stored: D = serde_json::from_str(&text).unwrap();
        assert_eq!(push(&mut stored, *value), expected);
        text = serde_json::to_string(&stored).unwrap();
    }
}

#[test]
fn every_detector_goes_on_from_a_stored_state() {
    check_storage(&Adwin::new(AdwinSettings::default()).unwrap(), Adwin::push);
    check_storage(&Ddm::new(DdmSettings::default()).unwrap(), |detector, value| detector.push(value > 0.5));
    check_storage(&Eddm::new(EddmSettings::default()).unwrap(), |detector, value| detector.push(value > 0.5));
    check_storage(&HddmA::new(HddmASettings::default()).unwrap(), HddmA::push);
    check_storage(&HddmW::new(HddmWSettings::default()).unwrap(), HddmW::push);
    check_storage(&Kswin::new(KswinSettings::default(), 5).unwrap(), Kswin::push);
    let settings = PageHinkleySettings { threshold: 20.0, ..PageHinkleySettings::default() };
    check_storage(&PageHinkley::new(settings).unwrap(), PageHinkley::push);
}

#[test]
fn adwin_stays_small_and_keeps_the_sum_of_its_window() {
    let mut values = Drawn::new(8);
    let mut adwin = Adwin::new(AdwinSettings::default()).unwrap();
    let mut sum = 0.0;
    let mut alarms = 0;
    for _ in 0..100_000 {
        let value = values.uniform();
        if adwin.push(value) == Signal::Drift {
            (alarms, sum) = (alarms + 1, 0.0);
        } else {
            sum += value;
        }
    }
    // Delta bounds the chance of an alarm at each test; a stable stream should have hardly any.
    assert_eq!(alarms, 0);
    assert!((adwin.total() - sum).abs() < 1e-6 && adwin.width() == 100_000);
    assert!(serde_json::to_string(&adwin).unwrap().len() < 8_000);
}

#[test]
fn two_sided_detectors_notice_a_fall_and_one_sided_ones_do_not() {
    let stream: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i < 200 && i % 3 != 0))).collect();
    for is_two_sided in [false, true] {
        let mut detector = HddmW::new(HddmWSettings { is_two_sided, ..HddmWSettings::default() }).unwrap();
        let is_noticed = stream.iter().any(|value| detector.push(*value) == Signal::Drift);
        assert_eq!(is_noticed, is_two_sided);
        let side = if is_two_sided { Side::Down } else { Side::Up };
        let settings = PageHinkleySettings { side, threshold: 10.0, ..PageHinkleySettings::default() };
        let mut detector = PageHinkley::new(settings).unwrap();
        assert_eq!(stream.iter().any(|value| detector.push(*value) == Signal::Drift), is_two_sided);
    }
}

#[test]
fn missing_values_change_nothing_and_bad_settings_are_refused() {
    let mut adwin = Adwin::new(AdwinSettings::default()).unwrap();
    let before = adwin.clone();
    assert_eq!(adwin.push(f64::NAN), Signal::Stable);
    assert_eq!(adwin, before);
    assert!(Adwin::new(AdwinSettings { delta: 0.0, ..AdwinSettings::default() }).is_err());
    assert!(Ddm::new(DdmSettings { warning: 4.0, ..DdmSettings::default() }).is_err());
    assert!(Kswin::new(KswinSettings { window: 40, ..KswinSettings::default() }, 1).is_err());
    assert!(HddmW::new(HddmWSettings { lambda: 1.5, ..HddmWSettings::default() }).is_err());
    assert!(PageHinkley::new(PageHinkleySettings { threshold: -1.0, ..PageHinkleySettings::default() }).is_err());
}
