//! The page: a table of all features, and a chart of each of those that drifted most.

use std::fmt::Write as _;

use fishy_contracts::monitoring::{Bin, Distribution, Sample};
use fishy_core::time::rfc3339;
use fishy_drift::{Comparison, Summary};

use super::compare::{Categories, Feature, Figures};
use super::{Report, verdict};
use crate::commands::monitor::report::charts::{distribution, legend};
use crate::commands::monitor::report::html::{Cell, count, escaped, figure, note, number, ours, percent, table, text};

const STYLE: &str = include_str!("../monitor/report/style.css");
/// Features with a chart.
const MAX_CHARTS: usize = 60;

/// The whole page; like the monitoring report it needs nothing else.
pub fn page(report: &Report, made_ms: i64) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>Drift of {current}</title><style>{STYLE}</style></head><body><header><p class=\"kind\">Drift report</p>\
         <h1>{current}</h1><p class=\"sub\">compared with {reference}</p><div class=\"tiles\">",
        current = escaped(&report.current.file),
        reference = escaped(&report.reference.file),
    );
    let of = |wanted: &str| report.features.iter().filter(|feature| verdict(feature.figures.psi()) == wanted).count();
    let tiles = [
        (count(report.reference.rows), "rows before"),
        (count(report.current.rows), "rows now"),
        (count(report.features.len() as u64), "features compared"),
        (count(of("drifted") as u64), "drifted"),
        (count(of("moved") as u64), "moved"),
    ];
    for (value, name) in tiles {
        let _ = write!(html, "<div class=\"tile\"><b>{value}</b><span>{name}</span></div>");
    }
    html += "</div></header><main><section><h2>Features</h2>";
    html += &features(report);
    if report.method == "sketch" {
        html += &note("Figures are estimates from sketches: ranks are right to 0.45 % of the count.");
    }
    for (name, reason) in &report.skipped {
        html += &note(&format!("{name} was not compared: {reason}."));
    }
    html += "</section><section><h2>Distributions</h2>";
    html += &legend(&[("reference", "before"), ("current", "now")]);
    html += "<div class=\"three\">";
    for feature in report.features.iter().take(MAX_CHARTS) {
        let _ = write!(html, "<figure><figcaption>{}</figcaption>", escaped(&feature.name));
        html += &match &feature.figures {
            Figures::Number(found) => distribution(&bins(&feature.name, found)),
            Figures::Category(found) => shares(found),
        };
        html += "</figure>";
    }
    html += "</div>";
    if report.features.len() > MAX_CHARTS {
        html += &note(&format!("Of {} features those that drifted most are drawn.", report.features.len()));
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(
        html,
        "</section></main><footer>Made by fishy {version} at {}.</footer></body></html>",
        rfc3339(made_ms)
    );
    html
}

fn features(report: &Report) -> String {
    let row = |feature: &Feature| -> Vec<Cell> {
        let (before, now) = feature.figures.counts();
        let missing = |(count, missing): (u64, u64)| percent(missing as f64 / (count + missing).max(1) as f64);
        let (ks, p_value, distance, js) = match &feature.figures {
            Figures::Number(found) => (
                figure(found.drift.ks.statistic),
                figure(found.drift.ks.p_value),
                figure(found.normed_wasserstein),
                figure(found.drift.js_distance),
            ),
            Figures::Category(found) => {
                let dash = "–".to_owned();
                (dash.clone(), figure(found.chi_square.p_value), dash, figure(found.js_distance))
            }
        };
        let class = match verdict(feature.figures.psi()) {
            "drifted" => "alert",
            "moved" => "warning",
            _ => "quiet",
        };
        vec![
            text(&feature.name),
            ours(format!("<span class=\"badge {class}\">{}</span>", verdict(feature.figures.psi()))),
            number(figure(feature.figures.psi())),
            number(ks),
            number(p_value),
            number(distance),
            number(js),
            number(missing(before)),
            number(missing(now)),
        ]
    };
    let head = ["feature", "", "PSI", "KS", "p", "Wasserstein, sd", "JS", "missing before", "missing now"];
    let rows: Vec<Vec<Cell>> = report.features.iter().map(row).collect();
    table(&head, &rows)
        + &note(
            "p is that of Kolmogorov-Smirnov, of categories that of chi-square. Of many rows every difference is certain: PSI and the distances say whether it matters.",
        )
}

/// The bins as the monitoring report draws them.
fn bins(feature: &str, found: &Comparison) -> Distribution {
    let side = |summary: &Summary| Sample {
        readings: summary.count,
        without: summary.missing,
        mean: Some(summary.mean),
        least: Some(summary.least),
        greatest: Some(summary.most),
    };
    let (edges, bins) = (&found.binned.edges, found.binned.reference.len());
    // As many edges as bins: each value is a bin.
    let are_values = edges.len() == bins;
    let of = |share: f64, all: u64| (share * all as f64).round() as u64;
    let bin = |place: usize| Bin {
        from: edges[place],
        to: if are_values { edges[place] } else { edges[place + 1] },
        reference: of(found.binned.reference[place], found.reference.count),
        current: of(found.binned.current[place], found.current.count),
    };
    Distribution {
        feature: feature.to_owned(),
        reference: Some(side(&found.reference)),
        current: side(&found.current),
        bins: (0..bins).map(bin).collect(),
    }
}

fn shares(found: &Categories) -> String {
    let row = |(name, before, now): &(String, u64, u64)| {
        let share = |part: u64, all: u64| percent(part as f64 / all.max(1) as f64);
        vec![text(name), number(share(*before, found.reference.count)), number(share(*now, found.current.count))]
    };
    let rows: Vec<Vec<Cell>> = found.shares.iter().map(row).collect();
    table(&["category", "before", "now"], &rows)
}
