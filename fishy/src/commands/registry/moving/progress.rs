//! How far a copy is, and what became of each thing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use reqwest::StatusCode;

use super::door::{Refusal, is_status};
use super::report::Report;

/// A bar for a person, and the report.
pub struct Progress {
    bar: ProgressBar,
    report: Mutex<Report>,
}

impl Progress {
    /// At the beginning.
    pub fn new(bar: ProgressBar, report: Report) -> Self {
        Self { bar, report: Mutex::new(report) }
    }

    /// So many things more were found.
    pub fn more(&self, count: usize) {
        self.bar.inc_length(count as u64);
    }

    /// The report so far.
    pub fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what became of a thing. What was refused is a problem of that thing; all else ends the copy.
    pub fn done(&self, kind: &'static str, id: &str, copied: Result<bool>) -> Result<bool> {
        self.bar.inc(1);
        self.bar.set_message(format!("{kind} {id}"));
        let mut report = self.report();
        report.count(kind).found += 1;
        match copied {
            Ok(true) => report.count(kind).copied += 1,
            Ok(false) => report.count(kind).unchanged += 1,
            Err(error) if is_status(&error, StatusCode::UNAUTHORIZED) => return Err(error),
            Err(error) if error.is::<Refusal>() => {
                report.fail(kind, id, &error);
                return Ok(false);
            }
            Err(error) => return Err(error).with_context(|| format!("{kind} {id}")),
        }
        Ok(true)
    }

    /// The report at the end.
    pub fn end(self) -> Report {
        self.bar.finish_and_clear();
        self.report.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
