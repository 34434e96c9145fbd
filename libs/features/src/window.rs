use std::collections::VecDeque;

/// The values of one column over the last so many milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    column: String,
    length_ms: i64,
    values: VecDeque<(i64, f64)>,
    sum: f64,
    /// Pushes since the sum was last added up anew, which keeps rounding from piling up.
    since_exact: u32,
}

impl Window {
    pub(crate) fn new(column: &str, length_ms: i64) -> Self {
        Self { column: column.to_owned(), length_ms, values: VecDeque::new(), sum: 0.0, since_exact: 0 }
    }

    pub(crate) fn is_of(&self, column: &str, length_ms: i64) -> bool {
        self.column == column && self.length_ms == length_ms
    }

    pub(crate) fn column(&self) -> &str {
        &self.column
    }

    pub(crate) fn push(&mut self, time_ms: i64, value: Option<f64>) {
        while self.values.front().is_some_and(|(time, _)| *time <= time_ms - self.length_ms) {
            if let Some((_, old)) = self.values.pop_front() {
                self.sum -= old;
            }
        }
        if let Some(value) = value {
            self.values.push_back((time_ms, value));
            self.sum += value;
        }
        self.since_exact += 1;
        if self.since_exact >= 1024 {
            self.sum = self.values.iter().map(|(_, value)| value).sum();
            self.since_exact = 0;
        }
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        (!self.values.is_empty()).then(|| self.sum / self.values.len() as f64)
    }

    pub(crate) fn range(&self) -> Option<f64> {
        let mut values = self.values.iter().map(|(_, value)| *value);
        let first = values.next()?;
        let (low, high) = values.fold((first, first), |(low, high), value| (low.min(value), high.max(value)));
        Some(high - low)
    }
}
