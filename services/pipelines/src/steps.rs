//! What each kind of step does. Every step may be begun again after a crash, and then does the same.

mod command;
mod evaluate;
mod gate;
mod promote;
mod register;
mod replay;

use std::path::PathBuf;

use fishy_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::domain::definition::{Definition, StepSpec};
use crate::service::Service;
use crate::store::StoredRun;

pub use evaluate::{Compared, Evaluation};
pub use register::Registered;

/// What a step works with.
pub struct StepContext<'a> {
    /// The service and its clients.
    pub service: &'a Service,
    /// The pipeline as it was when the run was started.
    pub definition: &'a Definition,
    /// The run, with the outputs of earlier steps.
    pub stored: &'a StoredRun,
    /// Cancelled when the step shall stop.
    pub stop: &'a CancellationToken,
}

/// How a try of a step ended, if not with an error.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Well, with what it gives to later steps.
    Done(Value),
    /// Well, but the gate said no.
    Rejected(Value),
    /// It needs somebody's decision.
    Waiting(Value),
    /// It was told to stop.
    Stopped,
}

/// Tries a step once.
pub async fn run(context: &StepContext<'_>, spec: &StepSpec, position: usize, number: u32) -> Result<Outcome> {
    let step = async {
        match spec {
            StepSpec::Command(command) => command::run(context, command, number).await,
            StepSpec::Register { .. } => register::run(context, position).await,
            StepSpec::Evaluate { metric, .. } => evaluate::run(context, *metric).await,
            StepSpec::Gate { .. } => gate::run(context).await,
            StepSpec::Promote { timeout_s, .. } => promote::run(context, *timeout_s).await,
        }
    };
    if matches!(spec, StepSpec::Command(_)) {
        // It ends its child itself when it is told to stop.
        return step.await;
    }
    tokio::select! {
        outcome = step => outcome,
        () = context.stop.cancelled() => Ok(Outcome::Stopped),
    }
}

impl StepContext<'_> {
    /// The run's folder.
    fn folder(&self) -> PathBuf {
        self.service.run_folder(&self.stored.run.id)
    }

    /// What the step of a kind that comes once has given.
    fn outputs<T: DeserializeOwned>(&self, kind: &str) -> Result<T> {
        let step = self.stored.run.steps.iter().find(|step| step.kind == kind);
        let outputs = step.map(|step| step.outputs.clone()).unwrap_or_default();
        serde_json::from_value(outputs)
            .map_err(|error| Error::internal(format!("the outputs of step {kind:?} cannot be read")).with_source(error))
    }
}

/// Outputs as they are kept.
fn outputs_of(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::internal("outputs cannot be written").with_source(error))
}
