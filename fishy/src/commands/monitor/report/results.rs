//! How good the answers were: errors, slices, labels, and what the trigger decided.

use std::fmt::Write as _;

use fishy_contracts::monitoring::{CheckWindow, Figure, SliceErrors, Statistic, Window};
use fishy_core::time::HOUR_MS;
use serde_json::Value;

use super::charts::{self, Line, Size, coverage, delays, legend, over_time};
use super::facts::Facts;
use super::html::{count, duration, escaped, figure_or_dash, moment, note, number, ours, percent, table, text};

/// Decisions that are shown.
const MAX_DECISIONS: usize = 40;
/// Slices that are shown.
const MAX_SLICES: usize = 80;

/// An estimated figure, the realised one, and their name.
const PAIRS: [(Statistic, Statistic, &str); 5] = [
    (Statistic::EstimatedMae, Statistic::Mae, "mean absolute error"),
    (Statistic::EstimatedRmse, Statistic::Rmse, "root mean squared error"),
    (Statistic::EstimatedAccuracy, Statistic::Accuracy, "accuracy"),
    (Statistic::EstimatedF1, Statistic::F1, "F1"),
    (Statistic::EstimatedRocAuc, Statistic::RocAuc, "area under the ROC curve"),
];

/// A figure over all rows of a window.
fn whole(window: &CheckWindow, test: Statistic) -> Option<&Figure> {
    window.figures.iter().find(|figure| figure.test == test && figure.slice.is_empty())
}

/// A figure of the checks over all rows, by the end of its window.
fn of_checks(checks: &[CheckWindow], test: Statistic) -> Vec<(i64, &Figure)> {
    let mut figures: Vec<(i64, &Figure)> =
        checks.iter().filter_map(|window| Some((window.end_ms, whole(window, test)?))).collect();
    figures.sort_by_key(|figure| figure.0);
    // Two checks may have the same figure: one line has one value at a time.
    figures.dedup_by_key(|figure| figure.0);
    figures
}

fn values(figures: &[(i64, &Figure)]) -> Vec<(i64, f64)> {
    figures.iter().map(|(end_ms, figure)| (*end_ms, figure.value)).collect()
}

/// How often the realised figure of a window lies outside of the band of its estimate, in words; empty where no window
/// has both.
fn outside(checks: &[CheckWindow], estimated: Statistic, realised: Statistic) -> String {
    let both = |window: &CheckWindow| Some(whole(window, estimated)?.band?.holds(whole(window, realised)?.value));
    let held: Vec<bool> = checks.iter().filter_map(both).collect();
    let out = held.iter().filter(|is_held| !**is_held).count();
    match (held.len(), out) {
        (0, _) => String::new(),
        (windows, 0) => {
            note(&format!("In all {} windows with both, the realised figure lies in the band.", count(windows as u64)))
        }
        (windows, out) => note(&format!(
            "In {} of {} windows with both, the realised figure lies outside of the band: there the model erred \
             otherwise than in the reference, which no estimate can see.",
            count(out as u64),
            count(windows as u64)
        )),
    }
}

/// Realised errors, with the estimated ones beside them.
pub fn errors(facts: &Facts) -> String {
    let steps = facts.steps();
    let length_ms = if facts.hours.is_empty() { 24 * HOUR_MS } else { HOUR_MS };
    let mut html = String::new();
    let mut has_estimates = false;
    for (estimated, realised, name) in PAIRS {
        let estimates = of_checks(&facts.checks, estimated);
        let own = |error: fn(&Window) -> Option<f64>| -> Vec<(i64, f64)> {
            steps.iter().filter_map(|window| Some((window.start_ms + length_ms, error(window)?))).collect()
        };
        let measured = of_checks(&facts.checks, realised);
        let known: Vec<(i64, f64)> = match realised {
            // Of the windows of a check that has both: like beside like.
            _ if !estimates.is_empty() && !measured.is_empty() => values(&measured),
            Statistic::Mae => own(|window| window.mae),
            Statistic::Rmse if !estimates.is_empty() => own(|window| window.rmse),
            _ => values(&measured),
        };
        if estimates.is_empty() && known.is_empty() {
            continue;
        }
        let baseline = facts.monitor.baseline_error.filter(|_| realised == Statistic::Mae);
        let guides: Vec<(f64, &str)> =
            baseline.into_iter().map(|error| (error, "smallest this champion has shown")).collect();
        let mut keys = vec![("current", "realised")];
        if !estimates.is_empty() {
            has_estimates = true;
            keys.push(("estimate", "estimated before the truth is known, with its band"));
        }
        let bands = estimates.iter().filter_map(|(end_ms, figure)| Some((*end_ms, figure.band?)));
        let band = bands.map(|(end_ms, band)| (end_ms, band.lower, band.upper)).collect();
        let lines = [Line::new("current", known), Line { class: "estimate", points: values(&estimates), band }];
        let chart = over_time(&format!("{name} over time"), Size::Wide, (facts.from_ms, facts.to_ms), &lines, &guides);
        let told = outside(&facts.checks, estimated, realised);
        let _ = write!(html, "<h3>{}</h3>{}{chart}{told}", escaped(name), legend(&keys));
    }
    if html.is_empty() {
        return note("No true value has come for the answers of this time yet: the error is not known.");
    }
    html += &note(if has_estimates {
        "Estimates come from a model of the error on the reference (DLE, CBPE), the band around them is three standard \
         errors to either side. They do not see a change of what the truth depends on: under such a change only the \
         realised figures tell how good the answers are."
    } else {
        "No check of this monitor estimates the error before the truth is known: tests such as estimated_mae do."
    });
    html
}

