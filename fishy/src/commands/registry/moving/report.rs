//! What a copy did.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::output::table;

/// Problems that are told one by one; the others are counted.
const TOLD: usize = 200;

/// The things of one kind.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// At the server that was read.
    pub found: u64,
    /// Written now.
    pub copied: u64,
    /// Copied before, and the same since.
    pub unchanged: u64,
    /// Not copied.
    pub failed: u64,
    /// Whole copies that the server that was written to has now, also of what is gone at the other.
    pub here: u64,
}

/// What could not be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// Why.
    pub why: String,
}

/// The whole report.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The server that was read.
    pub source: String,
    /// The server that was written to, where that is the other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// By kind.
    pub counts: BTreeMap<&'static str, Count>,
    /// Measurements that were sent.
    pub points: u64,
    /// Files that were copied; the SHA-256 of each was the same on both sides.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Aliases that were set or deleted.
    pub aliases: u64,
    /// Experiments that have another id at the server that was written to, and versions that have another number.
    pub renumbered: BTreeMap<String, String>,
    /// What could not be copied; the first of them.
    pub problems: Vec<Problem>,
}

impl Report {
    /// The count of a kind.
    pub fn count(&mut self, kind: &'static str) -> &mut Count {
        self.counts.entry(kind).or_default()
    }

    /// Notes what could not be copied.
    pub fn fail(&mut self, kind: &'static str, id: &str, error: &anyhow::Error) {
        self.count(kind).failed += 1;
        if self.problems.len() < TOLD {
            self.problems.push(Problem { kind, id: id.to_owned(), why: format!("{error:#}") });
        }
    }

    /// How many things were not copied, or are missing after all.
    pub fn failures(&self) -> u64 {
        let of =
            |count: &Count| count.failed + (count.found - count.failed.min(count.found)).saturating_sub(count.here);
        self.counts.values().map(of).sum()
    }

    /// For a person.
    pub fn print(&self) {
        let headings = match &self.target {
            None => ["what", "there", "copied", "unchanged", "failed", "whole copies here"],
            Some(_) => ["what", "here", "copied", "unchanged", "failed", "whole copies there"],
        };
        let mut rows = table(&headings);
        for (kind, count) in &self.counts {
            let Count { found, copied, unchanged, failed, here } = count;
            let numbers = [found, copied, unchanged, failed, here].map(u64::to_string);
            rows.add_row(std::iter::once(format!("{}s", kind.replace('_', " "))).chain(numbers));
        }
        println!("{rows}");
        let size = indicatif::HumanBytes(self.bytes);
        println!(
            "{} measurements, {} files ({size}) with the same SHA-256 on both sides, {} aliases moved",
            self.points, self.files, self.aliases
        );
        for (before, after) in &self.renumbered {
            let what = if before.contains('/') { "version" } else { "experiment" };
            let place = self.target.as_deref().unwrap_or("fishy");
            println!("{what} {before} of {} is {what} {after} of {place}", self.source);
        }
        if !self.problems.is_empty() {
            let mut rows = table(&["not copied", "id", "why"]);
            for problem in &self.problems {
                rows.add_row([problem.kind, &problem.id, &problem.why]);
            }
            println!("{rows}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_a_failure() {
        let mut report = Report::default();
        *report.count("run") = Count { found: 5, copied: 4, failed: 1, here: 4, ..Count::default() };
        assert_eq!(report.failures(), 1, "one failed, and all others are here");
        report.count("run").here = 2;
        assert_eq!(report.failures(), 3, "and two of those that were copied are not here");
        report.count("run").here = 9;
        assert_eq!(report.failures(), 1, "copies of what is gone there are no failure");
    }
}
