//! The charts of a report.

use std::fmt::Write as _;

use fishy_contracts::monitoring::{Bin, DataFault, Distribution, LabelDelay, Window};
use fishy_core::time::{DAY_MS, HOUR_MS};

use super::drawing::Drawing;
use super::html::{count, duration, escaped, figure, moment, note, percent};

/// A chart over the whole width of the page.
const WIDE: (f64, f64) = (960.0, 230.0);
/// One of three in a row.
const SMALL: (f64, f64) = (400.0, 190.0);
/// One of two in a row.
const HALF: (f64, f64) = (600.0, 210.0);
/// Points of a line; of more, the greatest of each stretch is drawn.
const MAX_POINTS: usize = 300;
/// Columns of a chart over time; of more, neighbours are added up.
const MAX_COLUMNS: usize = 120;
/// Faults in a timeline.
const MAX_BARS: usize = 400;
/// Sensors in a timeline.
const MAX_LANES: usize = 30;
/// Letters of a sensor's name there.
const LANE_CHARS: usize = 28;

/// Values over time, and the class of their colour.
pub struct Line {
    pub class: &'static str,
    pub points: Vec<(i64, f64)>,
    /// Lower and upper end of the band around the values, where there is one.
    pub band: Vec<(i64, f64, f64)>,
}

impl Line {
    /// Values without a band.
    pub const fn new(class: &'static str, points: Vec<(i64, f64)>) -> Self {
        Self { class, points, band: Vec::new() }
    }
}

/// The colours of a chart and what they stand for.
pub fn legend(entries: &[(&str, &str)]) -> String {
    let mut html = String::from("<p class=\"legend\">");
    for (class, name) in entries {
        let _ = write!(html, "<span><i class=\"key {class}\"></i>{}</span>", escaped(name));
    }
    html + "</p>"
}

/// Whether a chart is wide or one of three.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Wide,
    Small,
}

/// Lines over a span of time, from zero or below to the greatest value; `guides` are named lines across.
pub fn over_time(title: &str, size: Size, span: (i64, i64), lines: &[Line], guides: &[(f64, &str)]) -> String {
    let thinned: Vec<(&Line, Vec<(i64, f64)>)> = lines.iter().map(|line| (line, thin(&line.points))).collect();
    let bands: Vec<(&Line, Vec<_>)> = lines.iter().map(|line| (line, widest(&line.band))).collect();
    let ends = || bands.iter().flat_map(|(_, band)| band.iter().flat_map(|(_, lower, upper)| [*lower, *upper]));
    let values = || thinned.iter().flat_map(|(_, points)| points.iter().map(|point| point.1)).chain(ends());
    let high = values().fold(0.0, f64::max);
    let low = values().fold(0.0, f64::min);
    // A guide far above everything would flatten the lines.
    let near = guides.iter().map(|guide| guide.0).filter(|guide| *guide <= high * 2.5).fold(0.0, f64::max);
    let top = if high <= 0.0 && low >= 0.0 { 1.0 } else { high.max(near) * 1.08 };
    let dimensions = if size == Size::Wide { WIDE } else { SMALL };
    let mut drawing = Drawing::new(title, dimensions, (span.0 as f64, span.1 as f64), (low * 1.08, top));
    drawing.value_axis(figure);
    drawing.time_axis();
    for (line, band) in &bands {
        let band: Vec<(f64, f64, f64)> =
            band.iter().map(|(time_ms, low, high)| (*time_ms as f64, *low, *high)).collect();
        let middles: Vec<(f64, f64)> = band.iter().map(|(time_ms, low, _)| (*time_ms, *low)).collect();
        drawing.area(line.class, &band, gap(&middles));
    }
    for (line, points) in &thinned {
        let points: Vec<(f64, f64)> = points.iter().map(|(time_ms, value)| (*time_ms as f64, *value)).collect();
        drawing.line(line.class, &points, gap(&points));
    }
    for (value, name) in guides {
        drawing.guide(*value, name);
    }
    drawing.finish()
}

/// The largest distance of neighbours that are connected: half again as much as is usual.
fn gap(points: &[(f64, f64)]) -> f64 {
    let mut steps: Vec<f64> = points.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    steps.sort_unstable_by(f64::total_cmp);
    steps.get(steps.len() / 2).map_or(0.0, |usual| usual * 1.5)
}

/// At most [`MAX_POINTS`] points: of each stretch the one with the greatest value, so that no peak is lost.
fn thin(points: &[(i64, f64)]) -> Vec<(i64, f64)> {
    let finite: Vec<(i64, f64)> = points.iter().copied().filter(|point| point.1.is_finite()).collect();
    let every = finite.len().div_ceil(MAX_POINTS).max(1);
    finite.chunks(every).filter_map(|part| part.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))).collect()
}

