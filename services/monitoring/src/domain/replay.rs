//! Comparing figures with those that were computed live.

use std::collections::{BTreeMap, BTreeSet};

use fishy_contracts::monitoring::{CheckWindow, Difference, Replay, Window};
use serde_json::Value;

/// Differences that are told.
const MAX_DIFFERENCES: usize = 100;

/// A window by name and end, with its figures by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    pub window: String,
    pub end_ms: i64,
    pub by_name: BTreeMap<String, Value>,
}

impl Figures {
    /// Of an hour or a day.
    pub fn of_window(window: &Window, length_ms: i64) -> Self {
        let figures = flat(serde_json::to_value(window).unwrap_or_default());
        Self { window: window.length.clone(), end_ms: window.start_ms + length_ms, by_name: figures }
    }

    /// Of a window of a check.
    pub fn of_check(window: &CheckWindow) -> Self {
        let mut value = serde_json::to_value(window).unwrap_or_default();
        let figures = value.as_object_mut().and_then(|window| window.remove("figures")).unwrap_or_default();
        let mut all = flat(value);
        for figure in figures.as_array().into_iter().flatten() {
            let part = |name: &str| figure[name].as_str().unwrap_or_default();
            let place = [part("test"), part("feature"), part("slice")].join(" ");
            all.extend(flat(figure.clone()).into_iter().map(|(name, value)| (format!("{place} {name}"), value)));
        }
        Self { window: window.check.clone(), end_ms: window.end_ms, by_name: all }
    }
}

/// An object without objects in it: `psi.temp` for what is within `psi`.
fn flat(value: Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let Value::Object(object) = value else { return all };
    for (name, value) in object {
        if value.is_object() {
            all.extend(flat(value).into_iter().map(|(inner, value)| (format!("{name}.{inner}"), value)));
        } else {
            all.insert(name, value);
        }
    }
    all
}

/// Compares windows of one span, and adds to what is known.
pub fn compare(replay: &mut Replay, live: &[Figures], again: &[Figures]) {
    let key = |window: &Figures| (window.window.clone(), window.end_ms);
    let live: BTreeMap<_, &Figures> = live.iter().map(|window| (key(window), window)).collect();
    let again: BTreeMap<_, &Figures> = again.iter().map(|window| (key(window), window)).collect();
    let keys: BTreeSet<_> = live.keys().chain(again.keys()).cloned().collect();
    for key in keys {
        replay.windows += 1;
        let none = BTreeMap::new();
        let (before, now) =
            (live.get(&key).map_or(&none, |w| &w.by_name), again.get(&key).map_or(&none, |w| &w.by_name));
        // JSON keeps every bit of a number.
        if before == now {
            replay.equal += 1;
            continue;
        }
        let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        for name in names.into_iter().filter(|name| before.get(*name) != now.get(*name)) {
            if replay.differences.len() == MAX_DIFFERENCES {
                break;
            }
            let text = |figures: &BTreeMap<String, Value>| figures.get(name).map(Value::to_string).unwrap_or_default();
            replay.differences.push(Difference {
                window: key.0.clone(),
                end_ms: key.1,
                figure: name.clone(),
                live: text(before),
                again: text(now),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_bit_counts_and_missing_windows_too() {
        let window = |end_ms: i64, psi: f64| Figures {
            window: "day".into(),
            end_ms,
            by_name: flat(json!({"psi": {"temp": psi}, "mae": null})),
        };
        let mut replay = Replay::default();
        let next = f64::from_bits(0.1_f64.to_bits() + 1);
        compare(&mut replay, &[window(1, 0.1), window(2, 0.1), window(3, 0.1)], &[window(1, 0.1), window(2, next)]);
        assert_eq!((replay.windows, replay.equal), (3, 1));
        let figures: Vec<_> = replay.differences.iter().map(|found| (found.end_ms, found.figure.as_str())).collect();
        assert_eq!(figures, [(2, "psi.temp"), (3, "mae"), (3, "psi.temp")]);
        assert_eq!((replay.differences[0].live.as_str(), replay.differences[2].again.as_str()), ("0.1", ""));
    }
}
