use std::f64::consts::TAU;

use fishy_core::time::{DAY_MS, HOUR_MS, MINUTE_MS};

use crate::window::Window;

/// How one feature is computed; windows are shared by those that look at the same one.
#[derive(Debug, Clone)]
pub(crate) enum Expression {
    Column(String),
    Mean(String, usize),
    Anomaly(String, usize),
    Range(String, usize),
    HourSin,
    HourCos,
}

impl Expression {
    pub(crate) fn parse(text: &str, windows: &mut Vec<Window>) -> Result<Self, String> {
        let text = text.trim();
        let Some((function, rest)) = text.split_once('(') else {
            return is_column(text).then(|| Self::Column(text.to_owned())).ok_or(format!("{text:?} is no column name"));
        };
        let inner = rest.strip_suffix(')').ok_or("the closing parenthesis is missing")?;
        let arguments: Vec<&str> = inner.split(',').map(str::trim).filter(|argument| !argument.is_empty()).collect();
        match (function.trim(), arguments.as_slice()) {
            ("hour_sin", []) => Ok(Self::HourSin),
            ("hour_cos", []) => Ok(Self::HourCos),
            (name @ ("hour_sin" | "hour_cos"), _) => Err(format!("{name}() takes no argument")),
            (name @ ("mean" | "anomaly" | "range"), [column, length]) if is_column(column) => {
                let length_ms = parse_length(length)?;
                let place = windows.iter().position(|window| window.is_of(column, length_ms)).unwrap_or_else(|| {
                    windows.push(Window::new(column, length_ms));
                    windows.len() - 1
                });
                let column = (*column).to_owned();
                Ok(match name {
                    "mean" => Self::Mean(column, place),
                    "anomaly" => Self::Anomaly(column, place),
                    _ => Self::Range(column, place),
                })
            }
            (name @ ("mean" | "anomaly" | "range"), _) => {
                Err(format!("{name} takes a column and the length of its window: {name}(temp, 24h)"))
            }
            (name, _) => Err(format!("no function {name:?}; there are mean, anomaly, range, hour_sin and hour_cos")),
        }
    }

    pub(crate) fn column(&self) -> Option<&str> {
        match self {
            Self::Column(column) | Self::Mean(column, _) | Self::Anomaly(column, _) | Self::Range(column, _) => {
                Some(column)
            }
            Self::HourSin | Self::HourCos => None,
        }
    }

    pub(crate) fn value(&self, time_ms: i64, value: impl Fn(&str) -> Option<f64>, windows: &[Window]) -> Option<f64> {
        let angle = || (time_ms.rem_euclid(DAY_MS) / HOUR_MS) as f64 / 24.0 * TAU;
        match self {
            Self::Column(column) => value(column),
            Self::Mean(_, place) => windows.get(*place)?.mean(),
            Self::Anomaly(column, place) => Some(value(column)? - windows.get(*place)?.mean()?),
            Self::Range(_, place) => windows.get(*place)?.range(),
            Self::HourSin => Some(angle().sin()),
            Self::HourCos => Some(angle().cos()),
        }
    }
}

fn is_column(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// `90m`, `24h` or `7d` in milliseconds.
fn parse_length(text: &str) -> Result<i64, String> {
    let problem = || format!("{text:?} is no length of time: use for example 90m, 24h or 7d");
    let unit = match text.chars().last() {
        Some('m') => MINUTE_MS,
        Some('h') => HOUR_MS,
        Some('d') => DAY_MS,
        _ => return Err(problem()),
    };
    let count: i64 = text[..text.len() - 1].parse().map_err(|_| problem())?;
    if (1..=1_000_000).contains(&count) { Ok(count * unit) } else { Err(problem()) }
}
