//! Candidates beside the revision that serves: loading them, taking them back, promoting one.

use std::sync::Arc;
use std::time::Instant;

use fishy_audit::Outcome;
use fishy_contracts::deployment::{Deployment, DeploymentSpec, EngineSettings, Revision, TrafficReport, TrafficSpec};
use fishy_contracts::registry::ModelVersion;
use fishy_core::{Error, Result};
use serde_json::json;

use super::Service;
use super::live::{Live, Slot};
use super::rollout::check_signature;
use super::traffic::{Traffic, check_spec};
use crate::domain::ModelUri;
use crate::events;
use crate::store::{DeploymentRow, RevisionRow, StoredTraffic};

impl Service {
    /// Splits or mirrors the requests of a deployment; the candidates are loaded when this answers.
    pub(crate) async fn set_traffic(
        self: &Arc<Self>,
        actor: &str,
        name: &str,
        spec: TrafficSpec,
    ) -> Result<TrafficReport> {
        check_spec(&spec)?;
        let row = self.row(name).await?;
        if spec.shadow.is_some() && self.is_program(name) {
            return Err(Error::precondition(format!(
                "{name:?} is a program, which may do more than answer: it has no shadow; give a candidate a split"
            )));
        }
        // Looked up before anything is kept: a version that does not exist, or that the gate refuses, is the caller's error.
        for version in versions_of(&spec) {
            self.candidate_version(&row, version, spec.splits.iter().any(|split| split.version == version)).await?;
        }
        let details = serde_json::to_value(&spec).unwrap_or_default();
        let stored = StoredTraffic { spec, rolled_back: None };
        let audit =
            events::audit(&self.env, actor, "deployment:write", name, Outcome::Done, json!({"traffic": details}))?;
        self.store.set_setting(name, "traffic", &stored, &audit).await?;
        self.refresh(name).await?;
        self.traffic_report(name).await
    }

    pub(crate) async fn traffic_report(&self, name: &str) -> Result<TrafficReport> {
        self.row(name).await?;
        let slot = self.ensure_slot(name);
        let champion = slot.live();
        if let Some(traffic) = slot.traffic() {
            return Ok(traffic.report(champion.as_deref()));
        }
        let stored = self.store.setting::<StoredTraffic>(name, "traffic").await?.unwrap_or_default();
        Ok(Traffic::new(stored.spec, Vec::new(), None, stored.rolled_back, None).report(champion.as_deref()))
    }

    pub(crate) async fn engine_settings(&self, name: &str) -> Result<EngineSettings> {
        self.row(name).await?;
        Ok(self.store.setting(name, "engine").await?.unwrap_or_default())
    }

    /// Changes how the models of a deployment are run. The model is loaded anew beside the one that serves.
    pub(crate) async fn set_engine(
        self: &Arc<Self>,
        actor: &str,
        name: &str,
        settings: EngineSettings,
    ) -> Result<EngineSettings> {
        self.row(name).await?;
        let is_sane = settings.max_batch_rows >= 1
            && (1..=256).contains(&settings.intra_threads)
            && settings.sessions.is_none_or(|sessions| (1..=256).contains(&sessions));
        if !is_sane {
            return Err(Error::invalid("sessions and intra_threads are 1 to 256, and max_batch_rows is at least 1"));
        }
        let details = json!({"engine": serde_json::to_value(&settings).unwrap_or_default()});
        let audit = events::audit(&self.env, actor, "deployment:write", name, Outcome::Done, details)?;
        self.store.set_setting(name, "engine", &settings, &audit).await?;
        let deployment = self.refresh(name).await?;
        match deployment.problem {
            Some(problem) if self.slot(name).is_none_or(|slot| slot.live().is_none()) => {
                Err(Error::unavailable(problem))
            }
            _ => Ok(settings),
        }
    }

    /// Makes a version the one that serves.
    pub(crate) async fn promote(self: &Arc<Self>, actor: &str, name: &str, version: &str) -> Result<Deployment> {
        let row = self.row(name).await?;
        let target = self.candidate_version(&row, version, true).await?;
        self.serve_version(actor, row, &target.version, "promote").await
    }