/// At most [`MAX_POINTS`] places of a band: of each stretch all that its parts cover.
fn widest(band: &[(i64, f64, f64)]) -> Vec<(i64, f64, f64)> {
    let every = band.len().div_ceil(MAX_POINTS).max(1);
    let one = |part: &[(i64, f64, f64)]| {
        let (lower, upper) = part
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(lower, upper), place| (place.1.min(lower), place.2.max(upper)));
        (part[part.len() / 2].0, lower, upper)
    };
    band.chunks(every).map(one).collect()
}

/// A feature in the reference and in the span, as shares of the readings of each.
pub fn distribution(found: &Distribution) -> String {
    let before = found.reference.as_ref().map_or(0, |sample| sample.readings);
    let now = found.current.readings;
    let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
    let highest =
        found.bins.iter().map(|bin| share(bin.reference, before).max(share(bin.current, now))).fold(0.01, f64::max);
    let is_few = found.bins.iter().any(|bin| bin.from.to_bits() == bin.to.to_bits());
    let x = if is_few {
        (0.0, found.bins.len() as f64)
    } else {
        (found.bins.first().map_or(0.0, |bin| bin.from), found.bins.last().map_or(1.0, |bin| bin.to))
    };
    let title = format!("distribution of {}", found.feature);
    let mut drawing = Drawing::new(&title, SMALL, x, (0.0, highest * 1.08));
    drawing.value_axis(|share| format!("{} %", figure(share * 100.0)));
    let shown = |bin: &Bin| (share(bin.reference, before), share(bin.current, now));
    if !is_few {
        for bin in found.bins.iter().filter(|bin| bin.reference > 0) {
            drawing.bar("bar reference", (bin.from, bin.to), (0.0, shown(bin).0), "");
        }
        let columns: Vec<_> = found.bins.iter().map(|bin| (bin.from, bin.to, shown(bin).1)).collect();
        drawing.steps("current", &columns);
    }
    for (place, bin) in found.bins.iter().enumerate() {
        let (was, is) = shown(bin);
        let middle = place as f64 + 0.5;
        let values = if is_few { figure(bin.from) } else { format!("{} to {}", figure(bin.from), figure(bin.to)) };
        let words = format!("{values}: reference {}, current {}", percent(was), percent(is));
        if is_few {
            drawing.bar("bar reference", (middle - 0.35, middle), (0.0, was), &words);
            drawing.bar("bar current", (middle, middle + 0.35), (0.0, is), &words);
            drawing.x_label(drawing.at_x(middle), &figure(bin.from));
        } else {
            // What a pointer anywhere above a bin is told.
            drawing.bar("over", (bin.from, bin.to), (0.0, highest), &words);
        }
    }
    if !is_few {
        drawing.number_axis();
    }
    drawing.finish()
}

/// Predictions of each window, and of these the labelled ones.
pub fn coverage(span: (i64, i64), windows: &[Window]) -> String {
    let length_ms = if windows.first().is_some_and(|window| window.length == "hour") { HOUR_MS } else { DAY_MS };
    let columns = ((span.1 - span.0) / length_ms).max(1) as usize;
    let width_ms = columns.div_ceil(MAX_COLUMNS).max(1) as i64 * length_ms;
    let mut added: Vec<(i64, u64, u64)> = Vec::new();
    for window in windows {
        let start_ms = window.start_ms - (window.start_ms - span.0).rem_euclid(width_ms);
        match added.last_mut() {
            Some((last_ms, predictions, labels)) if *last_ms == start_ms => {
                *predictions += window.predictions;
                *labels += window.labels;
            }
            _ => added.push((start_ms, window.predictions, window.labels)),
        }
    }
    let most = added.iter().map(|column| column.1).max().unwrap_or(0).max(1);
    let (from, to) = (span.0 as f64, span.1 as f64);
    let mut drawing = Drawing::new("predictions and labels over time", HALF, (from, to), (0.0, most as f64 * 1.05));
    drawing.value_axis(figure);
    drawing.time_axis();
    for (start_ms, predictions, labels) in added {
        let inset = width_ms as f64 * 0.08;
        let x = (start_ms as f64 + inset, (start_ms + width_ms) as f64 - inset);
        let share = labels as f64 / predictions.max(1) as f64;
        let words = format!("{}: {} predictions, {} labelled", moment(start_ms), count(predictions), percent(share));
        drawing.bar("bar reference", x, (0.0, predictions as f64), &words);
        drawing.bar("bar current", x, (0.0, labels as f64), &words);
    }
    drawing.finish()
}

