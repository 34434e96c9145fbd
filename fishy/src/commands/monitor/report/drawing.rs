//! Axes and marks in SVG. Colours are classes of the page's style, so that a chart is legible in light and dark.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use fishy_core::time::{DAY_MS, HOUR_MS};

use super::html::{escaped, figure};

/// Room for the labels of the axes.
const LEFT: f64 = 52.0;
const LANE_LEFT: f64 = 190.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;

/// A chart that is being drawn: its size in units of its own, and the ranges of its axes.
pub struct Drawing {
    svg: String,
    width: f64,
    height: f64,
    left: f64,
    x: (f64, f64),
    y: (f64, f64),
}

impl Drawing {
    /// An empty chart; `title` is what a reader who does not see it is told.
    pub fn new(title: &str, (width, height): (f64, f64), x: (f64, f64), y: (f64, f64)) -> Self {
        let widened = |(low, high): (f64, f64)| if high > low { (low, high) } else { (low - 0.5, low + 0.5) };
        let svg = format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">", escaped(title));
        Self { svg, width, height, left: LEFT, x: widened(x), y: widened(y) }
    }

    /// A chart of lanes instead of an axis of values: their names have room on the left.
    pub fn of_lanes(title: &str, size: (f64, f64), x: (f64, f64)) -> Self {
        Self { left: LANE_LEFT, ..Self::new(title, size, x, (0.0, 1.0)) }
    }

    /// Where a value lies from left to right.
    pub fn at_x(&self, x: f64) -> f64 {
        let share = ((x - self.x.0) / (self.x.1 - self.x.0)).clamp(0.0, 1.0);
        self.left + share * (self.width - self.left - RIGHT)
    }

    /// Where a value lies from top to bottom.
    pub fn at_y(&self, y: f64) -> f64 {
        let share = ((y - self.y.0) / (self.y.1 - self.y.0)).clamp(0.0, 1.0);
        self.height - BOTTOM - share * (self.height - TOP - BOTTOM)
    }

    /// Lines and labels of the axis of values.
    pub fn value_axis(&mut self, write: impl Fn(f64) -> String) {
        for tick in ticks(self.y, 4) {
            let y = self.at_y(tick);
            let _ = write!(
                self.svg,
                "<path class=\"grid\" d=\"M{:.1} {y:.1}H{:.1}\"/><text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                self.left,
                self.width - RIGHT,
                self.left - 6.0,
                y + 3.5,
                write(tick)
            );
        }
    }

    /// Labels of an axis of numbers.
    pub fn number_axis(&mut self) {
        for tick in ticks(self.x, 5) {
            self.x_label(self.at_x(tick), &figure(tick));
        }
    }

    /// Labels of an axis of time, at full hours, days, months or years.
    pub fn time_axis(&mut self) {
        let most = ((self.width - self.left - RIGHT) / 66.0).max(2.0) as i64;
        for (time_ms, label) in time_ticks(self.x.0 as i64, self.x.1 as i64, most) {
            self.x_label(self.at_x(time_ms as f64), &label);
        }
    }

    /// A label below the chart.
    pub fn x_label(&mut self, x: f64, label: &str) {
        // A label at an end stays within the picture.
        let half = label.chars().count() as f64 * 3.1;
        let middle = x.clamp(half, self.width - half);
        let y = self.height - BOTTOM;
        let _ = write!(
            self.svg,
            "<path class=\"tick\" d=\"M{x:.1} {y:.1}v4\"/><text class=\"mid\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text>",
            self.height - 7.0,
            escaped(label)
        );
    }

    /// A horizontal line with a name, where it is within the range.
    pub fn guide(&mut self, value: f64, name: &str) {
        if value < self.y.0 || value > self.y.1 {
            return;
        }
        let y = self.at_y(value);
        let _ = write!(
            self.svg,
            "<path class=\"guide\" d=\"M{:.1} {y:.1}H{:.1}\"/><text class=\"end name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            self.left,
            self.width - RIGHT,
            self.width - RIGHT,
            y - 3.0,
            escaped(name)
        );
    }

    /// A lane with its name.
    pub fn lane(&mut self, middle: f64, name: &str) {
        let _ = write!(
            self.svg,
            "<path class=\"grid\" d=\"M{:.1} {middle:.1}H{:.1}\"/><text x=\"0\" y=\"{:.1}\">{}</text>",
            self.left,
            self.width - RIGHT,
            middle + 3.5,
            escaped(name)
        );
    }

    /// A line through points, broken where `gap` is exceeded; a point without neighbours is a dot.
    pub fn line(&mut self, class: &str, points: &[(f64, f64)], gap: f64) {
        for piece in points.chunk_by(|a, b| b.0 - a.0 <= gap) {
            if let [(x, y)] = piece {
                let (x, y) = (self.at_x(*x), self.at_y(*y));
                let _ = write!(self.svg, "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\"/>");
                continue;
            }
            let _ = write!(self.svg, "<path class=\"line {class}\" d=\"");
            for (place, (x, y)) in piece.iter().enumerate() {
                let command = if place == 0 { 'M' } else { 'L' };
                let (x, y) = (self.at_x(*x), self.at_y(*y));
                let _ = write!(self.svg, "{command}{x:.1} {y:.1}");
            }
            self.svg.push_str("\"/>");
        }
    }

    /// The area between lower and upper values, broken where `gap` is exceeded; one place alone is an upright stroke.
    pub fn area(&mut self, class: &str, places: &[(f64, f64, f64)], gap: f64) {
        for piece in places.chunk_by(|a, b| b.0 - a.0 <= gap) {
            let _ = write!(self.svg, "<path class=\"band {class}\" d=\"");
            let uppers = piece.iter().map(|(x, _, upper)| (*x, *upper));
            let lowers = piece.iter().rev().map(|(x, lower, _)| (*x, *lower));
            for (place, (x, y)) in uppers.chain(lowers).enumerate() {
                let command = if place == 0 { 'M' } else { 'L' };
                let (x, y) = (self.at_x(x), self.at_y(y));
                let _ = write!(self.svg, "{command}{x:.1} {y:.1}");
            }
            self.svg.push_str("Z\"/>");
        }
    }

    /// An outline over neighbouring columns (from, to, value), filled down to the axis.
    pub fn steps(&mut self, class: &str, columns: &[(f64, f64, f64)]) {
        let Some((first, last)) = columns.first().zip(columns.last()) else { return };
        let (left, right, ground) = (self.at_x(first.0), self.at_x(last.1), self.at_y(0.0));
        let _ = write!(self.svg, "<path class=\"steps {class}\" d=\"M{left:.1} {ground:.1}");
        for (_, to, value) in columns {
            let (x, y) = (self.at_x(*to), self.at_y(*value));
            let _ = write!(self.svg, "V{y:.1}H{x:.1}");
        }
        let _ = write!(self.svg, "V{ground:.1}H{right:.1}\"/>");
    }

    /// A rectangle between two places of each axis, with words that a pointer on it shows.
    pub fn bar(&mut self, class: &str, x: (f64, f64), y: (f64, f64), words: &str) {
        let (left, right) = (self.at_x(x.0), self.at_x(x.1));
        let (bottom, top) = (self.at_y(y.0), self.at_y(y.1));
        self.rectangle(class, (left, top), (right - left, bottom - top), words);
    }

    /// A rectangle in units of the picture.
    pub fn rectangle(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64), words: &str) {
        let _ = write!(
            self.svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\">",
            width.max(0.5),
            height.max(0.0)
        );
        if !words.is_empty() {
            let _ = write!(self.svg, "<title>{}</title>", escaped(words));
        }
        self.svg.push_str("</rect>");
    }

    /// The picture.
    pub fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// Round values within a range, about so many.
