//! What a report is made of, as the monitoring service tells it.

use anyhow::Result;
use fishy_contracts::MonitoringClient;
use fishy_contracts::monitoring::{Alarm, Alert, CheckWindow, DataFault, MonitorStatus, Overview, Window};
use fishy_core::time::DAY_MS;
use serde::Serialize;
use serde_json::Value;

/// Spans up to this long are shown by hours.
const BY_HOURS_MS: i64 = 3 * DAY_MS;

/// All facts of a report.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// The monitor as it stands now.
    pub monitor: MonitorStatus,
    /// The registered model that the deployment serves now.
    pub model: Option<String>,
    /// Beginning of the span, event time.
    pub from_ms: i64,
    /// Its end (exclusive).
    pub to_ms: i64,
    /// When the report was made (wall clock).
    pub made_ms: i64,
    /// What the rows of the span look like.
    pub overview: Overview,
    /// Days of the span.
    pub days: Vec<Window>,
    /// Its hours, where it is short.
    pub hours: Vec<Window>,
    /// Windows of the checks that end in the span.
    pub checks: Vec<CheckWindow>,
    /// Data faults that touch the span, newest first.
    pub faults: Vec<DataFault>,
    /// Alarms that touch the span, newest first.
    pub alarms: Vec<Alarm>,
    /// Alerts of the monitor that are open now.
    pub alerts: Vec<Alert>,
    /// Decisions of the trigger in the span, newest first.
    pub decisions: Vec<Value>,
}

impl Facts {
    /// The windows that show how it went: hours of a short span, else days.
    pub fn steps(&self) -> &[Window] {
        if self.hours.is_empty() { &self.days } else { &self.hours }
    }
}

/// Asks for them.
pub async fn gather(
    client: &MonitoringClient,
    monitor: MonitorStatus,
    from_ms: i64,
    to_ms: i64,
    made_ms: i64,
) -> Result<Facts> {
    let name = monitor.spec.name.clone();
    let touches =
        |since_ms: i64, until_ms: Option<i64>| since_ms < to_ms && until_ms.is_none_or(|until_ms| until_ms >= from_ms);
    let days = client.windows(&name, "day", from_ms, to_ms).await?.items;
    let hours = if to_ms - from_ms <= BY_HOURS_MS {
        client.windows(&name, "hour", from_ms, to_ms).await?.items
    } else {
        Vec::new()
    };
    // One by one: an answer holds so many windows at most.
    let mut checks = Vec::new();
    for spec in &monitor.spec.checks {
        checks.extend(client.checks(&name, &spec.name, from_ms.saturating_add(1), to_ms).await?.items);
    }
    let mut faults = client.faults(&name, false).await?.items;
    faults.retain(|fault| touches(fault.since_ms, fault.until_ms));
    let mut alarms = client.alarms(&name, false).await?.items;
    alarms.retain(|alarm| touches(alarm.since_ms, alarm.until_ms));
    let mut alerts = client.alerts(true).await?.items;
    alerts.retain(|alert| alert.labels.get("monitor") == Some(&name));
    let mut decisions = client.triggers(&name).await?.items;
    let within =
        |decision: &Value| decision["as_of_ms"].as_i64().is_some_and(|as_of_ms| (from_ms..=to_ms).contains(&as_of_ms));
    decisions.retain(within);
    let overview = client.overview(&name, from_ms, to_ms).await?;
    // What was asked for first may have closed windows: the status of now goes with the figures.
    let monitor = client.status(&name).await?;
    Ok(Facts {
        monitor,
        model: None,
        from_ms,
        to_ms,
        made_ms,
        overview,
        days,
        hours,
        checks,
        faults,
        alarms,
        alerts,
        decisions,
    })
}
