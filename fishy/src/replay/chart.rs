//! The chart of a replay: the error of each week for loop, calendar and first model, and what the loop decided.

use std::path::Path;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use fishy_contracts::pipelines::RunStatus;
use fishy_core::time::DAY_MS;
use plotters::prelude::*;

use super::baselines::Baselines;
use super::drive::Outcome;
use super::plan::Plan;

const WEEK_MS: i64 = 7 * DAY_MS;

/// Draws the chart as SVG.
pub fn draw(path: &Path, plan: &Plan, outcome: &Outcome, baselines: Option<&Baselines>) -> Result<()> {
    let rows = &plan.rows[plan.first_replayed()..];
    let weekly = |answers: &[f64]| -> Vec<(DateTime<Utc>, f64)> {
        let errors: Vec<(i64, f64)> = rows
            .iter()
            .zip(answers)
            .filter(|(_, answer)| answer.is_finite())
            .map(|(row, answer)| (row.time_ms, (row.target - answer).abs()))
            .collect();
        errors
            .chunk_by(|a, b| a.0.div_euclid(WEEK_MS) == b.0.div_euclid(WEEK_MS))
            .map(|week| {
                let mean = week.iter().map(|(_, error)| error).sum::<f64>() / week.len() as f64;
                (moment(week[0].0), mean)
            })
            .collect()
    };
    let mut lines = vec![("the loop, as answered live", weekly(&outcome.answers), RGBColor(0, 90, 160), 3)];
    if let Some(baselines) = baselines {
        lines.insert(0, ("first model, never retrained", weekly(&baselines.of_static), RGBColor(190, 190, 190), 2));
        lines.insert(1, ("retrained every month", weekly(&baselines.of_calendar), RGBColor(230, 140, 30), 2));
    }
    let highest = lines.iter().flat_map(|line| &line.1).map(|point| point.1).fold(0.1, f64::max) * 1.08;
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
    let area = SVGBackend::new(path, (1100, 460)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow::anyhow!("drawing {}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{}: mean absolute error of each week", plan.name), ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(52)
        .build_cartesian_2d(moment(first.time_ms)..moment(last.time_ms), 0.0..highest)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_labels(12)
        .x_label_formatter(&|time| time.format("%b %Y").to_string())
        .y_desc("error, in the unit of the target")
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(232, 232, 232))
        .draw()
        .map_err(|error| failed(&error))?;
    for (name, points, color, width) in lines {
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(width)))
            .map_err(|error| failed(&error))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(width)));
    }
    for (status, name, color) in [
        (RunStatus::Succeeded, "challenger promoted", RGBColor(20, 140, 60)),
        (RunStatus::Rejected, "challenger rejected", RGBColor(200, 30, 30)),
    ] {
        let decided = outcome.decisions.iter().filter(|decision| decision.status == status);
        let marks =
            decided.map(|decision| TriangleMarker::new((moment(decision.as_of_ms), highest * 0.02), 6, color.filled()));
        chart
            .draw_series(marks)
            .map_err(|error| failed(&error))?
            .label(name)
            .legend(move |(x, y)| TriangleMarker::new((x + 11, y), 6, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .draw()
        .map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error)).context("the chart")
}

fn moment(time_ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(time_ms).unwrap_or_default()
}
