//! What a Databricks workspace does otherwise than MLflow's server: registered models are in Unity Catalog, with names of
//! three levels; files of runs and logged models are in the store of a cloud, by addresses that are signed for each; and a
//! version takes its files before it is ready.

use anyhow::{Context, Result};
use fishy_contracts::segment;
use reqwest::{Method, RequestBuilder, Url};
use serde_json::{Value, json};

use super::door::{Door, Refusal};
use super::files::Owner;
use super::walk::{API, items, text};

/// The folder of experiments whose names are no paths of a workspace.
const EXPERIMENTS: &str = "/Shared";

/// A request of the address that the workspace signs for a file. The token of the workspace is not sent there.
pub async fn signed(door: &Door, owner: Owner<'_>, path: &str, method: Method) -> Result<RequestBuilder> {
    let is_writing = method == Method::PUT;
    let told = match owner {
        Owner::Run(id) => {
            let route = if is_writing { "credentials-for-write" } else { "credentials-for-read" };
            let body = json!({"run_id": id, "path": [path]});
            let mut told = door.send(Method::POST, &format!("{API}/artifacts/{route}"), &body).await?;
            told.pointer_mut("/credential_infos/0").map(Value::take).unwrap_or_default()
        }
        Owner::Model(id) => {
            let route = if is_writing { "credentials-for-upload" } else { "credentials-for-download" };
            let door_of_model = format!("{API}/logged-models/{}/artifacts/{route}", segment(id));
            let mut told = door.send(Method::POST, &door_of_model, &json!({"paths": [path]})).await?;
            told.pointer_mut("/credentials/0/credential_info").map(Value::take).unwrap_or_default()
        }
    };
    let url = Url::parse(text(&told, "/signed_uri")).with_context(|| format!("no address was signed for {path:?}"))?;
    let mut request = door.unsigned(method, url);
    for header in items(&told, "headers") {
        request = request.header(text(header, "/name"), text(header, "/value"));
    }
    match text(&told, "/type") {
        "AZURE_ADLS_GEN2_SAS_URI" if is_writing => Err(Refusal::new(
            "the workspace keeps files in Azure Data Lake Storage, which takes no file in one request".to_owned(),
        )
        .into()),
        "AZURE_SAS_URI" if is_writing => Ok(request.header("x-ms-blob-type", "BlockBlob")),
        _ => Ok(request),
    }
}

/// The name of an experiment in a workspace, where names are paths.
pub fn experiment_name(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("{EXPERIMENTS}/{name}") }
}

/// The name of a registered model in Unity Catalog: its own when it has three levels, else below catalog and schema.
pub fn model_name(name: &str, schema: Option<&str>) -> Result<String> {
    let levels = name.split('.').collect::<Vec<_>>();
    if levels.len() == 3 && levels.iter().all(|level| !level.is_empty()) {
        return Ok(name.to_owned());
    }
    match schema {
        Some(schema) if !name.contains('.') => Ok(format!("{schema}.{name}")),
        Some(_) => Err(Refusal::new(format!("{name:?} cannot be a name below a schema: it has a full stop")).into()),
        None => Err(Refusal::new(format!(
            "{name:?} is no name of Unity Catalog, which has three levels: use --schema CATALOG.SCHEMA"
        ))
        .into()),
    }
}

/// Whether a version waits for its files.
pub fn is_pending(version: &Value) -> bool {
    text(version, "/status") == "PENDING_REGISTRATION"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_a_workspace() {
        assert_eq!(experiment_name("pens"), "/Shared/pens");
        assert_eq!(experiment_name("/Users/a@b.c/pens"), "/Users/a@b.c/pens");
        assert_eq!(model_name("farm.north.oxygen", None).unwrap(), "farm.north.oxygen");
        assert_eq!(model_name("oxygen", Some("farm.north")).unwrap(), "farm.north.oxygen");
        for (name, schema) in [("oxygen", None), ("a.b", Some("farm.north")), ("a..b", None)] {
            assert!(model_name(name, schema).unwrap_err().is::<Refusal>(), "{name}");
        }
    }
}
