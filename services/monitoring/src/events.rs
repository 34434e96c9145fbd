//! What monitoring hears: champions, the end of runs, true values, and the prediction stream.

use std::sync::Arc;

use fishy_bus::{Bus, Handler, StreamHandler};
use fishy_contracts::deployment::PREDICTION_STREAM;
use fishy_contracts::events::{GROUND_TRUTH_ARRIVED, REVISION_ACTIVATED, RUN_FINISHED, RevisionActivated, RunFinished};
use fishy_contracts::monitoring::GroundTruth;
use fishy_core::{Error, Event, Result};
use serde::de::DeserializeOwned;

use crate::service::Monitoring;

pub async fn subscribe(bus: &Bus, monitoring: &Arc<Monitoring>) -> Result<()> {
    let service = monitoring.clone();
    let handler: Handler = Arc::new(move |event| {
        let service = service.clone();
        Box::pin(async move { handle(&service, event).await })
    });
    bus.subscribe("monitoring", &[REVISION_ACTIVATED, RUN_FINISHED, GROUND_TRUTH_ARRIVED], handler).await?;

    let service = monitoring.clone();
    let handler: StreamHandler = Arc::new(move |offset, batch| {
        let service = service.clone();
        Box::pin(async move { service.ingest(offset, batch).await })
    });
    let after = monitoring.stream_offset().await?;
    bus.stream(PREDICTION_STREAM).await?.consume("monitoring", after, handler).await
}

async fn handle(service: &Monitoring, event: Event) -> Result<()> {
    match event.kind.as_str() {
        REVISION_ACTIVATED => service.champion_changed(&event.id, &data::<RevisionActivated>(&event)?).await,
        RUN_FINISHED => service.run_finished(&event.id, &data::<RunFinished>(&event)?).await,
        // What comes twice is taken once, without a look at the event's id.
        GROUND_TRUTH_ARRIVED => {
            let actor = format!("queue:{}", event.source);
            service.ground_truth(&data::<GroundTruth>(&event)?, &actor).await.map(drop)
        }
        _ => Ok(()),
    }
}

fn data<T: DeserializeOwned>(event: &Event) -> Result<T> {
    serde_json::from_value(event.data.clone())
        .map_err(|error| Error::invalid(format!("event {} of type {}", event.id, event.kind)).with_source(error))
}
