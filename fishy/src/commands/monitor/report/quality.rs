//! How sound the data were, and how far they are from the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use fishy_contracts::monitoring::{
    Alarm, CheckWindow, DataFault, Distribution, Figure, Sample, Severity, Statistic, Window,
};
use fishy_core::time::DAY_MS;

use super::charts::{self, Line, Size, distribution, legend, over_time};
use super::facts::Facts;
use super::html::{
    Cell, count, escaped, feature_name, figure, figure_or_dash, moment, note, number, ours, percent, table, text,
};
use super::results::badge;

/// Features that are drawn: those that drifted most.
const MAX_FEATURES: usize = 40;
/// Faults that are told in words.
const MAX_FAULTS: usize = 40;
/// Alarms that are listed.
const MAX_ALARMS: usize = 40;
/// The population stability index that is usually called a shift.
const PSI_SHIFT: f64 = 0.25;
/// Kinds of data faults, in the order of the table.
const KINDS: [&str; 7] = ["missing", "range", "stuck", "spike", "quiet", "clock", "apart"];

/// Distributions and drift of each feature.
pub fn features(facts: &Facts) -> String {
    let overview = &facts.overview;
    let mut html = match &overview.reference {
        Some(reference) => format!(
            "<p>The reference is what version {} was trained on: {} to {}, {} rows of it.</p>",
            escaped(reference.version.as_deref().unwrap_or("–")),
            moment(reference.from_ms),
            moment(reference.to_ms),
            count(reference.rows)
        ),
        None => note(
            "There is no reference: the champion's version names no training span (tags fishy.training.from_ms and \
             fishy.training.to_ms), or there are no rows of it. Only the current data are shown.",
        ),
    };
    if overview.distributions.is_empty() {
        return html + &note("No feature has a reading in this time.");
    }
    if overview.rows < overview.predictions {
        html += &note(&format!("Drawn from {} rows, evenly spread.", count(overview.rows)));
    }
    html += &legend(&[("reference", "reference"), ("current", "current")]);
    let greatest = |found: &Distribution| {
        let of_days = facts.days.iter().filter_map(|day| day.psi.get(&found.feature).copied());
        of_days.fold(0.0, f64::max)
    };
    let mut shown: Vec<&Distribution> = overview.distributions.iter().collect();
    if shown.len() > MAX_FEATURES {
        let mut ranked: Vec<(f64, &Distribution)> = shown.into_iter().map(|found| (greatest(found), found)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        shown = ranked.into_iter().take(MAX_FEATURES).map(|(_, found)| found).collect();
        let all = overview.distributions.len();
        html += &note(&format!("The {MAX_FEATURES} of {all} features with the greatest drift."));
    }
    // What has no course over time, such as the answers, stands side by side.
    let mut others = String::new();
    for found in shown {
        let courses = courses(facts, found);
        if courses.is_empty() {
            let _ = write!(others, "<div><h3>{}</h3>{}</div>", feature_name(&found.feature), readings(found));
        } else {
            let name = feature_name(&found.feature);
            let _ = write!(html, "<div class=\"feature\"><h3>{name}</h3><div class=\"three\">{}", readings(found));
            html.extend(courses);
            html += "</div></div>";
        }
    }
    if !others.is_empty() {
        let _ = write!(html, "<div class=\"feature three\">{others}</div>");
    }
    html
}

/// The distribution of a feature, and its figures.
fn readings(found: &Distribution) -> String {
    let chart = if found.bins.is_empty() { note("no reading") } else { distribution(found) };
    let row = |side: &str, sample: &Sample| {
        vec![
            text(side),
            number(count(sample.readings)),
            number(count(sample.without)),
            number(figure_or_dash(sample.mean)),
            number(figure_or_dash(sample.least)),
            number(figure_or_dash(sample.greatest)),
        ]
    };
    let sides = found.reference.iter().map(|sample| row("reference", sample));
    let rows: Vec<_> = sides.chain([row("current", &found.current)]).collect();
    let table = table(&["", "readings", "without", "mean", "min", "max"], &rows);
    format!("<figure><figcaption>Distribution</figcaption>{chart}{table}</figure>")
}

/// The drift of a feature over time: of the days, and where these have none, of the checks; two charts at most.
fn courses(facts: &Facts, found: &Distribution) -> Vec<String> {
    let by_day = |of: fn(&Window) -> &BTreeMap<String, f64>| -> Vec<(i64, f64)> {
        let value = |day: &Window| Some((middle_of(day), *of(day).get(&found.feature)?));
        facts.days.iter().filter_map(value).collect()
    };
    let chart = |name: &str, points: Vec<(i64, f64)>, guides: &[(f64, &str)]| {
        let (title, line) = (format!("{name}: {}", found.feature), [Line::new("current", points)]);
        let chart = over_time(&title, Size::Small, (facts.from_ms, facts.to_ms), &line, guides);
        format!("<figure><figcaption>{}</figcaption>{chart}</figure>", escaped(name))
    };
    let mut charts = Vec::new();
    let (psi, ks) = (by_day(|day| &day.psi), by_day(|day| &day.ks));
    if !psi.is_empty() {
        charts.push(chart("Population stability index by day", psi, &[(PSI_SHIFT, "shift")]));
    }
    if !ks.is_empty() {
        charts.push(chart("Kolmogorov-Smirnov statistic by day", ks, &[]));
    }
    let missing = 2_usize.saturating_sub(charts.len());
    for ((check, test), course) in of_checks(facts, &found.feature).into_iter().take(missing) {
        let guides: Vec<(f64, &str)> = course.limit.into_iter().map(|limit| (limit, "limit")).collect();
        let name = format!("{} of check {check}", test.as_str().replace('_', " "));
        charts.push(chart(&name, course.points, &guides));
    }
    charts
}

fn middle_of(day: &Window) -> i64 {
    day.start_ms + DAY_MS / 2
}

/// A statistic of a feature in one check: values by the end of their window, and the newest limit.
#[derive(Default)]
struct Course {
    points: Vec<(i64, f64)>,
    limit: Option<f64>,
}

/// Figures of a feature over all rows in the checks, by check and statistic.
fn of_checks<'a>(facts: &'a Facts, feature: &str) -> BTreeMap<(&'a str, Statistic), Course> {
    let mut by_test: BTreeMap<(&str, Statistic), Course> = BTreeMap::new();
    for window in &facts.checks {
        let whole = |figure: &&Figure| figure.feature == feature && figure.slice.is_empty();
        for figure in window.figures.iter().filter(whole) {
            let course = by_test.entry((window.check.as_str(), figure.test)).or_default();
            course.points.push((window.end_ms, figure.value));
            course.limit = figure.alert_limit.or(figure.warning_limit).or(course.limit);
        }
    }
    by_test
}

