use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use fishy_contracts::registry::{GcReport, GcRequest, Hold, HoldKind, Release};
use fishy_core::time::rfc3339;
use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::OutputArguments;
use crate::commands::client::Server;
use crate::output::{Output, json, table};

/// `fishy registry gc`
#[derive(Debug, Args)]
pub struct Gc {
    /// Only what was deleted at least so long ago, as 30d or 12h30m.
    #[arg(long, default_value = "0s")]
    older_than: String,
    /// Only says what would go.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

/// What can be held.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// An experiment with its runs and logged models.
    Experiment,
    /// A run with the logged models it made.
    Run,
    /// A logged model.
    LoggedModel,
    /// A registered model with its versions.
    Model,
}

impl From<Kind> for HoldKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Experiment => Self::Experiment,
            Kind::Run => Self::Run,
            Kind::LoggedModel => Self::LoggedModel,
            Kind::Model => Self::Model,
        }
    }
}

/// `fishy registry hold` and `fishy registry release`
#[derive(Debug, Args)]
pub struct Held {
    /// What it is.
    kind: Kind,
    /// Its id; the name of a registered model.
    id: String,
    /// Why; it goes into the audit log.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    server: Server,
}

/// `fishy registry holds`
#[derive(Debug, Args)]
pub struct Holds {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

/// Reads a length of time as MLflow's own command takes it: `1d2h3m4s`.
pub(crate) fn length_ms(text: &str) -> Result<i64> {
    let wrong = || format!("{text:?} is no length of time: use 30d, 12h, 5m, 10s, or some of them together");
    let mut total = 0_i64;
    let mut digits = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        let unit = match character {
            'd' => 86_400_000,
            'h' => 3_600_000,
            'm' => 60_000,
            's' => 1_000,
            _ => bail!(wrong()),
        };
        let count: i64 = std::mem::take(&mut digits).parse().with_context(wrong)?;
        total = count.checked_mul(unit).and_then(|ms| total.checked_add(ms)).with_context(wrong)?;
    }
    if !digits.is_empty() || text.is_empty() {
        bail!(wrong());
    }
    Ok(total)
}

fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

impl Gc {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let registry = self.server.registry()?;
        let older_than_ms = length_ms(&self.older_than)?;
        let mut request = GcRequest { older_than_ms, dry_run: self.dry_run, ..GcRequest::default() };
        let mut whole = GcReport::default();
        // Drawn on a terminal only, and beside the answer.
        let progress = ProgressBar::new_spinner();
        progress.set_style(ProgressStyle::with_template("{spinner} {msg}").context("the progress bar")?);
        progress.enable_steady_tick(Duration::from_millis(100));
        loop {
            let step = registry.gc(&request).await?;
            whole.purged.extend(step.purged);
            whole.kept.extend(step.kept);
            whole.files_left = step.files_left;
            let bytes: u64 = whole.purged.iter().map(|thing| thing.bytes).sum();
            progress.set_message(format!("{} things, {}; {} stay", whole.purged.len(), size(bytes), whole.kept.len()));
            if step.next.is_none() {
                break;
            }
            request.next = step.next;
        }
        progress.finish_and_clear();
        if self.output.output == Output::Json {
            return json(&whole);
        }
        self.print(&whole);
        Ok(())
    }

    fn print(&self, report: &GcReport) {
        let mut rows = table(&["what", if self.dry_run { "would go" } else { "gone" }, "files", "size"]);
        for kind in ["logged_model", "run", "experiment", "orphan"] {
            let of_kind: Vec<_> = report.purged.iter().filter(|thing| thing.kind == kind).collect();
            let files: u64 = of_kind.iter().map(|thing| thing.files).sum();
            let bytes: u64 = of_kind.iter().map(|thing| thing.bytes).sum();
            rows.add_row([format!("{kind}s"), of_kind.len().to_string(), files.to_string(), size(bytes)]);
        }
        println!("{rows}");
        if !report.kept.is_empty() {
            let mut rows = table(&["deleted, and stays", "id", "why"]);
            for kept in &report.kept {
                rows.add_row([&kept.kind, &kept.id, &kept.why]);
            }
            println!("{rows}");
        }
        if report.files_left > 0 && !self.dry_run {
            println!("{} files could not be removed yet and are tried again", report.files_left);
        }
    }
}

impl Held {
    /// Holds it.
    pub async fn hold(self) -> Result<()> {
        let Self { kind, id, reason, server } = self;
        let hold = Hold { kind: kind.into(), id, reason, actor: String::new(), time_ms: 0 };
        let hold = server.registry()?.hold(&hold).await?;
        println!("{} is held by {} since {}", hold.id, hold.actor, rfc3339(hold.time_ms));
        Ok(())
    }

    /// Ends the hold.
    pub async fn release(self) -> Result<()> {
        let Self { kind, id, reason, server } = self;
        server.registry()?.release(&Release { kind: kind.into(), id: id.clone(), reason }).await?;
        println!("{id} is not held any more");
        Ok(())
    }
}

impl Holds {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let holds = self.server.registry()?.holds().await?.items;
        if self.output.output == Output::Json {
            return json(&holds);
        }
        let mut rows = table(&["what", "id", "since", "who", "why"]);
        for hold in holds {
            let kind = format!("{:?}", hold.kind);
            rows.add_row([kind, hold.id, rfc3339(hold.time_ms), hold.actor, hold.reason]);
        }
        println!("{rows}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_mlflow_reads_them() {
        assert_eq!(length_ms("30d").unwrap(), 30 * 86_400_000);
        assert_eq!(length_ms("1d2h3m4s").unwrap(), 93_784_000);
        assert_eq!(length_ms("0s").unwrap(), 0);
        for wrong in ["", "7", "d", "1w", "1d2", "-1d", "99999999999999999d", "9223372036854775807s"] {
            assert!(length_ms(wrong).is_err(), "{wrong}");
        }
    }
}
