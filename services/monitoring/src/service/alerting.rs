//! Alerts: written in the transaction of the finding, told to receivers until they have them.

mod sending;

pub use sending::Receivers;

use std::collections::BTreeMap;

use fishy_authz::Identity;
use fishy_contracts::List;
use fishy_contracts::monitoring::{Alert, Silence, SilenceRequest};
use fishy_core::time::{DAY_MS, MINUTE_MS};
use fishy_core::{Error, Result};
use fishy_db::Tx;
use serde_json::json;

use super::{FORGET, Monitoring, gauges};
use crate::domain::alerts::{Finding, silences};
use crate::store;
use crate::store::alerts::Delivery;

/// Alerts, or silences, of one answer.
const MAX_LISTED: usize = 5_000;
/// Silences that have not ended.
const MAX_SILENCES: usize = 1_000;
/// Deliveries that are looked at together.
const MAX_WAITING: usize = 1_000;
/// How long a delivery may take before another process tries it.
const CLAIM_MS: i64 = MINUTE_MS;
/// Pauses after failures: the first, doubled by each further one up to the longest.
const PAUSE_MS: i64 = 1_000;
const LONGEST_PAUSE_MS: i64 = 5 * MINUTE_MS;

impl Monitoring {
    /// An alert begins, unless the same lasts already; what was said of its source before has ended.
    pub(super) async fn raise(&self, tx: &mut Tx, finding: Finding) -> Result<()> {
        let (source, ends_ms) = (finding.source.clone(), finding.starts_ms);
        let alert = finding.into_alert(self.env.new_id());
        let before = store::alerts::open_of(tx, &source).await?;
        if before.iter().any(|before| before.fingerprint == alert.fingerprint) {
            return Ok(());
        }
        for before in before {
            let ends_ms = Some(ends_ms.max(before.starts_ms));
            self.end_alert(tx, &source, Alert { ends_ms, ..before }).await?;
        }
        let is_known = store::alerts::is_open(tx, &alert.fingerprint).await?;
        store::alerts::put(tx, &source, &alert, self.env.now_ms()).await?;
        if !is_known {
            self.enqueue(tx, &alert, false).await?;
        }
        Ok(())
    }

    /// The alerts of a source end.
    pub(super) async fn resolve(&self, tx: &mut Tx, source: &str, ends_ms: i64) -> Result<()> {
        for before in store::alerts::open_of(tx, source).await? {
            let ends_ms = Some(ends_ms.max(before.starts_ms));
            self.end_alert(tx, source, Alert { ends_ms, ..before }).await?;
        }
        Ok(())
    }

