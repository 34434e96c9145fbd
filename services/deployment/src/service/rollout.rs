//! From what a deployment should serve to what it serves.

use std::collections::HashSet;
use std::sync::Arc;

use fishy_audit::Outcome;
use fishy_contracts::deployment::{DeploymentSpec, EngineSettings, Revision};
use fishy_contracts::registry::{ModelVersion, ProtectedAlias};
use fishy_core::{Error, ErrorCode, Result};
use serde_json::json;

use super::cache::CachedModel;
use super::live::{Live, Refused, RolloutState, Slot};
use super::loader::LoadedModel;
use super::{CACHED_REVISIONS, Service};
use crate::domain::{ModelUri, Reference};
use crate::events;
use crate::store::{DeploymentRow, RevisionRow};

/// A version that was found unfit is looked at again after this long: somebody may have repaired its files.
const RETRY_REFUSED_MS: i64 = 60_000;
/// A revision that could not be loaded is tried again after this long.
const RETRY_LOAD_MS: i64 = 10_000;
/// So many older revisions are tried at start when the newest cannot be loaded.
const FALL_BACK: i64 = 5;

impl Service {
    /// Loads what served last out of the local cache; needs neither registry nor governance.
    pub(crate) async fn restore(&self) -> Result<()> {
        for row in self.mine().await? {
            let slot = self.ensure_slot(&row.spec.name);
            let mut failure = None;
            let settings: EngineSettings = self.store.setting(&row.spec.name, "engine").await?.unwrap_or_default();
            let revisions = self.store.revisions(&row.spec.name, FALL_BACK).await?;
            if !self.is_loaded_at_start(&row.spec.name, &settings).await? {
                if let Some(newest) = revisions.into_iter().next() {
                    slot.begin_asleep(newest.revision);
                }
                continue;
            }
            for revision in revisions {
                match self.load_cached(&row.spec.name, &revision.revision.digest, &settings).await {
                    Ok(loaded) => {
                        slot.swap(Live::new(revision.revision, loaded, settings.clone()));
                        break;
                    }
                    Err(error) => {
                        let number = revision.revision.number;
                        failure.get_or_insert_with(|| error.context(format_args!("revision {number} does not load")));
                    }
                }
            }
            slot.set_problem(failure.as_ref());
        }
        self.keep_budget(None);
        Ok(())
    }

    async fn load_cached(&self, name: &str, digest: &str, settings: &EngineSettings) -> Result<LoadedModel> {
        let cached = self.cache.find(digest).await?;
        self.loader.load(name, &cached, settings).await
    }

    /// Brings a deployment to where it should be. What stands in the way becomes its problem; the revision that serves goes
    /// on. An error only when not even the deployment could be read.
    pub(crate) async fn roll_out(self: &Arc<Self>, name: &str, is_forced: bool) -> Result<()> {
        if !self.is_mine(name) || self.store.deployment(name).await?.is_none() {
            self.remove_slot(name);
            return Ok(());
        }
        let slot = self.ensure_slot(name);
        let mut state = slot.rollout.lock().await;
        // Read under the lock: what was read before may have changed while another rollout ran.
        let Some(row) = self.store.deployment(name).await? else {
            self.remove_slot(name);
            return Ok(());
        };
        if slot.is_unloaded() {
            return Ok(());
        }
        let mut outcome = self.advance(&slot, &row, &mut state, is_forced).await;
        let synced = self.sync_traffic(&slot, &row).await;
        if outcome.is_ok() {
            outcome = synced;
        }
        slot.end_rollout(&outcome);
        Ok(())
    }

    async fn advance(&self, slot: &Slot, row: &DeploymentRow, state: &mut RolloutState, is_forced: bool) -> Result<()> {
        let mut newest = self.store.revisions(slot.name(), 1).await?.pop();
        let followed = self.take_over(slot, newest.as_ref(), state, is_forced).await;
        let target = match self.target(&row.spec, newest.as_ref(), state).await {
            Ok(Some(target)) => target,
            Ok(None) => return followed,
            Err(error) => return followed.and(Err(error)),
        };
        if newest.as_ref().is_some_and(|row| is_of(&row.revision, &target)) {
            state.refused = None;
            return followed;
        }
        let promotion_id = self.pass_gate(&row.spec, &target).await?;
        if !is_forced
            && let Some(refused) = &state.refused
            && refused.model == target.name
            && refused.version == target.version
            && self.env.now_ms() < refused.until_ms
        {
            return Err(refused.error());
        }
        let introduced = self.introduce(slot, &row.spec, newest.as_ref(), &target, promotion_id).await;
        match introduced {
            Ok(()) => {
                state.refused = None;
                Ok(())
            }
            Err(error) if error.code() == ErrorCode::Conflict => {
                newest = self.store.revisions(slot.name(), 1).await?.pop();
                self.take_over(slot, newest.as_ref(), state, true).await
            }
            Err(error) => Err(self.refuse(slot, &target, state, error).await),
        }
    }

