//! `fishy monitor alerts`, and the silences of alerts.

use anyhow::{Context, Result};
use clap::Args;
use fishy_contracts::monitoring::{Matcher, SilenceRequest};
use fishy_core::Env;
use fishy_core::time::{HOUR_MS, rfc3339};

use super::super::OutputArguments;
use super::super::client::Server;
use crate::output::{Output, json, table};

/// `fishy monitor alerts`
#[derive(Debug, Args)]
pub struct Alerts {
    /// Only those that last.
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl Alerts {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let alerts = self.server.monitoring()?.alerts(self.open).await?.items;
        if self.output.output == Output::Json {
            return json(&alerts);
        }
        let mut rows = table(&["since", "until", "severity", "what to do"]);
        for alert in alerts {
            rows.add_row([
                rfc3339(alert.starts_ms),
                alert.ends_ms.map_or_else(|| "open".to_owned(), rfc3339),
                alert.labels.get("severity").cloned().unwrap_or_default(),
                alert.summary,
            ]);
        }
        println!("{rows}");
        Ok(())
    }
}

/// `fishy monitor silence`
#[derive(Debug, Args)]
pub struct Silence {
    /// A label and its value: `monitor=oxygen`, or `severity!=alert` for any other value. All that are given must hold.
    #[arg(long = "match", required = true)]
    matchers: Vec<String>,
    /// For how many hours.
    #[arg(long, default_value_t = 8.0)]
    hours: f64,
    /// Why.
    #[arg(long, default_value = "")]
    comment: String,
    #[command(flatten)]
    server: Server,
}

fn matcher(text: &str) -> Result<Matcher> {
    let (name, value) = text.split_once('=').with_context(|| format!("{text:?}: use label=value or label!=value"))?;
    let is_equal = !name.ends_with('!');
    Ok(Matcher { name: name.trim_end_matches('!').to_owned(), value: value.to_owned(), is_equal })
}

impl Silence {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let matchers = self.matchers.iter().map(|text| matcher(text)).collect::<Result<_>>()?;
        let ends_ms = Env::system().now_ms() + (self.hours * HOUR_MS as f64) as i64;
        let request = SilenceRequest { matchers, starts_ms: None, ends_ms, comment: self.comment };
        let silence = self.server.monitoring()?.silence(&request).await?;
        println!("silence {} until {}", silence.id, rfc3339(silence.ends_ms));
        Ok(())
    }
}

/// `fishy monitor silences`
#[derive(Debug, Args)]
pub struct Silences {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl Silences {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let silences = self.server.monitoring()?.silences().await?.items;
        if self.output.output == Output::Json {
            return json(&silences);
        }
        let mut rows = table(&["id", "until", "alerts", "by", "why"]);
        for silence in silences {
            let sign = |matcher: &Matcher| if matcher.is_equal { "=" } else { "!=" };
            let matchers: Vec<String> = silence
                .matchers
                .iter()
                .map(|matcher| format!("{}{}{}", matcher.name, sign(matcher), matcher.value))
                .collect();
            rows.add_row([
                silence.id,
                rfc3339(silence.ends_ms),
                matchers.join(", "),
                silence.created_by,
                silence.comment,
            ]);
        }
        println!("{rows}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_read_as_they_are_written() {
        let read = |text: &str| matcher(text).map(|matcher| (matcher.name, matcher.value, matcher.is_equal)).ok();
        assert_eq!(read("monitor=oxygen"), Some(("monitor".into(), "oxygen".into(), true)));
        assert_eq!(read("slice!=pen=7"), Some(("slice".into(), "pen=7".into(), false)));
        assert_eq!(read("monitor"), None);
    }
}