    /// Goes back to the version that served before the current one.
    pub(crate) async fn rollback(self: &Arc<Self>, actor: &str, name: &str) -> Result<Deployment> {
        let row = self.row(name).await?;
        let revisions = self.store.revisions(name, 1000).await?;
        let newest =
            revisions.first().ok_or_else(|| Error::precondition(format!("deployment {name} has no revision yet")))?;
        let is_other = |row: &&RevisionRow| {
            row.revision.version != newest.revision.version && row.revision.model == newest.revision.model
        };
        let before = revisions.iter().find(is_other).ok_or_else(|| {
            Error::precondition(format!("no other version than {} has served yet", newest.revision.version))
        })?;
        let version = before.revision.version.clone();
        self.serve_version(actor, row, &version, "rollback").await
    }

    async fn serve_version(
        self: &Arc<Self>,
        actor: &str,
        row: DeploymentRow,
        version: &str,
        what: &str,
    ) -> Result<Deployment> {
        let name = row.spec.name.clone();
        let uri = ModelUri::parse(&row.spec.model)?;
        let details = json!({what: version});
        let audit = events::audit(&self.env, actor, "deployment:write", &name, Outcome::Done, details)?;
        if let Some(alias) = uri.alias() {
            if self.registry.is_foreign() {
                // Ours asks the gate itself before it moves a protected alias.
                let target =
                    ModelVersion { name: uri.name.clone(), version: version.to_owned(), ..ModelVersion::default() };
                self.pass_gate(&row.spec, &target).await?;
            }
            self.registry.set_alias(&uri.name, alias, version).await?;
            self.store.emit(&audit).await?;
        } else {
            let spec = DeploymentSpec { model: format!("models:/{}/{version}", uri.name), ..row.spec };
            self.store.apply(&spec, self.env.now_ms(), &audit).await?;
        }
        // The shares were of a choice that has been made now.
        let stored = self.store.setting::<StoredTraffic>(&name, "traffic").await?.unwrap_or_default();
        if stored.spec != TrafficSpec::default() {
            let audit =
                events::audit(&self.env, actor, "deployment:write", &name, Outcome::Done, json!({"traffic": {}}))?;
            self.store.set_setting(&name, "traffic", &StoredTraffic::default(), &audit).await?;
        }
        let deployment = self.refresh(&name).await?;
        match (&deployment.current, &deployment.problem) {
            (Some(current), _) if current.version == version => Ok(deployment),
            (_, problem) => Err(Error::precondition(format!(
                "version {version} does not serve: {}",
                problem.as_deref().unwrap_or("another change came in between")
            ))),
        }
    }

    /// Ends the splits of a deployment for all replicas, because a canary failed.
    pub(crate) async fn take_back(self: &Arc<Self>, slot: &Slot, reason: &str) {
        metrics::counter!("fishy_deployment_canary_failed_total", "deployment" => slot.name().to_owned()).increment(1);
        tracing::warn!(deployment = slot.name(), reason, "a canary is taken back");
        if let Err(error) = self.try_take_back(slot.name(), reason).await {
            tracing::error!(
                deployment = slot.name(),
                error = error.chain(),
                "cannot record that a canary was taken back"
            );
        }
    }

    async fn try_take_back(self: &Arc<Self>, name: &str, reason: &str) -> Result<()> {
        let stored = self.store.setting::<StoredTraffic>(name, "traffic").await?.unwrap_or_default();
        let spec = TrafficSpec { splits: Vec::new(), canary: None, shadow: stored.spec.shadow };
        let stored = StoredTraffic { spec, rolled_back: Some(reason.to_owned()) };
        let details = json!({"canary_taken_back": reason});
        let audit = events::audit(&self.env, "service:deployment", "deployment:write", name, Outcome::Done, details)?;
        self.store.set_setting(name, "traffic", &stored, &audit).await?;
        self.refresh(name).await.map(drop)
    }

