use serde::{Deserialize, Serialize};

use crate::Secret;

/// `[foreign_registry]`: an MLflow server or a Databricks workspace in the place of our own registry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForeignRegistry {
    /// Its URL, as `https://mlflow.example.com`; empty: our own registry runs.
    pub url: String,
    /// `mlflow`, or `databricks`: a workspace whose registered models are in Unity Catalog.
    pub kind: ForeignKind,
    /// Its bearer token, where it asks for one; it is sent nowhere else.
    pub token: Secret,
    /// The file that has its bearer token, instead of `token`; read at start.
    pub token_file: String,
}

/// What kind of server it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignKind {
    /// MLflow's own server.
    #[default]
    Mlflow,
    /// A Databricks workspace.
    Databricks,
}

impl ForeignRegistry {
    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        !self.url.is_empty()
    }
}
