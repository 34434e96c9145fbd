//! `fishy monitor report`: one HTML file that tells how a deployment did in a span of time.

pub(in crate::commands) mod charts;
mod drawing;
mod facts;
pub(in crate::commands) mod html;
mod page;
mod quality;
mod results;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use fishy_contracts::monitoring::MonitorStatus;
use fishy_core::Env;
use fishy_core::time::DAY_MS;

use super::super::client::Server;
use super::time;
use crate::output::json;

/// Days of a report where no beginning is given.
const DAYS: i64 = 30;

/// `fishy monitor report`
#[derive(Debug, Args)]
pub struct Report {
    /// The monitor; may be left out where there is only one, or where `--deployment` has only one.
    name: Option<String>,
    /// The deployment whose monitor it is.
    #[arg(long, conflicts_with = "name")]
    deployment: Option<String>,
    /// From this time on; by default 30 days before the end.
    #[arg(long)]
    from: Option<String>,
    /// Up to this time; by default what the monitor has looked at so far.
    #[arg(long)]
    to: Option<String>,
    /// The file to write, MONITOR-report.html by default; `json` prints the figures instead.
    #[arg(long, value_name = "FILE|json")]
    output: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
}

impl Report {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let client = self.server.monitoring()?;
        let monitor = choose(client.list().await?.items, self.name.as_deref(), self.deployment.as_deref())?;
        let made_ms = Env::system().now_ms();
        // A monitor that has seen nothing yet tells of the time until now.
        let seen_ms = if monitor.watermark_ms > 0 { monitor.watermark_ms } else { made_ms };
        let (from_ms, to_ms) = self.span(seen_ms)?;
        let mut facts = facts::gather(&client, monitor, from_ms, to_ms, made_ms).await?;
        // The report is about monitoring: without the deployment service it only lacks the model's name.
        let deployment = self.server.deployment()?.get(&facts.monitor.spec.deployment).await;
        facts.model = deployment.ok().and_then(|deployment| deployment.current).map(|revision| revision.model);
        let output = self.output.unwrap_or_else(|| PathBuf::from(format!("{}-report.html", facts.monitor.spec.name)));
        if output.as_os_str() == "json" {
            return json(&facts);
        }
        let page = page::page(&facts);
        std::fs::write(&output, &page).with_context(|| format!("writing {}", output.display()))?;
        println!("wrote {} ({} KB)", output.display(), page.len().div_ceil(1_000));
        Ok(())
    }

    fn span(&self, seen_ms: i64) -> Result<(i64, i64)> {
        let to_ms = match &self.to {
            Some(to) => time(to)?,
            None => seen_ms,
        };
        let from_ms = match &self.from {
            Some(from) => time(from)?,
            None => to_ms.saturating_sub(DAYS * DAY_MS).max(0),
        };
        if from_ms >= to_ms {
            bail!("--from is not before --to, which is {} by default", fishy_core::time::rfc3339(seen_ms));
        }
        Ok((from_ms, to_ms))
    }
}

/// The monitor that is meant.
fn choose(monitors: Vec<MonitorStatus>, name: Option<&str>, deployment: Option<&str>) -> Result<MonitorStatus> {
    let names = |monitors: &[MonitorStatus]| {
        monitors.iter().map(|monitor| monitor.spec.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let known = names(&monitors);
    let is_meant = |monitor: &MonitorStatus| {
        name.is_none_or(|name| monitor.spec.name == name)
            && deployment.is_none_or(|deployment| monitor.spec.deployment == deployment)
    };
    let mut meant: Vec<MonitorStatus> = monitors.into_iter().filter(is_meant).collect();
    if meant.len() > 1 {
        bail!("there are several monitors: name one of {}", names(&meant));
    }
    meant.pop().with_context(|| match (name, deployment) {
        _ if known.is_empty() => "there is no monitor yet: make one with fishy monitor apply FILE".to_owned(),
        (Some(name), _) => format!("there is no monitor {name:?}: use one of {known}"),
        (None, Some(deployment)) => format!("no monitor watches deployment {deployment:?}: there are {known}"),
        (None, None) => "there is no monitor".to_owned(),
    })
}
