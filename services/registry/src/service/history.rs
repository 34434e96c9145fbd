//! The history of aliases, tags and stages: what was when, and going back to it.

use fishy_contracts::registry::{AliasAt, PastChange, RolledBack};
use fishy_core::{Error, Result};

use super::models::not_found as model_not_found;
use super::{Asker, Registry};
use crate::domain::names;
use crate::store::{aliases, history as store, models, versions};

/// How many changes are told when nobody says how many.
const DEFAULT: i64 = 100;
/// The most changes of one answer.
const MOST: i64 = 10_000;

impl Registry {
    /// What happened to a model, newest first; of one kind and of one key where these are given. It outlives the model.
    pub async fn model_history(
        &self,
        name: &str,
        kind: Option<&str>,
        key: Option<&str>,
        limit: Option<i64>,
    ) -> Result<Vec<PastChange>> {
        names::check_model_name("name", name)?;
        if let Some(kind) = kind
            && !["alias", "tag", "stage"].contains(&kind)
        {
            return Err(names::invalid_value("kind", kind, "use alias, tag or stage"));
        }
        let limit = limit.unwrap_or(DEFAULT);
        if !(1..=MOST).contains(&limit) {
            return Err(Error::invalid(format!("limit must be between 1 and {MOST}, got {limit}")));
        }
        store::of_model(&mut &self.db, name, (kind, key), limit).await
    }

    /// Which version an alias named at a time.
    pub async fn alias_at(&self, name: &str, alias: &str, time_ms: i64) -> Result<AliasAt> {
        names::check_model_name("name", name)?;
        names::check_alias(alias)?;
        let since = store::move_before(&mut &self.db, name, alias, time_ms).await?;
        let version = since.as_ref().and_then(|moved| moved.to.clone());
        Ok(AliasAt { model: name.to_owned(), alias: alias.to_owned(), time_ms, version, since })
    }

    /// Lets an alias name again what it named at a time. A protected one needs the gate for that as for any move.
    pub async fn roll_back_alias(&self, asker: &Asker, name: &str, alias: &str, time_ms: i64) -> Result<RolledBack> {
        let then = self.alias_at(name, alias, time_ms).await?;
        let read = &mut &self.db;
        if !models::exists(read, name).await? {
            return Err(model_not_found(name));
        }
        let time = fishy_core::time::rfc3339(time_ms);
        let to = then.version.ok_or_else(|| {
            Error::precondition(format!("alias {alias:?} of model {name:?} named no version at {time}"))
        })?;
        let number = names::version_number(&to)?;
        if versions::get(read, name, number).await?.is_none() {
            return Err(Error::precondition(format!(
                "alias {alias:?} of model {name:?} named version {to} at {time}, which has been deleted since"
            )));
        }
        let before = aliases::version(read, name, alias).await?;
        let reason = asker.reason.clone().unwrap_or_else(|| format!("rolled back to {time}"));
        let asker = Asker::new(asker.who.clone(), Some(reason));
        self.set_alias(&asker, name, alias, &to).await?;
        Ok(RolledBack {
            model: name.to_owned(),
            alias: alias.to_owned(),
            time_ms,
            from: before.map(|version| version.to_string()),
            is_moved: before != Some(number),
            to,
        })
    }
}