    async fn end_alert(&self, tx: &mut Tx, source: &str, ended: Alert) -> Result<()> {
        store::alerts::put(tx, source, &ended, self.env.now_ms()).await?;
        // Another finding with the same labels may keep it up.
        if !store::alerts::is_open(tx, &ended.fingerprint).await? {
            self.enqueue(tx, &ended, true).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, tx: &mut Tx, alert: &Alert, is_resolved: bool) -> Result<()> {
        let now_ms = self.env.now_ms();
        let receivers: Vec<(&str, i64)> = self
            .receivers
            .iter()
            .filter(|(_, receiver)| receiver.wants(alert))
            .map(|(name, receiver)| (name, now_ms + receiver.group_wait_ms()))
            .collect();
        store::alerts::enqueue(tx, &alert.id, is_resolved, &receivers).await?;
        self.alert_wake.notify_one();
        Ok(())
    }

    /// Alerts, newest first.
    pub async fn alerts(&self, is_open: bool) -> Result<List<Alert>> {
        Ok(List { items: store::alerts::list(&self.db, is_open, MAX_LISTED).await?, next_page_token: None })
    }

    /// Silences that have not ended.
    pub async fn silences(&self) -> Result<List<Silence>> {
        let items = store::alerts::silences(&self.db, self.env.now_ms(), MAX_SILENCES).await?;
        Ok(List { items, next_page_token: None })
    }

    /// Silences alerts.
    pub async fn silence(&self, request: SilenceRequest, caller: &Identity) -> Result<Silence> {
        let now_ms = self.env.now_ms();
        silences::check(&request, now_ms)?;
        if store::alerts::silences(&self.db, now_ms, MAX_SILENCES).await?.len() == MAX_SILENCES {
            return Err(Error::exhausted(format!("there are {MAX_SILENCES} silences: end some first")));
        }
        let silence = Silence {
            id: self.env.new_id(),
            matchers: request.matchers,
            starts_ms: request.starts_ms.unwrap_or(now_ms),
            ends_ms: request.ends_ms,
            created_by: caller.to_string(),
            comment: request.comment,
        };
        let mut tx = self.db.begin().await?;
        store::alerts::put_silence(&mut tx, &silence).await?;
        let resource = format!("silences/{}", silence.id);
        self.audit(&mut tx, &caller.to_string(), "monitoring:silence", &resource, json!(silence)).await?;
        tx.commit().await?;
        Ok(silence)
    }

    /// Ends a silence.
    pub async fn end_silence(&self, id: &str, caller: &Identity) -> Result<Silence> {
        let now_ms = self.env.now_ms();
        let mut tx = self.db.begin().await?;
        let silence = store::alerts::silence(&mut tx, id).await?;
        let silence = silence.ok_or_else(|| Error::not_found(format!("no silence {id:?}")))?;
        let ended = Silence { ends_ms: silence.ends_ms.min(now_ms), ..silence };
        store::alerts::put_silence(&mut tx, &ended).await?;
        store::alerts::wake_all(&mut tx, now_ms).await?;
        let resource = format!("silences/{id}");
        self.audit(&mut tx, &caller.to_string(), "monitoring:end_silence", &resource, json!(ended)).await?;
        tx.commit().await?;
        self.alert_wake.notify_one();
        Ok(ended)
    }

    /// Deletes some of the alerts and silences that ended long ago, and of what receivers that are gone were to be told;
    /// gives whether there may be more.
    pub(super) async fn forget_old_alerts(&self) -> Result<bool> {
        let before_ms = self.env.now_ms() - self.config.alert_retention_days.max(1).saturating_mul(DAY_MS);
        let receivers: Vec<&str> = self.receivers.iter().map(|(name, _)| name).collect();
        let alerts = store::retention::ended_alerts(&self.db, before_ms, FORGET).await?;
        let silences = store::retention::ended_silences(&self.db, before_ms, FORGET).await?;
        let orphaned = store::retention::orphaned(&self.db, &receivers, before_ms, FORGET).await?;
        if alerts.is_empty() && silences.is_empty() && orphaned.is_empty() {
            return Ok(false);
        }
        let mut tx = self.db.begin().await?;
        let untold = store::retention::purge_alerts(&mut tx, &alerts).await?;
        store::retention::purge_silences(&mut tx, &silences).await?;
        store::retention::purge_deliveries(&mut tx, &orphaned).await?;
        tx.commit().await?;
        if untold > 0 {
            tracing::warn!(messages = untold, "a receiver was away for so long that it is not told of alerts any more");
        }
        Ok([alerts.len(), silences.len(), orphaned.len()].contains(&FORGET))
    }

    /// Waits until there is something to tell.
    pub async fn alert_woken(&self) {
        self.alert_wake.notified().await;
    }

    /// Tells every receiver what is due.
    pub async fn tell_receivers(&self) {
        for (name, receiver) in self.receivers.iter() {
            if let Err(error) = self.tell(name, receiver).await {
                tracing::warn!(receiver = name, error = error.chain(), "cannot look after the alerts of a receiver");
            }
        }
        match store::alerts::count_open(&self.db).await {
            Ok(count) => gauges::open_alerts(count),
            Err(error) => tracing::warn!(error = error.chain(), "cannot count the alerts"),
        }
    }

    async fn tell(&self, name: &str, receiver: &sending::Receiver) -> Result<()> {
        let waiting = store::alerts::waiting(&self.db, name, MAX_WAITING).await?;
        gauges::waiting_alerts(name, waiting.len());
        let now_ms = self.env.now_ms();
        let silences = store::alerts::silences(&self.db, now_ms, MAX_SILENCES).await?;
        let mut groups: BTreeMap<Vec<(String, String)>, Vec<&Delivery>> = BTreeMap::new();
        for delivery in &waiting {
            if let Some(until_ms) = silences::silent_until(&silences, &delivery.alert.labels, now_ms) {
                self.keep_silent(&waiting, delivery, until_ms, now_ms).await?;
            } else {
                groups.entry(receiver.group_of(&delivery.alert)).or_default().push(delivery);
            }
        }
        for (group, deliveries) in groups {
            // The oldest decides: what came since goes with it. What failed before waits for its own time.
            if deliveries.iter().any(|delivery| delivery.due_ms <= now_ms)
                && deliveries.iter().all(|delivery| delivery.attempts == 0 || delivery.due_ms <= now_ms)
            {
                self.deliver(name, receiver, &group, &deliveries).await?;
            }
        }
        if receiver.wants_reminders() {
            self.remind(name, receiver, &silences, &waiting, now_ms).await;
        }
        Ok(())
    }

    /// An alert that began and ended in a silence is never told; one that lasts is told after it.
    async fn keep_silent(&self, all: &[Delivery], delivery: &Delivery, until_ms: i64, now_ms: i64) -> Result<()> {
        let same = all.iter().filter(|other| other.alert.id == delivery.alert.id);
        let untold: Vec<&Delivery> = same.filter(|other| other.attempts == 0).collect();
        let is_over = untold.len() > 1;
        if !is_over && delivery.due_ms > now_ms {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        if is_over {
            store::alerts::done(&mut tx, &untold).await?;
        } else {
            store::alerts::put_off(&mut tx, &[delivery], until_ms).await?;
        }
        tx.commit().await
    }

    async fn deliver(
        &self,
        name: &str,
        receiver: &sending::Receiver,
        group: &[(String, String)],
        deliveries: &[&Delivery],
    ) -> Result<()> {
        let now_ms = self.env.now_ms();
        let mut tx = self.db.begin().await?;
        if !store::alerts::claim(&mut tx, deliveries, now_ms + CLAIM_MS).await? {
            return Ok(());
        }
        tx.commit().await?;
        let sent = receiver.send(name, group, deliveries, now_ms).await;
        let mut tx = self.db.begin().await?;
        match &sent {
            Ok(()) => store::alerts::done(&mut tx, deliveries).await?,
            Err(error) => {
                let attempts = deliveries.iter().map(|delivery| delivery.attempts).max().unwrap_or(0).clamp(0, 20);
                let pause_ms = (PAUSE_MS << attempts).min(LONGEST_PAUSE_MS);
                store::alerts::put_off(&mut tx, deliveries, now_ms + pause_ms).await?;
                tracing::warn!(receiver = name, error = error.chain(), pause_ms, "a receiver did not take alerts");
            }
        }
        tx.commit().await?;
        gauges::notification(name, sent.is_ok());
        Ok(())
    }

    /// An Alertmanager forgets an alert that it does not hear of again.
    async fn remind(
        &self,
        name: &str,
        receiver: &sending::Receiver,
        silences: &[Silence],
        waiting: &[Delivery],
        now_ms: i64,
    ) {
        if !receiver.is_time_to_remind(now_ms) {
            return;
        }
        let open = match store::alerts::list(&self.db, true, MAX_LISTED).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(receiver = name, error = error.chain(), "cannot read the alerts that last");
                return;
            }
        };
        let is_told = |alert: &&Alert| {
            receiver.wants(alert)
                && waiting.iter().all(|delivery| delivery.alert.id != alert.id)
                && silences::silent_until(silences, &alert.labels, now_ms).is_none()
        };
        let told: Vec<&Alert> = open.iter().filter(is_told).collect();
        if let Err(error) = receiver.remind(&told, now_ms).await {
            tracing::warn!(receiver = name, error = error.chain(), "an Alertmanager did not take a reminder");
        }
    }
}
