//! Aliases that move only with an approved promotion.

use fishy_core::Result;
use fishy_http::Call;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ProtectedAlias, RegistryClient};
use crate::List;

const PATH: &str = "/api/v1/registry/protected-aliases";

/// Takes an alias out from behind the promotion gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unprotect {
    /// Registered model.
    pub model: String,
    /// The alias.
    pub alias: String,
    /// The deployment that it was protected for; empty for what somebody protected.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub deployment: String,
    /// Why.
    pub reason: String,
}

impl RegistryClient {
    /// Puts an alias behind the promotion gate; an error where the server has none.
    pub async fn put_behind_gate(&self, alias: &ProtectedAlias) -> Result<ProtectedAlias> {
        self.client.put(PATH, alias).await
    }

    /// Takes an alias out from behind the promotion gate.
    pub async fn unprotect_alias(&self, unprotect: &Unprotect) -> Result<()> {
        self.client.json::<Value>(Call::new(Method::DELETE, PATH).json(unprotect)?).await.map(drop)
    }

    /// All aliases behind the promotion gate.
    pub async fn protected_aliases(&self) -> Result<List<ProtectedAlias>> {
        self.client.get(PATH).await
    }
}
