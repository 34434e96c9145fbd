//! Aliases: names that move. A protected one moves only with an approved promotion, whoever asks.

use fishy_authz::Identity;
use fishy_contracts::registry::{ProtectedAlias, Unprotect};
use fishy_core::{Error, ErrorCode, Result, check_name};
use serde_json::json;

use super::models::not_found as model_not_found;
use super::{Asker, Registry, actor};
use crate::domain::names;
use crate::domain::records::ModelVersion;
use crate::domain::webhook::Happening;
use crate::events;
use crate::store::aliases::{self as store, Move};
use crate::store::{models, versions};

/// The longest reason.
const MAX_REASON_CHARS: usize = 1_000;

/// Why an alias is behind the gate, to those whom that hinders.
pub(super) fn protection(deployment: &str) -> String {
    if deployment.is_empty() {
        "is protected".to_owned()
    } else {
        format!("is followed by the gated deployment {deployment:?}")
    }
}

impl Registry {
    /// Lets an alias name a version.
    pub async fn set_alias(&self, asker: &Asker, name: &str, alias: &str, version: &str) -> Result<()> {
        names::check_model_name("name", name)?;
        names::check_new_alias(alias)?;
        let number = names::version_number(version)?;
        // Asked before the transaction: nobody's writes wait for another service. Asked in it again whether that is
        // still all, since the alias may have become protected in between.
        let mut is_allowed = false;
        let mut promotion = None;
        loop {
            let mut tx = self.db.begin().await?;
            if versions::get(&mut tx, name, number).await?.is_none() {
                return Err(if models::exists(&mut tx, name).await? {
                    Error::not_found(format!("Model Version (name={name}, version={version}) not found"))
                } else {
                    model_not_found(name)
                });
            }
            let before = store::version(&mut tx, name, alias).await?;
            let protected = store::protected_for(&mut tx, name, alias).await?;
            if let Some(deployment) = &protected
                && !is_allowed
            {
                tx.rollback().await;
                promotion = self.ask_gate(&asker.who, name, alias, version, deployment).await?;
                is_allowed = true;
                continue;
            }
            if before == Some(number) {
                return Ok(());
            }
            store::set(&mut tx, name, alias, number).await?;
            models::touch(&mut tx, name, self.env.now_ms()).await?;
            let by = asker.by();
            let gate =
                protected.as_deref().map(|deployment| if deployment.is_empty() { "protected" } else { deployment });
            let promotion_id = promotion.as_deref();
            let moved = Move { name, alias, from: before, to: Some(number), by, gate, promotion_id };
            events::alias_moved(&mut tx, self, moved).await?;
            let details = json!({"from": before, "to": number, "deployment": gate, "promotion_id": promotion_id});
            let resource = format!("models/{name}/aliases/{alias}");
            events::audit(&mut tx, self, by.actor, "alias.set", &resource, details).await?;
            let data = json!({"name": name, "alias": alias, "version": number.to_string()});
            self.tell(&mut tx, Happening::AliasCreated, &data).await?;
            return self.commit_told(tx).await;
        }
    }

    /// Asks governance whether a protected alias may move. Answers the promotion that allows it; a refusal is an error,
    /// and an entry of the audit trail.
    async fn ask_gate(
        &self,
        who: &Identity,
        name: &str,
        alias: &str,
        version: &str,
        deployment: &str,
    ) -> Result<Option<String>> {
        let check = self.governance.check_alias(&self.known_as(name), alias, version).await.map_err(|error| {
            tracing::warn!(model = name, alias, version, error = error.chain(), "governance cannot be asked");
            let text = format!(
                "alias {alias:?} of model {name:?} {}, and governance cannot be asked whether it may move: try again later",
                protection(deployment)
            );
            Error::new(ErrorCode::Unavailable, text).with_source(error)
        })?;
        if check.is_allowed {
            return Ok(check.promotion_id);
        }
        let mut tx = self.db.begin().await?;
        let details = json!({"to": version, "deployment": deployment, "reason": check.reason});
        let resource = format!("models/{name}/aliases/{alias}");
        events::audit_denied(&mut tx, self, &actor(who), "alias.set", &resource, details).await?;
        tx.commit().await?;
        Err(Error::denied(format!(
            "alias {alias:?} of model {name:?} {} and may not move to version {version}: {}",
            protection(deployment),
            check.reason
        )))
    }