/// Missing readings and data faults.
pub fn data_quality(facts: &Facts) -> String {
    let mut missing: BTreeMap<&str, (f64, u64)> = BTreeMap::new();
    for day in facts.steps() {
        for (feature, share) in &day.missing {
            let (lost, rows) = missing.entry(feature).or_default();
            *lost += share * day.predictions as f64;
            *rows += day.predictions;
        }
    }
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for fault in &facts.faults {
        *counts.entry((fault.feature.as_str(), fault.kind.as_str())).or_default() += 1;
    }
    let features: BTreeSet<&str> =
        missing.keys().copied().chain(facts.faults.iter().map(|fault| fault.feature.as_str())).collect();
    if features.is_empty() {
        return note("No window of this time is closed yet: nothing was looked at.");
    }
    let row = |feature: &&str| {
        let feature = *feature;
        let (lost, rows) = missing.get(feature).copied().unwrap_or_default();
        let share = if rows == 0 { 0.0 } else { lost / rows as f64 };
        let mut cells =
            vec![ours(feature_name(feature)), number(percent(share)), ours(charts::share_bar(share, "bad"))];
        for kind in KINDS {
            let found = counts.get(&(feature, kind)).copied().unwrap_or_default();
            cells.push(number(if found == 0 { "–".to_owned() } else { found.to_string() }));
        }
        cells
    };
    let rows: Vec<_> = features.iter().take(100).map(row).collect();
    let mut head = vec!["feature", "missing", ""];
    head.extend(KINDS);
    let mut html = String::from("<h3>Missing readings, and data faults by kind</h3>") + &table(&head, &rows);
    if facts.faults.is_empty() {
        return html + &note("No data fault was found in this time.");
    }
    html += "<h3>When which sensor was at fault</h3>";
    html += &legend(&[("fault", "ended"), ("fault open", "open")]);
    html += &charts::faults((facts.from_ms, facts.to_ms), &facts.faults);
    let row = |fault: &DataFault| {
        let until = fault.until_ms.map_or_else(|| badge("alert", "open"), |until_ms| escaped(&moment(until_ms)));
        vec![
            text(&moment(fault.since_ms)),
            ours(until),
            text(if fault.series.is_empty() { "–" } else { &fault.series }),
            ours(feature_name(&fault.feature)),
            text(&fault.kind),
            text(&fault.message),
        ]
    };
    let rows: Vec<_> = facts.faults.iter().take(MAX_FAULTS).map(row).collect();
    html += &table(&["since", "until", "series", "feature", "kind", "what was seen"], &rows);
    if facts.faults.len() > MAX_FAULTS {
        html += &note(&format!("The newest {MAX_FAULTS} of {}.", count(facts.faults.len() as u64)));
    }
    html
}

