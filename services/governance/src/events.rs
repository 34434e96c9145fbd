//! What governance hears: the audit entries of all services.

use std::sync::Arc;

use fishy_audit::Entry;
use fishy_bus::{Bus, Handler};
use fishy_contracts::events::AUDIT_ENTRY;
use fishy_core::{Error, Event, Result};

use crate::service::Governance;

pub async fn subscribe(bus: &Bus, governance: &Arc<Governance>) -> Result<()> {
    let governance = governance.clone();
    let handler: Handler = Arc::new(move |event| {
        let governance = governance.clone();
        Box::pin(async move { append(&governance, event).await })
    });
    bus.subscribe("governance", &[AUDIT_ENTRY], handler).await
}

async fn append(governance: &Governance, event: Event) -> Result<()> {
    let entry: Entry = serde_json::from_value(event.data)
        .map_err(|error| Error::invalid("an audit entry that cannot be read").with_source(error))?;
    governance.append(&entry).await
}
