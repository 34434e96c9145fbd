//! Decides which run is worked on next: by whom it was asked first, as many at once as are configured.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fishy_contracts::governance::PromotionStatus;
use fishy_contracts::pipelines::RunStatus;
use fishy_core::{ErrorCode, Result};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::domain::progress::{backoff, next_step};
use crate::executor::{self, Left, Ticket};
use crate::service::Service;
use crate::store::StoredRun;

/// A run that waits for something: when it is looked at again.
struct Wait {
    failures: u32,
    due: Instant,
}

#[derive(Default)]
struct Scheduler {
    /// Runs that wait, as far as this process knows; a run that is not in here is looked at at once.
    waits: HashMap<String, Wait>,
}

/// Takes a run off the list of those being worked on, also when the work on it panics.
struct OffTheList<'a> {
    service: &'a Service,
    run_id: &'a str,
    ticket: &'a Ticket,
}

impl Drop for OffTheList<'_> {
    fn drop(&mut self) {
        self.service.active().remove(self.run_id);
        self.ticket.is_done.cancel();
    }
}

/// A run, and how it was left.
type Done = (String, Left);

/// Works until the service shall stop; then waits for what is being worked on.
pub async fn work(service: Arc<Service>) {
    let mut scheduler = Scheduler::default();
    let mut tasks: JoinSet<Done> = JoinSet::new();
    let mut tick = tokio::time::interval(service.tick());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = service.stop.cancelled() => break,
            _ = tick.tick() => {
                if let Err(error) = service.start_due().await {
                    tracing::warn!(error = error.chain(), "schedules could not be looked at");
                }
            }
            () = service.wake.notified() => {}
            Some(done) = tasks.join_next() => scheduler.note(&service, done),
        }
        if let Err(error) = scheduler.begin(&service, &mut tasks).await {
            tracing::warn!(error = error.chain(), "runs could not be looked at");
        }
    }
    while let Some(done) = tasks.join_next().await {
        scheduler.note(&service, done);
    }
}

impl Scheduler {
    async fn begin(&mut self, service: &Arc<Service>, tasks: &mut JoinSet<Done>) -> Result<()> {
        let open = service.store.open_runs(service.env.now_ms()).await?;
        self.waits.retain(|id, _| open.iter().any(|(known, _)| known == id));
        for (id, status) in open {
            if service.active().contains_key(&id) {
                continue;
            }
            let is_waiting = status == RunStatus::Waiting;
            if is_waiting {
                if self.waits.get(&id).is_some_and(|wait| wait.due > Instant::now()) {
                    continue;
                }
                let Some(stored) = service.store.run(&id).await? else { continue };
                if waits_at_gate(&stored) {
                    // Asking is cheap, and does not take the place of a run that could work.
                    spawn(service, tasks, id, false);
                    continue;
                }
            }
            let working = service.active().values().filter(|ticket| ticket.has_slot).count();
            if working < service.config.pipelines.max_running.max(1) {
                spawn(service, tasks, id, true);
            }
        }
        Ok(())
    }

    fn note(&mut self, service: &Service, done: std::result::Result<Done, tokio::task::JoinError>) {
        let (run_id, left) = match done {
            Ok(done) => done,
            Err(error) => {
                // Its claim runs out, and then the run is taken up again.
                tracing::error!(%error, "the work on a run broke off");
                return;
            }
        };
        match left {
            Left::Ended | Left::Again => {
                self.waits.remove(&run_id);
            }
            Left::Waiting { is_away } => {
                let wait = self.waits.entry(run_id).or_insert(Wait { failures: 0, due: Instant::now() });
                wait.failures = if is_away { wait.failures + 1 } else { 0 };
                wait.due = Instant::now() + pause(service.tick(), wait.failures);
            }
        }
    }
}

fn spawn(service: &Arc<Service>, tasks: &mut JoinSet<Done>, run_id: String, has_slot: bool) {
    let ticket = Ticket::new(&service.stop, has_slot);
    service.active().insert(run_id.clone(), ticket.clone());
    let service = service.clone();
    tasks.spawn(async move {
        let on_the_list = OffTheList { service: &service, run_id: &run_id, ticket: &ticket };
        let waits = if has_slot { None } else { still_waits(&service, &run_id).await };
        let left = match waits {
            Some(left) => left,
            None => Box::pin(executor::work_on(&service, &run_id, &ticket)).await,
        };
        drop(on_the_list);
        (run_id, left)
    });
}

fn pause(tick: Duration, failures: u32) -> Duration {
    if failures == 0 { tick } else { backoff(tick, failures) }
}

fn waits_at_gate(stored: &StoredRun) -> bool {
    let next = next_step(&stored.run.steps).and_then(|position| stored.run.steps.get(position));
    next.is_some_and(|step| step.kind == "gate") && !stored.is_cancel_requested
}

/// Whether a promotion is still undecided; asked without a claim or a write, since it may be asked for days.
async fn still_waits(service: &Service, run_id: &str) -> Option<Left> {
    match service.governance.promotion(run_id).await {
        Ok(promotion) if promotion.status == PromotionStatus::WaitingForApproval => {
            Some(Left::Waiting { is_away: false })
        }
        Err(error) if error.code() == ErrorCode::Unavailable => Some(Left::Waiting { is_away: true }),
        _ => None,
    }
}