/// What the checks found.
pub fn checks(facts: &Facts) -> String {
    if facts.monitor.spec.checks.is_empty() {
        return note("This monitor has no checks: limits of drift and error for each slice are set in its file.");
    }
    let rows: Vec<_> = facts.monitor.spec.checks.iter().map(|spec| check(facts, &spec.name)).collect();
    let mut html = table(&["check", "windows", "with an alarm", "not tested"], &rows);
    if facts.alarms.is_empty() {
        return html + &note("No alarm in this time.");
    }
    let row = |alarm: &Alarm| {
        vec![
            text(&moment(alarm.since_ms)),
            alarm.until_ms.map_or_else(|| ours(badge("alert", "open")), |until_ms| text(&moment(until_ms))),
            ours(badge(alarm.severity.as_str(), alarm.severity.as_str())),
            text(&alarm.check),
            text(&alarm.test.as_str().replace('_', " ")),
            ours(if alarm.feature.is_empty() { "–".to_owned() } else { feature_name(&alarm.feature) }),
            text(if alarm.slice.is_empty() { "all" } else { &alarm.slice }),
            number(figure(alarm.value)),
            number(figure(alarm.limit)),
        ]
    };
    let alarms: Vec<_> = facts.alarms.iter().take(MAX_ALARMS).map(row).collect();
    html += "<h3>Alarms</h3>";
    html += &table(&["since", "until", "severity", "check", "test", "feature", "slice", "value", "limit"], &alarms);
    if facts.alarms.len() > MAX_ALARMS {
        html += &note(&format!("The newest {MAX_ALARMS} of {}.", count(facts.alarms.len() as u64)));
    }
    html
}

fn check(facts: &Facts, name: &str) -> Vec<Cell> {
    let windows = || facts.checks.iter().filter(|window| window.check == name);
    let is_alarmed =
        |window: &&CheckWindow| window.figures.iter().any(|figure| figure.severity >= Some(Severity::Warning));
    let reasons: BTreeSet<&String> = windows().flat_map(|window| window.not_tested.values()).collect();
    let reason = reasons.iter().next().map_or_else(|| "–".to_owned(), |reason| (*reason).clone());
    vec![
        text(name),
        number(count(windows().count() as u64)),
        number(count(windows().filter(is_alarmed).count() as u64)),
        text(&reason),
    ]
}