    /// Serves the newest revision, which this process or another replica made.
    async fn take_over(
        &self,
        slot: &Slot,
        newest: Option<&RevisionRow>,
        state: &mut RolloutState,
        is_forced: bool,
    ) -> Result<()> {
        let Some(RevisionRow { revision, .. }) = newest else { return Ok(()) };
        let settings: EngineSettings = self.store.setting(slot.name(), "engine").await?.unwrap_or_default();
        if !is_forced && let Some(asleep) = slot.asleep().filter(|asleep| asleep.revision.number == revision.number) {
            match asleep.failure {
                None => return Ok(()),
                Some(failure) if self.env.now_ms() < failure.until_ms => {
                    return Err(Error::unavailable(failure.message));
                }
                // Tried again without a request: none may come to what is not ready.
                Some(_) => {}
            }
        }
        let is_live = |live: Arc<Live>| live.revision.number == revision.number && live.settings == settings;
        if slot.live().is_some_and(is_live) {
            return Ok(());
        }
        let now_ms = self.env.now_ms();
        if !is_forced
            && now_ms < state.retry_at_ms
            && let Some(problem) = slot.problem()
        {
            return Err(Error::unavailable(problem));
        }
        state.retry_at_ms = now_ms + RETRY_LOAD_MS;
        let loaded = self.load_revision(slot.name(), revision, &settings).await?;
        let live = Live::new(revision.clone(), loaded, settings);
        self.memory.touch(&live);
        slot.swap(live);
        self.keep_budget(Some(slot.name()));
        state.retry_at_ms = 0;
        tracing::info!(deployment = slot.name(), revision = revision.number, version = revision.version, "serving");
        Ok(())
    }

    /// Loads a revision out of the local cache, else out of the registry.
    pub(super) async fn load_revision(
        &self,
        name: &str,
        revision: &Revision,
        settings: &EngineSettings,
    ) -> Result<LoadedModel> {
        match self.load_cached(name, &revision.digest, settings).await {
            Ok(loaded) => Ok(loaded),
            Err(_) => self.load_fetched(name, revision, settings).await.map_err(|error| {
                error.context(format_args!("revision {} of {name} cannot be loaded", revision.number))
            }),
        }
    }

    async fn load_fetched(&self, name: &str, revision: &Revision, settings: &EngineSettings) -> Result<LoadedModel> {
        let version = self.registry.version(&revision.model, &revision.version).await?;
        let cached = self.cache.fetch(&self.registry, &version).await?;
        if cached.digest != revision.digest {
            return Err(Error::precondition(format!(
                "the files of version {} of model {} have changed since: their digest is {}, and was {}",
                revision.version, revision.model, cached.digest, revision.digest
            )));
        }
        self.loader.load(name, &cached, settings).await
    }

    /// Fetches the files of a version. A foreign registry keeps no checksums: then they must be those that were served
    /// before under the same name, by any replica.
    pub(super) async fn fetch(&self, target: &ModelVersion) -> Result<CachedModel> {
        let cached = self.cache.fetch(&self.registry, target).await?;
        if self.registry.is_foreign()
            && let Some(before) = self.store.digest_of(&target.name, &target.version).await?
            && before != cached.digest
        {
            self.cache.forget(target).await?;
            return Err(Error::precondition(format!(
                "the files of version {} of model {} have changed since they were served first: their digest is {}, and \
                 was {before}",
                target.version, target.name, cached.digest
            )));
        }
        Ok(cached)
    }

    /// The version that should serve; `None` when it is fixed and serves already.
    async fn target(
        &self,
        spec: &DeploymentSpec,
        newest: Option<&RevisionRow>,
        state: &mut RolloutState,
    ) -> Result<Option<ModelVersion>> {
        let uri = ModelUri::parse(&spec.model)?;
        let alias = match &uri.reference {
            Reference::Version(version) => {
                let serves = |row: &RevisionRow| row.revision.model == uri.name && row.revision.version == *version;
                if newest.is_some_and(serves) {
                    return Ok(None);
                }
                return self.registry.version(&uri.name, version).await.map(Some);
            }
            Reference::Alias(alias) => alias,
        };
        if spec.is_gated && state.protected.as_deref() != Some(&spec.model) {
            let protected =
                ProtectedAlias { model: uri.name.clone(), alias: alias.clone(), deployment: spec.name.clone() };
            if !self.registry.protect_alias(&protected).await? {
                tracing::warn!(
                    deployment = spec.name,
                    model = spec.model,
                    "the registry cannot protect aliases: the gate is kept by the deployment alone"
                );
            }
            state.protected = Some(spec.model.clone());
        }
        let found = self.registry.version_by_alias(&uri.name, alias).await?;
        let found = found.ok_or_else(|| {
            Error::precondition(format!("model {:?} has no alias {alias:?} in the registry yet", uri.name))
        })?;
        if !matches!(found.status.as_str(), "" | "READY") {
            let status = &found.status;
            return Err(Error::precondition(format!("version {} of {} is {status}", found.version, uri.name)));
        }
        Ok(Some(found))
    }

