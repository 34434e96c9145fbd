//! Registered models.

use fishy_core::{Error, Result};
use fishy_db::Tx;
use serde_json::{Map, Value, json};

use super::aliases::protection;
use super::holds::check_model_not_held;
use super::{Asker, Registry};
use crate::domain::records::{ModelVersion, Pair, RegisteredModel};
use crate::domain::webhook::Happening;
use crate::domain::{limits, names, stage};
use crate::events;
use crate::store::aliases::{self, Move};
use crate::store::history::{self, Change};
use crate::store::models as store;
use crate::store::versions;

pub(super) fn not_found(name: &str) -> Error {
    Error::not_found(format!("Registered Model with name={name} not found"))
}

pub(super) fn check_tags(tags: &[Pair]) -> Result<()> {
    for tag in tags {
        names::check_key("tag", "key", &tag.key)?;
        names::check_chars("value", &tag.value, limits::REGISTRY_TAG_VALUE_CHARS)?;
    }
    Ok(())
}

/// Tags as an object, the last of each key.
pub(super) fn tag_map(tags: &[Pair]) -> Value {
    tags.iter().map(|tag| (tag.key.clone(), Value::String(tag.value.clone()))).collect::<Map<_, _>>().into()
}

pub(super) fn check_description(description: Option<&str>) -> Result<()> {
    names::check_chars("description", description.unwrap_or(""), limits::DESCRIPTION_CHARS)
}

/// Refuses what would take a protected alias away from behind the promotion gate.
pub(super) async fn check_unprotected(tx: &mut Tx, model: &str, doing: &str) -> Result<()> {
    match aliases::protected_of_model(tx, model).await?.first() {
        Some(protected) => Err(Error::denied(format!(
            "cannot {doing}: its alias {:?} {}",
            protected.alias,
            protection(&protected.deployment)
        ))),
        None => Ok(()),
    }
}

impl Registry {
    pub async fn create_model(
        &self,
        asker: &Asker,
        name: &str,
        description: Option<&str>,
        tags: &[Pair],
    ) -> Result<RegisteredModel> {
        names::check_model_name("name", name)?;
        check_description(description)?;
        check_tags(tags)?;
        let mut tx = self.db.begin().await?;
        store::create(&mut tx, name, description, tags, &asker.who.id, self.env.now_ms()).await?;
        for Pair { key, value } in tags {
            let change = Change { name, version: None, kind: "tag", key, from: None, to: Some(value) };
            history::remember(&mut tx, change, asker.by(), self.env.now_ms()).await?;
        }
        let model = store::get(&mut tx, name).await?.ok_or_else(|| not_found(name))?;
        let data = json!({"name": name, "tags": tag_map(tags), "description": description.unwrap_or("")});
        self.tell(&mut tx, Happening::ModelCreated, &data).await?;
        self.commit_told(tx).await?;
        Ok(model)
    }

    pub async fn model(&self, name: &str) -> Result<RegisteredModel> {
        names::check_model_name("name", name)?;
        store::get(&mut &self.db, name).await?.ok_or_else(|| not_found(name))
    }

    /// The newest version of each stage, or of some.
    pub async fn latest_versions(&self, name: &str, stages: &[String]) -> Result<Vec<ModelVersion>> {
        let stages = stages.iter().map(|stage| stage::canonical(stage)).collect::<Result<Vec<_>>>()?;
        let model = self.model(name).await?;
        let is_wanted = |stage: &str| stages.is_empty() || stages.contains(&stage);
        Ok(model.latest_versions.into_iter().filter(|version| is_wanted(&version.current_stage)).collect())
    }

    pub async fn update_model(&self, name: &str, description: Option<&str>) -> Result<RegisteredModel> {
        check_description(description)?;
        let mut tx = self.db.begin().await?;
        if !store::describe(&mut tx, name, description, self.env.now_ms()).await? {
            return Err(not_found(name));
        }
        let model = store::get(&mut tx, name).await?.ok_or_else(|| not_found(name))?;
        tx.commit().await?;
        Ok(model)
    }

