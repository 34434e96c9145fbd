//! `kind = "register"`: a model version out of what a command has logged.

use std::collections::BTreeMap;

use fishy_contracts::registry::ModelVersion;
use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Outcome, StepContext, outputs_of};

/// The tag by which a run finds its own version again.
const RUN_TAG: &str = "fishy.pipeline_run";

/// What the step gives to later ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Registered model.
    pub model: String,
    /// Its new version.
    pub version: String,
    /// Where its files are.
    pub source: String,
    /// The MLflow run that made it; empty where there is none.
    pub run_id: String,
}

/// What a command says about the model it has logged.
#[derive(Debug, PartialEq, Eq)]
struct Logged {
    source: String,
    run_id: String,
    model_id: Option<String>,
    /// The version that the command has made itself.
    version: Option<String>,
}

/// Makes the version, once.
pub async fn run(context: &StepContext<'_>, position: usize) -> Result<Outcome> {
    let (registry, model) = (&context.service.registry, &context.definition.model);
    let before = context.stored.run.steps.iter().take(position);
    let logged = before.rev().find_map(|step| logged(&step.outputs)).ok_or_else(|| {
        Error::precondition(
            "no earlier command has written \"model_uri\" to FISHY_OUTPUT: there is no model to register",
        )
    })?;
    if registry.takes_uploads_only() {
        return of_command(context, logged).await;
    }
    registry.ensure_model(model).await?;
    let made = registry.versions_with_tag(model, RUN_TAG, &context.stored.run.id).await?;
    let version = if let Some(version) = made.into_iter().next() {
        version
    } else {
        let model_id = logged.model_id.as_deref();
        registry.create_version(model, &logged.source, &logged.run_id, model_id, &tags(context)?).await?
    };
    let ModelVersion { name, version, source, run_id, .. } = version;
    let run_id = if run_id.is_empty() { logged.run_id } else { run_id };
    let model = if name.is_empty() { model.clone() } else { name };
    Ok(Outcome::Done(outputs_of(&Registered { model, version, source, run_id })?))
}

/// Where only the program that has the files can make a version, the command has done so: it is tagged.
async fn of_command(context: &StepContext<'_>, logged: Logged) -> Result<Outcome> {
    let (registry, model) = (&context.service.registry, &context.definition.model);
    let version = logged.version.ok_or_else(|| {
        Error::precondition(
            "this registry takes a version only from the program that has its files: the command must register the model \
             itself, under FISHY_REGISTER_AS, and write \"model_version\" to FISHY_OUTPUT",
        )
    })?;
    let found = registry.version(model, &version).await?;
    for (key, value) in tags(context)? {
        registry.set_version_tag(model, &version, &key, &value).await?;
    }
    let run_id = if found.run_id.is_empty() { logged.run_id } else { found.run_id };
    let registered = Registered { model: model.clone(), version, source: found.source, run_id };
    Ok(Outcome::Done(outputs_of(&registered)?))
}

fn logged(outputs: &Value) -> Option<Logged> {
    let text = |key: &str| outputs.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let source = text("model_uri")?.to_owned();
    let of_run = source.strip_prefix("runs:/").and_then(|rest| rest.split('/').next());
    let of_model = source.strip_prefix("models:/").filter(|id| id.starts_with("m-"));
    Some(Logged {
        run_id: text("run_id").or(of_run).unwrap_or_default().to_owned(),
        model_id: text("model_id").or(of_model).map(str::to_owned),
        version: text("model_version").map(str::to_owned),
        source,
    })
}

fn tags(context: &StepContext<'_>) -> Result<BTreeMap<String, String>> {
    let run = &context.stored.run;
    let mut tags = BTreeMap::from([(RUN_TAG.to_owned(), run.id.clone())]);
    let mut set = |name: &str, value: String| tags.insert(format!("fishy.{name}"), value);
    set("pipeline", run.pipeline.clone());
    if let Some(trigger) = &run.trigger_id {
        set("trigger", trigger.clone());
    }
    if let Some(manifest) = &context.stored.dataset {
        if let (Some(from), Some(to)) = (manifest.train.from_ms, manifest.train.to_ms) {
            set("training.from_ms", from.to_string());
            set("training.to_ms", to.to_string());
        }
        set("training.as_of_ms", manifest.as_of_ms.to_string());
        set("training.rows", manifest.train.rows.to_string());
        if let Some(error) = manifest.train.median_mae {
            set("training.median_mae", error.to_string());
        }
        set("dataset.sha256", manifest.sha256()?);
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_are_taken_from_the_uri_where_they_are_not_given() {
        let of_run = logged(&json!({"model_uri": "runs:/abc/model"})).unwrap();
        assert_eq!((of_run.run_id.as_str(), of_run.model_id), ("abc", None));
        let of_model = logged(&json!({"model_uri": "models:/m-1", "run_id": "r"})).unwrap();
        assert_eq!((of_model.run_id.as_str(), of_model.model_id.as_deref()), ("r", Some("m-1")));
        assert_eq!(logged(&json!({"metrics": {}})), None);
        assert_eq!(logged(&Value::Null), None);
    }
}