    /// The promotion that lets a version through; `None` where no gate is.
    pub(super) async fn pass_gate(&self, spec: &DeploymentSpec, target: &ModelVersion) -> Result<Option<String>> {
        let uri = ModelUri::parse(&spec.model)?;
        let Some(alias) = uri.alias().filter(|_| spec.is_gated) else { return Ok(None) };
        let check = self.governance.check_alias(&target.name, alias, &target.version).await?;
        if check.is_allowed {
            return Ok(check.promotion_id);
        }
        Err(Error::denied(format!(
            "version {} of {} is not rolled out: the gate does not let it through: {}",
            target.version, target.name, check.reason
        )))
    }

    async fn introduce(
        &self,
        slot: &Slot,
        spec: &DeploymentSpec,
        newest: Option<&RevisionRow>,
        target: &ModelVersion,
        promotion_id: Option<String>,
    ) -> Result<()> {
        let cached = self.fetch(target).await?;
        let settings: EngineSettings = self.store.setting(&spec.name, "engine").await?.unwrap_or_default();
        let loaded = self.loader.load(&spec.name, &cached, &settings).await?;
        let features = loaded.layout.features().to_vec();
        let outputs: Vec<String> = loaded.layout.outputs().iter().map(|spec| spec.name.clone()).collect();
        if let Some(newest) = newest {
            check_signature(newest, &features, &outputs)?;
        }
        let revision = Revision {
            number: self.store.next_number(&spec.name).await?,
            model: target.name.clone(),
            version: target.version.clone(),
            digest: cached.digest.clone(),
            features,
            tags: target.tag_map(),
            promotion_id,
            activated_ms: self.env.now_ms(),
        };
        let details = json!({
            "revision": revision.number,
            "model": revision.model,
            "version": revision.version,
            "digest": revision.digest,
            "promotion_id": revision.promotion_id,
            "replaces": newest.map(|row| row.revision.number),
        });
        let events = [
            events::activated(&self.env, spec, &revision)?,
            events::audit(&self.env, ACTOR, "deployment:activate", &spec.name, Outcome::Done, details)?,
        ];
        let row = RevisionRow { revision, outputs };
        let before = newest.map(|row| row.revision.number);
        self.store.activate(spec, before, &row, &events).await?;
        let revision = row.revision;
        tracing::info!(deployment = spec.name, revision = revision.number, version = revision.version, "rolled out");
        let live = Live::new(revision, loaded, settings);
        self.memory.touch(&live);
        slot.swap(live);
        self.keep_budget(Some(slot.name()));
        let used: HashSet<String> = self.store.digests_in_use(CACHED_REVISIONS).await?.into_iter().collect();
        if let Err(error) = self.cache.clean(used).await {
            tracing::warn!(error = error.chain(), "cannot clean the model cache");
        }
        Ok(())
    }

    /// Remembers that a version is unfit, and writes it to the audit trail, once.
    async fn refuse(&self, slot: &Slot, target: &ModelVersion, state: &mut RolloutState, error: Error) -> Error {
        if error.is_retryable() {
            return error;
        }
        let what = format!("version {} of {} is not rolled out", target.version, target.name);
        let error = error.context(what);
        metrics::counter!("fishy_deployment_refused_total", "deployment" => slot.name().to_owned()).increment(1);
        let is_known =
            state.refused.as_ref().is_some_and(|known| known.model == target.name && known.version == target.version);
        if !is_known {
            let details = json!({"model": target.name, "version": target.version, "reason": error.message()});
            let entry = events::audit(&self.env, ACTOR, "deployment:activate", slot.name(), Outcome::Failed, details);
            let written = match entry {
                Ok(entry) => self.store.emit(&entry).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                tracing::warn!(error = error.chain(), "cannot write an audit entry about a refused version");
            }
        }
        state.refused = Some(Refused {
            model: target.name.clone(),
            version: target.version.clone(),
            until_ms: self.env.now_ms() + RETRY_REFUSED_MS,
            code: error.code(),
            message: error.message().to_owned(),
        });
        error
    }
}

/// Who rolls out: the service itself, whoever moved the alias.
const ACTOR: &str = "service:deployment";

fn is_of(revision: &Revision, version: &ModelVersion) -> bool {
    revision.model == version.name && revision.version == version.version
}

/// Callers must not notice which revision answers: the features stay, and so does the number of outputs.
pub(super) fn check_signature(current: &RevisionRow, features: &[String], outputs: &[String]) -> Result<()> {
    let number = current.revision.number;
    if current.revision.features != features {
        return Err(Error::precondition(format!(
            "its signature is another one: it takes the features {}, and revision {number} takes {}",
            features.join(", "),
            current.revision.features.join(", ")
        )));
    }
    if current.outputs.len() != outputs.len() {
        return Err(Error::precondition(format!(
            "its signature is another one: it gives {}, and revision {number} gives {}",
            outputs.join(", "),
            current.outputs.join(", ")
        )));
    }
    Ok(())
}