    pub async fn rename_model(&self, asker: &Asker, name: &str, new_name: &str) -> Result<RegisteredModel> {
        names::check_model_name("name", name)?;
        names::check_model_name("new_name", new_name)?;
        let mut tx = self.db.begin().await?;
        if !store::exists(&mut tx, name).await? {
            return Err(not_found(name));
        }
        check_model_not_held(&mut tx, name).await?;
        check_unprotected(&mut tx, name, &format!("rename model {name:?}")).await?;
        // Its aliases would move in without an approval.
        check_unprotected(&mut tx, new_name, &format!("rename model {name:?} to {new_name:?}")).await?;
        let moved = aliases::of_model(&mut tx, name).await?;
        store::rename(&mut tx, name, new_name, self.env.now_ms()).await?;
        let by = asker.by();
        for (alias, version) in moved {
            let (gate, promotion_id) = (None, None);
            let left = Move { name, alias: &alias, from: Some(version), to: None, by, gate, promotion_id };
            events::alias_moved(&mut tx, self, left).await?;
            let came = Move { name: new_name, from: None, to: Some(version), ..left };
            events::alias_moved(&mut tx, self, came).await?;
        }
        let details = json!({"to": new_name});
        events::audit(&mut tx, self, by.actor, "model.rename", &format!("models/{name}"), details).await?;
        let model = store::get(&mut tx, new_name).await?.ok_or_else(|| not_found(new_name))?;
        tx.commit().await?;
        Ok(model)
    }

    pub async fn delete_model(&self, asker: &Asker, name: &str) -> Result<()> {
        names::check_model_name("name", name)?;
        let mut tx = self.db.begin().await?;
        if !store::exists(&mut tx, name).await? {
            return Err(not_found(name));
        }
        check_model_not_held(&mut tx, name).await?;
        check_unprotected(&mut tx, name, &format!("delete model {name:?}")).await?;
        let moved = aliases::of_model(&mut tx, name).await?;
        let newest = versions::newest(&mut tx, name).await?;
        store::delete(&mut tx, name).await?;
        let by = asker.by();
        for (alias, version) in moved {
            let (gate, promotion_id) = (None, None);
            let left = Move { name, alias: &alias, from: Some(version), to: None, by, gate, promotion_id };
            events::alias_moved(&mut tx, self, left).await?;
        }
        let details = json!({ "newest_version": newest });
        events::audit(&mut tx, self, by.actor, "model.delete", &format!("models/{name}"), details).await?;
        tx.commit().await
    }

    pub async fn set_model_tag(&self, asker: &Asker, name: &str, tag: Pair) -> Result<()> {
        check_tags(std::slice::from_ref(&tag))?;
        let mut tx = self.db.begin().await?;
        if !store::touch(&mut tx, name, self.env.now_ms()).await? {
            return Err(not_found(name));
        }
        let before = store::tag(&mut tx, name, &tag.key).await?;
        let (from, to) = (before.as_deref(), Some(tag.value.as_str()));
        let change = Change { name, version: None, kind: "tag", key: &tag.key, from, to };
        history::remember(&mut tx, change, asker.by(), self.env.now_ms()).await?;
        store::set_tags(&mut tx, name, &[tag]).await?;
        tx.commit().await
    }

    pub async fn delete_model_tag(&self, asker: &Asker, name: &str, key: &str) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !store::touch(&mut tx, name, self.env.now_ms()).await? {
            return Err(not_found(name));
        }
        let before = store::tag(&mut tx, name, key).await?;
        let change = Change { name, version: None, kind: "tag", key, from: before.as_deref(), to: None };
        history::remember(&mut tx, change, asker.by(), self.env.now_ms()).await?;
        store::delete_tag(&mut tx, name, key).await?;
        tx.commit().await
    }
}