/// Errors by slice.
pub fn slices(facts: &Facts) -> String {
    let slices = &facts.overview.slices;
    if slices.is_empty() {
        return note(
            "The predictions of this time carry no labels such as farm or pen: there is nothing to tell apart.",
        );
    }
    let worst = slices.iter().filter_map(|slice| slice.mae).fold(0.0, f64::max);
    let row = |slice: &SliceErrors| {
        let bar = slice.mae.filter(|_| worst > 0.0).map(|mae| charts::share_bar(mae / worst, "current"));
        vec![
            text(&slice.slice),
            number(count(slice.rows)),
            number(count(slice.labels)),
            number(figure_or_dash(slice.mae)),
            ours(bar.unwrap_or_default()),
            number(figure_or_dash(slice.bias)),
            number(alarms_of(facts, &slice.slice)),
        ]
    };
    let rows: Vec<_> = slices.iter().take(MAX_SLICES).map(row).collect();
    let mut html = table(&["slice", "rows", "labelled", "MAE", "", "mean error", "alarms"], &rows);
    if slices.len() > MAX_SLICES {
        html += &note(&format!("The first {MAX_SLICES} of {} slices.", slices.len()));
    }
    html + &note("A positive mean error: the answers were too high. Rows under a data fault count in no error.")
}

fn alarms_of(facts: &Facts, slice: &str) -> String {
    match facts.alarms.iter().filter(|alarm| alarm.slice == slice).count() {
        0 => "–".to_owned(),
        alarms => alarms.to_string(),
    }
}

/// How many answers have a true value, and how long those took.
pub fn labels(facts: &Facts) -> String {
    let overview = &facts.overview;
    if overview.predictions == 0 {
        return note("There is no prediction in this time.");
    }
    let share = overview.labels as f64 / overview.predictions as f64;
    let told = match &overview.label_delay {
        Some(delay) => format!(
            "{} of {} answers have a true value ({}). Half of these took {} at most, nine of ten {}, all {}.",
            count(overview.labels),
            count(overview.predictions),
            percent(share),
            duration(delay.median_hours * HOUR_MS),
            duration(delay.p90_hours * HOUR_MS),
            duration(delay.greatest_hours * HOUR_MS)
        ),
        None => format!("None of {} answers has a true value yet.", count(overview.predictions)),
    };
    let mut html = format!("<p>{}</p><div class=\"two\">", escaped(&told));
    let _ = write!(
        html,
        "<figure><figcaption>Predictions, and those with a true value</figcaption>{}{}</figure>",
        legend(&[("reference", "predictions"), ("current", "with a true value")]),
        coverage((facts.from_ms, facts.to_ms), facts.steps())
    );
    if let Some(delay) = &overview.label_delay {
        let unit = if delay.greatest_hours >= 96 { "days" } else { "hours" };
        let _ = write!(
            html,
            "<figure><figcaption>True values by the {unit} they took</figcaption>{}{}</figure>",
            legend(&[("current", "true values")]),
            delays(delay)
        );
    }
    html + "</div>"
}

/// What the trigger decided.
pub fn decisions(facts: &Facts) -> String {
    let spec = &facts.monitor.spec.trigger;
    let starts = match spec.pipeline.as_str() {
        "" => "The trigger starts nothing: its decisions are only recorded.".to_owned(),
        pipeline => format!("The trigger starts pipeline {pipeline}."),
    };
    let mut html = note(&starts);
    if facts.decisions.is_empty() {
        return html
            + &note("No decision in this time: the trigger decides when a day is closed and a champion serves.");
    }
    let row = |decision: &Value| {
        let is_fired = decision["fired"].as_bool() == Some(true);
        let is_recorded = decision["id"].is_string();
        let (class, verdict) = match (is_fired, is_recorded) {
            (true, _) => ("alert", "fired"),
            (false, true) => ("warning", "held back"),
            (false, false) => ("quiet", "not fired"),
        };
        let figure = |name: &str| decision["inputs"][name].as_f64();
        let run = decision["run_status"].as_str().unwrap_or(if is_fired { "no end heard of" } else { "–" });
        vec![
            text(&moment(decision["as_of_ms"].as_i64().unwrap_or_default())),
            ours(badge(class, verdict)),
            text(decision["reason"].as_str().unwrap_or_default()),
            number(figure_or_dash(figure("rolling_error"))),
            number(figure_or_dash(figure("error_limit"))),
            text(run),
        ]
    };
    let rows: Vec<_> = facts.decisions.iter().take(MAX_DECISIONS).map(row).collect();
    html += &table(&["as of", "decision", "why", "error", "limit", "run"], &rows);
    if facts.decisions.len() > MAX_DECISIONS {
        html += &note(&format!("The newest {MAX_DECISIONS} of {}.", facts.decisions.len()));
    }
    html + &note("Shown are decisions that fired, that a data fault held back, and the newest of all.")
}

/// A word on a coloured ground.
pub fn badge(class: &str, word: &str) -> String {
    format!("<span class=\"badge {class}\">{}</span>", escaped(word))
}
