//! Reads the readings of one sensor as lines of `time_ms,value` and writes, for each, how odd it is and whether a finding
//! covers it: `suspicion,finding`. With a quantity as argument (`temperature`, `ph` …) its physical range counts.

use std::io::{BufRead, BufWriter, Write};

use fishy_core::{Error, Result};
use fishy_drift::{CheckSettings, Quantity, SensorChecks};

fn main() -> Result<()> {
    let wrong = |message: String| Error::invalid(message);
    let quantity = match std::env::args().nth(1) {
        Some(name) => {
            Some(Quantity::from_name(&name).ok_or_else(|| wrong(format!("{name:?} is no quantity that is known")))?)
        }
        None => None,
    };
    let settings = quantity.map_or_else(CheckSettings::default, CheckSettings::for_quantity);
    let mut checks = SensorChecks::new(CheckSettings { suspicion: true, ..settings });
    let (mut times, mut scores, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| wrong(error.to_string()))?;
        let (time, value) = line.split_once(',').ok_or_else(|| wrong(format!("{line:?}: use time_ms,value")))?;
        let time_ms: i64 = time.trim().parse().map_err(|_| wrong(format!("{time:?} is no time in milliseconds")))?;
        let found = checks.push(time_ms, value.trim().parse().ok());
        spans.extend(found.into_iter().filter_map(|finding| Some((finding.since_ms, finding.until_ms?))));
        times.push(time_ms);
        scores.push(checks.suspicion().total());
    }
    spans.extend(checks.open().into_iter().map(|finding| (finding.since_ms, i64::MAX)));
    spans.sort_unstable();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut next, mut until_ms) = (0, i64::MIN);
    for (time_ms, score) in times.into_iter().zip(scores) {
        while let Some(span) = spans.get(next).filter(|span| span.0 <= time_ms) {
            until_ms = until_ms.max(span.1);
            next += 1;
        }
        writeln!(out, "{score},{}", u8::from(time_ms <= until_ms)).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(())
}
