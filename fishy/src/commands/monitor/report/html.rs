//! Text as HTML: everything that is not ours is escaped here.

use std::fmt::Display;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use fishy_core::time::{DAY_MS, HOUR_MS};

/// Longest text that is shown of a name or a message.
const MAX_CHARS: usize = 300;

/// Escapes a text for an element or an attribute; what is very long is cut.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len().min(4 * MAX_CHARS));
    for (place, letter) in text.chars().enumerate() {
        if place == MAX_CHARS {
            safe.push('…');
            break;
        }
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Signs that would turn the direction of the text after them, and control characters.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

/// The name of a feature for a reader.
pub fn feature_name(feature: &str) -> String {
    match feature {
        "" => "all features together".to_owned(),
        "$output" => "answer".to_owned(),
        "$truth" => "true value".to_owned(),
        "$error" => "absolute error".to_owned(),
        other => escaped(other),
    }
}

/// A number with four significant digits, without zeros at its end.
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e7).contains(&size) {
        return format!("{value:.2e}").replace('-', "−");
    }
    let digits = if size == 0.0 { 0 } else { (3 - size.log10().floor() as i32).clamp(0, 7) };
    let text = format!("{value:.*}", digits as usize);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.replace('-', "−") }
}

/// The same, or a dash.
pub fn figure_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), figure)
}

/// A count with thin gaps between thousands.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A share as per cent.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        tiny if tiny < 0.1 => "< 0.1 %".to_owned(),
        most if most < 100.0 && most > 99.9 => "> 99.9 %".to_owned(),
        share if share < 10.0 => format!("{share:.1} %"),
        share => format!("{share:.0} %"),
    }
}

/// A time in UTC; a midnight is its day.
pub fn moment(time_ms: i64) -> String {
    let format = if time_ms.rem_euclid(DAY_MS) == 0 { "%-d %b %Y" } else { "%-d %b %Y %H:%M" };
    DateTime::<Utc>::from_timestamp_millis(time_ms).unwrap_or_default().format(format).to_string()
}

/// A length of time in its largest units.
pub fn duration(length_ms: i64) -> String {
    let hours = length_ms as f64 / HOUR_MS as f64;
    match hours {
        short if short.abs() < 1.0 => format!("{:.0} min", hours * 60.0),
        short if short.abs() < 48.0 => format!("{} h", figure((hours * 10.0).round() / 10.0)),
        _ => format!("{} days", figure((hours / 2.4).round() / 10.0)),
    }
}

/// A cell of a table: text that is HTML already, and whether it is a number.
pub struct Cell(String, bool);

/// A cell with a text that may be anything.
pub fn text(text: &str) -> Cell {
    Cell(escaped(text), false)
}

/// A cell with a number, right-aligned.
pub fn number(text: impl Display) -> Cell {
    Cell(escaped(&text.to_string()), true)
}

/// A cell of our own HTML.
pub fn ours(html: String) -> Cell {
    Cell(html, false)
}

/// A table; columns whose first cell is a number have their head on the right too.
pub fn table(head: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut html = String::from("<div class=\"scroll\"><table><thead><tr>");
    for (place, name) in head.iter().enumerate() {
        let is_number = rows.first().and_then(|row| row.get(place)).is_some_and(|cell| cell.1);
        let class = if is_number { " class=\"n\"" } else { "" };
        let _ = write!(html, "<th{class}>{}</th>", escaped(name));
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for Cell(cell, is_number) in row {
            let class = if *is_number { " class=\"n\"" } else { "" };
            let _ = write!(html, "<td{class}>{cell}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
    html
}

/// A remark in a section, of our own words.
pub fn note(words: &str) -> String {
    format!("<p class=\"note\">{}</p>", escaped(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        let safe = escaped("<img src=x onerror=\"a('&')\">\u{202e}\u{0}");
        assert_eq!(safe, "&lt;img src=x onerror=&quot;a(&#39;&amp;&#39;)&quot;&gt; ");
        assert!(escaped(&"<".repeat(5_000)).len() < 1_300);
        assert_eq!(feature_name("<b>"), "&lt;b&gt;");
        let cells = table(&["a"], &[vec![text("<script>"), number("<i>")]]);
        assert!(!cells.contains("<script>") && !cells.contains("<i>"), "{cells}");
    }

    #[test]
    fn numbers_are_short_and_keep_what_matters() {
        let told = [0.0, -0.0, 7.5, 0.123_456, 1_234.56, 123_456.7, -3.0, 1e-9, 2.5e12, f64::NAN, 0.999_96];
        let told: Vec<String> = told.into_iter().map(figure).collect();
        assert_eq!(told, ["0", "0", "7.5", "0.1235", "1235", "123457", "−3", "1.00e−9", "2.50e12", "–", "1"]);
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(
            [0.0, 0.000_2, 0.031, 0.5, 0.999_9, 1.0].map(percent).join(" "),
            "0 % < 0.1 % 3.1 % 50 % > 99.9 % 100 %"
        );
        assert_eq!([30 * 60_000, 6 * HOUR_MS, 7 * DAY_MS].map(duration).join(", "), "30 min, 6 h, 7 days");
        assert_eq!([0, HOUR_MS].map(moment).join(", "), "1 Jan 1970, 1 Jan 1970 01:00");
    }
}
