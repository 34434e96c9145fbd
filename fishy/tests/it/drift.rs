//! `fishy drift`: two Parquet files in, a report out.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use fishy_drift::{CategoryCounts, CategoryTable, ColumnDrift, Correction, LogBase, Sample, chi_square};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::rig::run;

const SPECIES: [&str; 4] = ["cod", "salmon", "trout", "wrasse"];

struct Columns {
    oxygen: Vec<Option<f64>>,
    pen: Vec<i64>,
    species: Vec<Option<&'static str>>,
}

/// `moved` shifts everything by that.
fn columns(rows: usize, seed: u64, moved: f64) -> Columns {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut columns = Columns { oxygen: Vec::new(), pen: Vec::new(), species: Vec::new() };
    for row in 0..rows {
        columns.oxygen.push((row % 50 > 0).then(|| (next() + next() + next()) * 4.0 + moved));
        columns.pen.push((next() * 12.0 + moved) as i64);
        columns.species.push((row % 40 > 0).then(|| SPECIES[(next() * (3.0 + moved)).min(3.0) as usize]));
    }
    columns
}

fn write(path: &Path, columns: &Columns) {
    let flags: Vec<bool> = columns.pen.iter().map(|pen| pen % 2 == 0).collect();
    let arrays: Vec<(&str, ArrayRef)> = vec![
        ("oxygen", Arc::new(Float64Array::from(columns.oxygen.clone()))),
        ("pen", Arc::new(Int64Array::from(columns.pen.clone()))),
        ("species", Arc::new(StringArray::from(columns.species.clone()))),
        ("is_even", Arc::new(BooleanArray::from(flags))),
        ("at", Arc::new(TimestampMillisecondArray::from(columns.pen.clone()))),
    ];
    let batch = RecordBatch::try_from_iter(arrays).unwrap();
    // Row groups of different lengths, so that a column comes in pieces.
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(17_001)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn report(arguments: &[&str]) -> Value {
    let printed = run(arguments);
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    serde_json::from_slice(&printed.stdout).unwrap()
}

fn feature<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["features"].as_array().unwrap().iter().find(|feature| feature["name"] == name).unwrap()
}

#[track_caller]
fn assert_near(got: &Value, expected: f64, within: f64) {
    let got = got.as_f64().unwrap();
    assert!((got - expected).abs() <= within, "{got} instead of {expected}");
}

#[test]
fn figures_are_those_of_the_library_exactly_and_by_sketch() {
    let folder = tempfile::tempdir().unwrap();
    let (before, now) = (columns(60_000, 1, 0.0), columns(45_000, 2, 0.2));
    let paths = ["before.parquet", "now.parquet"].map(|name| folder.path().join(name));
    write(&paths[0], &before);
    write(&paths[1], &now);
    let [reference, current] = paths.each_ref().map(|path| path.to_str().unwrap());
    let asked = ["drift", "--reference", reference, "--current", current, "--output", "json"];
    let exact = report(&asked);
    let sketched = report(&[&asked[..], &["--sketch", "--threads", "1"]].concat());

    let sample = |values: &[Option<f64>]| Sample::from_vec(values.iter().map(|v| v.unwrap_or(f64::NAN)).collect());
    let plain = ColumnDrift::of(&sample(&before.oxygen).unwrap(), &sample(&now.oxygen).unwrap());
    for (report, within) in [(&exact, 1e-12), (&sketched, 0.03)] {
        let oxygen = feature(report, "oxygen");
        assert_near(&oxygen["psi"], plain.psi, within);
        assert_near(&oxygen["ks"]["statistic"], plain.ks.statistic, within);
        assert_near(&oxygen["wasserstein"], plain.wasserstein, within);
        assert_near(&oxygen["js_distance"], plain.js_distance, within);
        assert_eq!((&oxygen["reference"]["missing"], &oxygen["current"]["missing"]), (&1_200.into(), &900.into()));
    }
    let whole = |values: &[i64]| Sample::from_vec(values.iter().map(|value| *value as f64).collect()).unwrap();
    let pens = ColumnDrift::of(&whole(&before.pen), &whole(&now.pen));
    let counts = |values: &[Option<&'static str>]| CategoryCounts::of(values.iter().copied()).unwrap();
    let table = CategoryTable::new(&counts(&before.species), &counts(&now.species)).unwrap();
    for report in [&exact, &sketched] {
        // Few distinct numbers and categories are counted, sketched or not.
        let pen = feature(report, "pen");
        assert_near(&pen["ks"]["statistic"], pens.ks.statistic, 1e-12);
        assert_near(&pen["wasserstein"], pens.wasserstein, 1e-12);
        let species = feature(report, "species");
        assert_near(&species["psi"], table.psi(), 1e-12);
        assert_near(&species["js_distance"], table.js_distance(LogBase::Natural), 1e-12);
        assert_near(&species["chi_square"]["statistic"], chi_square(&table, Correction::Yates).statistic, 1e-9);
        assert_eq!(species["unseen"]["wrasse"].as_u64().unwrap(), table.unseen()[0].1);
        assert_eq!(feature(report, "is_even")["kind"], "category");
        assert!(report["skipped"]["at"].as_str().unwrap().contains("not compared"), "{report}");
    }
    assert_eq!((&exact["method"], &sketched["method"]), (&"exact".into(), &"sketch".into()));
}

#[test]
fn a_page_a_table_and_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["before.parquet", "now.parquet", "page.html"].map(|name| folder.path().join(name));
    write(&paths[0], &columns(9_000, 1, 0.0));
    write(&paths[1], &columns(9_000, 2, 3.0));
    let [reference, current, page] = paths.each_ref().map(|path| path.to_str().unwrap());
    let asked = ["drift", "--reference", reference, "--current", current, "--categories", "pen", "--html", page];
    let printed = run(&[&asked[..], &["--fail-at", "0.25"]].concat());
    assert_eq!(printed.status.code(), Some(3));
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("oxygen") && text.contains("drifted") && text.contains("figures are exact"), "{text}");
    let html = std::fs::read_to_string(&paths[2]).unwrap();
    assert!(html.contains("<svg") && html.contains("oxygen") && html.contains("wrasse"));
    assert!(!html.contains("<script") && html.len() < 200_000);
    assert!(run(&[&asked[..], &["--fail-at", "1000"]].concat()).status.success());
    let report = report(&[&asked[..], &["--output", "json", "--features", "pen,oxygen"]].concat());
    assert_eq!(
        (feature(&report, "pen")["kind"].as_str(), report["features"].as_array().unwrap().len()),
        (Some("category"), 2)
    );
}

#[test]
fn what_cannot_be_compared_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (file, rubbish) = (folder.path().join("rows.parquet"), folder.path().join("rubbish.parquet"));
    write(&file, &columns(100, 1, 0.0));
    std::fs::write(&rubbish, "not a table").unwrap();
    let refused = |reference: &Path, current: &Path, more: &[&str]| {
        let asked = ["drift", "--reference", reference.to_str().unwrap(), "--current", current.to_str().unwrap()];
        let output = run(&[&asked[..], more].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&file, &rubbish, &[]).contains("rubbish.parquet is no Parquet file"));
    assert!(refused(&file, &folder.path().join("none.parquet"), &[]).contains("opening"));
    let unknown = refused(&file, &file, &["--features", "ph"]);
    assert!(unknown.contains("no column \"ph\"; there are oxygen, pen"), "{unknown}");
    assert!(refused(&file, &file, &["--features", "at"]).contains("no column that can be compared"));
    assert!(refused(&file, &file, &["--threads", "0"]).contains("--threads is at least 1"));
}
