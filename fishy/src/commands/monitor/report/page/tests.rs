use std::collections::BTreeMap;

use fishy_contracts::monitoring::{
    Alarm, Alert, Band, Bin, CheckWindow, DataFault, Distribution, Figure, LabelDelay, MonitorSpec, MonitorStatus,
    Overview, ReferenceUsed, Sample, Severity, SliceErrors, Statistic, Window,
};
use fishy_core::time::DAY_MS;
use serde_json::json;

use super::*;

/// What a name might bring along.
const EVIL: &str = "\"><script>fetch('//evil.example')</script><img src=//evil.example/x onerror=alert(1)>";

/// Facts of so many features and days, with a name everywhere where a text can come from outside.
fn facts(name: &str, features: usize, days: i64) -> Facts {
    let names: Vec<String> = (0..features).map(|place| format!("{name}{place}")).collect();
    let of = |value: f64| -> BTreeMap<String, f64> { names.iter().map(|one| (one.clone(), value)).collect() };
    let spec: MonitorSpec = serde_json::from_value(json!({
        "name": name, "deployment": name, "trigger": {"pipeline": name},
        "checks": [{"name": name, "tests": {"psi": {"alert": {"kind": "constant", "limit": 0.2}}}}],
    }))
    .unwrap();
    let fault = |open: bool| DataFault {
        id: "f".into(),
        monitor: name.into(),
        feature: name.into(),
        series: name.into(),
        kind: name.into(),
        since_ms: DAY_MS,
        until_ms: (!open).then_some(2 * DAY_MS),
        message: name.into(),
    };
    let sample = Sample { readings: 600, without: 3, mean: Some(1.0), least: Some(0.0), greatest: Some(30.0) };
    let bins: Vec<Bin> = (0..30)
        .map(|place| Bin { from: f64::from(place), to: f64::from(place) + 1.0, reference: 20, current: 20 })
        .collect();
    let window = |day: i64| Window {
        length: "day".into(),
        start_ms: day * DAY_MS,
        predictions: 24,
        labels: 12,
        mae: Some(0.5),
        rmse: Some(0.6),
        psi: of(0.3 + day as f64 / 1e3),
        ks: of(0.2),
        missing: of(0.1),
    };
    let figure = |test, slice: &str| Figure {
        test,
        feature: String::new(),
        slice: slice.into(),
        rows: 24,
        value: 0.55,
        p_value: None,
        p_corrected: None,
        effect: None,
        band: (test == Statistic::EstimatedMae).then_some(Band { lower: 0.4, upper: 0.7 }),
        warning_limit: None,
        alert_limit: Some(0.2),
        severity: Some(Severity::Alert),
    };
    let check = |day: i64| CheckWindow {
        check: name.into(),
        start_ms: day * DAY_MS,
        end_ms: (day + 1) * DAY_MS,
        rows: 24,
        labels: 12,
        reference: None,
        figures: vec![figure(Statistic::EstimatedMae, ""), figure(Statistic::Mae, ""), figure(Statistic::Mae, name)],
        not_tested: BTreeMap::from([(name.to_owned(), name.to_owned())]),
        other_share: BTreeMap::new(),
    };
    let overview = Overview {
        from_ms: 0,
        to_ms: days * DAY_MS,
        predictions: 24 * days as u64,
        labels: 12 * days as u64,
        rows: 600,
        versions: vec![VersionAnswers { version: name.into(), predictions: 24, first_ms: 0, last_ms: 1 }],
        reference: Some(ReferenceUsed { from_ms: 0, to_ms: 1, version: Some(name.into()), rows: 600 }),
        distributions: names
            .iter()
            .map(|feature| Distribution {
                feature: feature.clone(),
                reference: Some(sample.clone()),
                current: sample.clone(),
                bins: bins.clone(),
            })
            .collect(),
        slices: vec![SliceErrors { slice: name.into(), rows: 24, labels: 12, mae: Some(0.5), bias: Some(-0.1) }],
        label_delay: Some(LabelDelay {
            median_hours: 3,
            p90_hours: 9,
            greatest_hours: 200,
            histogram: (0..60).map(|bar| (bar * 4, 3)).collect(),
        }),
    };
    Facts {
        monitor: MonitorStatus {
            spec,
            watermark_ms: days * DAY_MS,
            predictions: 1,
            labels: 1,
            champion_version: Some(name.into()),
            rolling_error: None,
            baseline_error: Some(0.4),
            open_faults: vec![fault(true)],
            last_trigger: None,
            triggers: 1,
        },
        model: Some(name.into()),
        from_ms: 0,
        to_ms: days * DAY_MS,
        made_ms: 0,
        overview,
        days: (0..days).map(window).collect(),
        hours: Vec::new(),
        checks: (0..days).map(check).collect(),
        faults: vec![fault(true), fault(false)],
        alarms: vec![Alarm {
            id: "a".into(),
            monitor: name.into(),
            check: name.into(),
            test: Statistic::Psi,
            feature: name.into(),
            slice: name.into(),
            severity: Severity::Alert,
            since_ms: DAY_MS,
            until_ms: None,
            value: 1.0,
            limit: 0.2,
            message: name.into(),
        }],
        alerts: vec![Alert {
            id: "a".into(),
            fingerprint: "f".into(),
            labels: BTreeMap::from([("severity".into(), name.into()), ("monitor".into(), name.into())]),
            summary: name.into(),
            description: name.into(),
            starts_ms: 0,
            ends_ms: None,
        }],
        decisions: vec![json!({"id": name, "as_of_ms": DAY_MS, "fired": true, "reason": name, "run_status": name,
            "inputs": {"rolling_error": 0.5}})],
    }
}

