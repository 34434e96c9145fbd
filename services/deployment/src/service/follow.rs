use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fishy_bus::Bus;
use fishy_contracts::events::{ALIAS_MOVED, AliasMoved, PROMOTION_DECIDED};
use fishy_contracts::governance::Promotion;
use fishy_core::{Error, Event, Result};
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Service;
use crate::domain::ModelUri;
use crate::events::SERVICE;

/// How often a replica looks for revisions that another one made.
const LOOK: Duration = Duration::from_secs(1);
/// A rollout that is waited for is enough; more wishes for it change nothing.
const WAITING: usize = 1024;

/// Hears of moved aliases and decided promotions. The handler only wakes the follower: the alias itself is looked up, so
/// an event that comes twice, late or never does no harm.
pub(crate) async fn subscribe(bus: &Bus) -> Result<mpsc::Receiver<String>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let handler = move |event: Event| {
        let sender = sender.clone();
        async move {
            let unreadable = |error| Error::invalid(format!("event {}: {error}", event.kind));
            let model = match event.kind.as_str() {
                ALIAS_MOVED => serde_json::from_value::<AliasMoved>(event.data).map_err(unreadable)?.model,
                _ => serde_json::from_value::<Promotion>(event.data).map_err(unreadable)?.request.model,
            };
            // A full queue or a stopping service: the poll finds the change.
            let _ = sender.try_send(model);
            Ok(())
        }
        .boxed()
    };
    bus.subscribe(SERVICE, &[ALIAS_MOVED, PROMOTION_DECIDED], Arc::new(handler)).await?;
    Ok(receiver)
}

/// Follows aliases and other replicas until `stop`; then waits for the rollouts that have begun.
pub(crate) async fn follow(
    service: Arc<Service>,
    mut moved: mpsc::Receiver<String>,
    registry_poll: Duration,
    stop: CancellationToken,
) {
    let mut look = interval(LOOK.min(registry_poll));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rollouts = Rollouts::default();
    let mut polled: Option<Instant> = None;
    loop {
        if polled.is_some() && rollouts.running.is_empty() {
            service.is_settled.store(true, Ordering::Relaxed);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Some(model) = moved.recv() => {
                if let Err(error) = rollouts.of_model(&service, &model).await {
                    tracing::warn!(error = error.chain(), "cannot follow a moved alias: the poll will");
                }
            }
            _ = look.tick() => {
                let is_poll = polled.is_none_or(|at| at.elapsed() >= registry_poll);
                if is_poll {
                    polled = Some(Instant::now());
                }
                if let Err(error) = service.sync_graphs().await {
                    tracing::warn!(error = error.chain(), "cannot read the inference graphs");
                }
                if let Err(error) = rollouts.of_all(&service, is_poll).await {
                    tracing::warn!(error = error.chain(), "cannot read the deployments");
                }
                // What was in use when there was no room may be idle now.
                service.keep_budget(None);
            }
            Some(ended) = rollouts.running.join_next() => {
                match ended {
                    Ok(name) => drop(rollouts.names.remove(&name)),
                    Err(error) => {
                        // It does not say which one it was.
                        rollouts.names.clear();
                        tracing::error!(%error, "a rollout failed");
                    }
                }
            }
        }
    }
    while rollouts.running.join_next().await.is_some() {}
}

#[derive(Default)]
struct Rollouts {
    running: JoinSet<String>,
    /// What a look or a poll has begun: a slow registry must not pile up work.
    names: HashSet<String>,
}

impl Rollouts {
    fn begin(&mut self, service: &Arc<Service>, name: String) {
        let service = Arc::clone(service);
        self.running.spawn(async move {
            if let Err(error) = service.roll_out(&name, false).await {
                tracing::warn!(deployment = name, error = error.chain(), "cannot read the deployment");
            }
            name
        });
    }

    async fn of_model(&mut self, service: &Arc<Service>, model: &str) -> Result<()> {
        for row in service.mine().await? {
            if ModelUri::parse(&row.spec.model).is_ok_and(|uri| uri.name == model && uri.alias().is_some()) {
                self.begin(service, row.spec.name);
            }
        }
        Ok(())
    }

    /// Everything when `is_poll`, else what another replica has changed.
    async fn of_all(&mut self, service: &Arc<Service>, is_poll: bool) -> Result<()> {
        let rows = service.mine().await?;
        let known: HashSet<&str> = rows.iter().map(|row| row.spec.name.as_str()).collect();
        let gone: Vec<String> =
            service.slots.load().keys().filter(|name| !known.contains(name.as_str())).cloned().collect();
        for name in gone {
            // Read again within the rollout: it may have been made after the rows were read.
            self.begin(service, name);
        }
        for row in rows {
            let slot = service.ensure_slot(&row.spec.name);
            let serves = slot.revision().map(|revision| revision.number);
            let is_changed = slot.seen_settings.swap(row.settings, Ordering::Relaxed) != row.settings;
            let is_behind = row.newest.is_some() && serves != row.newest && !slot.is_unloaded() || is_changed;
            if (is_poll || is_behind) && self.names.insert(row.spec.name.clone()) {
                self.begin(service, row.spec.name);
            }
        }
        Ok(())
    }
}