    /// Brings the candidates in this process to what is kept. Part of a rollout, which is one at a time.
    pub(crate) async fn sync_traffic(self: &Arc<Self>, slot: &Arc<Slot>, row: &DeploymentRow) -> Result<()> {
        let stored = self.store.setting::<StoredTraffic>(slot.name(), "traffic").await?.unwrap_or_default();
        let now = slot.traffic();
        if stored == StoredTraffic::default() {
            slot.set_traffic(None);
            return Ok(());
        }
        let mut resolved = Vec::new();
        let mut problem = None;
        for version in versions_of(&stored.spec) {
            let is_split = stored.spec.splits.iter().any(|split| split.version == version);
            let found = match self.candidate_version(row, version, is_split).await {
                Ok(target) => self.candidate(slot, row, &target).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(live) => resolved.push((version.to_owned(), live)),
                Err(error) => problem = Some(format!("candidate {version}: {}", error.message())),
            }
        }
        let find = |version: &str| resolved.iter().find(|(name, _)| name == version).map(|(_, live)| Arc::clone(live));
        let splits: Vec<_> =
            stored.spec.splits.iter().filter_map(|split| Some((find(&split.version)?, split.percent))).collect();
        let shadow = stored.spec.shadow.as_ref().and_then(|shadow| find(&shadow.version));
        let is_same = now.is_some_and(|now| {
            let before: Vec<_> = now.candidates().map(Arc::as_ptr).collect();
            let after: Vec<_> = splits.iter().map(|(live, _)| live).chain(&shadow).map(Arc::as_ptr).collect();
            now.spec == stored.spec
                && now.rolled_back == stored.rolled_back
                && now.problem == problem
                && before == after
        });
        if !is_same {
            slot.set_traffic(Some(Traffic::new(stored.spec, splits, shadow, stored.rolled_back, problem)));
        }
        Ok(())
    }

    pub(super) async fn candidate_version(
        &self,
        row: &DeploymentRow,
        version: &str,
        must_pass: bool,
    ) -> Result<ModelVersion> {
        let uri = ModelUri::parse(&row.spec.model)?;
        let target = match version.strip_prefix('@') {
            Some(alias) => self.registry.version_by_alias(&uri.name, alias).await?.ok_or_else(|| {
                Error::precondition(format!("model {:?} has no alias {alias:?} in the registry", uri.name))
            })?,
            None => self.registry.version(&uri.name, version).await?,
        };
        if must_pass {
            self.pass_gate(&row.spec, &target).await?;
        }
        Ok(target)
    }

    /// The loaded candidate: the one that is there already, or a new one that takes what the serving revision takes.
    pub(super) async fn candidate(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        row: &DeploymentRow,
        target: &ModelVersion,
    ) -> Result<Arc<Live>> {
        let champion = match slot.live() {
            Some(live) => live,
            None => self.wake(slot, Instant::now() + self.patience).await?,
        };
        let settings = self.engine_settings(slot.name()).await?;
        let known = slot.traffic().and_then(|traffic| traffic.of_version(&target.version).cloned());
        if let Some(known) = known.filter(|live| live.settings == settings) {
            return Ok(known);
        }
        let cached = self.fetch(target).await?;
        let loaded = self.loader.load(slot.name(), &cached, &settings).await?;
        let features = loaded.layout.features().to_vec();
        let outputs: Vec<String> = loaded.layout.outputs().iter().map(|spec| spec.name.clone()).collect();
        let current = self.store.revisions(&row.spec.name, 1).await?.pop();
        if let Some(current) = &current {
            check_signature(current, &features, &outputs)?;
        }
        if loaded.layout.inputs() != champion.layout.inputs() {
            return Err(Error::precondition(
                "its inputs have other names, types or shapes than those of the one that serves",
            ));
        }
        let revision = Revision {
            number: 0,
            model: target.name.clone(),
            version: target.version.clone(),
            digest: cached.digest.clone(),
            features,
            tags: target.tag_map(),
            promotion_id: None,
            activated_ms: self.env.now_ms(),
        };
        tracing::info!(deployment = slot.name(), version = target.version, "a candidate is loaded");
        Ok(Arc::new(Live::new(revision, loaded, settings)))
    }
}

/// The versions that a specification names, each once.
fn versions_of(spec: &TrafficSpec) -> Vec<&str> {
    let mut versions: Vec<&str> = Vec::new();
    let named = spec.splits.iter().map(|split| &split.version).chain(spec.shadow.iter().map(|shadow| &shadow.version));
    for version in named {
        if !versions.contains(&version.as_str()) {
            versions.push(version);
        }
    }
    versions
}
