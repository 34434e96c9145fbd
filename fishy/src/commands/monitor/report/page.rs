//! The page: its head, and one section after the other.

use std::fmt::Write as _;

use fishy_contracts::monitoring::{DataFault, VersionAnswers};
use fishy_core::time::rfc3339;

use super::facts::Facts;
use super::html::{count, escaped, figure_or_dash, moment, note, number, percent, table, text};
use super::results::badge;
use super::{quality, results};

const STYLE: &str = include_str!("style.css");
/// Alerts and faults that are told at the top.
const MAX_OPEN: usize = 12;

/// The whole page. It needs nothing else: no script, no font, no picture, and it says so to the browser.
pub fn page(facts: &Facts) -> String {
    let deployment = escaped(&facts.monitor.spec.deployment);
    let sections = [
        ("open", "What needs somebody", open(facts)),
        ("errors", "How good the answers were", results::errors(facts)),
        ("slices", "Slices", results::slices(facts)),
        ("features", "Distributions and drift", quality::features(facts)),
        ("checks", "Checks", quality::checks(facts)),
        ("quality", "Data quality", quality::data_quality(facts)),
        ("labels", "True values", results::labels(facts)),
        ("decisions", "Retraining", results::decisions(facts)),
    ];
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{deployment}: monitoring report</title><style>{STYLE}</style></head><body>{}<nav>",
        head(facts)
    );
    for (id, name, _) in &sections {
        let _ = write!(html, "<a href=\"#{id}\">{}</a>", escaped(name));
    }
    html += "</nav><main>";
    for (id, name, body) in &sections {
        let _ = write!(html, "<section id=\"{id}\"><h2>{}</h2>{body}</section>", escaped(name));
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(
        html,
        "</main><footer>Made by fishy {version} at {}. All times are event time in UTC.</footer></body></html>",
        escaped(&rfc3339(facts.made_ms))
    );
    html
}

fn head(facts: &Facts) -> String {
    let (monitor, overview) = (&facts.monitor, &facts.overview);
    let model = facts.model.as_deref().map_or_else(String::new, |model| format!(" · model {}", escaped(model)));
    let champion = match &monitor.champion_version {
        Some(version) => format!(" · champion is version {}", escaped(version)),
        None => " · no champion yet".to_owned(),
    };
    let labelled = if overview.predictions == 0 {
        "–".to_owned()
    } else {
        percent(overview.labels as f64 / overview.predictions as f64)
    };
    let tiles = [
        (count(overview.predictions), "predictions"),
        (labelled, "have a true value"),
        (figure_or_dash(realised(facts)), "mean absolute error"),
        (count(monitor.open_faults.len() as u64), "data faults open now"),
        (count(facts.alerts.len() as u64), "alerts open now"),
        (count(fired(facts)), "retrainings triggered"),
    ];
    let looked_at = if monitor.watermark_ms > 0 {
        format!("looked at up to {}", moment(monitor.watermark_ms))
    } else {
        "nothing was looked at yet".to_owned()
    };
    let mut html = format!(
        "<header><p class=\"kind\">Monitoring report</p><h1>{}</h1><p class=\"sub\">monitor {}{model}{champion}</p>\
         <p class=\"span\">{} to {} · {looked_at}</p><div class=\"tiles\">",
        escaped(&monitor.spec.deployment),
        escaped(&monitor.spec.name),
        moment(facts.from_ms),
        moment(facts.to_ms)
    );
    for (value, name) in tiles {
        let _ = write!(html, "<div class=\"tile\"><b>{}</b><span>{name}</span></div>", escaped(&value));
    }
    html += "</div>";
    if !overview.versions.is_empty() {
        let row = |version: &VersionAnswers| {
            let share = version.predictions as f64 / overview.predictions.max(1) as f64;
            vec![
                text(&version.version),
                number(count(version.predictions)),
                number(percent(share)),
                text(&moment(version.first_ms)),
                text(&moment(version.last_ms)),
            ]
        };
        let rows: Vec<_> = overview.versions.iter().take(20).map(row).collect();
        html += &table(&["version", "predictions", "share", "first answer", "last answer"], &rows);
    }
    html + "</header>"
}

/// The mean absolute error of the span, from that of its windows.
fn realised(facts: &Facts) -> Option<f64> {
    let known = facts.steps().iter().filter_map(|window| Some((window.labels as f64, window.mae?)));
    let (labels, total) = known.fold((0.0, 0.0), |(labels, total), (of, mae)| (labels + of, total + of * mae));
    (labels > 0.0).then(|| total / labels)
}

fn fired(facts: &Facts) -> u64 {
    facts.decisions.iter().filter(|decision| decision["fired"].as_bool() == Some(true)).count() as u64
}

/// Open alerts and data faults in words. A fault has an alert as well; those that have none yet are told by themselves.
fn open(facts: &Facts) -> String {
    let alerts = facts.alerts.iter().map(|alert| {
        let severity = alert.labels.get("severity").map_or("warning", String::as_str);
        let class = if severity == "alert" { "alert" } else { "warning" };
        (class, severity, alert.summary.as_str(), alert.starts_ms)
    });
    let is_told = |fault: &DataFault| {
        facts.alerts.iter().any(|alert| {
            let has = |label: &str, value: &str| alert.labels.get(label).map_or("", String::as_str) == value;
            has("feature", &fault.feature) && has("series", &fault.series) && has("kind", &fault.kind)
        })
    };
    let faults = facts.monitor.open_faults.iter().filter(|fault| !is_told(fault));
    let faults = faults.map(|fault| ("warning", "data fault", fault.message.as_str(), fault.since_ms));
    let mut all: Vec<_> = alerts.chain(faults).collect();
    // The worst first, and of those as bad the newest.
    all.sort_by_key(|(class, _, _, since_ms)| (*class != "alert", std::cmp::Reverse(*since_ms)));
    if all.is_empty() {
        return "<p class=\"fine\">Nothing: no alert and no data fault is open.</p>".to_owned();
    }
    let mut html = String::from("<ul class=\"open\">");
    for (class, word, summary, since_ms) in all.iter().take(MAX_OPEN) {
        let since = moment(*since_ms);
        let words = escaped(summary);
        let _ = write!(html, "<li>{}<span>{words} <small>since {since}</small></span></li>", badge(class, word));
    }
    html += "</ul>";
    if all.len() > MAX_OPEN {
        html += &note(&format!("and {} more", all.len() - MAX_OPEN));
    }
    html
}

#[cfg(test)]
mod tests;