#[test]
fn nothing_that_is_given_becomes_markup() {
    let page = page(&facts(EVIL, 2, 3));
    assert!(page.contains("&lt;script&gt;"), "the names are there, as text");
    for markup in ["<script", "<img", "alert(1)>", "evil.example')"] {
        assert!(!page.contains(markup), "{markup}");
    }
    let named = page.matches("&quot;&gt;&lt;script&gt;").count();
    assert!(named > 30, "the name stands in all sections: {named}");
}

#[test]
fn a_page_asks_for_nothing_and_has_every_section() {
    let page = page(&facts("oxygen", 3, 30));
    for outside in ["http:", "https:", "url(", "@import", "<link", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'"));
    for section in ["open", "errors", "slices", "features", "checks", "quality", "labels", "decisions"] {
        let (_, body) = page.split_once(&format!("<section id=\"{section}\">")).unwrap();
        let body = body.split("</section>").next().unwrap();
        assert!(body.len() > 150, "{section}: {body}");
    }
    assert!(page.contains("line estimate") && page.contains("line current"), "estimated beside realised");
    assert!(page.contains("band estimate") && page.contains("In all 30 windows with both"), "the band of the estimate");
}

#[test]
fn the_largest_report_stays_below_two_megabytes() {
    let page = page(&facts("a feature with a rather long name ", 200, 800));
    assert!(page.len() < 2_000_000, "{}", page.len());
    assert!(page.contains("of 200 features"));
}

#[test]
fn a_monitor_without_data_says_so_in_words() {
    let mut facts = facts("oxygen", 0, 1);
    facts.overview.reference = None;
    facts.overview.versions.clear();
    facts.overview.slices.clear();
    facts.overview.label_delay = None;
    (facts.overview.predictions, facts.overview.labels) = (0, 0);
    facts.monitor.champion_version = None;
    facts.monitor.open_faults.clear();
    (facts.days, facts.checks, facts.faults, facts.alarms) = (vec![], vec![], vec![], vec![]);
    (facts.alerts, facts.decisions) = (vec![], vec![]);
    let page = page(&facts);
    for words in [
        "no champion yet",
        "There is no reference",
        "No window of this time is closed",
        "no prediction",
        "Nothing: no alert",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert!(!page.contains("NaN"), "{page}");
}
