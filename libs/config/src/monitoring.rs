use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Secret;

/// `[monitoring]`: windows, checks, feedback, alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Monitoring {
    /// Items of one ground-truth request at most.
    pub max_ground_truth_items: usize,
    /// How long joined rows are kept, in days of event time.
    pub retention_days: i64,
    /// How long alerts and silences are kept after they have ended, and what a receiver that is no longer configured was to be told, in days.
    pub alert_retention_days: i64,
    /// Who is told of alerts, by name.
    pub receivers: BTreeMap<String, Receiver>,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self {
            max_ground_truth_items: 50_000,
            retention_days: 1_100,
            alert_retention_days: 400,
            receivers: BTreeMap::new(),
        }
    }
}

/// What a receiver speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiverKind {
    /// An Alertmanager: its API v2, at `url`.
    Alertmanager,
    /// Anything that takes the webhooks of an Alertmanager.
    AlertmanagerWebhook,
    /// Our own webhook; with a `secret`, signed.
    Webhook,
    /// E-mail by SMTP: `url` is `smtp://host:25`, `smtp://host:587?tls=required` or `smtps://host:465`.
    Email,
}

/// `[monitoring.receivers.NAME]`: one who is told of alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// What it speaks: `alertmanager`, `alertmanager_webhook`, `webhook` or `email`.
    pub kind: ReceiverKind,
    /// Where it is.
    pub url: String,
    /// User name, where it asks for one.
    #[serde(default)]
    pub username: String,
    /// Password, or the bearer token where there is no user name.
    #[serde(default)]
    pub password: Secret,
    /// Key of the signature of webhooks (HMAC-SHA-256).
    #[serde(default)]
    pub secret: Secret,
    /// Sender of e-mail.
    #[serde(default)]
    pub from: String,
    /// Recipients of e-mail.
    #[serde(default)]
    pub to: Vec<String>,
    /// `warning`: everything; `alert`: only what somebody should act on.
    #[serde(default = "warning")]
    pub severity: String,
    /// Only alerts of these monitors; of all if empty.
    #[serde(default)]
    pub monitors: Vec<String>,
    /// Alerts that agree in these labels come together.
    #[serde(default = "by_monitor")]
    pub group_by: Vec<String>,
    /// How long the first alert of a group waits for others.
    #[serde(default = "group_wait")]
    pub group_wait_seconds: u64,
}

fn warning() -> String {
    "warning".to_owned()
}

fn by_monitor() -> Vec<String> {
    vec!["monitor".to_owned()]
}

const fn group_wait() -> u64 {
    10
}
