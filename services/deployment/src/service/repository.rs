//! What the repository API of the Open Inference Protocol does: which models are in this process.

use std::sync::Arc;

use fishy_audit::Outcome;
use fishy_core::{Error, Result};
use serde::Serialize;
use serde_json::json;

use super::Service;
use crate::events;

/// One version of one model, as the index lists it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Indexed {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) state: &'static str,
    pub(crate) reason: String,
}

impl Service {
    /// All models by name, with the candidates of their traffic.
    pub(crate) fn index(&self, only_ready: bool) -> Vec<Indexed> {
        let mut all = Vec::new();
        for (name, slot) in self.slots.load().iter() {
            let ready = |version: &str| Indexed {
                name: name.clone(),
                version: version.to_owned(),
                state: "READY",
                reason: String::new(),
            };
            match slot.live() {
                Some(live) => all.push(ready(&live.revision.version)),
                None if only_ready => {}
                None if slot.is_available() => all.push(Indexed {
                    name: name.clone(),
                    version: slot.revision().map(|revision| revision.version).unwrap_or_default(),
                    state: "UNAVAILABLE",
                    reason: "not in memory: the next request loads it".to_owned(),
                }),
                None => all.push(Indexed {
                    name: name.clone(),
                    version: String::new(),
                    state: "UNAVAILABLE",
                    reason: slot.problem().unwrap_or_else(|| "not loaded yet".to_owned()),
                }),
            }
            let traffic = slot.traffic();
            let mut candidates: Vec<Indexed> = traffic
                .iter()
                .flat_map(|traffic| traffic.candidates())
                .map(|live| ready(&live.revision.version))
                .collect();
            candidates.dedup();
            all.extend(candidates);
        }
        for (name, graph) in self.graphs.load().iter() {
            let problem = self.graph_problem(graph);
            if problem.is_none() || !only_ready {
                let state = if problem.is_none() { "READY" } else { "UNAVAILABLE" };
                let (version, reason) = (graph.version(), problem.unwrap_or_default());
                all.push(Indexed { name: name.clone(), version, state, reason });
            }
        }
        all.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        all
    }

    /// Takes a model out of this process, until it is loaded again or the process starts anew.
    pub(crate) async fn unload(&self, actor: &str, name: &str) -> Result<()> {
        self.row(name).await?;
        let slot = self.ensure_slot(name);
        let audit =
            events::audit(&self.env, actor, "deployment:write", name, Outcome::Done, json!({"unloaded": true}))?;
        self.store.emit(&audit).await?;
        let _rollout = slot.rollout.lock().await;
        slot.set_unloaded(true);
        slot.retire();
        slot.set_problem(Some(&Error::unavailable(format!(
            "it was unloaded: load it again with POST /v2/repository/models/{name}/load"
        ))));
        Ok(())
    }

    /// Loads a model again that was unloaded, or looks for a newer version of one that is there.
    pub(crate) async fn load(self: &Arc<Self>, actor: &str, name: &str) -> Result<()> {
        self.row(name).await?;
        let audit = events::audit(&self.env, actor, "deployment:write", name, Outcome::Done, json!({"loaded": true}))?;
        self.store.emit(&audit).await?;
        self.ensure_slot(name).set_unloaded(false);
        let deployment = self.refresh(name).await?;
        match (deployment.current, deployment.problem) {
            (Some(_), None) => Ok(()),
            (Some(_), Some(_)) if deployment.is_loaded => Ok(()),
            (_, problem) => Err(Error::precondition(format!(
                "deployment {name} cannot be loaded: {}",
                problem.unwrap_or_else(|| "it has no revision".to_owned())
            ))),
        }
    }
}