pub fn ticks((low, high): (f64, f64), about: u32) -> Vec<f64> {
    let raw = (high - low) / f64::from(about);
    if !raw.is_finite() || raw <= 0.0 {
        return Vec::new();
    }
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|step| step * power >= raw).unwrap_or(10.0) * power;
    let first = (low / step).ceil();
    // Multiples, so that zero is zero.
    (0..=2 * i64::from(about))
        .map(|place| (first + place as f64) * step)
        .take_while(|tick| *tick <= high + step * 1e-9)
        .collect()
}

/// Times with labels within a span, at most so many.
fn time_ticks(from_ms: i64, to_ms: i64, most: i64) -> Vec<(i64, String)> {
    let steps = [1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 720, 1_440, 2_160, 4_320, 8_760, 17_520, 43_800, 87_600];
    let span_ms = to_ms - from_ms;
    let step_ms = steps.into_iter().map(|hours| hours * HOUR_MS).find(|step_ms| span_ms / step_ms <= most);
    let step_ms = step_ms.unwrap_or(span_ms.max(1));
    let format = match step_ms {
        short if short < DAY_MS && span_ms <= DAY_MS => "%H:%M",
        short if short < DAY_MS => "%-d %b %H:%M",
        days if days < 300 * DAY_MS && span_ms < 300 * DAY_MS => "%-d %b",
        _ => "%b %Y",
    };
    let first = from_ms.div_euclid(step_ms) + i64::from(from_ms.rem_euclid(step_ms) > 0);
    (first..=to_ms.div_euclid(step_ms))
        .map(|place| {
            let time = DateTime::<Utc>::from_timestamp_millis(place * step_ms).unwrap_or_default();
            (place * step_ms, time.format(format).to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks((0.0, 1.0), 4), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks((-3.0, 17.0), 4), [0.0, 5.0, 10.0, 15.0]);
        assert!(ticks((1.0, 1.0), 4).is_empty() && ticks((0.0, f64::INFINITY), 4).is_empty());
        let days = time_ticks(0, 30 * DAY_MS, 10);
        assert!(days.len() <= 11 && days.len() >= 4, "{days:?}");
        assert_eq!((days[0].1.as_str(), time_ticks(0, 6 * HOUR_MS, 6)[1].1.as_str()), ("1 Jan", "01:00"));
    }

    #[test]
    fn a_line_breaks_at_gaps_and_names_are_escaped() {
        let mut drawing = Drawing::new("<oxygen>", (400.0, 200.0), (0.0, 10.0), (0.0, 1.0));
        drawing.line("a", &[(0.0, 0.0), (1.0, 1.0), (5.0, 0.5), (6.0, 2.0), (9.0, 0.2)], 1.5);
        drawing.bar("b", (0.0, 1.0), (0.0, 1.0), "</title><script>");
        drawing.area("c", &[(0.0, 0.0, 1.0), (1.0, 0.5, 1.0), (9.0, 0.0, 0.5)], 1.5);
        let svg = drawing.finish();
        assert_eq!(svg.matches("<path class=\"band c\"").count(), 2, "{svg}");
        let svg = svg.replace("<path class=\"band", "");
        assert_eq!((svg.matches("<path").count(), svg.matches("<circle").count()), (2, 1), "{svg}");
        assert!(!svg.contains("<oxygen>") && !svg.contains("<script>"), "{svg}");
    }
}
