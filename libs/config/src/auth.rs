use crate::Secret;
use serde::{Deserialize, Serialize};

/// `[auth]`: who may ask. With nothing set, everyone on loopback is the local administrator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whether service tokens (`fishy token create`) are asked for.
    pub tokens: bool,
    /// The secret by which the services of one installation know each other; needed as soon as they run apart with an identity.
    pub internal_secret: Secret,
    /// An OpenID Connect provider whose bearer tokens are accepted.
    pub oidc: Option<Oidc>,
}

/// `[auth.oidc]`: an OpenID Connect provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// The issuer; its discovery document is read from here.
    pub issuer: String,
    /// The audience that a token must be made for.
    pub audience: String,
    /// The claim that holds the roles.
    #[serde(default = "roles_claim")]
    pub roles_claim: String,
}

fn roles_claim() -> String {
    "roles".to_owned()
}