    pub async fn delete_alias(&self, asker: &Asker, name: &str, alias: &str) -> Result<()> {
        names::check_model_name("name", name)?;
        names::check_alias(alias)?;
        let mut tx = self.db.begin().await?;
        if !models::exists(&mut tx, name).await? {
            return Err(model_not_found(name));
        }
        if let Some(deployment) = store::protected_for(&mut tx, name, alias).await? {
            return Err(Error::denied(format!(
                "cannot delete alias {alias:?} of model {name:?}: it {}",
                protection(&deployment)
            )));
        }
        // As with MLflow, an alias that does not exist is deleted already.
        let Some(before) = store::version(&mut tx, name, alias).await? else { return Ok(()) };
        store::delete(&mut tx, name, alias).await?;
        models::touch(&mut tx, name, self.env.now_ms()).await?;
        let by = asker.by();
        let moved = Move { name, alias, from: Some(before), to: None, by, gate: None, promotion_id: None };
        events::alias_moved(&mut tx, self, moved).await?;
        let resource = format!("models/{name}/aliases/{alias}");
        events::audit(&mut tx, self, by.actor, "alias.delete", &resource, json!({"from": before})).await?;
        self.tell(&mut tx, Happening::AliasDeleted, &json!({"name": name, "alias": alias})).await?;
        self.commit_told(tx).await
    }

    pub async fn version_by_alias(&self, name: &str, alias: &str) -> Result<ModelVersion> {
        names::check_model_name("name", name)?;
        names::check_alias(alias)?;
        let read = &mut &self.db;
        if !models::exists(read, name).await? {
            return Err(model_not_found(name));
        }
        let number = if alias.eq_ignore_ascii_case("latest") {
            let newest = versions::newest(read, name).await?;
            newest.ok_or_else(|| Error::not_found(format!("Latest version not found for model {name}.")))?
        } else {
            let named = store::version(read, name, alias).await?;
            // MLflow's clients look for this code, not for the one of a missing thing.
            named.ok_or_else(|| Error::invalid(format!("Registered model alias {alias} not found.")))?
        };
        let version = versions::get(read, name, number).await?;
        version.ok_or_else(|| Error::not_found(format!("Model Version (name={name}, version={number}) not found")))
    }

    /// Puts an alias behind the promotion gate. The model need not exist yet.
    pub async fn protect_alias(&self, who: &Identity, alias: &ProtectedAlias) -> Result<()> {
        names::check_model_name("model", &alias.model)?;
        names::check_new_alias(&alias.alias)?;
        if !alias.deployment.is_empty() {
            check_name("deployment", &alias.deployment)?;
        }
        let actor = actor(who);
        let mut tx = self.db.begin().await?;
        if !store::protect(&mut tx, alias, &actor, self.env.now_ms()).await? {
            return Ok(());
        }
        let resource = format!("models/{}/aliases/{}", alias.model, alias.alias);
        let details = json!({ "deployment": alias.deployment });
        events::audit(&mut tx, self, &actor, "alias.protect", &resource, details).await?;
        tx.commit().await
    }

    /// Takes an alias out from behind the promotion gate.
    pub async fn unprotect_alias(&self, who: &Identity, free: &Unprotect) -> Result<()> {
        let Unprotect { model, alias, deployment, reason } = free;
        if reason.trim().is_empty() {
            return Err(Error::invalid("taking an alias out from behind the gate needs a reason"));
        }
        names::check_chars("reason", reason, MAX_REASON_CHARS)?;
        let mut tx = self.db.begin().await?;
        if !store::unprotect(&mut tx, model, alias, deployment).await? {
            let of = if deployment.is_empty() { String::new() } else { format!(" for the deployment {deployment:?}") };
            return Err(Error::not_found(format!("alias {alias:?} of model {model:?} is not protected{of}")));
        }
        let resource = format!("models/{model}/aliases/{alias}");
        let details = json!({"deployment": deployment, "reason": reason});
        events::audit(&mut tx, self, &actor(who), "alias.unprotect", &resource, details).await?;
        tx.commit().await
    }

    /// All protected aliases.
    pub async fn protected_aliases(&self) -> Result<Vec<ProtectedAlias>> {
        store::all_protected(&mut &self.db).await
    }
}