/// Labels by the time they took.
pub fn delays(delay: &LabelDelay) -> String {
    let bars = &delay.histogram;
    let width = bars.get(1).map_or(1, |second| second.0 - bars[0].0);
    let (first, last) = (bars.first().map_or(0, |bar| bar.0), bars.last().map_or(0, |bar| bar.0) + width);
    // Days where hours would be large numbers.
    let unit = if last > 96 { 24.0 } else { 1.0 };
    let most = bars.iter().map(|bar| bar.1).max().unwrap_or(0).max(1) as f64;
    let x = (first as f64 / unit, last as f64 / unit);
    let mut drawing = Drawing::new("labels by the time they took", HALF, x, (0.0, most * 1.05));
    drawing.value_axis(figure);
    drawing.number_axis();
    for (hours, labels) in bars {
        let (from, to) = (*hours as f64 / unit, (hours + width) as f64 / unit);
        let inset = (to - from) * 0.08;
        let words = format!("{}: {} labels", duration(hours * HOUR_MS), count(*labels));
        drawing.bar("bar current", (from + inset, to - inset), (0.0, *labels as f64), &words);
    }
    drawing.finish()
}

/// When which sensor was at fault.
pub fn faults(span: (i64, i64), faults: &[DataFault]) -> String {
    let lane = |fault: &DataFault| match fault.series.as_str() {
        "" => fault.feature.clone(),
        series => format!("{} · {series}", fault.feature),
    };
    let mut lanes: Vec<String> = faults.iter().map(lane).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let hidden = lanes.len().saturating_sub(MAX_LANES);
    lanes.truncate(MAX_LANES);
    let height = 34.0 + lanes.len() as f64 * 22.0;
    let (from, to) = (span.0 as f64, span.1 as f64);
    let middle = |place: usize| 12.0 + place as f64 * 22.0;
    let mut drawing = Drawing::of_lanes("data faults over time", (960.0, height), (from, to));
    drawing.time_axis();
    for (place, name) in lanes.iter().enumerate() {
        drawing.lane(middle(place), &name.chars().take(LANE_CHARS).collect::<String>());
    }
    for fault in faults.iter().take(MAX_BARS) {
        let Some(place) = lanes.iter().position(|name| *name == lane(fault)) else { continue };
        let (since_ms, until_ms) = (fault.since_ms.max(span.0), fault.until_ms.unwrap_or(span.1).min(span.1));
        let (left, right) = (drawing.at_x(since_ms as f64), drawing.at_x(until_ms as f64));
        let until =
            fault.until_ms.map_or_else(|| "still open".to_owned(), |until_ms| format!("until {}", moment(until_ms)));
        let words = format!("{}, {} {until}: {}", fault.kind, moment(fault.since_ms), fault.message);
        let class = if fault.until_ms.is_none() { "fault open" } else { "fault" };
        drawing.rectangle(class, (left, middle(place) - 7.0), ((right - left).max(3.0), 14.0), &words);
    }
    let more = if hidden > 0 {
        note(&format!("{hidden} further sensors had faults: the list below has them."))
    } else {
        String::new()
    };
    drawing.finish() + &more
}

/// A horizontal bar in a table, as a share of the greatest.
pub fn share_bar(share: f64, class: &str) -> String {
    if share <= 0.0 {
        return String::new();
    }
    format!(
        "<svg class=\"inline\" viewBox=\"0 0 120 12\" role=\"presentation\"><rect class=\"bar {class}\" width=\"{:.1}\" height=\"12\"/></svg>",
        (share.min(1.0) * 120.0).max(0.5)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_keeps_its_peak() {
        let points: Vec<(i64, f64)> = (0..10_000).map(|i| (i, if i == 4_321 { 9.0 } else { 1.0 })).collect();
        let thinned = thin(&points);
        assert!(thinned.len() <= MAX_POINTS && thinned.contains(&(4_321, 9.0)));
        assert_eq!(thin(&[(0, f64::NAN), (1, 2.0)]), [(1, 2.0)]);
        let band: Vec<(i64, f64, f64)> = (0..1_000).map(|i| (i, if i == 432 { -3.0 } else { 1.0 }, 2.0)).collect();
        let thinned = widest(&band);
        assert!(thinned.len() <= MAX_POINTS && thinned.iter().any(|place| place.1 < -2.5), "{thinned:?}");
    }

    #[test]
    fn windows_are_added_up_where_they_are_many() {
        let windows: Vec<Window> = (0..1_000)
            .map(|day| Window {
                length: "day".into(),
                start_ms: day * DAY_MS,
                predictions: 10,
                labels: 5,
                mae: None,
                rmse: None,
                psi: std::collections::BTreeMap::new(),
                ks: std::collections::BTreeMap::new(),
                missing: std::collections::BTreeMap::new(),
            })
            .collect();
        let svg = coverage((0, 1_000 * DAY_MS), &windows);
        let columns = svg.matches("bar current").count();
        assert!((90..=MAX_COLUMNS).contains(&columns), "{columns}");
        assert!(svg.contains("90 predictions, 50 % labelled"), "{svg}");
    }
}
